r"""Margins over random training sets, errors and dual weights (zhou2022, Props. 4-5, Eq. 6).

With :math:`\gamma_i \sim N(\mu_i, \sigma_i^2)` and the exponential loss
:math:`err_i = e^{-\mu_i + \sigma_i^2 / 2}`, and a decreasing convex loss orders examples likewise:
down in :math:`\mu`, up in :math:`\sigma^2`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from jax import Array

from theory_checks.common.ensembles import STANDARD_ERRORS, rank_correlation, z_score
from theory_checks.records import Check, Plot, Row
from weighting import Signals, exponential_margin, losses
from weighting.difficulty.several_networks import margin_variance, negative_average_margin

LOSSES = {"exponential": losses.exponential, "logistic": losses.logistic}
NODES, NODE_WEIGHTS = np.polynomial.hermite.hermgauss(100)


def checks(preset: str) -> list[Check]:
    """All claims; fewer draws for "smoke"."""
    if preset == "smoke":
        return [
            gaussian_margins(num_draws=50_000, num_pairs=50),
            expected_duals(num_draws=5_000, num_pairs=50),
            descent_duals(num_sets=60, num_seeds=4),
        ]
    return [gaussian_margins(), expected_duals(), descent_duals()]


def log_error(mu: Any, variance: Any) -> Any:
    """Eq. 6: the logarithm of the mean exponential loss."""
    return -mu + variance / 2


def gaussian_margins(
    *,
    log_error: Callable[[Any, Any], Any] = log_error,
    num_draws: int = 1_000_000,
    num_pairs: int = 200,
    seed: int = 0,
) -> Check:
    """Z-P4: Eq. 6, and how the error moves with mean and variance of the margin.

    Args:
      log_error: the closed form under test.
      num_draws: margins of a Monte Carlo estimate.
      num_pairs: pairs of examples, for each order.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        mu, sigma = rng.uniform(-3, 5, num_pairs), rng.uniform(0.1, 2, num_pairs)
        by_rule = quadrature(losses.exponential, mu, sigma)
        formula = np.exp(log_error(mu, sigma**2))
        closed = float(np.max(np.abs(by_rule / formula - 1)))

        monte_carlo, zero_one = 0.0, 0.0
        for m in (-1.0, 0.0, 2.0):
            for s in (0.3, 0.8, 1.5):
                margins = rng.normal(m, s, num_draws)
                drawn = loss_of_margins(losses.exponential, margins).mean()
                expected = np.exp(log_error(m, s**2))
                deviation = expected * np.sqrt(np.expm1(s**2) / num_draws)
                monte_carlo = max(monte_carlo, abs(drawn - expected) / deviation)
                p = scipy.stats.norm.cdf(-m / s)
                deviation = np.sqrt(p * (1 - p) / num_draws) + 1 / num_draws
                zero_one = max(zero_one, abs(np.mean(margins <= 0) - p) / deviation)

        # Estimated from R networks, as `weighting` measures mean and variance of the margin.
        num_networks = num_draws // 50
        labels = rng.integers(0, 2, 30)
        mu_n, sigma_n = rng.uniform(-1, 3, 30), rng.uniform(0.1, 1, 30)
        u = rng.normal(mu_n, sigma_n, (num_networks, 30))
        scores = jnp.asarray((2 * labels - 1) * u)
        estimate = log_error(
            -np.asarray(negative_average_margin(scores, jnp.asarray(labels))),
            np.asarray(margin_variance(scores, jnp.asarray(labels), ddof=1)),
        )
        gap = np.log(np.exp(-u).mean(axis=0)) - estimate
        plug_in = float(np.max(np.abs(gap) / np.sqrt(np.expm1(sigma_n**2) / num_networks)))

        violations = {}
        for name, loss_fn in LOSSES.items():
            delta = rng.uniform(0.01, 1, num_pairs)
            base = quadrature(loss_fn, mu, sigma)
            violations[f"{name}: larger mean, error not smaller"] = int(
                np.sum(quadrature(loss_fn, mu + delta, sigma) >= base)
            )
            violations[f"{name}: larger variance, error not larger"] = int(
                np.sum(quadrature(loss_fn, mu, sigma + delta) <= base)
            )
        # mu_i < mu_j and sigma_i^2 < sigma_j^2: either order occurs.
        first = quadrature(losses.exponential, np.array([0.0, 0.0]), np.array([0.5, 0.5]))
        second = quadrature(losses.exponential, np.array([1.0, 0.1]), np.array([0.6, 1.5]))
        undecided = int(not first[0] > second[0]) + int(not first[1] < second[1])

        deviations = np.array([0.5, 1.0, 2.0])
        errors = {m: scipy.stats.norm.cdf(-m / deviations) for m in (-1.0, 0.0, 1.0)}
        falls = {m: float(-np.min(np.diff(e))) for m, e in errors.items()}
        sigmas = np.linspace(0.1, 3, 30)
        curves = {f"zero-one, mean {m:g}": scipy.stats.norm.cdf(-m / sigmas) for m in (-1.0, 1.0)}
        for m in (-1.0, 1.0):
            curves[f"logistic, mean {m:g}"] = quadrature(losses.logistic, np.full(30, m), sigmas)

        # Not Gaussian: uniform margins; skewed ones, of mean zero, with the larger variance.
        values = np.sqrt(3) * rng.uniform(-1, 1, num_draws)
        uniform = loss_of_margins(losses.exponential, values).mean()
        off = abs(uniform - np.exp(log_error(0.0, 1.0))) / np.sqrt(
            (np.sinh(2 * 3**0.5) / (2 * 3**0.5) - uniform**2) / num_draws
        )
    wide, narrow = skewed_error(1.0), skewed_error(-0.9)  # variances 1 and 0.81
    rows = (
        Row("exponential, quadrature: relative distance from e^(-mu + sigma^2 / 2)", closed, 1e-10),
        Row(
            f"exponential, {num_draws} draws: standard errors off",
            float(monte_carlo),
            STANDARD_ERRORS,
        ),
        Row("Eq. 6 with measured mean and variance: standard errors off", plug_in, STANDARD_ERRORS),
        *(Row(name, value, 0) for name, value in violations.items()),
        Row("orders not found where mean and variance are both larger, of 2", undecided, 0),
        Row(
            "zero-one against Phi(-mu / sigma): standard errors off",
            float(zero_one),
            STANDARD_ERRORS,
        ),
        Row("zero-one, mu = 0 and 1: fall of the error in sigma", max(falls[0.0], falls[1.0]), 0),
        Row(
            "zero-one, mu = -1: error at sigma = 2 less that at 0.5",
            float(errors[-1.0][2] - errors[-1.0][0]),
            -0.2,
        ),
    )
    control = (
        Row("zero-one, mu = -1: fall of the error in sigma", falls[-1.0], 0),
        Row("uniform margins, Eq. 6: standard errors off", float(off), STANDARD_ERRORS),
        Row("skewed margins, equal means: error at variance 0.81 less that at 1", narrow - wide, 0),
    )
    return Check(
        "Z-P4",
        "with Gaussian margins the error falls in their mean and rises in their variance",
        "EXACT",
        rows,
        "Gaussian margins over training sets; exponential or logistic loss (zero-one: mu >= 0)",
        control,
        "For the zero-one error the part on variances fails where the mean margin is negative: at "
        "mu = -1 and sigma = 0.5, 1, 2 it is {:.3f}, {:.3f}, {:.3f}. ".format(*errors[-1.0])
        + "For exponential and logistic loss both parts hold; for the zero-one error, "
        "Phi(-mu / sigma), the variance part needs mu >= 0.",
        Plot(
            "standard deviation of the margin",
            "error",
            {name: (sigmas.tolist(), curve.tolist()) for name, curve in curves.items()},
        ),
    )


