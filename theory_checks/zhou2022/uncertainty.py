r"""Predictive variance as epistemic uncertainty (zhou2022, Eqs. 7-8), as `weighting` measures it.

.. math:: \tau^{-1} + \frac1K \sum_k f_k(x)^\top f_k(x) - \bar f(x)^\top \bar f(x),

the printed estimate of K models, is the variance over K of their predictions, and tends to that
of the distribution of the models. Held-out errors rise with it, except where targets are wrong.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from theory_checks.common.ensembles import STANDARD_ERRORS, power_law, rank_correlation
from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.retraining import equal_distributions
from weighting.difficulty.bias_variance import squared_bias_variance
from weighting.difficulty.several_networks import predictive_variance

Variance = Callable[..., Any]  # (predictions, inverse_precision=, ddof=) -> [N]

NUM_NETWORKS = 5  # K of the paper
SIZES = 2 ** np.arange(3, 12)  # K along the approach to Eq. 8


class _FiniteGaps(NamedTuple):
    """Of one ensemble from Eq. 7 and from NumPy, relative; or arrays of several."""

    printed: Any  # from Eq. 7 to the letter, 1 / tau included
    plain: Any  # from the variance over K
    unbiased: Any  # from that over K - 1
    offset: Any  # in float32, predictions near 10^4
    printed_offset: Any  # the same of Eq. 7 to the letter


class _Approach(NamedTuple):
    """Distances from Eq. 8 by the number of models."""

    distances: np.ndarray  # [K], root mean square, relative
    wrong_limit: np.ndarray  # [K], from a limit 20 % too large
    standard_errors: np.ndarray  # [K], largest, between the mean and (1 - 1 / K) Eq. 8


class _Regimes(NamedTuple):
    """Held-out error and variance of the points of one problem; or arrays of several."""

    clean: Any  # rank correlation over clean points
    wrong: Any  # over points with wrong targets
    mixed: Any  # over all points
    shuffled: Any  # over clean points with the variances shuffled
    error_ratio: Any  # median error of wrong targets over that of clean ones
    wrong_share: Any  # median share of the variance in the error
    clean_share: Any


def checks(preset: str) -> list[Check]:
    """Eqs. 7 and 8 here and of `retraining`; smaller ensembles for "smoke"."""
    if preset == "smoke":
        return [
            estimate(num_problems=5, num_repeats=40),
            equal_distributions(num_networks=2000),
            two_regimes(num_networks=100, num_seeds=5),
        ]
    return [estimate(), equal_distributions(), two_regimes()]


def estimate(
    *,
    variance: Variance = predictive_variance,
    num_problems: int = 30,
    num_repeats: int = 200,
    seed: int = 0,
) -> Check:
    """Z-E7: Eq. 7 to the letter, and how fast it reaches Eq. 8.

    Args:
      variance: the estimator under test.
      num_problems: ensembles for the identity.
      num_repeats: ensembles of every size for the rate.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        each = [
            _finite_gaps(rng, variance, (NUM_NETWORKS, 2, 20)[k % 3]) for k in range(num_problems)
        ]
        approach = _approach(rng, variance, num_repeats)
    gaps = _FiniteGaps(*map(np.array, zip(*each, strict=True)))
    power, half = power_law(SIZES, approach.distances)
    wrong_power, _ = power_law(SIZES, approach.wrong_limit)
    rows = (
        Measured(
            "relative distance from Eq. 7 as printed, 1 / tau included",
            float(gaps.printed.max()),
            1e-10,
        ),
        Measured("relative distance from NumPy's variance over K", float(gaps.plain.max()), 1e-12),
        Measured("the same, over K - 1", float(gaps.unbiased.max()), 1e-12),
        Measured(
            "float32, predictions near 10^4: relative distance", float(gaps.offset.max()), 1e-4
        ),
        Measured(
            "K = 8 to 2048: |power of K + 1/2|, with half its 95 % interval",
            abs(power + 0.5) + half,
            0.1,
        ),
        Measured(
            "mean over ensembles against (1 - 1/K) Eq. 8: standard errors off",
            float(approach.standard_errors.max()),
            STANDARD_ERRORS + 1,  # of several hundred means
        ),
    )
    control = (
        Measured(
            "Eq. 7 as printed in float32, near 10^4: relative distance",
            float(gaps.printed_offset[-1]),
            1e-4,
        ),
        Measured("a limit 20 % too large: |power of K + 1/2|", abs(wrong_power + 0.5), 0.1),
    )
    return Check(
        "Z-E7",
        "Eq. 7 is 1 / tau plus the variance over K predictions, and approaches Eq. 8 as K^-1/2",
        "EXACT",
        rows,
        "Gaussian parameters and a linear model for the rate",
        control,
        plot=_distance_plot(approach),
    )


