"""Gradient alignments against explicit Jacobians, greedy choice against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals, linearize_losses, losses
from weighting.schemes.alignment import (
    batch_alignment,
    batch_alignment_scores,
    gradient_alignment,
    greedy_alignment_weights,
    jacobian_gram,
    last_layer_gram,
)

BATCH = 6
LABELS = jnp.array([0, 2, 1, 1, 0, 2])


def problem(seed=0):
    """(forward, losses_fn, clean_loss_fn, params) of a two-layer network with a head bias."""
    rng = np.random.default_rng(seed)
    inputs, clean = jnp.asarray(rng.normal(size=(BATCH, 4))), jnp.asarray(rng.normal(size=(3, 4)))
    params = {
        "body": jnp.asarray(rng.normal(size=(4, 5))),
        "head": jnp.asarray(rng.normal(size=(5, 3))),
        "bias": jnp.asarray(rng.normal(size=3)),
    }

    def forward(params, x):
        features = jnp.tanh(x @ params["body"])
        return features @ params["head"] + params["bias"][None], features

    def losses_fn(params):
        return losses.cross_entropy(forward(params, inputs)[0], LABELS)

    def clean_loss_fn(params):
        return jnp.mean(losses.cross_entropy(forward(params, clean)[0], jnp.array([0, 1, 2])))

    return lambda params: forward(params, inputs), losses_fn, clean_loss_fn, params


def rows(tree, names=("body", "bias", "head")):
    return np.concatenate([np.reshape(tree[name], (BATCH, -1)) for name in names], axis=1)


def update(scheme, problem_, mask=None, **options):
    forward, losses_fn, clean_loss_fn, params = problem_
    lin = linearize_losses(losses_fn, params)
    logits, features = forward(params)
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(lin.values, logits, LABELS, features, mask=mask)
    extra = {"linearized": lin, "params": params, "clean_loss_fn": clean_loss_fn}
    extra["loss_fn"] = losses.cross_entropy
    weights, _ = scheme.update(signals.valid, (), signals, **{**extra, **options})
    return np.asarray(weights)


def numpy_greedy(scores, gram, num_selected, step_size):
    """Sets instead of masks; the gain recomputed from scratch in every round."""
    chosen = []
    for _ in range(num_selected):
        rest = [i for i in range(len(scores)) if i not in chosen]
        chosen.append(
            max(rest, key=lambda i: scores[i] - step_size * sum(gram[i, j] for j in chosen))
        )
    return chosen


def test_scores_and_gram_are_products_of_the_jacobian(float64):
    forward, losses_fn, _, params = problem()
    lin = linearize_losses(losses_fn, params)
    jacobian = jax.jacobian(losses_fn)(params)
    matrix = rows(jacobian)
    np.testing.assert_allclose(jacobian_gram(lin), matrix @ matrix.T, atol=1e-13)
    np.testing.assert_allclose(
        batch_alignment_scores(lin), matrix @ matrix.mean(axis=0), atol=1e-13
    )
    mask = np.array([1, 0, 1, 1, 1, 0.0])
    np.testing.assert_allclose(
        batch_alignment_scores(lin, mask=jnp.asarray(mask)),
        matrix @ matrix[mask > 0].mean(axis=0),
        atol=1e-13,
    )
    logits, features = forward(params)
    for bias, names in ((True, ("head", "bias")), (False, ("head",))):
        last = rows(jacobian, names)
        gram = last_layer_gram(losses.cross_entropy, logits, LABELS, features, bias=bias)
        np.testing.assert_allclose(gram, last @ last.T, atol=1e-13)


def test_batch_alignment_is_the_decrease_of_the_mean_loss(float64):
    _, losses_fn, _, params = problem()
    decrease = []
    for i in range(BATCH):
        slope = jax.grad(lambda p, i=i: losses_fn(p)[i])(params)
        ahead, back = (
            jnp.mean(losses_fn(jax.tree.map(lambda p, g, s=s: p + s * g, params, slope)))
            for s in (1e-5, -1e-5)
        )
        decrease.append(float(ahead - back) / 2e-5)
    weights = update(batch_alignment(50.0), problem())
    expected = 1 + (np.array(decrease) - np.mean(decrease)) / (2 * 50.0)  # no weight is clipped
    np.testing.assert_allclose(weights, expected, atol=1e-9)
    best = update(batch_alignment(1e-6), problem())
    np.testing.assert_allclose(best, BATCH * (np.arange(BATCH) == np.argmax(decrease)))
    np.testing.assert_allclose(update(batch_alignment(1e9), problem()), np.ones(BATCH), atol=1e-8)


def test_batch_alignment_ignores_padding(float64):
    mask = np.array([1, 1, 0, 1, 1, 0.0])
    matrix = rows(jax.jacobian(problem()[1])(problem()[3]))[mask > 0]
    score = matrix @ matrix.mean(axis=0)
    weights = update(batch_alignment(50.0), problem(), mask)
    np.testing.assert_allclose(weights[mask > 0], 1 + (score - score.mean()) / 100, atol=1e-12)
    np.testing.assert_array_equal(weights[mask == 0], [0, 0])


@pytest.mark.parametrize("step_size", [0.0, 0.05, 0.5])
def test_greedy_against_numpy_and_all_subsets(float64, step_size):
    rng = np.random.default_rng(0)
    gradients, clean = rng.normal(size=(7, 4)), rng.normal(size=4)
    scores, gram = gradients @ clean, gradients @ gradients.T

    def gain(subset):
        inside = gram[np.ix_(subset, subset)]
        pairs = (inside.sum() - np.trace(inside)) / 2
        return step_size * scores[subset].sum() - step_size**2 * pairs

    for k in range(1, 8):
        weights = np.asarray(
            greedy_alignment_weights(jnp.asarray(scores), jnp.asarray(gram), k, step_size=step_size)
        )
        chosen = np.flatnonzero(weights)
        assert set(chosen) == set(numpy_greedy(scores, gram, k, step_size))
        np.testing.assert_allclose(weights[chosen], 7 / k)
        if step_size == 0:
            assert set(chosen) == set(np.argsort(-scores)[:k])
            continue
        values = [gain(list(subset)) for subset in itertools.combinations(range(7), k)]
        assert gain(list(chosen)) <= max(values) + 1e-12
        if k in (1, 7):  # one example: the best of all; every example: no choice
            np.testing.assert_allclose(gain(list(chosen)), max(values), rtol=1e-12)
        if k == 7:  # the gains of the rounds add up to the quadratic
            order, total = numpy_greedy(scores, gram, 7, step_size), 0.0
            for at, i in enumerate(order):
                total += step_size * (scores[i] - step_size * gram[i, order[:at]].sum())
            np.testing.assert_allclose(total, gain(order), rtol=1e-12)


def test_greedy_maximizes_the_true_decrease_where_the_hessian_is_the_identity(float64):
    """G = |theta - c|^2 / 2 and gradients of one length: each round takes the best next step."""
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(6, 3))
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    start, target, step = rng.normal(size=3), rng.normal(size=3), 0.4

    def clean_loss(subset):
        moved = start - step * gradients[list(subset)].sum(axis=0)
        return 0.5 * np.sum((moved - target) ** 2)

    scores = gradients @ (start - target)
    chosen = []
    for k in range(1, 6):
        rest = [i for i in range(6) if i not in chosen]
        chosen.append(min(rest, key=lambda i: clean_loss([*chosen, i])))
        weights = greedy_alignment_weights(
            jnp.asarray(scores), jnp.asarray(gradients @ gradients.T), k, step_size=step
        )
        assert set(np.flatnonzero(weights)) == set(chosen)


def test_greedy_is_optimal_for_orthogonal_gradients_and_takes_copies_last(float64):
    gradients = np.diag([1.0, 2.0, 0.5, 3.0])
    scores = gradients @ np.array([1.0, -1.0, 1.0, 0.2])
    weights = greedy_alignment_weights(
        jnp.asarray(scores), jnp.asarray(gradients @ gradients.T), 2, normalize=False
    )
    np.testing.assert_array_equal(weights, [1, 0, 0, 1])  # 1 and 0.6, the best pair of all
    twice = np.repeat(np.array([[1.0, 0.0], [0.0, 0.5]]), 2, axis=0)
    scores = twice @ np.array([1.0, 1.0])
    gram = jnp.asarray(twice @ twice.T)
    together = greedy_alignment_weights(jnp.asarray(scores), gram, 2, step_size=0.0)
    apart = greedy_alignment_weights(jnp.asarray(scores), gram, 2, step_size=0.8)
    np.testing.assert_array_equal(together, [2, 2, 0, 0])
    np.testing.assert_array_equal(apart, [2, 0, 2, 0])


def test_greedy_ignores_padding_and_stops_when_none_is_left():
    scores, gram = jnp.array([5.0, 1.0, 2.0]), 100 * jnp.ones((3, 3))
    mask = jnp.array([0.0, 1.0, 1.0])
    run = jax.jit(lambda k, mask: greedy_alignment_weights(scores, gram, k, mask=mask))
    np.testing.assert_array_equal(run(1, mask), [0, 0, 2])
    np.testing.assert_array_equal(run(3, mask), [0, 1, 1])
    np.testing.assert_array_equal(run(2, jnp.zeros(3)), [0, 0, 0])


@pytest.mark.parametrize("gradient", ["last_layer", "parameters"])
def test_scheme_is_greedy_on_its_own_products(float64, gradient):
    own = problem(6)  # where the last layer's products choose other examples than all do
    _, losses_fn, clean_loss_fn, params = own
    jacobian = jax.jacobian(losses_fn)(params)
    clean = jax.grad(clean_loss_fn)(params)
    flat = np.concatenate([np.ravel(clean[name]) for name in ("body", "bias", "head")])
    scores = rows(jacobian) @ flat
    matrix = rows(jacobian, ("head", "bias")) if gradient == "last_layer" else rows(jacobian)
    for mask, num_kept in ((np.ones(BATCH), 3), (np.array([1, 1, 1, 0, 1, 1.0]), 3)):
        kept = np.flatnonzero(mask)
        gram = (matrix @ matrix.T)[np.ix_(kept, kept)]
        chosen = kept[numpy_greedy(scores[kept], gram, num_kept, 2.0 / num_kept)]
        expected = np.isin(np.arange(BATCH), chosen) * len(kept) / num_kept
        weights = update(gradient_alignment(0.5, 2.0, gradient=gradient), own, mask)
        np.testing.assert_allclose(weights, expected)
    native = update(gradient_alignment(0.5, gradient=gradient, normalize=False), problem())
    assert sorted(native) == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(update(gradient_alignment(1.0), problem()), np.ones(BATCH))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="fraction must lie in"):
        gradient_alignment(0.0)
    with pytest.raises(ValueError, match="learning_rate must lie in"):
        gradient_alignment(learning_rate=-1.0)
    with pytest.raises(ValueError, match="'last_layer', 'parameters'"):
        gradient_alignment(gradient="logits")
    with pytest.raises(ValueError, match="regularization must be positive"):
        batch_alignment(0.0)
    with pytest.raises(ValueError, match=r"gram must be \[B, B\]"):
        greedy_alignment_weights(jnp.ones(3), jnp.ones((2, 2)), 1)
    with pytest.raises(ValueError, match="num_selected must be positive"):
        greedy_alignment_weights(jnp.ones(2), jnp.ones((2, 2)), 0)
    with pytest.raises(ValueError, match="small trusted set"):
        update(gradient_alignment(), problem(), clean_loss_fn=None)
    with pytest.raises(ValueError, match="reads `linearized`"):
        update(batch_alignment(1.0), problem(), linearized=None)
