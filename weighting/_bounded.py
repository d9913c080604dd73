"""Weights that average to one and stay within bounds, both exactly."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import concrete

NUM_BISECTIONS = 64  # down to neighbouring floats
LARGEST_EXPONENT = 80.0  # no weight that averages to one comes near exp(80)


def check_bounds(low: Any, high: Any) -> None:
    """Refuses bounds between which no weights average to one, and NaN."""
    low, high = concrete(low), concrete(high)
    if not ((low is None or 0 <= low <= 1) and (high is None or high >= 1)):
        raise ValueError(
            f"bounds must satisfy 0 <= b <= 1 <= B, got b = {low}, B = {high}: otherwise no "
            "weights between them average to one"
        )


def bounded_mean_one(
    log_scores: Array, low: float | Array, high: float | Array, keep: Array | None = None
) -> Array:
    r"""clip(c exp(s), low, high) with the scale c > 0 that makes the mean one.

    The mean falls as the threshold -log c rises from the smallest score, where no unclipped weight
    is below one, to the largest, where none is above. Bisection finds which entries sit at a bound;
    the scale of the others then follows in closed form, to round-off and differentiably. Clipping
    after scaling, by contrast, moves the mean, and scaling after clipping breaks the bounds.

    Args:
      log_scores: s [N], finite; logarithms, so that nothing overflows.
      low: smallest weight, in [0, 1].
      high: largest weight, at least 1; may be infinite.
      keep: [N] boolean; the others get weight zero and do not count.

    Returns:
      Weights [N], at least float32.
    """
    scores = log_scores.astype(jnp.promote_types(log_scores.dtype, jnp.float32))
    keep = jnp.ones(scores.shape, bool) if keep is None else keep
    scores = jnp.where(keep, scores, 0)
    count = jnp.maximum(jnp.sum(keep), 1).astype(scores.dtype)
    fixed, fixed_low, fixed_high = jax.lax.stop_gradient((scores, low, high))

    def total(threshold):
        weights = jnp.clip(jnp.exp(fixed - threshold), fixed_low, fixed_high)
        return jnp.sum(jnp.where(keep, weights, 0))

    def halve(_, bracket):
        left, right = bracket
        middle = left + (right - left) / 2
        is_left = total(middle) > count
        return jnp.where(is_left, middle, left), jnp.where(is_left, right, middle)

    bracket = (jnp.min(fixed), jnp.max(fixed))
    ends = jax.lax.fori_loop(0, NUM_BISECTIONS, halve, bracket)
    # Neighbouring floats may still differ by more than the width of exp: try both.
    left, right = (_solve_free(scores - end, low, high, keep, count) for end in ends)
    left_error, right_error = (jnp.abs(jnp.sum(weights) - count) for weights in (left, right))
    return jnp.where(left_error <= right_error, left, right)


def _solve_free(scores, low, high, keep, count):
    """Weights that average to one if the entries of exp(scores) at a bound stay there."""
    weights = jax.lax.stop_gradient(jnp.exp(scores))
    at_low, at_high = keep & (weights <= low), keep & (weights >= high)
    free = keep & ~at_low & ~at_high
    num_high = jnp.sum(at_high)
    rest = count - low * jnp.sum(at_low) - jnp.where(num_high > 0, high, 0) * num_high
    solvable = jnp.any(free) & (rest > 0)
    log_total = jax.nn.logsumexp(jnp.where(free | ~solvable, scores, -jnp.inf))
    shift = jnp.where(solvable, jnp.log(jnp.where(solvable, rest, 1)) - log_total, 0)
    log_weights = jnp.minimum(scores + shift, LARGEST_EXPONENT)  # 0 * inf in the derivative
    return jnp.where(keep, jnp.clip(jnp.exp(log_weights), low, high), 0)
