r"""The norm of the parameters diverges whatever the weights (xu2021, Claim 1 and (A.1)).

Without regularization and after separation :math:`\|\theta_t\| \approx \log t / \gamma^\star`
(linear); of regularized minimisers :math:`\|\theta_\lambda\| \approx \log(1/\lambda) /
\gamma^\star`. At a fixed :math:`\lambda > 0`, or on non-separable data, norms stay bounded.
"""

import numpy as np
import scipy.special

from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import (
    curve,
    log_risk,
    regularized_path,
    regularized_risk,
    separable_points,
    slope,
    weighted_problems,
)
from theory_checks.records import Check, Plot, Row

BOUND = 10.0  # M: weights lie in [1/M, M]
FIXED = 0.05  # a regularization that is not weak


def checks(preset: str) -> list[Check]:
    """Descent and regularization path; short runs for "smoke"."""
    if preset == "smoke":
        return [descent(num_sets=4, last=10_000, num_nets=2), path(num_sets=2)]
    return [descent(), path()]


def descent(
    *, num_sets: int = 10, last: int = 1_000_000, num_nets: int = 6, seed: int = 0
) -> Check:
    """X-C1 (a), (b), (d), (e): norms along gradient descent of linear models and networks."""
    rng = np.random.default_rng(seed)
    times, decade = log_spaced(last), 4
    sets = [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(num_sets)]
    problems = weighted_problems(rng, sets)
    norms = np.linalg.norm(descend(problems.points, problems.weights, 1.0, times).params, axis=-1)
    slopes = problems.margins[:, None] * _slopes(norms, decade)
    short = log_spaced(min(last, 100_000))
    fixed = descend(problems.points, problems.weights, 1.0, short, regularization=FIXED)
    fixed_norms = np.linalg.norm(fixed.params, axis=-1)
    flipped = problems.points * np.where(np.arange(20) % 4 == 0, -1.0, 1.0)[None, :, None]
    mixed = np.linalg.norm(descend(flipped, problems.weights, 0.5, short).params, axis=-1)
    net_rises, net_slopes = [], []
    for index in range(num_nets):
        run = _network_norms(rng, sets[index % num_sets], 1 + index % 2, min(last, 20_000))
        if len(run):
            degree = 2 + index % 2
            net_rises.append(np.min(np.diff(run)))
            steps = np.log(np.arange(1, len(run) + 1))
            half = len(run) // 2
            net_slopes.append(slope(steps[half:], run[half:] ** degree))
    early, late = (np.mean(np.abs(slopes[:, i] - 1)) for i in (-2 - decade, -1))
    return Check(
        "X-C1 descent",
        "without regularization the norm grows like log t / margin for every bounded weighting",
        "LIMIT",
        (
            Row("largest decrease of the norm between records", -float(np.diff(norms).min()), 0),
            Row("minus the smallest margin d|theta| / d log t, last decade",
                -float(slopes[:, -1].min()), -0.4),
            Row("its largest value", float(slopes[:, -1].max()), 1.1),
            Row("its mean distance from 1, over that a decade earlier", float(late / early), 1.0),
            Row("networks of degree 2, 3: largest decrease after separation",
                -float(min(net_rises)), 0),
            Row("minus the slope of |theta|^degree on log t", -float(min(net_slopes)), -0.1),
            Row("networks that did not separate", float(num_nets - len(net_rises))),
            Row(f"lambda = {FIXED}: |theta_t| over sqrt(L(0) / lambda)",
                float(fixed_norms.max() * np.sqrt(FIXED)), 1 + 1e-9),
        ),
        assumptions="separable data, exponential loss, constant step (networks: at most 0.1 / L)",
        control=(
            Row(f"lambda = {FIXED}: minus margin d|theta| / d log t",
                -float(np.max(problems.margins[:, None] * _slopes(fixed_norms, decade)[:, -1:])),
                -0.4),
            Row("non-separable: minus margin d|theta| / d log t",
                -float(np.max(problems.margins[:, None] * _slopes(mixed, decade)[:, -1:])), -0.4),
        ),
        erratum=(
            "Claim 1 asserts divergence along descent with a weak regularization under C1-C3, but "
            f"at lambda = {FIXED} the norm never exceeds sqrt(L(0) / lambda) (it stops at "
            f"{fixed_norms.max():.2f} at most), and on non-separable data it converges too "
            f"({mixed[:, -1].max():.1f} at most). It diverges for lambda = 0 and data that get "
            "separated (A1), and minimisers diverge as lambda falls to 0."
        ),
        plot=Plot(
            "steps",
            "norm times margin",
            {
                "lambda = 0": curve(times, np.median(norms * problems.margins[:, None], axis=0)),
                f"lambda = {FIXED}": curve(
                    short, np.median(fixed_norms * problems.margins[:, None], axis=0)),
                "non-separable": curve(short, np.median(mixed * problems.margins[:, None], axis=0)),
            },
            "x",
        ),
    )  # fmt: skip


