r"""How hard each example is for several networks, or for one along its training; larger = harder.

The leading axis R counts networks (or K checkpoints, T records); then N examples, C classes.
`logits` are finite, [R, N, C], or [R, N] or [R, N, 1] for single scores with labels in {0, 1};
log-probabilities will do as well. An optional `mask` [R, N] names the networks that count for an
example, such as those that did not train on it; an example that none counts for gets nan.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import safe_sqrt
from weighting._checks import check_range
from weighting._numbers import as_float, in_range, nan_if, one_hot
from weighting._types import ExampleLossFn, PyTree
from weighting.difficulty import one_network
from weighting.gradient_norms import per_example_gradient_norms


class NetworkMean(NamedTuple):
    """A mean over networks and how well they determine it."""

    mean: Array  # [N, ...]
    standard_error: Array  # [N, ...], nan where fewer than two networks count


def mean_over_networks(values: Array, *, mask: Array | None = None) -> NetworkMean:
    """Mean of values [R, N, ...] over their first axis and its standard error, s / sqrt(R)."""
    count = _count(values, mask)
    variance = variance_over_networks(values, ddof=1, mask=mask)
    return NetworkMean(_mean(values, mask), safe_sqrt(variance / count))


def variance_over_networks(values: Array, *, ddof: int = 0, mask: Array | None = None) -> Array:
    """Variance of values [R, N, ...] over their first axis, divided by the count less `ddof`.

    Of the norms of an example's parameter gradient at K checkpoints it is zhou2022's reading of
    "variance of gradient norms" (Sec. 3.5); `variance_of_gradients` is what its source measures.
    """
    deviations = values - _mean(values, mask)[None]
    total = _mean(deviations**2, mask)
    count = _count(values, mask)
    return total * (count / jnp.maximum(count - ddof, 0))


# --- errors and gradients ---------------------------------------------------------------------


def el2n(logits: Array, labels: Array, *, mask: Array | None = None) -> Array:
    r"""EL2N: the mean over networks of :math:`\|p - e_y\|_2`; [N], in [0, root of two].

    The paper takes ten networks after a few epochs of training.

    References:
      Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075.
    """
    log_p = _log_probabilities(logits)
    error = jnp.exp(log_p) - one_hot(labels, log_p.shape[2], log_p.dtype)[None]
    return _mean(safe_sqrt(jnp.sum(error**2, axis=2)), mask)


def grand(
    example_loss_fn: ExampleLossFn,
    stacked_params: PyTree,
    examples: PyTree,
    *,
    chunk_size: int = 32,
) -> NetworkMean:
    """GraNd: the mean over networks of the norm of the gradient by all parameters; [N].

    The paper's networks are random initializations, or these after a few epochs. One network and
    `chunk_size` examples at a time: memory chunk_size x P.

    Args:
      example_loss_fn: (params, example) -> scalar loss of one example.
      stacked_params: the parameters of R networks, stacked along a new first axis.
      examples: pytree of arrays with leading axis N, such as (inputs, labels).
      chunk_size: examples at a time.

    References:
      Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075.
    """

    def one_network(params: PyTree) -> Array:
        squares = per_example_gradient_norms(
            example_loss_fn, params, examples, chunk_size=chunk_size
        )
        return safe_sqrt(squares)

    return mean_over_networks(jax.lax.map(one_network, stacked_params))


def input_gradients(
    logits_fn: Callable[[PyTree, Array], Array],
    stacked_params: PyTree,
    inputs: Array,
    labels: Array,
) -> Array:
    """Gradient of each example's own-class logit by its input, at every checkpoint; [K, N, ...].

    Args:
      logits_fn: (params, inputs [N, ...]) -> logits [N, C], where examples do not interact.
      stacked_params: the parameters of K checkpoints, stacked along a new first axis.
      inputs: [N, ...], floating point.
      labels: [N].
    """

    def own_logits(x: Array, params: PyTree) -> Array:
        return jnp.sum(jnp.take_along_axis(logits_fn(params, x), labels[:, None], axis=1))

    gradients = jax.lax.map(lambda params: jax.grad(own_logits)(inputs, params), stacked_params)
    num_classes = jax.eval_shape(logits_fn, _first(stacked_params), inputs).shape[1]
    known = in_range(labels, num_classes).reshape(1, -1, *(1,) * (inputs.ndim - 1))
    return nan_if(~known, gradients)


def gradient_variation(gradients: Array) -> Array:
    """Standard deviation over K checkpoints of gradients [K, N, ...], averaged over pixels; [N]."""
    deviation = safe_sqrt(variance_over_networks(gradients))
    return jnp.mean(deviation.reshape(len(deviation), -1), axis=1)


def variance_of_gradients(gradients: Array, labels: Array, num_classes: int) -> Array:
    r"""VoG: how much the input gradient changes along training, standardized within classes; [N].

    .. math:: v_i = \frac{1}{P} \sum_{p=1}^{P} \sqrt{\frac1K \sum_t (S_{tip} - \bar S_{ip})^2},
       \qquad S_{ti} = \frac{\partial z_{y_i}(x_i \mid \theta_t)}{\partial x_i}

    less the mean of v over the example's class, divided by its standard deviation there.

    Args:
      gradients: [K, N, ...], from `input_gradients`. To go through a large set in batches, compute
        `gradient_variation` of each and then `one_network.standardize_within_class` of them all.
      labels: [N].
      num_classes: C.

    References:
      Agarwal, D'souza, Hooker, "Estimating Example Difficulty using Variance of Gradients", CVPR
      2022, arXiv:2008.11600. zhou2022 calls it the "variance of gradient norms", which differs:
      that is `variance_over_networks` of the norms.
    """
    return one_network.standardize_within_class(gradient_variation(gradients), labels, num_classes)


def forgetting_events(correct: Array) -> Array:
    """How often an example passes from right to wrong; never learned counts as T; [N].

    With T records an example can be forgotten at most T // 2 times, so the ones that were never
    right rank hardest, as in the paper.

    Args:
      correct: [T, N] booleans, or zeros and ones: whether each example was classified correctly at
        each of its presentations (in the paper, just before each update on it; once per epoch).

    References:
      Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
      ICLR 2019, arXiv:1812.05159, Sec. 3.
    """
    if correct.ndim != 2:
        raise ValueError(f"the history must have shape [T, N], T records of N; got {correct.shape}")
    correct = correct != 0
    events = jnp.sum(correct[:-1] & ~correct[1:], axis=0)
    return jnp.where(jnp.any(correct, axis=0), events, correct.shape[0])


# --- margins ----------------------------------------------------------------------------------


def negative_average_margin(logits: Array, labels: Array, *, mask: Array | None = None) -> Array:
    r"""The functional margin averaged over networks, with its sign turned; [N].

    Over networks it is zhou2022's :math:`-\mu_i` (Sec. 3.3); over the epochs of one training run it
    is the negative of the area under the margin, AUM, which is small for wrong labels.

    References:
      Pleiss, Zhang, Elenberg, Weinberger, "Identifying Mislabeled Data using the Area Under the
      Margin Ranking", NeurIPS 2020, arXiv:2001.10528.
    """
    return _mean(_negative_margins(logits, labels), mask)


def margin_variance(
    logits: Array, labels: Array, *, ddof: int = 0, mask: Array | None = None
) -> Array:
    r"""Variance of the functional margin over networks, :math:`\sigma_i^2` of zhou2022, Prop. 4."""
    return variance_over_networks(_negative_margins(logits, labels), ddof=ddof, mask=mask)


# --- uncertainty ------------------------------------------------------------------------------


def predictive_variance(
    predictions: Array,
    *,
    inverse_precision: float | Array = 0.0,
    ddof: int = 0,
    mask: Array | None = None,
) -> Array:
    r"""Epistemic uncertainty: the variance of the prediction over networks (zhou2022, Eq. 7); [N].

    .. math:: \tau^{-1} + \frac1K \sum_k \|f(x_i \mid \theta_k)\|^2 - \|\bar f(x_i)\|^2

    computed from the deviations, without the cancellation. With `ddof=0` and the networks of Eq. 2
    it is the variance term of the squared error.

    Args:
      predictions: [K, N] or [K, N, C]: a regression's outputs, or a classifier's probabilities (the
        variances of all classes add up). The paper takes K = 5.
      inverse_precision: the constant 1 / tau, >= 0; it ranks no example higher than another.
      ddof: 0 divides by K as printed, 1 is unbiased.
      mask: [K, N].
    """
    check_range("inverse_precision", inverse_precision, low=0.0)
    variance = variance_over_networks(predictions, ddof=ddof, mask=mask)
    return inverse_precision + jnp.sum(variance.reshape(len(variance), -1), axis=1)


def predictive_entropy(logits: Array, *, mask: Array | None = None) -> Array:
    """Entropy of the mean of the networks' probabilities, in nats: total uncertainty; [N]."""
    return _entropy(_log_mean_probabilities(_log_probabilities(logits), mask))


