r"""The maximal margin of a linear classifier of several classes, with its dual (Crammer, Singer).

.. math:: \gamma^\star = \max_{\|W\|_F \le 1} \min_i \big(w_{y_i}^\top x_i
   - \max_{j \ne y_i} w_j^\top x_i\big) = \min_{p \in \Delta} \Big\| \sum_{i, j \ne y_i} p_{ij}\,
   x_i (e_{y_i} - e_j)^\top \Big\|_F

The nearest point to the origin of a hull of N (C - 1) matrices, found as in `max_margin`, on the
host.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from weighting._checks import check_positive
from weighting.implicit_bias._simplex_qp import HullPoints
from weighting.implicit_bias.max_margin import (
    MAX_ITERATIONS,
    certify,
    check_concrete,
    largest_norm,
    read_matrix,
)


class MulticlassMaxMargin(NamedTuple):
    """As `max_margin.MaxMargin`, with one dual weight per example and wrong class."""

    direction: np.ndarray  # [D, C], unit Frobenius norm, columns of sum zero; or zero
    margin: np.ndarray  # [], min_i f_y - max_j f_j; zero if not separable
    dual: np.ndarray  # [N, C], of sum one; zero at the labels
    gap: np.ndarray  # []
    residual: np.ndarray  # []
    support: np.ndarray  # [N] boolean, the examples with a positive dual
    separable: np.ndarray  # [] boolean
    converged: np.ndarray  # [] boolean


def multiclass_max_margin(
    inputs: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    tol: float = 1e-9,
    max_iterations: int = MAX_ITERATIONS,
) -> MulticlassMaxMargin:
    r"""The linear classifier through the origin of largest margin over the best wrong class.

    Two classes give :math:`W = \theta^\star (-1, 1) / \sqrt 2` and :math:`\sqrt 2` times the margin
    of `max_margin`: its direction in both columns. This is the limit direction of gradient descent
    on the cross-entropy of separable data.

    Args:
      inputs: [N, D], finite.
      labels: [N], integers in 0..C-1; classes may be absent.
      num_classes: C, at least 2.
      tol: relative duality gap to reach.
      max_iterations: changes of the active set.

    Returns:
      A `MulticlassMaxMargin`; `converged` tells whether its certificate is complete. Cost: O(N D C)
      for every few dozen support vectors, and O(S (S + D C)) for each of S of them.

    Raises:
      ValueError: for malformed data.

    References:
      Crammer, Singer, "On the algorithmic implementation of multiclass kernel-based vector
      machines", JMLR 2, 2001.

    Example:
      >>> solution = multiclass_max_margin([[1.0, 0.0], [0.0, 1.0]], [0, 1], 2)
      >>> solution.direction.round(2).tolist(), solution.margin.round(12)
      ([[0.5, -0.5], [-0.5, 0.5]], np.float64(1.0))
    """
    check_positive("tol", tol)
    inputs = read_matrix("inputs", inputs, "[N, D]")
    labels = _read_labels(labels, len(inputs), num_classes)
    scale = np.sqrt(2) * largest_norm(inputs)
    points = _points(inputs / scale, labels, num_classes)
    start = np.argmin(np.sum(inputs**2, axis=1)) * (num_classes - 1)
    certificate = certify(points, np.array([start]), scale, tol, max_iterations)

    others = _other_classes(labels, num_classes)
    dual = np.zeros((len(inputs), num_classes))
    np.put_along_axis(dual, others, certificate.dual.reshape(others.shape), axis=1)
    return MulticlassMaxMargin(
        direction=certificate.point.reshape(-1, num_classes),
        margin=np.asarray(certificate.margin),
        dual=dual,
        gap=np.asarray(certificate.gap),
        residual=np.asarray(certificate.residual),
        support=np.any(dual > 0, axis=1),
        separable=np.asarray(certificate.margin > 0),
        converged=np.asarray(certificate.converged),
    )


def _points(inputs: np.ndarray, labels: np.ndarray, num_classes: int) -> HullPoints:
    """The matrices x_i (e_y - e_j)^T, flattened; built only for the points being priced."""
    num_others = num_classes - 1
    others = _other_classes(labels, num_classes)

    def rows(indices):
        example, place = np.divmod(indices, num_others)
        matrices = np.zeros((len(indices), inputs.shape[1], num_classes))
        each = np.arange(len(indices))
        matrices[each, :, labels[example]] = inputs[example]
        matrices[each, :, others[example, place]] = -inputs[example]
        return matrices.reshape(len(indices), -1)

    def products(x):
        scores = inputs @ x.reshape(-1, num_classes)
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        return (own - np.take_along_axis(scores, others, axis=1)).ravel()

    return HullPoints(
        groups=np.zeros(others.size, int),
        rows=rows,
        products=products,
        combine=lambda indices, some, p: np.einsum("i,ij->j", p, some),
        gram=lambda i, some, j, others: some @ others.T,
        norm=lambda x: float(np.sqrt(x @ x)),
        origin=1e-13,
        cancellation=0.0,
    )


def _other_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """All classes but the label, in order; [N, C - 1]."""
    classes = np.arange(num_classes - 1)[None]
    return classes + (classes >= labels[:, None])


def _read_labels(labels: ArrayLike, num_examples: int, num_classes: int) -> np.ndarray:
    check_concrete("labels", labels)
    if num_classes < 2:
        raise ValueError(f"a margin needs at least two classes, got num_classes = {num_classes}")
    array = np.asarray(labels)
    if array.shape != (num_examples,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels must be integers [{num_examples}]; got {array.dtype} {array.shape}"
        )
    if array.min() < 0 or array.max() >= num_classes:
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}; got {array.min()}..{array.max()}"
        )
    return array.astype(int)
