r"""Weights from inner products of gradients: with the batch, with the clean loss, with each other.

With J the Jacobian of the loss vector, :math:`J v` aligns every example with a direction v and
:math:`J J^\top` every example with every other. (The alignment with the clean gradient alone is
`lookahead.fast_scores`.)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import finish, read_features, read_labels, read_logits, whole_count
from weighting._checks import (
    check_choice,
    check_positive,
    check_range,
    check_vector,
    require,
    require_clean_loss,
)
from weighting._numbers import as_float, at_least_float32, nan_if
from weighting._types import LossFn
from weighting.base import Signals, Weighting, is_valid, mean_one, stateless, valid_of
from weighting.gradient_norms import logit_gradients
from weighting.linearize import LinearizedLosses
from weighting.schemes.low import low_weights

GRADIENTS = ("last_layer", "parameters")


def batch_alignment_scores(linearized: LinearizedLosses, *, mask: Array | None = None) -> Array:
    r"""Alignment of each gradient with the batch's mean gradient, :math:`J J^\top 1 / n`; [B].

    To first order, and per unit of learning rate, what a step on example j alone takes off the
    batch's mean loss. One pullback and one J v.

    Args:
      linearized: the losses of the batch.
      mask: [B], 0 marks padding; n counts the others.
    """
    values = linearized.values
    valid = valid_of(mask, values)
    return linearized.jvp(linearized.vjp(valid / jnp.maximum(jnp.sum(valid), 1)))


def batch_alignment(regularization: float | Array) -> Weighting:
    r"""LOW with cross terms: the weights whose step decreases the whole batch's loss most.

    LOW's program (`low_weights`) with

    .. math:: g_j = \frac1n \nabla\ell_j^\top \sum_k \nabla\ell_k

    in the place of :math:`\|\nabla\ell_j\|^2`: the decrease of the batch's mean loss along a step
    on j, which the squared norm is for a batch of one. Examples that speak for many gain; those
    whose gradient opposes the others' lose. A large regularization is uniform, a small one keeps
    the best example alone.

    Args:
      regularization: lambda > 0, in units of a squared gradient norm over all parameters.

    Returns:
      A `Weighting`. Reads: `linearized`. State: none. Scale: mean one. Cost: one backward and about
      two forward passes of the batch.

    References:
      Santiago et al., "LOW: Training deep neural networks by learning optimal sample weights",
      Pattern Recognition 110, 2021, Eqs. (4)-(9), derived there for a batch of one and used
      without the cross terms, which are ours.
    """
    check_positive("regularization", regularization)

    def update(weights: Array, signals: Signals, *, linearized: Any = None, **extra: Any) -> Array:
        linearized = require("batch_alignment()", "linearized", linearized)
        scores = batch_alignment_scores(linearized, mask=signals.valid)
        own = low_weights(at_least_float32(scores), regularization, mask=signals.valid)
        return (weights * own).astype(signals.losses.dtype)

    return stateless(update)


def jacobian_gram(linearized: LinearizedLosses, *, chunk_size: int = 8) -> Array:
    r"""Inner products of all pairs of gradients, :math:`J J^\top`; [B, B].

    Exact for every model, batch norm and dropout included. Each row is one pullback and one J v:
    memory chunk_size x P, and the arithmetic of B backward passes over the whole batch.
    """
    size, dtype = linearized.values.shape[0], linearized.values.dtype

    def row(index: Array) -> Array:
        return linearized.jvp(linearized.vjp(jax.nn.one_hot(index, size, dtype=dtype)))

    return jax.lax.map(row, jnp.arange(size), batch_size=chunk_size)


def last_layer_gram(
    loss_fn: LossFn,
    logits: Array,
    labels: Array,
    features: Array,
    *,
    bias: bool = True,
) -> Array:
    r"""Inner products of all pairs of gradients of a dense last layer, in closed form; [B, B].

    The gradients are :math:`h_i g_i^\top`, and :math:`g_i` for the bias, so that the products are
    :math:`(g_i^\top g_j)(h_i^\top h_j + 1)`, without the one if `bias=False`.

    Args:
      loss_fn: (logits, labels) -> losses [B].
      logits: [B, C].
      labels: [B].
      features: h [B, D], inputs of the last layer.
      bias: whether the layer has one.
    """
    slopes, inputs = (
        rows.reshape(rows.shape[0], -1)
        for rows in (logit_gradients(loss_fn, logits, labels), features)
    )
    return (slopes @ slopes.T) * (inputs @ inputs.T + bias)


def greedy_alignment_weights(
    scores: Array,
    gram: Array,
    num_selected: int | Array,
    *,
    step_size: float | Array = 1.0,
    mask: Array | None = None,
    normalize: bool = True,
) -> Array:
    r"""Greedy choice of k examples whose joint step lowers the clean loss most.

    After steps on the examples S the parameters are

    .. math:: \theta_S = \theta - \alpha \sum_{j \in S} \nabla\ell_j.

    One more, on i, lowers the clean loss G to first order by
    :math:`\alpha \nabla\ell_i^\top \nabla G(\theta_S)`; with
    :math:`\nabla G(\theta_S) \approx v - \alpha H \sum_{j \in S} \nabla\ell_j` and H the identity
    that is

    .. math:: \alpha \Big( (J v)_i - \alpha \sum_{j \in S} (J J^\top)_{ij} \Big).

    Each round takes the example with the largest gain, negative or not, so that near copies of what
    was chosen come last. The gains add up to :math:`\alpha \sum_{i \in S} (J v)_i - \alpha^2
    \sum_{i < j \in S} (J J^\top)_{ij}`. A step size tending to zero takes the k largest scores.
    Ties go to the first in the batch.

    Args:
      scores: J v [B], v the clean gradient.
      gram: J J^T [B, B].
      num_selected: k >= 1; all examples if there are fewer.
      step_size: alpha >= 0, the step on *each* example: learning rate / k for the mean over k.
      mask: [B], 0 marks padding.
      normalize: to mean one over the unmasked examples; False gives zeros and ones.

    Returns:
      Weights [B], equal for the chosen examples and zero for the others.

    References:
      Wang, Wu, Song, Mittal, Jia, "GREATS: Online Selection of High-Quality Data for LLM Training
      in Every Iteration", NeurIPS 2024: the greedy choice, the gain without the example's own
      curvature term, and the identity for the Hessian.

    Example:
      >>> import jax.numpy as jnp
      >>> gradients = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.9]])  # two copies, another
      >>> scores = gradients @ jnp.array([1.0, 1.0])
      >>> greedy_alignment_weights(scores, gradients @ gradients.T, 2)
      Array([1.5, 0. , 1.5], dtype=float32)
    """
    check_vector("scores", scores)
    scores = as_float(scores)
    check_positive("num_selected", num_selected)
    check_range("step_size", step_size, low=0.0)
    if gram.shape != scores.shape * 2:
        raise ValueError(f"gram must be [B, B] for scores {scores.shape}, got {gram.shape}")
    valid = is_valid(mask, scores)
    num_rounds = jnp.minimum(num_selected, jnp.sum(valid))

    def choose(round_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, gains = carry
        best = jnp.argmax(jnp.where(valid & ~chosen, gains, -jnp.inf))
        going = round_ < num_rounds
        taken = (jnp.arange(chosen.size) == best) & going
        return chosen | taken, gains - jnp.where(going, step_size * gram[best], 0)

    start = (jnp.zeros(scores.shape, bool), jax.lax.stop_gradient(scores))
    chosen, _ = jax.lax.fori_loop(0, scores.size, choose, start)
    weights = nan_if(jnp.any(valid & jnp.isnan(scores)), chosen.astype(scores.dtype))
    return mean_one(weights, valid.astype(scores.dtype)) if normalize else weights


def gradient_alignment(
    fraction: float | Array = 0.5,
    learning_rate: float | Array = 0.1,
    *,
    gradient: str = "last_layer",
    last_layer_bias: bool = True,
    normalize: bool = True,
) -> Weighting:
    r"""Keeps the part of the batch whose joint step lowers the clean loss most: GREATS.

    Greedy, by the alignment of every example with the clean gradient, less its overlap with what
    was chosen before; see `greedy_alignment_weights`. A learning rate tending to zero keeps the
    best aligned examples, copies and all; a large one spreads the choice. Unlike
    `lookahead` it always keeps the same number, harmful or not.

    Args:
      fraction: in (0, 1], of the batch; at least one example is kept, and one is uniform. The
        released scripts keep half.
      learning_rate: >= 0, of the training; the step on each example is this over the number kept.
      gradient: of the overlaps: "last_layer", in closed form, which leaves out the other layers'
        share, or "parameters", exact and about B times as costly. The alignments with the clean
        gradient are over all parameters.
      last_layer_bias: whether the last layer has a bias ("last_layer" only).
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: `linearized`, `params`, `clean_loss_fn`; logits, labels, features and
      `loss_fn` for "last_layer". State: none. Scale: mean one. Cost: a gradient of the clean batch,
      about two forward passes, O(B^2 (C + D)).

    References:
      Wang, Wu, Song, Mittal, Jia, "GREATS: Online Selection of High-Quality Data for LLM Training
      in Every Iteration", NeurIPS 2024. The paper's step is the sum over the chosen examples, and
      its inner products are over all the linear layers.
    """
    check_range("fraction", fraction, low=0.0, high=1.0, low_open=True)
    check_range("learning_rate", learning_rate, low=0.0)
    check_choice("gradient", gradient, GRADIENTS)
    name = "gradient_alignment()"

    def update(
        weights: Array,
        signals: Signals,
        *,
        linearized: Any = None,
        params: Any = None,
        clean_loss_fn: Any = None,
        loss_fn: Any = None,
        **extra: Any,
    ) -> Array:
        linearized = require(name, "linearized", linearized)
        clean_loss_fn = require_clean_loss(name, clean_loss_fn)
        direction = jax.grad(clean_loss_fn)(require(name, "params", params))
        scores = at_least_float32(linearized.jvp(direction))
        if gradient == "parameters":
            gram = jacobian_gram(linearized)
        else:
            features = read_features(name, signals)
            logits, labels = read_logits(name, signals), read_labels(name, signals)
            loss_fn = require(name, "loss_fn", loss_fn)
            gram = last_layer_gram(loss_fn, logits, labels, features, bias=last_layer_bias)
        num_kept = jnp.maximum(whole_count(fraction, jnp.sum(signals.valid > 0)), 1)
        own = greedy_alignment_weights(
            scores,
            gram.astype(scores.dtype),
            num_kept,
            step_size=learning_rate / num_kept,
            mask=signals.valid,
            normalize=normalize,
        )
        return finish(weights * own.astype(signals.losses.dtype), signals, False)

    return stateless(update)
