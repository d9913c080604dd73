r"""LOW as a curriculum regularizer (santiago2021, Eqs. 10-11), beside self-paced learning's.

Eq. 11 is :math:`G(w; \lambda) = -w^\top g + \lambda \|w - 1\|^2`. Minimizing G alone over
:math:`\{w \ge 0, \sum_j w_j = M\}` is LOW. Eq. 10 adds :math:`\frac{1}{M} w^\top \ell`, which makes
g into :math:`g - \ell / M`: another program. With :math:`G = -\lambda \|w\|_1` over
:math:`[0, 1]^M` Eq. 10 keeps the losses below :math:`M \lambda`, not below :math:`\lambda`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from theory_checks.records import Check, Measured, Plot
from weighting import Signals, low_weights, self_paced
from weighting.gradient_norms import logit_gradient_norms
from weighting.losses import cross_entropy

Solve = Callable[[Any, float], Any]  # (g [M], lambda) -> weights [M]


class LossTermEffect(NamedTuple):
    """What Eq. 10's loss term does to one program; or of many programs, [P] each."""

    distance: Any  # of LOW's weights from the minimizer of G
    gain: Any  # G at LOW's weights above the least at random feasible ones
    literal: Any  # distance of the minimizer of Eq. 10 from LOW's weights for g - l / M
    change: Any  # of a weight by the loss term, the largest
    lowered: Any  # whether the largest loss loses weight
    closed_form_error: Any  # at a lambda where nothing is clipped: of the change's closed form
    closed_form: Any  # and its largest element


def checks(preset: str) -> list[Check]:
    """All claims; few programs for "smoke"."""
    count = 12 if preset == "smoke" else 200
    return [regularizer(count=count), threshold(count=count)]


def objective(weights: np.ndarray, norms: np.ndarray, regularization: float) -> np.ndarray:
    """Eq. 11, for weights [..., M]."""
    return -weights @ norms + regularization * np.sum((weights - 1) ** 2, axis=-1)


def _minimize(
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
    with jax.enable_x64(True):
        effects = [_loss_term_effect(rng, size, solve) for _ in range(count)]
        # one example has all the weight, in both programs: losses that differ change nothing
        norms, losses = np.array([2.0, 0.5, 0.1]), np.array([1.0, 0.3, 0.0])
        vertex = [np.asarray(solve(g, 0.01)) for g in (norms, norms - losses / 3)]
        norms, losses = _outlier()
        heavy, light = (float(solve(g, 1.0)[0]) for g in (norms, norms - losses / 4))
        lambdas = np.geomspace(0.05, 20, 30)
        curves = {
            name: (lambdas.tolist(), [float(solve(g, x)[0]) for x in lambdas])
            for name, g in {
                "G alone (LOW)": norms,
                "with the loss term (Eq. 10)": norms - losses / 4,
            }.items()
        }
    control = (
        Measured(
            "minimizer of Eq. 10: distance from LOW of g", max(e.change for e in effects), 1e-6
        ),
        Measured("no constraint on the sum: mean weight - 1", float(np.mean(norms)) / 2, 1e-6),
    )
    rows = (
        *_loss_term_rows(effects, at_vertex=float(np.ptp(vertex, axis=0).max())),
        Measured("outlier of loss 30, M = 4, lambda = 1: weight by LOW", heavy),
        Measured("the same: weight by Eq. 10", light, heavy - 1),
    )
    return Check(
        "S-E11",
        "LOW minimizes G(w; lambda) = -w.g + lambda |w - 1|^2 alone, without Eq. 10's loss term",
        "EXACT-CORR",
        rows,
        assumptions="w >= 0 and sum w = M, which Eq. 10 leaves out",
        control=control,
        erratum="Eq. 10 with Eq. 11 is not LOW's program: its loss term turns g into g - l / M, "
        f"and takes an outlier of loss 30 (M = 4, lambda = 1) from weight {heavy:.3g} to "
        f"{light:.3g}. LOW minimizes G alone; the loss term changes an unclipped solution by "
        "(mean l - l) / (2 lambda M), hence whenever losses differ (clipped ones need not change).",
        plot=Plot("lambda", "weight of an outlier of loss 30 among 4", curves, "x"),
    )


def _loss_term_effect(rng: np.random.Generator, size: int, solve: Solve) -> LossTermEffect:
    """On a program with the norms and losses of random logits."""
    logits = jnp.asarray(rng.normal(0, 3, (size, 5)))
    labels = jnp.asarray(rng.integers(0, 5, size))
    losses = np.asarray(cross_entropy(logits, labels))
    norms = np.asarray(logit_gradient_norms(cross_entropy, logits, labels))
    regularization = float(10 ** rng.uniform(-1.5, 1))
    feasible = size * rng.dirichlet(np.ones(size), 100)
    shifted_norms = norms - losses / size

    own = np.asarray(solve(norms, regularization))
    shifted = np.asarray(solve(shifted_norms, regularization))
    least = np.min(objective(feasible, norms, regularization))
    worst = np.argmax(losses)
    # nothing clipped in either program: the change in closed form
    mild = float(np.ptp(norms) + np.ptp(losses) / size)
    moved = np.asarray(solve(shifted_norms, mild)) - np.asarray(solve(norms, mild))
    closed_form = -(losses - losses.mean()) / (2 * mild * size)
    return LossTermEffect(
        distance=_largest(own - _minimize(norms, regularization)),
        gain=float(objective(own, norms, regularization) - least),
        literal=_largest(shifted - _minimize(norms, regularization, losses)),
        change=_largest(shifted - own),
        lowered=bool(shifted[worst] < own[worst]),
        closed_form_error=_largest(moved - closed_form),
        closed_form=_largest(closed_form),
    )


def _loss_term_rows(effects: list[LossTermEffect], *, at_vertex: float) -> tuple[Measured, ...]:
    """The worst program; and how much a weight changes where one example has all of it."""
    columns = LossTermEffect(*map(np.array, zip(*effects, strict=True)))
    count = len(effects)
    too_small = 1e-6 - float(np.min(columns.closed_form))
    return (
        Measured(
            f"{count} programs: LOW's distance from the minimizer of G",
            float(np.max(columns.distance)),
            1e-6,
        ),
        Measured(
            "G at LOW's weights above G at random feasible ones",
            float(np.max(columns.gain)),
            1e-10,
        ),
        Measured(
            "minimizer of Eq. 10: distance from LOW of g - l / M",
            float(np.max(columns.literal)),
            1e-6,
        ),
        Measured(
            "unclipped: change - (mean l - l) / (2 lambda M)",
            float(np.max(columns.closed_form_error)),
            1e-12,
        ),
        Measured("the same: 1e-6 - smallest change, over programs", too_small, 0),
        Measured("one example has all weight: change of a weight", at_vertex, 0),
        Measured(
            "share of programs where Eq. 10 lowers the largest loss's weight",
            float(np.mean(columns.lowered)),
        ),
    )


def _outlier() -> tuple[np.ndarray, np.ndarray]:
    """Norms and losses of four examples: the first has loss 30, and norms saturate at two."""
    logits = jnp.array([[0.0, 30.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
    labels = jnp.zeros(4, jnp.int32)
    norms = np.asarray(logit_gradient_norms(cross_entropy, logits, labels))
    return norms, np.asarray(cross_entropy(logits, labels))


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values)))


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
