r"""The maximal margin of labelled data, with the dual weights that prove it.

.. math:: \gamma^\star = \max_{\|\theta\| \le 1} \min_i y_i \theta^\top x_i
   = \min_{p \in \Delta} \Big\| \sum_i p_i y_i x_i \Big\|, \qquad
   \theta^\star = \frac{1}{\gamma^\star} \sum_i p^\star_i y_i x_i

xu2021 is Xu, Ye, Ruan, "Understanding the role of importance weighting for deep learning", ICLR
2021, arXiv:2103.15209: gradient descent on any weighted risk turns towards :math:`\theta^\star`,
and weights near the dual :math:`p^\star` turn it fastest.

The solvers run on the host, in NumPy and in 64 bits whatever JAX's setting: the number of steps
depends on the data, the gap asked for is below what 32 bits hold, and results are constants of an
experiment. So arguments must be concrete, and the functions cannot be called under `jit`, `vmap` or
`grad`.
"""

from typing import NamedTuple

import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from weighting._checks import check_positive
from weighting.implicit_bias._simplex_qp import HullPoints, gram_points, nearest_point, row_points

MAX_ITERATIONS = 20_000


class MaxMargin(NamedTuple):
    """The separating hyperplane of largest margin, and its certificate; NumPy arrays, 64 bits.

    `separable` is proved by `direction`, whose margin is positive, and its opposite by `dual`,
    whose combination of the points vanishes (Gordan's theorem). Without either proof `converged` is
    False.
    """

    direction: np.ndarray  # [D], unit norm; zero, the maximiser over the ball, if not separable
    intercept: np.ndarray  # [], zero unless it was asked for
    margin: np.ndarray  # [], min_i y_i (direction . x_i + intercept); zero if not separable
    dual: np.ndarray  # [N], on the simplex; with an intercept half of it on either class
    gap: np.ndarray  # [], (residual - margin) / residual; one if not separable
    residual: np.ndarray  # [], |sum_i p_i y_i x_i|, never below the margin of any direction
    support: np.ndarray  # [N] boolean, where the dual is positive
    separable: np.ndarray  # [] boolean
    converged: np.ndarray  # [] boolean: gap <= tol, or residual zero but for rounding


class KernelMaxMargin(NamedTuple):
    r"""As `MaxMargin`, with :math:`f(x) = \sum_i c_i k(x_i, x) + b` in place of a direction."""

    coefficients: np.ndarray  # [N], c = y p / margin, of unit norm in feature space
    intercept: np.ndarray
    margin: np.ndarray
    dual: np.ndarray
    gap: np.ndarray
    residual: np.ndarray
    support: np.ndarray
    separable: np.ndarray
    converged: np.ndarray


class Certificate(NamedTuple):
    """What a solution proves, in the units of the data; shared by all maximal margins."""

    point: np.ndarray  # the maximiser, in the coordinates of the points
    levels: np.ndarray  # [K], the smallest product of every group with the maximiser
    dual: np.ndarray  # [n], a simplex for every group
    margin: float  # the levels' sum
    gap: float
    residual: float
    converged: bool


