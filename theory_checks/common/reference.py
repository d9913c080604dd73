r"""Separable data, their max-margin solution and weight arms, for the checks of linear predictors.

Labels are folded into the points, :math:`z_i = y_i x_i`. The solver is SciPy's, so that a claim
about the max-margin direction is not judged by the library's own solver.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from weighting import inverse_margin_weights, kl_matched_weights

FLOOR = 0.2  # of the weights that match the dual


class MarginSolution(NamedTuple):
    """The max-margin direction through the origin, its margin and its dual weights."""

    direction: np.ndarray  # [D], unit norm
    margin: float
    dual: np.ndarray  # [N], on the simplex


def solve_max_margin(points: np.ndarray) -> MarginSolution:
    r"""The shortest vector with :math:`Z \theta \ge 1`, as a nonnegative least-squares problem.

    The residual r of fitting :math:`(0, 1)` by nonnegative combinations of the rows
    :math:`(z_i, 1)` is orthogonal to the support vectors' rows; :math:`\theta = r_z / -r_1`, and
    the combination is the dual up to scale (least-distance programming).
    """
    count, size = points.shape
    target = np.append(np.zeros(size), 1.0)
    coefficients, _ = scipy.optimize.nnls(np.vstack([points.T, np.ones(count)]), target)
    dual = coefficients / coefficients.sum()
    nearest = dual @ points
    margin = float(np.linalg.norm(nearest))
    return MarginSolution(nearest / margin, margin, dual)


def separable_points(
    rng: np.random.Generator, count: int, size: int, *, gap: tuple[float, float] = (0.1, 0.3)
) -> np.ndarray:
    """Points [count, size] in the unit ball, one on its sphere, with `size` support vectors.

    Of normal points those near a random hyperplane are left out, by a distance within `gap`.
    """
    while True:
        truth = rng.normal(size=size)
        points = rng.normal(size=(20 * count, size))
        products = points @ truth / np.linalg.norm(truth)
        points = np.sign(products)[:, None] * points
        points = points[np.abs(products) > rng.uniform(*gap)][:count]
        if len(points) < count:
            continue
        points /= np.linalg.norm(points, axis=1).max()
        if np.count_nonzero(solve_max_margin(points).dual > 1e-9) == size:
            return points


def clear_points(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """As `separable_points`, with duals of at least 0.15 and wide supports: descent settles soon.

    Supports are margin times direction plus offsets across it whose covariance under the dual
    exceeds the squared margin; all other points have at least twice the margin.
    """
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    margin = rng.uniform(0.25, 0.35)
    while True:
        dual = 0.15 + (1 - 0.15 * size) * rng.dirichlet(np.ones(size))
        across = rng.uniform(-0.9, 0.9, (size, size - 1))
        across -= dual @ across
        spread = np.linalg.eigvalsh(across.T * dual @ across)[0]
        if np.abs(across).max() < 0.9 and spread > 1.2 * margin**2:
            break
    others = rng.uniform(-0.6, 0.6, (count - size, size - 1))
    along = np.append(np.full(size, margin), rng.uniform(2 * margin, 0.8, count - size))
    points = np.column_stack([along, np.concatenate([across, others])]) @ basis.T
    return points / max(1.0, np.linalg.norm(points, axis=1).max())


def weight_arms(
    rng: np.random.Generator, points: np.ndarray, solution: MarginSolution, *, bound: float = 10.0
) -> dict[str, np.ndarray]:
    """Weights [N] of mean one: uniform, random, by margin either way, and like the dual."""
    margins = points @ solution.direction
    drawn = bound ** rng.uniform(-1, 1, len(points))
    with jax.enable_x64(True):
        inverse = np.asarray(inverse_margin_weights(jnp.asarray(margins), bound=bound))
        matched = kl_matched_weights(jnp.asarray(solution.dual), FLOOR, form="mixture")
        arms = {
            "uniform": np.ones(len(points)),
            "random": drawn,
            "inverse margin": inverse,
            "anti-margin": margins / margins.mean(),
            "like p*": np.asarray(matched),
        }
    return {name: weights / weights.mean() for name, weights in arms.items()}


class Problems(NamedTuple):
    """S data sets, each with A weight arms; K = S A problems, the arms of a set side by side."""

    names: tuple[str, ...]  # of the A arms
    points: np.ndarray  # [K, N, D]
    weights: np.ndarray  # [K, N]
    directions: np.ndarray  # [K, D]
    margins: np.ndarray  # [K]
    duals: np.ndarray  # [K, N]

    def by_set(self, values: np.ndarray) -> np.ndarray:
        """[K, ...] -> [S, A, ...]."""
        return values.reshape(-1, len(self.names), *values.shape[1:])


def weighted_problems(rng: np.random.Generator, sets: Sequence[np.ndarray]) -> Problems:
    """Every arm of `weight_arms` on every data set."""
    points, weights, solutions = [], [], []
    names: tuple[str, ...] = ()
    for data in sets:
        solution = solve_max_margin(data)
        arms = weight_arms(rng, data, solution)
        names = tuple(arms)
        points += [data] * len(arms)
        solutions += [solution] * len(arms)
        weights += arms.values()
    directions, margins, duals = (np.stack(column) for column in zip(*solutions, strict=True))
    return Problems(names, np.stack(points), np.stack(weights), directions, margins, duals)


def divergence(dual: np.ndarray, weights: np.ndarray) -> float:
    r"""The un-normalised :math:`\sum_i p_i \log(p_i / w_i)`, with 0 log 0 = 0."""
    support = dual > 0
    return float(np.sum(dual[support] * np.log(dual[support] / weights[support])))


def log_risk(points: np.ndarray, weights: np.ndarray, params: np.ndarray) -> np.ndarray:
    """log (1/n) sum_i w_i exp(-z_i . theta) at params [..., D] -> [...]; no overflow."""
    terms = np.log(weights / len(weights)) - params @ points.T
    largest = terms.max(axis=-1)
    return largest + np.log(np.sum(np.exp(terms - largest[..., None]), axis=-1))


def regularized_path(
    points: np.ndarray, weights: np.ndarray, regularizations: np.ndarray, power: float
) -> np.ndarray:
    r"""Global minimisers of sum w exp(-z . theta) + lambda |theta|^r, one per falling lambda.

    By Newton's method with halved steps, each from the one before, until nothing improves.
    """
    theta, minimisers = 1e-3 * points.mean(axis=0), []
    identity = np.eye(points.shape[1])
    for regularization in regularizations:
        value = regularized_risk(points, weights, theta, regularization, power)
        for _ in range(500):
            norm, losses = np.linalg.norm(theta), weights * np.exp(-points @ theta)
            pull = regularization * power * norm ** (power - 2)
            slope = pull * theta - losses @ points
            unit = theta / norm
            curvature = identity + (power - 2) * np.outer(unit, unit)
            hessian = (points.T * losses) @ points + pull * curvature
            step, length = np.linalg.solve(hessian, slope), 1.0
            trial = regularized_risk(points, weights, theta - step, regularization, power)
            while trial > value and length > 1e-10:
                length /= 2
                candidate = theta - length * step
                trial = regularized_risk(points, weights, candidate, regularization, power)
            if trial >= value:
                break
            theta, value = theta - length * step, trial
        minimisers.append(theta)
    return np.stack(minimisers)


def regularized_risk(
    points: np.ndarray,
    weights: np.ndarray,
    params: np.ndarray,
    regularization: float | np.ndarray,
    power: float,
) -> np.ndarray:
    """sum w exp(-z . theta) + lambda |theta|^r at params [..., D] -> [...]."""
    norms = np.linalg.norm(params, axis=-1)
    return np.exp(-params @ points.T) @ weights + regularization * norms**power


def distance(params: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Norms of theta / |theta| - direction, over the last axis."""
    units = params / np.linalg.norm(params, axis=-1, keepdims=True)
    return np.linalg.norm(units - direction, axis=-1)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slopes of y [..., T] against x [T]."""
    centered = x - x.mean()
    return (y - y.mean(axis=-1, keepdims=True)) @ centered / (centered @ centered)


def curve(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """A curve of a plot."""
    return np.asarray(x, float).tolist(), np.asarray(y, float).tolist()


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent values, and the ends of its 95 % interval (Student t)."""
    values = np.ravel(values)
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
