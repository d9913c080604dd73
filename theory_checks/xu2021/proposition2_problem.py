r"""Data of which only a part is separable, known by construction (for xu2021, Prop. 2).

Of the points :math:`z_i = y_i x_i` some have :math:`z_i^\top \theta > 0` for a :math:`\theta` that
is nowhere wrong; S is the span of the rest, :math:`\tilde\theta(w)` the minimiser of the rest's
risk on S, and :math:`\theta^\star_{sep}`, :math:`\gamma_{sep}` the max-margin solution on the
separable part, across S. `risk_bound` is B_t of `proposition2`.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from theory_checks.common.reference import clear_points, separable_points
from theory_checks.xu2021.margin_losses import LOSSES
from weighting.implicit_bias.max_margin import max_margin
from weighting.implicit_bias.separable_part import (
    SeparablePart,
    finite_solution,
    separable_part,
    split_parameters,
)

SHAPES = ((1, 1), (1, 2), (2, 1))  # dimensions of S, and of the separable part across it
ARMS = ("1:5", "1:1", "5:1", "random")  # weights of the negative and the positive class
NUM_SEPARABLE, NUM_REST, SIZE = 12, 8, 3


class OverlappingSet(NamedTuple):
    """Inputs in the unit ball whose separable part is known by construction."""

    inputs: np.ndarray  # [N, D]
    labels: np.ndarray  # [N] -1 or 1
    is_separable: np.ndarray  # [N] bool

    @property
    def points(self) -> np.ndarray:
        return self.labels[:, None] * self.inputs


class OverlappingProblem(NamedTuple):
    """An overlapping set with one weighting, and what the claims need of it."""

    points: np.ndarray  # [N, D]
    weights: np.ndarray  # [N], mean one
    part: SeparablePart
    theta: np.ndarray  # [D], theta~, the minimiser of the rest's risk
    curvature: float  # smallest eigenvalue of the rest's Hessian there, on S
    direction: np.ndarray  # [D], theta*_sep, of the separable part across S
    margin: float  # gamma_sep
    dual: np.ndarray  # [N], zero on the rest


def overlapping_set(
    rng: np.random.Generator, shape: tuple[int, int], *, clear: bool = True
) -> OverlappingSet:
    """A set whose rest spans the first of `shape` dimensions; the part is separated across them.

    The rest overlaps because a positive combination of its points vanishes; a single dimension has
    inputs on one side of zero with both labels. The others have any coordinates on S and are
    separable across it, with `clear` by `clear_points` and near to each other on S: settled soon.
    """
    inside, outside = shape
    if inside == 1:
        labels = np.where(np.arange(NUM_REST) % 2, 1.0, -1.0)
        rest = (labels * rng.uniform(0.3, 1, NUM_REST))[:, None]
    else:
        rest = rng.normal(size=(NUM_REST - 1, inside))
        rest *= (rng.uniform(0.3, 1, NUM_REST - 1) / np.linalg.norm(rest, axis=1))[:, None]
        closing = -rng.uniform(0.5, 1.5, NUM_REST - 1) @ rest
        rest = np.vstack([rest, closing / max(1.0, np.linalg.norm(closing))])
        labels = np.where(rest[:, 0] > 0, 1.0, -1.0)
    if outside == 1:
        low, high = (0.6, 0.8) if clear else (0.35, 0.8)
        across = np.append(0.3, rng.uniform(low, high, NUM_SEPARABLE - 1))[:, None]
    else:
        draw = clear_points if clear else separable_points
        across = draw(rng, NUM_SEPARABLE, outside)
    reach = 0.3 if clear else 0.6
    along = rng.uniform(-reach, reach, (NUM_SEPARABLE, inside))
    points = np.zeros((NUM_SEPARABLE + NUM_REST, SIZE))
    points[:NUM_SEPARABLE, : inside + outside] = np.hstack([along, across])
    points[NUM_SEPARABLE:, :inside] = rest
    points = points @ np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    points /= np.linalg.norm(points, axis=1).max()
    labels = np.append(np.where(np.arange(NUM_SEPARABLE) % 2, 1.0, -1.0), labels)
    order = rng.permutation(len(points))
    is_separable = np.arange(len(points)) < NUM_SEPARABLE
    return OverlappingSet((labels[:, None] * points)[order], labels[order], is_separable[order])


def class_weight_arms(
    rng: np.random.Generator, labels: np.ndarray, *, bound: float = 10.0
) -> dict[str, np.ndarray]:
    """Weights [N] of mean one for every name in `ARMS`; random ones up to a factor `bound`."""
    positive = labels > 0
    arms = {
        "1:5": np.where(positive, 5.0, 1.0),
        "1:1": np.ones(len(labels)),
        "5:1": np.where(positive, 1.0, 5.0),
        "random": bound ** rng.uniform(-1, 1, len(labels)),
    }
    return {name: arms[name] / arms[name].mean() for name in ARMS}


def overlapping_problem(
    data: OverlappingSet, weights: np.ndarray, loss: str = "exponential"
) -> OverlappingProblem:
    """Everything about a weighting of a data set, by the library."""
    part = separable_part(data.inputs, data.labels)
    finite = finite_solution(data.inputs, data.labels, weights, part, loss=loss)
    rest = ~part.is_separable
    across = split_parameters(data.inputs, part)[1][part.is_separable]
    best = max_margin(across, data.labels[part.is_separable])
    dual = np.zeros(len(weights))
    dual[part.is_separable] = best.dual
    # its curvature is that of the rest's mean loss, at weights of mean one there
    curvature = finite.curvature * float(weights[rest].sum()) / len(weights)
    return OverlappingProblem(
        data.points,
        weights,
        part,
        finite.theta,
        curvature,
        best.direction,
        float(best.margin),
        dual,
    )


def rest_gap(problem: OverlappingProblem, inside: np.ndarray, loss: str) -> np.ndarray:
    """The rest's risk at inside [..., D] in S, minus that at theta; no cancellation near it.

    Its gradient at theta vanishes, so the losses' first-order terms are left out of the sum.
    """
    rest = ~problem.part.is_separable
    points, shares = problem.points[rest], problem.weights[rest] / len(problem.weights)
    base, change = points @ problem.theta, (inside - problem.theta) @ points.T
    if loss == "exponential":
        rises = np.exp(-base) * (np.expm1(-change) + change)
    else:
        wrong = scipy.special.expit(-base)
        rises = np.log1p(wrong * np.expm1(-change)) + wrong * change
    return rises @ shares


def separable_risk(problem: OverlappingProblem, params: np.ndarray, loss: str) -> np.ndarray:
    """The separable part's share in the risk at params [..., D]."""
    part = problem.part.is_separable
    losses = LOSSES[loss].values(params @ problem.points[part].T)
    return losses @ problem.weights[part] / len(problem.weights)


def risk_bound(
    problem: OverlappingProblem, times: np.ndarray, rate: float, *, log_factor: float = 1.0
) -> np.ndarray:
    """B_t of the module, [T]; the logarithm may be multiplied by `log_factor`."""
    square = np.sum(problem.theta**2) + (log_factor * np.log(times) / problem.margin) ** 2
    return tail(problem) / times + square / (2 * rate * times)


def tail(problem: OverlappingProblem) -> float:
    """t times what the separable part costs at theta + theta*_sep log t / margin, at most."""
    share = float(problem.weights[problem.part.is_separable].sum() / len(problem.weights))
    return share * float(np.exp(np.linalg.norm(problem.theta)))
