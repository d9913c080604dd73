r"""Epistemic uncertainty as the variance of retrained models (zhou2022, Eqs. 2 and 8).

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

from theory_checks.common.ensembles import STANDARD_ERRORS
from theory_checks.records import Check, Measured
from weighting.difficulty.several_networks import predictive_variance

NOISE = 0.3


class _Regression(NamedTuple):
    """A fixed design with a nonlinear truth, and points to predict."""

    features: np.ndarray  # [n, P]
    truth: np.ndarray  # [n]
    probes: np.ndarray  # [N, P]

    @property
    def gram(self) -> np.ndarray:
        return self.features.T @ self.features


class _Models(NamedTuple):
    """Predictions [R, N] at the probes, of models by what they differ in."""

    fresh: np.ndarray  # training sets around the truth
    around: np.ndarray  # training sets around one set T, with the noise's own variance
    wider: np.ndarray  # with twice that
    posterior: np.ndarray  # draws of the posterior of T, flat prior
    bootstrap: np.ndarray  # resampled pairs of T: only approximately the same distribution
    penalized: np.ndarray  # ridge regressions on the fresh sets


def equal_distributions(
    *,
    variance: Callable[..., Any] = predictive_variance,
    num_networks: int = 20_000,
    seed: int = 0,
) -> Check:
    """Z-E8: Eq. 8 and the variance term of Eq. 2, where their distributions are equal or not.

    Args:
      variance: the estimator under test, predictions [R, N] -> [N].
      num_networks: models of every ensemble.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    problem = _draw_regression(rng)
    exact = _closed_form(problem)
    one_set = problem.truth + rng.normal(0, NOISE, len(problem.truth))
    models, targets = _train_models(rng, problem, one_set, num_networks)
    with jax.enable_x64(True):
        measured = _Models(*(np.asarray(variance(jnp.asarray(f))) for f in models))
    term = _variance_term(models.fresh, targets)
    deviation = np.sqrt(2 / num_networks)  # of a variance of Gaussians, relative

    def off(own: np.ndarray) -> float:
        return float(np.max(np.abs(own / exact - 1)) / deviation)

    pairs = np.max(np.abs(measured.around / measured.fresh - 1)) / (2**0.5 * deviation)
    in_standard_errors = {
        "models of fresh training sets, from the closed form": off(measured.fresh),
        "models of sets N(T, noise variance)": off(measured.around),
        "models of the posterior, flat prior": off(measured.posterior),
        "sets around T against fresh sets, ratio less one": float(pairs),
    }
    broken = {
        "sets N(T, twice the noise variance)": off(measured.wider),
        "ridge regressions against least squares' posterior": off(measured.penalized),
    }
    identity = float(np.max(np.abs(measured.fresh / term - 1)))
    rows = (
        Measured(
            "the same models: relative distance from error less bias of Eq. 2", identity, 1e-9
        ),
        *_standard_error_rows(in_standard_errors),
        Measured(
            "resampled pairs: mean ratio to the closed form",
            float(np.mean(measured.bootstrap / exact)),
        ),
        Measured(
            "T's own estimate of the noise variance over the truth",
            float(_noise_variance(problem, one_set) / NOISE**2),
        ),
    )
    return Check(
        "Z-E8",
        "Eq. 8 is the variance term of Eq. 2 where posterior and retraining agree",
        "EXACT",
        rows,
        "least squares on a fixed design, Gaussian noise on the targets of known variance delta",
        _standard_error_rows(broken),
        "Training sets N(T, delta I) give the variance term of Eq. 2 only for the right delta. On "
        "a fixed design with least squares it must be the variance of the data's own noise; the "
        "predictive variance is proportional to delta.",
    )


def _standard_error_rows(values: dict[str, float]) -> tuple[Measured, ...]:
    return tuple(
        Measured(f"{name}: standard errors", value, STANDARD_ERRORS)
        for name, value in values.items()
    )


def _draw_regression(rng: np.random.Generator) -> _Regression:
    """Forty points, polynomials of degree five, a truth that they cannot express."""
    x, probes = rng.uniform(-1, 1, 40), np.linspace(-1, 1, 15)
    basis = np.polynomial.legendre.legvander
    return _Regression(basis(x, 5), np.sin(4 * x), basis(probes, 5))


def _closed_form(problem: _Regression) -> np.ndarray:
    """delta phi . (X^T X)^-1 phi at every probe, [N]."""
    pulls = np.linalg.solve(problem.gram, problem.probes.T).T
    return NOISE**2 * np.sum(problem.probes * pulls, axis=1)


def _variance_term(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of Eq. 2: the mean squared error less the squared error of the mean, [N]."""
    errors = np.mean((predictions - targets) ** 2, axis=0)
    return errors - (predictions.mean(axis=0) - targets) ** 2


def _noise_variance(problem: _Regression, targets: np.ndarray) -> float:
    """The unbiased estimate from the residuals of one training set."""
    residual = targets - problem.features @ _coefficients(problem, targets)
    return np.sum(residual**2) / (len(residual) - len(problem.gram))


def _coefficients(problem: _Regression, targets: np.ndarray) -> np.ndarray:
    """Of least squares on one training set, [P]: the mean of the posterior."""
    return np.linalg.solve(problem.gram, problem.features.T @ targets)


def _train_models(
    rng: np.random.Generator, problem: _Regression, one_set: np.ndarray, num_networks: int
) -> tuple[_Models, np.ndarray]:
    """All ensembles, and targets [N] at the probes for the error of Eq. 2."""
    shape = (num_networks, len(one_set))
    fresh = problem.truth + rng.normal(0, NOISE, shape)
    around = one_set + rng.normal(0, NOISE, shape)
    wider = one_set + rng.normal(0, 2**0.5 * NOISE, shape)
    resampled = rng.integers(len(one_set), size=shape)[:2000]
    targets = rng.normal(size=len(problem.probes))
    normals = rng.normal(size=(num_networks, len(problem.gram)))

    factor = np.linalg.cholesky(np.linalg.inv(problem.gram))
    posterior = _coefficients(problem, one_set) + NOISE * normals @ factor.T
    ridge = problem.gram + 20 * np.eye(len(problem.gram))
    shrunk = np.linalg.solve(ridge, problem.probes.T).T
    models = _Models(
        fresh=_fit(problem, fresh),
        around=_fit(problem, around),
        wider=_fit(problem, wider),
        posterior=posterior @ problem.probes.T,
        bootstrap=_fit_pairs(problem, one_set, resampled),
        penalized=fresh @ problem.features @ shrunk.T,
    )
    return models, targets


def _fit(problem: _Regression, targets: np.ndarray) -> np.ndarray:
    """Least-squares predictions at the probes, [R, N], of targets [R, n]."""
    coefficients, *_ = np.linalg.lstsq(problem.features, targets.T, rcond=None)
    return (problem.probes @ coefficients).T


def _fit_pairs(problem: _Regression, targets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The same, on resampled points [R, n]."""
    x, y = problem.features[indices], targets[indices]
    gram = np.einsum("rnp,rnq->rpq", x, x)
    moment = np.einsum("rnp,rn->rp", x, y)
    return np.linalg.solve(gram, moment[:, :, None])[:, :, 0] @ problem.probes.T
