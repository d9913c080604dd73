r"""Margins of weakly regularized multi-class classifiers under weights (zhou2022, Theorem 1).

With cross-entropy, positive :math:`\omega` of sum one, k classes and a minimizer of nonnegative
margin, comparing :math:`\theta_\lambda` with :math:`\|\theta_\lambda\| \theta^\star` gives

.. math:: \gamma^\star - \tilde\gamma(\theta_\lambda)
   \le \frac{\log((k - 1) / (\omega_{\min} \log 2))}{\|\theta_\lambda\|^\alpha},

from :math:`\log 2\, e^{-m} \le \log(1 + e^{-m}) \le \ell \le (k - 1) e^{-m}` with m the margin.
Here the logits are linear, so :math:`\alpha = 1` and the minimizer is unique.
"""

from typing import NamedTuple

import numpy as np

from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.penalized_cross_entropy import (
    PenalizedRisk,
    SeparableClasses,
    approximate_margin,
    derivatives,
    draw_classes,
    minimizer,
    slsqp_margin,
)

LAMBDAS = 10.0 ** -np.array([1, 2, 3, 4, 6, 8, 10, 12])
POWERS = (2.0, 3.0)  # r
TAUS = (1.1, 2.0)


class _Case(NamedTuple):
    """A problem and W weightings of its examples."""

    problem: SeparableClasses
    omegas: dict[str, np.ndarray]  # [n] each, sum one


class _Findings(NamedTuple):
    """Along L falling regularizations, with P powers of the penalty; or of Q problems."""

    best: np.ndarray  # gamma*
    gaps: np.ndarray  # [P, W, L], gamma* less the margin of the minimizer
    bounds: np.ndarray  # [P, W, L], log((k - 1) / (omega_min log 2)) / norm
    separated: np.ndarray  # [P, W, L] boolean
    gradients: np.ndarray  # [P, W, L], norm at the minimizer over the penalty's
    dropped: np.ndarray  # [L], margin over gamma* with no weight on the hardest third


def checks(preset: str) -> list[Check]:
    """The claim; three classes only for "smoke"."""
    if preset == "smoke":
        return [weak_regularization(sizes=(3,), num_seeds=1)]
    return [weak_regularization()]


def weak_regularization(
    *,
    sizes: tuple[int, ...] = (3, 10),
    num_seeds: int = 2,
    num_tilts: int = 6,
    margin_scale: float = 1.0,
) -> Check:
    """Z-T1: both parts, on linear classifiers.

    Args:
      sizes: numbers of classes.
      num_seeds: data sets per size.
      num_tilts: examples whose margin the approximate minimizers sacrifice.
      margin_scale: times the margin of the minimizer, to see the check fail.
    """
    cases = {(size, seed): _draw_case(size, seed) for size in sizes for seed in range(num_seeds)}
    each = [_measure(case, margin_scale) for case in cases.values()]
    found = _Findings(*(np.stack(column) for column in zip(*each, strict=True)))
    agreement = [
        abs(slsqp_margin(problem) / problem.margin - 1)
        for problem, _ in cases.values()
        if problem.num_classes == 3
    ]
    tilted = np.stack([_approximate_minimizers(cases[size, 0], num_tilts) for size in sizes])
    tolerance = 0.05 if max(sizes) <= 3 else 0.3  # the gap falls as log(k n) / log(1 / lambda)
    rows = (
        Measured(
            "gap of the margins less log((k - 1) / (omega_min log 2)) / norm",
            float(np.max((found.gaps - found.bounds)[found.separated], initial=-np.inf)),
            1e-9,
        ),
        Measured(
            "minimizers that do not separate (left out of that row)",
            int(np.sum(~found.separated)),
        ),
        Measured(
            "gradient at the minimizers, relative to the penalty's",
            float(found.gradients.max()),
            1e-6,
        ),
        Measured(
            "three classes: maximal margin against SciPy SLSQP, relative",
            max(agreement, default=0.0),
            1e-6,
        ),
        *_limit_rows(found, tolerance),
        Measured(
            "gamma* / (10 tau^(1/r)) less the worst margin found of tau-approximate minimizers",
            float(tilted[:, 0].max()),
            0,
        ),
    )
    control = (
        Measured(
            "no weight on the hardest third: relative gap at 1e-12, largest",
            float(np.max(1 - found.dropped[:, -1])),
            tolerance,
        ),
        Measured(
            "0.99 gamma* less the worst margin of tau-approximate minimizers",
            float(tilted[:, 1].max()),
            0,
        ),
    )
    return _report(rows, control, _curves(next(iter(cases.values())), each[0]))


