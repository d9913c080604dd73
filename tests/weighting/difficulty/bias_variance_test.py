"""Exact splits of the expected error into bias and variance."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from tests.weighting.difficulty.networks import LABELS, MASK, C, N, R, counted, network_logits, rng
from weighting.difficulty import bias_variance
from weighting.difficulty import several_networks as ensemble


def test_squared_error_splits_exactly(float64):
    f, y = rng().normal(size=(R, N, 2)), rng().normal(size=(N, 2))
    for predictions, targets in ((f, y), (f[..., 0], y[:, 0])):
        for mask in (None, MASK):
            got = bias_variance.squared_bias_variance(
                jnp.asarray(predictions),
                jnp.asarray(targets),
                mask=None if mask is None else jnp.asarray(mask),
            )
            np.testing.assert_allclose(got.error, got.bias + got.variance, rtol=1e-12, atol=1e-12)
            for i in range(N):
                own = predictions[:, i] if mask is None else counted(predictions, i)
                if len(own) == 0:
                    assert np.isnan(got.error[i])
                    assert np.isnan(got.bias[i])
                    continue
                square = [np.sum((row - targets[i]) ** 2) for row in own]
                np.testing.assert_allclose(got.error[i], np.mean(square), rtol=1e-12)
                np.testing.assert_allclose(
                    got.bias[i], np.sum((own.mean(0) - targets[i]) ** 2), rtol=1e-12
                )
                if len(own) > 1:
                    np.testing.assert_allclose(
                        got.standard_error[i], scipy.stats.sem(square), rtol=1e-12
                    )
    probabilities = scipy.special.softmax(network_logits(), axis=2)
    got = bias_variance.squared_bias_variance(
        jnp.asarray(probabilities), jnp.asarray(np.eye(C)[LABELS])
    )
    np.testing.assert_allclose(
        got.variance, ensemble.predictive_variance(jnp.asarray(probabilities)), rtol=1e-12
    )  # Eq. 7 without its constant is the variance term of Eq. 2


@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_splits_exactly(float64, soft):
    z = network_logits(scale=3.0)
    q = scipy.special.softmax(z, axis=2)
    y = scipy.special.softmax(rng().normal(size=(N, C)), axis=1) if soft else np.eye(C)[LABELS]
    targets = jnp.asarray(y if soft else LABELS)
    for mask in (None, MASK):
        got = bias_variance.cross_entropy_bias_variance(
            jnp.asarray(z), targets, mask=None if mask is None else jnp.asarray(mask)
        )
        np.testing.assert_allclose(got.error, got.bias + got.variance, rtol=1e-12, atol=1e-12)
        for i in range(N):
            own = q[:, i] if mask is None else counted(q, i)
            if len(own) == 0:
                assert np.isnan(got.error[i])
                continue
            center = scipy.stats.gmean(own, axis=0)
            center = center / center.sum()
            divergences = [scipy.stats.entropy(y[i], row) for row in own]  # KL(y || q)
            parts = (
                np.mean(divergences),
                scipy.stats.entropy(y[i], center),
                np.mean([scipy.stats.entropy(center, row) for row in own]),
            )
            np.testing.assert_allclose(
                [got.error[i], got.bias[i], got.variance[i]], parts, rtol=1e-10, atol=1e-13
            )
            if len(own) > 1:
                np.testing.assert_allclose(
                    got.standard_error[i], scipy.stats.sem(divergences), rtol=1e-10
                )


def test_cross_entropy_split_is_stable_and_refuses_bad_shapes():
    z = jnp.array([[[1e4, -1e4]], [[1e4, 0.0]]])
    got = bias_variance.cross_entropy_bias_variance(z, jnp.array([1]))
    np.testing.assert_allclose(got.error, [15_000.0], rtol=1e-6)
    np.testing.assert_allclose(got.bias, [15_000.0], rtol=1e-6)
    np.testing.assert_allclose(got.variance, [0.0], atol=1e-6)
    with pytest.raises(ValueError, match="single score"):
        bias_variance.cross_entropy_bias_variance(z[..., 0], jnp.array([1]))
    with pytest.raises(ValueError, match="targets' shape"):
        bias_variance.squared_bias_variance(z, jnp.array([1.0]))
