"""Array arithmetic that schemes and difficulty measures share.

In this order: a batch's signals, or an error that names what is missing; weights as a scheme
returns them; ranks and quantiles among valid examples; tables [N] of one row per training example;
running averages; and weights that average to one within bounds.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import concrete, require
from weighting._numbers import at_least_float32, nan_if
from weighting._whole_batch import on_whole_batch
from weighting.base import Signals, mean_one

NUM_BISECTIONS = 64  # down to neighbouring floats
LARGEST_EXPONENT = 80.0  # no weight that averages to one comes near exp(80)


# --- a batch's signals ----------------------------------------------------------------------------


def read_indices(scheme: str, signals: Signals) -> Array:
    """The batch's positions in the training set, or an error that names the scheme."""
    return require(scheme, "signals.indices", signals.indices, "Give the batch its indices [B].")


def read_labels(scheme: str, signals: Signals) -> Array:
    """The batch's labels, or an error that names the scheme."""
    return require(scheme, "signals.labels", signals.labels, "Give the labels [B].")


def read_logits(scheme: str, signals: Signals) -> Array:
    """The batch's logits, or an error that names the scheme."""
    return require(scheme, "signals.logits", signals.logits, "Give the logits [B, C].")


def read_features(scheme: str, signals: Signals) -> Array:
    """The batch's features, or an error that names the scheme."""
    remedy = "Return ModelOutput(logits, features)."
    return require(scheme, "signals.features", signals.features, remedy)


# --- weights and numbers --------------------------------------------------------------------------


def finish(weights: Array, signals: Signals, normalize: bool) -> Array:
    """Mean one over the batch, or the native scale with padding at zero; in the losses' dtype."""
    weights = mean_one(weights, signals.valid) if normalize else weights * signals.valid
    return weights.astype(signals.losses.dtype)


def safe_sqrt(squares: Array) -> Array:
    """Square root with gradient zero, not infinity, at zero."""
    is_zero = squares == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squares)))


# --- ranks and quantiles --------------------------------------------------------------------------


@on_whole_batch
def descending_rank(values: Array, among: Array) -> Array:
    """Rank of each value among the selected examples, 0 for the largest; ties by position."""
    order = jnp.argsort(jnp.where(among, -values, jnp.inf), stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.size))


@on_whole_batch
def mid_ranks(values: Array, keep: Array | None = None) -> Array:
    """Ascending ranks, 0 for the smallest of those kept; equal values share their average rank."""
    if keep is None:
        keep = jnp.ones(values.shape, bool)
    ordered = jnp.sort(jnp.where(keep, values, jnp.inf))
    num_below = jnp.searchsorted(ordered, values, side="left")
    num_up_to = jnp.minimum(jnp.searchsorted(ordered, values, side="right"), jnp.sum(keep))
    return (num_below + num_up_to - 1) / 2


def whole_count(fraction: float | Array, count: int | Array) -> Array:
    """The fraction of a count, rounded up; 0.7 of 10 is 7 in spite of rounding."""
    product = jnp.asarray(fraction * count, float)
    return jnp.ceil(product * (1 - 4 * jnp.finfo(product.dtype).eps)).astype(jnp.int32)


@on_whole_batch
def masked_quantile(values: Array, valid: Array, fraction: float | Array) -> Array:
    """The smallest value that at least the given fraction of the valid ones do not exceed.

    Always one of the values (no interpolation), so that doubling a batch does not move it; their
    minimum for fraction 0, zero if none is valid.
    """
    keep = valid > 0
    position = jnp.clip(whole_count(fraction, jnp.sum(keep)) - 1, 0)
    return jnp.where(jnp.any(keep), jnp.sort(jnp.where(keep, values, jnp.inf))[position], 0)


# --- tables with a row per training example -------------------------------------------------------


