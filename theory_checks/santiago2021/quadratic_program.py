r"""LOW's quadratic program (santiago2021, Eqs. 7-9): solution, limits, invariances, scale.

.. math:: \max_w\; w^\top g - \lambda \|w - 1\|^2 \quad\text{s.t. } w \ge 0,\ \sum_j w_j = B

is the Euclidean projection of :math:`1 + g / (2\lambda)` onto the feasible set: the objective is
:math:`-\lambda \|w - (1 + g / (2\lambda))\|^2` up to a constant.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

from theory_checks.records import Check, Measured
from theory_checks.santiago2021.programs import (
    HAS_CVXOPT,
    HAS_JAXOPT,
    bisection,
    cvxopt_qp,
    random_norms,
    random_programs,
    slsqp,
)
from weighting import Signals, low, low_kkt_residual, low_weights
from weighting.gradient_norms import logit_gradient_norms
from weighting.losses import cross_entropy

Solve = Callable[[Array, Array], Array]  # (g [B], lambda) -> weights [B]
SolveAll = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ([P, B], [P]) -> [P, B]

SIZES = (2, 3, 5, 10, 17, 32, 64, 100, 256)
SLOW_SIZES = (5, 32, 64)


def checks(preset: str) -> list[Check]:
    """All claims; small problems and few of them for "smoke"."""
    if preset == "smoke":
        return [
            linear_program(count=12),
            projection(per_size=4, num_slow=2),
            float32_residual(count=60, num_timed=1),
            consequences(count=30, size=8),
            gradient_scale(),
        ]
    return [linear_program(), projection(), float32_residual(), consequences(), gradient_scale()]


def _osqp() -> Callable[[Any, Any], Any]:
    return jax.jit(lambda g, lam: low_weights(g, lam, solver="osqp"))


def _largest_difference(weights: Any, reference: Any) -> float:
    """Largest difference between two sets of weights."""
    return float(np.max(np.abs(np.asarray(weights) - np.asarray(reference))))


def linear_program(*, count: int = 60, seed: int = 0) -> Check:
    """S-E7: without the penalty the optimum is B max g, by any split over the largest."""
    rng = np.random.default_rng(seed)
    names = ("linear program", "random split over ties", "LOW, tiny lambda")
    altered_names = ("LOW, lambda = 0.1", "weights at most 2")
    values = []
    with jax.enable_x64(True):
        solve = jax.jit(low_weights)
        for norms in random_norms(rng, count, 32):
            size, largest = len(norms), norms.max()
            split = rng.exponential(1, size) * (norms == largest)
            split *= size / split.sum()
            found = (
                _largest_product(norms),
                split @ norms,
                np.asarray(solve(norms, 1e-13)) @ norms,
                np.asarray(solve(norms, 0.1)) @ norms,
                _largest_product(norms, bounds=(0, 2)),
            )
            values.append(np.array(found) / (size * largest))
    worst = np.max(np.abs(np.array(values) - 1), axis=0).tolist()
    rows = [
        Measured(f"{name}: relative distance from B max g", value, 1e-9)
        for name, value in zip(names + altered_names, worst, strict=True)
    ]
    return Check(
        "S-E7",
        "without the penalty, all weight on the largest norm is optimal: max w.g = B max g",
        "EXACT",
        tuple(rows[: len(names)]),
        control=tuple(rows[len(names) :]),
    )


def _largest_product(norms: np.ndarray, **options: Any) -> float:
    """max w.g over w >= 0 of sum B, by SciPy's linear program."""
    size = len(norms)
    result = scipy.optimize.linprog(
        -norms, A_eq=np.ones((1, size)), b_eq=[size], method="highs", **options
    )
    return -result.fun


