"""Random programs of LOW (santiago2021, Eq. 9), and solvers independent of the library's."""

import importlib
import importlib.util
from typing import Any

import numpy as np
import scipy.optimize

HAS_CVXOPT, HAS_JAXOPT = (importlib.util.find_spec(p) is not None for p in ("cvxopt", "jaxopt"))


def random_norms(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Squared gradient norms [count, size] from distributions in turn, with ties and outliers."""
    draws = (
        lambda: rng.uniform(0, 2, size),
        lambda: rng.exponential(1, size),
        lambda: rng.pareto(2, size),
        lambda: rng.integers(0, 4, size) / 2,  # ties
        lambda: np.where(np.arange(size) == rng.integers(size), 2.0, rng.uniform(0, 0.1, size)),
        lambda: rng.choice([1e-8, 2.0], size),  # learned or not
    )
    return np.stack([draws[i % len(draws)]() for i in range(count)])


def random_programs(
    rng: np.random.Generator, count: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Norms [count, size] and lambdas [count], log-uniform in 1e-4..1e2."""
    return random_norms(rng, count, size), 10 ** rng.uniform(-4, 2, count)


def bisection(norms: np.ndarray, regularization: np.ndarray) -> np.ndarray:
    """Solves programs [P, B] by bisection on the multiplier, in NumPy.

    The KKT conditions give w_j = max(0, v_j - nu) with v = 1 + g / (2 lambda), and nu by sum w = B.
    """
    size = norms.shape[1]
    target = 1 + norms / (2 * regularization[:, None])
    high = target.max(axis=1)
    target, low = target - high[:, None], np.full_like(high, -float(size))
    high = np.zeros_like(high)
    for _ in range(100):
        middle = (low + high) / 2
        too_heavy = np.maximum(target - middle[:, None], 0).sum(axis=1) > size
        low, high = np.where(too_heavy, middle, low), np.where(too_heavy, high, middle)
    return np.maximum(target - ((low + high) / 2)[:, None], 0)


def slsqp(norms: np.ndarray, regularization: float) -> np.ndarray:
    """Solves one program by SciPy's sequential least squares, Eq. 9 divided by 2 lambda."""
    size = len(norms)
    target = 1 + norms / (2 * regularization)
    target = np.maximum(target - target.max(), -2.0 * size)  # no weight: too far below the largest
    result = scipy.optimize.minimize(
        lambda w: 0.5 * w @ w - w @ target,
        np.ones(size),
        jac=lambda w: w - target,
        bounds=[(0, None)] * size,
        constraints={"type": "eq", "fun": lambda w: w.sum() - size, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return result.x


def cvxopt_qp(
    norms: np.ndarray, regularization: float, *, tolerance: float | None = 1e-13
) -> np.ndarray:
    """Solves one program by CVXOPT, Eq. 9 divided by 2 lambda; None is its default tolerance."""
    cvxopt: Any = importlib.import_module("cvxopt")
    size = len(norms)
    target = 1 + norms / (2 * regularization)
    target = np.maximum(target - target.max(), -2.0 * size)
    options: dict[str, Any] = {"show_progress": False}
    if tolerance is not None:
        options |= {"abstol": tolerance, "reltol": tolerance, "feastol": tolerance}
    solution = cvxopt.solvers.qp(
        cvxopt.spdiag([1.0] * size),
        cvxopt.matrix(-target),
        cvxopt.spdiag([-1.0] * size),
        cvxopt.matrix(0.0, (size, 1)),
        cvxopt.matrix(1.0, (1, size)),
        cvxopt.matrix(float(size)),
        options=options,
    )
    return np.ravel(solution["x"])
