"""Gradient flow against SciPy's solvers and brute-force margins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special

from tests.weighting.implicit_bias.reference_direction import MARGIN, POINTS, STAR, WEIGHTS, support
from weighting.implicit_bias import flow as flow_module
from weighting.implicit_bias import long_horizon as runs
from weighting.implicit_bias.diagnostics import angle_between, norm_growth_rate
from weighting.implicit_bias.flow import gradient_flow


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_flow_agrees_with_scipy(float64, loss):
    def velocity(s, theta):
        margins = POINTS @ theta
        slopes = np.exp(-margins) if loss == "exponential" else scipy.special.expit(-margins)
        return np.exp(s) * np.mean((WEIGHTS * slopes)[:, None] * POINTS, axis=0)

    log_times = np.array([0.0, 0.5, 2.0, 8.0, 18.0])
    reference = scipy.integrate.solve_ivp(
        velocity, (0, 18), [0.5, -1.0], t_eval=log_times, rtol=1e-12, atol=1e-12, method="DOP853"
    ).y.T
    errors = []
    for tol in (1e-5, 1e-7):
        flow = gradient_flow(
            jnp.array(POINTS),
            jnp.array(WEIGHTS),
            log_times=log_times,
            initial_params=jnp.array([0.5, -1.0]),
            loss=loss,
            tol=tol,
        )
        assert flow.converged.all()
        errors.append(np.abs(flow.params - reference).max())
    assert errors[0] < 3e-3
    assert errors[1] < 3e-5
    assert errors[1] < errors[0] / 30  # the method's order: error ~ tol
    np.testing.assert_allclose(flow.params[0], [0.5, -1.0])
    np.testing.assert_allclose(flow.margin, (POINTS @ flow.params.T).min(axis=0), rtol=1e-12)
    np.testing.assert_allclose(flow.norm, np.linalg.norm(flow.params, axis=1), rtol=1e-12)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_flow_reaches_the_max_margin_direction(float64, loss):
    log_times = np.geomspace(10.0, 1e8, 15)
    flow_fn = jax.jit(lambda z, w: gradient_flow(z, w, log_times=log_times, loss=loss))
    flow = flow_fn(jnp.array(POINTS), jnp.array(WEIGHTS))
    assert flow.converged.all()
    assert flow.num_steps[-1] < 4000
    angles = np.array([angle_between(params, jnp.array(STAR)) for params in flow.params])
    assert angles[-1] < 1e-7
    np.testing.assert_allclose(  # the norm grows like log t / margin, without limit
        norm_growth_rate(jnp.exp(flow.log_time[:3]), flow.norm[:3]), 1 / MARGIN, rtol=0.05
    )
    np.testing.assert_allclose(flow.norm[-1] * MARGIN / 1e8, 1, rtol=1e-6)
    # the residual from the hard-margin solution times log t is bounded and has a closed form:
    # dq = p* at the support vectors, so w_i exp(-z_i . residual) / n = a_i, the SVM multipliers
    residual = np.asarray(flow.params) - np.outer(log_times, STAR / MARGIN)
    held = support(POINTS, STAR, MARGIN)
    multipliers = np.linalg.solve(POINTS[held].T, STAR / MARGIN)
    expected = np.linalg.solve(POINTS[held], -np.log(multipliers * len(POINTS) / WEIGHTS[held]))
    np.testing.assert_allclose(residual[10], expected, atol=2e-4)
    # from the unit vector it grows (the misprint of xu2021, Eq. A.2)
    drift = np.linalg.norm(np.asarray(flow.params) - np.outer(log_times, STAR), axis=1)
    assert (np.diff(drift) > 0).all()
    assert drift[-1] > 1e7


def test_flow_of_data_that_cannot_be_separated_stops_at_the_minimizer(float64):
    rng = np.random.default_rng(7)
    points = rng.normal(size=(30, 2))
    flow = gradient_flow(jnp.array(points), log_times=[1.0, 10.0, 1000.0], loss="logistic")
    assert flow.converged.all()
    found = scipy.optimize.minimize(
        lambda theta: np.logaddexp(0, -points @ theta).mean(), np.zeros(2), tol=1e-12
    ).x
    np.testing.assert_allclose(flow.params[-1], found, atol=1e-5)


def test_flow_in_32_bits_and_with_a_poor_start():
    points = jnp.array(POINTS, jnp.float32)
    flow = gradient_flow(points, log_times=[1.0, 20.0], tol=1e-3)
    assert flow.params.dtype == jnp.float32
    assert flow.converged.all()
    bad = gradient_flow(points, log_times=[1.0], tol=1e-3, max_steps=2)
    assert not bad.converged.any()
    assert bad.num_steps[-1] == 2


def test_runs_map_over_weights_and_step_sizes():
    points, weights = jnp.array(POINTS, jnp.float32), jnp.array([np.ones(40), WEIGHTS], jnp.float32)

    def last(weights, rate):
        run = runs.run_linear(points, weights, num_steps=30, learning_rate=rate)
        flow = gradient_flow(points, weights, log_times=[2.0], tol=1e-3)
        return run.params[-1], flow.params[-1]

    rates = jnp.array([0.5, 1.0])
    mapped = jax.jit(jax.vmap(last))(weights, rates)
    for case in range(2):
        for one, many in zip(last(weights[case], rates[case]), mapped, strict=True):
            np.testing.assert_allclose(many[case], one, rtol=2e-4)


def test_times_that_do_not_increase_are_refused():
    points = jnp.array(POINTS, jnp.float32)
    with pytest.raises(ValueError, match="increasing"):
        gradient_flow(points, log_times=[2.0, 1.0])


def proximal_objective(loss, log_factor, base, theta):
    """exp(log_factor) L(theta) + |theta - base|^2 / 2 with gradient and Hessian, in NumPy."""
    margins, factors = POINTS @ theta, np.exp(log_factor) * WEIGHTS / len(POINTS)
    if loss == "exponential":
        values = slopes = bends = np.exp(-margins)
    else:
        values, slopes = np.logaddexp(0, -margins), scipy.special.expit(-margins)
        bends = slopes * (1 - slopes)
    value = factors @ values + np.sum((theta - base) ** 2) / 2
    hessian = np.eye(2) + (POINTS * (factors * bends)[:, None]).T @ POINTS
    return value, theta - base - (factors * slopes) @ POINTS, hessian


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_a_newton_step_solves_the_quadratic_model_and_is_halved_until_the_objective_falls(
    float64, loss
):
    log_weights = jnp.log(jnp.array(WEIGHTS) / len(POINTS))
    risk = flow_module._Risk(jnp.array(POINTS), log_weights, loss)
    newton_step = jax.jit(lambda *arguments: flow_module._newton_step(risk, *arguments))
    rng, shares = np.random.default_rng(0), []
    for _ in range(60):
        log_factor, base, theta = rng.uniform(-3, 8), *rng.normal(scale=5, size=(2, 2))
        value, gradient, hessian = proximal_objective(loss, log_factor, base, theta)
        step, share = -np.linalg.solve(hessian, gradient), 1.0

        def excess(share, theta=theta, step=step, given=(loss, log_factor, base), value=value):
            return proximal_objective(*given, theta + share * step)[0] - value

        while excess(share) > 1e-4 * share * (gradient @ step):
            share /= 2
        reached, length = newton_step(log_factor, base, theta)
        np.testing.assert_allclose(reached, theta + share * step, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(length, share * np.linalg.norm(step), rtol=1e-9)
        shares.append(share)
    assert {0.5, 1.0} <= set(shares)
