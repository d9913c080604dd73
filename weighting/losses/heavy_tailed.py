"""Losses whose tail is a power of the margin, on which importance weights keep their effect."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_positive, check_range
from weighting.losses.basic import soft_margins


def polynomial_tailed(
    logits: Array,
    labels: Array,
    *,
    alpha: float | Array = 2.0,
    beta: float | Array = 1.0,
    smooth: bool = True,
) -> Array:
    r"""Polynomially tailed loss of the margin u (Wang et al., 2022); -> [B].

    .. math:: \ell(u) = \begin{cases}
                (1 + u - \beta)^{-\alpha} & u \ge \beta \\
                \log_2\!\left(1 + 4^{\alpha(\beta - u)}\right) & u < \beta \end{cases}

    Under an exponential tail (cross-entropy, logistic) gradient descent on separable data ends at
    the maximum margin whatever the importance weights. Under this one the weights move the limit:
    for a linear model with orthonormal inputs the margins become proportional to
    :math:`w_i^{1/(2+\alpha)}`. A large alpha approaches the exponential tail. Both pieces meet
    with value 1 and slope -alpha; the loss is convex, and linear where the margin is very negative.

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score.
      labels: [B].
      alpha: power of the tail, > 0. The released code sets 2 in the commands of its README (those
        of Fig. 5); its configuration, which other commands leave in force, has had 2 and 1.
      beta: margin where the tail starts.
      smooth: False takes the released code's left piece, :math:`\log(1 + e^{-u}) / \log(1 +
        e^{-\beta})`, continuous but with a kink at beta (a concave one where alpha is above its
        slope there, 0.86 for beta = 1).

    References:
      Wang et al., "Is Importance Weighting Incompatible with Interpolating Classifiers?", ICLR
      2022, arXiv:2112.12986. The paper leaves the left piece open within conditions, and its losses
      are binary; the multi-class form, with `soft_margins`, is ours and agrees for C = 2.
    """
    check_positive("alpha", alpha)
    check_range("beta", beta, low=-math.inf, low_open=True, high_open=True)
    margins = soft_margins(logits, labels)
    alpha, beta = jnp.asarray(alpha, margins.dtype), jnp.asarray(beta, margins.dtype)
    in_tail = margins >= beta
    # Each piece sees the other's arguments as beta: no overflow, and no NaN in the gradient.
    tail = jnp.exp(-alpha * jnp.log1p(jnp.where(in_tail, margins - beta, 0)))
    if smooth:
        rate = 2 * alpha * math.log(2)
        left = jax.nn.softplus(rate * jnp.where(in_tail, 0, beta - margins)) / math.log(2)
    else:
        left = jax.nn.softplus(-jnp.where(in_tail, beta, margins)) / jax.nn.softplus(-beta)
    return jnp.where(in_tail, tail, left)
