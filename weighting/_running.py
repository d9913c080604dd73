"""Statistics of a batch's valid losses, and their moving averages over the steps."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


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


def at_least_float32(values: Array) -> Array:
    """The values in float32, or in their own type if that is wider."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def whole_count(fraction: float | Array, count: int | Array) -> Array:
    """The fraction of a count, rounded up; 0.7 of 10 is 7 in spite of rounding."""
    product = jnp.asarray(fraction * count, float)
    return jnp.ceil(product * (1 - 4 * jnp.finfo(product.dtype).eps)).astype(jnp.int32)


def masked_quantile(values: Array, valid: Array, fraction: float | Array) -> Array:
    """The smallest value that at least the given fraction of the valid ones do not exceed.

    Always one of the values (no interpolation), so that doubling a batch does not move it; their
    minimum for fraction 0, zero if none is valid.
    """
    keep = valid > 0
    position = jnp.clip(whole_count(fraction, jnp.sum(keep)) - 1, 0)
    return jnp.where(jnp.any(keep), jnp.sort(jnp.where(keep, values, jnp.inf))[position], 0)
