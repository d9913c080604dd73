"""The polynomial tail: smooth and convex, and weights move its limit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import losses


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_polynomial_tail_is_smooth_and_convex(alpha, float64):
    def loss(margin):
        return losses.polynomial_tailed(margin[None], jnp.ones(1, int), alpha=alpha, beta=0.7)[0]

    run = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    values, slopes = run(0.7 + jnp.array([-1e-9, 0.0, 1e-9]))
    np.testing.assert_allclose(values, 1, atol=1e-8)
    np.testing.assert_allclose(slopes, -alpha, rtol=1e-7)
    _, slopes = run(jnp.linspace(-6, 12, 301))
    assert np.all(np.diff(slopes) > 0)


def test_importance_weights_move_the_limit_under_a_polynomial_tail_only(float64):
    """Two orthonormal inputs, weights 16 and 1: margins w^(1/4) for alpha = 2, else equal."""
    weights, labels = jnp.array([16.0, 1.0]), jnp.ones(2, int)

    def limit(loss_fn, num_steps):
        def step(params, _):
            risk, gradient = jax.value_and_grad(lambda f: weights @ loss_fn(f, labels))(params)
            return params - 0.1 / risk * gradient, None

        params, _ = jax.lax.scan(step, jnp.ones(2), length=num_steps)
        return float(params[0] / params[1])

    polynomial = functools.partial(losses.polynomial_tailed, alpha=2.0)
    assert limit(polynomial, 400) == pytest.approx(2.0, rel=1e-3)
    assert limit(losses.logistic, 4000) == pytest.approx(1.0, abs=0.03)
