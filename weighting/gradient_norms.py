r"""Squared gradient norms per example: of the logits, the last layer, all parameters.

From cheapest to exact. The logit gradient is LOW's proxy (santiago2021, Sec. 3.2); the last layer's
follows from it in closed form; the norms over all parameters are the row norms of the Jacobian J of
the loss vector, computed in bounded memory.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._types import ExampleLossFn, LossFn, PyTree
from weighting.linearize import LinearizedLosses


def logit_gradients(loss_fn: LossFn, logits: Array, labels: Array) -> Array:
    """Gradient of each example's own loss with respect to its logits, shaped like the logits.

    Each loss depends on its own row of logits alone, so one backward pass of the sum gives all
    rows. Works for any per-example loss, class weights and focal factors included.
    """
    return jax.grad(lambda z: jnp.sum(loss_fn(z, labels)))(logits)


def logit_gradient_norms(loss_fn: LossFn, logits: Array, labels: Array) -> Array:
    r"""Norms :math:`\|\partial \ell_j / \partial z_j\|^2` of the logits, LOW's proxy; [B]."""
    return _row_square(logit_gradients(loss_fn, logits, labels))


def last_layer_gradient_norms(
    loss_fn: LossFn, logits: Array, labels: Array, features: Array, *, bias: bool = True
) -> Array:
    r"""Squared gradient norms over a dense last layer, in closed form; [B].

    For :math:`z = W^\top h + b` the gradients are :math:`h g^\top` and :math:`g`, with g the logit
    gradient, so the squared norm is :math:`\|g\|^2 (\|h\|^2 + 1)`, without the one if `bias=False`.
    """
    return logit_gradient_norms(loss_fn, logits, labels) * (_row_square(features) + bias)


def per_example_gradient_norms(
    example_loss_fn: ExampleLossFn,
    params: PyTree,
    examples: PyTree,
    *,
    chunk_size: int = 32,
) -> Array:
    """Squared gradient norms over all parameters, for models whose examples do not interact; [B].

    Gradients are formed for `chunk_size` examples at a time: memory chunk_size x P, and about the
    arithmetic of one ordinary gradient. With batch norm an example's loss depends on the others;
    use `jacobian_row_norms` there.

    Args:
      example_loss_fn: (params, example) -> scalar loss of one example.
      params: pytree of parameters, P numbers in all.
      examples: pytree of arrays with leading axis B, such as (inputs, labels).
      chunk_size: examples per chunk.
    """

    def squared_norm(example: Any) -> Array:
        return optax.tree.norm(jax.grad(example_loss_fn)(params, example), squared=True)

    return jax.lax.map(squared_norm, examples, batch_size=chunk_size)


def jacobian_row_norms(linearized: LinearizedLosses, *, chunk_size: int = 8) -> Array:
    """Squared row norms of the Jacobian: exact for every model, batch norm and dropout included;
    [B].

    Pulls back one unit vector per example, `chunk_size` at a time: memory chunk_size x P, but the
    arithmetic of B backward passes over the whole batch.
    """
    num_examples = linearized.values.shape[0]

    def squared_norm(index: Array) -> Array:
        unit = jax.nn.one_hot(index, num_examples, dtype=linearized.values.dtype)
        return optax.tree.norm(linearized.vjp(unit), squared=True)

    return jax.lax.map(squared_norm, jnp.arange(num_examples), batch_size=chunk_size)


def _row_square(rows: Array) -> Array:
    return jnp.sum(rows.reshape(rows.shape[0], -1) ** 2, axis=1)
