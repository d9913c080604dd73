"""SuperLoss: how much to trust each loss, in closed form by Lambert's W (Castells et al., 2020)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import finish, init_average, update_average
from weighting._checks import check_positive, check_range
from weighting._numbers import at_least_float32
from weighting.base import EmptyState, Signals, Weighting, guarded
from weighting.linearize import masked_mean

NUM_NEWTON_STEPS = 4  # quadratic convergence from within a few percent
INVERSE_E_REST = -1.2428753672788363e-17  # 1/e - fl(1/e) in float64


@jax.custom_jvp
@jax.jit
def lambert_w(x: Array) -> Array:
    r"""The principal branch of Lambert's W: the solution w >= -1 of :math:`w e^w = x`.

    Accurate to a few units of float rounding for all x >= -1/e, with a fixed number of steps. At
    the branch point -1/e the value is -1 and the derivative infinite; nan below.

    Args:
      x: any shape, >= -1/e.

    Returns:
      W(x), in the floating-point type of x, at least float32.

    Example:
      >>> import jax.numpy as jnp
      >>> lambert_w(jnp.array([0.0, jnp.e]))
      Array([0., 1.], dtype=float32)
    """
    x = at_least_float32(jnp.asarray(x))
    near_branch = x < -0.25
    above = jnp.maximum(_above_branch_point(jnp.where(near_branch, x, 0)), 0)
    p = jnp.sqrt(2 * above)
    from_branch = p * (1 - p / 3 + 11 / 72 * p**2)  # 1 + W by its series at the branch point
    logarithm = jnp.log1p(jnp.where(near_branch, 0, x))
    away = logarithm * (1 - jnp.log1p(logarithm) / (2 + logarithm))
    for _ in range(NUM_NEWTON_STEPS):
        from_branch = _newton_near_branch(from_branch, above)
        away = _newton_away(away, x)
    w = jnp.where(near_branch, from_branch - 1, away)
    return jnp.where(x < -_inverse_e(x.dtype)[0], jnp.nan, w)


@lambert_w.defjvp
def _lambert_w_jvp(primals, tangents):
    w = lambert_w(primals[0])
    return w, (tangents[0] * jnp.exp(-w) / (1 + w)).astype(w.dtype)


def superloss(
    regularization: float | Array = 1.0,
    threshold: float | Array | None = None,
    *,
    decay: float | Array = 0.9,
    normalize: bool = True,
) -> Weighting:
    r"""SuperLoss: trusts easy examples more and hard ones less (Castells et al., 2020).

    The weights are the confidences that minimize :math:`(\ell_i - \tau) \sigma + \lambda
    \log^2 \sigma`,

    .. math:: \sigma_i = \exp\!\left(-W\!\left(\tfrac12 \max\left(-\tfrac2e,
        \frac{\ell_i - \tau}{\lambda}\right)\right)\right)

    with Lambert's W: one at :math:`\ell = \tau`, at most e, falling towards zero for large losses.
    A large regularization is uniform; a small one weighs losses below tau by e and drops the rest.
    The minimum's derivative by the loss is :math:`\sigma_i`, so training with these weights, though
    constant in the backward pass, is training on the SuperLoss.

    Args:
      regularization: lambda > 0, in units of the loss; the paper uses 0.25 and 1.
      threshold: tau, what separates easy from hard; log C suits cross-entropy. None takes a moving
        average of the batches' mean losses, the present batch included, corrected for its start.
      decay: in [0, 1), of that average.
      normalize: to mean one over the batch; False gives the native confidences in (0, e].

    Returns:
      A `Weighting`. Reads: losses. State: the average loss; none with a threshold. Cost: O(B).

    References:
      Castells, Weinzaepfel, Revaud, "SuperLoss: A Generic Loss for Robust Curriculum Learning",
      NeurIPS 2020.
    """
    check_positive("regularization", regularization)
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)
    if threshold is not None:
        check_range("threshold", threshold)

    def init_fn(key, params):
        del key, params
        return init_average() if threshold is None else EmptyState()

    def update_fn(weights: Array, state: Any, signals: Signals, **extra: Any):
        losses = at_least_float32(signals.losses)
        if threshold is None:
            present = jnp.any(signals.valid > 0)
            tau, state = update_average(state, masked_mean(losses, signals.valid), decay, present)
        else:
            tau = threshold
        own = _confidence((losses - tau) / (2 * regularization))
        return finish(weights * own, signals, normalize), state

    return guarded(init_fn, update_fn)


def _confidence(excess: Array) -> Array:
    """exp(-W(max(-1/e, x))): e where the maximum is active, with gradient zero."""
    inside = excess > -_inverse_e(excess.dtype)[0]
    return jnp.where(inside, jnp.exp(-lambert_w(jnp.where(inside, excess, 0))), math.e)


def _inverse_e(dtype: Any) -> tuple[float, float]:
    """1/e rounded to the type, and what is missing."""
    head = float(jnp.dtype(dtype).type(math.exp(-1)))
    return head, (math.exp(-1) - head) + INVERSE_E_REST


def _above_branch_point(x: Array) -> Array:
    """1 + e x, without cancellation. (XLA would merge the constants of (x + head) + rest.)"""
    head, rest = _inverse_e(x.dtype)
    return math.e * (x + head) + math.e * rest


def _newton_near_branch(u: Array, above: Array) -> Array:
    r"""A step for u = 1 + W from :math:`u e^u - (e^u - 1) = 1 + e x`, well conditioned at u = 0."""
    residual = u * jnp.exp(u) - jnp.expm1(u) - above
    positive = u > 0
    step = residual / jnp.where(positive, u * jnp.exp(u), 1)
    return jnp.where(positive, jnp.maximum(u - step, 0), 0)


def _newton_away(w: Array, x: Array) -> Array:
    r"""A step from :math:`w + \log w = \log x`, which cannot overflow (Iacono and Boyd, 2017)."""
    nonzero = (w != 0) & (w * x > 0)
    ratio = jnp.where(nonzero, x / jnp.where(nonzero, w, 1), 1)
    return jnp.where(nonzero, w * (1 + jnp.log(ratio)) / (1 + w), w)
