r"""Cross-entropy changed by class counts: factors, additive shifts, temperatures, margins.

All but the first are :math:`\log\sum_c e^{a_c z_c + b_c} - (a_y z_y + b_y)`: only training sees
the change, predictions use the logits themselves. Near interpolation the scales :math:`a` decide
the margins and the shifts :math:`b` stop mattering (Kini et al., 2021). They weight no examples;
chain `inverse_class_frequency` for that.
"""

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_positive, check_range
from weighting.losses._shapes import check_classes, read_counts
from weighting.losses.basic import cross_entropy


def balanced_cross_entropy(logits: Array, labels: Array, *, class_counts: Array) -> Array:
    r"""Balanced cross-entropy: :math:`-\frac{N}{C\, n_y} \log p_y`; -> [B].

    Training with it is training with the weights of `inverse_class_frequency`. As a loss it is
    what other schemes see: LOW's weights then come from the gradients of the balanced loss.

    Args:
      logits: [B, C].
      labels: [B].
      class_counts: [C] training examples per class, positive.

    References:
      bCE in Santiago et al., "LOW: Training Deep Neural Networks by Learning Optimal Sample
      Weights", Pattern Recognition 2021, Sec. 4.
    """
    check_classes(logits, labels)
    counts = read_counts(class_counts, logits)
    factors = (jnp.sum(counts) / (len(counts) * counts)).astype(logits.dtype)
    return factors[labels] * cross_entropy(logits, labels)


def logit_adjusted(
    logits: Array, labels: Array, *, class_counts: Array, tau: float | Array = 1.0
) -> Array:
    r"""Logit adjustment: cross-entropy of :math:`z_c + \tau \log(n_c/N)`; -> [B].

    The logits then fit class-balanced data: at tau = 1 (the balanced softmax of Ren et al., 2020)
    :math:`z + \log \pi` models the training distribution, so that z drops its prior :math:`\pi`.
    tau = 0 is cross-entropy. Shifting all logits alike changes nothing.

    Args:
      logits: [B, C].
      labels: [B].
      class_counts: [C] training examples per class, positive.
      tau: strength, >= 0.

    References:
      Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, arXiv:2007.07314, the
      logit adjusted softmax cross-entropy; Ren et al., "Balanced Meta-Softmax for Long-Tailed
      Visual Recognition", NeurIPS 2020, arXiv:2007.10740.
    """
    return vector_scaling(logits, labels, class_counts=class_counts, gamma=0.0, tau=tau)


def class_dependent_temperatures(
    logits: Array, labels: Array, *, class_counts: Array, gamma: float | Array = 0.3
) -> Array:
    r"""Class-dependent temperatures: cross-entropy of :math:`z_c / (n_{\max}/n_c)^\gamma`; -> [B].

    Rare classes must reach larger logits to be fitted, which widens their margin at test time.
    gamma = 0 is cross-entropy.

    Args:
      logits: [B, C].
      labels: [B].
      class_counts: [C] training examples per class, positive.
      gamma: exponent, >= 0.

    References:
      Ye et al., "Identifying and Compensating for Feature Deviation in Imbalanced Deep Learning",
      2020, arXiv:2001.01385.
    """
    return vector_scaling(logits, labels, class_counts=class_counts, gamma=gamma, tau=0.0)


def vector_scaling(
    logits: Array,
    labels: Array,
    *,
    class_counts: Array,
    gamma: float | Array = 0.3,
    tau: float | Array = 1.0,
) -> Array:
    r"""VS loss: cross-entropy of :math:`\Delta_c z_c + \iota_c` (Kini et al., 2021); -> [B].

    .. math:: \Delta_c = (n_c / n_{\max})^\gamma, \qquad \iota_c = \tau \log(n_c / N)

    gamma = 0 is `logit_adjusted`, tau = 0 is `class_dependent_temperatures`.

    Args:
      logits: [B, C].
      labels: [B].
      class_counts: [C] training examples per class, positive.
      gamma: exponent of the multiplicative part, >= 0.
      tau: strength of the additive part, >= 0.

    References:
      Kini et al., "Label-Imbalanced and Group-Sensitive Classification under
      Overparameterization", NeurIPS 2021, arXiv:2103.01550; the class weights omega of its
      definition are left to a weighting scheme.
    """
    check_range("gamma", gamma, low=0.0)
    check_range("tau", tau, low=0.0)
    check_classes(logits, labels)
    counts = read_counts(class_counts, logits)
    scales = (counts / jnp.max(counts)) ** gamma
    shifts = tau * jnp.log(counts / jnp.sum(counts))
    adjusted = scales.astype(logits.dtype)[None] * logits + shifts.astype(logits.dtype)[None]
    return cross_entropy(adjusted, labels)


def ldam(
    logits: Array,
    labels: Array,
    *,
    class_counts: Array,
    max_margin: float | Array = 0.5,
    scale: float | Array = 1.0,
) -> Array:
    r"""LDAM: the label's logit must win by a margin that grows as its class gets rarer; -> [B].

    .. math:: \mathrm{CE}\!\left(s\,(z - m_y e_y),\, y\right), \qquad
              m_c = m_{\max}\, (n_c / n_{\min})^{-1/4}

    max_margin = 0 at scale = 1 is cross-entropy.

    Args:
      logits: [B, C]; in the paper cosines, from a last layer with normalized features and weights.
      labels: [B].
      class_counts: [C] training examples per class, positive.
      max_margin: the rarest class's margin, >= 0, in units of a logit.
      scale: s > 0, an inverse temperature on logits and margins alike; the gradient is proportional
        to it. The released code has 30, which cosines need; on the logits of an ordinary last
        layer, as here, that mostly multiplies the learning rate by 30, hence the default of 1.

    References:
      Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS
      2019, arXiv:1906.07413. Its deferred reweighting is the scheme `deferred`, chained.
    """
    check_range("max_margin", max_margin, low=0.0)
    check_positive("scale", scale)
    check_classes(logits, labels)
    counts = read_counts(class_counts, logits)
    margins = (max_margin * (counts / jnp.min(counts)) ** -0.25).astype(logits.dtype)
    shifted = logits - jax.nn.one_hot(labels, len(margins), dtype=logits.dtype) * margins[None]
    return cross_entropy(jnp.asarray(scale, logits.dtype) * shifted, labels)
