"""Long runs of gradient descent against NumPy loops, SciPy's solvers and brute-force margins."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special

from weighting.implicit_bias import long_horizon as runs
from weighting.implicit_bias.diagnostics import angle_between, norm_growth_rate


def separable(seed=0, num_examples=40):
    """Points z = y x in the unit disc, within 1.1 radians of one direction."""
    rng = np.random.default_rng(seed)
    angles, radii = rng.uniform(-0.5, 1.7, num_examples), rng.uniform(0.5, 1.0, num_examples)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def brute_force_direction(points):
    """The unit vector of largest margin in the plane, by a grid of angles and thirds."""

    def margin(angle):
        return (points @ np.array([np.cos(angle), np.sin(angle)])).min()

    grid = np.linspace(-math.pi, math.pi, 10_001)
    best = grid[np.argmax([margin(angle) for angle in grid])]
    low, high = best - 1e-3, best + 1e-3
    for _ in range(100):  # the margin is unimodal where it is positive
        third = (high - low) / 3
        if margin(low + third) < margin(high - third):
            low += third
        else:
            high -= third
    return np.array([np.cos(low), np.sin(low)]), margin(low)


POINTS = separable()
STAR, MARGIN = brute_force_direction(POINTS)
WEIGHTS = np.random.default_rng(9).uniform(0.2, 1.8, size=len(POINTS))


def support(points, direction, margin):
    return np.flatnonzero(points @ direction < margin * (1 + 1e-6))


def test_the_reference_direction_is_a_hard_margin_solution():
    solved = scipy.optimize.minimize(
        lambda theta: theta @ theta / 2,
        3 * STAR,
        jac=lambda theta: theta,
        constraints={
            "type": "ineq",
            "fun": lambda theta: POINTS @ theta - 1,
            "jac": lambda _: POINTS,
        },
        method="SLSQP",
        options={"ftol": 1e-14},
    ).x
    np.testing.assert_allclose(STAR / MARGIN, solved, rtol=1e-6)
    assert len(support(POINTS, STAR, MARGIN)) == 2


def test_log_spaced_steps():
    assert runs.log_spaced_steps(100, 2).tolist() == [0, 1, 3, 10, 32, 100]
    assert runs.log_spaced_steps(50, 1).tolist() == [0, 1, 10, 50]
    assert runs.log_spaced_steps(0).tolist() == [0]
    assert len(runs.log_spaced_steps(10**6)) == 26  # 0 and the 25 powers


def numpy_descent(points, weights, steps, rule, loss, rate, decay, momentum):
    """The plain loop, which forms the loss and its gradient as they are written."""
    theta, previous, time, path = np.array([0.3, -0.2]), np.array([0.3, -0.2]), 0.0, []
    for count in range(steps + 1):
        margins = points @ theta
        if loss == "exponential":
            losses, slopes = np.exp(-margins), np.exp(-margins)
        else:
            losses, slopes = np.log(1 + np.exp(-margins)), 1 / (1 + np.exp(margins))
        risk = np.mean(weights * losses)
        gradient = -np.mean((weights * slopes)[:, None] * points, axis=0)
        size = np.linalg.norm(gradient)
        path.append((time, risk, size, margins.min(), np.linalg.norm(theta), *theta))
        eta = rate * (count + 1) ** -decay
        eta /= {
            "constant": 1,
            "loss_scaled": risk,
            "loss_capped": max(1, risk),
            "normalized": size,
        }[rule]
        time += eta
        theta, previous = theta - eta * gradient + momentum * (theta - previous), theta
    return np.array(path)


@pytest.mark.parametrize(
    ("rule", "loss", "steps", "rate", "decay", "momentum"),
    [
        ("constant", "exponential", 1000, 1.0, 0.0, 0.0),
        ("constant", "logistic", 1000, 2.0, 0.0, 0.9),
        ("loss_scaled", "exponential", 300, 1.0, 0.5, 0.0),
        ("loss_scaled", "logistic", 100, 0.5, 0.0, 0.3),
        ("loss_capped", "exponential", 100, 0.7, 0.2, 0.0),
        ("normalized", "logistic", 100, 0.1, 0.5, 0.0),
    ],
)
def test_descent_agrees_with_a_plain_loop(float64, rule, loss, steps, rate, decay, momentum):
    weights = 3 * WEIGHTS if rule == "loss_capped" else WEIGHTS  # a risk above one at the start
    run = runs.run_linear(
        jnp.array(POINTS),
        jnp.array(weights),
        num_steps=steps,
        initial_params=jnp.array([0.3, -0.2]),
        learning_rate=rate,
        step_rule=rule,
        decay=decay,
        momentum=momentum,
        loss=loss,
    )
    path = numpy_descent(POINTS, weights, steps, rule, loss, rate, decay, momentum)[run.step]
    np.testing.assert_array_equal(run.step[jnp.array([0, 1, -1])], [0, 1, steps])
    np.testing.assert_allclose(run.params, path[:, 5:], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jnp.exp(run.log_time), path[:, 0], rtol=1e-11)
    np.testing.assert_allclose(jnp.exp(run.log_loss), path[:, 1], rtol=1e-11)
    np.testing.assert_allclose(jnp.exp(run.log_gradient_norm), path[:, 2], rtol=1e-11)
    np.testing.assert_allclose(run.margin, path[:, 3], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(run.norm, path[:, 4], rtol=1e-12)


def test_descent_of_a_network_agrees_with_autodiff_of_its_risk(float64):
    rng = np.random.default_rng(1)
    params = {"w": jnp.array(rng.normal(size=(2, 3))), "v": jnp.array(rng.normal(size=3))}

    def margins_fn(params):
        return jax.nn.softplus(jnp.array(POINTS) @ params["w"]) @ params["v"]

    def risk(params):
        return jnp.mean(jnp.array(WEIGHTS) * jnp.log1p(jnp.exp(-margins_fn(params))))

    run = runs.run_descent(
        margins_fn, params, jnp.array(WEIGHTS), num_steps=20, learning_rate=0.5, loss="logistic"
    )
    step = jax.jit(lambda p: jax.tree.map(lambda a, g: a - 0.5 * g, p, jax.grad(risk)(p)))
    for _ in range(20):
        params = step(params)
    for name in params:
        np.testing.assert_allclose(run.params[name][-1], params[name], rtol=1e-12)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_a_loss_far_below_underflow(float64, loss):
    start = jnp.array(STAR) * 2000 / MARGIN  # the smallest margin is 2000
    run = runs.run_linear(
        jnp.array(POINTS), num_steps=10, initial_params=start, step_rule="loss_scaled", loss=loss
    )
    close = len(support(POINTS, STAR, MARGIN))
    np.testing.assert_allclose(run.log_loss[0], math.log(close / 40) - 2000, atol=1e-3)
    assert (np.diff(run.norm) > 0.5 * MARGIN).all()  # it moves by about the margin a step
    assert run.log_time[-1] > 2000
    still = runs.run_linear(jnp.array(POINTS), num_steps=10, initial_params=start, loss=loss)
    np.testing.assert_array_equal(still.params[-1], start)  # as a constant step should
    single = runs.run_linear(
        jnp.array(POINTS, jnp.float32), num_steps=3000, step_rule="loss_scaled", loss=loss
    )
    assert single.log_loss.dtype == jnp.float32
    assert float(single.log_loss[-1]) < -200  # 32 bits underflow at -103


def test_loss_scaled_steps_reach_the_max_margin_direction(float64):
    run = jax.jit(lambda z, w: runs.run_linear(z, w, num_steps=300_000, step_rule="loss_scaled"))(
        jnp.array(POINTS), jnp.array(WEIGHTS)
    )
    angles = np.array([angle_between(params, jnp.array(STAR)) for params in run.params[1:]])
    assert angles[-1] < 1e-6
    np.testing.assert_allclose(angles[-1] / angles[-3], run.step[-3] / run.step[-1], rtol=1e-2)
    assert (np.diff(run.log_loss) < 0).all()  # xu2021, Lemma A.3


def test_lemma_a3_holds_at_every_step(float64):
    for loss in ("exponential", "logistic"):
        run = runs.run_linear(
            jnp.array(POINTS),
            jnp.array(WEIGHTS),
            num_steps=60,
            step_rule="loss_scaled",
            decay=0.5,
            loss=loss,
            per_decade=2000,
        )
        np.testing.assert_array_equal(run.step, np.arange(61))
        a = 1 / np.sqrt(np.arange(60) + 1)
        b = np.exp(run.log_gradient_norm - run.log_loss)[:-1]
        drop = np.log1p(-a * (1 - a / 2) * b**2)
        assert (np.diff(run.log_loss) <= drop + 1e-13).all()
        assert (b <= 1 + 1e-13).all()
        if loss == "exponential":
            assert (b >= MARGIN - 1e-13).all()


# --- gradient flow ----------------------------------------------------------------------------


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
        flow = runs.gradient_flow(
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
    flow_fn = jax.jit(lambda z, w: runs.gradient_flow(z, w, log_times=log_times, loss=loss))
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
    flow = runs.gradient_flow(jnp.array(points), log_times=[1.0, 10.0, 1000.0], loss="logistic")
    assert flow.converged.all()
    found = scipy.optimize.minimize(
        lambda theta: np.logaddexp(0, -points @ theta).mean(), np.zeros(2), tol=1e-12
    ).x
    np.testing.assert_allclose(flow.params[-1], found, atol=1e-5)


def test_flow_in_32_bits_and_with_a_poor_start():
    points = jnp.array(POINTS, jnp.float32)
    flow = runs.gradient_flow(points, log_times=[1.0, 20.0], tol=1e-3)
    assert flow.params.dtype == jnp.float32
    assert flow.converged.all()
    bad = runs.gradient_flow(points, log_times=[1.0], tol=1e-3, max_steps=2)
    assert not bad.converged.any()


def test_runs_map_over_weights_and_step_sizes():
    points, weights = jnp.array(POINTS, jnp.float32), jnp.array([np.ones(40), WEIGHTS], jnp.float32)

    def last(weights, rate):
        run = runs.run_linear(points, weights, num_steps=30, learning_rate=rate)
        flow = runs.gradient_flow(points, weights, log_times=[2.0], tol=1e-3)
        return run.params[-1], flow.params[-1]

    rates = jnp.array([0.5, 1.0])
    mapped = jax.jit(jax.vmap(last))(weights, rates)
    for case in range(2):
        for one, many in zip(last(weights[case], rates[case]), mapped, strict=True):
            np.testing.assert_allclose(many[case], one, rtol=2e-4)


def test_bad_inputs():
    points = jnp.array(POINTS, jnp.float32)
    with pytest.raises(ValueError, match="step_rule"):
        runs.run_linear(points, num_steps=1, step_rule="armijo")
    with pytest.raises(ValueError, match="loss"):
        runs.run_linear(points, num_steps=1, loss="hinge")
    with pytest.raises(ValueError, match="one entry for each of 40"):
        runs.run_linear(points, jnp.ones(3), num_steps=1)
    with pytest.raises(ValueError, match="initial_params"):
        runs.run_linear(points, num_steps=1, initial_params=jnp.ones(3))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        runs.run_linear(points[:, 0], num_steps=1)
    with pytest.raises(ValueError, match="momentum"):
        runs.run_linear(points, num_steps=1, momentum=1.0)
    with pytest.raises(ValueError, match="increasing"):
        runs.gradient_flow(points, log_times=[2.0, 1.0])
