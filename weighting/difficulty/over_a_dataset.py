"""Runs a measure over a whole training set, in batches, for one network or for several.

A score function is pure: (params, batch) -> an array with one row per example of the batch, say
`lambda params, batch: error_probability(apply(params, batch[0]), batch[1])`. Rows must not depend
on the other examples of the batch (evaluate batch norm with its running statistics). Give the same
function object each time, not a new lambda: it is compiled once for each shape of its arguments.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from weighting._types import PyTree
from weighting.difficulty.several_networks import NetworkMean, mean_over_networks

ScoreFn = Callable[[PyTree, Any], Array]


@functools.partial(jax.jit, static_argnums=0, static_argnames="batch_size")
def score_dataset(
    score_fn: ScoreFn, params: PyTree, data: PyTree, *, batch_size: int = 256
) -> Array:
    """The scores of all examples, in the data set's order; [N, ...].

    All batches have the same size: the last is filled up with copies of the last example, whose
    scores are dropped.

    Args:
      score_fn: (params, batch) -> [B, ...].
      params: whatever the function needs: one network's parameters and batch-norm statistics, or
        several checkpoints' for a measure that compares them.
      data: array or pytree of arrays with leading axis N; a batch is its rows.
      batch_size: B; memory is that of one batch.

    Example:
      >>> import jax.numpy as jnp
      >>> score_dataset(lambda scale, x: scale * x**2, 2.0, jnp.arange(5.0), batch_size=2)
      Array([ 0.,  2.,  8., 18., 32.], dtype=float32)
    """
    num_examples = _num_examples(data)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batch_size = min(batch_size, num_examples)
    num_batches = -(-num_examples // batch_size)
    rows = jnp.minimum(jnp.arange(num_batches * batch_size), num_examples - 1)

    def one_batch(rows: Array) -> Array:
        scores = score_fn(params, jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data))
        if scores.shape[:1] != (batch_size,):
            raise ValueError(
                f"the score function must return one row per example, [{batch_size}, ...]; got "
                f"shape {scores.shape}"
            )
        return scores

    scores = jax.lax.map(one_batch, rows.reshape(num_batches, batch_size))
    return scores.reshape(-1, *scores.shape[2:])[:num_examples]


@functools.partial(jax.jit, static_argnums=0, static_argnames="batch_size")
def score_each_network(
    score_fn: ScoreFn, stacked_params: PyTree, data: PyTree, *, batch_size: int = 256
) -> Array:
    """The scores of all examples by each of R networks; [R, N, ...].

    With a function that returns logits it makes the input of `several_networks`. One network at
    a time.

    Args:
      score_fn: (params, batch) -> [B, ...].
      stacked_params: what `score_fn` needs of each network, stacked along a new first axis R.
      data: array or pytree of arrays with leading axis N.
      batch_size: B.
    """
    return jax.lax.map(
        lambda params: score_dataset(score_fn, params, data, batch_size=batch_size), stacked_params
    )


def score_networks(
    score_fn: ScoreFn, stacked_params: PyTree, data: PyTree, *, batch_size: int = 256
) -> NetworkMean:
    """The mean over R networks of all examples' scores, and its standard error; each [N, ...].

    Arguments as in `score_each_network`.
    """
    scores = score_each_network(score_fn, stacked_params, data, batch_size=batch_size)
    return mean_over_networks(scores)


def _num_examples(data: PyTree) -> int:
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            "data must be arrays with one common, non-empty leading axis [N]; got the leading axes "
            f"{sorted(sizes)}"
        )
    return sizes.pop()[0]
