r"""Every training example's generalization error, by repeated K-fold cross-validation.

zhou2022's universal measure of difficulty: the mean loss on :math:`x_i` of networks that were not
trained on it (Eq. 2). One K-fold run predicts each example once, so the mean and the variance over
training sets need R repeats with fresh folds (the paper's "five predictions" of one five-fold run
cannot be had). All K R networks train as one vectorized program, or a few at a time.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._checks import check_choice
from weighting._numbers import one_hot
from weighting._types import PyTree
from weighting.difficulty.bias_variance import (
    BiasVariance,
    cross_entropy_bias_variance,
    squared_bias_variance,
)

TrainFn = Callable[[Array, Any, Array, Array], PyTree]
PredictFn = Callable[[PyTree, Any], Array]

LOSSES = ("cross_entropy", "brier", "squared")


def kfold_assignments(
    key: Array, num_examples: int, num_folds: int, *, stratify: Array | None = None
) -> Array:
    """The fold, 0 to K - 1, in which each example is held out; [N].

    Folds are random and of equal size, up to one example. With class labels `stratify` [N] every
    class is spread equally as well, again up to one: the choice for rare classes.
    """
    if not 2 <= num_folds <= num_examples:
        raise ValueError(
            f"num_folds must lie in [2, {num_examples}], the number of examples; got {num_folds}"
        )
    order = jax.random.permutation(key, num_examples)
    if stratify is not None:
        order = order[jnp.argsort(jnp.asarray(stratify)[order], stable=True)]
    dealt = jnp.arange(num_examples, dtype=jnp.int32) % num_folds
    return jnp.zeros(num_examples, jnp.int32).at[order].set(dealt)


def cross_validated_predictions(
    train_fn: TrainFn,
    predict_fn: PredictFn,
    key: Array,
    inputs: PyTree,
    labels: Array,
    *,
    num_folds: int = 5,
    num_repeats: int = 5,
    stratify: bool = False,
    assignments: Array | None = None,
    models_at_once: int | None = None,
) -> Array:
    """What networks that never saw an example predict for it, once per repeat; [R, N, ...].

    Args:
      train_fn: (key, inputs [M, ...], labels [M], mask [M]) -> params: your training loop, in pure
        JAX. The mask is 1 for an example and 0 for padding, which repeats an example of the same
        training set (so even a function that ignores the mask learns nothing of the held-out fold).
        There is no padding if all folds are equally large. Rows keep the data set's order.
      predict_fn: (params, inputs [H, ...]) -> predictions [H, ...], such as logits.
      key: for the folds and for each network's own key.
      inputs: array or pytree of arrays with leading axis N.
      labels: [N] classes, or targets [N, ...].
      num_folds: K; each network trains on N - N/K examples.
      num_repeats: R, the number of times each example is held out.
      stratify: spread each class (`labels` [N]) equally over the folds.
      assignments: [R, N], the fold of each example in each repeat, concrete, in place of random
        ones. Folds may differ in size, say to keep groups together; none may be empty.
      models_at_once: how many of the K R networks train side by side; None is all. Memory is theirs
        plus as many copies of the training set.

    Returns:
      Held-out predictions [R, N, ...], in the data set's order: the input of `generalization_error`
      and, as an ensemble [R, N, C], of every measure in `several_networks`.

    Raises:
      ValueError: if the folds or the shapes make no sense.
    """
    num_examples = labels.shape[0]
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(inputs)}
    if sizes != {(num_examples,)}:
        raise ValueError(
            f"inputs must have the labels' leading axis, {num_examples}; got {sorted(sizes)}"
        )
    if num_repeats < 1 or (models_at_once is not None and models_at_once < 1):
        raise ValueError(
            "num_repeats and models_at_once must be at least 1; got "
            f"{num_repeats} and {models_at_once}"
        )
    fold_key, train_key = jax.random.split(key)
    if assignments is None:
        smallest, largest = num_examples // num_folds, -(-num_examples // num_folds)
        assignments = jax.vmap(
            lambda k: kfold_assignments(
                k, num_examples, num_folds, stratify=labels if stratify else None
            )
        )(jax.random.split(fold_key, num_repeats))
    else:
        num_folds, smallest, largest = _fold_sizes(assignments, num_examples)
    return _predict_held_out(
        train_fn,
        predict_fn,
        train_key,
        inputs,
        labels,
        jnp.asarray(assignments),
        num_folds=num_folds,
        num_trained_on=num_examples - smallest,
        num_held_out=largest,
        models_at_once=models_at_once,
    )


def generalization_error(
    predictions: Array, targets: Array, *, loss: str = "cross_entropy", mask: Array | None = None
) -> BiasVariance:
    """Each example's expected loss over training sets that lack it, with its parts (zhou2022, Eq.
    2).

    Args:
      predictions: [R, N, ...] held-out predictions, such as `cross_validated_predictions`.
      targets: [N] classes, or regression targets shaped like one network's predictions.
      loss: "cross_entropy" of logits [R, N, C]; "brier", the squared error of their softmax against
        one-hot labels; or "squared", of predictions and targets as they are.
      mask: [R, N], which networks were trained without which example, where not all were.

    Returns:
      `BiasVariance`, each field [N]: the error, the universal difficulty; its bias and variance
      parts; and the error's standard error over repeats (nan if R = 1). Folds of one repeat do not
      overlap but training sets do, so it understates the spread over fresh data.
    """
    check_choice("loss", loss, LOSSES)
    if loss == "cross_entropy":
        return cross_entropy_bias_variance(predictions, targets, mask=mask)
    if loss == "brier":
        truth = one_hot(targets, predictions.shape[-1], predictions.dtype)
        return squared_bias_variance(jax.nn.softmax(predictions, axis=-1), truth, mask=mask)
    return squared_bias_variance(predictions, targets, mask=mask)


@functools.partial(
    jax.jit,
    static_argnums=(0, 1),
    static_argnames=("num_folds", "num_trained_on", "num_held_out", "models_at_once"),
)
def _predict_held_out(
    train_fn: TrainFn,
    predict_fn: PredictFn,
    key: Array,
    inputs: PyTree,
    labels: Array,
    assignments: Array,
    *,
    num_folds: int,
    num_trained_on: int,
    num_held_out: int,
    models_at_once: int | None,
) -> Array:
    num_repeats, num_examples = assignments.shape

    def take(indices: Array) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], inputs)

    def one_network(number: Array) -> tuple[Array, Array]:
        """Trains network `number` of K R; its predictions [H, ...] and their places [H]."""
        is_held_out = assignments[number // num_folds] == number % num_folds
        order = jnp.argsort(is_held_out, stable=True)  # the training set, then the held-out fold
        first = order[:num_trained_on]
        mask = ~is_held_out[first]
        rows = jnp.where(mask, first, order[0])
        params = train_fn(
            jax.random.fold_in(key, number), take(rows), labels[rows], mask.astype(float)
        )
        last = order[num_examples - num_held_out :]
        places = jnp.where(is_held_out[last], last, num_examples)  # the others are dropped
        return predict_fn(params, take(last)), places

    numbers = jnp.arange(num_repeats * num_folds)
    if models_at_once is None:
        predictions, places = jax.vmap(one_network)(numbers)
    else:
        predictions, places = jax.lax.map(one_network, numbers, batch_size=models_at_once)

    def collect(places: Array, predictions: Array) -> Array:
        blank = jnp.zeros((num_examples, *predictions.shape[1:]), predictions.dtype)
        return blank.at[places].set(predictions, mode="drop")

    return jax.vmap(collect)(
        places.reshape(num_repeats, -1),
        predictions.reshape(num_repeats, num_folds * num_held_out, *predictions.shape[2:]),
    )


def _fold_sizes(assignments: Array, num_examples: int) -> tuple[int, int, int]:
    """The number of folds, and the sizes of the smallest and the largest."""
    if isinstance(assignments, Tracer):
        raise TypeError(
            "assignments must be a concrete array, because the folds' sizes set array shapes, but "
            "it is traced by jit or vmap. Close over it, or leave it out."
        )
    folds = np.asarray(assignments)
    if folds.ndim != 2 or folds.shape[1] != num_examples or not len(folds):
        raise ValueError(f"assignments must have shape [R, {num_examples}]; got {folds.shape}")
    if not np.issubdtype(folds.dtype, np.integer) or folds.min() < 0 or folds.max() < 1:
        raise ValueError("assignments must be integers from 0 to K - 1, with K of at least two")
    sizes = np.stack([np.bincount(row, minlength=folds.max() + 1) for row in folds])
    if not np.all((sizes > 0) & (sizes < num_examples)):
        raise ValueError(
            f"every fold needs an example in every repeat; the sizes are {sizes.tolist()}"
        )
    return sizes.shape[1], int(sizes.min()), int(sizes.max())
