r"""The largest linearly separable part of a data set, and what the rest converges to.

With :math:`z_i = y_i x_i`, example i belongs to the separable part if some :math:`\theta` has
:math:`z_i^\top \theta > 0` and :math:`z_j^\top \theta \ge 0` for all j. By Farkas' lemma it does
not exactly if some :math:`p \ge 0` with :math:`p_i > 0` has :math:`\sum_j p_j z_j = 0`. Both
certificates come from a single linear program,

.. math:: \max_{\theta, s} \sum_i s_i \quad \text{s.t.} \quad s_i \le z_i^\top \theta,
   \quad 0 \le s_i \le 1,

whose solution has :math:`s_i = 1` on the separable part (scale :math:`\theta` up) and 0 on the
rest, and whose multipliers of the first constraints are p, at least one on the rest. On the span of
the rest a weighted risk has a unique minimizer, which gradient descent approaches and the weights
decide; in the orthogonal complement the parameters diverge, whatever the weights.

These functions run on the host in double precision; they are not for use under `jax.jit`.

References:
  Ji and Telgarsky, "The implicit bias of gradient descent on nonseparable data", COLT 2019,
  arXiv:1803.07300, Sec. 2; Xu, Ye and Ruan, "Understanding the role of importance weighting for
  deep learning", ICLR 2021, arXiv:2103.15209, Proposition 2 and App. A.3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from weighting._checks import check_choice

LOSSES = ("logistic", "exponential")
TOLERANCE = 1e-9  # of the certificates, relative to the largest input
GRADIENT_TOLERANCE = 1e-12  # of the minimizer, for inputs of norm at most one, weights of mean one


class SeparablePart(NamedTuple):
    """The largest separable part of N examples in D dimensions, with its certificates."""

    is_separable: np.ndarray  # [N] bool
    theta: np.ndarray  # [D] unit; strictly right on the separable part, zero on the rest
    span_basis: np.ndarray  # [D, k] orthonormal, spans the inputs of the rest
    complement_basis: np.ndarray  # [D, D - k] orthonormal, its orthogonal complement
    multipliers: np.ndarray  # [N] p: zero on the separable part, at least one on the rest
    residual: float  # ||sum_i p_i z_i||: a bound on what any unit theta gains on the rest


class FiniteSolution(NamedTuple):
    """The minimizer of a weighted risk on the non-separable part, within its span."""

    theta: np.ndarray  # [D]
    gradient_norm: float  # of the mean loss at weights of mean one, in the span
    curvature: float  # smallest eigenvalue of that loss's Hessian on the span; inf if k = 0
    num_steps: int


def _signed(inputs: Any, labels: Any) -> np.ndarray:
    inputs, labels = np.asarray(inputs, np.float64), np.asarray(labels, np.float64)
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1]:
        raise ValueError(
            f"inputs must be [N, D] and labels [N]; got {inputs.shape} and {labels.shape}"
        )
    if not inputs.size or not np.all(np.isfinite(inputs)):
        raise ValueError("inputs must be finite, with at least one example and one feature")
    if not np.all(np.abs(labels) == 1):
        raise ValueError("labels must be -1 or +1; map the two classes with 2 * labels - 1")
    return labels[:, None] * inputs


def separable_part(inputs: Any, labels: Any) -> SeparablePart:
    r"""The largest subset that a hyperplane through the origin separates at no cost elsewhere.

    The subset, not the parameters, is unique. It is empty for classes that overlap in general
    position, and everything for separable data. An input of zero is never separable. For a bias,
    append a constant feature.

    Args:
      inputs: [N, D].
      labels: [N], each -1 or +1.

    Returns:
      `SeparablePart`, in double precision. Cost: one sparse linear program with N + D variables,
      and an SVD of the rest. The certificates are checked: on the separable part
      :math:`z_i^\top \theta > 0`; on the rest :math:`z_i^\top \theta = 0` to rounding and
      :math:`p_i \ge 1`; and the residual is within 1e-9 of zero, relative to the largest input. A
      unit vector that is nowhere wrong has a margin of at most the residual on the rest.

    Raises:
      ValueError: if no certificate is found: the data are separable, or not, by less than rounding.

    References:
      Ji and Telgarsky, 2019, Sec. 2; Xu et al., 2021, App. A.3, whose greedy construction solves a
      program for each example.

    Example:
      >>> import numpy as np
      >>> inputs = np.array([[1.0, 0.3], [-1.0, 0.7], [0.0, 1.0], [0.0, 0.5]])
      >>> part = separable_part(inputs, np.array([1, -1, 1, -1]))
      >>> part.is_separable.tolist(), np.abs(part.theta).tolist()
      ([True, True, False, False], [1.0, 0.0])
    """
    signed = _signed(inputs, labels)
    num_examples, num_features = signed.shape
    norms = np.linalg.norm(signed, axis=1)
    units = signed / np.where(norms > 0, norms, 1)[:, None]
    size = float(np.max(norms))

    solution = _linear_program(units)
    is_separable = solution.x[num_features:] > 0.5

    span, complement = _bases(units[~is_separable])
    theta = complement @ (complement.T @ solution.x[:num_features])
    theta /= max(float(np.linalg.norm(theta)), np.finfo(float).tiny)
    multipliers = np.zeros(num_examples)
    if not np.all(is_separable):
        rest = units[~is_separable]
        rough = -solution.ineqlin.marginals[~is_separable]
        exact = rough - np.linalg.lstsq(rest.T, rest.T @ rough, rcond=None)[0]
        exact = np.where(norms[~is_separable] > 0, exact, 1)
        raw = exact / np.where(norms > 0, norms, size or 1)[~is_separable]
        multipliers[~is_separable] = raw / np.min(np.abs(raw))
    residual = float(np.linalg.norm(multipliers @ signed))

    if (
        np.any(units[is_separable] @ theta <= TOLERANCE)
        or np.any(np.abs(units[~is_separable] @ theta) > TOLERANCE)
        or np.any(multipliers[~is_separable] <= 0)
        or residual > TOLERANCE * size
    ):
        raise ValueError(
            "separable_part() found no certificate: the data are separable, or not, by a margin "
            "near rounding errors. Rescale the features, or remove near-duplicate directions"
        )
    return SeparablePart(is_separable, theta, span, complement, multipliers, residual)


def _bases(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of the rows' span, [D, k], and of its complement, [D, D - k]."""
    if not len(rows):
        return np.zeros((rows.shape[1], 0)), np.eye(rows.shape[1])
    _, values, directions = np.linalg.svd(np.linalg.qr(rows, mode="r"), full_matrices=True)
    rank = int(np.sum(values > TOLERANCE * max(values[0], np.finfo(float).tiny)))
    return directions[:rank].T, directions[rank:].T