@on_whole_batch
def last_occurrence(indices: Array, valid: Array) -> Array:
    """True [B] at the last valid position of every index, so that one write per example is left.

    Scattering several values to one index keeps an unspecified one of them.
    """
    padding = jnp.iinfo(indices.dtype).max
    targets = jnp.where(valid > 0, indices, padding)
    order = jnp.argsort(targets, stable=True)
    ordered = targets[order]
    is_last = jnp.append(ordered[1:] != ordered[:-1], True)
    return jnp.zeros(indices.shape, bool).at[order].set(is_last) & (valid > 0)


def write(table: Array, indices: Array, valid: Array, values: Array) -> Array:
    """A copy of the table [N, ...] with the valid rows of `values` [B, ...] at their indices.

    Padding may repeat a real index, so its writes go out of bounds, where they are dropped.
    """
    target = jnp.where(valid > 0, indices, table.shape[0])
    return table.at[target].set(values.astype(table.dtype), mode="drop")


# --- running averages -----------------------------------------------------------------------------


def running_moments(
    count: Array, mean: Array, variance: Array, value: Array
) -> tuple[Array, Array, Array]:
    """Count, mean and (population) variance after one more value: Welford's recurrence."""
    count = count + 1
    deviation = value - mean
    mean = mean + deviation / count
    variance = variance + (deviation * (value - mean) - variance) / count
    return count, mean, variance


class RunningAverage(NamedTuple):
    """An exponential moving average of a scalar or array, corrected for its start at zero."""

    average: Array
    count: Array  # [] batches seen


def init_average(shape: tuple[int, ...] = ()) -> RunningAverage:
    """The average of nothing yet."""
    return RunningAverage(jnp.zeros(shape), jnp.zeros((), jnp.int32))


def update_average(
    state: RunningAverage, value: Array, decay: float | Array, present: Array
) -> tuple[Array, RunningAverage]:
    r"""The average with the new value in it, and the state.

    Dividing the usual average by :math:`1 - d^t` at step t is the same as moving by
    :math:`(1 - d) / (1 - d^t)` towards each value: the first average is the first value, and a
    constant stays what it is to the last bit. Where `present` is false (an empty batch), nothing
    moves.
    """
    count = state.count + present
    rate = jnp.where(count <= 1, 1, (1 - decay) / (1 - decay ** jnp.maximum(count, 1)))
    rate = jnp.where(present, rate, 0)
    average = (state.average + rate * (value - state.average)).astype(state.average.dtype)
    return average, RunningAverage(average, count)


# --- weights that average to one within bounds ----------------------------------------------------


def check_bounds(low: Any, high: Any) -> None:
    """Refuses bounds between which no weights average to one, and NaN."""
    low, high = concrete(low), concrete(high)
    if not ((low is None or 0 <= low <= 1) and (high is None or high >= 1)):
        raise ValueError(
            f"bounds must satisfy 0 <= b <= 1 <= B, got b = {low}, B = {high}: otherwise no "
            "weights between them average to one"
        )


@on_whole_batch
def bounded_mean_one(
    log_scores: Array, low: float | Array, high: float | Array, keep: Array | None = None
) -> Array:
    r"""clip(c exp(s), low, high) with the scale c > 0 that makes the mean one.

    The mean falls as the threshold -log c rises from the smallest score, where no unclipped weight
    is below one, to the largest, where none is above. Bisection finds which entries sit at a bound;
    the scale of the others then follows in closed form, to round-off and differentiably. Clipping
    after scaling, by contrast, moves the mean, and scaling after clipping breaks the bounds.

    Args:
      log_scores: s [N], finite; logarithms, so that nothing overflows. A NaN makes all NaN.
      low: smallest weight, in [0, 1].
      high: largest weight, at least 1; may be infinite.
      keep: [N] boolean; the others get weight zero and do not count.

    Returns:
      Weights [N], at least float32.
    """
    scores = at_least_float32(log_scores)
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
    weights = jnp.where(left_error <= right_error, left, right)
    return nan_if(jnp.any(jnp.isnan(scores)), weights)


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
