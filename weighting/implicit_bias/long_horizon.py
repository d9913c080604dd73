r"""Gradient descent on separable data for as long as the theory wants.

The direction of a linear predictor converges like :math:`1/\log t`: after a million constant steps
log t is 14, and the loss has long underflowed. Everything here works with

.. math:: \log L = \mathrm{logsumexp}_i\big(\log\tfrac{w_i}{n} + \log\ell(u_i)\big), \qquad
          -\nabla L = S \sum_i q_i \nabla u_i, \quad
          \log S = \mathrm{logsumexp}_i\big(\log\tfrac{w_i}{n} + \log|\ell'(u_i)|\big),

with :math:`q_i \propto -w_i \ell'(u_i)`, and never forms L or S. Two ways lead to the far end:

- `run_linear` (and `run_descent` for any predictor) with steps scaled by the loss,
  :math:`\eta_t = a_t / L(\theta_t)`: the norm then grows like t rather than log t;
- `flow.gradient_flow`, whose steps are in the *logarithm* of time.

Run both in 64 bits (`jax.enable_x64`): an angle of 1e-6 to the limit is below what 32 bits resolve.
The references are those of `diagnostics`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from weighting._checks import check_choice, check_positive, check_range, check_vector
from weighting._types import PyTree
from weighting.implicit_bias.diagnostics import LOSSES, log_losses, log_slopes

STEP_RULES = ("constant", "loss_scaled", "loss_capped", "normalized")


class Trajectory(NamedTuple):
    """A run of gradient descent at its logged steps, T of them, each *before* the step is taken."""

    step: Array  # [T] integers, from 0 to num_steps
    log_time: Array  # [T], log of the sum of the step sizes so far; -inf at step 0
    log_loss: Array  # [T], log of the weighted risk
    log_gradient_norm: Array  # [T], log of its gradient's norm
    margin: Array  # [T], the smallest margin, not normalized
    norm: Array  # [T], of the parameters
    params: PyTree  # [T, ...]


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
    log_weights = log_mean_weights(weights, margins)
    dtype = margins.dtype
    log_rate = jnp.log(jnp.asarray(learning_rate, dtype))

    def evaluate(params):
        margins, pullback = jax.vjp(margins_fn, params)
        log_loss = jax.nn.logsumexp(log_weights + log_losses(margins, loss))
        log_scale, dual = log_scale_and_dual(log_weights, log_slopes(margins, loss))
        descent = pullback(dual)[0]  # sum_i q_i grad u_i; the negative gradient is exp(log_scale) x
        return margins, log_loss, log_scale, descent

    def one_step(count, carry):
        params, velocity, log_time = carry
        _, log_loss, log_scale, descent = evaluate(params)
        log_length = log_rate - decay * jnp.log1p(jnp.asarray(count, dtype))
        log_step = _log_step(step_rule, log_length, log_loss, log_scale, descent)
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


def _log_step(
    rule: str, log_length: Array, log_loss: Array, log_scale: Array, descent: PyTree
) -> Array:
    """log eta_t from log a_t, by the rule; the negative gradient is exp(log_scale) descent."""
    if rule == "loss_scaled":
        return log_length - log_loss
    if rule == "loss_capped":
        return log_length - jnp.maximum(log_loss, 0)
    if rule == "normalized":
        norm = optax.tree.norm(descent)
        return log_length - log_scale - jnp.log(jnp.where(norm > 0, norm, 1))
    return log_length


def run_linear(
    points: Array,
    weights: Array | None = None,
    *,
    num_steps: int,
    initial_params: Array | None = None,
    **options: Any,
) -> Trajectory:
    """`run_descent` for a linear predictor without intercept.

    Args:
      points: [N, D], inputs times their labels in {-1, 1}; their dtype is the run's.
      weights: [N], non-negative, default ones.
      num_steps: a Python integer.
      initial_params: [D], default zeros.
      **options: the others of `run_descent`: `learning_rate`, `step_rule`, `decay`, `momentum`,
        `loss`, `per_decade`.

    Returns:
      `Trajectory` with `params` [T, D].
    """
    start = initial_point(points, initial_params)
    return run_descent(
        lambda params: points @ params, start, weights, num_steps=num_steps, **options
    )


def log_mean_weights(weights: Array | None, margins: Array | jax.ShapeDtypeStruct) -> Array:
    """log(w / n), -inf for weight zero."""
    size = margins.shape[0]
    if weights is None:
        return jnp.full(size, -math.log(size), margins.dtype)
    if weights.shape != margins.shape:
        raise ValueError(f"weights {weights.shape} must hold one entry for each of {size} examples")
    return jnp.log(weights.astype(margins.dtype)) - math.log(size)


def log_scale_and_dual(log_weights: Array, slopes: Array) -> tuple[Array, Array]:
    """log S and q of the module's formula."""
    largest = jnp.max(slopes)
    terms = log_weights + (slopes - largest)
    return largest + jax.nn.logsumexp(terms), jax.nn.softmax(terms)


def initial_point(points: Array, initial_params: Array | None) -> Array:
    """Where a linear predictor of the points starts: zeros unless told; [D], in their dtype."""
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