def _linear_program(units: np.ndarray) -> Any:
    """SciPy's result, by HiGHS: `x` holds (theta [D], xi [N]), `ineqlin` the multipliers.

    SciPy's optimizers are imported when they are first needed: that takes a while.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    num_examples, num_features = units.shape
    solution = linprog(
        np.concatenate([np.zeros(num_features), -np.ones(num_examples)]),
        A_ub=sparse.hstack([sparse.csr_array(-units), sparse.eye_array(num_examples)], "csr"),
        b_ub=np.zeros(num_examples),
        bounds=[(None, None)] * num_features + [(0, 1)] * num_examples,
        method="highs",
    )
    if solution.status != 0:
        raise ValueError(f"the linear program of separable_part() failed: {solution.message}")
    return solution


def split_parameters(theta: Any, part: SeparablePart) -> tuple[Any, Any]:
    """Splits parameters [..., D] into their projections on the span and on its complement.

    On the first, gradient descent converges to `finite_solution`; along the second it diverges.
    NumPy and JAX arrays both work, and leading axes (steps, runs) are kept.

    Example:
      >>> import numpy as np
      >>> part = separable_part(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), [1, 1, -1])
      >>> inside, outside = split_parameters(np.array([3.0, 4.0]), part)
      >>> np.round(inside, 9).tolist(), np.round(outside, 9).tolist()
      ([0.0, 4.0], [3.0, 0.0])
    """
    span, complement = part.span_basis, part.complement_basis
    return (theta @ span) @ span.T, (theta @ complement) @ complement.T


def finite_solution(
    inputs: Any,
    labels: Any,
    weights: Any,
    part: SeparablePart,
    *,
    loss: str = "logistic",
    start: Any = None,
    max_steps: int = 500,
) -> FiniteSolution:
    r"""The unique minimizer of the weighted risk over the span of the non-separable part.

    .. math::
      \tilde\theta(w)
        = \arg\min_{\theta \in S} \sum_{i \notin \mathrm{sep}} w_i \ell(z_i^\top \theta)

    It depends on the weights' ratios; zero if everything is separable. Newton's method with a
    vanishing ridge, damped by halving.

    Args:
      inputs: [N, D].
      labels: [N], each -1 or +1.
      weights: [N], positive on the non-separable part, of any scale; elsewhere unused.
      part: of the same inputs and labels.
      loss: "logistic", log(1 + exp(-u)), or "exponential", exp(-u).
      start: [D], projected on the span; default zero.
      max_steps: Newton steps before giving up.

    Returns:
      `FiniteSolution`: the gradient's norm, of the mean loss at weights of mean one, is at most
      1e-12 (times the largest input, if that is above one). The distance to the minimizer is near
      gradient_norm / curvature.

    Raises:
      ValueError: if that precision is not reached.

    References:
      Xu et al., 2021, Proposition 2, :math:`\tilde\theta(w)`.

    Example:
      >>> import numpy as np
      >>> inputs, labels = np.array([[1.0], [1.0]]), np.array([1, -1])
      >>> part = separable_part(inputs, labels)
      >>> solution = finite_solution(inputs, labels, np.array([3.0, 1.0]), part)
      >>> np.round(np.exp(solution.theta), 9).tolist()  # the odds
      [3.0]
    """
    check_choice("loss", loss, LOSSES)
    points, own = _weighted_rest(inputs, labels, weights, part)
    basis = part.span_basis
    if basis.shape[1] == 0:
        return FiniteSolution(np.zeros(len(basis)), 0.0, np.inf, 0)
    own = own / np.mean(own)
    size = max(1.0, float(np.max(np.linalg.norm(points, axis=1))))

    def derivatives(alpha: np.ndarray) -> _Derivatives:
        value, slope, curvature = _loss_derivatives(points @ alpha, loss)
        hessian = (points * (own * curvature)[:, None]).T @ points
        return _Derivatives(
            float(np.mean(own * value)),
            points.T @ (own * slope) / len(own),
            hessian / len(own),
        )

    alpha = np.zeros(basis.shape[1]) if start is None else np.asarray(start, np.float64) @ basis
    here = derivatives(alpha)
    for step in range(max_steps + 1):
        gradient_norm = float(np.linalg.norm(here.gradient))
        if gradient_norm <= GRADIENT_TOLERANCE * size:
            curvature = float(np.linalg.eigvalsh(here.hessian)[0])
            return FiniteSolution(basis @ alpha, gradient_norm, curvature, step)
        # the ridge bounds steps where the loss is flat, and vanishes at the minimum
        ridge = 0.01 * size * gradient_norm * np.eye(len(alpha))
        direction = -np.linalg.solve(here.hessian + ridge, here.gradient)
        reached = _first_that_falls(derivatives, alpha, here, direction)
        if reached is None:
            break
        alpha, here = reached
    raise ValueError(
        f"Newton's method stopped at a gradient of norm {np.linalg.norm(here.gradient):.3g}: the "
        "weights or inputs are too uneven, or the start too far. Begin at zero, or raise max_steps"
    )


class _Derivatives(NamedTuple):
    """A risk at some parameters, with its first and second derivatives."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def _weighted_rest(
    inputs: Any, labels: Any, weights: Any, part: SeparablePart
) -> tuple[np.ndarray, np.ndarray]:
    """The non-separable points z in the basis of their span, and their weights."""
    signed, weights = _signed(inputs, labels), np.asarray(weights, np.float64)
    if weights.shape != part.is_separable.shape or len(signed) != len(weights):
        raise ValueError(
            f"inputs, weights and part must agree on N; got {len(signed)}, {weights.shape} and "
            f"{part.is_separable.shape}"
        )
    rest = ~part.is_separable
    own = weights[rest]
    if not np.all((own > 0) & np.isfinite(own)):
        raise ValueError(
            "weights must be positive and finite on the non-separable part: without an example the "
            "others may be separable. Drop examples of weight zero before separable_part()"
        )
    return signed[rest] @ part.span_basis, own


