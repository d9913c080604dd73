r"""Large and small classes under the Bayes posterior (zhou2022, Prop. 3 and Prop. A.1).

With priors :math:`\pi_k`, densities :math:`p_k` and their mixture p,

.. math:: E[P(k \mid x) \mid y = k] = 1 - \sum_{j \ne k} \pi_j c_{kj}, \qquad
          c_{kj} = \int \frac{p_k p_j}{p}\, dx,

so that two classes differ by :math:`(\pi_1 - \pi_2) c_{12} > 0` at every ratio above one. Those are
here; `more_classes` and `mean_error` have what does not follow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import scipy.special
from sklearn.linear_model import LogisticRegression

from theory_checks.common.ensembles import (
    STANDARD_ERRORS,
    ensemble_outputs,
    train_networks,
    z_score,
)
from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.class_densities import (
    MIRRORED,
    OTHERS,
    QUADRATURE,
    Posterior,
    bayes,
    log_densities,
    mean_probabilities,
    missing_mass,
    overlap,
    two_priors,
)
from theory_checks.zhou2022.mean_error import RATIOS, mean_error
from theory_checks.zhou2022.more_classes import more_classes
from weighting.losses import logistic


class _TwoClasses(NamedTuple):
    """Mean probabilities of the true class, of K pairs of densities and ratios."""

    names: np.ndarray  # [K], of the pair
    ratios: np.ndarray  # [K]
    closed: np.ndarray  # [K, 2], 1 - pi_other c
    means: np.ndarray  # [K, 2], of the posterior under test
    exchanged: np.ndarray  # [K, 2], of the posterior with exchanged priors
    standard_errors: np.ndarray  # [K, 2], between 20000 draws and the closed form


def checks(preset: str) -> list[Check]:
    """All claims; fewer seeds for "smoke"."""
    if preset == "smoke":
        return [
            two_classes(ratios=(1.01, 10.0), num_seeds=20),
            more_classes(num_draws=500),
            mean_error(ratios=(1.5, 10.0)),
        ]
    return [two_classes(), more_classes(), mean_error()]


def two_classes(
    *,
    posterior: Posterior = bayes,
    ratios: Sequence[float] = RATIOS,
    num_seeds: int = 40,
) -> Check:
    """Z-P3, two classes: the identity by quadrature, and the order after training.

    Args:
      posterior: the classifier under test.
      ratios: large to small class.
      num_seeds: training sets of 10:1.
    """
    found = _measure_pairs(posterior, ratios)
    mass = max(missing_mass(pair) for pair in (MIRRORED | OTHERS).values())
    small_less_large = found.means[:, 1] - found.means[:, 0]
    exchanged = found.exchanged[:, 1] - found.exchanged[:, 0]
    rows = (
        Measured(
            "mean probability of either class against 1 - pi_other c",
            float(np.max(np.abs(found.means - found.closed))),
            QUADRATURE,
        ),
        Measured(
            "the same, 20000 draws per class: standard errors off",
            float(np.max(found.standard_errors)),
            STANDARD_ERRORS,
        ),
        Measured("quadrature: total mass of a density less one", mass, QUADRATURE),
        Measured(
            "mean probability of the small class less that of the large",
            float(np.max(small_less_large)),
            0,
        ),
        Measured(
            "the same at ratios below e",
            float(np.max(small_less_large[found.ratios < np.e], initial=-np.inf)),
            0,
        ),
        *_gap_rows("logistic regression", _regression_gaps(num_seeds)),
        *_gap_rows("network", _network_gaps(num_seeds)),
    )
    return Check(
        "Z-P3",
        "of two classes the larger has the larger mean probability of the true class",
        "EXACT-CORR",
        rows,
        "the exact posterior of two overlapping classes; trained classifiers: an empirical trend",
        (
            Measured(
                "posterior with exchanged priors: small class less large",
                float(np.max(exchanged)),
                0,
            ),
        ),
        "The condition c_r > e:1 is not needed for two classes, and not enough for more. For two "
        "classes and the exact posterior the means differ by (pi_1 - pi_2) c with "
        "c = int p_1 p_2 / p > 0, at every ratio above one.",
        _by_ratio(found),
    )


def _by_ratio(found: _TwoClasses) -> Plot:
    """Mean probabilities of the two Gaussians by the ratio of their classes."""
    gaussians = found.names == "Gaussians"
    return Plot(
        "ratio of the classes",
        "mean probability of the true class",
        {
            name: curve(found.ratios[gaussians], found.means[gaussians, k])
            for k, name in enumerate(("large class", "small class"))
        },
        "x",
    )


def _measure_pairs(posterior: Posterior, ratios: Sequence[float]) -> _TwoClasses:
    """Every pair of densities at every ratio, and the same samples of a pair at all of them."""
    rng = np.random.default_rng(0)
    found = []
    for name, pair in (MIRRORED | OTHERS).items():
        samples = [family.rvs(20_000, random_state=rng) for family in pair]
        for ratio in ratios:
            priors = two_priors(ratio)
            closed = 1 - priors[::-1] * overlap(pair, priors, 0, 1)
            means = mean_probabilities(pair, priors, posterior)
            exchanged = mean_probabilities(pair, priors, lambda d, p: bayes(d, p[::-1]))
            drawn = [
                z_score(np.exp(posterior(log_densities(pair, sample), priors)[k]), closed[k])
                for k, sample in enumerate(samples)
            ]
            found.append((name, ratio, closed, means, exchanged, drawn))
    return _TwoClasses(*map(np.array, zip(*found, strict=True)))


def _gap_rows(name: str, gaps: np.ndarray) -> tuple[Measured, ...]:
    """Of trained classifiers: mean probability of the large class less the small's, by seed."""
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return (
        Measured(
            f"{name}, 10:1: share of {len(gaps)} seeds in the other order",
            float(np.mean(gaps <= 0)),
            0.05,
        ),
        Measured(f"{name}: mean gap of the two probabilities", float(gaps.mean())),
        Measured(f"{name}: half of its 95 % interval", float(half)),
    )


def _imbalanced(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training sets of 200 and 20 points of two Gaussians; inputs [R, 220, 2], labels."""
    labels = np.tile(np.repeat([0, 1], [200, 20]), (count, 1))
    shift = labels[:, :, None] * np.array([1.5, 0.0])
    return shift + rng.normal(size=(count, 220, 2)), labels


def _regression_gaps(num_seeds: int) -> np.ndarray:
    """Mean probability of the large class's points less the small's, per training set."""
    rng = np.random.default_rng(1)
    inputs, labels = _imbalanced(rng, num_seeds)
    (test,), (test_labels,) = _imbalanced(rng, 1)
    gaps = []
    for x, y in zip(inputs, labels, strict=True):
        log_p = LogisticRegression(C=1e3).fit(x, y).predict_log_proba(test)
        own = np.exp(log_p[np.arange(len(test)), test_labels])
        gaps.append(own[test_labels == 0].mean() - own[test_labels == 1].mean())
    return np.array(gaps)


def _network_gaps(num_seeds: int) -> np.ndarray:
    """The same for networks."""
    rng = np.random.default_rng(2)
    inputs, labels = _imbalanced(rng, num_seeds)
    (test,), (test_labels,) = _imbalanced(rng, 1)
    with jax.enable_x64(True):
        networks = train_networks(logistic, inputs, labels, 0)
        scores = np.asarray(ensemble_outputs(networks, test))[:, :, 0]
    own = scipy.special.expit((2 * test_labels - 1)[None] * scores)
    return own[:, test_labels == 0].mean(axis=1) - own[:, test_labels == 1].mean(axis=1)
