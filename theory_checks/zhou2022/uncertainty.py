r"""Predictive variance as epistemic uncertainty (zhou2022, Eqs. 7-8), as `weighting` measures it.

For a linear regression on a fixed design the training sets :math:`N(T, \delta I)` (noise on the
targets) give :math:`\hat\theta \sim N(\hat\theta(T), \delta (X^\top X)^{-1})`, which is also the
posterior under a flat prior and noise of variance :math:`\delta`. So Eq. 8 is the variance term of
Eq. 2 exactly when :math:`\delta` is the variance of the data's own noise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from theory_checks.common.ensembles import STANDARD_ERRORS, power_law, rank_correlation
from theory_checks.records import Check, Plot, Row
from weighting.difficulty.bias_variance import squared_bias_variance
from weighting.difficulty.several_networks import predictive_variance

Variance = Callable[..., Any]  # (predictions, inverse_precision=, ddof=) -> [N]

NUM_NETWORKS = 5  # K of the paper
NOISE = 0.3


class Regression(NamedTuple):
    """A fixed design with a nonlinear truth, and points to predict."""

    features: np.ndarray  # [n, P]
    truth: np.ndarray  # [n]
    probes: np.ndarray  # [N, P]


def checks(preset: str) -> list[Check]:
    """All claims; smaller ensembles for "smoke"."""
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
    printed, against_numpy, unbiased, offset = 0.0, 0.0, 0.0, 0.0
    with jax.enable_x64(True):
        for k in range(num_problems):
            count = (NUM_NETWORKS, 2, 20)[k % 3]
            f = rng.normal(rng.normal(), 1, (count, 12, 3))
            precision = rng.uniform(0, 1)
            own = np.asarray(variance(jnp.asarray(f), inverse_precision=precision))
            raw = np.einsum("knc,knc->n", f, f) / count
            mean = f.mean(axis=0)
            letter = precision + raw - np.einsum("nc,nc->n", mean, mean)
            printed = max(printed, float(np.max(np.abs(own - letter) / letter)))
            plain = np.asarray(variance(jnp.asarray(f)))
            spread = f.var(axis=0).sum(axis=1)
            against_numpy = max(against_numpy, float(np.max(np.abs(plain / spread - 1))))
            corrected = np.asarray(variance(jnp.asarray(f), ddof=1))
            expected = spread * count / (count - 1)
            unbiased = max(unbiased, float(np.max(np.abs(corrected / expected - 1))))
            far = (f + 1e4).astype(np.float32)
            stable = np.asarray(variance(jnp.asarray(far)))
            reference = far.astype(float).var(axis=0).sum(axis=1)
            offset = max(offset, float(np.max(np.abs(stable / reference - 1))))
        cancelled = np.einsum("knc,knc->n", far, far) / np.float32(len(far))
        cancelled = cancelled - np.sum(far.mean(axis=0, dtype=np.float32) ** 2, axis=1)
        cancellation = float(np.max(np.abs(cancelled / reference - 1)))

        # Models theta ~ N(m, S), f = phi . theta: Eq. 8 is phi . S phi.
        factor, phi = rng.normal(size=(4, 4)), rng.normal(size=(20, 4))
        limit = np.sum((phi @ factor) ** 2, axis=1)
        sizes = 2 ** np.arange(3, 12)
        distances, wrong_limit = [], []
        bias = 0.0
        for size in sizes:
            theta = rng.normal(size=(num_repeats, size, 4)) @ factor.T
            own = np.stack([np.asarray(variance(jnp.asarray(t @ phi.T))) for t in theta])
            relative = own / limit
            distances.append(float(np.sqrt(np.mean((relative - 1) ** 2))))
            wrong_limit.append(float(np.sqrt(np.mean((relative - 1.2) ** 2))))
            # A variance of Gaussians is (1 - 1/K) limit in the mean, with deviation about
            # sqrt(2 / K); the twenty points are dependent, so each by itself.
            error = np.sqrt(2 * (size - 1)) / size / np.sqrt(num_repeats)
            bias = max(bias, float(np.max(np.abs(relative.mean(axis=0) - 1 + 1 / size) / error)))
    power, half = power_law(sizes, distances)
    wrong_power, _ = power_law(sizes, wrong_limit)
    return Check(
        "Z-E7",
        "Eq. 7 is 1 / tau plus the variance over K predictions, and approaches Eq. 8 as K^-1/2",
        "EXACT",
        (
            Row("relative distance from Eq. 7 as printed, 1 / tau included", printed, 1e-10),
            Row("relative distance from NumPy's variance over K", against_numpy, 1e-12),
            Row("the same, over K - 1", unbiased, 1e-12),
            Row("float32, predictions near 10^4: relative distance", offset, 1e-4),
            Row(
                "K = 8 to 2048: |power of K + 1/2|, with half its 95 % interval",
                abs(power + 0.5) + half,
                0.1,
            ),
            Row(
                "mean over ensembles against (1 - 1/K) Eq. 8: standard errors off",
                bias,
                STANDARD_ERRORS + 1,
            ),  # several hundred means
        ),
        "Gaussian parameters and a linear model for the rate",
        (
            Row("Eq. 7 as printed in float32, near 10^4: relative distance", cancellation, 1e-4),
            Row("a limit 20 % too large: |power of K + 1/2|", abs(wrong_power + 0.5), 0.1),
        ),
        plot=Plot(
            "number of models K",
            "root mean square distance from Eq. 8, relative",
            {
                "measured": (sizes.tolist(), distances),
                "sqrt(2 / K)": (sizes.tolist(), np.sqrt(2 / sizes).tolist()),
            },
            "xy",
        ),
    )


def equal_distributions(
    *, variance: Variance = predictive_variance, num_networks: int = 20_000, seed: int = 0
) -> Check:
    """Z-E8: Eq. 8 and the variance term of Eq. 2, where their distributions are equal or not.

    Args:
      variance: the estimator under test.
      num_networks: models of every ensemble.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    problem = regression(rng)
    gram = problem.features.T @ problem.features
    exact = NOISE**2 * np.sum(problem.probes * np.linalg.solve(gram, problem.probes.T).T, axis=1)
    one_set = problem.truth + rng.normal(0, NOISE, len(problem.truth))
    shape = (num_networks, len(one_set))
    fresh = problem.truth + rng.normal(0, NOISE, shape)
    around = one_set + rng.normal(0, NOISE, shape)
    wider = one_set + rng.normal(0, 2**0.5 * NOISE, shape)
    resampled = rng.integers(len(one_set), size=shape)
    deviation = np.sqrt(2 / num_networks)
    targets = rng.normal(size=len(problem.probes))

    with jax.enable_x64(True):

        def measured(predictions: np.ndarray) -> np.ndarray:
            return np.asarray(variance(jnp.asarray(predictions)))

        def off(predictions: np.ndarray) -> float:
            return float(np.max(np.abs(measured(predictions) / exact - 1)) / deviation)

        trained_fresh = fit(problem, fresh)
        center = trained_fresh.mean(axis=0)
        term = np.mean((trained_fresh - targets) ** 2, axis=0) - (center - targets) ** 2
        identity = float(np.max(np.abs(measured(trained_fresh) / term - 1)))
        trained_around = fit(problem, around)
        posterior_mean = np.linalg.solve(gram, problem.features.T @ one_set)
        factor = np.linalg.cholesky(np.linalg.inv(gram))
        normals = rng.normal(size=(num_networks, len(gram)))
        posterior = (posterior_mean + NOISE * normals @ factor.T) @ problem.probes.T
        ratio = measured(trained_around) / measured(trained_fresh) - 1
        pairs = float(np.max(np.abs(ratio)) / (2**0.5 * deviation))

        # Resampled pairs: the usual bootstrap, only approximately the same distribution.
        few = min(num_networks, 2000)
        bootstrap = fit_pairs(problem, one_set, resampled[:few])
        residual = one_set - problem.features @ posterior_mean
        estimated = np.sum(residual**2) / (len(residual) - len(gram))
        rows = (
            Row("the same models: relative distance from error less bias of Eq. 2", identity, 1e-9),
            Row(
                "models of fresh training sets, from the closed form: standard errors",
                off(trained_fresh),
                STANDARD_ERRORS,
            ),
            Row(
                "models of sets N(T, noise variance): standard errors",
                off(trained_around),
                STANDARD_ERRORS,
            ),
            Row(
                "models of the posterior, flat prior: standard errors",
                off(posterior),
                STANDARD_ERRORS,
            ),
            Row(
                "sets around T against fresh sets, ratio less one: standard errors",
                pairs,
                STANDARD_ERRORS,
            ),
            Row(
                "resampled pairs: mean ratio to the closed form",
                float(np.mean(measured(bootstrap) / exact)),
            ),
            Row(
                "T's own estimate of the noise variance over the truth", float(estimated / NOISE**2)
            ),
        )
        shrunk = np.linalg.solve(gram + 20 * np.eye(len(gram)), problem.probes.T).T
        penalized = fresh @ problem.features @ shrunk.T
        control = (
            Row(
                "sets N(T, twice the noise variance): standard errors",
                off(fit(problem, wider)),
                STANDARD_ERRORS,
            ),
            Row(
                "ridge regressions against least squares' posterior: standard errors",
                off(penalized),
                STANDARD_ERRORS,
            ),
        )
    return Check(
        "Z-E8",
        "Eq. 8 is the variance term of Eq. 2 where posterior and retraining agree",
        "EXACT",
        rows,
        "least squares on a fixed design, Gaussian noise on the targets of known variance delta",
        control,
        "Training sets N(T, delta I) give the variance term of Eq. 2 only for the right delta. On "
        "a fixed design with least squares it must be the variance of the data's own noise; the "
        "predictive variance is proportional to delta.",
    )


