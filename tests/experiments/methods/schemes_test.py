"""The simple schemes, the parts to chain, and the losses, by hand and by finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import weighting
from weighting import Signals, losses

LOGITS = jnp.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-3.0, 1.0, 4.0]])
LABELS = jnp.array([0, 2, 1])


def signals(values, **fields):
    return Signals(jnp.asarray(values, jnp.float32), **fields)


def update(scheme, batch, weights=None):
    state = scheme.init(jax.random.key(0), None)
    start = jnp.ones(len(batch.losses)) if weights is None else jnp.asarray(weights)
    return scheme.update(start, state, batch)[0]


def softmax_probability(row, label):
    return math.exp(row[label]) / sum(map(math.exp, row))


# --- losses -----------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    expected = [
        -math.log(softmax_probability(row, label))
        for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ]
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), expected, rtol=1e-6)


def test_binary_losses_by_hand():
    scores, labels = jnp.array([1.5, -0.5, 0.0]), jnp.array([1, 1, 0])
    np.testing.assert_allclose(
        losses.logistic(scores, labels),
        [math.log1p(math.exp(-1.5)), math.log1p(math.exp(0.5)), math.log(2)],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        losses.exponential(scores[:, None], labels), [math.exp(-1.5), math.exp(0.5), 1.0], rtol=1e-6
    )
    two = jnp.stack([jnp.zeros(3), scores], axis=1)
    np.testing.assert_allclose(
        losses.logistic(scores, labels), losses.cross_entropy(two, labels), rtol=1e-6
    )


def test_focal_loss_by_hand_and_its_gradient(float64):
    probabilities = [
        softmax_probability(row, label)
        for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ]
    expected = [-0.25 * (1 - p) ** 3 * math.log(p) for p in probabilities]
    logits = LOGITS.astype(jnp.float64)
    loss = losses.focal(logits, LABELS, gamma=3.0, alpha=0.25)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    by_class = losses.focal(logits, LABELS, gamma=3.0, alpha=jnp.array([0.25, 0.25, 0.5]))
    np.testing.assert_allclose(by_class, [expected[0], 2 * expected[1], expected[2]], rtol=1e-12)
    check_grads(lambda z: losses.focal(z, LABELS), (logits,), order=1, eps=1e-6)
    np.testing.assert_allclose(
        losses.focal(logits, LABELS, gamma=0.0), losses.cross_entropy(logits, LABELS), rtol=1e-12
    )


@pytest.mark.parametrize("loss_fn", [losses.cross_entropy, losses.focal])
def test_losses_stay_finite_at_extreme_logits(loss_fn):
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    labels = jnp.array([0, 0])
    value, gradient = jax.value_and_grad(lambda z: jnp.sum(loss_fn(z, labels)))(logits)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_wrong_shapes_are_explained():
    with pytest.raises(ValueError, match=r"logits \[B, C\] with C >= 2"):
        losses.cross_entropy(jnp.ones((3, 1)), LABELS)
    with pytest.raises(ValueError, match="one score per example"):
        losses.logistic(LOGITS, LABELS)
    with pytest.raises(TypeError, match="must be integers"):
        losses.cross_entropy(LOGITS, jnp.ones(3))
    with pytest.raises(ValueError, match="gamma must lie in"):
        losses.focal(LOGITS, LABELS, gamma=-1.0)


# --- schemes ----------------------------------------------------------------------------------


def test_inverse_class_frequency_by_hand():
    # N / (C n_c) = 12 / (3 * [6, 4, 2])
    scheme = weighting.inverse_class_frequency(np.array([6, 4, 2]))
    weights = update(scheme, signals([0, 0, 0, 0], labels=jnp.array([0, 1, 2, 2])))
    np.testing.assert_allclose(weights, [2 / 3, 1, 2, 2], rtol=1e-6)
    with pytest.raises(ValueError, match="positive counts"):
        weighting.inverse_class_frequency(np.array([6, 0, 2]))


def test_focal_weights_by_hand():
    batch = signals([0, 0, 0], logits=LOGITS, labels=LABELS)
    rest = np.array(
        [
            1 - softmax_probability(row, label)
            for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
        ]
    )
    native = update(weighting.focal(2.0, normalize=False), batch)
    np.testing.assert_allclose(native, rest**2, rtol=1e-5)
    np.testing.assert_allclose(
        update(weighting.focal(2.0), batch), rest**2 / np.mean(rest**2), rtol=1e-5
    )


def test_self_paced_keeps_the_easy():
    batch = signals([0.1, 0.7, 0.4, 2.0])
    np.testing.assert_array_equal(
        update(weighting.self_paced(0.5, normalize=False), batch), [1, 0, 1, 0]
    )
    np.testing.assert_allclose(update(weighting.self_paced(0.5), batch), [2, 0, 2, 0])
    np.testing.assert_array_equal(update(weighting.self_paced(0.05), batch), np.zeros(4))


def test_hard_mining_keeps_as_many_of_the_majority_as_there_are_others():
    batch = signals([5, 1, 3, 2, 4, 0.1], labels=jnp.array([9, 9, 9, 4, 4, 9]))
    chosen = update(weighting.hard_mining(9, normalize=False), batch)
    np.testing.assert_array_equal(chosen, [1, 0, 1, 1, 1, 0])
    alone = signals([1, 3, 2], labels=jnp.array([9, 9, 9]))
    np.testing.assert_array_equal(update(weighting.hard_mining(9), alone), [0, 3, 0])


def test_top_losses_breaks_ties_by_position():
    batch = signals([1, 3, 3, 3, 0])
    chosen = update(weighting.top_losses(0.4, normalize=False), batch)
    np.testing.assert_array_equal(chosen, [0, 1, 1, 0, 0])


def test_random_weights_have_the_moments_of_a_rectified_gaussian():
    scheme, size = weighting.random(), 100_000
    state = scheme.init(jax.random.key(0), None)
    batch = signals(np.zeros(size))
    first, state = scheme.update(jnp.ones(size), state, batch)
    second, _ = scheme.update(jnp.ones(size), state, batch)
    # E max(z, 0) = 1 / sqrt(2 pi), so the scaled variance is pi - 1; half of them are zero.
    assert np.isclose(np.mean(first), 1, atol=1e-4)
    assert np.isclose(np.var(first), math.pi - 1, atol=0.05)
    assert np.isclose(np.mean(np.asarray(first) == 0), 0.5, atol=0.01)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


# --- parts to chain ---------------------------------------------------------------------------


def test_parts_by_hand():
    batch = signals([0, 0, 0, 0])
    weights = [0.5, 1.0, 2.5, 0.0]
    np.testing.assert_allclose(update(weighting.clip(0.1, 2.0), batch, weights), [0.5, 1, 2, 0.1])
    np.testing.assert_allclose(
        update(weighting.normalize_mean(), batch, [1.0, 1, 2, 0]), [1, 1, 2, 0]
    )
    np.testing.assert_allclose(
        update(weighting.mix_with_uniform(0.2), batch, weights), [0.6, 1, 2.2, 0.2], rtol=1e-6
    )
    squares = np.square(weights)
    np.testing.assert_allclose(
        update(weighting.temper(2.0), batch, weights), squares / squares.mean(), rtol=1e-6
    )
    np.testing.assert_allclose(update(weighting.temper(0.0), batch, weights), np.ones(4))


def test_ema_by_hand():
    scheme = weighting.ema(0.75, num_examples=5)
    state = scheme.init(None, None)
    first = signals([0, 0], indices=jnp.array([4, 1]))
    weights, state = scheme.update(jnp.array([2.0, 1.0]), state, first)
    np.testing.assert_allclose(weights, [2, 1], rtol=1e-6)  # bias-corrected
    second = signals([0, 0], indices=jnp.array([4, 0]))
    weights, state = scheme.update(jnp.array([6.0, 3.0]), state, second)
    # example 4: (0.75 * 0.25 * 2 + 0.25 * 6) / (1 - 0.75 ** 2)
    np.testing.assert_allclose(weights, [1.875 / 0.4375, 3], rtol=1e-6)
    np.testing.assert_array_equal(state.count, [1, 1, 0, 0, 2])


def test_ema_ignores_padding_that_repeats_an_index():
    scheme = weighting.ema(0.5, num_examples=3)
    state = scheme.init(None, None)
    batch = signals([0, 0], indices=jnp.array([1, 1]), mask=jnp.array([1, 0]))
    weights, state = scheme.update(jnp.array([2.0, 0.0]), state, batch)
    np.testing.assert_allclose(weights, [2, 0])
    np.testing.assert_array_equal(state.count, [0, 1, 0])
    np.testing.assert_allclose(state.average, [0, 1, 0])


def test_warm_up_starts_uniform_and_ends_at_the_scheme():
    scheme = weighting.warm_up(4)
    state = scheme.init(None, None)
    seen = []
    for _ in range(6):
        weights, state = scheme.update(jnp.array([2.0, 0.0]), state, signals([0, 0]))
        seen.append(weights[0])
    np.testing.assert_allclose(seen, [1, 1.25, 1.5, 1.75, 2, 2])


def test_scheduled_hyperparameters_follow_the_step():
    scheme = weighting.scheduled(
        weighting.self_paced, threshold=optax.linear_schedule(0.5, 2.5, transition_steps=2)
    )
    state = scheme.init(None, None)
    kept = []
    for _ in range(3):
        weights, state = scheme.update(jnp.ones(3), state, signals([0.1, 1.0, 2.0]))
        kept.append(int(np.sum(np.asarray(weights) > 0)))
    assert kept == [1, 2, 3]


def test_chain_multiplies_scores_and_threads_states():
    batch = signals([0.1, 0.7, 0.4], labels=jnp.array([0, 1, 1]))
    scheme = weighting.chain(
        weighting.inverse_class_frequency(np.array([1, 2])),
        weighting.self_paced(0.5, normalize=False),
        weighting.random(),
    )
    state = scheme.init(jax.random.key(0), None)
    weights, new_state = scheme.update(jnp.ones(3), state, batch)
    assert weights[1] == 0
    assert new_state[2].count == 1
    with pytest.raises(ValueError, match="3 schemes but its state has 2"):
        scheme.update(jnp.ones(3), state[:2], batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weighting.focal(-0.1), "gamma must lie in"),
        (lambda: weighting.focal(float("nan")), "gamma must lie in"),
        (lambda: weighting.self_paced(0.0), "threshold must lie in"),
        (lambda: weighting.top_losses(1.5), "fraction must lie in"),
        (lambda: weighting.clip(-1.0), "low must lie in"),
        (lambda: weighting.temper(-1.0), "power must lie in"),
        (lambda: weighting.mix_with_uniform(2.0), "fraction must lie in"),
        (lambda: weighting.ema(1.5, 3), "decay must lie in"),
        (lambda: weighting.ema(1.0, 3), r"decay must lie in \[0, 1\)"),
        (lambda: weighting.warm_up(0), "num_steps must be positive"),
    ],
)
def test_bad_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_non_numbers_are_refused():
    with pytest.raises(TypeError, match="expected a number"):
        weighting.focal([1.0, 2.0])  # type: ignore[arg-type]


def test_missing_signals_are_named():
    with pytest.raises(ValueError, match=r"focal\(\) reads `signals.logits`"):
        update(weighting.focal(), signals([1.0]))
    with pytest.raises(ValueError, match=r"ema\(\) reads `signals.indices`"):
        update(weighting.ema(0.5, 3), signals([1.0]))
