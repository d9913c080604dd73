r"""The norm of the parameters diverges whatever the weights (xu2021, Claim 1 and (A.1)).

Without regularization and after separation :math:`\|\theta_t\| \approx \log t / \gamma^\star`
(linear); of regularized minimisers :math:`\|\theta_\lambda\| \approx \log(1/\lambda) /
\gamma^\star`. At a fixed :math:`\lambda > 0`, or on non-separable data, norms stay bounded.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from theory_checks.common.columns import concatenate, stack
from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import (
    Problems,
    curve,
    log_risk,
    regularized_path,
    regularized_risk,
    separable_points,
    slope,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot

BOUND = 10.0  # M: weights lie in [1/M, M]
FIXED = 0.05  # a regularization that is not weak
DECADE = 4  # records of a factor of ten in time
POWERS = (2.0, 3.0)  # r
LAMBDAS = np.geomspace(1e-1, 1e-10, 20)


def checks(preset: str) -> list[Check]:
    """Descent and regularization path; short runs for "smoke"."""
    if preset == "smoke":
        return [descent(num_sets=4, last=10_000, num_nets=2), path(num_sets=2)]
    return [descent(), path()]


# --- gradient descent -------------------------------------------------------------------------


class LinearNorms(NamedTuple):
    """Norms of linear models along descents of K problems, times their margins."""

    times: np.ndarray  # [T]
    plain: np.ndarray  # [K, T] |theta_t|, lambda = 0
    early_times: np.ndarray  # [E]
    regularized: np.ndarray  # [K, E] |theta_t|, lambda = FIXED
    mixed: np.ndarray  # [K, E] |theta_t|, data not separable
    margins: np.ndarray  # [K, 1] gamma* of the separable data

    def growth(self, norms: np.ndarray) -> np.ndarray:
        """gamma* d|theta| / d log t over the decade before every record; [K, T - DECADE]."""
        return self.margins * ((norms[:, DECADE:] - norms[:, :-DECADE]) / np.log(10))

    def scaled(self, norms: np.ndarray) -> np.ndarray:
        """The median of gamma* |theta_t|, [T]."""
        return np.median(norms * self.margins, axis=0)


def descent(
    *, num_sets: int = 10, last: int = 1_000_000, num_nets: int = 6, seed: int = 0
) -> Check:
    """X-C1 (a), (b), (d), (e): norms along gradient descent of linear models and networks."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(num_sets)]
    linear = _linear_norms(weighted_problems(rng, sets), last)
    networks = [
        _network_norms(rng, sets[index % num_sets], 1 + index % 2, min(last, 20_000))
        for index in range(num_nets)
    ]
    return Check(
        "X-C1 descent",
        "without regularization the norm grows like log t / margin for every bounded weighting",
        "LIMIT",
        (
            *_linear_rows(linear),
            *_network_rows(networks),
            Measured(
                f"lambda = {FIXED}: |theta_t| over sqrt(L(0) / lambda)",
                float(linear.regularized.max() * np.sqrt(FIXED)),
                1 + 1e-9,
            ),
        ),
        assumptions="separable data, exponential loss, constant step (networks: at most 0.1 / L)",
        control=_bounded_rows(linear),
        erratum=(
            "Claim 1 asserts divergence along descent with a weak regularization under C1-C3, but "
            f"at lambda = {FIXED} the norm never exceeds sqrt(L(0) / lambda) (it stops at "
            f"{linear.regularized.max():.2f} at most), and on non-separable data it converges too "
            f"({linear.mixed[:, -1].max():.1f} at most). It diverges for lambda = 0 and data that "
            "get separated (A1), and minimisers diverge as lambda falls to 0."
        ),
        plot=Plot(
            "steps",
            "norm times margin",
            {
                "lambda = 0": curve(linear.times, linear.scaled(linear.plain)),
                f"lambda = {FIXED}": curve(linear.early_times, linear.scaled(linear.regularized)),
                "non-separable": curve(linear.early_times, linear.scaled(linear.mixed)),
            },
            "x",
        ),
    )