def _distance_plot(approach: _Approach) -> Plot:
    return Plot(
        "number of models K",
        "root mean square distance from Eq. 8, relative",
        {
            "measured": curve(SIZES, approach.distances),
            "sqrt(2 / K)": curve(SIZES, np.sqrt(2 / SIZES)),
        },
        "xy",
    )


def _finite_gaps(rng: np.random.Generator, variance: Variance, count: int) -> _FiniteGaps:
    """An ensemble of `count` models, predictions [K, 12, 3]."""
    f = rng.normal(rng.normal(), 1, (count, 12, 3))
    inverse_precision = rng.uniform(0, 1)
    mean = f.mean(axis=0)
    raw = np.einsum("knc,knc->n", f, f) / count
    letter = inverse_precision + raw - np.einsum("nc,nc->n", mean, mean)
    spread = f.var(axis=0).sum(axis=1)

    far = (f + 1e4).astype(np.float32)
    far_spread = far.astype(float).var(axis=0).sum(axis=1)
    far_letter = np.einsum("knc,knc->n", far, far) / np.float32(len(far))
    far_letter = far_letter - np.sum(far.mean(axis=0, dtype=np.float32) ** 2, axis=1)

    def measured(predictions: np.ndarray, **options: float) -> np.ndarray:
        return np.asarray(variance(jnp.asarray(predictions), **options))

    own = measured(f, inverse_precision=inverse_precision)
    return _FiniteGaps(
        printed=np.max(np.abs(own - letter) / letter),
        plain=_largest_gap(measured(f), spread),
        unbiased=_largest_gap(measured(f, ddof=1), spread * count / (count - 1)),
        offset=_largest_gap(measured(far), far_spread),
        printed_offset=_largest_gap(far_letter, far_spread),
    )


def _largest_gap(values: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(values / expected - 1)))


def _approach(rng: np.random.Generator, variance: Variance, num_repeats: int) -> _Approach:
    """Models theta ~ N(m, S), f = phi . theta at twenty points: Eq. 8 is phi . S phi."""
    factor, phi = rng.normal(size=(4, 4)), rng.normal(size=(20, 4))
    limit = np.sum((phi @ factor) ** 2, axis=1)
    found = []
    for size in SIZES:
        theta = rng.normal(size=(num_repeats, size, 4)) @ factor.T
        own = np.stack([np.asarray(variance(jnp.asarray(t @ phi.T))) for t in theta])
        relative = own / limit
        # A variance of Gaussians is (1 - 1/K) limit in the mean, with deviation about
        # sqrt(2 / K); the twenty points are dependent, so each by itself.
        error = np.sqrt(2 * (size - 1)) / size / np.sqrt(num_repeats)
        found.append(
            (
                np.sqrt(np.mean((relative - 1) ** 2)),
                np.sqrt(np.mean((relative - 1.2) ** 2)),
                np.max(np.abs(relative.mean(axis=0) - 1 + 1 / size) / error),
            )
        )
    return _Approach(*map(np.array, zip(*found, strict=True)))


