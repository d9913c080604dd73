r"""Splits each example's expected error over networks into bias and variance (zhou2022, Eqs. 1-2).

Networks trained on random training sets T predict an example; its error is the mean loss over T. A
central prediction :math:`\bar f` splits it exactly: the bias is that prediction's own loss (label
noise included), the variance the mean distance of the networks from it. Which prediction is central
and which distance fits depends on the loss. The paper writes an approximate equality; for these two
losses it is one, and on any finite set of networks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._numbers import one_hot
from weighting.difficulty.several_networks import mean_over_networks


class BiasVariance(NamedTuple):
    """error = bias + variance for every example; each [N] and a measure of difficulty."""

    error: Array  # [N] mean loss over the networks
    bias: Array  # [N] loss of the central prediction
    variance: Array  # [N] mean distance of the networks from it
    standard_error: Array  # [N] of `error` over the networks; nan for fewer than two


def squared_bias_variance(
    predictions: Array, targets: Array, *, mask: Array | None = None
) -> BiasVariance:
    r"""Squared loss: :math:`E\|y - f\|^2 = \|y - \bar f\|^2 + E\|f - \bar f\|^2` with the mean.

    Args:
      predictions: [R, N] or [R, N, D]: a regression's outputs, or a classifier's probabilities with
        one-hot targets, which splits the Brier score.
      targets: [N] or [N, D].
      mask: [R, N], which networks count for which example (say, those that did not train on it); an
        example that none counts for gets nan.
    """
    if predictions.shape[1:] != targets.shape:
        raise ValueError(
            f"predictions [R, N, ...] must hold R times the targets' shape {targets.shape}; got "
            f"{predictions.shape}"
        )
    if predictions.ndim == 2:
        predictions, targets = predictions[..., None], targets[..., None]
    error = mean_over_networks(_squares(predictions - targets[None]), mask=mask)
    center = mean_over_networks(predictions, mask=mask).mean
    variance = mean_over_networks(_squares(predictions - center[None]), mask=mask).mean
    return BiasVariance(error.mean, _squares(center - targets), variance, error.standard_error)


def cross_entropy_bias_variance(
    logits: Array, labels: Array, *, mask: Array | None = None
) -> BiasVariance:
    r"""Cross-entropy: the central prediction is the normalized geometric mean of the softmaxes.

    With :math:`q` a network's softmax and :math:`\bar f \propto \exp E[\log q]`,

    .. math:: E\,\mathrm{KL}(y \| q)
       = \mathrm{KL}(y \| \bar f) + E\,\mathrm{KL}(\bar f \| q).

    The last term is :math:`-\log \sum_c \exp E[\log q_c]`, whatever the label.

    Args:
      logits: [R, N, C], finite; log-probabilities will do as well.
      labels: [N] integer classes, or [N, C] probabilities, whose entropy is then subtracted from
        the cross-entropy.
      mask: [R, N], which networks count for which example; an example that none counts for gets
        nan.
    """
    if logits.ndim != 3 or labels.shape not in (logits.shape[1:2], logits.shape[1:]):
        raise ValueError(
            "expected logits [R, N, C] with labels [N] or [N, C]; got "
            f"{logits.shape} and {labels.shape}. A single score z is the logits (0, z)."
        )
    log_q = jax.nn.log_softmax(logits, axis=2)
    if labels.ndim == 1:
        labels = one_hot(labels, logits.shape[2], log_q.dtype)
    log_y = jnp.log(jnp.where(labels > 0, labels, 1))
    error = mean_over_networks(jnp.sum(labels[None] * (log_y[None] - log_q), axis=2), mask=mask)
    mean_log_q = mean_over_networks(log_q, mask=mask).mean
    log_center = jax.nn.log_softmax(mean_log_q, axis=1)
    bias = jnp.sum(labels * (log_y - log_center), axis=1)
    variance = -jax.nn.logsumexp(mean_log_q, axis=1)
    return BiasVariance(error.mean, bias, variance, error.standard_error)


def _squares(rows: Array) -> Array:
    return jnp.sum(rows**2, axis=-1)