def expected_duals(
    *,
    slope_noise: float = 0.0,
    num_draws: int = 100_000,
    num_pairs: int = 200,
    seed: int = 0,
) -> Check:
    """Z-P5: the order of the mean dual weights, for weights linear or exponential in the margin.

    Args:
      slope_noise: spread of b and log c over examples, to see the check fail.
      num_draws: training sets.
      num_pairs: pairs of examples.
      seed: of the problems.
    """
    rng = np.random.default_rng(seed)

    def exponential_loss(u: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return loss_of_margins(losses.exponential, u)

    size = 2 * num_pairs
    num_sets = 400
    mu, sigma = rng.uniform(0, 2, size), rng.uniform(0.1, 1.5, size)
    u = rng.normal(mu, sigma, (num_sets, size))
    errors, means = exponential_loss(u).mean(axis=0), u.mean(axis=0)
    a, b, c = 1.0, 0.1, 0.01
    i, j = np.triu_indices(size, 1)

    def out_of_order(spread: float) -> tuple[int, int, float]:
        """Pairs that linear and exponential weights misplace, and the distance from c err."""
        own = np.exp(spread * rng.normal(size=(2, size)))
        linear, exponential = (a - b * own[0] * u).mean(axis=0), (c * own[1] * np.exp(-u)).mean(0)
        return (
            int(np.sum((means[i] - means[j]) * (linear[i] - linear[j]) > 0)),
            int(np.sum((errors[i] - errors[j]) * (exponential[i] - exponential[j]) < 0)),
            float(np.max(np.abs(exponential / (c * errors) - 1))),
        )

    linear_wrong, exponential_wrong, identity = out_of_order(slope_noise)
    varied = out_of_order(0.5)

    # Closed forms, and the threshold on the variances.
    expected = c * np.exp(-mu + sigma**2 / 2)
    larger = (expected[i] > expected[j]) & (mu[i] > mu[j])
    threshold = sigma[i] ** 2 - sigma[j] ** 2 > 2 * (mu[i] - mu[j])
    mismatched = int(np.sum((threshold != (expected[i] > expected[j])) & (mu[i] > mu[j])))
    monte_carlo = 0.0
    for m, s in ((0.0, 0.5), (1.0, 1.2)):
        draws = rng.normal(m, s, num_draws)
        monte_carlo = max(monte_carlo, z_score(a - b * draws, a - b * m))
        target = c * np.exp(-m + s**2 / 2)
        deviation = target * np.sqrt(np.expm1(s**2) / num_draws)
        monte_carlo = max(monte_carlo, abs((c * np.exp(-draws)).mean() - target) / deviation)

    # Weights that sum to one on every training set: their constant depends on the training set.
    two = np.array([[-3.0, -2.5], [1.0, -2.0]])  # [T, examples]
    two_errors = exponential_loss(two).mean(axis=0)
    shares = dual_shares(two, np.ones_like(two, bool))
    rows = (
        Row("linear: pairs where a larger mean margin has a larger mean weight", linear_wrong, 0),
        Row(
            "exponential: pairs where a larger error has a smaller mean weight",
            exponential_wrong,
            0,
        ),
        Row("exponential: |mean weight / (c err) - 1|", identity, 1e-12),
        Row("closed forms: standard errors off", float(monte_carlo), STANDARD_ERRORS),
        Row("pairs where sigma_i^2 - sigma_j^2 > 2 (mu_i - mu_j) does not decide", mismatched, 0),
        Row(
            "minus the pairs with mu_i > mu_j and yet a larger mean weight",
            -int(np.sum(larger)),
            -1,
        ),
    )
    control = (
        Row(f"linear, b of its own per example: pairs out of order, of {len(i)}", varied[0], 0),
        Row(f"exponential, c of its own: pairs out of order, of {len(i)}", varied[1], 0),
        Row(
            "two training sets, weights scaled to sum one: E p_2 - E p_1 with err_1 > err_2",
            float(shares[:, 1].mean() - shares[:, 0].mean()),
            0,
        ),
    )
    return Check(
        "Z-P5",
        "mean dual weights order examples by mean margin if linear, by error if exponential in it",
        "EXACT-CORR",
        rows,
        "p = a - b margin with one b > 0, or p = c e^(-margin) with one c, for all examples and "
        "training sets; any distribution of the margins",
        control,
        "With constants that vary over examples or training sets neither part holds: on two "
        "training sets with margins (-3, -2.5) and (1, -2) weights proportional to e^-margin, "
        f"scaled to sum one, average {shares[:, 0].mean():.2f} and {shares[:, 1].mean():.2f}, "
        f"though the errors are {two_errors[0]:.1f} and {two_errors[1]:.1f}. With one b > 0 or one "
        "c for all, (1) orders by mean margin (its premise on the errors is not needed) and (2) "
        "by error.",
    )


def descent_duals(*, num_sets: int = 200, num_examples: int = 60, num_seeds: int = 10) -> Check:
    """Z-P5 for gradient descent's duals, e^-u over their sum: rank correlations (an observation).

    Linear classifiers by normalized descent on the exponential loss, each on a random half of the
    examples; errors and mean margins are those of the classifiers that did not see the example.

    Args:
      num_sets: random halves.
      num_examples: examples in all.
      num_seeds: problems.
    """
    by_error, by_margin, shuffled = [], [], []
    for seed in range(num_seeds):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, num_examples)
        center = np.array([1.0, 0.5, 0.0, 0.0, 0.0])
        spread = rng.uniform(0.3, 2.0, (num_examples, 1))
        z = center + spread * rng.normal(size=(num_examples, 5))  # y x
        seen = rng.random((num_sets, num_examples)) < 0.5
        theta = np.zeros((num_sets, 5))
        for _ in range(400):
            p = np.where(seen, np.exp(-theta @ z.T), 0)
            theta += 0.05 * (p / p.sum(axis=1, keepdims=True)) @ z
        u = theta @ z.T
        dual = mean_where(dual_shares((2 * labels - 1) * u, seen, labels), seen)
        error, margin = mean_where(np.exp(-u), ~seen), mean_where(u, ~seen)
        by_error.append(rank_correlation(dual, error))
        by_margin.append(rank_correlation(dual, -margin))
        shuffled.append(rank_correlation(rng.permutation(dual), error))
    difference = np.subtract(by_error, by_margin)
    low, high = scipy.stats.t.interval(
        0.95, num_seeds - 1, difference.mean(), difference.std(ddof=1) / np.sqrt(num_seeds)
    )
    return Check(
        "Z-P5-descent",
        "mean duals of gradient descent, with their random constant, still follow the error",
        "TREND",
        (
            Row(
                "rank correlation with the held-out error: minus the smallest", -min(by_error), -0.5
            ),
            Row("the same, mean", float(np.mean(by_error))),
            Row("rank correlation with minus the mean margin, mean", float(np.mean(by_margin))),
            Row("the first less the second, mean", float(difference.mean())),
            Row("its 95 % interval over problems, low", float(low)),
            Row("its 95 % interval over problems, high", float(high)),
        ),
        f"{num_sets} random halves of {num_examples} examples of unequal spread, linear predictor",
        (Row("duals of shuffled examples: minus the smallest", -min(shuffled), -0.5),),
    )


def mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the training sets [R, N] that are chosen for an example; [N]."""
    return np.sum(values * chosen, axis=0) / np.sum(chosen, axis=0)


def loss_of_margins(loss_fn: Callable[[Array, Array], Array], margins: np.ndarray) -> np.ndarray:
    """A binary loss from `weighting` of margins of any shape: scores with labels one."""
    flat = jnp.asarray(margins).ravel()
    return np.asarray(loss_fn(flat, jnp.ones(flat.shape, int))).reshape(margins.shape)


def quadrature(
    loss_fn: Callable[[Array, Array], Array], mu: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Mean loss of Gaussian margins, by Gauss-Hermite quadrature; [P]."""
    margins = mu[:, None] + np.sqrt(2) * sigma[:, None] * NODES
    return loss_of_margins(loss_fn, margins) @ NODE_WEIGHTS / np.sqrt(np.pi)


def skewed_error(scale: float) -> float:
    """Mean of e^-u for u = scale (E - 1), E exponential: mean zero, variance scale^2."""
    return float(np.exp(scale) / (1 + scale))


def dual_shares(
    scores: np.ndarray, member: np.ndarray, labels: np.ndarray | None = None
) -> np.ndarray:
    """e^-u over its sum, on every training set [R, N], by the scheme of `weighting`."""
    scheme = exponential_margin(normalize=False)
    labels = np.ones(scores.shape[1], int) if labels is None else labels
    with jax.enable_x64(True):

        def one(score: Array, mask: Array) -> Array:
            signals = Signals(
                jnp.zeros_like(score), score, jnp.asarray(labels), mask=mask.astype(score.dtype)
            )
            state = scheme.init(jax.random.key(0), {})
            return scheme.update(signals.valid, state, signals)[0]

        return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(scores), jnp.asarray(member)))
