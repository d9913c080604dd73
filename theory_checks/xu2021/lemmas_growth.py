r"""How the loss of a homogeneous predictor falls with the sum of the steps (xu2021, Lemma A.1).

For a smooth predictor, homogeneous of degree a, :math:`L = \sum_i c_i e^{-u_i}` with all
:math:`c_i \ge 1`, and small steps from a loss :math:`L_0 \le e^{-2}` on

.. math:: \int_{L_t}^{L_0} \frac{dx}{x^2 \log(1/x)^{2 - 2/a}}
   \ge \frac{a^2}{2}\, \hat\gamma_0^{2/a} \sum_{j<t} \eta_j, \qquad
   \hat\gamma = \frac{\log(1/L)}{\|\theta\|^a} \le \min_i \frac{u_i}{\|\theta\|^a},

as :math:`\sum_i c_i u_i e^{-u_i} \ge L \log(1/L)`: corrected, the paper prints the integrand.
"""

from typing import NamedTuple

import numpy as np
import scipy.integrate
import scipy.special

from theory_checks.common.columns import Number, concatenate, stack
from theory_checks.common.reference import separable_points, weighted_problems
from theory_checks.records import Check, Measured

DEGREES = (1, 2, 3)
WIDTH = 4  # hidden units of a predictor of degree 2 or 3
TOLERANCE = 1e-9


class HomogeneousRun(NamedTuple):
    """T records from the first step with L <= exp(-2); or of S runs, [S, ...]."""

    log_risks: np.ndarray  # [T]
    sum_steps: np.ndarray  # [T]
    margins: np.ndarray  # [T] normalized
    smoothed: np.ndarray  # [T] log(1/L) / |theta|^degree
    key: np.ndarray  # [T] sum c u exp(-u) / (L log(1/L)) - 1
    sides: np.ndarray  # [T / 50] left over right side
    euler: Number  # |<grad f, theta> - degree f|, largest


class SmallCoefficients(NamedTuple):
    """By how much two steps fail with coefficients w / n, below one; or for S sets, [S]."""

    key: Number  # L log(1/L) - sum c u exp(-u)
    smoothed: Number  # smoothed less normalized margin


def loss_growth(*, num_sets: int = 4, last: int = 1000, seed: int = 0) -> Check:
    """X-A1 for homogeneous predictors of degree 1, 2 and 3; see `_homogeneous_run`."""
    rng = np.random.default_rng(seed)
    by_degree: dict[int, HomogeneousRun] = {}
    printed = []
    for degree in DEGREES:
        runs = []
        for _ in range(num_sets):
            points = separable_points(rng, 20, 2, gap=(0.8, 1.5))
            problems = weighted_problems(rng, [points])
            weights = problems.weights[rng.integers(len(problems.weights))]
            runs.append(_homogeneous_run(rng, points, weights / weights.min(), degree, last))
            printed.append(_small_coefficients(points, weights, problems.directions[0]))
        by_degree[degree] = stack(runs)
    small = stack(printed)
    failure = float(np.max(small.key))
    return Check(
        "X-A1",
        "integral of dx / (x^2 log(1/x)^(2-2/a)) >= (a^2 / 2) smoothed margin^(2/a) sum of steps",
        "EXACT-CORR",
        (
            *_growth_rows(by_degree),
            *(
                Measured(f"degree {degree}: smallest left / right side", float(runs.sides.min()))
                for degree, runs in by_degree.items()
            ),
        ),
        assumptions="homogeneous and smooth predictor, L = sum c exp(-u) with all c >= 1, small "
        "steps, from the first step with L <= exp(-2)",
        control=(
            Measured("coefficients w / n: L log(1/L) - sum c u exp(-u)", failure, TOLERANCE),
            Measured(
                "coefficients w / n: smoothed - normalized margin",
                float(np.max(small.smoothed)),
                TOLERANCE,
            ),
        ),
        erratum=(
            "The left side is printed as the integrand at L(t) instead of its integral from L(t) "
            "to L(t_0), and the paper's margin stands where the smoothed margin log(1/L) / "
            "|theta|^a must. With coefficients w / n below one the step L log(1/L) <= sum c u "
            f"exp(-u) fails by {failure:.2g}; with c = w / min w the lemma holds."
        ),
    )


