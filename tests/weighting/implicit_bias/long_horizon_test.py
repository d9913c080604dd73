"""Long runs of gradient descent against NumPy loops and brute-force margins."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special

from tests.weighting.implicit_bias.reference_direction import MARGIN, POINTS, STAR, WEIGHTS, support
from weighting.implicit_bias import long_horizon as runs
from weighting.implicit_bias.diagnostics import angle_between


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
