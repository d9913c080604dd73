r"""Gradient descent and gradient flow on separable data for as long as the theory wants.

The direction of a linear predictor converges like :math:`1/\log t`: after a million constant steps
log t is 14, and the loss has long underflowed. Everything here works with

.. math:: \log L = \mathrm{logsumexp}_i\big(\log\tfrac{w_i}{n} + \log\ell(u_i)\big), \qquad
          -\nabla L = S \sum_i q_i \nabla u_i, \quad
          \log S = \mathrm{logsumexp}_i\big(\log\tfrac{w_i}{n} + \log|\ell'(u_i)|\big),

with :math:`q_i \propto -w_i \ell'(u_i)`, and never forms L or S. Two ways lead to the far end:

- `run_linear` (and `run_descent` for any predictor) with steps scaled by the loss,
  :math:`\eta_t = a_t / L(\theta_t)`: the norm then grows like t rather than log t;
- `gradient_flow`, an implicit integrator whose steps are in the *logarithm* of time. Since
  :math:`\theta \approx \hat\theta \log t` is nearly a straight line there, one or two thousand
  steps reach :math:`\log t = 10^8`.

Run them in 64 bits (`jax.enable_x64`): an angle of 1e-6 to the limit is below what 32 bits resolve.
The references are those of `implicit_bias`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from weighting._checks import check_choice, check_positive, check_range, check_vector
from weighting.implicit_bias.diagnostics import LOSSES, log_losses, log_slopes

PyTree = Any

STEP_RULES = ("constant", "loss_scaled", "loss_capped", "normalized")
MAX_NEWTON_STEPS = 50
SDIRK = 1 - 1 / math.sqrt(2)  # the L-stable two-stage method of order two (Alexander, 1977)


class Trajectory(NamedTuple):
    """A run of gradient descent at its logged steps, T of them, each *before* the step is taken."""

    step: Array  # [T] integers, from 0 to num_steps
    log_time: Array  # [T], log of the sum of the step sizes so far; -inf at step 0
    log_loss: Array  # [T], log of the weighted risk
    log_gradient_norm: Array  # [T], log of its gradient's norm
    margin: Array  # [T], the smallest margin, not normalized
    norm: Array  # [T], of the parameters
    params: PyTree  # [T, ...]


class Flow(NamedTuple):
    """Gradient flow at the requested times, T of them."""

    log_time: Array  # [T], log(1 + t)
    log_loss: Array  # [T]
    margin: Array  # [T], the smallest margin, not normalized
    norm: Array  # [T]
    params: Array  # [T, D]
    num_steps: Array  # [T] integers, integration steps so far, with rejected ones
    converged: Array  # [T] boolean: False from where the step size or their number ran out


def log_spaced_steps(num_steps: int, per_decade: int = 4) -> np.ndarray:
    """Steps 0, 1 and on by powers of 10^(1 / per_decade), rounded, up to and with `num_steps`."""
    check_range("num_steps", num_steps, low=0, high=2**31 - 1)
    check_positive("per_decade", per_decade)
    last = int(per_decade * math.log10(max(num_steps, 1)))
    powers = np.rint(10.0 ** (np.arange(last + 1) / per_decade)).astype(np.int32)
    return np.unique(np.concatenate([[0], powers[powers <= num_steps], [num_steps]]))


def run_descent(
    margins_fn: Callable[[PyTree], Array],
    params: PyTree,
    weights: Array | None = None,
    *,
    num_steps: int,
    learning_rate: float | Array = 1.0,
    step_rule: str = "constant",
    decay: float | Array = 0.0,
    momentum: float | Array = 0.0,
    loss: str = "exponential",
    per_decade: int = 4,
) -> Trajectory:
    r"""Gradient descent on a weighted exponential or logistic risk, without underflow.

    The steps are :math:`\theta_{t+1} = \theta_t + v_t` with
    :math:`v_t = \mu v_{t-1} - \eta_t \nabla L(\theta_t)`. By `step_rule`, with
    :math:`a_t = a\,(t + 1)^{-\text{decay}}`,

    - "constant": :math:`\eta_t = a_t`, gradient descent as it is;
    - "loss_scaled": :math:`\eta_t = a_t / L(\theta_t)`. For a linear predictor with
      :math:`\|x_i\| \le 1` the risk decreases at every step if :math:`a_t \le 1`, and the norm
      grows linearly in t (decay 0) or like :math:`\sqrt t` (decay 1/2);
    - "loss_capped": :math:`\eta_t = a_t / \max(1, L(\theta_t))`, constant steps that survive a bad
      start, where the exponential loss is huge;
    - "normalized": :math:`\eta_t = a_t / \|\nabla L(\theta_t)\|`.

    Args:
      margins_fn: params -> margins [N], for instance `signs * apply(params, inputs)`.
      params: where to start; a pytree of floating-point arrays. Their dtype is the run's.
      weights: [N], non-negative, default ones. The risk is mean(weights * losses).
      num_steps: T, a Python integer.
      learning_rate: a > 0.
      step_rule: one of the four above.
      decay: exponent of the decreasing step sizes, at least 0.
      momentum: mu in [0, 1); heavy ball.
      loss: "exponential" or "logistic".
      per_decade: logged steps per factor of ten, see `log_spaced_steps`.

    Returns:
      `Trajectory`. Cost: `num_steps` gradients in one compiled loop (forward mode only). A step so
      large that the margins overflow leaves nan from there on ("constant" from a bad start).

    References:
      xu2021, Lemma A.3 (loss-scaled steps, :math:`a_t = \eta_t L_t \le 1`) and Claim 1.

    Example:
      >>> import jax.numpy as jnp
      >>> identity = lambda params: params
      >>> run = run_descent(identity, jnp.zeros(1), num_steps=10, step_rule="loss_scaled")
      >>> run.step, run.log_loss[-1]
      (Array([ 0,  1,  2,  3,  6, 10], dtype=int32), Array(-10., dtype=float32))
    """
    check_choice("step_rule", step_rule, STEP_RULES)
    check_choice("loss", loss, LOSSES)
    check_positive("learning_rate", learning_rate)
    check_range("decay", decay, low=0.0)
    check_range("momentum", momentum, low=0.0, high=1.0, high_open=True)
    margins = jax.eval_shape(margins_fn, params)
    check_vector("margins", margins)
    log_weights = _log_mean_weights(weights, margins)
    dtype = margins.dtype
    log_rate = jnp.log(jnp.asarray(learning_rate, dtype))

    def evaluate(params):
        margins, pullback = jax.vjp(margins_fn, params)
        log_loss = jax.nn.logsumexp(log_weights + log_losses(margins, loss))
        log_scale, dual = _log_scale_and_dual(log_weights, log_slopes(margins, loss))
        descent = pullback(dual)[0]  # sum_i q_i grad u_i; the negative gradient is exp(log_scale) x
        return margins, log_loss, log_scale, descent

    def one_step(count, carry):
        params, velocity, log_time = carry
        _, log_loss, log_scale, descent = evaluate(params)
        log_step = log_rate - decay * jnp.log1p(jnp.asarray(count, dtype))
        if step_rule == "loss_scaled":
            log_step = log_step - log_loss
        elif step_rule == "loss_capped":
            log_step = log_step - jnp.maximum(log_loss, 0)
        elif step_rule == "normalized":
            norm = optax.tree.norm(descent)
            log_step = log_step - log_scale - jnp.log(jnp.where(norm > 0, norm, 1))
        length = jnp.exp(log_step + log_scale)
        velocity = jax.tree.map(lambda v, d: momentum * v + length * d, velocity, descent)
        params = jax.tree.map(jnp.add, params, velocity)
        return params, velocity, jnp.logaddexp(log_time, log_step)

    def measure(carry):
        params, _, log_time = carry
        margins, log_loss, log_scale, descent = evaluate(params)
        log_gradient_norm = log_scale + jnp.log(optax.tree.norm(descent))
        norm = optax.tree.norm(params)
        return log_time, log_loss, log_gradient_norm, jnp.min(margins), norm, params

    def advance(carry, interval):
        carry = jax.lax.fori_loop(interval[0], interval[1], one_step, carry)
        return carry, measure(carry)

    steps = log_spaced_steps(num_steps, per_decade).astype(np.int32)
    intervals = jnp.stack([jnp.asarray(np.append(0, steps[:-1])), jnp.asarray(steps)], axis=1)
    start = (params, optax.tree.zeros_like(params), jnp.asarray(-jnp.inf, dtype))
    _, measured = jax.lax.scan(advance, start, intervals)
    return Trajectory(jnp.asarray(steps), *measured)


def run_linear(
    points: Array,
    weights: Array | None = None,
    *,
    num_steps: int,
    initial_params: Array | None = None,
    learning_rate: float | Array = 1.0,
    step_rule: str = "constant",
    decay: float | Array = 0.0,
    momentum: float | Array = 0.0,
    loss: str = "exponential",
    per_decade: int = 4,
) -> Trajectory:
    """`run_descent` for a linear predictor without intercept.

    Args:
      points: [N, D], inputs times their labels in {-1, 1}; their dtype is the run's.
      weights: [N], non-negative, default ones.
      num_steps: a Python integer.
      initial_params: [D], default zeros.
      learning_rate: as for `run_descent`, and so are the other arguments.
      step_rule: "constant", "loss_scaled", "loss_capped" or "normalized".
      decay: exponent of the decreasing step sizes.
      momentum: heavy ball.
      loss: "exponential" or "logistic".
      per_decade: logged steps per factor of ten.

    Returns:
      `Trajectory` with `params` [T, D].
    """
    return run_descent(
        lambda params: points @ params,
        _initial(points, initial_params),
        weights,
        num_steps=num_steps,
        learning_rate=learning_rate,
        step_rule=step_rule,
        decay=decay,
        momentum=momentum,
        loss=loss,
        per_decade=per_decade,
    )


def gradient_flow(
    points: Array,
    weights: Array | None = None,
    *,
    log_times: ArrayLike,
    initial_params: Array | None = None,
    loss: str = "exponential",
    tol: float | Array = 1e-6,
    max_steps: int = 10_000,
) -> Flow:
    r"""Gradient flow :math:`\dot\theta = -\nabla L(\theta)` of a linear predictor, to any time.

    In :math:`s = \log(1 + t)` it reads :math:`d\theta/ds = -e^s \nabla L(\theta)`, whose solution
    on separable data is close to a line :math:`\hat\theta s + \rho`. A stage of the implicit method
    minimizes :math:`h e^s L(\theta) + \frac12\|\theta - \theta_0\|^2`, strongly convex, by Newton
    steps with backtracking, so that the step h is limited by accuracy alone and grows with s. (An
    explicit method is held to h of order one by stability.)

    Args:
      points: [N, D], inputs times their labels in {-1, 1}; their dtype is the run's.
      weights: [N], non-negative, default ones.
      log_times: [T], non-negative and increasing values of s. :math:`t = 10^8` is s = 18.4, and
        s = 1e7 is as legitimate: `numpy.geomspace(1.0, 1e7, 29)`.
      initial_params: [D], default zeros.
      loss: "exponential" or "logistic".
      tol: error allowed per step, relative to 1 + |params|; at least a few hundred roundings of the
        dtype (default for 64 bits; 1e-4 for 32).
      max_steps: integration steps between two requested times.

    Returns:
      `Flow`. Cost per integration step: about ten Newton iterations, O(N D^2 + D^3) each.

    References:
      Alexander, "Diagonally implicit Runge-Kutta methods for stiff O.D.E.'s", SIAM J. Numer. Anal.
      14(6), 1977 (the method); xu2021, Prop. 1 (the limit).
    """
    check_choice("loss", loss, LOSSES)
    check_positive("tol", tol)
    check_positive("max_steps", max_steps)
    params = _initial(points, initial_params)
    log_weights = _log_mean_weights(weights, points[:, 0])
    dtype = points.dtype
    log_times = jnp.asarray(log_times, dtype)
    check_vector("log_times", log_times)
    if not isinstance(log_times, Tracer) and not (
        bool(jnp.all(jnp.diff(log_times) > 0)) and float(log_times[0]) >= 0
    ):
        raise ValueError("log_times must be non-negative and increasing; they are log(1 + t)")
    identity = jnp.eye(points.shape[1], dtype=dtype)
    rounding = float(jnp.finfo(dtype).eps)

    def velocity(s, params):
        log_scale, dual = _log_scale_and_dual(log_weights, log_slopes(points @ params, loss))
        return jnp.exp(s + log_scale) * (dual @ points)

    def log_risk(params):
        return jax.nn.logsumexp(log_weights + log_losses(points @ params, loss))

    def prox(log_factor, base, guess):
        """argmin over params of exp(log_factor) L(params) + |params - base|^2 / 2."""

        def newton(carry):
            params, _, count = carry
            shift = jnp.maximum(log_factor + log_risk(params), 0)  # the objective may overflow
            ridge = jnp.exp(-shift)

            def objective(params):
                fit = jnp.exp(log_factor - shift + log_risk(params))
                return fit + ridge * jnp.sum((params - base) ** 2) / 2

            margins = points @ params
            pull = jnp.exp(log_factor - shift + log_weights + log_slopes(margins, loss))
            bend = pull if loss == "exponential" else pull * jax.nn.sigmoid(margins)
            gradient = ridge * (params - base) - pull @ points
            hessian = ridge * identity + (points.T * bend[None, :]) @ points
            direction = -jnp.linalg.solve(hessian, gradient)
            slope = gradient @ direction
            value = objective(params)

            def too_long(length):
                reached = objective(params + length * direction)
                slack = 8 * rounding * jnp.abs(value)
                return ~(reached <= value + 1e-4 * length * slope + slack) & (length > 1e-9)

            length = jax.lax.while_loop(too_long, lambda length: length / 2, jnp.ones((), dtype))
            change = length * jnp.linalg.norm(direction)
            return params + length * direction, change, count + 1

        def unfinished(carry):
            params, change, count = carry
            small = 1e-3 * tol + 4 * rounding
            return ~(change <= small * (1 + jnp.linalg.norm(params))) & (count < MAX_NEWTON_STEPS)

        start = (guess, jnp.asarray(jnp.inf, dtype), 0)
        params, change, count = jax.lax.while_loop(unfinished, newton, start)
        return params, (count < MAX_NEWTON_STEPS) & jnp.isfinite(change)

    def attempt(s, h, params, slope):
        """One step of the two-stage method: params at s + h, and whether it can be trusted."""
        log_factor = jnp.log(SDIRK * h)
        base = params
        first, solved = prox(log_factor + s + SDIRK * h, base, base + SDIRK * h * slope)
        slope_1 = (first - base) / (SDIRK * h)
        base = params + (1 - SDIRK) * h * slope_1
        second, solved_too = prox(log_factor + s + h, base, base + SDIRK * h * slope_1)
        slope_2 = (second - base) / (SDIRK * h)
        # the embedded formula of order one weighs the two slopes equally
        error = (0.5 - SDIRK) * h * jnp.linalg.norm(slope_2 - slope_1)
        return second, slope_2, error, solved & solved_too

    def advance(carry, stop):
        def unfinished(carry):
            s, h, _, _, count, _ = carry
            return (s < stop) & (count < max_steps) & (h > rounding * (1 + s))

        def integrate(carry):
            s, h, params, slope, count, total = carry
            last = s + 1.01 * h >= stop
            taken = jnp.where(last, stop - s, h)
            reached, new_slope, error, solved = attempt(s, taken, params, slope)
            ratio = error / (tol * (1 + jnp.linalg.norm(reached)))
            accept = solved & (ratio <= 1)
            factor = jnp.where(ratio > 0, 0.9 / jnp.sqrt(jnp.where(ratio > 0, ratio, 1)), 5.0)
            factor = jnp.where(solved, jnp.clip(factor, 0.2, 5.0), 0.2)
            # a step cut short at a requested time says nothing against a longer one
            h = jnp.where(
                accept, jnp.maximum(taken * factor, jnp.where(last, h, 0)), taken * factor
            )
            s = jnp.where(accept, jnp.where(last, stop, s + taken), s)
            params = jnp.where(accept, reached, params)
            slope = jnp.where(accept, new_slope, slope)
            return s, h, params, slope, count + 1, total + 1

        s, h, params, slope, total, converged = carry
        s, h, params, slope, _, total = jax.lax.while_loop(
            unfinished, integrate, (s, h, params, slope, 0, total)
        )
        converged = converged & (s >= stop)
        margins = points @ params
        measured = (
            log_risk(params),
            jnp.min(margins),
            jnp.linalg.norm(params),
            params,
            total,
            converged,
        )
        return (s, h, params, slope, total, converged), measured

    slope = velocity(jnp.zeros((), dtype), params)
    first_step = jnp.asarray(1e-3, dtype) / (1 + jnp.linalg.norm(slope))
    start = (jnp.zeros((), dtype), first_step, params, slope, 0, jnp.asarray(True))
    _, measured = jax.lax.scan(advance, start, log_times)
    return Flow(log_times, *measured)


def _log_mean_weights(weights: Array | None, margins: Array | jax.ShapeDtypeStruct) -> Array:
    """log(w / n), -inf for weight zero."""
    size = margins.shape[0]
    if weights is None:
        return jnp.full(size, -math.log(size), margins.dtype)
    if weights.shape != margins.shape:
        raise ValueError(f"weights {weights.shape} must hold one entry for each of {size} examples")
    return jnp.log(weights.astype(margins.dtype)) - math.log(size)


def _log_scale_and_dual(log_weights: Array, slopes: Array) -> tuple[Array, Array]:
    """log S and q of the module's formula."""
    largest = jnp.max(slopes)
    terms = log_weights + (slopes - largest)
    return largest + jax.nn.logsumexp(terms), jax.nn.softmax(terms)


def _initial(points: Array, initial_params: Array | None) -> Array:
    if points.ndim != 2:
        raise ValueError(
            f"points must be [N, D], inputs times their signs; got shape {points.shape}"
        )
    if initial_params is None:
        return jnp.zeros(points.shape[1], points.dtype)
    if initial_params.shape != points.shape[1:]:
        raise ValueError(
            f"initial_params must have shape {points.shape[1:]}; got {initial_params.shape}"
        )
    return initial_params.astype(points.dtype)
