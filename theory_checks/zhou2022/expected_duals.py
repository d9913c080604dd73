r"""Mean dual weights over random training sets and errors (zhou2022, Prop. 5).

With dual weights :math:`p_i = a - b \gamma_i` of one b > 0, :math:`E p_i` falls with the mean
margin; with :math:`p_i = c\, e^{-\gamma_i}` of one c it is c times the exponential error.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array

from theory_checks.common.ensembles import STANDARD_ERRORS, rank_correlation, z_score
from theory_checks.records import Check, Measured
from theory_checks.zhou2022.binary_losses import loss_of_margins
from weighting import Signals, exponential_margin, losses

A, B, C = 1.0, 0.1, 0.01  # p = a - b margin, or c e^-margin
TWO_SETS = np.array([[-3.0, -2.5], [1.0, -2.0]])  # margins of two examples, by training set


class _OutOfOrder(NamedTuple):
    """Mean dual weights against the order of mean margins and of errors."""

    linear: int  # pairs where a larger mean margin has a larger mean weight
    exponential: int  # pairs where a larger error has a smaller mean weight
    identity: float  # |mean weight / (c err) - 1|, largest


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
    size = 2 * num_pairs
    mu, sigma = rng.uniform(0, 2, size), rng.uniform(0.1, 1.5, size)
    u = rng.normal(mu, sigma, (400, size))  # margins of the examples, by training set
    common = _out_of_order(rng, u, slope_noise)
    own = _out_of_order(rng, u, 0.5)
    larger, mismatched = _threshold_pairs(mu, sigma)
    drawn = _drawn_duals(rng, num_draws)
    # Weights that sum to one on every training set: their constant depends on the training set.
    errors = _exponential_loss(TWO_SETS).mean(axis=0)
    shares = _dual_shares(TWO_SETS, np.ones_like(TWO_SETS, bool)).mean(axis=0)
    rows = (
        Measured(
            "linear: pairs where a larger mean margin has a larger mean weight", common.linear, 0
        ),
        Measured(
            "exponential: pairs where a larger error has a smaller mean weight",
            common.exponential,
            0,
        ),
        Measured("exponential: |mean weight / (c err) - 1|", common.identity, 1e-12),
        Measured("closed forms: standard errors off", float(drawn.max()), STANDARD_ERRORS),
        Measured(
            "pairs where sigma_i^2 - sigma_j^2 > 2 (mu_i - mu_j) does not decide", mismatched, 0
        ),
        Measured("minus the pairs with mu_i > mu_j and yet a larger mean weight", -larger, -1),
    )
    of = f"pairs out of order, of {size * (size - 1) // 2}"
    control = (
        Measured(f"linear, b of its own per example: {of}", own.linear, 0),
        Measured(f"exponential, c of its own: {of}", own.exponential, 0),
        Measured(
            "two training sets, weights scaled to sum one: E p_2 - E p_1 with err_1 > err_2",
            float(shares[1] - shares[0]),
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
        _erratum(shares, errors),
    )


def _exponential_loss(margins: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return loss_of_margins(losses.exponential, margins)


def _out_of_order(rng: np.random.Generator, u: np.ndarray, spread: float) -> _OutOfOrder:
    """Pairs of the examples with margins u [T, N] that mean linear and exponential duals misplace.

    With a spread, b and c are examples' own, log-normal around B and C.
    """
    means, errors = u.mean(axis=0), _exponential_loss(u).mean(axis=0)
    own = np.exp(spread * rng.normal(size=(2, u.shape[1])))
    linear = (A - B * own[0] * u).mean(axis=0)
    exponential = (C * own[1] * np.exp(-u)).mean(axis=0)
    i, j = np.triu_indices(u.shape[1], 1)
    return _OutOfOrder(
        int(np.sum((means[i] - means[j]) * (linear[i] - linear[j]) > 0)),
        int(np.sum((errors[i] - errors[j]) * (exponential[i] - exponential[j]) < 0)),
        float(np.max(np.abs(exponential / (C * errors) - 1))),
    )


def _threshold_pairs(mu: np.ndarray, sigma: np.ndarray) -> tuple[int, int]:
    """Among pairs with mu_i > mu_j and Gaussian margins, E p = c e^(-mu + sigma^2 / 2).

    How many have E p_i > E p_j, and for how many the condition sigma_i^2 - sigma_j^2 >
    2 (mu_i - mu_j) says otherwise.
    """
    i, j = np.triu_indices(len(mu), 1)
    expected = C * np.exp(-mu + sigma**2 / 2)
    larger = expected[i] > expected[j]
    threshold = sigma[i] ** 2 - sigma[j] ** 2 > 2 * (mu[i] - mu[j])
    ordered = mu[i] > mu[j]
    return int(np.sum(larger & ordered)), int(np.sum((threshold != larger) & ordered))


def _drawn_duals(rng: np.random.Generator, num_draws: int) -> np.ndarray:
    """Standard errors between drawn mean duals and a - b mu, c e^(-mu + sigma^2 / 2)."""
    found = []
    for m, s in ((0.0, 0.5), (1.0, 1.2)):
        draws = rng.normal(m, s, num_draws)
        found.append(z_score(A - B * draws, A - B * m))
        expected = C * np.exp(-m + s**2 / 2)
        deviation = expected * np.sqrt(np.expm1(s**2) / num_draws)
        found.append(abs((C * np.exp(-draws)).mean() - expected) / deviation)
    return np.array(found)


def _erratum(shares: np.ndarray, errors: np.ndarray) -> str:
    return (
        "With constants that vary over examples or training sets neither part holds: on two "
        "training sets with margins (-3, -2.5) and (1, -2) weights proportional to e^-margin, "
        f"scaled to sum one, average {shares[0]:.2f} and {shares[1]:.2f}, "
        f"though the errors are {errors[0]:.1f} and {errors[1]:.1f}. With one b > 0 or one "
        "c for all, (1) orders by mean margin (its premise on the errors is not needed) and (2) "
        "by error."
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
    found = [_descent_correlations(seed, num_sets, num_examples) for seed in range(num_seeds)]
    by_error, by_margin, shuffled = np.transpose(found)
    difference = by_error - by_margin
    low, high = scipy.stats.t.interval(
        0.95, num_seeds - 1, difference.mean(), difference.std(ddof=1) / np.sqrt(num_seeds)
    )
    return Check(
        "Z-P5-descent",
        "mean duals of gradient descent, with their random constant, still follow the error",
        "TREND",
        (
            Measured(
                "rank correlation with the held-out error: minus the smallest",
                -float(by_error.min()),
                -0.5,
            ),
            Measured("the same, mean", float(np.mean(by_error))),
            Measured(
                "rank correlation with minus the mean margin, mean", float(np.mean(by_margin))
            ),
            Measured("the first less the second, mean", float(difference.mean())),
            Measured("its 95 % interval over problems, low", float(low)),
            Measured("its 95 % interval over problems, high", float(high)),
        ),
        f"{num_sets} random halves of {num_examples} examples of unequal spread, linear predictor",
        (Measured("duals of shuffled examples: minus the smallest", -float(shuffled.min()), -0.5),),
    )


def _descent_correlations(seed: int, num_sets: int, num_examples: int) -> tuple[float, ...]:
    """Of the mean duals: with the error, with minus the mean margin, and, shuffled, the error."""
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
    dual = _mean_where(_dual_shares((2 * labels - 1) * u, seen, labels), seen)
    error, margin = _mean_where(np.exp(-u), ~seen), _mean_where(u, ~seen)
    return (
        rank_correlation(dual, error),
        rank_correlation(dual, -margin),
        rank_correlation(rng.permutation(dual), error),
    )


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the training sets [R, N] that are chosen for an example; [N]."""
    return np.sum(values * chosen, axis=0) / np.sum(chosen, axis=0)


def _dual_shares(
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
