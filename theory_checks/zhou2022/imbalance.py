r"""Large and small classes under the Bayes posterior (zhou2022, Prop. 3 and Prop. A.1).

With priors :math:`\pi_k`, densities :math:`p_k` and their mixture p,

.. math:: E[P(k \mid x) \mid y = k] = 1 - \sum_{j \ne k} \pi_j c_{kj}, \qquad
          c_{kj} = \int \frac{p_k p_j}{p}\, dx,

so that two classes differ by :math:`(\pi_1 - \pi_2) c_{12} > 0` at every ratio above one. More
classes also differ in how much they overlap with the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from sklearn.linear_model import LogisticRegression

from theory_checks.common.ensembles import (
    STANDARD_ERRORS,
    ensemble_outputs,
    train_networks,
    z_score,
)
from theory_checks.records import Check, Plot, Row
from weighting.difficulty.one_network import error_probability
from weighting.losses import logistic

RATIOS = (1.01, 1.5, 2.0, np.e, 10.0, 100.0)
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


def checks(preset: str) -> list[Check]:
    """All claims; fewer seeds for "smoke"."""
    if preset == "smoke":
        return [
            two_classes(ratios=(1.01, 10.0), num_seeds=20),
            more_classes(num_draws=500),
            mean_error(ratios=(1.5, 10.0)),
        ]
    return [two_classes(), more_classes(), mean_error()]


def bayes(densities: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """log P(k | x), of log densities [K, ...]."""
    joint = densities + np.log(priors).reshape(-1, *[1] * (densities.ndim - 1))
    return joint - scipy.special.logsumexp(joint, axis=0)


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
    rng = np.random.default_rng(0)
    identity, mass, draws = 0.0, 0.0, 0.0
    order, condition, exchanged = -np.inf, -np.inf, -np.inf
    plotted = []
    for name, pair in (MIRRORED | OTHERS).items():
        mass = max(mass, missing_mass(pair))
        samples = [family.rvs(20_000, random_state=rng) for family in pair]
        for ratio in ratios:
            priors = np.array([ratio, 1.0]) / (1 + ratio)
            c = overlap(pair, priors, 0, 1)
            means = mean_probabilities(pair, priors, posterior)
            identity = max(identity, abs(means[0] - (1 - priors[1] * c)))
            identity = max(identity, abs(means[1] - (1 - priors[0] * c)))
            for k, sample in enumerate(samples):
                own = np.exp(posterior(log_densities(pair, sample), priors)[k])
                draws = max(draws, z_score(own, 1 - priors[1 - k] * c))
            order = max(order, means[1] - means[0])
            if ratio < np.e:
                condition = max(condition, means[1] - means[0])
            if name == "Gaussians":
                plotted.append((ratio, *means))
            reverse = mean_probabilities(pair, priors, lambda d, p: bayes(d, p[::-1]))
            exchanged = max(exchanged, reverse[1] - reverse[0])
    gaps = {
        "logistic regression": regression_gaps(num_seeds),
        "network": network_gaps(num_seeds),
    }
    rows = [
        Row("mean probability of either class against 1 - pi_other c", identity, QUADRATURE),
        Row("the same, 20000 draws per class: standard errors off", draws, STANDARD_ERRORS),
        Row("quadrature: total mass of a density less one", mass, QUADRATURE),
        Row("mean probability of the small class less that of the large", order, 0),
        Row("the same at ratios below e", condition, 0),
    ]
    for name, gap in gaps.items():
        wrong = float(np.mean(gap <= 0))
        half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
        rows.append(Row(f"{name}, 10:1: share of {len(gap)} seeds in the other order", wrong, 0.05))
        rows.append(Row(f"{name}: mean gap of the two probabilities", float(gap.mean())))
        rows.append(Row(f"{name}: half of its 95 % interval", float(half)))
    ratio, large, small = (list(map(float, column)) for column in zip(*plotted, strict=True))
    return Check(
        "Z-P3",
        "of two classes the larger has the larger mean probability of the true class",
        "EXACT-CORR",
        tuple(rows),
        "the exact posterior of two overlapping classes; trained classifiers: an empirical trend",
        (Row("posterior with exchanged priors: small class less large", exchanged, 0),),
        "The condition c_r > e:1 is not needed for two classes, and not enough for more. For two "
        "classes and the exact posterior the means differ by (pi_1 - pi_2) c with "
        "c = int p_1 p_2 / p > 0, at every ratio above one.",
        Plot(
            "ratio of the classes",
            "mean probability of the true class",
            {"large class": (ratio, large), "small class": (ratio, small)},
            "x",
        ),
    )


def more_classes(
    *, priors: Sequence[float] = (0.5, 0.45, 0.05), num_draws: int = 5000, seed: int = 0
) -> Check:
    """Z-P3, more classes: unequal overlaps refute it; exchangeable classes obey it pointwise.

    Args:
      priors: of the counterexample.
      num_draws: points of the ten exchangeable classes.
      seed: of the draws.
    """
    families = (NORMAL(0, 1), NORMAL(0.5, 1), NORMAL(8, 1))
    shares = np.array(priors)
    means = mean_probabilities(families, shares, bayes)
    identity = max(
        abs(means[k] - 1 + sum(shares[j] * overlap(families, shares, k, j) for j in others))
        for k, others in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
    )
    reference = np.abs(means - [0.554, 0.505, 0.9996]).max()

    # Ten classes at the corners of a simplex, 10:1 from the first to the last. Exchanging the
    # coordinates i and j of a point of class i makes it one of class j, equally likely there.
    rng = np.random.default_rng(seed)
    size, scale = 10, 1.5
    sizes = 10 ** -(np.arange(size) / (size - 1))
    log_priors = np.log(sizes / sizes.sum())
    pointwise, average, shifted = -np.inf, np.zeros(size), -np.inf
    with jax.enable_x64(True):
        errors = jax.jit(error_probability)
        noise = rng.normal(size=(num_draws, size))
        points = []
        for k in range(size):  # class k: noise with the coordinates 0 and k exchanged
            x = noise.copy()
            x[:, [0, k]] = x[:, [k, 0]]
            x[:, k] += scale
            points.append(x)
            labels = jnp.full(num_draws, k)
            p = 1 - np.asarray(errors(jnp.asarray(log_priors[None] + scale * x), labels))
            average[k] = p.mean()
        for i in range(size):
            for j in range(i + 1, size):
                mirrored = points[i].copy()
                mirrored[:, [i, j]] = mirrored[:, [j, i]]
                own, other = (
                    np.asarray(errors(jnp.asarray(log_priors[None] + scale * x), label))
                    for x, label in (
                        (points[i], jnp.full(num_draws, i)),
                        (mirrored, jnp.full(num_draws, j)),
                    )
                )
                pointwise = max(pointwise, float(np.max(own - other)))
        # The class that is nearer to the others is harder, whatever its size.
        moved = [x + 3.0 * (k == size - 1) * np.eye(size)[k] for k, x in enumerate(points)]
        far = scale * np.eye(size)
        far[-1, -1] += 3.0
        probabilities = []
        for k, x in enumerate(moved):
            logits = log_priors[None] + x @ far.T - 0.5 * np.sum(far**2, axis=1)[None]
            p = 1 - np.asarray(errors(jnp.asarray(logits), jnp.full(num_draws, k)))
            probabilities.append(p.mean())
        shifted = float(np.max(np.diff(probabilities)))
    rows = (
        Row(
            "three classes: largest class's mean less the smallest's",
            float(means[0] - means[2]),
            -0.4,
        ),
        Row("three classes: distance from (0.554, 0.505, 0.9996)", float(reference), 1e-3),
        Row("three classes: means against 1 - sum of pi_j c_kj", float(identity), QUADRATURE),
        Row(
            "ten exchangeable classes: 1 - p of the larger less that of the smaller, at mirrored "
            "points",
            pointwise,
            1e-12,
        ),
        Row(
            "ten exchangeable classes: largest rise of the mean from a class to the next smaller",
            float(np.max(np.diff(average))),
            0,
        ),
    )
    control = (
        Row(
            "as printed, three classes: smallest class's mean less the largest's",
            float(means[2] - means[0]),
            0,
        ),
        Row("ten classes, the smallest moved away: largest rise of the mean", shifted, 0),
    )
    return Check(
        "Z-P3k",
        "of more than two classes the larger need not have the larger mean true-class probability",
        "FALSE-AS-PRINTED",
        rows,
        "the exact posterior; the corrected statement for classes whose densities are exchangeable",
        control,
        "With priors (0.5, 0.45, 0.05) and unit-variance Gaussians at 0, 0.5 and 8 the mean "
        f"probabilities are {means[0]:.3f}, {means[1]:.3f} and {means[2]:.4f}: the smallest class "
        "is the easiest. Class k has 1 - sum_j pi_j c_kj; if the densities are exchangeable "
        "(equal overlaps), the order by size holds, even pointwise.",
        Plot(
            "class, from the largest to the smallest",
            "mean probability of the true class",
            {
                "exchangeable classes": (list(range(1, 11)), average.tolist()),
                "the smallest moved away": (list(range(1, 11)), list(map(float, probabilities))),
                "three classes, unequal overlaps": ([1, 2, 3], means.tolist()),
            },
        ),
    )


def mean_error(*, score_scale: float = 0.5, ratios: Sequence[float] = RATIOS) -> Check:
    """Z-PA1: the mean error of the small class, by loss.

    Args:
      score_scale: times the log-odds is the score of the exponential loss; its minimizer has 1/2.
      ratios: large to small class.
    """
    exponential, mirrored, wrong_score = 0.0, -np.inf, 0.0
    for name, pair in (MIRRORED | OTHERS).items():
        for ratio in ratios:
            priors = np.array([ratio, 1.0]) / (1 + ratio)
            for scale in (score_scale, 1.0):
                if scale == 1.0 and name != "Gaussians":
                    continue
                large, small = mean_losses(pair, priors, lambda u, s=scale: -s * u)
                gap = abs(small / large / ratio - 1)
                if scale == score_scale:
                    exponential = max(exponential, gap)
                else:
                    wrong_score = max(wrong_score, gap)
            if name in MIRRORED:
                large, small = mean_losses(pair, priors, log_cross_entropy)
                mirrored = max(mirrored, large - small)
    # The large class is spread out, and meets the small one with a thousandth of its mass.
    pair, priors = (NORMAL(0, 1000), NORMAL(0, 1)), np.array([0.75, 0.25])
    entropy = mean_losses(pair, priors, log_cross_entropy)
    zero_one = mean_losses(pair, priors, lambda u: np.where(u <= 0, 0.0, -np.inf))
    probability = mean_probabilities(pair, priors, bayes)
    spreads = np.logspace(0.2, 4, 20)
    curve = [mean_losses((NORMAL(0, s), NORMAL(0, 1)), priors, log_cross_entropy) for s in spreads]
    large_curve, small_curve = (list(map(float, c)) for c in zip(*curve, strict=True))
    return Check(
        "Z-PA1",
        "whether the small class has the larger mean error depends on the loss",
        "FALSE-AS-PRINTED",
        (
            Row("exponential loss: |small's mean error / large's / ratio - 1|", exponential, 1e-8),
            Row("cross-entropy, mirrored densities: large's mean error less small's", mirrored, 0),
            Row(
                "cross-entropy, N(0, 1000^2) and N(0, 1), 3:1: small's mean error / large's",
                entropy[1] / entropy[0],
                0.9,
            ),
            Row("the same, zero-one error", zero_one[1] / zero_one[0], 0.9),
            Row(
                "the same, small's mean true-class probability less large's",
                float(probability[1] - probability[0]),
                0,
            ),
        ),
        "two classes, the exact posterior, cross-entropy as -log p_y, exponential loss with its "
        "minimizer, half of the log-odds",
        (
            Row(
                "as printed, cross-entropy: large's mean error less small's",
                entropy[0] - entropy[1],
                0,
            ),
            Row(
                "exponential loss at the whole log-odds: |small's / large's / ratio - 1|",
                wrong_score,
                1e-8,
            ),
        ),
        "A larger mean error of the small class does not follow from Proposition 3: with densities "
        "N(0, 1000^2) and N(0, 1) at 3:1 the large class has the larger mean probability of the "
        f"true class, yet its mean cross-entropy is {entropy[0] / entropy[1]:.2g} times the small "
        "one's. For two classes it holds for the exponential loss at its minimizer, where the "
        "ratio of the mean errors is exactly c_r, and for every decreasing loss of the log-odds "
        "if the log-likelihood ratios of the two classes have one distribution.",
        Plot(
            "standard deviation of the large class (of the small: 1)",
            "mean cross-entropy, at 3:1",
            {
                "large class": (spreads.tolist(), large_curve),
                "small class": (spreads.tolist(), small_curve),
            },
            "xy",
        ),
    )


def quadrature(families: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights between extreme quantiles of all densities."""
    levels = np.concatenate([10.0 ** -np.arange(18, 1, -1), [0.03, 0.1, 0.2, 0.35, 0.5]])
    knots = np.concatenate([quantile(levels) for f in families for quantile in (f.ppf, f.isf)])
    knots = np.unique(np.round(knots, 6))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = np.diff(knots)[:, None] / 2
    points = knots[:-1, None] + half * (1 + nodes)
    return points.ravel(), (half * weights).ravel()