def path(*, num_sets: int = 6, overstate: float = 1.0, seed: int = 0) -> Check:
    """X-C1 (c), (f): minimisers along lambda, and (A.1) with the margin times `overstate`."""
    rng = np.random.default_rng(seed)
    lambdas = np.geomspace(1e-1, 1e-10, 20)
    rises, energy, excess, control = [], 0.0, -np.inf, -np.inf
    ratios, curves = [], {}
    for power in (2.0, 3.0):
        for _ in range(num_sets):
            problems = weighted_problems(rng, [separable_points(rng, 20, 2, gap=(0.3, 0.8))])
            margin, direction = problems.margins[0] * overstate, problems.directions[0]
            for weights in problems.weights:
                weights = np.clip(weights, 1 / BOUND, BOUND)
                shares = weights / len(weights)
                thetas = regularized_path(problems.points[0], shares, lambdas, power)
                norms = np.linalg.norm(thetas, axis=1)
                rises.append(np.min(np.diff(norms)))
                energy = max(energy, float(np.max(lambdas * norms**power) / shares.sum()))
                ratios.append(margin * np.diff(norms) / np.diff(np.log(1 / lambdas)))
                reach = lambdas ** (-1 / (power + 1))
                case = problems.points[0], shares
                least = regularized_risk(*case, thetas, lambdas, power)
                middle = regularized_risk(*case, reach[:, None] * direction, lambdas, power)
                excess = max(excess, float(np.max(least / middle - 1)))
                # The penalties agree, lambda K^r on both sides: compare logarithms of the rest.
                left = log_risk(problems.points[0], weights, reach[:, None] * direction)
                right = np.log(BOUND) - reach * margin
                excess = max(excess, float(np.max((left - right) / (1 + np.abs(right)))))
                control = max(control, float(np.max(left - (np.log(BOUND) - 1.5 * reach * margin))))
        curves[f"r = {power:.0f}"] = curve(1 / lambdas[1:], np.median(ratios[-num_sets:], axis=0))
    slopes = np.array(ratios)[:, -1]
    return Check(
        "X-C1 path",
        "L_lambda at the minimiser <= at lambda^(-1/(r+1)) theta* <= (A.1); norms diverge",
        "EXACT-CORR",
        (
            Row("(A.1) and its first step: largest relative excess", excess, 1e-12),
            Row("largest decrease of |theta_lambda| as lambda falls", -float(min(rises)), 0),
            Row("lambda |theta_lambda|^r / L(0)", energy, 1 + 1e-12),
            Row("margin d|theta| / d log(1/lambda) at 1e-10: largest", float(slopes.max()), 1.1),
            Row("minus the smallest", -float(slopes.min()), -0.5),
        ),
        assumptions=f"separable data, weights in [1/M, M] with M = {BOUND:.0f}, r = 2 and 3",
        control=(Row("(A.1) with 1.5 times the margin: excess of the logarithm", control, 1e-12),),
        plot=Plot("1 / lambda", "margin d|theta| / d log(1 / lambda)", curves, "x"),
    )


def _slopes(norms: np.ndarray, decade: int) -> np.ndarray:
    """Growth of norms [K, T] per unit of log t, over the decade before every record."""
    return (norms[:, decade:] - norms[:, :-decade]) / np.log(10)


def _network_norms(
    rng: np.random.Generator, points: np.ndarray, power: int, last: int
) -> np.ndarray:
    """Norms of a . relu(V z)^power along descent from the first separated step on.

    The labels are folded in by keeping the sign outside: f(z) for y = 1, -f(-z) for y = -1.
    """
    width, size = 5, points.shape[1]
    signs = np.where(np.arange(len(points)) % 2, 1.0, -1.0)
    inputs = signs[:, None] * points
    outer, inner = rng.normal(size=width), rng.normal(size=(width, size))
    norms = []
    for _ in range(last):
        hidden = np.maximum(inputs @ inner.T, 0)
        features = hidden**power
        margins = signs * (features @ outer)
        terms = -margins - np.log(len(points))
        log_risk = scipy.special.logsumexp(terms)
        if norms or margins.min() > 0:
            norms.append(np.sqrt(np.sum(outer**2) + np.sum(inner**2)))
        pulls = np.exp(terms - log_risk) * signs * 0.1 * min(1.0, np.exp(log_risk))
        slopes = power * np.where(hidden > 0, hidden ** (power - 1), 0.0)
        outer, inner = (
            outer + pulls @ features,
            inner + ((slopes * outer) * pulls[:, None]).T @ inputs,
        )
    return np.array(norms)