def _growth_rows(by_degree: dict[int, HomogeneousRun]) -> list[Measured]:
    """The lemma for every degree, and the steps of its proof over all degrees."""
    lemma = [
        Measured(f"degree {degree}: 1 - left / right side", 1 - float(runs.sides.min()), TOLERANCE)
        for degree, runs in by_degree.items()
    ]
    every = concatenate(by_degree.values())
    steps = [
        Measured("Euler's identity, error", float(np.max(every.euler)), TOLERANCE),
        Measured("1 - sum c u exp(-u) / (L log(1/L))", float(np.max(-every.key)), TOLERANCE),
        Measured(
            "smoothed - normalized margin",
            float(np.max(every.smoothed - every.margins)),
            TOLERANCE,
        ),
        Measured(
            "decrease of the smoothed margin in a step",
            float(np.max(-np.diff(every.smoothed))),
            TOLERANCE,
        ),
    ]
    return [lemma[0], *steps, *lemma[1:]]


def _small_coefficients(
    points: np.ndarray, weights: np.ndarray, direction: np.ndarray
) -> SmallCoefficients:
    """At theta = 3 theta*, degree 1, with the coefficients w / n of the mean."""
    margins = points @ (3 * direction)
    losses = weights / len(points) * np.exp(-margins)
    total = losses.sum()
    return SmallCoefficients(
        key=total * np.log(1 / total) - losses @ margins,
        smoothed=(np.log(1 / total) - margins.min()) / 3,
    )


def _homogeneous_run(
    rng: np.random.Generator, points: np.ndarray, coefficients: np.ndarray, degree: int, last: int
) -> HomogeneousRun:
    """Descends sum c exp(-f) for f = a . (V z)^(degree - 1), or z . theta for degree 1.

    Steps grow as the loss falls, 0.05 / (L log(1/L)^(3 - 2/degree)) at most, as the lemma allows.
    """
    size = points.shape[1]
    theta = rng.normal(size=size if degree == 1 else WIDTH * (1 + size)) * 0.3
    records, euler, total_steps = [], [], 0.0
    while len(records) < last:
        values, jacobian = _predict(points, theta, degree)
        euler.append(np.max(np.abs(jacobian @ theta - degree * values)))
        terms = np.log(coefficients) - values
        log_risk = float(np.asarray(scipy.special.logsumexp(terms)))
        shares = np.exp(terms - log_risk)
        level = max(-log_risk, 1.0)
        rate = 0.05 / (np.exp(log_risk) * level ** (3 - 2 / degree))
        if not records and log_risk <= -2:
            total_steps = 0.0
        if records or log_risk <= -2:
            norm = np.linalg.norm(theta) ** degree
            smoothed, key = -log_risk / norm, shares @ values / -log_risk - 1
            records.append((log_risk, total_steps, values.min() / norm, smoothed, key))
        theta = theta + rate * np.exp(log_risk) * (shares @ jacobian)
        total_steps += rate
    log_risks, sum_steps, margins, smoothed, key = np.array(records).T
    left = np.array([_integral(-log_risks[0], -end, degree) for end in log_risks[1::50]])
    right = 0.5 * degree**2 * smoothed[0] ** (2 / degree) * sum_steps[1::50]
    return HomogeneousRun(
        log_risks, sum_steps, margins, smoothed, key, sides=left / right, euler=np.max(euler)
    )


def _predict(points: np.ndarray, theta: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [N] and their Jacobian [N, P]; labels are folded in, for the net with odd parts."""
    if degree == 1:
        return points @ theta, points
    outer, inner = theta[:WIDTH], theta[WIDTH:].reshape(WIDTH, -1)
    hidden = points @ inner.T
    power = degree - 1
    features = np.sign(hidden) * np.abs(hidden) ** power
    slopes = power * np.abs(hidden) ** (power - 1)
    by_inner = (slopes * outer)[:, :, None] * points[:, None, :]
    return features @ outer, np.hstack([features, by_inner.reshape(len(points), -1)])


def _integral(start: float, end: float, degree: int) -> float:
    """The integral with v = log(1/x), of exp(v) / v^(2 - 2 / degree)."""
    if degree == 1:
        return float(np.exp(end) - np.exp(start))
    result = scipy.integrate.quad(
        lambda v: np.exp(v) / v ** (2 - 2 / degree), start, end, epsrel=1e-11, limit=200
    )
    return float(result[0])
