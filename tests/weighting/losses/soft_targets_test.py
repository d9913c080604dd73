"""Soft targets: what is held constant, and distillation at high temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS, TEACHER
from weighting import losses


def test_a_differentiated_target_minimizes_the_entropy(float64):
    """beta = 0 descends on entropy alone, so that the prediction becomes certain of its class."""
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    slope = jax.jit(jax.grad(lambda z: jnp.sum(losses.bootstrap_soft(z, y, beta=0.0))))
    trained = jax.lax.fori_loop(0, 2000, lambda _, z: z - slope(z), z)
    np.testing.assert_allclose(
        jax.nn.softmax(trained), np.eye(3)[np.argmax(LOGITS, axis=1)], atol=1e-2
    )


def test_the_predicted_class_of_hard_bootstrapping_is_a_constant(float64):
    """Of classes that tie the first is taken, without a derivative of its own."""
    z, y = jnp.array([[1.0, 1.0, 0.0]]), jnp.array([2])
    gradient = jax.grad(lambda z: losses.bootstrap_hard(z, y, beta=0.6)[0])(z)
    p = scipy.special.softmax(z, axis=1)
    np.testing.assert_allclose(gradient, p - np.array([[0.4, 0.0, 0.6]]), rtol=1e-14)


def test_distillation_at_high_temperature_compares_centered_logits(float64):
    def distance(temperature):
        return losses.distillation(
            jnp.asarray(LOGITS),
            jnp.asarray(LABELS),
            teacher_logits=TEACHER,
            alpha=0.0,
            temperature=temperature,
        )

    apart = LOGITS - TEACHER
    expected = np.sum((apart - apart.mean(axis=1, keepdims=True)) ** 2, axis=1) / 6
    errors = [np.abs(distance(t) - expected).max() for t in (1e3, 1e4)]
    assert errors[0] < 2e-3
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)  # order 1 / T


def test_the_teacher_gets_no_gradient():
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    risk = jax.jit(lambda teacher: jnp.sum(losses.distillation(z, y, teacher_logits=teacher)))
    gradient = jax.grad(risk)(z + 1)
    np.testing.assert_array_equal(gradient, 0)
