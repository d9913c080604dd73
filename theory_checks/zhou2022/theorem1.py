r"""Margins of weakly regularized multi-class classifiers under weights (zhou2022, Theorem 1).

With cross-entropy, positive :math:`\omega` of sum one, k classes and a minimizer of nonnegative
margin, comparing :math:`\theta_\lambda` with :math:`\|\theta_\lambda\| \theta^\star` gives

.. math:: \gamma^\star - \tilde\gamma(\theta_\lambda)
   \le \frac{\log((k - 1) / (\omega_{\min} \log 2))}{\|\theta_\lambda\|^\alpha},

from :math:`\log 2\, e^{-m} \le \log(1 + e^{-m}) \le \ell \le (k - 1) e^{-m}` with m the margin.
Here the logits are linear, so :math:`\alpha = 1` and the minimizer is unique.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

from theory_checks.records import Check, Plot, Row
from weighting.implicit_bias.max_margin import max_margin

LAMBDAS = 10.0 ** -np.array([1, 2, 3, 4, 6, 8, 10, 12])
TAUS = (1.1, 2.0)


class Problem(NamedTuple):
    """Separable data and its maximal margin."""

    inputs: np.ndarray  # [n, D]
    labels: np.ndarray  # [n]
    pairs: np.ndarray  # [n (k - 1), k D]: pairs @ params are the differences z_y - z_j
    num_classes: int
    margin: float  # gamma*
    support: np.ndarray  # [n] boolean
    easiness: np.ndarray  # [n], margins of the maximiser


class Risk(NamedTuple):
    """Weighted cross-entropy plus lambda times the norm's power, plus a linear term."""

    problem: Problem
    omega: np.ndarray  # [n], sum one
    regularization: float
    power: float
    tilt: np.ndarray  # [k D]


def checks(preset: str) -> list[Check]:
    """The claim; three classes only for "smoke"."""
    if preset == "smoke":
        return [weak_regularization(sizes=(3,), num_seeds=1)]
    return [weak_regularization()]