def log_densities(families: Sequence[Any], x: np.ndarray) -> np.ndarray:
    """log p_k(x), [K, ...]."""
    return np.stack([family.logpdf(x) for family in families])


def missing_mass(families: Sequence[Any]) -> float:
    """How far the quadrature of any of the densities is from one."""
    x, weights = quadrature(families)
    return float(np.max(np.abs(np.exp(log_densities(families, x)) @ weights - 1)))


def overlap(families: Sequence[Any], priors: np.ndarray, k: int, j: int) -> float:
    """c_kj, the integral of p_k p_j / p."""
    x, weights = quadrature(families)
    log_p = log_densities(families, x)
    mixture = scipy.special.logsumexp(log_p, axis=0, b=priors[:, None])
    return float(np.exp(log_p[k] + log_p[j] - mixture) @ weights)


def mean_probabilities(
    families: Sequence[Any], priors: np.ndarray, posterior: Posterior
) -> np.ndarray:
    """E[P(k | x) | y = k] for every class."""
    x, weights = quadrature(families)
    log_p = log_densities(families, x)
    return np.exp(log_p + posterior(log_p, priors)) @ weights


def mean_losses(
    pair: Sequence[Any], priors: np.ndarray, log_loss: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Mean over either class of a loss of the log-odds of the true class."""
    x, weights = quadrature(pair)
    log_p = log_densities(pair, x)
    joint = log_p + np.log(priors)[:, None]
    odds = joint[0] - joint[1]
    large, small = (np.exp(log_p[k] + log_loss(s * odds)) @ weights for k, s in ((0, 1), (1, -1)))
    return float(large), float(small)


def log_cross_entropy(odds: np.ndarray) -> np.ndarray:
    """log log(1 + e^-u)."""
    return np.where(odds > 40, -odds, np.log(np.logaddexp(0, -np.minimum(odds, 40))))


def imbalanced(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training sets of 200 and 20 points of two Gaussians; inputs [R, 220, 2], labels."""
    labels = np.tile(np.repeat([0, 1], [200, 20]), (count, 1))
    shift = labels[:, :, None] * np.array([1.5, 0.0])
    return shift + rng.normal(size=(count, 220, 2)), labels


def regression_gaps(num_seeds: int) -> np.ndarray:
    """Mean probability of the large class's points less the small's, per training set."""
    rng = np.random.default_rng(1)
    inputs, labels = imbalanced(rng, num_seeds)
    (test,), (test_labels,) = imbalanced(rng, 1)
    gaps = []
    for x, y in zip(inputs, labels, strict=True):
        log_p = LogisticRegression(C=1e3).fit(x, y).predict_log_proba(test)
        own = np.exp(log_p[np.arange(len(test)), test_labels])
        gaps.append(own[test_labels == 0].mean() - own[test_labels == 1].mean())
    return np.array(gaps)


def network_gaps(num_seeds: int) -> np.ndarray:
    """The same for networks."""
    rng = np.random.default_rng(2)
    inputs, labels = imbalanced(rng, num_seeds)
    (test,), (test_labels,) = imbalanced(rng, 1)
    with jax.enable_x64(True):
        networks = train_networks(logistic, inputs, labels, 0)
        scores = np.asarray(ensemble_outputs(networks, test))[:, :, 0]
    own = scipy.special.expit((2 * test_labels - 1)[None] * scores)
    return own[:, test_labels == 0].mean(axis=1) - own[:, test_labels == 1].mean(axis=1)
