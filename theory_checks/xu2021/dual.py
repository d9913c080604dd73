r"""The dual of the max-margin problem, and the conjugate of log-risk (xu2021, A.2.1).

With :math:`z_i = y_i x_i`, :math:`\gamma^\star = \max_{\|\theta\| \le 1} \min_i z_i^\top \theta =
\min_{p \in \Delta} \|Z^\top p\|` and :math:`\theta^\star = Z^\top p^\star / \gamma^\star`; and
:math:`g(u) = \log \frac{1}{n} \sum_i w_i e^{u_i}` has the conjugate :math:`\sum_i p_i
\log(p_i / w_i) + \log n` on the simplex.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

from theory_checks.common.columns import Number, stack
from theory_checks.common.reference import divergence, separable_points, solve_max_margin
from theory_checks.records import Check, Measured


def checks(preset: str) -> list[Check]:
    """Both claims; few data sets for "smoke"."""
    num_sets = 8 if preset == "smoke" else 50
    return [duality(num_sets=num_sets), conjugate(count=100 if preset == "smoke" else 1000)]


def _primal(points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The support vector machine through the origin by SLSQP: direction, margin, multipliers."""
    start = 2 * points.mean(axis=0) / np.min(points @ points.mean(axis=0)).clip(0.05)
    result = scipy.optimize.minimize(
        lambda theta: 0.5 * theta @ theta,
        start,
        jac=lambda theta: theta,
        constraints={"type": "ineq", "fun": lambda t: points @ t - 1, "jac": lambda t: points},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    norm = float(np.linalg.norm(result.x))
    return result.x / norm, 1 / norm, np.asarray(result.multipliers)


class DualityErrors(NamedTuple):
    """How far a data set, or each of S, is from every statement: numbers, or arrays [S]."""

    margin: Number  # | |Z'p*| - gamma* |
    direction: Number  # |Z'p* / gamma* - theta*|
    slack: Number  # p*_i (z_i . theta* - gamma*), largest
    certificate: Number  # margin of Z'p* / gamma* against |Z'p*|; trusts no solver
    multipliers: Number  # |gamma*^2 alpha_i - p*_i|, largest, alpha the machine's
    total: Number  # |gamma*^2 sum_i alpha_i - 1|
    weak: Number  # largest margin of a random theta less the least |Z'p|
    printed: Number  # |Z'p* - theta*|, without the margin
    uniform: Number  # |Z'p| - gamma* at uniform p


def duality(*, num_sets: int = 50, scale: float = 1.0, seed: int = 0) -> Check:
    """X-D on random separable sets in 2 to 6 dimensions; `scale` perturbs the dual's margin."""
    rng = np.random.default_rng(seed)
    of_sets = [_duality_errors(rng, 2 + index % 5, scale) for index in range(num_sets)]
    errors = stack(of_sets)
    printed = float(np.min(errors.printed))
    return Check(
        "X-D duality",
        "the largest margin is the shortest convex combination, and Z'p / margin its direction",
        "EXACT",
        tuple(
            # No excess is reported where a difference has the right sign.
            Measured(quantity, float(np.max(values, initial=0.0)), bound)
            for quantity, values, bound in (
                ("dual's smallest norm - primal's margin", errors.margin, 1e-10),
                (
                    "distance of Z'p / margin from the primal's direction",
                    errors.direction,
                    1e-10,
                ),
                ("p_i (z_i . theta - margin)", errors.slack, 1e-10),
                ("margin of Z'p / margin - its norm (certificate)", errors.certificate, 1e-12),
                ("p - margin^2 times the machine's multipliers", errors.multipliers, 1e-9),
                ("margin^2 times their sum - 1", errors.total, 1e-9),
                ("margin of a random theta - norm of a random Z'p", errors.weak, 0),
            )
        ),
        assumptions="separable through the origin",
        control=(
            Measured("printed without the margin: smallest distance of Z'p", printed, 1e-10),
            Measured("uniform p: smallest norm - margin", float(np.min(errors.uniform)), 1e-10),
        ),
        erratum=(
            "Prop. 1 prints theta* = sum_i y_i x_i p*_i, which has the norm of the margin and lies "
            f"at least {printed:.2f} from the unit vector theta* on {num_sets} random sets. "
            "Divided by the margin, as in (A.4), where the sum over i is missing, it is theta* to "
            "round-off."
        ),
    )


def _duality_errors(rng: np.random.Generator, size: int, scale: float) -> DualityErrors:
    """Of a random set of points [N, size]; the active set is exact, so they are rounding."""
    points = separable_points(rng, int(rng.integers(12, 60)), size)
    direction, margin, multipliers = _primal(points)
    _, shortest, dual = solve_max_margin(points)
    shortest *= scale
    combination = dual @ points / shortest
    thetas = rng.normal(size=(200, size))
    thetas /= np.linalg.norm(thetas, axis=1, keepdims=True)
    mixtures = rng.dirichlet(np.full(len(points), 0.2), 200) @ points
    return DualityErrors(
        margin=abs(shortest - margin),
        direction=np.linalg.norm(combination - direction),
        slack=np.max(dual * (points @ direction - margin)),
        certificate=abs(shortest - np.min(points @ combination)),
        multipliers=np.abs(margin**2 * multipliers - dual).max(),
        total=abs(margin**2 * multipliers.sum() - 1),
        weak=np.max((thetas @ points.T).min(axis=1)) - np.linalg.norm(mixtures, axis=1).min(),
        printed=np.linalg.norm(dual @ points - direction),
        uniform=np.linalg.norm(points.mean(axis=0)) - margin,
    )


class Conjugacy(NamedTuple):
    """Fenchel-Young at one u, p and w, or at each of S: numbers, or arrays [S]."""

    excess: Number  # <p, u> - g(u) - g*(p), relative
    gap: Number  # the same at p = softmax(u + log w), where it is zero
    off_simplex: Number  # least growth of <q, u> - g(u) along a ray, q off the simplex
    without_logarithm: Number  # |<p, u> - L - g*(p)| at the softmax


def conjugate(*, count: int = 1000, size: int = 12, offset: float = 0.0, seed: int = 0) -> Check:
    """X-D: Fenchel-Young for log-risk; `offset` is added to the conjugate."""
    rng = np.random.default_rng(seed)
    cases = [_conjugacy(rng, size, offset) for _ in range(count)]
    found = stack(cases)
    printed = float(np.min(found.without_logarithm))
    return Check(
        "X-D conjugate",
        "sum p log(p / w) + log n is the conjugate of log (1/n) sum w exp(u)",
        "EXACT",
        (
            Measured("<p, u> - g(u) - g*(p), relative", float(np.max(found.excess)), 1e-14),
            Measured(
                "its size at p = softmax(u + log w), relative",
                float(np.max(np.abs(found.gap))),
                1e-14,
            ),
            Measured(
                "off the simplex: minus the growth along a ray",
                -float(np.min(found.off_simplex)),
                -500,
            ),
        ),
        control=(Measured("g(u) = L instead of log L, as printed", printed, 1e-9),),
        erratum=(
            "Above (A.6) g(u) = L(theta) is printed, for which Fenchel-Young is off by at least "
            f"{printed:.3g}. With g(u) = log L(theta), its definition two lines "
            "earlier, it holds with equality at the softmax."
        ),
    )


def _conjugacy(rng: np.random.Generator, size: int, offset: float) -> Conjugacy:
    """At a random w, u and p on the simplex [size], p with zeros."""
    weights = 10 ** rng.uniform(-1, 1, size)

    def log_mean(u: np.ndarray) -> float:  # g
        return np.asarray(scipy.special.logsumexp(u, b=weights / size)).item()

    def star(p: np.ndarray) -> float:  # g*
        return divergence(p, weights) + np.log(size) + offset

    u = 10 ** rng.uniform(-1, 2) * rng.normal(size=size)
    p = rng.dirichlet(np.full(size, 0.3))
    p = np.where(rng.uniform(size=size) < 0.3, 0, p) + np.eye(size)[0] * 1e-3
    p /= p.sum()
    scale = 1 + np.abs(u).max()
    best = scipy.special.softmax(u + np.log(weights))
    # Off the simplex the supremum is infinite: along the ones, or along a negative entry.
    heavy, negative = 1.1 * p, p - 0.1 * np.eye(size)[0] + 0.1 * np.eye(size)[1]
    negative[0] = -0.1
    growths = [
        (q @ (1e4 * ray) - log_mean(1e4 * ray)) - (q @ (1e3 * ray) - log_mean(1e3 * ray))
        for q, ray in ((heavy, np.ones(size)), (negative, -np.eye(size)[0]))
    ]
    return Conjugacy(
        excess=(p @ u - log_mean(u) - star(p)) / scale,
        gap=(best @ u - log_mean(u) - star(best)) / scale,
        off_simplex=min(growths),
        without_logarithm=abs(best @ u - np.exp(log_mean(u)) - star(best)),
    )
