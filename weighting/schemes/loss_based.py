"""Weights from each example's own loss or predicted probability."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from weighting._arrays import descending_rank, finish, read_labels, read_logits, whole_count
from weighting._checks import check_range
from weighting._whole_batch import on_whole_batch
from weighting.base import Signals, Weighting, stateless
from weighting.losses import log_label_probabilities


def focal(gamma: float | Array = 2.0, *, normalize: bool = True) -> Weighting:
    r"""Focal weights :math:`w_i = (1 - p_{y_i})^\gamma`: hard examples gain (Lin et al., 2017).

    gamma = 0 is uniform; a large gamma keeps the examples with the smallest predicted probability.
    These are weights on cross-entropy, constant in the backward pass; the focal *loss*, which
    differentiates its factor, is `weighting.losses.focal`.

    Args:
      gamma: focusing exponent, >= 0.
      normalize: to mean one over the batch; False gives the native factor in [0, 1].

    Returns:
      A `Weighting`. Reads: logits, labels. State: none. Cost: O(B C).

    References:
      Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, Eq. (4).
    """
    check_range("gamma", gamma, low=0.0)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        logits, labels = read_logits("focal()", signals), read_labels("focal()", signals)
        rest = -jnp.expm1(log_label_probabilities(logits, labels))
        return finish(weights * rest**gamma, signals, normalize)

    return stateless(update)


def self_paced(threshold: float | Array, *, normalize: bool = True) -> Weighting:
    r"""Self-paced learning: keeps the easy examples, :math:`w_i = 1[\ell_i < \lambda]`.

    The minimizer of :math:`\sum_i w_i \ell_i - \lambda \|w\|_1` over :math:`[0, 1]^B`. A threshold
    above every loss is uniform; below every loss, all weights are zero. The pace (growing the
    threshold) is a schedule: `scheduled(self_paced, threshold=...)`.

    Args:
      threshold: lambda, in units of the loss, > 0. santiago2021 Eq. 10 has a 1/M that would make it
        M lambda; this is the unscaled form.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses. State: none. Cost: O(B).

    References:
      Kumar et al., "Self-Paced Learning for Latent Variable Models", NeurIPS 2010.
    """
    check_range("threshold", threshold, low=0.0, low_open=True)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        easy = (signals.losses < threshold).astype(signals.losses.dtype)
        return finish(weights * easy, signals, normalize)

    return stateless(update)


def hard_mining(majority_class: int | Array, *, normalize: bool = True) -> Weighting:
    """Keeps every minority example and as many of the majority's highest losses (ren2018, Sec.
    4.1).

    The number kept of the majority class is the number of other examples in the batch, at least one
    (as in the released code). All kept examples weigh the same; the rest weigh zero.

    Args:
      majority_class: the label whose examples are mined.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses, labels. State: none. Cost: O(B log B).

    References:
      HARD MINING in Ren et al., "Learning to Reweight Examples", ICML 2018, Sec. 4.1.
    """

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        labels = read_labels("hard_mining()", signals)
        mined = _mined(signals.losses, labels == majority_class, signals.valid > 0)
        return finish(weights * mined.astype(signals.losses.dtype), signals, normalize)

    return stateless(update)


@on_whole_batch
def _mined(losses: Array, in_majority: Array, valid: Array) -> Array:
    """The minority, and as many of the majority's highest losses."""
    majority, minority = valid & in_majority, valid & ~in_majority
    kept = jnp.maximum(jnp.sum(minority), 1)
    return minority | majority & (descending_rank(losses, majority) < kept)


def top_losses(fraction: float | Array, *, normalize: bool = True) -> Weighting:
    """Keeps the given fraction of the batch with the highest losses: online hard example mining.

    Args:
      fraction: in (0, 1]; at least one example is kept, and one is uniform.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses. State: none. Cost: O(B log B).

    References:
      Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining",
      CVPR 2016, arXiv:1604.03540.
    """
    check_range("fraction", fraction, low=0.0, high=1.0, low_open=True)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        valid = signals.valid > 0
        kept = jnp.maximum(whole_count(fraction, jnp.sum(valid)), 1)
        chosen = valid & (descending_rank(signals.losses, valid) < kept)
        return finish(weights * chosen.astype(signals.losses.dtype), signals, normalize)

    return stateless(update)


def small_losses(keep_fraction: float | Array, *, normalize: bool = True) -> Weighting:
    """Keeps the given fraction of the batch with the lowest losses: small-loss selection.

    Networks fit clean labels first, so small losses are likelier to be clean. Keeping less as
    training goes on is a schedule: `scheduled(small_losses, keep_fraction=co_teaching_rate(...))`;
    the truncated loss drops a growing fraction `1 - keep_fraction` in the same way.

    Args:
      keep_fraction: in (0, 1]; rounded up to whole examples (published codes round down), ties by
        position; one is uniform.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses. State: none. Cost: O(B log B).

    References:
      Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
      Labels", NeurIPS 2018, arXiv:1804.06872, Algorithm 1 (with one network here); T-CE in Wang et
      al., "Denoising Implicit Feedback for Recommendation", WSDM 2021, arXiv:2006.04153.
    """
    check_range("keep_fraction", keep_fraction, low=0.0, high=1.0, low_open=True)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        valid = signals.valid > 0
        kept = whole_count(keep_fraction, jnp.sum(valid))
        chosen = valid & (descending_rank(-signals.losses, valid) < kept)
        return finish(weights * chosen.astype(signals.losses.dtype), signals, normalize)

    return stateless(update)
