r"""Weighted empirical risk minimization as one linear map, built once per batch.

For a batch of B examples and parameters :math:`\theta` the losses are a vector
:math:`\ell(\theta) \in \mathbb{R}^B` with Jacobian :math:`J` (B x P). The gradient of the weighted
risk :math:`\frac{1}{B}\sum_i w_i \ell_i` at fixed weights is the pullback :math:`J^\top w / B`, the
effect of a direction :math:`v` on every example is :math:`J v`, and gradient norms are row norms of
:math:`J`. One forward pass serves them all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_vector
from weighting._numbers import as_float, keep_rows
from weighting._types import PyTree


class LinearizedLosses(NamedTuple):
    """The loss vector of a batch and its Jacobian J, as linear maps at fixed parameters."""

    values: Array  # [B] per-example losses
    jvp: Callable[[PyTree], Array]  # tangent of the parameters -> J v, [B]
    vjp: Callable[[Array], PyTree]  # weights [B] -> J^T w, shaped like the parameters
    aux: PyTree = None  # whatever else the forward pass returned (logits, batch-norm state, ...)
    squared_row_norms: Callable[[], Array] | None = None  # of J, [B]; from `linearize_layers` only


def linearize_losses(
    losses_fn: Callable[[PyTree], Any], params: PyTree, *, has_aux: bool = False
) -> LinearizedLosses:
    """Runs the forward pass once and returns the losses with their Jacobian as two linear maps.

    Args:
      losses_fn: params -> losses [B], or -> (losses, aux) with `has_aux`. Batch-norm statistics,
        logits and other outputs travel through aux.
      params: pytree of floating-point arrays.
      has_aux: whether `losses_fn` returns a pair.

    Returns:
      `LinearizedLosses`. `vjp` is `jax.vjp`'s, so that plain ERM costs exactly what
      `jax.value_and_grad` costs; `jvp` is its transpose, so that it works for models with a
      `jax.custom_vjp` too (whose backward pass must be made of transposable operations). Neither
      repeats the forward pass.

    Raises:
      ValueError: if the losses are not a vector.

    Example:
      >>> import jax.numpy as jnp
      >>> inputs = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> lin = linearize_losses(lambda w: (inputs @ w) ** 2, jnp.array([1.0, 1.0]))
      >>> lin.values
      Array([1., 4.], dtype=float32)
      >>> lin.jvp(jnp.array([1.0, 0.0]))
      Array([2., 0.], dtype=float32)
      >>> lin.vjp(jnp.array([1.0, 1.0]))
      Array([2., 8.], dtype=float32)
    """
    if has_aux:
        values, pullback, aux = jax.vjp(losses_fn, params, has_aux=True)
    else:
        (values, pullback), aux = jax.vjp(losses_fn, params), None
    check_vector("losses", values)

    def vjp(weights: Array) -> PyTree:
        return pullback(weights.astype(values.dtype))[0]

    def jvp(tangent: PyTree) -> Array:
        return jax.linear_transpose(vjp, values)(tangent)[0]

    return LinearizedLosses(values, jvp, vjp, aux)


def masked_mean(values: Array, mask: Array | None = None) -> Array:
    """Mean over the entries that the mask keeps; zero if it keeps none.

    What the mask drops may be anything, NaN included.
    """
    values = as_float(values)
    if mask is None:
        return jnp.mean(values)
    keep = mask > 0
    count = jnp.sum(keep).astype(values.dtype)
    return jnp.sum(keep_rows(keep, values)) / jnp.maximum(count, 1)


def weighted_risk(losses: Array, weights: Array, mask: Array | None = None) -> Array:
    r"""The weighted empirical risk :math:`\frac{1}{n}\sum_i w_i \ell_i` over the n unmasked
    examples.

    With weights that average to one, a learning rate keeps its meaning from scheme to scheme.
    Papers that write :math:`\sum_i w_i \ell_i` with weights that sum to one (ren2018 Eq. 3, xu2021
    App. A.4) mean the same number.

    Args:
      losses: [B] per-example losses.
      weights: [B] sample weights.
      mask: [B], 0 marks padding.
    """
    check_vector("losses", losses)
    if weights.shape != losses.shape:
        raise ValueError(
            f"weights {weights.shape} and losses {losses.shape} must have equal shapes"
        )
    return masked_mean(as_float(weights) * losses, mask)
