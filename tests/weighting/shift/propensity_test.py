"""Inverse propensities by hand and by Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting.base import Signals
from weighting.shift.propensity import inverse_propensity, inverse_propensity_weights

PROPENSITIES = np.array([0.9, 0.5, 0.2, 0.05])


VALUES = np.array([1.0, -2.0, 4.0, 3.0])


def test_inverse_propensities_by_hand():
    e = jnp.array([0.5, 0.1, 0.2])
    native = inverse_propensity_weights(e, normalize=False)
    np.testing.assert_allclose(native, [2, 10, 5], rtol=1e-6)
    floored = inverse_propensity_weights(e, floor=0.2, normalize=False)
    np.testing.assert_allclose(floored, [2, 5, 5], rtol=1e-6)
    np.testing.assert_allclose(inverse_propensity_weights(e), [6 / 17, 30 / 17, 15 / 17], rtol=1e-6)
    seen = inverse_propensity_weights(e, observed=jnp.array([1, 0, 1]))
    np.testing.assert_allclose(seen, [4 / 7, 0, 10 / 7], rtol=1e-6)
    np.testing.assert_allclose(inverse_propensity_weights(e, floor=1.0), [1, 1, 1], rtol=1e-6)
    nothing = inverse_propensity_weights(e, observed=jnp.zeros(3))
    np.testing.assert_array_equal(nothing, np.zeros(3))


def test_whole_numbers_are_computed_as_floats():
    seen = inverse_propensity_weights(jnp.array([1, 1, 1]), observed=jnp.array([True, False, True]))
    np.testing.assert_allclose(seen, [1, 0, 1])
    assert seen.dtype == jnp.float32


def test_the_weighted_mean_of_what_is_observed_is_unbiased():
    draws = 20_000
    observed = np.random.default_rng(0).random((draws, 4)) < PROPENSITIES
    e = jnp.asarray(PROPENSITIES, jnp.float32)

    def estimates(**options):
        weights = jax.vmap(lambda o: inverse_propensity_weights(e, observed=o, **options))(
            jnp.asarray(observed)
        )
        return np.asarray(weights) @ VALUES / 4

    def deviation(values):
        return abs(values.mean() - VALUES.mean()) / (values.std() / np.sqrt(draws))

    native = estimates(normalize=False)
    assert deviation(native) < 4
    # its variance, by hand: sum v^2 (1 - e) / e over 4^2
    expected = np.sum(VALUES**2 * (1 - PROPENSITIES) / PROPENSITIES) / 16
    assert abs(native.var() / expected - 1) < 0.05
    clipped = estimates(floor=0.2, normalize=False)
    assert deviation(clipped) > 4  # the price of the floor
    assert clipped.var() < 0.5 * native.var()


def test_a_constant_shifts_only_the_self_normalized_estimate_by_itself():
    observed = jnp.array([1, 1, 0, 1])
    e = jnp.asarray(PROPENSITIES)
    for normalize, shift in [(True, 7.0), (False, 7.0 * (1 / 0.9 + 2 + 20) / 3)]:
        weights = inverse_propensity_weights(e, observed=observed, normalize=normalize)
        means = [float(jnp.sum(weights * (VALUES + c))) / 3 for c in (0.0, 7.0)]
        assert abs(means[1] - means[0] - shift) < 1e-4


def test_propensity_scheme_reads_by_index():
    scheme = inverse_propensity(PROPENSITIES, normalize=False)
    signals = Signals(jnp.zeros(3), indices=jnp.array([3, 0, 2]), mask=jnp.array([1.0, 1, 0]))
    weights, _ = scheme.update(signals.valid, scheme.init(jax.random.key(0), None), signals)
    np.testing.assert_allclose(weights, [20, 1 / 0.9, 0], rtol=1e-6)
    for bad in ([0.5, 0.0], [1.5, 0.5], [np.nan, 0.5]):
        with pytest.raises(ValueError, match=r"propensities must lie in \(0, 1\]"):
            inverse_propensity(np.array(bad))
    with pytest.raises(ValueError, match="floor must lie in"):
        inverse_propensity(PROPENSITIES, floor=-0.1)
