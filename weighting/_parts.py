"""Small pieces that several schemes share: scaling, ranks, and tables keyed by example."""

import jax.numpy as jnp
from jax import Array

from weighting._checks import require
from weighting.base import Signals, mean_one


def finish(weights: Array, signals: Signals, normalize: bool) -> Array:
    """Mean one over the batch, or the native scale with padding at zero; in the losses' dtype."""
    weights = mean_one(weights, signals.valid) if normalize else weights * signals.valid
    return weights.astype(signals.losses.dtype)


def descending_rank(values: Array, among: Array) -> Array:
    """Rank of each value among the selected examples, 0 for the largest; ties by position."""
    order = jnp.argsort(jnp.where(among, -values, jnp.inf), stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.size))


def read_indices(scheme: str, signals: Signals) -> Array:
    """The batch's positions in the training set, or an error that names the scheme."""
    return require(scheme, "signals.indices", signals.indices, "Give the batch its indices [B].")


def read_labels(scheme: str, signals: Signals) -> Array:
    """The batch's labels, or an error that names the scheme."""
    return require(scheme, "signals.labels", signals.labels, "Give the labels [B].")


def read_logits(scheme: str, signals: Signals) -> Array:
    """The batch's logits, or an error that names the scheme."""
    return require(scheme, "signals.logits", signals.logits, "Give the logits [B, C].")


def write(table: Array, indices: Array, valid: Array, values: Array) -> Array:
    """A copy of the table [N, ...] with the valid rows of `values` [B, ...] at their indices.

    Padding may repeat a real index, so its writes go out of bounds, where they are dropped.
    """
    target = jnp.where(valid > 0, indices, table.shape[0])
    return table.at[target].set(values.astype(table.dtype), mode="drop")