def projection(
    *, solve: Solve = low_weights, per_size: int = 128, num_slow: int = 20, seed: int = 0
) -> Check:
    """S-E9: the projection against bisection, SciPy, CVXOPT and OSQP.

    Args:
      solve: the solver under test.
      per_size: programs for each of `SIZES`.
      num_slow: programs for each of `SLOW_SIZES`, for the solvers that take one at a time.
      seed: of the programs.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        batched = jax.jit(jax.vmap(solve))
        worst = 0.0
        for size in SIZES:
            norms, regularization = random_programs(rng, per_size, size)
            own = batched(norms, regularization)
            worst = max(worst, _largest_difference(own, bisection(norms, regularization)))
        rows = [
            Measured(
                f"bisection on the KKT conditions, {per_size * len(SIZES)} programs", worst, 1e-9
            )
        ]
        norms, regularization = random_programs(rng, per_size, SIZES[-1])
        expected = bisection(norms, regularization)
        altered = {
            "wrong sign, projection of 1 - g / (2 lambda)": batched(-norms, regularization),
            "factor 2 lost, projection of 1 + g / lambda": batched(norms, regularization / 2),
            "gradients of the batch mean, g / B^2": batched(norms / SIZES[-1] ** 2, regularization),
        }
        control = tuple(
            Measured(f"{name}: bisection", _largest_difference(weights, expected), 1e-9)
            for name, weights in altered.items()
        )
        peers: dict[str, Callable[[np.ndarray, float], Any]] = {"SciPy SLSQP": slsqp}
        if HAS_JAXOPT:
            peers["jaxopt OSQP"] = _osqp()
        if HAS_CVXOPT:
            peers["CVXOPT"] = cvxopt_qp
        worst_of = dict.fromkeys(peers, 0.0)
        for size in SLOW_SIZES:
            norms, regularization = random_programs(rng, num_slow, size)
            own = batched(norms, regularization)
            for name, peer in peers.items():
                solutions = [peer(*program) for program in zip(norms, regularization, strict=True)]
                difference = _largest_difference(own, np.stack(solutions))
                worst_of[name] = max(worst_of[name], difference)
        num_programs = num_slow * len(SLOW_SIZES)
        for name, worst in worst_of.items():
            bound = 1e-5 if "OSQP" in name else 1e-6  # OSQP stops at residuals of 1e-8
            rows.append(Measured(f"{name}, {num_programs} programs", worst, bound))
    return Check(
        "S-E9",
        "LOW's weights are the projection of 1 + g / (2 lambda): largest difference to",
        "EXACT",
        tuple(rows),
        control=control,
    )


def float32_residual(*, count: int = 600, num_timed: int = 20, seed: int = 0) -> Check:
    """S-E9 in float32 at B = 256: optimality, and the time of a solve (reported)."""
    rng = np.random.default_rng(seed)
    norms, regularization = map(np.float32, random_programs(rng, count, 256))
    weights = jax.jit(jax.vmap(low_weights))(norms, regularization)
    residual = jax.jit(jax.vmap(low_kkt_residual))

    def worst(weights: Any, regularization: Any) -> float:
        return float(jnp.max(residual(weights, norms, regularization)))

    quantity = f"largest KKT residual of {count} programs"
    rows = [Measured(quantity, worst(weights, regularization), 1e-6)]
    control = (
        Measured(f"{quantity}, lambda 0.1 % off", worst(weights, 1.001 * regularization), 1e-6),
        Measured(
            f"{quantity}, uniform weights", worst(jnp.ones_like(weights), regularization), 1e-6
        ),
    )
    solvers: dict[str, Callable[[Any, Any], Any]] = {"projection": jax.jit(low_weights)}
    if HAS_JAXOPT:
        solvers["jaxopt OSQP"] = _osqp()
    if HAS_CVXOPT:
        solvers["CVXOPT, its defaults"] = lambda g, lam: cvxopt_qp(
            g.astype(float), float(lam), tolerance=None
        )
    typical = rng.uniform(0, 2, (num_timed, 256)).astype(np.float32)
    for name, solve in solvers.items():
        milliseconds = 1e3 * _median_seconds(solve, typical, np.float32(0.1))
        rows.append(Measured(f"{name}: ms per solve at lambda = 0.1", milliseconds))
    return Check(
        "S-E9 float32",
        "the float32 projection at B = 256 solves its program to round-off",
        "EXACT",
        tuple(rows),
        control=control,
    )


def consequences(*, count: int = 120, size: int = 32, seed: int = 0) -> Check:
    """S-E9: limits, thresholds, monotonicity and invariances of the solution."""
    rng = np.random.default_rng(seed)
    norms, regularization = random_programs(rng, count, size)
    untied = rng.exponential(1, (count, size))
    scale, shift = 10 ** rng.uniform(-2, 2, count), rng.uniform(0, 10, count)
    with jax.enable_x64(True):
        batched = jax.jit(jax.vmap(low_weights))

        def solve(norms: np.ndarray, regularization: np.ndarray) -> np.ndarray:
            return np.asarray(batched(norms, regularization))

        weights = solve(norms, regularization)
        thresholds, wrong_thresholds = _thresholds(solve, norms, untied)
        milder = solve(norms, 1.5 * regularization)
        invariances, broken_invariances = _invariances(
            solve, norms, regularization, weights, scale, shift
        )
        limits = _limits(solve, norms)
    return Check(
        "S-E9 consequences",
        "limits, thresholds, monotonicity, scale identity, shift invariance",
        "EXACT",
        (*limits, *thresholds, *_monotonicity(norms, weights, milder), *invariances),
        control=wrong_thresholds + broken_invariances,
    )


def _limits(solve: SolveAll, norms: np.ndarray) -> tuple[Measured, ...]:
    """All weight on the largest norms as lambda vanishes; uniform weights as it grows."""
    count, size = norms.shape
    ties = norms == norms.max(axis=1, keepdims=True)
    vertex = size * ties / ties.sum(axis=1, keepdims=True)
    from_vertex = _largest_difference(solve(norms, np.full(count, 1e-12)), vertex)
    # once nothing is clipped the distance from uniform is max |g - mean| / (2 lambda)
    deviation = np.abs(norms - norms.mean(axis=1)[:, None]).max(axis=1)
    large = 1e3 * (1 + norms.max(axis=1))
    distance = np.abs(solve(norms, large) - 1).max(axis=1)
    excess = float(np.max(distance - deviation / (2 * large)))
    return (
        Measured("lambda -> 0: distance from the vertex", from_vertex, 1e-10),
        Measured("lambda -> inf: excess over max |g - mean| / (2 lambda)", excess, 1e-12),
    )


def _thresholds(
    solve: SolveAll, norms: np.ndarray, untied: np.ndarray
) -> tuple[tuple[Measured, ...], tuple[Measured, ...]]:
    """Programs on the wrong side of both thresholds, just above or below; of two other values.

    Above (mean - min) / 2 nothing is clipped. Below (g_1 - g_2) / (2 B), of the two largest norms
    and only if they differ, one example has all the weight.
    """
    size = norms.shape[1]
    unclipped = (norms.mean(axis=1) - norms.min(axis=1)) / 2
    varied = unclipped > 0
    top = np.sort(untied, axis=1)[:, -2:]
    lead = top[:, 1] - top[:, 0]

    def wrong_side(threshold: np.ndarray) -> float:
        """Programs that clip just above the threshold, or clip nothing just below."""
        above, below = (np.where(varied, (1 + e) * threshold, 1.0) for e in (1e-6, -1e-6))
        clips = np.sum(_zeros(solve(norms, above))[varied] > 0)
        return float(clips + np.sum(_zeros(solve(norms, below))[varied] == 0))

    def wrong_vertex(threshold: np.ndarray) -> float:
        """Programs of several weights just below the threshold, or of one just above."""
        several = np.sum(_zeros(solve(untied, (1 - 1e-6) * threshold)) != size - 1)
        one = np.sum(_zeros(solve(untied, (1 + 1e-6) * threshold)) == size - 1)
        return float(several + one)

    name = "programs on the wrong side of"
    return (
        Measured(f"{name} (mean - min) / 2", wrong_side(unclipped), 0),
        Measured(f"{name} (g_1 - g_2) / (2 B)", wrong_vertex(lead / (2 * size)), 0),
    ), (
        Measured(f"{name} mean - min", wrong_side(2 * unclipped), 0),
        Measured(f"{name} (g_1 - g_2) / 2", wrong_vertex(lead / 2), 0),
    )


def _monotonicity(
    norms: np.ndarray, weights: np.ndarray, milder: np.ndarray
) -> tuple[Measured, ...]:
    """In the norms; and in lambda, which is larger for the milder weights.

    The gain w.g never falls below that of uniform weights.
    """
    total = norms.sum(axis=1)
    gain, milder_gain = (np.sum(w * norms, axis=1) / total for w in (weights, milder))
    in_order = np.take_along_axis(weights, np.argsort(norms, axis=1), axis=1)
    return (
        Measured("larger norm, smaller weight", float(-np.min(np.diff(in_order))), 1e-10),
        Measured("larger lambda, larger gain w.g", float(np.max(milder_gain - gain)), 1e-12),
        Measured("gain w.g below uniform's", float(np.max(1 - gain)), 1e-12),
        Measured("larger lambda, more zeros", float(np.max(_zeros(milder) - _zeros(weights))), 0),
    )


def _invariances(
    solve: SolveAll,
    norms: np.ndarray,
    regularization: np.ndarray,
    weights: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
) -> tuple[tuple[Measured, ...], tuple[Measured, ...]]:
    """A factor of norms and lambda, a shift of norms, equal norms; and each of them broken."""
    scaled = solve(scale[:, None] * norms, scale * regularization)
    shifted = solve(norms + shift[:, None], regularization)
    only_norms = solve(scale[:, None] * norms, regularization)
    equal = solve(np.repeat(shift[:, None], norms.shape[1], axis=1), regularization)
    return (
        Measured("w(c g, c lambda) - w(g, lambda)", _largest_difference(scaled, weights), 1e-10),
        Measured("w(g + c, lambda) - w(g, lambda)", _largest_difference(shifted, weights), 1e-10),
        Measured("equal norms: distance from uniform", _largest_difference(equal, 1.0), 1e-10),
    ), (
        Measured("w(c g, lambda) - w(g, lambda)", _largest_difference(only_norms, weights), 1e-10),
        Measured("unequal norms: distance from uniform", _largest_difference(weights, 1.0), 1e-10),
    )


def gradient_scale(*, batch_size: int = 256, num_classes: int = 10, seed: int = 0) -> Check:
    """The released code's gradients of the batch mean: g / B^2, that is, lambda times B^2."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        logits = jnp.asarray(rng.normal(0, 2, (batch_size, num_classes)))
        labels = jnp.asarray(rng.integers(0, num_classes, batch_size))
        signals = Signals(cross_entropy(logits, labels), logits, labels)
        ones = jnp.ones(batch_size)

        @functools.partial(jax.jit, static_argnums=0)
        def weights(scale: str) -> Array:
            scheme = low(0.1, gradient_scale=scale)
            state = scheme.init(jax.random.key(0), {})
            return scheme.update(ones, state, signals, loss_fn=cross_entropy)[0]

        example, batch_mean = weights("example"), weights("batch_mean")
        norms = logit_gradient_norms(cross_entropy, logits, labels)

        def difference(factor: float) -> float:
            return _largest_difference(batch_mean, low_weights(norms, 0.1 * factor))

        rows = (
            Measured(
                "batch-mean scale: difference to lambda B^2", difference(batch_size**2), 1e-10
            ),
            Measured("example scale: smallest weight", float(jnp.min(example))),
            Measured("example scale: largest weight", float(jnp.max(example))),
            Measured("batch-mean scale: 1 - smallest weight", float(1 - jnp.min(batch_mean))),
            Measured("batch-mean scale: largest weight - 1", float(jnp.max(batch_mean) - 1)),
        )
        control = (
            Measured("batch-mean scale: difference to lambda B", difference(batch_size), 1e-10),
            Measured("batch-mean scale: difference to lambda", difference(1), 1e-10),
        )
    return Check(
        "S-E9 gradient scale",
        f"differentiating the batch mean hides B^2 in lambda (B = {batch_size}, lambda = 0.1)",
        "EXACT",
        rows,
        control=control,
    )


def _zeros(weights: np.ndarray) -> np.ndarray:
    return np.sum(weights == 0, axis=1)


def _median_seconds(solve: Callable[[Any, Any], Any], programs: np.ndarray, lam: Any) -> float:
    jax.block_until_ready(solve(programs[0], lam))
    seconds = []
    for norms in programs:
        begin = time.perf_counter()
        jax.block_until_ready(solve(norms, lam))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))
