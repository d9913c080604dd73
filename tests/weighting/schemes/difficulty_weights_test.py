"""Weights from difficulties: SciPy's root finder, invariances, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import rankdata

from weighting.schemes.difficulty_weights import MAPS, difficulty_weights

DIFFICULTY = np.array([0.3, 2.0, 0.1, 5.0, 2.0, 0.7, 1.1])


def by_scipy(scores, low, high):
    def excess(log_scale):
        return np.mean(np.clip(np.exp(log_scale) * scores, low, high)) - 1

    log_scale = brentq(excess, -80, 80, xtol=1e-15)
    return np.clip(np.exp(log_scale) * scores, low, high)


SCORES = {
    "power": lambda d, s: d**s,
    "exponential": lambda d, s: np.exp(s * d),
    "rank": lambda d, s: np.exp(s * (rankdata(d) - 1) / (len(d) - 1)),
    "inverse": lambda d, s: ((d.max() - d) / (d.max() - d.min()) + 1e-3) ** -s,
}


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.25, 2.0), (0.0, 1.2), (0.9, 40.0)])
@pytest.mark.parametrize("map", MAPS)
def test_weights_against_a_root_finder(float64, map, bounds):
    for strength in (-1.3, 0.7):
        weights = np.asarray(
            difficulty_weights(jnp.asarray(DIFFICULTY), map=map, strength=strength, bounds=bounds)
        )
        expected = by_scipy(SCORES[map](DIFFICULTY, strength), *bounds)
        np.testing.assert_allclose(weights, expected, rtol=1e-9)
        np.testing.assert_allclose(weights.mean(), 1, rtol=1e-13)
        assert weights.min() >= bounds[0]
        assert weights.max() <= bounds[1]
        order = np.sign(strength) * np.diff(weights[np.argsort(DIFFICULTY)])
        assert np.all(order >= -1e-12)


def test_single_precision_keeps_mean_and_bounds():
    values = jnp.asarray(np.random.default_rng(1).lognormal(sigma=6, size=1000), jnp.float32)
    strengths = jnp.array([-30.0, -1.0, 1.0, 30.0])
    for map in MAPS:
        weights = jax.vmap(
            lambda strength, map=map: difficulty_weights(
                values, map=map, strength=strength, bounds=(0.1, 5.0)
            )
        )(strengths)
        means = np.asarray(weights, np.float64).mean(axis=1)
        np.testing.assert_allclose(means, 1, rtol=3e-6)
        assert np.min(weights) >= np.float32(0.1)
        assert np.max(weights) <= 5


@pytest.mark.parametrize("map", MAPS)
def test_limits(map):
    values = jnp.asarray(DIFFICULTY)
    np.testing.assert_allclose(difficulty_weights(values, map=map, strength=0.0), np.ones(7))
    np.testing.assert_allclose(
        difficulty_weights(values, map=map, bounds=(1.0, 1.0)), np.ones(7), rtol=1e-6
    )
    hardest = difficulty_weights(values, map=map, strength=500.0, bounds=(0.0, 7.0))
    np.testing.assert_allclose(hardest, [0, 0, 0, 7, 0, 0, 0], atol=1e-5)
    # The upper bound forces the hardest three to share, the tie among them included.
    shared = difficulty_weights(values, map=map, strength=500.0, bounds=(0.0, 2.0))
    np.testing.assert_allclose(np.asarray(shared)[[1, 3, 4]], 2, rtol=1e-5)
    np.testing.assert_allclose(difficulty_weights(jnp.full(4, 0.5), map=map), np.ones(4), rtol=1e-6)


def test_invariances(float64):
    values = jnp.asarray(DIFFICULTY)

    def weights(difficulty, map):
        return difficulty_weights(difficulty, map=map, strength=1.7, bounds=(0.2, 4.0))

    np.testing.assert_array_equal(weights(values, "rank"), weights(jnp.log(values) ** 3, "rank"))
    np.testing.assert_allclose(weights(9.0 * values, "power"), weights(values, "power"), rtol=1e-12)
    np.testing.assert_allclose(
        weights(values - 9.0, "exponential"), weights(values, "exponential"), rtol=1e-12
    )
    for scale in (9.0, 0.01):
        scaled = weights(scale * values - 4, "inverse")
        np.testing.assert_allclose(scaled, weights(values, "inverse"), rtol=1e-10)


def test_traced_over_strengths_and_bounds():
    values = jnp.asarray(DIFFICULTY)

    def weights(strength, high):
        return difficulty_weights(values, map="power", strength=strength, bounds=(0.1, high))

    strengths, highs = jnp.array([-1.0, 2.0]), jnp.array([1.5, 3.0])
    together = jax.jit(jax.vmap(weights))(strengths, highs)
    for row, strength, high in zip(together, strengths, highs, strict=True):
        np.testing.assert_allclose(row, weights(strength, high), rtol=1e-5)


def test_gradient_by_the_strength_matches_finite_differences(float64):
    values, probe = jnp.asarray(DIFFICULTY), jnp.arange(7.0)

    def functional(strength):
        weights = difficulty_weights(values, map="power", strength=strength, bounds=(0.2, 2.0))
        return jnp.sum(weights * probe)

    slope = jax.grad(functional)(0.8)
    difference = (functional(0.8 + 1e-6) - functional(0.8 - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-7)


@pytest.mark.parametrize("bounds", [(1.1, 2.0), (0.0, 0.9), (-0.1, 2.0), (float("nan"), 2.0)])
def test_infeasible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="0 <= b <= 1 <= B"):
        difficulty_weights(jnp.ones(3), bounds=bounds)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match=r"difficulty\[1\] is nan"):
        difficulty_weights(jnp.array([1.0, jnp.nan]))
    with pytest.raises(ValueError, match="not negative with map='power'"):
        difficulty_weights(jnp.array([1.0, -1.0]), map="power")
    with pytest.raises(ValueError, match="map must be one of"):
        difficulty_weights(jnp.ones(2), map="linear")
    with pytest.raises(ValueError, match=r"vector \[N\]"):
        difficulty_weights(jnp.ones((2, 2)))
