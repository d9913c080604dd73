r"""Cross-entropy under a known noise process :math:`T_{ij} = P(\tilde y = j \mid y = i)`.

For unknown noise the matrix is trained with the network: see `weighting.with_noise_layer`.
"""

import jax
import jax.numpy as jnp
from jax import Array

from weighting.losses._shapes import check_classes, log_sum_exp, nan_outside, read_transition


def forward_corrected_cross_entropy(logits: Array, labels: Array, *, transition: Array) -> Array:
    r"""Forward correction: cross-entropy of the noisy label, :math:`-\log (q^\top T)_y`; -> [B].

    Its minimizer over noisy data is the clean posterior q, if T is invertible. The identity is
    cross-entropy. T is a constant, estimated beforehand; `weighting.with_noise_layer` trains it.

    Args:
      logits: [B, C], of the clean classes.
      labels: [B], noisy.
      transition: T [C, C], P(noisy label = column | true class = row).

    References:
      Patrini et al., "Making Deep Neural Networks Robust to Label Noise: A Loss Correction
      Approach", CVPR 2017, arXiv:1609.03683, Theorem 2.
    """
    check_classes(logits, labels)
    matrix = read_transition(transition, logits).astype(logits.dtype)
    possible = matrix > 0
    log_matrix = jnp.where(possible, jnp.log(jnp.where(possible, matrix, 1)), -jnp.inf)
    losses = -log_sum_exp(jax.nn.log_softmax(logits) + log_matrix.T[labels])
    return nan_outside(losses, labels, logits.shape[1])


def backward_corrected_cross_entropy(logits: Array, labels: Array, *, transition: Array) -> Array:
    r"""Backward correction: :math:`\sum_j (T^{-1})_{yj}\, \mathrm{CE}(z, j)`; -> [B].

    Unbiased: averaged over the noise it is the clean cross-entropy, :math:`\sum_{\tilde y}
    T_{y \tilde y}\, \ell(z, \tilde y) = \mathrm{CE}(z, y)`. A single value may be negative, without
    bound from below, and the variance grows with :math:`\|T^{-1}\|`. The identity is cross-entropy.
    T is a constant, as in the forward correction.

    Mask no class that another is mistaken for: a logit of -inf makes the loss infinite, of the sign
    of the class's entry of T^-1 (NaN where two disagree).

    Args:
      logits: [B, C], of the clean classes.
      labels: [B], noisy.
      transition: T [C, C], P(noisy label = column | true class = row), invertible.

    References:
      Patrini et al., "Making Deep Neural Networks Robust to Label Noise: A Loss Correction
      Approach", CVPR 2017, arXiv:1609.03683, Theorem 1; for two classes Natarajan et al., "Learning
      with Noisy Labels", NeurIPS 2013.
    """
    check_classes(logits, labels)
    inverse = jnp.linalg.inv(read_transition(transition, logits, inverted=True))
    rows = inverse.astype(logits.dtype)[labels]
    losses = -jnp.sum(rows * jnp.where(rows == 0, 0, jax.nn.log_softmax(logits)), axis=-1)
    return nan_outside(losses, labels, logits.shape[1])