def max_margin(
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    intercept: bool = False,
    tol: float = 1e-9,
    max_iterations: int = MAX_ITERATIONS,
) -> MaxMargin:
    r"""The hard-margin linear classifier, through the origin or not, and its dual.

    Without an intercept the margin is the distance of the origin from the convex hull of the
    :math:`z_i = y_i x_i`. With one it is half the distance of the two classes' hulls, which is
    :math:`1 / \|w\|` of a support vector machine with an intercept:

    .. math:: \max_{\|\theta\| \le 1,\ b} \min_i y_i (\theta^\top x_i + b)
       = \min_{p \in \Delta,\ \sum_i y_i p_i = 0} \Big\| \sum_i p_i y_i x_i \Big\|

    The multipliers of the support vector machine are :math:`p^\star / \gamma^{\star 2}`. Linearly
    dependent support vectors leave :math:`p^\star` free; one that needs at most D + 1 of them
    (D + 2 with an intercept) is returned.

    If no hyperplane separates the data, the margin is zero, its value over the unit ball (a
    negative margin is not optimised), and `dual` proves it.

    Args:
      inputs: [N, D], finite.
      labels: [N], -1 or +1; with an intercept both must occur.
      intercept: whether the hyperplane may miss the origin.
      tol: relative duality gap to reach. Rounding alone leaves about 1e-15 times the ratio of the
        largest input's norm to the margin.
      max_iterations: changes of the active set.

    Returns:
      A `MaxMargin`; `converged` tells whether its certificate is complete. Cost: O(N D) for every
      few dozen support vectors, and O(S (S + D)) for each of S of them.

    Raises:
      ValueError: for malformed data.

    References:
      xu2021, Prop. 1 and (A.4), where the maximum over i should read minimum, and one of two
      formulas of the direction lacks the division by the margin. Wolfe, "Finding the nearest point
      in a polytope", Mathematical Programming 11, 1976.

    Example:
      >>> solution = max_margin([[3.0, 0.0], [0.0, -4.0]], [1, -1])
      >>> solution.margin.round(12), solution.dual.round(12)
      (np.float64(2.4), array([0.64, 0.36]))
    """
    check_positive("tol", tol)
    inputs = read_matrix("inputs", inputs, "[N, D]")
    signs = _read_signs(labels, len(inputs), intercept)
    center = inputs.mean(axis=0) if intercept else np.zeros(inputs.shape[1])
    points = inputs - center[None]
    points *= signs[:, None]
    groups, scale = _groups(signs, intercept), largest_norm(points)
    points /= scale
    start = _start_of_rows(points, groups)
    certificate = certify(row_points(points, groups), start, scale, tol, max_iterations)
    direction = certificate.point
    offset = _offset(certificate) - float(center @ direction) if intercept else 0.0
    return MaxMargin(direction, *_scalars_and_dual(certificate, groups, offset))


def kernel_max_margin(
    gram: ArrayLike,
    labels: ArrayLike,
    *,
    intercept: bool = False,
    tol: float = 1e-9,
    max_iterations: int = MAX_ITERATIONS,
) -> KernelMaxMargin:
    r"""The maximal margin in the feature space of a kernel, from the Gram matrix alone.

    Args:
      gram: [N, N], :math:`k(x_i, x_j)`: symmetric and positive semidefinite.
      labels: [N], -1 or +1; with an intercept both must occur.
      intercept: whether the hyperplane may miss the origin.
      tol: relative duality gap to reach. Squares are all a Gram matrix holds, so rounding leaves
        about 1e-15 times the *square* of the ratio of the largest feature's norm to the margin,
        and data count as not separable below a ratio of 1e-6.
      max_iterations: changes of the active set.

    Returns:
      A `KernelMaxMargin`; `converged` tells whether its certificate is complete.

    Raises:
      ValueError: for malformed data.
    """
    check_positive("tol", tol)
    gram = read_matrix("gram", gram, "[N, N]")
    if gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be square, k(x_i, x_j); got shape {gram.shape}")
    diagonal = np.diagonal(gram)
    if not np.allclose(gram, gram.T, rtol=1e-6, atol=1e-6 * np.max(np.abs(diagonal))):
        raise ValueError("gram must be symmetric; is it k(x_i, x_j) over one set of points?")
    if np.any(diagonal < 0):
        raise ValueError("gram has a negative diagonal, so it is no positive semidefinite kernel")
    signs = _read_signs(labels, len(gram), intercept)
    scale = float(np.sqrt(diagonal.max())) or 1.0
    products = signs[:, None] * (0.5 * (gram + gram.T) / scale**2) * signs[None]
    groups = _groups(signs, intercept)
    start = [_first_smallest(np.diagonal(products), groups == k) for k in range(groups.max() + 1)]
    points = gram_points(products, groups)
    certificate = certify(points, np.array(start), scale, tol, max_iterations)
    offset = _offset(certificate) if intercept else 0.0
    coefficients = signs * certificate.point / scale
    return KernelMaxMargin(coefficients, *_scalars_and_dual(certificate, groups, offset))