def weak_regularization(
    *,
    sizes: tuple[int, ...] = (3, 10),
    num_seeds: int = 2,
    num_tilts: int = 6,
    margin_scale: float = 1.0,
) -> Check:
    """Z-T1: both parts, on linear classifiers.

    Args:
      sizes: numbers of classes.
      num_seeds: data sets per size.
      num_tilts: examples whose margin the approximate minimizers sacrifice.
      margin_scale: times the margin of the minimizer, to see the check fail.
    """
    excess, ratio, final, gradient_norm = -np.inf, 0.0, 0.0, 0.0
    agreement, spread, shortfall, violated = 0.0, 0.0, -np.inf, -np.inf
    dropped, not_separated = 0.0, 0
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for num_classes in sizes:
        for seed in range(num_seeds):
            rng = np.random.default_rng(seed)
            problem = make_problem(rng, num_classes)
            if num_classes == 3:
                agreement = max(agreement, abs(slsqp_margin(problem) / problem.margin - 1))
            n = len(problem.labels)
            weightings = {
                "uniform": np.ones(n),
                "log-uniform in 0.1..10": 10 ** rng.uniform(-1, 1, n),
                "large on the support vectors": np.where(problem.support, 10.0, 1.0),
            }
            for power in (2.0, 3.0):
                ends = []
                for name, weights in weightings.items():
                    omega = weights / weights.sum()
                    gaps = []
                    params = np.zeros(problem.pairs.shape[1])
                    for lam in LAMBDAS:
                        risk = Risk(problem, omega, lam, power, np.zeros_like(params))
                        params = minimize(risk, params)
                        norm = np.linalg.norm(params)
                        gradient = derivatives(risk, params)[1]
                        scale = power * lam * norm ** (power - 1)
                        gradient_norm = max(gradient_norm, np.linalg.norm(gradient) / scale)
                        margin = margin_scale * np.min(problem.pairs @ params) / norm
                        gaps.append(problem.margin - margin)
                        if margin < 0:
                            not_separated += 1
                            continue
                        bound = np.log((num_classes - 1) / (omega.min() * np.log(2))) / norm
                        excess = max(excess, gaps[-1] - bound)
                    ratio = max(ratio, gaps[-1] / gaps[0])
                    final = max(final, gaps[-1] / problem.margin)
                    ends.append(gaps[-1])
                    if power == 2 and seed == 0 and num_classes == sizes[0]:
                        values = (1 - np.array(gaps) / problem.margin).tolist()
                        curves[name] = (LAMBDAS.tolist(), values)
                    if seed == 0 and power == 2:
                        for tau in TAUS:
                            worst = [
                                approximate_margin(problem, omega, lam, power, tau, num_tilts)
                                for lam in (1e-4, 1e-8)
                            ]
                            floor = problem.margin / (10 * tau ** (1 / power))
                            shortfall = max(shortfall, floor - max(worst))
                            violated = max(violated, 0.99 * problem.margin - max(worst))
                spread = max(spread, float(np.ptp(ends)) / problem.margin)
            # b = 0: no weight on the third of the examples with the smallest margins, as in SPL.
            zero = np.where(problem.easiness < np.quantile(problem.easiness, 1 / 3), 0.0, 1.0)
            params = np.zeros(problem.pairs.shape[1])
            values = []
            for lam in LAMBDAS:
                params = minimize(
                    Risk(problem, zero / zero.sum(), lam, 2.0, np.zeros_like(params)), params
                )
                margin = np.min(problem.pairs @ params) / np.linalg.norm(params)
                values.append(float(margin / problem.margin))
            dropped = max(dropped, 1 - values[-1])
            if seed == 0 and num_classes == sizes[0]:
                curves["zero on the hardest third"] = (LAMBDAS.tolist(), values)
    tolerance = 0.05 if max(sizes) <= 3 else 0.3  # the gap falls as log(k n) / log(1 / lambda)
    return Check(
        "Z-T1",
        "weights in [b, B], b > 0, do not change the margin as the regularization vanishes",
        "LIMIT",
        (
            Row("gap of the margins less log((k - 1) / (omega_min log 2)) / norm", excess, 1e-9),
            Row("minimizers that do not separate (left out of that row)", not_separated),
            Row(
                "gradient at the minimizers, relative to the penalty's", float(gradient_norm), 1e-6
            ),
            Row("three classes: maximal margin against SciPy SLSQP, relative", agreement, 1e-6),
            Row("gap at lambda = 1e-12 over that at 0.1", float(ratio), 0.5),
            Row("relative gap at lambda = 1e-12", float(final), tolerance),
            Row("spread of the gaps over three weightings, relative", spread),
            Row(
                "gamma* / (10 tau^(1/r)) less the worst margin found of tau-approximate minimizers",
                float(shortfall),
                0,
            ),
        ),
        "linear logits (alpha = 1), separable data, r = 2 and 3, lambda = 0.1 to 1e-12, "
        "tau = 1.1 and 2 (r = 2)",
        (
            Row(
                "no weight on the hardest third: relative gap at 1e-12, largest", dropped, tolerance
            ),
            Row(
                "0.99 gamma* less the worst margin of tau-approximate minimizers",
                float(violated),
                0,
            ),
        ),
        "Part (2) uses one letter for the approximation factor and for the degree of homogeneity, "
        "and an unexplained exponent a. With tau the factor, 1 <= tau <= 2, and alpha the degree "
        "it reads gamma' >= gamma* / (10 tau^(alpha/r)); the maximum over other classes is over "
        "j != y_i.",
        Plot("regularization lambda", "normalized margin / maximal margin", curves, "x"),
    )


def make_problem(rng: np.random.Generator, num_classes: int) -> Problem:
    """Clusters around scaled unit vectors, with the maximal margin by `weighting`."""
    labels = np.repeat(np.arange(num_classes), 15 if num_classes == 3 else 5)
    for _ in range(100):
        inputs = 2 * np.eye(num_classes)[labels] + 0.4 * rng.normal(size=(len(labels), num_classes))
        pairs, owner = differences(inputs, labels, num_classes)
        solution = max_margin(pairs, np.ones(len(pairs), int))
        if solution.separable:
            support = np.zeros(len(labels), bool)
            support[owner[solution.dual > 1e-6]] = True
            easiness = np.min((pairs @ solution.direction).reshape(len(labels), -1), axis=1)
            return Problem(
                inputs, labels, pairs, num_classes, float(solution.margin), support, easiness
            )
    raise ValueError("no separable data in 100 draws; move the clusters apart")


