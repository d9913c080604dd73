"""Measures of a classifier and of a set of sample weights: pure functions from arrays to arrays.

Axes: N examples, C classes. Every measure takes an optional `mask` [N] in which 0 marks an example
to ignore: it then counts as if it were removed. (`predict` and `margins` go row by row and need
none.) All are safe under `jit` and `vmap`. A measure that has nothing to average over is nan.
"santiago2021" is Santiago et al., "LOW: Training deep neural networks by learning optimal sample
weights", Pattern Recognition 110, 2021.
"""

import jax
import jax.numpy as jnp
from jax import Array

from weighting._numbers import in_range, nan_if
from weighting.losses.basic import binary_margins


def predict(logits: Array) -> Array:
    """Predicted classes [N]: the largest of [N, C] logits, or the sign of a single score.

    A single score, [N] or [N, 1], is the logit of class 1 against class 0; zero predicts class 0.
    """
    if logits.ndim == 1:
        return (logits > 0).astype(jnp.int32)
    if logits.ndim != 2:
        raise ValueError(f"`logits` must have shape [N, C], [N, 1] or [N]; got {logits.shape}")
    if logits.shape[1] == 1:
        return predict(logits[:, 0])
    return jnp.argmax(logits, axis=1).astype(jnp.int32)


def margins(logits: Array, labels: Array) -> Array:
    r"""Functional margins: :math:`u_i = z_{y_i} - \max_{j \ne y_i} z_j`, or y f(x) of a score.

    Positive where the prediction is right. Not divided by any norm of the network.

    Args:
      logits: [N, C], or [N] or [N, 1] for a single score.
      labels: [N], integer classes.

    Returns:
      Margins [N], in the logits' dtype; nan for a label that is none of the C classes.

    References:
      zhou2022, Sec. 2.1 (both forms).

    Example:
      >>> import jax.numpy as jnp
      >>> margins(jnp.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), jnp.array([0, 1]))
      Array([ 2., -2.], dtype=float32)
    """
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        return binary_margins(logits, labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "margins need logits [N, C] (or one score per example, [N] or [N, 1]) and integer "
            f"labels [N]; got logits {logits.shape} and labels {labels.shape}"
        )
    is_label = labels[:, None] == jnp.arange(logits.shape[1])[None, :]
    of_label = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    own = of_label - jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=1)
    return nan_if(~in_range(labels, logits.shape[1]), own)


def confusion_matrix(
    labels: Array, predictions: Array, num_classes: int, *, mask: Array | None = None
) -> Array:
    """Counts [C, C] of examples by true class (row) and predicted class (column), as floats.

    A class outside [0, C) that is not masked makes them all nan.
    """
    keep = _keep(mask, labels=labels, predictions=predictions)
    known = in_range(labels, num_classes) & in_range(predictions, num_classes)
    rows, columns = (jnp.where(known, classes, 0) for classes in (labels, predictions))
    counts = jnp.zeros((num_classes, num_classes), keep.dtype)
    return nan_if(jnp.any(~known & (keep > 0)), counts.at[rows, columns].add(keep))


def accuracy(labels: Array, predictions: Array, *, mask: Array | None = None) -> Array:
    """Fraction of correct predictions (santiago2021, Eq. 12)."""
    keep = _keep(mask, labels=labels, predictions=predictions)
    return jnp.sum(keep * (labels == predictions)) / jnp.sum(keep)


def per_class_accuracy(
    labels: Array, predictions: Array, num_classes: int, *, mask: Array | None = None
) -> Array:
    """Recall [C] of each class; nan for a class without examples."""
    counts = confusion_matrix(labels, predictions, num_classes, mask=mask)
    return jnp.diagonal(counts) / jnp.sum(counts, axis=1)


def balanced_accuracy(
    labels: Array, predictions: Array, num_classes: int, *, mask: Array | None = None
) -> Array:
    """Mean recall of the classes that are present (santiago2021, Eq. 13)."""
    return jnp.nanmean(per_class_accuracy(labels, predictions, num_classes, mask=mask))


def mean_f1(
    labels: Array, predictions: Array, num_classes: int, *, mask: Array | None = None
) -> Array:
    """Mean over classes of 2 TP / (2 TP + FN + FP) (santiago2021, Eq. 15).

    A class that is neither present nor predicted is left out.
    """
    counts = confusion_matrix(labels, predictions, num_classes, mask=mask)
    present_plus_predicted = jnp.sum(counts, axis=1) + jnp.sum(counts, axis=0)
    return jnp.nanmean(2 * jnp.diagonal(counts) / present_plus_predicted)


