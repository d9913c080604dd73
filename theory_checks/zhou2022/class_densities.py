r"""Classes by their densities, and means under them by quadrature (zhou2022, Prop. 3, Prop. A.1).

With priors :math:`\pi_k`, densities :math:`p_k` and their mixture p,

.. math:: E[P(k \mid x) \mid y = k] = 1 - \sum_{j \ne k} \pi_j c_{kj}, \qquad
          c_{kj} = \int \frac{p_k p_j}{p}\, dx.

A family is a distribution of `scipy.stats` on the line; a pair is large class, small class.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

QUADRATURE = 1e-9  # the rule integrates the densities themselves that well

Posterior = Callable[[np.ndarray, np.ndarray], np.ndarray]  # densities, priors -> log P(k | x)

NORMAL = scipy.stats.norm
MIRRORED = {  # x -> 2 m - x exchanges the two densities
    "Gaussians": (NORMAL(0, 1), NORMAL(1.5, 1)),
    "Laplace": (scipy.stats.laplace(0, 1), scipy.stats.laplace(2, 1)),
    "Student t": (scipy.stats.t(3, 0, 1), scipy.stats.t(3, 2, 1)),
}
OTHERS = {
    "wide and narrow": (NORMAL(0, 4), NORMAL(0.5, 1)),
    "narrow and wide": (NORMAL(0, 1), NORMAL(0.5, 4)),
    "Gaussian and Laplace": (NORMAL(0, 1), scipy.stats.laplace(1, 2)),
}


def two_priors(ratio: float) -> np.ndarray:
    """Of the large and the small class, [2]."""
    return np.array([ratio, 1.0]) / (1 + ratio)


def bayes(densities: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """log P(k | x), of log densities [K, ...]."""
    joint = densities + np.log(priors).reshape(-1, *[1] * (densities.ndim - 1))
    return joint - scipy.special.logsumexp(joint, axis=0)


def log_densities(families: Sequence[Any], x: np.ndarray) -> np.ndarray:
    """log p_k(x), [K, ...]."""
    return np.stack([family.logpdf(x) for family in families])


def missing_mass(families: Sequence[Any]) -> float:
    """How far the quadrature of any of the densities is from one."""
    x, weights = _rule(families)
    return float(np.max(np.abs(np.exp(log_densities(families, x)) @ weights - 1)))


def overlap(families: Sequence[Any], priors: np.ndarray, k: int, j: int) -> float:
    """c_kj, the integral of p_k p_j / p."""
    x, weights = _rule(families)
    log_p = log_densities(families, x)
    mixture = scipy.special.logsumexp(log_p, axis=0, b=priors[:, None])
    return float(np.exp(log_p[k] + log_p[j] - mixture) @ weights)


def mean_probabilities(
    families: Sequence[Any], priors: np.ndarray, posterior: Posterior = bayes
) -> np.ndarray:
    """E[P(k | x) | y = k] for every class, [K]."""
    x, weights = _rule(families)
    log_p = log_densities(families, x)
    return np.exp(log_p + posterior(log_p, priors)) @ weights


def mean_losses(
    pair: Sequence[Any], priors: np.ndarray, log_loss: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Mean over either class of a loss of the log-odds of the true class."""
    x, weights = _rule(pair)
    log_p = log_densities(pair, x)
    joint = log_p + np.log(priors)[:, None]
    odds = joint[0] - joint[1]
    large, small = (np.exp(log_p[k] + log_loss(s * odds)) @ weights for k, s in ((0, 1), (1, -1)))
    return float(large), float(small)


def _rule(families: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights between extreme quantiles of all densities."""
    levels = np.concatenate([10.0 ** -np.arange(18, 1, -1), [0.03, 0.1, 0.2, 0.35, 0.5]])
    knots = np.concatenate([quantile(levels) for f in families for quantile in (f.ppf, f.isf)])
    knots = np.unique(np.round(knots, 6))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = np.diff(knots)[:, None] / 2
    points = knots[:-1, None] + half * (1 + nodes)
    return points.ravel(), (half * weights).ravel()