def two_regimes(*, num_networks: int = 400, num_seeds: int = 20) -> Check:
    """Z-E78: error and variance rise together on clean points, not on points with wrong targets.

    Each of R least-squares models is trained on half of the points; errors and variances of a
    point are those of the models that did not see it. Six of the 120 targets, near the middle of
    the inputs, are off by a constant.
    """
    with jax.enable_x64(True):
        each = [_regimes(seed, num_networks) for seed in range(num_seeds)]
    found = _Regimes(*map(np.array, zip(*(own for own, _ in each), strict=True)))
    low, high = scipy.stats.t.interval(
        0.95, num_seeds - 1, found.clean.mean(), found.clean.std(ddof=1) / np.sqrt(num_seeds)
    )
    rows = (
        Measured(
            "clean points: minus the rank correlation, mean", -float(found.clean.mean()), -0.2
        ),
        Measured("clean points: 95 % interval, low", float(low)),
        Measured("clean points: 95 % interval, high", float(high)),
        Measured("clean points: share of seeds not positive", float(np.mean(found.clean < 0)), 0.1),
        Measured(
            "wrong targets: minus their median error over the clean",
            -float(found.error_ratio.min()),
            -10,
        ),
        Measured(
            "wrong targets: median share of the variance in the error, largest",
            float(found.wrong_share.max()),
            0.05,
        ),
        Measured("clean points: the same, mean", float(found.clean_share.mean())),
        Measured("wrong targets: mean rank correlation", float(found.wrong.mean())),
        Measured("all points: mean rank correlation", float(found.mixed.mean())),
    )
    return Check(
        "Z-E78",
        "error and epistemic uncertainty rise together on clean points, wrong targets aside",
        "TREND",
        rows,
        "least-squares polynomials, six of 120 targets off by 2 where the data are dense",
        (
            Measured(
                "clean points, shuffled variances: minus the rank correlation, mean",
                -float(found.shuffled.mean()),
                -0.2,
            ),
        ),
        plot=Plot("predictive variance", "held-out error", each[0][1], "xy", joined=False),
    )


def _regimes(
    seed: int, num_networks: int
) -> tuple[_Regimes, dict[str, tuple[list[float], list[float]]]]:
    """The findings of one problem, and its errors by variance as curves."""
    rng = np.random.default_rng(seed)
    features, y, noisy = _polynomials(rng)
    member = rng.random((num_networks, len(y))) < 0.5
    predictions = _halves(features, y, member)
    mask = jnp.asarray(~member)
    split = squared_bias_variance(jnp.asarray(predictions), jnp.asarray(y), mask=mask)
    spread = np.asarray(predictive_variance(jnp.asarray(predictions), mask=mask))
    error = np.asarray(split.error)
    found = _Regimes(
        clean=rank_correlation(error[~noisy], spread[~noisy]),
        wrong=rank_correlation(error[noisy], spread[noisy]),
        mixed=rank_correlation(error, spread),
        shuffled=rank_correlation(error[~noisy], rng.permutation(spread[~noisy])),
        error_ratio=np.median(error[noisy]) / np.median(error[~noisy]),
        wrong_share=np.median((spread / error)[noisy]),
        clean_share=np.median((spread / error)[~noisy]),
    )
    order = np.argsort(spread)
    curves = {
        name: curve(spread[order][chosen[order]], error[order][chosen[order]])
        for name, chosen in (("clean", ~noisy), ("wrong target", noisy))
    }
    return found, curves


def _polynomials(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [120, 6], targets [120] and which six of them are off by two."""
    x = np.sort(rng.normal(0, 1, 120))
    features = np.polynomial.hermite_e.hermevander(x, 5)
    features /= np.sqrt([1, 1, 2, 6, 24, 120])
    y = np.sin(2 * x) + rng.normal(0, 0.1, 120)
    noisy = np.zeros(120, bool)
    noisy[rng.choice(np.flatnonzero(np.abs(x) < 0.5), 6, replace=False)] = True
    return features, y + 2.0 * noisy, noisy


def _halves(features: np.ndarray, targets: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Predictions [R, N] at all points by least squares, a trace of ridge, on members [R, N]."""
    ridge = 1e-3 * np.eye(features.shape[1])
    gram = np.einsum("rn,np,nq->rpq", member, features, features) + ridge
    moment = (member * targets) @ features
    return np.linalg.solve(gram, moment[:, :, None])[:, :, 0] @ features.T