def expected_entropy(logits: Array, *, mask: Array | None = None) -> Array:
    """Mean over networks of the entropy of their probabilities: aleatoric uncertainty; [N]."""
    return _mean(_entropy(_log_probabilities(logits)), mask)


def mutual_information(logits: Array, *, mask: Array | None = None) -> Array:
    """How far the networks disagree, in nats: epistemic uncertainty, BALD; [N].

    `predictive_entropy` less `expected_entropy`, computed as the mean divergence of the networks'
    probabilities from their mean, which does not cancel. Between 0 and log R.

    References:
      Houlsby, Huszár, Ghahramani, Lengyel, "Bayesian Active Learning for Classification and
      Preference Learning", 2011, arXiv:1112.5745.
    """
    log_p = _log_probabilities(logits)
    possible = log_p > -jnp.inf
    ratio = jnp.where(possible, log_p - _log_mean_probabilities(log_p, mask)[None], 0)
    return _mean(jnp.sum(jnp.exp(log_p) * ratio, axis=2), mask)


# --- pieces -----------------------------------------------------------------------------------


def _negative_margins(logits: Array, labels: Array) -> Array:
    return jax.vmap(lambda z: one_network.negative_margin(z, labels))(logits)


def _log_probabilities(logits: Array) -> Array:
    """[R, N, C], from a softmax or, of single scores, a sigmoid."""
    logits = as_float(logits)
    if logits.ndim == 3 and logits.shape[2] == 1:
        logits = logits[:, :, 0]
    if logits.ndim == 2:
        return jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=2)
    if logits.ndim != 3:
        raise ValueError(
            "expected the logits of R networks, [R, N, C] or [R, N] for single scores; got "
            f"{logits.shape}. For one network write logits[None]."
        )
    return jax.nn.log_softmax(logits, axis=2)


