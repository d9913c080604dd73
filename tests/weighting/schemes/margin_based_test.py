"""Weights made from margins: hand arithmetic, SciPy, finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import rel_entr

from weighting import Signals
from weighting.schemes.margin_based import (
    exponential_margin,
    inverse_margin,
    inverse_margin_weights,
    kl_matched_weights,
    small_margin_weights,
)

LOGITS = jnp.array([[2.0, 0.0, -1.0], [0.5, 0.0, 0.5], [-3.0, 1.0, 4.0], [1.0, 0.0, 9.0]])
LABELS = jnp.array([0, 2, 1, 2])  # margins 2, 0, -3, 8


def update(scheme, logits=LOGITS, labels=LABELS, mask=None, weights=None):
    start = jnp.ones(len(labels)) if weights is None else jnp.asarray(weights)
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(jnp.zeros(len(labels)), logits, labels, mask=mask)
    return scheme.update(start, scheme.init(None, None), signals)[0]


def reference(scores, low, high):
    """clip(c * scores) with mean one, by a SciPy root finder."""

    def excess(log_scale):
        return np.mean(np.clip(np.exp(log_scale) * scores, low, high)) - 1

    log_scale = brentq(excess, -60, 60, xtol=1e-14)
    return np.clip(np.exp(log_scale) * scores, low, high)


# --- weights of a data set --------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1.5, 20.0])
def test_inverse_margins_have_mean_one_and_the_bounds(float64, bound):
    values = np.random.default_rng(0).exponential(size=50)
    values[:3] = [-1.0, 0.0, 1e-9]
    weights = np.asarray(inverse_margin_weights(jnp.asarray(values), bound=bound))
    scores = 1 / np.maximum(values, 1e-3 * values.max())
    np.testing.assert_allclose(weights, reference(scores, 1 / bound, bound), rtol=1e-10)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-13)
    assert weights.min() >= 1 / bound
    assert weights.max() <= bound
    scaled = inverse_margin_weights(jnp.asarray(1e5 * values), bound=bound)
    np.testing.assert_allclose(scaled, weights, rtol=1e-10)


def test_inverse_margin_limits():
    values = jnp.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(inverse_margin_weights(values, bound=1.0), np.ones(3))
    np.testing.assert_allclose(inverse_margin_weights(values, floor_fraction=1.0), np.ones(3))
    np.testing.assert_allclose(inverse_margin_weights(-values), np.ones(3))
    unbounded = inverse_margin_weights(values, bound=jnp.inf)
    np.testing.assert_allclose(unbounded, np.array([4, 2, 1]) * 3 / 7, rtol=1e-6)
    with pytest.raises(ValueError, match="bound must lie in"):
        inverse_margin_weights(values, bound=0.5)
    with pytest.raises(ValueError, match="floor_fraction must lie in"):
        inverse_margin_weights(values, floor_fraction=0.0)
    with pytest.raises(ValueError, match=r"vector \[N\]"):
        inverse_margin_weights(jnp.ones((2, 2)))


def kl(dual, weights):
    return np.sum(rel_entr(dual, np.asarray(weights) / len(dual)))


@pytest.mark.parametrize("floor", [0.1, 0.2, 0.5])
def test_kl_matched_weights_minimize_the_divergence_above_the_floor(float64, floor):
    dual = np.array([0.55, 0.3, 0.1, 0.05, 0.0, 0.0])
    size = len(dual)
    solution = minimize(
        lambda omega: np.sum(rel_entr(dual, omega)),
        np.full(size, 1 / size),
        jac=lambda omega: -dual / omega,
        method="SLSQP",
        bounds=[(floor / size, 1)] * size,
        constraints={"type": "eq", "fun": lambda omega: omega.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    weights = kl_matched_weights(jnp.asarray(dual), floor)
    np.testing.assert_allclose(weights, size * solution.x, atol=1e-5)
    np.testing.assert_allclose(np.mean(weights), 1, rtol=1e-13)
    assert np.min(weights) >= floor
    assert kl(dual, weights) <= solution.fun + 1e-9

    mixture = kl_matched_weights(jnp.asarray(dual), floor, form="mixture")
    np.testing.assert_allclose(mixture, (1 - floor) * size * dual + floor, rtol=1e-12)
    assert kl(dual, weights) < kl(dual, mixture) < -math.log(1 - floor)


def test_kl_matched_weights_on_a_grid_of_the_simplex():
    dual, floor = np.array([0.7, 0.3, 0.0]), 0.3
    steps = np.arange(1, 300) / 300
    first, second = (axis.ravel() for axis in np.meshgrid(steps, steps))
    third = 1 - first - second
    feasible = (first >= 0.1) & (second >= 0.1) & (third >= 0.1 - 1e-12)
    divergence = np.where(feasible, 0.7 * np.log(0.7 / first) + 0.3 * np.log(0.3 / second), np.inf)
    best = np.argmin(divergence)
    weights = kl_matched_weights(jnp.asarray(dual), floor)
    np.testing.assert_allclose(weights, [1.89, 0.81, 0.3], rtol=1e-5)  # 2.7 * p on the support
    np.testing.assert_allclose(
        weights, 3 * np.array([first[best], second[best], third[best]]), atol=0.01
    )


def test_kl_matched_forms_agree_where_the_dual_is_uniform_on_its_support():
    dual = jnp.array([0.25, 0.25, 0.25, 0.25, 0.0])
    for floor in (0.0, 0.2, 1.0):
        np.testing.assert_allclose(
            kl_matched_weights(dual, floor),
            kl_matched_weights(dual, floor, form="mixture"),
            rtol=1e-6,
        )
    np.testing.assert_allclose(kl_matched_weights(dual, 0.0), [1.25] * 4 + [0], rtol=1e-6)
    with pytest.raises(ValueError, match="form must be one of"):
        kl_matched_weights(dual, form="other")
    with pytest.raises(ValueError, match="floor must lie in"):
        kl_matched_weights(dual, 1.5)


def test_small_margins_by_hand():
    values = jnp.array([3.0, -1.0, 0.5, 7.0, 2.0])
    np.testing.assert_allclose(
        small_margin_weights(values, 0.4, 3.0), np.array([1, 3, 3, 1, 1]) / 1.8, rtol=1e-6
    )
    np.testing.assert_array_equal(small_margin_weights(values, 0.0, 3.0), np.ones(5))
    np.testing.assert_allclose(small_margin_weights(values, 1.0, 3.0), np.ones(5))
    tied = small_margin_weights(jnp.array([1.0, 1.0, 2.0, 3.0]), 0.25, 2.0)
    np.testing.assert_allclose(tied, np.array([2, 2, 1, 1]) / 1.5, rtol=1e-6)
    hundred = small_margin_weights(jnp.arange(100.0))
    assert np.sum(np.asarray(hundred) > 1) == 10
    traced = jax.jit(small_margin_weights)(values, 0.4, 3.0)
    np.testing.assert_allclose(traced, small_margin_weights(values, 0.4, 3.0))


# --- schemes ----------------------------------------------------------------------------------


def test_exponential_margin_is_the_share_in_the_exponential_risk():
    shares = np.exp(-np.array([2.0, 0, -3, 8]))
    shares /= shares.sum()
    np.testing.assert_allclose(
        update(exponential_margin(normalize=False)), shares, rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(update(exponential_margin()), 4 * shares, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        update(exponential_margin(2.0)),
        reference(shares, 0.5, 2.0),
        rtol=1e-6,
    )
    np.testing.assert_allclose(update(exponential_margin(1.0)), np.ones(4))


def test_exponential_margin_weights_of_a_separating_direction_tend_to_the_dual():
    # Two support vectors at margin 1 with z_1 = (1, 1), z_2 = (1, -1): p* = (1/2, 1/2, 0).
    points = jnp.array([[1.0, 1.0], [1.0, -1.0], [3.0, 0.0]])
    scores = points @ jnp.array([20.0, 0.0])
    weights = update(exponential_margin(), scores, jnp.array([1, 1, 1]))
    np.testing.assert_allclose(weights, [1.5, 1.5, 0], atol=1e-6)


def test_dropped_and_padded_examples_do_not_set_the_scale():
    logits = jnp.array([[0.0, 300.0], [9.0, 0.0], [9.0 - math.log(3), 0.0], [0.0, 900.0]])
    labels = jnp.array([0, 0, 0, 0])
    weights = update(
        exponential_margin(), logits, labels, mask=[1, 1, 1, 0], weights=[0.0, 1, 1, 0]
    )
    np.testing.assert_allclose(weights, [0, 0.75, 2.25, 0], rtol=1e-5)
    weights = update(
        exponential_margin(normalize=False), logits, labels, [1, 1, 1, 0], [0.0, 1, 1, 0]
    )
    np.testing.assert_allclose(weights, [0, 0.25, 0.75, 0], rtol=1e-5)
    np.testing.assert_array_equal(
        update(exponential_margin(), weights=np.zeros(4, np.float32)), np.zeros(4)
    )


def test_inverse_margin_by_hand():
    native = update(inverse_margin(4.0, normalize=False))
    np.testing.assert_allclose(native, [0.5, 4, 4, 0.25], rtol=1e-6)
    np.testing.assert_allclose(
        update(inverse_margin(4.0)), np.array([0.5, 4, 4, 0.25]) / 2.1875, rtol=1e-6
    )
    padded = update(inverse_margin(4.0), mask=[1, 1, 0, 0])
    np.testing.assert_allclose(padded, np.array([0.5, 4, 0, 0]) / 2.25, rtol=1e-6)
    np.testing.assert_allclose(update(inverse_margin(1.0)), np.ones(4))
    with pytest.raises(ValueError, match="bound must lie in"):
        inverse_margin(jnp.inf)
    with pytest.raises(ValueError, match=r"inverse_margin\(\) reads `signals.labels`"):
        inverse_margin().update(jnp.ones(4), (), Signals(jnp.zeros(4), LOGITS))


def test_gradients_of_the_weights_match_finite_differences(float64):
    @jax.jit
    def weights(logits):
        out = update(exponential_margin(2.0), logits, LABELS)
        return jnp.sum(out * jnp.arange(4.0))

    logits = jnp.array([[2.0, 0.0, -1.0], [0.5, 0.0, 0.7], [-3.0, 1.0, 2.0], [1.0, 0.0, 1.5]])
    slope = jax.grad(weights)(logits)
    assert np.max(np.abs(slope)) > 0.1
    for index in np.ndindex(logits.shape):
        step = jnp.zeros_like(logits).at[index].set(1e-6)
        difference = (weights(logits + step) - weights(logits - step)) / 2e-6
        np.testing.assert_allclose(slope[index], difference, atol=1e-7)


def test_a_dual_of_zero_leaves_the_derivatives_finite():
    # The others share 3 - 0.1: the first weight is 2.9 p / (p + q), at p = q = 1/2.
    dual = jnp.array([0.5, 0.5, 0.0])
    slopes = jax.grad(lambda dual: kl_matched_weights(dual, 0.1)[0])(dual)
    np.testing.assert_allclose(slopes, [1.45, -1.45, 0], rtol=1e-5)
