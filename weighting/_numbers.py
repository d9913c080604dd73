"""Numbers as every public function takes them: floats where it divides, NaN where a row is missing.

**NaN.** A NaN in an example that counts reaches its weight, so that whoever looks at the weights or
the loss sees it. A NaN in padding reaches nothing: what padding holds is replaced before it is
read, not multiplied by zero afterwards (0 * NaN is NaN).

**Out of range.** A label or position for which a table has no row gives NaN, the answer of
`losses.cross_entropy`; it is never clamped to the last row, nor counted from the end.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def as_float(values: Array) -> Array:
    """Integers and booleans in the default floating-point type; floats as they are."""
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.inexact) else values.astype(float)


def at_least_float32(values: Array) -> Array:
    """The values in float32, or in their own floating-point type if that is wider."""
    values = as_float(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def in_range(indices: Array, size: int) -> Array:
    """True where a table of this size has the row."""
    indices = jnp.asarray(indices)
    indices = indices.astype(jnp.promote_types(indices.dtype, jnp.int32))  # the size may not fit
    return (indices >= 0) & (indices < size)


def one_hot(labels: Array, num_classes: int, dtype: Any = float) -> Array:
    """Rows [..., C] with a one at the label; NaN for a label that is none of the C classes."""
    rows = jax.nn.one_hot(labels, num_classes, dtype=dtype)
    return nan_if(~in_range(labels, num_classes)[..., None], rows)


def lookup(table: Array, indices: Array) -> Array:
    """Rows of a table [N, ...]; NaN (zero, if it holds integers) where there is no such row."""
    fill = jnp.nan if jnp.issubdtype(table.dtype, jnp.inexact) else 0
    positions = jnp.where(indices < 0, table.shape[0], indices)  # or they count from the end
    return table.at[positions].get(mode="fill", fill_value=fill)


def nan_if(missing: Array, values: Array) -> Array:
    """The values, and NaN where (or, of a scalar, everywhere if) something is missing."""
    return jnp.where(missing, jnp.nan, values).astype(values.dtype)


def keep_rows(valid: Array, values: Array) -> Array:
    """The rows [B, ...] of examples that count, zero in the place of padding."""
    rows = valid.reshape(valid.shape + (1,) * (values.ndim - 1))
    return jnp.where(rows, values, jnp.zeros((), values.dtype))
