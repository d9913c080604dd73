r"""The margin of weakly regularized minimisers (xu2021, Prop. 3 and A.1).

For :math:`L_\lambda = \sum_i \omega_i e^{-z_i^\top \theta} + \lambda \|\theta\|^r` with
:math:`\sum_i \omega_i = 1`, global minimiser :math:`\theta_\lambda` and normalized margin
:math:`\tilde\gamma`:

.. math:: 0 \le \gamma^\star - \tilde\gamma(\theta_\lambda)
   \le \frac{\log(1 / \omega_{\min})}{\|\theta_\lambda\|}, \qquad
   \tilde\gamma(\theta') \ge \frac{-\log(A / \omega_{\min})}{(A / \lambda)^{1/r}}
   \text{ if } L_\lambda(\theta') \le \tau L_\lambda(\theta_\lambda),

with :math:`A = (\lambda \tau / \gamma^{\star r}) (1 + R^r)`, :math:`R = \log(\gamma^{\star r} /
\lambda) > 0`, where the numerator is positive. These are for linear predictors; the first is
measured for networks too, in `proposition3_networks`.
"""

from typing import NamedTuple

import numpy as np

from theory_checks.common.columns import Number, concatenate, stack
from theory_checks.common.reference import (
    Problems,
    curve,
    log_risk,
    regularized_path,
    regularized_risk,
    separable_points,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.proposition3_networks import network

FACTORS = (1.1, 1.5, 2.0)  # tau
POWERS = (2.0, 3.0)  # r
LAMBDAS = 10.0 ** -np.arange(1, 11)


def checks(preset: str) -> list[Check]:
    """All parts; few data sets for "smoke"."""
    num_sets = 2 if preset == "smoke" else 8
    small = {"num_sets": 2, "num_restarts": 16} if preset == "smoke" else {}
    return [asymptotic(num_sets=num_sets), finite(num_sets=num_sets), network(**small)]


def _separable_problems(rng: np.random.Generator, size: int) -> Problems:
    """The five weightings of one separable set."""
    return weighted_problems(rng, [separable_points(rng, 20, size, gap=(0.3, 0.8))])


# --- the minimiser ----------------------------------------------------------------------------


class MarginGaps(NamedTuple):
    """gamma* - margin(theta_lambda) along L values of lambda, for A weightings; of S sets too."""

    gap: np.ndarray  # [A, L]
    relative: np.ndarray  # [A, L] over gamma*
    bound: np.ndarray  # [A, L] log(1 / w_min) / |theta_lambda|
    maximum: np.ndarray  # [A, L] (A.13) with max_i for min_i, as printed: left / right side
    vacuous: np.ndarray  # [A, L] w_min exp(-|theta| gap), printed as at most 1


def asymptotic(*, num_sets: int = 8, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-P3 (a): the gap of the margin along lambda; its bound is multiplied by `tighten`."""
    rng = np.random.default_rng(seed)
    by_power: dict[float, MarginGaps] = {}  # arrays [S, A, L]
    for power in POWERS:
        sets = [
            _margin_gaps(_separable_problems(rng, 2 + index % 2), power)
            for index in range(num_sets)
        ]
        by_power[power] = stack(sets)
    found = concatenate(by_power.values())
    ratio = float(np.max(found.gap / (tighten * found.bound)))
    maximum = float(np.max(found.maximum))
    return Check(
        "X-P3 asymptotic",
        "0 <= margin* - margin(theta_lambda) <= log(1 / w_min) / |theta_lambda|",
        "EXACT-CORR",
        _gap_rows(found, ratio),
        assumptions="separable, exponential loss, weights of sum one, global minimiser",
        control=(
            Measured("(A.13) with max for min, as printed: left / right side", maximum, 1.0),
            Measured("gap over a fifth of its bound", 5 * ratio, 1.0),
        ),
        erratum=(
            "A.4 defines margins by max_i, with which (A.13) fails by factors up to "
            f"{maximum:.1e}, and prints exp(-|theta|(gamma* - gamma_lambda)) where the line "
            "before gives a plus, which makes the inequality empty. With min_i and the plus the "
            "gap is at most log(1 / w_min) / |theta_lambda|^alpha."
        ),
        plot=Plot(
            "1 / lambda",
            "gap / margin*",
            {
                f"r = {power:.0f}": curve(1 / LAMBDAS, np.mean(own.relative[-1], axis=0))
                for power, own in by_power.items()
            },
            "xy",
        ),
    )


def _gap_rows(found: MarginGaps, ratio: float) -> tuple[Measured, ...]:
    paths = found.relative.reshape(-1, len(LAMBDAS))  # [S A, L]
    spread = np.ptp(found.gap[..., -1], axis=1)  # between the weightings of a set
    return (
        Measured("margin of theta_lambda - margin*", float(np.max(-found.gap)), 1e-12),
        Measured("gap over its bound, lambda 1e-1..1e-10", ratio, 1.0),
        Measured(
            "mean gap at lambda 1e-10 over mean gap at 1e-5",
            float(paths[:, -1].mean() / paths[:, 4].mean()),
            0.8,
        ),
        Measured(
            "share of paths with a larger gap at 1e-10 than at 1e-1",
            float(np.mean(paths[:, -1] > paths[:, 0])),
        ),
        Measured("largest gap at 1e-10 over margin*", float(paths[:, -1].max()), 0.25),
        Measured("mean gap at 1e-10 over margin*", float(paths[:, -1].mean()), 0.1),
        Measured("largest difference of margins between weightings at 1e-10", float(spread.max())),
        Measured(
            "the line printed with a minus sign: its left side, always below 1",
            float(np.max(found.vacuous)),
            1.0,
        ),
    )


def _margin_gaps(problems: Problems, power: float) -> MarginGaps:
    """Of all weightings of one set."""
    points, margin, direction = problems.points[0], problems.margins[0], problems.directions[0]
    rows = []
    for weights in problems.weights:
        shares = weights / weights.sum()  # omega
        thetas = regularized_path(points, shares, LAMBDAS, power)
        norms = np.linalg.norm(thetas, axis=1)
        gap = margin - np.min(thetas @ points.T, axis=1) / norms
        # (A.13) with the largest margin, as printed: fails for its own use, A theta*.
        true = regularized_risk(points, shares, norms[:, None] * direction, 0.0, power)
        rows.append(
            MarginGaps(
                gap=gap,
                relative=gap / margin,
                bound=np.log(1 / shares.min()) / norms,
                maximum=true / np.exp(-norms * np.max(points @ direction)),
                vacuous=shares.min() * np.exp(-norms * gap),
            )
        )
    return stack(rows)


# --- points near the optimum ------------------------------------------------------------------


class RegularizedProblem(NamedTuple):
    """L_lambda(theta) = sum omega exp(-z . theta) + lambda |theta|^r."""

    points: np.ndarray  # [N, D]
    shares: np.ndarray  # [N] omega
    regularization: float  # lambda
    power: float  # r

    def risk(self, params: np.ndarray) -> np.ndarray:
        """L_lambda at params [..., D]."""
        return regularized_risk(self.points, self.shares, params, self.regularization, self.power)


class SublevelEdge(NamedTuple):
    """P points on the edge of L_lambda <= tau min L_lambda; or on E such edges, [E, ...]."""

    bound: Number  # on their margins
    margins: np.ndarray  # [P] normalized
    is_outside: np.ndarray  # [P] L_lambda above the level, beyond rounding


class Sublevels(NamedTuple):
    """Of a path of minimisers: all edges where the bound is positive, and lambda = 1e-10's."""

    edges: list[SublevelEdge]
    last: list[SublevelEdge]
    limits: list[float]  # of the bound as lambda falls, at `last`: gamma* / tau^(1/r)
    loose: list[SublevelEdge]  # at `last`, but within a factor 1e6 of the optimum
    descent: list[float]  # bound over margin of descent's first iterate inside, largest tau


def finite(*, num_sets: int = 8, num_rays: int = 200, seed: int = 1) -> Check:
    """X-P3 (b): margins of points within a factor tau of the optimum."""
    rng = np.random.default_rng(seed)
    found = []
    for power in POWERS:
        for index in range(num_sets):
            problems = _separable_problems(rng, 2 + index % 2)
            weighting = index % len(problems.weights)
            found.append(_sublevels(rng, problems, weighting, power, num_rays))
    edges = stack(edge for own in found for edge in own.edges)
    last = stack(edge for own in found for edge in own.last)
    loose = stack(edge for own in found for edge in own.loose)
    limits = np.array([limit for own in found for limit in own.limits])
    tenth = 0.1 * limits[:, None] / last.margins
    control = (loose.bound[:, None] - loose.margins) / loose.bound[:, None]
    return Check(
        "X-P3 finite",
        "within a factor tau of the optimum: margin >= an explicit bound -> margin* / tau^(1/r)",
        "EXACT-CORR",
        (
            Measured(
                f"bound / margin on the sublevel sets' edge ({edges.margins.size} points)",
                float(np.max(edges.bound[:, None] / edges.margins)),
                1.0,
            ),
            Measured(
                "bound / margin of the first descent iterate inside",
                max(ratio for own in found for ratio in own.descent),
                1.0,
            ),
            Measured("points outside their sublevel set", int(np.sum(edges.is_outside)), 0),
            Measured(
                "margin* / (10 tau^(1/r)) over margin at lambda 1e-10", float(np.max(tenth)), 1.0
            ),
            *_asymptote_rows(),
        ),
        assumptions="as for the minimiser; 1 < tau <= 2; lambda small enough for a positive bound",
        control=(
            Measured(
                "points within a factor 1e6: (bound - margin) / bound",
                float(np.max(control)),
                0.0,
            ),
        ),
    )


def _asymptote_rows() -> tuple[Measured, ...]:
    """The bound over its limit gamma* / tau^(1/r), for gamma* = 0.3, tau = 3/2, r = 2."""
    ratios = [
        _lower_bound(0.3, 10.0**-exponent, 1.5, 2.0, 0.01) * 1.5**0.5 / 0.3
        for exponent in (10, 30, 100, 300)
    ]
    return (
        Measured("bound / its limit at lambda 1e-10", ratios[0]),
        Measured("1 - bound / its limit at lambda 1e-300", 1 - ratios[-1], 0.05),
        Measured(
            "largest decrease of bound / limit from 1e-10 to 1e-300",
            -float(np.min(np.diff(ratios))),
            0,
        ),
    )


def _sublevels(
    rng: np.random.Generator, problems: Problems, weighting: int, power: float, num_rays: int
) -> Sublevels:
    """For one weighting of a set, all lambda and all tau."""
    points, weights = problems.points[0], problems.weights[weighting]
    margin, shares = float(problems.margins[0]), weights / weights.sum()
    thetas = regularized_path(points, shares, LAMBDAS, power)
    found = Sublevels([], [], [], [], [])
    for regularization, theta in zip(LAMBDAS, thetas, strict=True):
        problem = RegularizedProblem(points, shares, regularization, power)
        for factor in FACTORS:
            bound = _lower_bound(margin, regularization, factor, power, shares.min())
            if bound <= 0:
                continue
            found.edges.append(_edge(rng, problem, theta, factor, bound, num_rays))
            if regularization == LAMBDAS[-1]:
                found.last.append(found.edges[-1])
                found.limits.append(margin / factor ** (1 / power))
                # Within a much larger factor the bound of tau no longer holds.
                found.loose.append(_edge(rng, problem, theta, 1e6, bound, num_rays))
            if regularization == LAMBDAS[-1] and factor == FACTORS[-1]:
                passing = _descent(problem, factor * float(problem.risk(theta)))
                found.descent.append(bound / (np.min(points @ passing) / np.linalg.norm(passing)))
    return found


def _lower_bound(
    margin: float, regularization: float, factor: float, power: float, smallest: float
) -> float:
    """The bound on the margin for tau = `factor`; not positive if it says nothing."""
    depth = np.log(margin**power / regularization)  # R
    if depth <= 0:
        return 0.0
    scaled = factor / margin**power * (1 + depth**power)  # A / lambda
    return float(-(np.log(scaled) + np.log(regularization / smallest)) / scaled ** (1 / power))


def _edge(
    rng: np.random.Generator,
    problem: RegularizedProblem,
    minimiser: np.ndarray,
    factor: float,
    bound: float,
    count: int,
) -> SublevelEdge:
    """The points where random rays from the minimiser leave L_lambda <= factor min L_lambda."""
    level = factor * float(problem.risk(minimiser))
    rays = rng.normal(size=(count, len(minimiser)))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    reach = (level / problem.regularization) ** (1 / problem.power) * 3
    low, high = np.zeros(count), np.full(count, reach)
    for _ in range(80):
        middle = (low + high) / 2
        with np.errstate(over="ignore"):
            inside = problem.risk(minimiser + middle[:, None] * rays) <= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    edge = minimiser + low[:, None] * rays
    margins = np.min(edge @ problem.points.T, axis=1) / np.linalg.norm(edge, axis=1)
    return SublevelEdge(bound, margins, problem.risk(edge) > level * (1 + 1e-9))


def _descent(problem: RegularizedProblem, level: float) -> np.ndarray:
    """The first iterate with L_lambda <= level of descent from zero, steps 1 / (L + curvature)."""
    points, shares, regularization, power = problem
    theta = 1e-3 * points.mean(axis=0)
    for _ in range(200_000):
        total = np.exp(log_risk(points, shares * len(shares), theta))
        norm = np.linalg.norm(theta)
        if total + regularization * norm**power <= level:
            return theta
        pull = regularization * power * norm ** (power - 2)
        slope = pull * theta - (shares * np.exp(-points @ theta)) @ points
        theta = theta - slope / (total + pull * (power - 1))
    raise RuntimeError("descent did not reach the sublevel set in 200,000 steps")
