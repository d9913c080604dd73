r"""The terms of zhou2022's Theorem 2 along weights :math:`w = err^\beta`, in the mean over samples.

With :math:`\bar w = E w`, (I) :math:`= \bar w E[1 / w]` over the indicator, and
:math:`D + 1 = \bar w E[1 / w]`; hence :math:`\partial_\beta (I) = -Cov(E_V 1, \log err)` and
:math:`\partial_\beta D = 0` at zero: derived here.
"""

from typing import Any, NamedTuple

import numpy as np

from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.margin_pools import LEVELS, Pool, ensemble_gamma

BETAS = np.linspace(0, 3, 31)
ONE = 10  # BETAS[ONE] is one
SAMPLES = (10**4, 10**6, 10**8)  # n in the second term
STEP = 1e-5  # of a derivative at zero


class _Terms(NamedTuple):
    """Of one pool and level, along beta [B] and n [M]; or arrays [L, P, ...] of several."""

    first: Any  # [B], (I) as printed
    divergence: Any  # [B], D + 1
    second: Any  # [M, B], (II)
    first_honest: Any  # mean of (I) for points of P~_s, the same for every w
    slope: Any  # of (I) at zero: -Cov(E_V 1, log err)
    numeric_slope: Any
    divergence_slope: Any  # at zero, numeric


def trade_off(pools: list[Pool]) -> Check:
    """Z-T2, w = err^beta: the printed terms along beta, and where their sum is smallest."""
    each = [_terms(pool, level) for level in LEVELS for pool in pools]
    shape = len(LEVELS), len(pools)
    found = _Terms(
        *(np.reshape(column, (*shape, *np.shape(column[0]))) for column in zip(*each, strict=True))
    )
    sums = found.first[:, :, None] + found.second  # [L, P, M, B]
    honest = found.first_honest[:, :, None, None] + found.second  # points of P~_s
    turns = BETAS[np.argmin(found.first, axis=-1)]  # [L, P]
    rows = (
        Measured(
            "slope of (I) at 0 against -Cov(E_V 1, log err), relative",
            float(np.max(np.abs(found.numeric_slope / found.slope - 1))),
            1e-6,
        ),
        Measured("its largest value", float(np.max(found.slope)), 0.0),
        Measured(
            "slope of the divergence at 0", float(np.max(np.abs(found.divergence_slope))), 1e-6
        ),
        Measured(
            "minus the share of pools where the divergence grows all along",
            -float(np.mean(np.all(np.diff(found.divergence) > 0, axis=-1))),
            -1.0,
        ),
        *(
            row
            for index, level in enumerate(LEVELS)
            for row in _level_rows(level, found.first[index], turns[index], sums[index])
        ),
    )
    return Check(
        "Z-T2 trade-off",
        "w = err^beta: the printed (I) falls at first, the divergence grows, their sum turns",
        "TREND",
        rows,
        assumptions=f"{len(pools)} pools of points, p_s = p_t uniform on each, logistic errors "
        "held out, networks at norm one, gamma at quantiles of their margins",
        control=(
            Measured(
                "points of P~_s: minus the share of sums with an interior minimum",
                -float(np.mean(np.argmin(honest, axis=-1) > 0)),
                -0.5,
            ),
        ),
        erratum=_erratum(float(np.mean(turns))),
        plot=_plot(found, sums, honest),
    )


def printed_terms(
    errors: np.ndarray, share: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over points of P_s = P_t of the printed (I), and D + 1, for w = err^beta; [B], [B]."""
    weights = (errors / np.exp(np.log(errors).mean())) ** betas[:, None]
    inverse = weights.mean(axis=1, keepdims=True) / weights
    return (inverse * share).mean(axis=1), inverse.mean(axis=1)


def _terms(pool: Pool, level: float) -> _Terms:
    """At a margin that is the quantile of that level."""
    gamma = ensemble_gamma(pool, level)
    share = np.mean(pool.margins < gamma, axis=0)  # E_V 1(y f < gamma)
    first, divergence = printed_terms(pool.errors, share, BETAS)
    near, near_divergence = printed_terms(pool.errors, share, np.array([-STEP, STEP]))
    logs = np.log(pool.errors)
    return _Terms(
        first,
        divergence,
        second=np.stack([np.sqrt(divergence) / (gamma * np.sqrt(2 * size)) for size in SAMPLES]),
        first_honest=share.mean(),
        slope=-np.mean((share - share.mean()) * (logs - logs.mean())),
        numeric_slope=(near[1] - near[0]) / (2 * STEP),
        divergence_slope=(near_divergence[1] - near_divergence[0]) / (2 * STEP),
    )


def _level_rows(
    level: float, first: np.ndarray, turns: np.ndarray, sums: np.ndarray
) -> list[Measured]:
    """Where (I) [P, B] and the sums [P, M, B] are smallest, over the pools."""
    at = f"gamma at the {100 * level:.0f} % quantile"
    falls = first[:, ONE] < first[:, 0]
    rows = [
        Measured(
            f"{at}: share of pools with (I) at beta = 1 below beta = 0", float(np.mean(falls))
        ),
        Measured("(I): mean beta of its minimum", float(np.mean(turns))),
        Measured(
            "(I): mean of its minimum over its value at 0",
            float(np.mean(first.min(axis=-1) / first[:, 0])),
        ),
    ]
    best = np.argmin(sums, axis=-1)  # [P, M]
    for index, size in enumerate(SAMPLES):
        own = best[:, index]
        interior = (own > 0) & (own < len(BETAS) - 1)
        rows += [
            Measured(
                f"n = {size:.0e}: minus the share of sums with an interior minimum",
                -float(np.mean(interior)),
                -0.5,
            ),
            Measured("mean beta of the minimum", float(np.mean(BETAS[own]))),
        ]
    return rows


def _erratum(turn: float) -> str:
    return (
        "The trade-off belongs to the printed form: its sum falls at first, because the slope "
        "of (I) is -Cov(E_V 1, log err) and that of the divergence 0; but (I) itself rises "
        f"again, on average from beta = {turn:.1f} on. "
        "For points of P~_s the mean of (I) does not move with w, so for P_s = P_t and a fixed "
        "network the sum is smallest at w = 1, on every pool."
    )


def _plot(found: _Terms, sums: np.ndarray, honest: np.ndarray) -> Plot:
    """The terms of the first pool, at the last level and n = 10^6."""
    case = len(LEVELS) - 1, 0, 1
    return Plot(
        "beta",
        "term",
        {
            "(I) as printed": curve(BETAS, found.first[case[:2]]),
            "(II), n = 10^6": curve(BETAS, found.second[case]),
            "their sum": curve(BETAS, sums[case]),
            "sum, points of P~_s": curve(BETAS, honest[case]),
        },
        "y",
    )