def _first_that_falls(
    derivatives: Callable[[np.ndarray], _Derivatives],
    alpha: np.ndarray,
    here: _Derivatives,
    direction: np.ndarray,
) -> tuple[np.ndarray, _Derivatives] | None:
    """Where the first of 1, 1/2, 1/4, ... of the direction lowers the risk; None if none does."""
    slope = float(direction @ here.gradient)
    for halvings in range(60):
        fraction = 0.5**halvings
        point = alpha + fraction * direction
        trial = derivatives(point)
        falls = trial.value <= here.value + 1e-4 * fraction * slope
        # near the minimum the fall is below rounding, but the gradient still shrinks
        still = trial.value <= here.value * (1 + 1e-12)
        shrinks = np.linalg.norm(trial.gradient) <= 0.5 * np.linalg.norm(here.gradient)
        if falls or (still and shrinks):
            return point, trial
    return None


def _loss_derivatives(margins: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, first and second derivatives of a loss of the margin."""
    if loss == "exponential":
        with np.errstate(over="ignore"):
            value = np.minimum(np.exp(-margins), 1e100)
        return value, -value, value
    wrong = np.exp(-np.logaddexp(0, margins))
    return np.logaddexp(0, -margins), -wrong, wrong * np.exp(-np.logaddexp(0, -margins))
