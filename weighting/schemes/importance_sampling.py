r"""Importance sampling of the batch: draw examples by their gradient norm, and undo the bias.

From a presample of n examples, b are drawn with replacement with probabilities
:math:`\pi_i = s_i / \sum_k s_k` and weighted by :math:`1 / (n \pi_i)`: the expected gradient is the
presample's mean, and scores equal to the gradients' norms give it the least variance of all
distributions (Katharopoulos and Fleuret, 2018).

**What tau measures.** The paper's :math:`1/\tau = \sqrt{1 - \|\pi - u\|^2 / \sum_i \pi_i^2}`, u
uniform, is :math:`\tau = \sqrt{n \sum_i \pi_i^2}`. With scores equal to the gradients' norms,
:math:`\tau^2` is exactly the ratio of the second moment of a uniformly drawn gradient to that of a
weighted draw from pi, so b draws from pi vary no more than :math:`\tau^2 b` uniform ones. The gate
takes :math:`\tau`, the square root of that, as the growth of the batch: it is cautious.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import read_labels, read_logits
from weighting._checks import check_choice, check_positive, check_range, check_vector, require
from weighting._numbers import as_float, at_least_float32, lookup
from weighting._types import LossFn
from weighting.base import Signals, Weighting, guarded, valid_of
from weighting.gradient_norms import logit_gradient_norms

SCORES = ("gradient", "loss")


def importance_probabilities(scores: Array, *, mask: Array | None = None) -> Array:
    r"""Sampling probabilities :math:`\pi_i = s_i / \sum_k s_k`; [B].

    Uniform if every score is zero; padding has probability zero. At least float32. A NaN among the
    scores makes all probabilities NaN.

    Args:
      scores: [B], non-negative: gradient norms (not squared), or losses.
      mask: [B], 0 marks padding.
    """
    check_vector("scores", scores)
    scores = at_least_float32(scores)
    valid = valid_of(mask, scores)
    scores = jnp.where(valid > 0, jnp.maximum(scores, 0), 0)
    total = jnp.sum(scores)
    uniform = valid / jnp.maximum(jnp.sum(valid), 1)
    return jnp.where(total == 0, uniform, scores / jnp.where(total == 0, 1, total))


def variance_reduction(probabilities: Array, *, mask: Array | None = None) -> Array:
    r"""Katharopoulos and Fleuret's :math:`\tau = \sqrt{n \sum_i \pi_i^2}`, a scalar >= 1.

    One for uniform probabilities, :math:`\sqrt n` if one example takes all. See this file's first
    lines for what it measures.

    Args:
      probabilities: [B], summing to one over the n unmasked examples.
      mask: [B], 0 marks padding.

    References:
      Katharopoulos and Fleuret, "Not All Samples Are Created Equal: Deep Learning with Importance
      Sampling", ICML 2018, arXiv:1803.00942, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp
      >>> variance_reduction(jnp.array([1.0, 0.0, 0.0, 0.0]))
      Array(2., dtype=float32)
    """
    check_vector("probabilities", probabilities)
    count = probabilities.shape[0] if mask is None else jnp.sum(mask)
    return jnp.sqrt(jnp.maximum(count * jnp.sum(probabilities**2), 1))


def speedup_threshold(presample_size: int, num_draws: int) -> float:
    """The tau above which a step is worth its extra forward pass: (B + 3 b) / (3 b).

    A backward pass is taken to cost two forward passes: scoring B examples and training on b costs
    B + 3 b, training on tau b costs 3 tau b (Katharopoulos and Fleuret, 2018, Sec. 3.3).
    """
    check_positive("presample_size", presample_size)
    check_positive("num_draws", num_draws)
    return (presample_size + 3 * num_draws) / (3 * num_draws)


def draw_positions(key: Array, probabilities: Array, num_draws: int) -> Array:
    """Independent draws with replacement, positions [num_draws]; never one of probability zero."""
    return jax.random.categorical(key, jnp.log(probabilities), shape=(num_draws,))


def importance_weights(
    probabilities: Array, positions: Array, *, mask: Array | None = None
) -> Array:
    r"""Weights :math:`1 / (n \pi_i)` of the draws, for an unbiased mean over the draws.

    Args:
      probabilities: [B].
      positions: [b] the draws.
      mask: [B], 0 marks padding; n is the number of unmasked examples.

    Returns:
      Weights [b] with expectation one; zero for a draw of probability zero (there is none unless
      the whole batch is padding).
    """
    count = probabilities.shape[0] if mask is None else jnp.sum(mask)
    expected = count * lookup(as_float(probabilities), positions)
    impossible = expected == 0
    return jnp.where(impossible, 0, 1 / jnp.where(impossible, 1, expected))


def importance_scores(
    kind: str,
    scheme: str,
    signals: Signals,
    loss_fn: LossFn | None,
) -> Array:
    """Scores [B] of a batch: "gradient", the norm of each loss's logit gradient; or "loss".

    The gradient norm reads logits, labels and `loss_fn`. Detached: draws have no
    derivative, and that of their weights alone would mislead.
    """
    check_choice("scores", kind, SCORES)
    if kind == "loss":
        return jax.lax.stop_gradient(signals.losses)
    logits, labels = read_logits(scheme, signals), read_labels(scheme, signals)
    given = require(scheme, "loss_fn", loss_fn, "Pass loss_fn=... to update().")
    return jnp.sqrt(logit_gradient_norms(given, jax.lax.stop_gradient(logits), labels))


def averaged_reduction(
    average: Array, probabilities: Array, decay: float | Array, *, mask: Array
) -> Array:
    """The running average of tau after one more batch; unchanged by a batch of padding alone."""
    new = decay * average + (1 - decay) * variance_reduction(probabilities, mask=mask)
    return jnp.where(jnp.sum(mask) > 0, new, average).astype(average.dtype)


class ImportanceSamplingState(NamedTuple):
    """The key that every step's draw is folded from, the step, and the average of tau."""

    key: Array
    count: Array  # [] int32
    reduction: Array  # [] moving average of tau, zero at the start