def two_regimes(*, num_networks: int = 400, num_seeds: int = 20) -> Check:
    """Z-E78: error and variance rise together on clean points, not on points with wrong targets.

    Each of R least-squares models is trained on half of the points; errors and variances of a
    point are those of the models that did not see it. Six of the 120 targets, near the middle of
    the inputs, are off by a constant.
    """
    clean, wrong, mixed, shuffled = [], [], [], []
    noisy_error, wrong_share, clean_share = [], [], []
    plotted = {}
    with jax.enable_x64(True):
        for seed in range(num_seeds):
            rng = np.random.default_rng(seed)
            x = np.sort(rng.normal(0, 1, 120))
            features = np.polynomial.hermite_e.hermevander(x, 5)
            features /= np.sqrt([1, 1, 2, 6, 24, 120])
            y = np.sin(2 * x) + rng.normal(0, 0.1, 120)
            noisy = np.zeros(120, bool)
            noisy[rng.choice(np.flatnonzero(np.abs(x) < 0.5), 6, replace=False)] = True
            y = y + 2.0 * noisy
            member = rng.random((num_networks, 120)) < 0.5
            gram = np.einsum("rn,np,nq->rpq", member, features, features) + 1e-3 * np.eye(6)
            moment = (member * y) @ features
            predictions = np.linalg.solve(gram, moment[:, :, None])[:, :, 0] @ features.T
            mask = jnp.asarray(~member)
            split = squared_bias_variance(jnp.asarray(predictions), jnp.asarray(y), mask=mask)
            spread = np.asarray(predictive_variance(jnp.asarray(predictions), mask=mask))
            error = np.asarray(split.error)
            clean.append(rank_correlation(error[~noisy], spread[~noisy]))
            wrong.append(rank_correlation(error[noisy], spread[noisy]))
            mixed.append(rank_correlation(error, spread))
            shuffled.append(rank_correlation(error[~noisy], rng.permutation(spread[~noisy])))
            noisy_error.append(np.median(error[noisy]) / np.median(error[~noisy]))
            wrong_share.append(np.median((spread / error)[noisy]))
            clean_share.append(np.median((spread / error)[~noisy]))
            if seed == 0:
                plotted = {
                    name: (
                        np.sort(spread[chosen]).tolist(),
                        error[chosen][np.argsort(spread[chosen])].tolist(),
                    )
                    for name, chosen in (("clean", ~noisy), ("wrong target", noisy))
                }
    low, high = scipy.stats.t.interval(
        0.95, num_seeds - 1, np.mean(clean), np.std(clean, ddof=1) / np.sqrt(num_seeds)
    )
    return Check(
        "Z-E78",
        "error and epistemic uncertainty rise together on clean points, wrong targets aside",
        "TREND",
        (
            Row("clean points: minus the rank correlation, mean", -float(np.mean(clean)), -0.2),
            Row("clean points: 95 % interval, low", float(low)),
            Row("clean points: 95 % interval, high", float(high)),
            Row(
                "clean points: share of seeds not positive", float(np.mean(np.less(clean, 0))), 0.1
            ),
            Row(
                "wrong targets: minus their median error over the clean",
                -float(np.min(noisy_error)),
                -10,
            ),
            Row(
                "wrong targets: median share of the variance in the error, largest",
                float(np.max(wrong_share)),
                0.05,
            ),
            Row("clean points: the same, mean", float(np.mean(clean_share))),
            Row("wrong targets: mean rank correlation", float(np.mean(wrong))),
            Row("all points: mean rank correlation", float(np.mean(mixed))),
        ),
        "least-squares polynomials, six of 120 targets off by 2 where the data are dense",
        (
            Row(
                "clean points, shuffled variances: minus the rank correlation, mean",
                -float(np.mean(shuffled)),
                -0.2,
            ),
        ),
        plot=Plot("predictive variance", "held-out error", plotted, "xy", joined=False),
    )


def regression(rng: np.random.Generator) -> Regression:
    """Forty points, polynomials of degree five, a truth that they cannot express."""
    x, probes = rng.uniform(-1, 1, 40), np.linspace(-1, 1, 15)
    basis = np.polynomial.legendre.legvander
    return Regression(basis(x, 5), np.sin(4 * x), basis(probes, 5))


def fit(problem: Regression, targets: np.ndarray) -> np.ndarray:
    """Least-squares predictions at the probes, [R, N], of targets [R, n]."""
    coefficients, *_ = np.linalg.lstsq(problem.features, targets.T, rcond=None)
    return (problem.probes @ coefficients).T


def fit_pairs(problem: Regression, targets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The same, on resampled points [R, n]."""
    x, y = problem.features[indices], targets[indices]
    gram = np.einsum("rnp,rnq->rpq", x, x)
    moment = np.einsum("rnp,rn->rp", x, y)
    return np.linalg.solve(gram, moment[:, :, None])[:, :, 0] @ problem.probes.T
