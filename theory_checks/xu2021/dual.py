r"""The dual of the max-margin problem, and the conjugate of log-risk (xu2021, A.2.1).

With :math:`z_i = y_i x_i`, :math:`\gamma^\star = \max_{\|\theta\| \le 1} \min_i z_i^\top \theta =
\min_{p \in \Delta} \|Z^\top p\|` and :math:`\theta^\star = Z^\top p^\star / \gamma^\star`; and
:math:`g(u) = \log \frac{1}{n} \sum_i w_i e^{u_i}` has the conjugate :math:`\sum_i p_i
\log(p_i / w_i) + \log n` on the simplex.
"""

import numpy as np
import scipy.optimize
import scipy.special

from theory_checks.common.reference import divergence, separable_points, solve_max_margin
from theory_checks.records import Check, Row


def checks(preset: str) -> list[Check]:
    """Both claims; few data sets for "smoke"."""
    num_sets = 8 if preset == "smoke" else 50
    return [duality(num_sets=num_sets), conjugate(count=100 if preset == "smoke" else 1000)]


def primal(points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
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


def duality(*, num_sets: int = 50, scale: float = 1.0, seed: int = 0) -> Check:
    """X-D on random separable sets in 2 to 6 dimensions; `scale` perturbs the dual's margin."""
    rng = np.random.default_rng(seed)
    worst: dict[str, float] = dict.fromkeys(
        ("margin", "direction", "slack", "certificate", "multipliers", "sum", "weak"), 0.0
    )
    printed, uniform = np.inf, np.inf
    for index in range(num_sets):
        points = separable_points(rng, int(rng.integers(12, 60)), 2 + index % 5)
        direction, margin, multipliers = primal(points)
        _, residual, dual = solve_max_margin(points)
        residual *= scale
        combination = dual @ points / residual
        slack = np.max(dual * (points @ direction - margin))
        thetas = rng.normal(size=(200, points.shape[1]))
        thetas /= np.linalg.norm(thetas, axis=1, keepdims=True)
        mixtures = rng.dirichlet(np.full(len(points), 0.2), 200) @ points
        weak = np.max((thetas @ points.T).min(axis=1)) - np.linalg.norm(mixtures, axis=1).min()
        errors = {
            "margin": abs(residual - margin),
            "direction": np.linalg.norm(combination - direction),
            "slack": slack,
            "certificate": abs(residual - np.min(points @ combination)),
            "multipliers": np.abs(margin**2 * multipliers - dual).max(),
            "sum": abs(margin**2 * multipliers.sum() - 1),
            "weak": weak,
        }
        worst = {name: max(worst[name], float(error)) for name, error in errors.items()}
        printed = min(printed, float(np.linalg.norm(dual @ points - direction)))
        uniform = min(uniform, float(np.linalg.norm(points.mean(axis=0)) - margin))
    # The active set is exact, so what is left is rounding; the certificate trusts no solver.
    rows = (
        Row("dual's smallest norm - primal's margin", worst["margin"], 1e-10),
        Row("distance of Z'p / margin from the primal's direction", worst["direction"], 1e-10),
        Row("p_i (z_i . theta - margin)", worst["slack"], 1e-10),
        Row("margin of Z'p / margin - its norm (certificate)", worst["certificate"], 1e-12),
        Row("p - margin^2 times the machine's multipliers", worst["multipliers"], 1e-9),
        Row("margin^2 times their sum - 1", worst["sum"], 1e-9),
        Row("margin of a random theta - norm of a random Z'p", worst["weak"], 0),
    )
    return Check(
        "X-D duality",
        "the largest margin is the shortest convex combination, and Z'p / margin its direction",
        "EXACT",
        rows,
        assumptions="separable through the origin",
        control=(
            Row("printed without the margin: smallest distance of Z'p", printed, 1e-10),
            Row("uniform p: smallest norm - margin", uniform, 1e-10),
        ),
        erratum=(
            "Prop. 1 prints theta* = sum_i y_i x_i p*_i, which has the norm of the margin and lies "
            f"at least {printed:.2f} from the unit vector theta* on {num_sets} random sets. "
            "Divided by the margin, as in (A.4), where the sum over i is missing, it is theta* to "
            "round-off."
        ),
    )


def conjugate(*, count: int = 1000, size: int = 12, offset: float = 0.0, seed: int = 0) -> Check:
    """X-D: Fenchel-Young for log-risk; `offset` is added to the conjugate."""
    rng = np.random.default_rng(seed)
    excess, tightness, off_simplex, without_logarithm = -np.inf, 0.0, np.inf, np.inf
    for _ in range(count):
        weights = 10 ** rng.uniform(-1, 1, size)

        def log_mean(u: np.ndarray, weights: np.ndarray = weights) -> float:
            return np.asarray(scipy.special.logsumexp(u, b=weights / size)).item()

        def star(p: np.ndarray, weights: np.ndarray = weights) -> float:
            return divergence(p, weights) + np.log(size) + offset

        u = 10 ** rng.uniform(-1, 2) * rng.normal(size=size)
        p = rng.dirichlet(np.full(size, 0.3))
        p = np.where(rng.uniform(size=size) < 0.3, 0, p) + np.eye(size)[0] * 1e-3
        p /= p.sum()
        scale = 1 + np.abs(u).max()
        excess = max(excess, (p @ u - log_mean(u) - star(p)) / scale)
        best = scipy.special.softmax(u + np.log(weights))
        gap = (best @ u - log_mean(u) - star(best)) / scale
        tightness = max(tightness, abs(gap))
        error = abs(best @ u - np.exp(log_mean(u)) - star(best))
        without_logarithm = min(without_logarithm, float(error))
        # Off the simplex the supremum is infinite: along the ones, or along a negative entry.
        heavy, negative = 1.1 * p, p - 0.1 * np.eye(size)[0] + 0.1 * np.eye(size)[1]
        negative[0] = -0.1
        for q, ray in ((heavy, np.ones(size)), (negative, -np.eye(size)[0])):
            values = [q @ (c * ray) - log_mean(c * ray) for c in (1e3, 1e4)]
            off_simplex = min(off_simplex, values[1] - values[0])
    return Check(
        "X-D conjugate",
        "sum p log(p / w) + log n is the conjugate of log (1/n) sum w exp(u)",
        "EXACT",
        (
            Row("<p, u> - g(u) - g*(p), relative", float(excess), 1e-14),
            Row("its size at p = softmax(u + log w), relative", float(tightness), 1e-14),
            Row("off the simplex: minus the growth along a ray", -float(off_simplex), -500),
        ),
        control=(Row("g(u) = L instead of log L, as printed", without_logarithm, 1e-9),),
        erratum=(
            "Above (A.6) g(u) = L(theta) is printed, for which Fenchel-Young is off by at least "
            f"{without_logarithm:.3g}. With g(u) = log L(theta), its definition two lines "
            "earlier, it holds with equality at the softmax."
        ),
    )