def differences(
    inputs: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (e_y - e_j) x for every j other than y, and the example of each."""
    rows, owner = [], []
    identity = np.eye(num_classes)
    for i, (x, y) in enumerate(zip(inputs, labels, strict=True)):
        for j in range(num_classes):
            if j != y:
                rows.append(np.outer(identity[y] - identity[j], x).ravel())
                owner.append(i)
    return np.array(rows), np.array(owner)


def slsqp_margin(problem: Problem) -> float:
    """The maximal margin by SciPy: least norm with all differences at least one."""
    result = scipy.optimize.minimize(
        lambda v: 0.5 * v @ v,
        np.linalg.lstsq(problem.pairs, 2 * np.ones(len(problem.pairs)), rcond=None)[0],
        jac=lambda v: v,
        constraints={
            "type": "ineq",
            "fun": lambda v: problem.pairs @ v - 1,
            "jac": lambda v: problem.pairs,
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(1 / np.linalg.norm(result.x))


def derivatives(risk: Risk, params: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian."""
    x, y = risk.problem.inputs, risk.problem.labels
    n, k = len(y), risk.problem.num_classes
    logits = x @ params.reshape(k, -1).T
    log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
    p = np.exp(log_p)
    slope = p.copy()
    # p_y - 1 without cancellation: minus the sum of the others.
    others = np.where(np.arange(k)[None] == y[:, None], 0, p).sum(axis=1)
    slope[np.arange(n), y] = -others
    norm = np.linalg.norm(params)
    lam, r = risk.regularization, risk.power
    loss = np.where(others < 0.5, -np.log1p(-np.minimum(others, 0.5)), -log_p[np.arange(n), y])
    value = risk.omega @ loss + lam * norm**r + risk.tilt @ params
    gradient = np.einsum("n,nk,nd->kd", risk.omega, slope, x).ravel() + risk.tilt
    own = np.eye(k)[None] * p[:, :, None] - p[:, :, None] * p[:, None, :]
    hessian = np.einsum("n,nkl,nd,ne->kdle", risk.omega, own, x, x, optimize=True)
    hessian = hessian.reshape(params.size, params.size)
    if norm > 0:
        gradient = gradient + lam * r * norm ** (r - 2) * params
        hessian = hessian + lam * r * norm ** (r - 2) * np.eye(params.size)
        hessian = hessian + lam * r * (r - 2) * norm ** (r - 4) * np.outer(params, params)
    else:
        hessian = hessian + 2 * lam * np.eye(params.size)
    return float(value), gradient, hessian


def minimize(risk: Risk, start: np.ndarray, steps: int = 300) -> np.ndarray:
    """Newton's method with backtracking; the objective is convex."""
    params = start
    value, gradient, hessian = derivatives(risk, params)
    for _ in range(steps):
        move = -np.linalg.solve(hessian, gradient)
        decrease = -gradient @ move
        if decrease < 1e-15 * abs(value):
            break
        size = 1.0
        while size > 1e-8:
            candidate: Any = derivatives(risk, params + size * move)
            if candidate[0] <= value - 1e-4 * size * decrease:
                break
            size /= 2
        else:
            break
        params, (value, gradient, hessian) = params + size * move, candidate
    return params


def approximate_margin(
    problem: Problem, omega: np.ndarray, lam: float, power: float, tau: float, num_tilts: int
) -> float:
    """The smallest normalized margin found among parameters whose risk is tau times the least.

    Each sacrifices one difference z_y - z_j: it minimizes that difference plus a multiple of the
    risk, and the multiple is bisected until the risk is tau times the least.
    """
    none = np.zeros(problem.pairs.shape[1])
    risk = Risk(problem, omega, lam, power, none)
    best = minimize(risk, none)
    least = derivatives(risk, best)[0]
    order = np.argsort(problem.pairs @ best)
    worst = np.inf
    for pair in problem.pairs[order[:num_tilts]]:
        low, high = -30.0, 5.0  # logarithm of the tilt
        params = best
        for _ in range(25):
            middle = (low + high) / 2
            candidate = minimize(risk._replace(tilt=np.exp(middle) * pair), best, steps=60)
            if derivatives(risk, candidate)[0] <= tau * least:
                low, params = middle, candidate
            else:
                high = middle
        worst = min(worst, float(np.min(problem.pairs @ params) / np.linalg.norm(params)))
    return worst