def _log_mean_probabilities(log_p: Array, mask: Array | None) -> Array:
    keep = _mask_like(log_p, mask)
    total = jax.nn.logsumexp(log_p, axis=0, where=None if keep is None else keep != 0)
    return total - jnp.log(_count(log_p, mask))


def _entropy(log_p: Array) -> Array:
    possible = log_p > -jnp.inf
    finite = jnp.where(possible, log_p, 0)
    return -jnp.sum(jnp.where(possible, jnp.exp(finite) * finite, 0), axis=-1)


def _first(stacked_params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0], stacked_params)


def _mean(values: Array, mask: Array | None) -> Array:
    keep = _mask_like(values, mask)
    return jnp.mean(values, axis=0, where=None if keep is None else keep != 0)


def _mask_like(values: Array, mask: Array | None) -> Array | None:
    """The mask as zeros and ones, with the shape of the values; None stays None."""
    if mask is None:
        return None
    if mask.shape != values.shape[:2]:
        raise ValueError(
            f"the mask must have shape [R, N] = {values.shape[:2]}, which networks count for which "
            f"example; got {mask.shape}"
        )
    mask = (mask != 0).astype(values.dtype).reshape(mask.shape + (1,) * (values.ndim - 2))
    return jnp.broadcast_to(mask, values.shape)


def _count(values: Array, mask: Array | None) -> Array:
    """The number of networks that count, with the shape of one network's values."""
    dtype = jnp.result_type(values, float)
    keep = _mask_like(values, mask)
    if keep is None:
        return jnp.full(values.shape[1:], values.shape[0], dtype)
    return jnp.sum(keep, axis=0, dtype=dtype)