def certify(
    points: HullPoints, start: np.ndarray, scale: float, tol: float, max_iterations: int
) -> Certificate:
    """Solves for points that were divided by `scale`, and takes stock in the data's units.

    The margin is that of the maximiser, and the residual that of the dual weights, each evaluated
    by itself. Over K groups both are K times what they are for weights of sum one.
    """
    solution = nearest_point(points, start, tol, max_iterations)
    num_groups = len(start)
    dual = solution.dual / np.bincount(points.groups, solution.dual)[points.groups]
    support = np.flatnonzero(dual)
    residual = points.norm(points.combine(support, points.rows(support), dual[support]))
    smallest = np.array([solution.products[points.groups == k].min() for k in range(num_groups)])
    vanishes = residual <= 10 * points.origin
    if vanishes or smallest.sum() <= 0:
        zero = np.zeros_like(solution.point)
        return Certificate(zero, 0 * smallest, dual, 0.0, 1.0, scale * residual, vanishes)
    levels = smallest / solution.norm
    gap = float(1 - levels.sum() / residual)
    return Certificate(
        point=solution.point / solution.norm,
        levels=scale * levels,
        dual=dual,
        margin=float(scale * levels.sum()),
        gap=gap,
        residual=scale * residual,
        converged=gap <= tol,
    )


def check_concrete(name: str, value: ArrayLike) -> None:
    """Refuses what jit, vmap or grad traces."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} is traced: the solver runs on the host, with as many steps as the data need. "
            "Call it outside jit, vmap and grad, and use its result as a constant."
        )


def read_matrix(name: str, value: ArrayLike, shape: str) -> np.ndarray:
    """The value as a finite 64-bit matrix with at least one row and column."""
    check_concrete(name, value)
    array = np.asarray(value, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty matrix {shape}; got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite; it contains NaN or infinity")
    return array


def largest_norm(points: np.ndarray) -> float:
    """The largest norm of a row, or one if all are zero; squares neither over- nor underflow."""
    largest = float(max(points.max(), -points.min())) or 1.0
    return largest * (float(np.sqrt(np.max(_squared_norms(points / largest)))) or 1.0)


def _read_signs(labels: ArrayLike, num_examples: int, intercept: bool) -> np.ndarray:
    check_concrete("labels", labels)
    signs = np.asarray(labels, np.float64)
    if signs.shape != (num_examples,):
        raise ValueError(f"labels must be a vector [{num_examples}]; got shape {signs.shape}")
    if not np.all(np.abs(signs) == 1):
        values = np.unique(signs)[:5].tolist()
        raise ValueError(f"labels must be -1 or +1, got {values}; for 0 and 1 pass 2 * labels - 1")
    if intercept and np.all(signs == signs[0]):
        raise ValueError("with an intercept both classes must occur: one alone has no margin")
    return signs


def _groups(signs: np.ndarray, intercept: bool) -> np.ndarray:
    return (signs > 0).astype(int) if intercept else np.zeros(len(signs), int)


def _start_of_rows(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The shortest point; of two groups, points that come near to a shortest pair."""
    squares = _squared_norms(points)
    if groups.max() == 0:
        return np.array([_first_smallest(squares, groups == 0)])
    target = points[groups == 1].mean(axis=0)
    first = _first_smallest(squares + 2 * np.vecdot(points, target), groups == 0)
    return np.array(
        [first, _first_smallest(squares + 2 * np.vecdot(points, points[first]), groups == 1)]
    )


def _squared_norms(points: np.ndarray) -> np.ndarray:
    return np.vecdot(points, points)


def _first_smallest(values: np.ndarray, allowed: np.ndarray) -> int:
    return int(np.argmin(np.where(allowed, values, np.inf)))


def _offset(certificate: Certificate) -> float:
    """The intercept that gives both classes the same smallest margin."""
    negative, positive = certificate.levels
    return 0.5 * (negative - positive)


def _scalars_and_dual(certificate: Certificate, groups: np.ndarray, offset: float) -> tuple:
    num_groups = groups.max() + 1
    return (
        np.asarray(offset),
        np.asarray(certificate.margin / num_groups),
        certificate.dual / num_groups,
        np.asarray(certificate.gap),
        np.asarray(certificate.residual / num_groups),
        certificate.dual > 0,
        np.asarray(certificate.margin > 0),
        np.asarray(certificate.converged),
    )
