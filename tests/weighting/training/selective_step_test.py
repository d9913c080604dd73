"""Importance sampling and the selective step: exact moments, Monte Carlo, operation counts."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting
from weighting import Batch, Signals, init_train_state, losses, make_train_step
from weighting.schemes.importance_sampling import (
    draw_positions,
    importance_probabilities,
    importance_sampling,
    importance_weights,
    speedup_threshold,
    variance_reduction,
)
from weighting.training.selective_step import (
    Selector,
    importance_selector,
    init_selective_state,
    make_selective_train_step,
    top_selector,
)

DIM, CLASSES, BATCH = 5, 3, 8
GRADIENTS = np.array([[3.0, 4.0], [0.0, 1.0], [-2.0, 0.0], [0.0, 0.0], [-6.0, 8.0]])  # 5 1 2 0 10


def second_moment_and_variance(gradients, probabilities, num_draws):
    """Exact moments of the mean of draws, by enumeration of every sequence of draws."""
    n, mean, second = len(gradients), np.zeros(gradients.shape[1]), 0.0
    for sequence in itertools.product(range(n), repeat=num_draws):
        chance = np.prod(probabilities[list(sequence)])
        if chance > 0:
            terms = [gradients[i] / (n * probabilities[i]) for i in sequence]
            estimate = np.mean(terms, axis=0)
            mean += chance * estimate
            second += chance * estimate @ estimate
    return mean, second, second - mean @ mean


def test_probabilities_and_weights_by_hand(float64):
    scores = jnp.array([5.0, 1.0, 2.0, 0.0, 10.0])
    probabilities = importance_probabilities(scores)
    np.testing.assert_allclose(probabilities, np.array([5, 1, 2, 0, 10]) / 18, rtol=1e-14)
    below_zero = importance_probabilities(jnp.array([-1.0, 1.0, 3.0]))
    np.testing.assert_allclose(below_zero, [0, 0.25, 0.75], rtol=1e-14)
    weights = importance_weights(probabilities, jnp.array([0, 4, 4, 2]))
    np.testing.assert_allclose(weights, [18 / 25, 18 / 50, 18 / 50, 18 / 10], rtol=1e-14)
    mask = jnp.array([1.0, 1, 1, 0, 0])
    masked = importance_probabilities(scores, mask=mask)
    np.testing.assert_allclose(masked, np.array([5, 1, 2, 0, 0]) / 8, rtol=1e-14)
    np.testing.assert_allclose(importance_weights(masked, jnp.array([1]), mask=mask), [8 / 3])
    zeros = importance_probabilities(jnp.zeros(5), mask=mask)
    np.testing.assert_allclose(zeros, np.array([1, 1, 1, 0, 0]) / 3, rtol=1e-14)
    np.testing.assert_array_equal(importance_probabilities(scores, mask=jnp.zeros(5)), np.zeros(5))


def test_tau_is_the_printed_formula_and_its_square_the_ratio_of_second_moments(float64):
    probabilities = np.array([5, 1, 2, 0, 10]) / 18
    uniform = np.full(5, 0.2)
    printed = 1 / math.sqrt(1 - np.sum((probabilities - uniform) ** 2) / np.sum(probabilities**2))
    tau = float(variance_reduction(jnp.asarray(probabilities)))
    assert abs(tau - printed) < 1e-12
    # one draw
    _, second_uniform, variance_uniform = second_moment_and_variance(GRADIENTS, uniform, 1)
    mean, second, variance = second_moment_and_variance(GRADIENTS, probabilities, 1)
    np.testing.assert_allclose(mean, GRADIENTS.mean(axis=0), atol=1e-14)
    assert abs(second_uniform / second - tau**2) < 1e-12
    assert variance_uniform / variance >= tau**2
    # b draws: the variance falls as 1 / b, so b draws are worth at least tau^2 b uniform ones
    _, _, variance_3 = second_moment_and_variance(GRADIENTS, probabilities, 3)
    assert abs(variance_3 - variance / 3) < 1e-12
    assert variance_3 <= variance_uniform / (3 * tau**2)


def test_gradient_norms_are_the_best_scores(float64):
    """No other distribution has a smaller variance: perturb in every direction."""
    norms = np.linalg.norm(GRADIENTS[[0, 1, 2, 4]], axis=1)
    rows, best = GRADIENTS[[0, 1, 2, 4]], norms / norms.sum()
    _, _, least = second_moment_and_variance(rows, best, 1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = best * np.exp(0.1 * rng.normal(size=4))
        assert second_moment_and_variance(rows, other / other.sum(), 1)[2] > least


def test_tau_at_the_limits_and_the_speedup_threshold():
    assert float(variance_reduction(jnp.full(7, 1 / 7))) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(variance_reduction(jnp.eye(9)[2]), 3, rtol=1e-6)
    mask = jnp.array([1.0, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(variance_reduction(jnp.eye(6)[2], mask=mask), 2, rtol=1e-6)
    assert speedup_threshold(640, 128) == (640 + 384) / 384
    assert importance_sampling(2, threshold=speedup_threshold(8, 2))
    for options in ({"num_draws": 0}, {"num_draws": 2, "decay": 1.0}):
        with pytest.raises(ValueError, match="must"):
            importance_sampling(**options)
    with pytest.raises(ValueError, match="'gradient', 'loss'"):
        importance_sampling(2, scores="margin")


def test_draws_follow_the_probabilities():
    probabilities = np.array([0.5, 0.0, 0.1, 0.4])
    drawn = draw_positions(jax.random.key(0), jnp.asarray(probabilities), 40_000)
    frequencies = np.bincount(drawn, minlength=4) / 40_000
    error = np.sqrt(probabilities * (1 - probabilities) / 40_000)
    assert np.all(np.abs(frequencies - probabilities) <= 4 * error)


# --- the scheme -------------------------------------------------------------------------------


def example_signals(mask=None):
    logits = jax.random.normal(jax.random.key(0), (BATCH, CLASSES)) * 2
    labels = jnp.arange(BATCH) % CLASSES
    return Signals(losses.cross_entropy(logits, labels), logits, labels, mask=mask)


@pytest.mark.parametrize("scores", ["gradient", "loss"])
def test_scheme_is_unbiased_and_has_the_variance_of_its_draws(scores):
    mask = jnp.ones(BATCH).at[2].set(0)
    signals, num_draws, runs = example_signals(mask), 3, 20_000
    scheme = importance_sampling(num_draws, scores=scores, threshold=-1.0)

    @jax.jit
    @jax.vmap
    def draw(key):
        return scheme.update(
            signals.valid, scheme.init(key, None), signals, loss_fn=losses.cross_entropy
        )[0]

    weights = np.asarray(draw(jax.random.split(jax.random.key(1), runs)), float)
    if scores == "loss":
        score = np.asarray(signals.losses, float)
    else:
        odds = np.exp(np.asarray(signals.logits, float))
        residual = odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[signals.labels]
        score = np.linalg.norm(residual, axis=1)
    score = score * np.asarray(mask)
    probabilities = score[score > 0] / score.sum()
    kept = np.flatnonzero(score > 0)
    assert np.all(weights[:, 2] == 0)
    # binomial counts: the weight of i is Bin(b, pi) / (b pi)
    variance = (1 - probabilities) / (num_draws * probabilities)
    error = np.sqrt(variance / runs)
    assert np.all(np.abs(weights[:, kept].mean(axis=0) - 1) <= 4 * error)
    squares = (weights[:, kept] - 1) ** 2
    error = squares.std(axis=0) / np.sqrt(runs)
    assert np.all(np.abs(squares.mean(axis=0) - variance) <= 4 * error)
    counts = weights[:, kept] * num_draws * probabilities
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    np.testing.assert_allclose(counts.sum(axis=1), num_draws, atol=1e-4)


def test_gate_opens_when_the_average_passes_the_threshold():
    signals, decay = example_signals(), 0.5
    scheme = importance_sampling(4, threshold=1.0, decay=decay)
    state = scheme.init(jax.random.key(0), None)
    odds = np.exp(np.asarray(signals.logits, float))
    residual = odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[signals.labels]
    norms = np.linalg.norm(residual, axis=1)
    tau = np.sqrt(BATCH * np.sum(norms**2)) / norms.sum()
    update = jax.jit(
        lambda s: scheme.update(jnp.ones(BATCH), s, signals, loss_fn=losses.cross_entropy)
    )
    average, opened = 0.0, []
    for _ in range(6):
        weights, state = update(state)
        opened.append(bool(np.any(weights != 1)))
        assert opened[-1] == (average > 1.0)
        average = decay * average + (1 - decay) * tau
        np.testing.assert_allclose(state.reduction, average, rtol=1e-5)
    assert opened[0] is False
    assert opened[-1] is True
    nothing = signals._replace(mask=jnp.zeros(BATCH))
    weights, after = scheme.update(nothing.valid, state, nothing, loss_fn=losses.cross_entropy)
    np.testing.assert_array_equal(weights, np.zeros(BATCH))
    assert after.reduction == state.reduction


def test_missing_signals_are_asked_for_by_name():
    scheme = importance_sampling(2)
    signals = Signals(jnp.ones(3), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"importance_sampling\(\) reads `signals.labels`"):
        scheme.update(jnp.ones(3), scheme.init(jax.random.key(0), None), signals)


# --- the selective step -----------------------------------------------------------------------


def noisy_apply(params, model_state, inputs, *, train, key):
    """A network with dropout and a running count, to see that both passes are what they claim."""
    hidden = jnp.tanh(inputs @ params["w"])
    if train:
        hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape)
        model_state = {"updates": model_state["updates"] + 1}
    return hidden @ params["v"], model_state


def linear_apply(params, model_state, inputs, *, train, key):
    return inputs @ params["w"], model_state


def params_of(*sizes):
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return {
        name: jax.random.normal(key, size)
        for name, key, size in zip("wv", keys, sizes, strict=False)
    }


def make_batch(seed, size=BATCH, mask=None):
    keys = jax.random.split(jax.random.key(seed))
    return Batch(
        jax.random.normal(keys[0], (size, DIM)),
        jax.random.randint(keys[1], (size,), 0, CLASSES),
        jnp.arange(size),
        mask,
    )


def everything(key, signals, state, num_selected, **extra):
    return jnp.arange(num_selected), signals.valid, state


@pytest.mark.parametrize("masked", [False, True])
def test_selecting_everything_is_the_plain_step_bit_for_bit(masked):
    params, optimizer = params_of((DIM, 6), (6, CLASSES)), optax.adam(1e-2)
    batch = make_batch(1, mask=jnp.ones(BATCH).at[3].set(0) if masked else None)
    stats = {"updates": jnp.zeros(())}
    selector = Selector(lambda key, params: (), everything)
    own = make_selective_train_step(
        noisy_apply, losses.cross_entropy, selector, optimizer, num_selected=BATCH
    )
    plain = make_train_step(noisy_apply, losses.cross_entropy, weighting.uniform(), optimizer)
    key = jax.random.key(4)
    a = init_selective_state(key, params, selector, optimizer, model_state=stats)
    b = init_train_state(key, params, weighting.uniform(), optimizer, model_state=stats)
    own, plain = jax.jit(own), jax.jit(plain)
    for _ in range(2):
        (a, metrics), (b, expected) = own(a, batch), plain(b, batch)
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.opt_state), (b.params, b.opt_state))
    np.testing.assert_array_equal(metrics.weighted_loss, expected.weighted_loss)
    assert a.model_state["updates"] == 2


def test_top_selector_by_hand():
    params, optimizer = params_of((DIM, CLASSES)), optax.sgd(0.5)
    batch = make_batch(2, mask=jnp.array([1, 1, 0, 1, 1, 1, 1, 1]))
    offset = jnp.linspace(0.0, 2.0, BATCH)
    selector = top_selector(lambda signals, **extra: signals.losses - offset[signals.indices])
    step = make_selective_train_step(linear_apply, losses.cross_entropy, selector, optimizer, 3)
    state = init_selective_state(jax.random.key(0), params, selector, optimizer)
    new_state, metrics = jax.jit(step)(state, batch)
    every = losses.cross_entropy(batch.inputs @ params["w"], batch.labels)
    score = np.where(np.asarray(batch.mask) > 0, every - offset, -np.inf)
    chosen = np.argsort(-score)[:3]
    np.testing.assert_array_equal(metrics.positions, chosen)
    gradient = jax.grad(
        lambda w: jnp.mean(losses.cross_entropy(batch.inputs[chosen] @ w, batch.labels[chosen]))
    )(params["w"])
    np.testing.assert_allclose(new_state.params["w"], params["w"] - 0.5 * gradient, rtol=1e-5)
    valid = np.asarray(batch.mask) > 0
    np.testing.assert_allclose(metrics.losses[valid], every[valid], rtol=1e-6)
    np.testing.assert_allclose(metrics.loss, np.delete(every, 2).mean(), rtol=1e-6)
    is_right = np.argmax(batch.inputs @ params["w"], axis=1) == batch.labels
    np.testing.assert_allclose(metrics.accuracy, is_right[valid].mean(), rtol=1e-6)


def test_too_few_examples_are_made_up_by_padding_without_weight():
    params, optimizer = params_of((DIM, CLASSES)), optax.sgd(0.5)
    mask = jnp.zeros(BATCH).at[jnp.array([1, 6])].set(1)
    for selector in (
        top_selector(lambda signals, **extra: signals.losses),
        importance_selector(threshold=jnp.inf),
    ):
        step = make_selective_train_step(linear_apply, losses.cross_entropy, selector, optimizer, 4)
        state = init_selective_state(jax.random.key(0), params, selector, optimizer)
        batch = make_batch(2, mask=mask)
        step = jax.jit(step)
        new_state, metrics = step(state, batch)
        assert set(np.asarray(metrics.positions[:2]).tolist()) == {1, 6}
        np.testing.assert_array_equal(metrics.weights, [1, 1, 0, 0])
        rows = jnp.array([1, 6])
        gradient = jax.grad(
            lambda w, rows=rows, batch=batch: jnp.mean(
                losses.cross_entropy(batch.inputs[rows] @ w, batch.labels[rows])
            )
        )(params["w"])
        np.testing.assert_allclose(
            new_state.params["w"], params["w"] - 0.5 * gradient, rtol=1e-5, atol=1e-6
        )
        empty, _ = step(state, batch._replace(mask=jnp.zeros(BATCH)))
        np.testing.assert_array_equal(empty.params["w"], params["w"])


@pytest.mark.parametrize("threshold", [-1.0, np.inf], ids=["open", "shut"])
def test_importance_selection_has_the_gradient_of_the_large_batch_on_average(threshold):
    params, optimizer, runs = params_of((DIM, CLASSES)), optax.sgd(1.0), 4000
    batch = make_batch(3, mask=jnp.ones(BATCH).at[5].set(0))
    selector = importance_selector(threshold=threshold)
    step = make_selective_train_step(linear_apply, losses.cross_entropy, selector, optimizer, 3)

    @jax.jit
    @jax.vmap
    def gradients(key):
        state = init_selective_state(key, params, selector, optimizer)
        new_state, metrics = step(state, batch)
        return params["w"] - new_state.params["w"], metrics

    samples, metrics = gradients(jax.random.split(jax.random.key(8), runs))
    samples = np.asarray(samples, float).reshape(runs, -1)
    kept = np.delete(np.arange(BATCH), 5)
    expected = jax.grad(
        lambda w: jnp.mean(losses.cross_entropy(batch.inputs[kept] @ w, batch.labels[kept]))
    )(params["w"])
    error = samples.std(axis=0) / np.sqrt(runs)
    assert np.all(np.abs(samples.mean(axis=0) - np.ravel(expected)) <= 4 * error)
    assert 5 not in np.asarray(metrics.positions)
    distinct = [len(set(row)) for row in np.asarray(metrics.positions).tolist()]
    assert (min(distinct) == 3) == (threshold > 0)  # shut: without replacement
    if threshold < 0:
        assert samples.var(axis=0).sum() < 1.5 * _uniform_variance(params, batch, kept) / 3


def _uniform_variance(params, batch, kept):
    def gradient(i):
        return jax.grad(
            lambda w: losses.cross_entropy(batch.inputs[i][None] @ w, batch.labels[i][None])[0]
        )(params["w"])

    rows = np.asarray(jax.vmap(gradient)(kept)).reshape(len(kept), -1)
    return rows.var(axis=0).sum()


def test_selection_costs_less_than_training_on_the_batch():
    """A forward pass over 256 and a step on 32, against a step on 256: B + 3 k against 3 B."""
    params, optimizer = params_of((DIM, 200), (200, CLASSES)), optax.sgd(0.1)
    batch = make_batch(0, size=256)

    def apply_fn(params, model_state, inputs, *, train, key):
        return jnp.tanh(inputs @ params["w"]) @ params["v"], model_state

    selector = top_selector(lambda signals, **extra: signals.losses)
    selective = make_selective_train_step(apply_fn, losses.cross_entropy, selector, optimizer, 32)
    plain = make_train_step(apply_fn, losses.cross_entropy, weighting.uniform(), optimizer)
    states = [
        init_selective_state(jax.random.key(0), params, selector, optimizer),
        init_train_state(jax.random.key(0), params, weighting.uniform(), optimizer),
    ]
    flops = [
        jax.jit(lambda s, b, step=step: step(s, b)[0])
        .lower(state, batch)
        .compile()
        .cost_analysis()["flops"]
        for step, state in zip((selective, plain), states, strict=True)
    ]
    assert flops[0] < 0.65 * flops[1]


def test_selective_step_scans():
    params, optimizer = params_of((DIM, CLASSES)), optax.sgd(0.1)
    selector = importance_selector(threshold=0.5, decay=0.0)
    step = make_selective_train_step(linear_apply, losses.cross_entropy, selector, optimizer, 3)
    state = init_selective_state(jax.random.key(0), params, selector, optimizer)
    batches = jax.tree.map(lambda *x: jnp.stack(x), *(make_batch(i) for i in range(4)))
    final, metrics = jax.jit(functools.partial(jax.lax.scan, step))(state, batches)
    assert metrics.positions.shape == (4, 3)
    np.testing.assert_array_equal(metrics.weights[0], np.ones(3))  # the gate opens after one batch
    assert np.all(np.abs(metrics.weights[1:] - 1) > 1e-4)
    assert final.step == 4
    with pytest.raises(ValueError, match="num_selected=9 exceeds the batch of 8"):
        make_selective_train_step(linear_apply, losses.cross_entropy, selector, optimizer, 9)(
            state, make_batch(0)
        )
