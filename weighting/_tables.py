"""What tables keyed by example share: repeated indices, running moments, ranks."""

import jax.numpy as jnp
from jax import Array


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


def running_moments(
    count: Array, mean: Array, variance: Array, value: Array
) -> tuple[Array, Array, Array]:
    """Count, mean and (population) variance after one more value: Welford's recurrence."""
    count = count + 1
    deviation = value - mean
    mean = mean + deviation / count
    variance = variance + (deviation * (value - mean) - variance) / count
    return count, mean, variance


def mid_ranks(values: Array, keep: Array | None = None) -> Array:
    """Ascending ranks, 0 for the smallest of those kept; equal values share their average rank."""
    if keep is None:
        keep = jnp.ones(values.shape, bool)
    ordered = jnp.sort(jnp.where(keep, values, jnp.inf))
    num_below = jnp.searchsorted(ordered, values, side="left")
    num_up_to = jnp.minimum(jnp.searchsorted(ordered, values, side="right"), jnp.sum(keep))
    return (num_below + num_up_to - 1) / 2