def _limit_rows(found: _Findings, tolerance: float) -> tuple[Measured, ...]:
    """Of the gaps at the smallest regularization."""
    last, best = found.gaps[..., -1], found.best[:, None, None]  # [Q, P, W], [Q, 1, 1]
    return (
        Measured(
            "gap at lambda = 1e-12 over that at 0.1", float(np.max(last / found.gaps[..., 0])), 0.5
        ),
        Measured("relative gap at lambda = 1e-12", float(np.max(last / best)), tolerance),
        Measured(
            "spread of the gaps over three weightings, relative",
            float(np.max(np.ptp(last, axis=-1, keepdims=True) / best)),
        ),
    )


def _draw_case(num_classes: int, seed: int) -> _Case:
    """Separable classes, with even weights, random ones, and large ones on the supports."""
    rng = np.random.default_rng(seed)
    problem = draw_classes(rng, num_classes)
    n = len(problem.labels)
    weightings = {
        "uniform": np.ones(n),
        "log-uniform in 0.1..10": 10 ** rng.uniform(-1, 1, n),
        "large on the support vectors": np.where(problem.support, 10.0, 1.0),
    }
    return _Case(problem, {name: own / own.sum() for name, own in weightings.items()})


def _measure(case: _Case, margin_scale: float) -> _Findings:
    """The minimizers of one problem, under every weighting and power of the penalty."""
    problem, omegas = case
    paths = [[_path(problem, omega, r) for omega in omegas.values()] for r in POWERS]
    least, norms, gradients = np.moveaxis(np.array(paths), 2, 0)  # [P, W, L] each
    margins = margin_scale * least / norms
    smallest = np.array([omega.min() for omega in omegas.values()])[:, None]  # [W, 1]
    # b = 0: no weight on the third of the examples with the smallest margins, as in SPL.
    zero = np.where(problem.easiness < np.quantile(problem.easiness, 1 / 3), 0.0, 1.0)
    least_of_zero, norms_of_zero, _ = _path(problem, zero / zero.sum(), 2.0)
    return _Findings(
        best=np.asarray(problem.margin),
        gaps=problem.margin - margins,
        bounds=np.log((problem.num_classes - 1) / (smallest * np.log(2))) / norms,
        separated=margins >= 0,
        gradients=gradients,
        dropped=least_of_zero / norms_of_zero / problem.margin,
    )


def _path(problem: SeparableClasses, omega: np.ndarray, power: float) -> np.ndarray:
    """Minimizers along the falling regularizations, each from the one before.

    Their least differences z_y - z_j, norms, and the gradient's norm over the penalty's; [3, L].
    """
    params, found = np.zeros(problem.pairs.shape[1]), []
    for lam in LAMBDAS:
        risk = PenalizedRisk(problem, omega, lam, power, np.zeros_like(params))
        params = minimizer(risk, params)
        norm = np.linalg.norm(params)
        gradient = np.linalg.norm(derivatives(risk, params)[1]) / (
            power * lam * norm ** (power - 1)
        )
        found.append((np.min(problem.pairs @ params), norm, gradient))
    return np.transpose(found)


def _approximate_minimizers(case: _Case, num_tilts: int) -> np.ndarray:
    """Part (2) with r = 2: floors less the worst margins of tau-approximate minimizers.

    The floors are gamma* / (10 tau^(1/r)) and, for the control, 0.99 gamma*; the worst margin is
    the larger of those at lambda = 1e-4 and 1e-8. [2, W T], by floor, weighting and tau.
    """
    problem, power = case.problem, 2.0
    found = []
    for omega in case.omegas.values():
        for tau in TAUS:
            worst = max(
                approximate_margin(problem, omega, lam, power, tau, num_tilts)
                for lam in (1e-4, 1e-8)
            )
            floor = problem.margin / (10 * tau ** (1 / power))
            found.append((floor - worst, 0.99 * problem.margin - worst))
    return np.transpose(found)


def _curves(case: _Case, found: _Findings) -> dict[str, tuple[list[float], list[float]]]:
    """Margins over gamma* with the squared penalty, by regularization."""
    shares = dict(zip(case.omegas, 1 - found.gaps[0] / found.best, strict=True))
    shares["zero on the hardest third"] = found.dropped
    return {name: curve(LAMBDAS, own) for name, own in shares.items()}


def _report(
    rows: tuple[Measured, ...],
    control: tuple[Measured, ...],
    curves: dict[str, tuple[list[float], list[float]]],
) -> Check:
    return Check(
        "Z-T1",
        "weights in [b, B], b > 0, do not change the margin as the regularization vanishes",
        "LIMIT",
        rows,
        "linear logits (alpha = 1), separable data, r = 2 and 3, lambda = 0.1 to 1e-12, "
        "tau = 1.1 and 2 (r = 2)",
        control,
        "Part (2) uses one letter for the approximation factor and for the degree of homogeneity, "
        "and an unexplained exponent a. With tau the factor, 1 <= tau <= 2, and alpha the degree "
        "it reads gamma' >= gamma* / (10 tau^(alpha/r)); the maximum over other classes is over "
        "j != y_i.",
        Plot("regularization lambda", "normalized margin / maximal margin", curves, "x"),
    )
