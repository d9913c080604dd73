r"""More than two classes under the Bayes posterior (zhou2022, Prop. 3).

Class k has the mean probability :math:`1 - \sum_{j \ne k} \pi_j c_{kj}` of the true class: classes
differ in size and in how much they overlap with the others. Only with exchangeable densities,
whose overlaps are equal, does the order by size hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.class_densities import (
    NORMAL,
    QUADRATURE,
    mean_probabilities,
    overlap,
)
from weighting.difficulty.one_network import error_probability

THREE_CLASSES = (NORMAL(0, 1), NORMAL(0.5, 1), NORMAL(8, 1))
TEN, SCALE = 10, 1.5  # exchangeable classes, at the corners of a simplex


class _TenClasses(NamedTuple):
    """Of ten exchangeable classes, from the largest to the smallest."""

    pointwise: np.ndarray  # [45], largest 1 - p of the larger less that of the smaller
    means: np.ndarray  # [10], probability of the true class
    moved_means: np.ndarray  # [10], with the smallest class moved away from the others


def more_classes(
    *, priors: Sequence[float] = (0.5, 0.45, 0.05), num_draws: int = 5000, seed: int = 0
) -> Check:
    """Z-P3, more classes: unequal overlaps refute it; exchangeable classes obey it pointwise.

    Args:
      priors: of the counterexample.
      num_draws: points of the ten exchangeable classes.
      seed: of the draws.
    """
    three = mean_probabilities(THREE_CLASSES, np.array(priors))
    identity = _identity_gaps(three, np.array(priors))
    with jax.enable_x64(True):
        ten = _measure_ten_classes(np.random.default_rng(seed), num_draws)
    rows = (
        Measured(
            "three classes: largest class's mean less the smallest's",
            float(three[0] - three[2]),
            -0.4,
        ),
        Measured(
            "three classes: distance from (0.554, 0.505, 0.9996)",
            float(np.abs(three - [0.554, 0.505, 0.9996]).max()),
            1e-3,
        ),
        Measured("three classes: means against 1 - sum of pi_j c_kj", max(identity), QUADRATURE),
        Measured(
            "ten exchangeable classes: 1 - p of the larger less that of the smaller, at mirrored "
            "points",
            float(ten.pointwise.max()),
            1e-12,
        ),
        Measured(
            "ten exchangeable classes: largest rise of the mean from a class to the next smaller",
            float(np.max(np.diff(ten.means))),
            0,
        ),
    )
    control = (
        Measured(
            "as printed, three classes: smallest class's mean less the largest's",
            float(three[2] - three[0]),
            0,
        ),
        Measured(
            "ten classes, the smallest moved away: largest rise of the mean",
            float(np.max(np.diff(ten.moved_means))),
            0,
        ),
    )
    return Check(
        "Z-P3k",
        "of more than two classes the larger need not have the larger mean true-class probability",
        "FALSE-AS-PRINTED",
        rows,
        "the exact posterior; the corrected statement for classes whose densities are exchangeable",
        control,
        _more_classes_erratum(three),
        _more_classes_plot(three, ten),
    )


def _identity_gaps(means: np.ndarray, priors: np.ndarray) -> list[float]:
    """|E[P(k | x) | y = k] - 1 + sum over j of pi_j c_kj| of the three classes."""
    return [
        float(
            abs(means[k] - 1 + sum(priors[j] * overlap(THREE_CLASSES, priors, k, j) for j in rest))
        )
        for k, rest in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
    ]


def _measure_ten_classes(rng: np.random.Generator, num_draws: int) -> _TenClasses:
    """Ten classes at the corners of a simplex, 10:1 from the first to the last.

    Exchanging the coordinates i and j of a point of class i makes it one of class j, equally
    likely there.
    """
    sizes = 10 ** -(np.arange(TEN) / (TEN - 1))
    log_priors = np.log(sizes / sizes.sum())
    noise = rng.normal(size=(num_draws, TEN))
    # class k: noise with the coordinates 0 and k exchanged, around its corner
    points = [_exchange(noise, 0, k) + SCALE * np.eye(TEN)[k] for k in range(TEN)]

    def errors(x: np.ndarray, k: int) -> np.ndarray:
        """1 - P(k | x) at points [N, 10]."""
        return _error_probabilities(log_priors[None] + SCALE * x, k)

    pointwise = [
        np.max(errors(points[i], i) - errors(_exchange(points[i], i, j), j))
        for i in range(TEN)
        for j in range(i + 1, TEN)
    ]
    # The class that is nearer to the others is harder, whatever its size.
    away = 3.0 * np.eye(TEN)[-1]
    corners = SCALE * np.eye(TEN) + np.outer(np.eye(TEN)[-1], away)
    offsets = 0.5 * np.sum(corners**2, axis=1)[None]
    moved_means = [
        (1 - _error_probabilities(log_priors[None] + x @ corners.T - offsets, k)).mean()
        for k, x in enumerate([*points[:-1], points[-1] + away])
    ]
    return _TenClasses(
        np.array(pointwise),
        np.array([(1 - errors(x, k)).mean() for k, x in enumerate(points)]),
        np.array(moved_means),
    )


def _exchange(points: np.ndarray, i: int, j: int) -> np.ndarray:
    """Points [N, D] with the coordinates i and j exchanged."""
    mirrored = points.copy()
    mirrored[:, [i, j]] = mirrored[:, [j, i]]
    return mirrored


def _error_probabilities(logits: np.ndarray, k: int) -> np.ndarray:
    """1 - softmax(logits)_k at logits [N, K], as `weighting` measures it."""
    return np.asarray(_errors(jnp.asarray(logits), jnp.full(len(logits), k)))


_errors = jax.jit(error_probability)


def _more_classes_erratum(three: np.ndarray) -> str:
    return (
        "With priors (0.5, 0.45, 0.05) and unit-variance Gaussians at 0, 0.5 and 8 the mean "
        f"probabilities are {three[0]:.3f}, {three[1]:.3f} and {three[2]:.4f}: the smallest class "
        "is the easiest. Class k has 1 - sum_j pi_j c_kj; if the densities are exchangeable "
        "(equal overlaps), the order by size holds, even pointwise."
    )


def _more_classes_plot(three: np.ndarray, ten: _TenClasses) -> Plot:
    return Plot(
        "class, from the largest to the smallest",
        "mean probability of the true class",
        {
            "exchangeable classes": curve(np.arange(1, 11), ten.means),
            "the smallest moved away": curve(np.arange(1, 11), ten.moved_means),
            "three classes, unequal overlaps": curve(np.arange(1, 4), three),
        },
    )
