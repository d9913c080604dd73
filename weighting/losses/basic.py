"""Cross-entropy, focal, logistic and exponential losses, and the margins behind them.

Binary losses of a single score take logits [B] or [B, 1] and labels in {0, 1}, and are NaN for
others; the papers' labels {-1, +1} are `2 * labels - 1`.
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._checks import check_range
from weighting.losses._shapes import check_classes, log_sum_exp, nan_outside


def cross_entropy(logits: Array, labels: Array) -> Array:
    r"""Softmax cross-entropy :math:`\log\sum_c e^{z_c} - z_y`; logits [B, C], labels [B] -> [B]."""
    check_classes(logits, labels)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return nan_outside(losses, labels, logits.shape[1])


def logistic(logits: Array, labels: Array) -> Array:
    r"""Logistic loss :math:`\log(1 + e^{-u})` of the margin u = y f(x); [B], [B, 1] -> [B]."""
    return jax.nn.softplus(-binary_margins(logits, labels))


def exponential(logits: Array, labels: Array) -> Array:
    r"""Exponential loss :math:`e^{-u}` of the margin u = y f(x) (xu2021, Sec. 2); -> [B]."""
    return jnp.exp(-binary_margins(logits, labels))


def focal(
    logits: Array, labels: Array, *, gamma: float | Array = 2.0, alpha: float | Array = 1.0
) -> Array:
    r"""Focal loss :math:`-\alpha (1 - p_y)^\gamma \log p_y` (Lin et al., 2017); -> [B].

    It differentiates through its factor, unlike the weighting scheme `weighting.focal`: nothing is
    held constant. The two are different methods: the weights alone drop the term that the factor's
    derivative adds.

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score.
      labels: [B].
      gamma: focusing exponent, >= 0; 0 gives (alpha times) cross-entropy.
      alpha: scale, a scalar or one per class [C] (two for a single score). A scalar multiplies the
        learning rate and nothing else; the 0.25 of the paper is one for its rare positives and 0.75
        for the rest, [0.75, 0.25] here. LOW's code had gamma = 2, alpha = 0.25 at commit 7f5a679 of
        github.com/cajosantiago/LOW, and has no focal loss since.
    """
    check_range("gamma", gamma, low=0.0)
    log_p = log_label_probabilities(logits, labels)
    # 1 - p_y without cancellation, and with a finite gradient where p_y rounds to one.
    rest = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
    scale = jnp.asarray(alpha)
    if scale.ndim:
        scale = _one_per_class(scale, logits)[labels]
    return -scale * rest**gamma * log_p


def _one_per_class(alpha: Array, logits: Array) -> Array:
    """The scales in the logits' type, if there is one for each class."""
    num_classes = logits.shape[1] if logits.ndim == 2 and logits.shape[1] > 1 else 2
    if alpha.shape != (num_classes,):
        raise ValueError(
            f"alpha must be a scalar or a vector of {num_classes} scales, one for each class; got "
            f"shape {alpha.shape} for logits {logits.shape}"
        )
    return alpha.astype(logits.dtype)


def log_label_probabilities(logits: Array, labels: Array) -> Array:
    """log p_y of the given label, from a softmax or (single score) a sigmoid; [B]."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return -cross_entropy(logits, labels)
    return -logistic(logits, labels)


def binary_margins(logits: Array, labels: Array) -> Array:
    """The functional margin u = y f(x) of a single score, with y = 2 * labels - 1; [B].

    NaN where the label is neither 0 nor 1.
    """
    if logits.ndim == 2 and logits.shape[1] == 1:
        logits = logits[:, 0]
    if logits.ndim != 1 or labels.shape != logits.shape:
        raise ValueError(
            "a binary loss needs one score per example, logits [B] or [B, 1], and labels [B] in "
            f"{{0, 1}}; got logits {logits.shape} and labels {labels.shape}"
        )
    is_binary = (labels == 0) | (labels == 1)
    return jnp.where(is_binary, (2 * labels - 1).astype(logits.dtype) * logits, jnp.nan)


def soft_margins(logits: Array, labels: Array) -> Array:
    r"""The log-odds of the label, :math:`u = z_y - \log\sum_{c \ne y} e^{z_c}`; [B].

    Cross-entropy is the logistic loss of it, log(1 + e^-u), so that a loss of a margin has a
    multi-class form. For two classes u is the difference of the scores; for a single score it is
    `binary_margins`. It lies below the hard margin (to the runner-up) by at most log(C - 1). It is
    infinite where all other classes are masked.
    """
    if logits.ndim != 2 or logits.shape[1] == 1:
        return binary_margins(logits, labels)
    check_classes(logits, labels)
    is_label = jnp.arange(logits.shape[1])[None, :] == labels[:, None]
    others = log_sum_exp(jnp.where(is_label, -jnp.inf, logits))
    margins = jnp.sum(jnp.where(is_label, logits, 0), axis=1) - others
    return nan_outside(margins, labels, logits.shape[1])