def _linear_norms(problems: Problems, last: int) -> LinearNorms:
    """Descents of the problems: as they are, regularized, and with every fourth label turned."""
    times, early = log_spaced(last), log_spaced(min(last, 100_000))
    turned = np.where(np.arange(problems.points.shape[1]) % 4 == 0, -1.0, 1.0)
    flipped = problems.points * turned[None, :, None]
    plain = descend(problems.points, problems.weights, 1.0, times)
    fixed = descend(problems.points, problems.weights, 1.0, early, regularization=FIXED)
    mixed = descend(flipped, problems.weights, 0.5, early)
    return LinearNorms(
        times,
        np.linalg.norm(plain.params, axis=-1),
        early,
        np.linalg.norm(fixed.params, axis=-1),
        np.linalg.norm(mixed.params, axis=-1),
        problems.margins[:, None],
    )


def _linear_rows(linear: LinearNorms) -> list[Measured]:
    """The norm rises, by log t / gamma* in the limit."""
    growth = linear.growth(linear.plain)
    early, late = (np.mean(np.abs(growth[:, index] - 1)) for index in (-2 - DECADE, -1))
    return [
        Measured(
            "largest decrease of the norm between records", -float(np.diff(linear.plain).min()), 0
        ),
        Measured(
            "minus the smallest margin d|theta| / d log t, last decade",
            -float(growth[:, -1].min()),
            -0.4,
        ),
        Measured("its largest value", float(growth[:, -1].max()), 1.1),
        Measured(
            "its mean distance from 1, over that a decade earlier",
            float(late / early),
            1.0,
        ),
    ]


def _network_rows(networks: list[np.ndarray]) -> list[Measured]:
    """|theta|^degree of the networks that got separated rises with log t, too."""
    rises, slopes = [], []
    for index, norms in enumerate(networks):
        if len(norms):
            degree, half = 2 + index % 2, len(norms) // 2
            log_steps = np.log(np.arange(1, len(norms) + 1))
            rises.append(np.min(np.diff(norms)))
            slopes.append(slope(log_steps[half:], norms[half:] ** degree))
    return [
        Measured(
            "networks of degree 2, 3: largest decrease after separation",
            -float(np.min(rises)),
            0,
        ),
        Measured("minus the slope of |theta|^degree on log t", -float(np.min(slopes)), -0.1),
        Measured("networks that did not separate", float(len(networks) - len(rises))),
    ]


def _bounded_rows(linear: LinearNorms) -> tuple[Measured, ...]:
    """Where a norm is bounded, it does not grow with log t."""
    return tuple(
        Measured(
            f"{name}: minus margin d|theta| / d log t",
            -float(np.max(linear.growth(norms)[:, -1:])),
            -0.4,
        )
        for name, norms in (
            (f"lambda = {FIXED}", linear.regularized),
            ("non-separable", linear.mixed),
        )
    )


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
        log_loss = scipy.special.logsumexp(terms)
        if norms or margins.min() > 0:
            norms.append(np.sqrt(np.sum(outer**2) + np.sum(inner**2)))
        pulls = np.exp(terms - log_loss) * signs * 0.1 * min(1.0, np.exp(log_loss))
        slopes = power * np.where(hidden > 0, hidden ** (power - 1), 0.0)
        outer, inner = (
            outer + pulls @ features,
            inner + ((slopes * outer) * pulls[:, None]).T @ inputs,
        )
    return np.array(norms)


# --- the regularization path ------------------------------------------------------------------


class AlongLambda(NamedTuple):
    """What (A.1) compares, at L falling values of lambda."""

    norms: np.ndarray  # [L] |theta_lambda|
    energy: np.ndarray  # [L] lambda |theta_lambda|^r / L(0)
    growth: np.ndarray  # [L - 1] gamma* d|theta_lambda| / d log(1/lambda)
    first_step: np.ndarray  # [L] L_lambda(theta_lambda) / L_lambda(K theta*) - 1
    excess: np.ndarray  # [L] log L(K theta*) - (log M - K gamma*), relative
    overstated: np.ndarray  # [L] log L(K theta*) - (log M - 3/2 K gamma*)


