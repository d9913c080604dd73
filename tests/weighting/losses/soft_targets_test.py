"""Soft targets: what is held constant, and distillation at high temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS, TEACHER, call
from weighting import losses


def test_bootstrap_soft_holds_its_target_constant(float64):
    p = scipy.special.softmax(LOGITS, axis=1)
    target = 0.9 * np.eye(3)[LABELS] + 0.1 * p
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    constant = jax.grad(lambda z: jnp.sum(losses.bootstrap_soft(z, y, beta=0.9)))(z)
    np.testing.assert_allclose(constant, p - target, atol=1e-12)
    np.testing.assert_allclose(
        losses.bootstrap_soft(z, y, beta=0.9), call("bootstrap_soft", z, y), rtol=1e-12
    )
    through = jax.grad(lambda z: jnp.sum(call("bootstrap_soft", z, y)))(z)
    assert np.abs(through - constant).max() > 1e-3


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