def importance_sampling(
    num_draws: int,
    *,
    scores: str = "gradient",
    threshold: float | Array = 1.5,
    decay: float | Array = 0.9,
) -> Weighting:
    r"""Importance sampling within the batch, as random weights with expectation one.

    The batch is the presample. While the average of tau is above the threshold, b examples are
    drawn and

    .. math:: w_i = \frac{\#\{\text{draws of } i\}}{b\, \pi_i},

    whose mean over the batch times the losses is the estimator that the draws give; otherwise all
    weights are one. The weights reproduce the method's *statistics*; to save its time, train with
    `make_selective_train_step(..., importance_selector(), ...)`, whose backward pass sees the draws
    alone. (The published algorithm trains on b uniform examples while the gate is shut, here it is
    the whole batch.)

    Args:
      num_draws: b, static. Infinitely many would be uniform weights; few are noisy.
      scores: "gradient", the norm of the loss's gradient with respect to the logits; or "loss".
      threshold: opens the gate above it. tau >= 1 and its average starts at zero: a negative
        threshold draws from the first batch on, infinity never. `speedup_threshold` is the value
        from which on the published algorithm saves time.
      decay: of the average, in [0, 1).

    Returns:
      A `Weighting`. Reads: logits, labels, `loss_fn`; or losses. State: key, step and average of
      tau. Scale: expectation one for each example (scaling every batch to mean one would bias it).
      Cost: O(B C + b B).

    References:
      Katharopoulos and Fleuret, "Not All Samples Are Created Equal: Deep Learning with Importance
      Sampling", ICML 2018, arXiv:1803.00942, Algorithm 1. IS in Santiago et al., "LOW", Pattern
      Recognition 2021, Sec. 4.
    """
    check_positive("num_draws", num_draws)
    check_choice("scores", scores, SCORES)
    check_range("threshold", threshold)
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)

    def init_fn(key, params):
        del params
        return ImportanceSamplingState(key, jnp.zeros((), jnp.int32), jnp.zeros(()))

    def update_fn(weights, state, signals, *, loss_fn=None, **extra):
        own_scores = importance_scores(scores, "importance_sampling()", signals, loss_fn)
        probabilities = importance_probabilities(own_scores, mask=signals.valid)
        key = jax.random.fold_in(state.key, state.count)
        positions = draw_positions(key, probabilities, num_draws)
        valid = signals.valid.astype(probabilities.dtype)
        draws = importance_weights(probabilities, positions, mask=valid)
        drawn = jnp.zeros_like(valid).at[positions].add(draws * jnp.sum(valid) / num_draws)
        own = jnp.where(state.reduction > threshold, drawn, valid)
        reduction = averaged_reduction(state.reduction, probabilities, decay, mask=valid)
        new_weights = (weights * own).astype(signals.losses.dtype)
        return new_weights, ImportanceSamplingState(state.key, state.count + 1, reduction)

    return guarded(init_fn, update_fn)
