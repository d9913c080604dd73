"""Corrections for known noise: unbiased, minimized by the clean posterior, never nan."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS, TRANSITION
from weighting import losses


def test_backward_correction_is_unbiased(float64):
    for true_class in range(3):
        z = jnp.asarray(LOGITS)
        noisy = jnp.stack(
            [
                losses.backward_corrected_cross_entropy(z, jnp.full(4, c), transition=TRANSITION)
                for c in range(3)
            ]
        )
        clean = -scipy.special.log_softmax(LOGITS, axis=1)[:, true_class]
        np.testing.assert_allclose(TRANSITION[true_class] @ np.asarray(noisy), clean, rtol=1e-12)


def test_forward_correction_is_minimized_by_the_clean_posterior(float64):
    posterior = np.array([0.2, 0.7, 0.1])

    @jax.jit
    def expected_loss(z):
        values = losses.forward_corrected_cross_entropy(
            jnp.broadcast_to(z, (3, 3)), jnp.arange(3), transition=TRANSITION
        )
        return jnp.sum(posterior @ TRANSITION * values)

    best = jnp.log(jnp.asarray(posterior))
    np.testing.assert_allclose(jax.grad(expected_loss)(best), 0, atol=1e-14)
    shifts = np.random.default_rng(0).normal(0, 0.3, (20, 3))
    assert all(expected_loss(best + shift) > expected_loss(best) for shift in shifts)


def test_an_impossible_transition_gives_no_nan():
    """Entries of zero are exact: their logarithm must not reach the gradients."""

    @jax.jit
    def risk(z, transition):
        return jnp.sum(
            losses.forward_corrected_cross_entropy(z, jnp.asarray(LABELS), transition=transition)
        )

    gradients = jax.grad(risk, argnums=(0, 1))(
        jnp.asarray(LOGITS, jnp.float32), jnp.asarray(TRANSITION, jnp.float32)
    )
    assert all(np.isfinite(g).all() for g in gradients)
