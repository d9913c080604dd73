r"""Weighted multi-class cross-entropy of linear logits with a vanishing penalty, minimized.

.. math:: \sum_i \omega_i\, \ell(W x_i, y_i) + \lambda \|\theta\|^r + t^\top \theta

with :math:`\theta` the entries of W row by row, :math:`\omega` of sum one and a tilt t, which is
zero but for the approximate minimizers of zhou2022, Theorem 1, part (2).
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

from weighting.implicit_bias.max_margin import max_margin


class SeparableClasses(NamedTuple):
    """Data that a linear classifier separates, and their maximal margin."""

    inputs: np.ndarray  # [n, D]
    labels: np.ndarray  # [n]
    pairs: np.ndarray  # [n (k - 1), k D]: pairs @ params are the differences z_y - z_j
    num_classes: int
    margin: float  # gamma*
    support: np.ndarray  # [n] boolean
    easiness: np.ndarray  # [n], margins of the maximiser


class PenalizedRisk(NamedTuple):
    """Weighted cross-entropy plus lambda times the norm's power, plus a linear term."""

    problem: SeparableClasses
    omega: np.ndarray  # [n], sum one
    regularization: float
    power: float
    tilt: np.ndarray  # [k D]


def draw_classes(rng: np.random.Generator, num_classes: int) -> SeparableClasses:
    """Clusters around scaled unit vectors, with the maximal margin by `weighting`."""
    labels = np.repeat(np.arange(num_classes), 15 if num_classes == 3 else 5)
    for _ in range(100):
        inputs = 2 * np.eye(num_classes)[labels] + 0.4 * rng.normal(size=(len(labels), num_classes))
        pairs, owner = _differences(inputs, labels, num_classes)
        solution = max_margin(pairs, np.ones(len(pairs), int))
        if solution.separable:
            support = np.zeros(len(labels), bool)
            support[owner[solution.dual > 1e-6]] = True
            easiness = np.min((pairs @ solution.direction).reshape(len(labels), -1), axis=1)
            return SeparableClasses(
                inputs, labels, pairs, num_classes, float(solution.margin), support, easiness
            )
    raise ValueError("no separable data in 100 draws; move the clusters apart")


def _differences(
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


def slsqp_margin(problem: SeparableClasses) -> float:
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


def derivatives(risk: PenalizedRisk, params: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient [k D] and Hessian [k D, k D] at params [k D]."""
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


def minimizer(risk: PenalizedRisk, start: np.ndarray, steps: int = 300) -> np.ndarray:
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
    problem: SeparableClasses,
    omega: np.ndarray,
    lam: float,
    power: float,
    tau: float,
    num_tilts: int,
) -> float:
    """The smallest normalized margin found among parameters whose risk is tau times the least.

    Each sacrifices one difference z_y - z_j: it minimizes that difference plus a multiple of the
    risk, and the multiple is bisected until the risk is tau times the least.
    """
    none = np.zeros(problem.pairs.shape[1])
    risk = PenalizedRisk(problem, omega, lam, power, none)
    best = minimizer(risk, none)
    least = derivatives(risk, best)[0]
    order = np.argsort(problem.pairs @ best)
    worst = np.inf
    for pair in problem.pairs[order[:num_tilts]]:
        low, high = -30.0, 5.0  # logarithm of the tilt
        params = best
        for _ in range(25):
            middle = (low + high) / 2
            candidate = minimizer(risk._replace(tilt=np.exp(middle) * pair), best, steps=60)
            if derivatives(risk, candidate)[0] <= tau * least:
                low, params = middle, candidate
            else:
                high = middle
        worst = min(worst, float(np.min(problem.pairs @ params) / np.linalg.norm(params)))
    return worst
