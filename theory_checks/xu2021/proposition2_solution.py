r"""The minimiser :math:`\tilde\theta(w)` of the points that are not separable (xu2021, Prop. 2)."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

from theory_checks.common.columns import Number, concatenate, stack
from theory_checks.common.reference import curve, mean_interval
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.margin_losses import LOSSES
from theory_checks.xu2021.proposition2_problem import (
    ARMS,
    SHAPES,
    SIZE,
    OverlappingSet,
    class_weight_arms,
    overlapping_problem,
    overlapping_set,
)
from weighting.implicit_bias.separable_part import finite_solution

PRECISION = 1e-8  # of a minimiser: gradients of 1e-12 over curvatures above 1e-3


class Minimisers(NamedTuple):
    """theta~ of A weightings of a set, found from P starts; or of S sets, [S, ...]."""

    theta: np.ndarray  # [A, D] by the library
    library: np.ndarray  # [A, P] |theta from a start - theta|
    scipy: np.ndarray  # [A, P] the same by SciPy
    gradient: Number  # [A] |gradient of the rest's risk at theta|
    norm: Number  # [A] |theta| over its explicit bound

    def distance_of(self, one: str, other: str) -> np.ndarray:
        """|theta~(one) - theta~(other)|, [S]."""
        moved = self.theta[:, ARMS.index(one)] - self.theta[:, ARMS.index(other)]
        return np.array([np.linalg.norm(vector) for vector in moved])


class StartedSet(NamedTuple):
    """A set, starts of its minimisations, and its weightings."""

    data: OverlappingSet
    starts: np.ndarray  # [P, D]
    arms: dict[str, np.ndarray]  # of A weights [N]


def solution(*, num_sets: int = 8, num_starts: int = 10, seed: int = 1) -> Check:
    r"""X-P2, first part: the minimiser is unique, bounded, and moves with the weights.

    With :math:`\rho = \min_{v \in S, \|v\| = 1} \max_i -z_i^\top v`, exponential loss gives
    :math:`\|\tilde\theta\| \le \log(\sum_{rest} w_i / w_{\min}) / \rho`, for
    :math:`\frac{w_i}{n} \ell(z_i^\top \tilde\theta) \le L(0)`; logistic loss
    :math:`\log(2^{\sum_{rest} w_i / w_{\min}} - 1) / \rho`.
    """
    rng = np.random.default_rng(seed)
    sets = [_started_set(rng, SHAPES[i % len(SHAPES)], num_starts) for i in range(num_sets)]
    found = {loss: stack(_minimisers(case, loss) for case in sets) for loss in LOSSES}
    moves = np.stack([own.distance_of("1:5", "5:1") for own in found.values()], axis=1)  # [S, L]
    whole = [_whole_distances(sets[0], loss) for loss in LOSSES]
    return Check(
        "X-P2 solution",
        "the rest's weighted risk has one bounded minimiser on its span, which the weights move",
        "EXACT",
        (*_uniqueness_rows(found, num_starts), *_movement_rows(moves)),
        assumptions="positive weights; exponential and logistic loss",
        control=(
            Measured(
                "separable points included: largest distance from theta",
                float(np.max(whole)),
                PRECISION,
            ),
            Measured(
                "minimiser of the weights swapped: largest distance",
                float(np.max(moves)),
                PRECISION,
            ),
        ),
        plot=Plot(
            "weight of the positive over the negative class",
            "theta on S",
            {loss: _along_class_weights(sets[0].data, loss) for loss in LOSSES},
            "x",
        ),
    )


def _uniqueness_rows(found: dict[str, Minimisers], num_starts: int) -> list[Measured]:
    every = concatenate(found.values())
    return [
        Measured(
            f"library, {num_starts} starts: largest distance",
            float(np.max(every.library)),
            PRECISION,
        ),
        Measured(
            f"SciPy, {num_starts} starts: largest distance", float(np.max(every.scipy)), PRECISION
        ),
        Measured("gradient there in the whole space", float(np.max(every.gradient)), 1e-11),
        Measured("norm over its explicit bound", float(np.max(every.norm)), 1.0),
    ]


def _movement_rows(moves: np.ndarray) -> list[Measured]:
    """|theta~(1:5) - theta~(5:1)| of S sets and both losses, [S, 2]."""
    mean, low, _ = mean_interval(moves.mean(axis=1))
    return [
        Measured(
            "class weights 1:5 and 5:1: minus the smallest distance of minimisers",
            -float(np.min(moves)),
            -0.1,
        ),
        Measured("their mean distance", mean),
        Measured("minus the lower end of its 95 % interval", -low, -0.1),
    ]


def _started_set(rng: np.random.Generator, shape: tuple[int, int], num_starts: int) -> StartedSet:
    data = overlapping_set(rng, shape)
    starts = 3 * rng.normal(size=(num_starts, SIZE))
    return StartedSet(data, starts, class_weight_arms(rng, data.labels))


def _minimisers(case: StartedSet, loss: str) -> Minimisers:
    data, starts, arms = case
    return stack(_minimiser(data, weights, starts, loss) for weights in arms.values())


def _minimiser(
    data: OverlappingSet, weights: np.ndarray, starts: np.ndarray, loss: str
) -> Minimisers:
    """Of one weighting."""
    problem = overlapping_problem(data, weights, loss)
    theta, rest = problem.theta, data.points[~data.is_separable]
    shares = weights[~data.is_separable] / len(weights)  # w_i / n
    basis = scipy.linalg.orth(rest.T)  # of S
    again = [
        finite_solution(
            data.inputs, data.labels, weights, problem.part, loss=loss, start=start
        ).theta
        for start in starts
    ]
    scipys = [basis @ _minimize(rest @ basis, shares, loss, start @ basis) for start in starts]
    pulls = np.exp(-rest @ theta)
    pulls = pulls if loss == "exponential" else pulls / (1 + pulls)  # |l'|
    reach = np.log(shares.sum() / shares.min())
    if loss == "logistic":
        reach = np.log(np.expm1(np.log(2) * shares.sum() / shares.min()))
    return Minimisers(
        theta=theta,
        library=np.array([np.linalg.norm(other - theta) for other in again]),
        scipy=np.array([np.linalg.norm(other - theta) for other in scipys]),
        gradient=np.linalg.norm((shares * pulls) @ rest),
        norm=np.linalg.norm(theta) * depth(rest @ basis) / reach,
    )


def _whole_distances(case: StartedSet, loss: str) -> np.ndarray:
    """How far minimisers of the whole risk, the separable points included, are from theta~; [P]."""
    data, starts, arms = case
    theta, weights = overlapping_problem(data, arms["1:1"], loss).theta, arms["1:1"]
    everywhere = [_minimize(data.points, weights / len(weights), loss, start) for start in starts]
    return np.array([np.linalg.norm(other - theta) for other in everywhere])


def _along_class_weights(data: OverlappingSet, loss: str) -> tuple[list[float], list[float]]:
    """The first coordinate of theta~ on S, by the weight of the positive class."""
    ratios = np.geomspace(0.1, 10, 21)
    basis = scipy.linalg.orth(data.points[~data.is_separable].T)
    weighted = [np.where(data.labels > 0, ratio, 1.0) for ratio in ratios]
    along = [overlapping_problem(data, w / w.mean(), loss).theta @ basis for w in weighted]
    return curve(ratios, np.array(along)[:, 0])


def _minimize(points: np.ndarray, shares: np.ndarray, loss: str, start: np.ndarray) -> np.ndarray:
    """SciPy's minimiser of sum shares loss(z . theta): trust regions, then a root of the slope."""

    def terms(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        margins = points @ theta
        if loss == "exponential":
            return np.exp(-margins), np.exp(-margins)
        wrong = scipy.special.expit(-margins)
        return wrong, wrong * (1 - wrong)

    def gradient(theta: np.ndarray) -> np.ndarray:
        return -(shares * terms(theta)[0]) @ points

    def hessian(theta: np.ndarray) -> np.ndarray:
        return (points * (shares * terms(theta)[1])[:, None]).T @ points

    near = scipy.optimize.minimize(
        lambda theta: float(shares @ LOSSES[loss].values(points @ theta)),
        start,
        method="trust-exact",
        jac=gradient,
        hess=hessian,
        options={"maxiter": 200},
    ).x
    return scipy.optimize.root(gradient, near, jac=hessian, tol=1e-15).x


def depth(points: np.ndarray) -> float:
    """The smallest, over unit v, of max_i -z_i . v; in one dimension or two.

    In the plane the maximum is concave along arcs where a single point attains it, so that the
    smallest is at a v for which two do.
    """
    if points.shape[1] == 1:
        return float(min(points.max(), -points.min()))
    first, second = np.triu_indices(len(points), 1)
    across = (points[first] - points[second]) @ [[0.0, 1.0], [-1.0, 0.0]]
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    return float(np.min(np.max(-np.concatenate([across, -across]) @ points.T, axis=1)))
