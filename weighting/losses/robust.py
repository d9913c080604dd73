"""Losses that bound, or drop, what a wrong label can do."""

import jax.numpy as jnp
from jax import Array

from weighting._checks import check_range
from weighting.losses.basic import log_label_probabilities


def generalized_cross_entropy(logits: Array, labels: Array, *, q: float | Array = 0.7) -> Array:
    r"""Generalized cross-entropy :math:`L_q = (1 - p_y^q)/q` (Zhang & Sabuncu, 2018); -> [B].

    Nothing is held constant: its gradient is that of cross-entropy times :math:`p_y^q`, so that
    examples whose label the network finds improbable lose influence. q -> 0 is cross-entropy, and
    q = 0 computes it; q = 1 is the mean absolute error up to a factor, :math:`1 - p_y = \frac12 \|y
    - p\|_1`.

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score.
      labels: [B].
      q: in [0, 1]; the loss is at most 1/q.

    References:
      Zhang, Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
      Labels", NeurIPS 2018, arXiv:1805.07836, Eq. (6).
    """
    check_range("q", q, low=0.0, high=1.0)
    return _box_cox(log_label_probabilities(logits, labels), q)


def truncated_generalized_cross_entropy(
    logits: Array, labels: Array, *, q: float | Array = 0.7, threshold: float | Array = 0.5
) -> Array:
    r"""Truncated :math:`L_q`: the constant :math:`L_q(k)` where :math:`p_y \le k`; -> [B].

    Such examples have zero gradient: which they are is a constant of the step, as is k. A threshold
    k = 0 is `generalized_cross_entropy`; as k -> 1 almost nothing is learned from. Before a network
    knows anything p_y is about 1/C: with a larger threshold it never starts to learn, so that
    training begins with plain L_q, as in the paper (which also renews the choice of the kept
    examples once in a while, not at every step).

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score.
      labels: [B].
      q: in [0, 1].
      threshold: k in [0, 1).

    References:
      Zhang, Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
      Labels", NeurIPS 2018, arXiv:1805.07836, truncated L_q loss.
    """
    check_range("q", q, low=0.0, high=1.0)
    check_range("threshold", threshold, low=0.0, high=1.0, high_open=True)
    log_p = log_label_probabilities(logits, labels)
    # With k = 0 nothing is truncated, and the constant below is not used: keep it finite.
    log_k = jnp.log(jnp.maximum(jnp.asarray(threshold, log_p.dtype), jnp.finfo(log_p.dtype).tiny))
    truncated = (log_p <= log_k) & (jnp.asarray(threshold) > 0)
    return jnp.where(truncated, _box_cox(log_k, q), _box_cox(log_p, q))


def truncated_cross_entropy(logits: Array, labels: Array, *, cutoff: float | Array) -> Array:
    r"""Truncated cross-entropy: zero, with zero gradient, above a cutoff; -> [B].

    Which examples are cut is a constant of the step. An infinite cutoff is cross-entropy; at the
    start of training the losses are about log C, and a smaller cutoff learns nothing. In the paper
    the cutoff follows a growing drop rate of the batch, which is a weighting scheme; and it prunes
    positive interactions only, here every label.

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score.
      labels: [B].
      cutoff: tau > 0, in units of the loss.

    References:
      Wang et al., "Denoising Implicit Feedback for Recommendation", WSDM 2021, arXiv:2006.04153,
      T-CE loss.
    """
    check_range("cutoff", cutoff, low=0.0, low_open=True)
    losses = -log_label_probabilities(logits, labels)
    return jnp.where(losses > cutoff, 0, losses)


def _box_cox(log_p: Array, q: float | Array) -> Array:
    """(1 - p^q) / q from log p, with the limit -log p at q = 0."""
    q = jnp.asarray(q, log_p.dtype)
    is_zero = q == 0
    return jnp.where(is_zero, -log_p, -jnp.expm1(q * log_p) / jnp.where(is_zero, 1, q))
