r"""Gradient flow on separable data to any time, by steps in the logarithm of time.

In :math:`s = \log(1 + t)` gradient flow reads

.. math:: \frac{d\theta}{ds} = -e^s\, \nabla L(\theta),

and since :math:`\theta \approx \hat\theta\, s` is nearly a straight line at the far end, one or two
thousand steps reach :math:`s = 10^8`. The equation is stiff, so a stage of a step of length h from
:math:`\theta_0` is implicit, and a minimization:

.. math:: \theta = \theta_0 - h e^s\, \nabla L(\theta)
          = \arg\min_\theta\; h e^s L(\theta) + \tfrac12 \|\theta - \theta_0\|^2,

strongly convex, solved by Newton steps. From the innermost outwards: `_newton_step`, `_proximal`
(a stage), `_two_stages` (a step with its error), `_step` (accept it, and choose the next length),
`_integrate` (to a requested time). L and its gradient stay in logarithms, as in `long_horizon`.
Run it in 64 bits (`jax.enable_x64`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from weighting._checks import check_choice, check_positive, check_vector
from weighting.implicit_bias.diagnostics import LOSSES, log_losses, log_slopes
from weighting.implicit_bias.long_horizon import (
    initial_point,
    log_mean_weights,
    log_scale_and_dual,
)

MAX_NEWTON_STEPS = 50
SDIRK = 1 - 1 / math.sqrt(2)  # the L-stable two-stage method of order two (Alexander, 1977)


class Flow(NamedTuple):
    """Gradient flow at the requested times, T of them."""

    log_time: Array  # [T], log(1 + t)
    log_loss: Array  # [T]
    margin: Array  # [T], the smallest margin, not normalized
    norm: Array  # [T]
    params: Array  # [T, D]
    num_steps: Array  # [T] integers, integration steps so far, with rejected ones
    converged: Array  # [T] boolean: False from where the step size or their number ran out


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
    params = initial_point(points, initial_params)
    risk = _Risk(points, log_mean_weights(weights, points[:, 0]), loss)
    dtype = points.dtype
    log_times = jnp.asarray(log_times, dtype)
    _check_times(log_times)

    def advance(carry, stop):
        position, converged = carry
        position = _integrate(risk, stop, position, tol, max_steps)
        converged = converged & (position.s >= stop)
        params = position.params
        measured = (
            risk.log_value(params),
            jnp.min(points @ params),
            jnp.linalg.norm(params),
            params,
            position.num_steps,
            converged,
        )
        return (position, converged), measured

    origin = jnp.zeros((), dtype)
    slope = risk.slope(origin, params)
    first_step = jnp.asarray(1e-3, dtype) / (1 + jnp.linalg.norm(slope))
    start = _Position(origin, first_step, params, slope, jnp.zeros((), int))
    _, measured = jax.lax.scan(advance, (start, jnp.asarray(True)), log_times)
    return Flow(log_times, *measured)


def _check_times(log_times: Array) -> None:
    check_vector("log_times", log_times)
    if not isinstance(log_times, Tracer) and not (
        bool(jnp.all(jnp.diff(log_times) > 0)) and float(log_times[0]) >= 0
    ):
        raise ValueError("log_times must be non-negative and increasing; they are log(1 + t)")


class _Risk(NamedTuple):
    """The weighted risk L of a linear predictor."""

    points: Array  # [N, D]
    log_weights: Array  # [N], log(w / n)
    loss: str

    def log_value(self, params: Array) -> Array:
        """log L."""
        return jax.nn.logsumexp(self.log_weights + log_losses(self.points @ params, self.loss))

    def slope(self, s: Array, params: Array) -> Array:
        """d params / ds = -e^s grad L; [D]."""
        slopes = log_slopes(self.points @ params, self.loss)
        log_scale, dual = log_scale_and_dual(self.log_weights, slopes)
        return jnp.exp(s + log_scale) * (dual @ self.points)


class _Position(NamedTuple):
    """Where the integration is, and how it goes on."""

    s: Array
    length: Array  # h, of the next step
    params: Array  # [D]
    slope: Array  # [D], their derivative by s
    num_steps: Array  # [] so far, with rejected ones


def _rounding(values: Array) -> float:
    return float(jnp.finfo(values.dtype).eps)


def _newton_step(risk: _Risk, log_factor: Array, base: Array, params: Array) -> tuple[Array, Array]:
    r"""A damped Newton step on :math:`e^a L(\theta) + \frac12 \|\theta - b\|^2`, and its length.

    The objective is divided by the first term where that is above one: it may overflow.
    """
    shift = jnp.maximum(log_factor + risk.log_value(params), 0)
    ridge = jnp.exp(-shift)

    def objective(params):
        fit = jnp.exp(log_factor - shift + risk.log_value(params))
        return fit + ridge * jnp.sum((params - base) ** 2) / 2

    margins = risk.points @ params
    pull = jnp.exp(log_factor - shift + risk.log_weights + log_slopes(margins, risk.loss))
    bend = pull if risk.loss == "exponential" else pull * jax.nn.sigmoid(margins)
    gradient = ridge * (params - base) - pull @ risk.points
    identity = np.eye(params.size, dtype=params.dtype)
    hessian = ridge * identity + (risk.points.T * bend[None, :]) @ risk.points
    direction = -jnp.linalg.solve(hessian, gradient)
    slope = gradient @ direction
    value = objective(params)
    slack = 8 * _rounding(params) * jnp.abs(value)

    def too_long(share):
        reached = objective(params + share * direction)
        return ~(reached <= value + 1e-4 * share * slope + slack) & (share > 1e-9)

    one = jnp.ones((), params.dtype)
    share = jax.lax.while_loop(too_long, lambda share: share / 2, one)
    return params + share * direction, share * jnp.linalg.norm(direction)


def _proximal(
    risk: _Risk, log_factor: Array, base: Array, guess: Array, tol: float | Array
) -> tuple[Array, Array]:
    r"""The minimizer of :math:`e^a L(\theta) + \frac12 \|\theta - b\|^2`, and whether it was found.

    Up to a thousandth of the tolerance, as the error of the step is to be that of the method.
    """

    def newton(carry):
        params, _, count = carry
        return *_newton_step(risk, log_factor, base, params), count + 1

    def unfinished(carry):
        params, change, count = carry
        small = 1e-3 * tol + 4 * _rounding(params)
        return ~(change <= small * (1 + jnp.linalg.norm(params))) & (count < MAX_NEWTON_STEPS)

    start = (guess, jnp.asarray(jnp.inf, guess.dtype), 0)
    params, change, count = jax.lax.while_loop(unfinished, newton, start)
    return params, (count < MAX_NEWTON_STEPS) & jnp.isfinite(change)


def _two_stages(
    risk: _Risk, position: _Position, h: Array, tol: float | Array
) -> tuple[Array, Array, Array, Array]:
    """Parameters and slope a step h on, its error, and whether both stages were solved.

    With c = 1 - 1 / sqrt(2) the stages end at s + c h and s + h, and the second starts from 1 - c
    of the first's slope. The embedded formula of order one weighs the two slopes equally.
    """
    s, base = position.s, position.params
    log_factor = jnp.log(SDIRK * h)
    guess = base + SDIRK * h * position.slope
    first, solved = _proximal(risk, log_factor + s + SDIRK * h, base, guess, tol)
    slope_1 = (first - base) / (SDIRK * h)
    base = base + (1 - SDIRK) * h * slope_1
    guess = base + SDIRK * h * slope_1
    second, solved_too = _proximal(risk, log_factor + s + h, base, guess, tol)
    slope_2 = (second - base) / (SDIRK * h)
    error = (0.5 - SDIRK) * h * jnp.linalg.norm(slope_2 - slope_1)
    return second, slope_2, error, solved & solved_too


def _step(risk: _Risk, stop: Array, position: _Position, tol: float | Array) -> _Position:
    """One step towards `stop`, taken if its error is within the tolerance, and the next length.

    The error is of order two in h, so that its root sets the next length; a step cut short at
    `stop` says nothing against a longer one.
    """
    s, h, params, slope, num_steps = position
    last = s + 1.01 * h >= stop
    taken = jnp.where(last, stop - s, h)
    reached, new_slope, error, solved = _two_stages(risk, position, taken, tol)
    ratio = error / (tol * (1 + jnp.linalg.norm(reached)))
    accept = solved & (ratio <= 1)
    factor = jnp.where(ratio > 0, 0.9 / jnp.sqrt(jnp.where(ratio > 0, ratio, 1)), 5.0)
    factor = jnp.where(solved, jnp.clip(factor, 0.2, 5.0), 0.2)
    longest = jnp.maximum(taken * factor, jnp.where(last, h, 0))
    return _Position(
        s=jnp.where(accept, jnp.where(last, stop, s + taken), s),
        length=jnp.where(accept, longest, taken * factor),
        params=jnp.where(accept, reached, params),
        slope=jnp.where(accept, new_slope, slope),
        num_steps=num_steps + 1,
    )


def _integrate(
    risk: _Risk, stop: Array, position: _Position, tol: float | Array, max_steps: int
) -> _Position:
    """The position at s = stop, or before it if the step length or the number of steps ran out."""

    def unfinished(carry):
        position, count = carry
        resolved = position.length > _rounding(position.params) * (1 + position.s)
        return (position.s < stop) & (count < max_steps) & resolved

    def advance(carry):
        position, count = carry
        return _step(risk, stop, position, tol), count + 1

    return jax.lax.while_loop(unfinished, advance, (position, 0))[0]
