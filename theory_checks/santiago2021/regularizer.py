r"""LOW as a curriculum regularizer (santiago2021, Eqs. 10-11), beside self-paced learning's.

Eq. 11 is :math:`G(w; \lambda) = -w^\top g + \lambda \|w - 1\|^2`. Minimizing G alone over
:math:`\{w \ge 0, \sum_j w_j = M\}` is LOW. Eq. 10 adds :math:`\frac{1}{M} w^\top \ell`, which makes
g into :math:`g - \ell / M`: another program. With :math:`G = -\lambda \|w\|_1` over
:math:`[0, 1]^M` Eq. 10 keeps the losses below :math:`M \lambda`, not below :math:`\lambda`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from theory_checks.records import Check, Measured, Plot
from weighting import Signals, low_weights, self_paced
from weighting.gradient_norms import logit_gradient_norms
from weighting.losses import cross_entropy

Solve = Callable[[Any, float], Any]  # (g [M], lambda) -> weights [M]


def checks(preset: str) -> list[Check]:
    """All claims; few programs for "smoke"."""
    count = 12 if preset == "smoke" else 200
    return [regularizer(count=count), threshold(count=count)]


def objective(weights: np.ndarray, norms: np.ndarray, regularization: float) -> np.ndarray:
    """Eq. 11, for weights [..., M]."""
    return -weights @ norms + regularization * np.sum((weights - 1) ** 2, axis=-1)


def minimize(
    norms: np.ndarray, regularization: float, losses: np.ndarray | None = None
) -> np.ndarray:
    """Minimizes Eq. 11, with Eq. 10's loss term if losses are given, by SciPy's SLSQP."""
    size = len(norms)
    linear = -norms if losses is None else losses / size - norms
    scale = 1 / max(regularization, 1.0)  # of the objective, which SLSQP's tolerance knows not
    result = scipy.optimize.minimize(
        lambda w: scale * (w @ linear + regularization * np.sum((w - 1) ** 2)),
        np.ones(size),
        jac=lambda w: scale * (linear + 2 * regularization * (w - 1)),
        bounds=[(0, None)] * size,
        constraints={"type": "eq", "fun": lambda w: w.sum() - size, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return result.x


def regularizer(*, count: int = 200, size: int = 16, solve: Solve | None = None) -> Check:
    """S-E11: LOW minimizes G alone; the loss term of Eq. 10 changes its weights.

    Args:
      count: programs, with norms and losses of random logits.
      size: M.
      solve: LOW's weights; default the library's.
    """
    rng = np.random.default_rng(0)
    solve = solve or jax.jit(low_weights)
    distance, gain, literal, exact = 0.0, -np.inf, 0.0, 0.0
    apart, smallest_change, lowered = 0.0, np.inf, 0
    with jax.enable_x64(True):
        for _ in range(count):
            logits = jnp.asarray(rng.normal(0, 3, (size, 5)))
            labels = jnp.asarray(rng.integers(0, 5, size))
            losses = np.asarray(cross_entropy(logits, labels))
            norms = np.asarray(logit_gradient_norms(cross_entropy, logits, labels))
            regularization = float(10 ** rng.uniform(-1.5, 1))
            own = np.asarray(solve(norms, regularization))
            distance = max(distance, np.max(np.abs(own - minimize(norms, regularization))))
            feasible = size * rng.dirichlet(np.ones(size), 100)
            least = np.min(objective(feasible, norms, regularization))
            gain = max(gain, float(objective(own, norms, regularization) - least))

            with_losses = minimize(norms, regularization, losses)
            shifted = np.asarray(solve(norms - losses / size, regularization))
            literal = max(literal, np.max(np.abs(shifted - with_losses)))
            change = np.max(np.abs(shifted - own))
            apart = max(apart, change)
            worst = np.argmax(losses)
            lowered += shifted[worst] < own[worst]

            # nothing clipped in either program: the change in closed form
            mild = float(np.ptp(norms) + np.ptp(losses) / size)
            moved = np.asarray(solve(norms - losses / size, mild)) - np.asarray(solve(norms, mild))
            formula = -(losses - losses.mean()) / (2 * mild * size)
            exact = max(exact, float(np.max(np.abs(moved - formula))))
            smallest_change = min(smallest_change, float(np.max(np.abs(formula))))

        # one example has all the weight, in both programs: losses that differ change nothing
        norms, losses = np.array([2.0, 0.5, 0.1]), np.array([1.0, 0.3, 0.0])
        vertex = [np.asarray(solve(g, 0.01)) for g in (norms, norms - losses / 3)]
        # an outlier: the norms saturate at 2, the losses do not
        outlier = jnp.array([[0.0, 30.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
        labels = jnp.zeros(4, jnp.int32)
        losses = np.asarray(cross_entropy(outlier, labels))
        norms = np.asarray(logit_gradient_norms(cross_entropy, outlier, labels))
        heavy, light = (np.asarray(solve(g, 1.0)) for g in (norms, norms - losses / 4))
        lambdas = np.geomspace(0.05, 20, 30)
        curves = {
            "G alone (LOW)": [float(solve(norms, x)[0]) for x in lambdas],
            "with the loss term (Eq. 10)": [
                float(solve(norms - losses / 4, x)[0]) for x in lambdas
            ],
        }
    rows = (
        Measured(
            f"{count} programs: LOW's distance from the minimizer of G", float(distance), 1e-6
        ),
        Measured("G at LOW's weights above G at random feasible ones", gain, 1e-10),
        Measured("minimizer of Eq. 10: distance from LOW of g - l / M", float(literal), 1e-6),
        Measured("unclipped: change - (mean l - l) / (2 lambda M)", exact, 1e-12),
        Measured("the same: 1e-6 - smallest change, over programs", 1e-6 - smallest_change, 0),
        Measured(
            "one example has all weight: change of a weight", float(np.ptp(vertex, axis=0).max()), 0
        ),
        Measured(
            "share of programs where Eq. 10 lowers the largest loss's weight",
            float(lowered / count),
        ),
        Measured("outlier of loss 30, M = 4, lambda = 1: weight by LOW", float(heavy[0])),
        Measured("the same: weight by Eq. 10", float(light[0]), float(heavy[0]) - 1),
    )
    control = (
        Measured("minimizer of Eq. 10: distance from LOW of g", float(apart), 1e-6),
        Measured("no constraint on the sum: mean weight - 1", float(np.mean(norms)) / 2, 1e-6),
    )
    return Check(
        "S-E11",
        "LOW minimizes G(w; lambda) = -w.g + lambda |w - 1|^2 alone, without Eq. 10's loss term",
        "EXACT-CORR",
        rows,
        assumptions="w >= 0 and sum w = M, which Eq. 10 leaves out",
        control=control,
        erratum="Eq. 10 with Eq. 11 is not LOW's program: its loss term turns g into g - l / M, "
        f"and takes an outlier of loss 30 (M = 4, lambda = 1) from weight {heavy[0]:.3g} to "
        f"{light[0]:.3g}. LOW minimizes G alone; the loss term changes an unclipped solution by "
        "(mean l - l) / (2 lambda M), hence whenever losses differ (clipped ones need not change).",
        plot=Plot(
            "lambda",
            "weight of an outlier of loss 30 among 4",
            {name: (lambdas.tolist(), values) for name, values in curves.items()},
            "x",
        ),
    )


def threshold(*, count: int = 200, size: int = 12, factor: float = 1.0, seed: int = 0) -> Check:
    """S-E11: self-paced learning's regularizer gives a threshold, by SciPy's linear programs.

    Args:
      count: programs.
      size: M.
      factor: multiplies the library's threshold (1 in the claim).
      seed: of the losses.
    """
    rng = np.random.default_rng(seed)
    wrong = {"unscaled": 0, "literal": 0, "literal, threshold lambda": 0, "sum M": 0}

    def kept(losses: np.ndarray, at: float) -> np.ndarray:
        scheme = self_paced(factor * at, normalize=False)
        ones = jnp.ones(len(losses))
        state = scheme.init(jax.random.key(0), {})
        signals = Signals(losses=jnp.asarray(losses))
        return np.asarray(scheme.update(ones, state, signals)[0])

    def solve(cost: np.ndarray, *, total: float | None = None) -> np.ndarray:
        equality = {} if total is None else {"A_eq": np.ones((1, size)), "b_eq": [total]}
        high = 1 if total is None else None
        return scipy.optimize.linprog(cost, bounds=(0, high), method="highs", **equality).x

    with jax.enable_x64(True):
        for _ in range(count):
            losses = rng.exponential(1, size)
            at = float(rng.uniform(0.1, 2))
            unscaled, literal = solve(losses - at), solve(losses / size - at / size)
            low = solve(losses / size - at / (2 * size))  # lambda = at / (2 M)
            wrong["unscaled"] += int(np.sum(unscaled != kept(losses, at)))
            wrong["literal"] += int(np.sum(literal != kept(losses, size * (at / size))))
            wrong["literal, threshold lambda"] += int(np.sum(low != kept(losses, at / (2 * size))))
            wrong["sum M"] += int(np.sum(solve(losses - at, total=size) != kept(losses, at)))
    total = count * size
    rows = (
        Measured(f"minimizer of w.l - lambda |w|_1: weights of {total} off", wrong["unscaled"], 0),
        Measured(
            "minimizer of Eq. 10 (1 / M): weights off the threshold M lambda", wrong["literal"], 0
        ),
    )
    control = (
        Measured(
            "minimizer of Eq. 10: weights off the threshold lambda",
            wrong["literal, threshold lambda"],
            0,
        ),
        Measured("w >= 0 with sum w = M for [0, 1]: weights off", wrong["sum M"], 0),
    )
    return Check(
        "S-E11 self-paced",
        "self-paced learning's regularizer -lambda |w|_1 over [0, 1] keeps losses below lambda",
        "EXACT-CORR",
        rows,
        assumptions="no loss equals the threshold",
        control=control,
        erratum="With Eq. 10's 1 / M the regularizer -lambda |w|_1 keeps losses below M lambda: "
        f"the threshold lambda misplaces {wrong['literal, threshold lambda']} of {total} weights. "
        "Without the 1 / M the threshold is lambda, over w in [0, 1], which Eq. 10 leaves out.",
    )
