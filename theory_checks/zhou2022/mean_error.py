r"""The mean error of the small class against the large one's, by loss (zhou2022, Prop. A.1).

At half of the log-odds, the minimizer of the exponential loss, the mean errors of the two classes
are :math:`\int \sqrt{p_1 p_2}\, (\pi_2 / \pi_1)^{\pm 1/2}`: their ratio is :math:`\pi_1 / \pi_2`.
Cross-entropy has no such identity, and its order can be the other one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.class_densities import (
    MIRRORED,
    NORMAL,
    OTHERS,
    mean_losses,
    mean_probabilities,
    two_priors,
)

RATIOS = (1.01, 1.5, 2.0, np.e, 10.0, 100.0)
COUNTEREXAMPLE = (NORMAL(0, 1000), NORMAL(0, 1)), np.array([0.75, 0.25])  # pair, priors


def mean_error(*, score_scale: float = 0.5, ratios: Sequence[float] = RATIOS) -> Check:
    """Z-PA1: the mean error of the small class, by loss.

    Args:
      score_scale: times the log-odds is the score of the exponential loss; its minimizer has 1/2.
      ratios: large to small class.
    """
    pairs = [*MIRRORED.values(), *OTHERS.values()]
    exponential = [_ratio_gap(pair, ratio, score_scale) for pair in pairs for ratio in ratios]
    wrong_score = [_ratio_gap(MIRRORED["Gaussians"], ratio, 1.0) for ratio in ratios]
    mirrored = [
        mean_losses(pair, two_priors(ratio), _log_cross_entropy)
        for pair in MIRRORED.values()
        for ratio in ratios
    ]
    # The large class is spread out, and meets the small one with a thousandth of its mass.
    entropy = mean_losses(*COUNTEREXAMPLE, _log_cross_entropy)
    zero_one = mean_losses(*COUNTEREXAMPLE, lambda u: np.where(u <= 0, 0.0, -np.inf))
    probability = mean_probabilities(*COUNTEREXAMPLE)
    rows = (
        Measured(
            "exponential loss: |small's mean error / large's / ratio - 1|", max(exponential), 1e-8
        ),
        Measured(
            "cross-entropy, mirrored densities: large's mean error less small's",
            max(large - small for large, small in mirrored),
            0,
        ),
        Measured(
            "cross-entropy, N(0, 1000^2) and N(0, 1), 3:1: small's mean error / large's",
            entropy[1] / entropy[0],
            0.9,
        ),
        Measured("the same, zero-one error", zero_one[1] / zero_one[0], 0.9),
        Measured(
            "the same, small's mean true-class probability less large's",
            float(probability[1] - probability[0]),
            0,
        ),
    )
    control = (
        Measured(
            "as printed, cross-entropy: large's mean error less small's", entropy[0] - entropy[1], 0
        ),
        Measured(
            "exponential loss at the whole log-odds: |small's / large's / ratio - 1|",
            max(wrong_score),
            1e-8,
        ),
    )
    return Check(
        "Z-PA1",
        "whether the small class has the larger mean error depends on the loss",
        "FALSE-AS-PRINTED",
        rows,
        "two classes, the exact posterior, cross-entropy as -log p_y, exponential loss with its "
        "minimizer, half of the log-odds",
        control,
        _erratum(entropy[0] / entropy[1]),
        _along_spreads(),
    )


def _ratio_gap(pair: Sequence[Any], ratio: float, scale: float) -> float:
    """|small's mean exponential error / large's / ratio - 1| at the score scale log-odds."""
    large, small = mean_losses(pair, two_priors(ratio), lambda u: -scale * u)
    return abs(small / large / ratio - 1)


def _log_cross_entropy(odds: np.ndarray) -> np.ndarray:
    """log log(1 + e^-u)."""
    return np.where(odds > 40, -odds, np.log(np.logaddexp(0, -np.minimum(odds, 40))))


def _erratum(large_over_small: float) -> str:
    return (
        "A larger mean error of the small class does not follow from Proposition 3: with densities "
        "N(0, 1000^2) and N(0, 1) at 3:1 the large class has the larger mean probability of the "
        f"true class, yet its mean cross-entropy is {large_over_small:.2g} times the small "
        "one's. For two classes it holds for the exponential loss at its minimizer, where the "
        "ratio of the mean errors is exactly c_r, and for every decreasing loss of the log-odds "
        "if the log-likelihood ratios of the two classes have one distribution."
    )


def _along_spreads() -> Plot:
    """Mean cross-entropy of both classes by the spread of the large one, at 3:1."""
    spreads, (_, priors) = np.logspace(0.2, 4, 20), COUNTEREXAMPLE
    errors = np.array(
        [mean_losses((NORMAL(0, s), NORMAL(0, 1)), priors, _log_cross_entropy) for s in spreads]
    )
    return Plot(
        "standard deviation of the large class (of the small: 1)",
        "mean cross-entropy, at 3:1",
        {
            "large class": curve(spreads, errors[:, 0]),
            "small class": curve(spreads, errors[:, 1]),
        },
        "xy",
    )