@jax.jit
def area_under_roc(scores: Array, positives: Array, *, mask: Array | None = None) -> Array:
    """Probability that a random positive outscores a random negative; a tie counts one half.

    Exact, in O(N log N): each positive is looked up among the sorted negatives.

    Args:
      scores: [N], larger meaning more likely positive; infinities are ordered as usual.
      positives: [N], boolean or 0/1.
      mask: optional [N].

    Returns:
      A scalar in [0, 1]; nan if there is no positive or no negative, or if a score is nan.
    """
    keep = _keep(mask, scores=scores, positives=positives) > 0
    is_positive = keep & (positives != 0)
    is_negative = keep & (positives == 0)
    num_negatives = jnp.sum(is_negative)
    negatives = jnp.sort(jnp.where(is_negative, scores, jnp.inf))  # the others go to the end
    num_below = jnp.searchsorted(negatives, scores, side="left")
    num_up_to = jnp.searchsorted(negatives, scores, side="right")
    num_up_to = jnp.minimum(num_up_to, num_negatives)  # a score of +inf passes the others as well
    fraction_outscored = (num_below + num_up_to) / (2 * num_negatives)
    auc = jnp.mean(fraction_outscored, where=is_positive)
    return jnp.where(jnp.any(keep & jnp.isnan(scores)), jnp.nan, auc)


def mean_auc(probabilities: Array, labels: Array, *, mask: Array | None = None) -> Array:
    """Mean over the classes present of the one-against-rest AUC (santiago2021, Eq. 14).

    Args:
      probabilities: [N, C], or any scores in which a larger column c speaks more for class c. A
        binary score s [N] goes to `area_under_roc`, or here as `stack([-s, s], axis=1)`.
      labels: [N], integer classes.
      mask: optional [N].

    Returns:
      A scalar in [0, 1]; nan if all examples have the same class, or one has none of the C.
    """
    if probabilities.ndim != 2:
        raise ValueError(f"`probabilities` must have shape [N, C]; got {probabilities.shape}")
    keep = _keep(mask, labels=labels, probabilities=probabilities[:, 0])
    is_class = labels[:, None] == jnp.arange(probabilities.shape[1])[None, :]
    auc_per_class = jax.vmap(
        lambda scores, positives: area_under_roc(scores, positives, mask=keep), in_axes=1
    )(probabilities, is_class)
    is_present = jnp.any(is_class & (keep[:, None] > 0), axis=0)
    has_no_class = jnp.any(~jnp.any(is_class, axis=1) & (keep > 0))
    return nan_if(has_no_class, jnp.mean(auc_per_class, where=is_present))


def effective_sample_size(weights: Array, *, mask: Array | None = None) -> Array:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 if all weights are zero.

    It is N for equal weights and 1 for a single non-zero weight, whatever their scale.
    """
    weights = jnp.where(_keep(mask, weights=weights) > 0, weights, 0)
    largest = jnp.max(jnp.abs(weights), initial=0)
    weights = weights / jnp.where(largest > 0, largest, 1)  # the squares of tiny weights underflow
    sum_of_squares = jnp.sum(weights**2)
    return jnp.sum(weights) ** 2 / jnp.where(sum_of_squares == 0, 1, sum_of_squares)


def corruption_auc(weights: Array, is_corrupted: Array, *, mask: Array | None = None) -> Array:
    """How well a low weight detects a corrupted example: the AUC of `-weights`.

    It is 1 if every corrupted example weighs less than every clean one, and 1/2 for equal weights.
    """
    return area_under_roc(-weights, is_corrupted, mask=mask)


def _keep(mask: Array | None, **vectors: Array) -> Array:
    """The mask [N] as exact zeros and ones, after checking that it and `vectors` are all [N]."""
    if mask is not None:
        vectors["mask"] = mask
    shapes = {name: vector.shape for name, vector in vectors.items()}
    shape, *others = shapes.values()
    if len(shape) != 1 or any(other != shape for other in others):
        raise ValueError(f"expected arrays of one shape [N]; got {shapes}")
    return jnp.ones(shape, float) if mask is None else (mask != 0).astype(float)
