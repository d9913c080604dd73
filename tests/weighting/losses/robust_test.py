"""Losses that bound what a wrong label can do: their gradients."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS, call, values_and_gradient
from weighting import losses


def test_generalized_cross_entropy_scales_the_gradient_by_a_power_of_the_probability(float64):
    p = scipy.special.softmax(LOGITS, axis=1)
    expected = (p - np.eye(3)[LABELS]) * p[np.arange(4), LABELS][:, None] ** 0.3
    run = values_and_gradient(functools.partial(losses.generalized_cross_entropy, q=0.3))
    _, gradient = run(jnp.asarray(LOGITS), LABELS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)


def test_generalized_cross_entropy_takes_a_single_score(float64):
    scores, labels = jnp.array([1.5, -0.5, 0.0]), jnp.array([1, 1, 0])
    p = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(0.5)), 0.5]
    np.testing.assert_allclose(
        losses.generalized_cross_entropy(scores, labels, q=1.0), [1 - x for x in p], rtol=1e-12
    )
    np.testing.assert_allclose(
        losses.truncated_cross_entropy(scores[:, None], labels, cutoff=0.9),
        [-math.log(p[0]), 0.0, math.log(2)],
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", ["truncated", "truncated_generalized"])
def test_truncated_examples_have_no_gradient(name):
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(call(name, z, y))))(z)
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    kept = p > 0.3 if name == "truncated_generalized" else -np.log(p) <= 1.3
    assert 0 < kept.sum() < 4
    np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, axis=1), kept)


def test_an_example_at_the_bound_is_truncated_by_one_loss_and_kept_by_the_other(float64):
    """L_q is constant where p_y <= k; the truncated cross-entropy is zero above the cutoff."""
    z, y = jnp.zeros((1, 2)), jnp.array([1])  # p_y = 1/2, exactly
    for k, slope in ((0.5, 0.0), (np.nextafter(0.5, 0), 0.5**1.7)):
        run = values_and_gradient(
            functools.partial(losses.truncated_generalized_cross_entropy, q=0.7, threshold=k)
        )
        values, gradient = run(z, y)
        np.testing.assert_allclose(values, [(1 - 0.5**0.7) / 0.7], rtol=1e-12)
        np.testing.assert_allclose(gradient, [[slope, -slope]], rtol=1e-12)
    loss = losses.cross_entropy(z, y)[0]
    for cutoff, slope in ((loss, 0.5), (np.nextafter(loss, 0), 0.0)):
        run = values_and_gradient(functools.partial(losses.truncated_cross_entropy, cutoff=cutoff))
        values, gradient = run(z, y)
        np.testing.assert_allclose(values, [2 * slope * math.log(2)], rtol=1e-12)
        np.testing.assert_allclose(gradient, [[slope, -slope]], rtol=1e-12)