def path(*, num_sets: int = 6, overstate: float = 1.0, seed: int = 0) -> Check:
    """X-C1 (c), (f): minimisers along lambda, and (A.1) with the margin times `overstate`."""
    rng = np.random.default_rng(seed)
    by_power: dict[float, AlongLambda] = {}  # arrays [K, L]
    for power in POWERS:
        cases = []
        for _ in range(num_sets):
            points = separable_points(rng, 20, 2, gap=(0.3, 0.8))
            problems = weighted_problems(rng, [points])
            margin, direction = problems.margins[0] * overstate, problems.directions[0]
            cases += [
                _along_lambda(points, weights, margin, direction, power)
                for weights in problems.weights
            ]
        by_power[power] = stack(cases)
    paths = concatenate(by_power.values())
    excess = max(float(np.max(paths.first_step)), float(np.max(paths.excess)))
    slopes = paths.growth[:, -1]
    return Check(
        "X-C1 path",
        "L_lambda at the minimiser <= at lambda^(-1/(r+1)) theta* <= (A.1); norms diverge",
        "EXACT-CORR",
        (
            Measured("(A.1) and its first step: largest relative excess", excess, 1e-12),
            Measured(
                "largest decrease of |theta_lambda| as lambda falls",
                -float(np.min(np.diff(paths.norms))),
                0,
            ),
            Measured("lambda |theta_lambda|^r / L(0)", float(np.max(paths.energy)), 1 + 1e-12),
            Measured(
                "margin d|theta| / d log(1/lambda) at 1e-10: largest", float(slopes.max()), 1.1
            ),
            Measured("minus the smallest", -float(slopes.min()), -0.5),
        ),
        assumptions=f"separable data, weights in [1/M, M] with M = {BOUND:.0f}, r = 2 and 3",
        control=(
            Measured(
                "(A.1) with 1.5 times the margin: excess of the logarithm",
                float(np.max(paths.overstated)),
                1e-12,
            ),
        ),
        plot=Plot(
            "1 / lambda",
            "margin d|theta| / d log(1 / lambda)",
            {
                f"r = {power:.0f}": curve(
                    1 / LAMBDAS[1:], np.median(own.growth[-num_sets:], axis=0)
                )
                for power, own in by_power.items()
            },
            "x",
        ),
    )


def _along_lambda(
    points: np.ndarray, weights: np.ndarray, margin: float, direction: np.ndarray, power: float
) -> AlongLambda:
    """Both steps of (A.1) for weights clipped to [1/M, M], with K = lambda^(-1 / (r + 1))."""
    weights = np.clip(weights, 1 / BOUND, BOUND)
    shares = weights / len(weights)
    thetas = regularized_path(points, shares, LAMBDAS, power)
    norms = np.linalg.norm(thetas, axis=1)
    reach = LAMBDAS ** (-1 / (power + 1))  # K
    least = regularized_risk(points, shares, thetas, LAMBDAS, power)
    middle = regularized_risk(points, shares, reach[:, None] * direction, LAMBDAS, power)
    # The penalties agree, lambda K^r on both sides: compare logarithms of the rest.
    left = log_risk(points, weights, reach[:, None] * direction)
    right = np.log(BOUND) - reach * margin
    return AlongLambda(
        norms=norms,
        energy=LAMBDAS * norms**power / shares.sum(),
        growth=margin * np.diff(norms) / np.diff(np.log(1 / LAMBDAS)),
        first_step=least / middle - 1,
        excess=(left - right) / (1 + np.abs(right)),
        overstated=left - (np.log(BOUND) - 1.5 * reach * margin),
    )
