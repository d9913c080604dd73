r"""LOW's quadratic program (santiago2021, Eqs. 7-9): solution, limits, invariances, scale.

.. math:: \max_w\; w^\top g - \lambda \|w - 1\|^2 \quad\text{s.t. } w \ge 0,\ \sum_j w_j = B

is the Euclidean projection of :math:`1 + g / (2\lambda)` onto the feasible set: the objective is
:math:`-\lambda \|w - (1 + g / (2\lambda))\|^2` up to a constant.
"""

import functools
import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

from theory_checks.records import Check, Measured
from weighting import Signals, low, low_kkt_residual, low_weights
from weighting.gradient_norms import logit_gradient_norms
from weighting.losses import cross_entropy

Solve = Callable[[Array, Array], Array]  # (g [B], lambda) -> weights [B]

SIZES = (2, 3, 5, 10, 17, 32, 64, 100, 256)
SLOW_SIZES = (5, 32, 64)
HAS_CVXOPT = importlib.util.find_spec("cvxopt") is not None


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


def largest_difference(weights: Any, reference: Any) -> float:
    """Largest difference between two sets of weights."""
    return float(np.max(np.abs(np.asarray(weights) - np.asarray(reference))))


def linear_program(*, count: int = 60, seed: int = 0) -> Check:
    """S-E7: without the penalty the optimum is B max g, by any split over the largest."""
    rng = np.random.default_rng(seed)
    rows = {"linear program": 0.0, "random split over ties": 0.0, "LOW, tiny lambda": 0.0}
    altered = {"LOW, lambda = 0.1": 0.0, "weights at most 2": 0.0}
    with jax.enable_x64(True):
        solve = jax.jit(low_weights)
        for norms in random_norms(rng, count, 32):
            size, largest = len(norms), norms.max()
            optimum = size * largest
            result = scipy.optimize.linprog(
                -norms, A_eq=np.ones((1, size)), b_eq=[size], method="highs"
            )
            split = rng.exponential(1, size) * (norms == largest)
            split *= size / split.sum()
            values = (-result.fun, split @ norms, np.asarray(solve(norms, 1e-13)) @ norms)
            capped = scipy.optimize.linprog(
                -norms, A_eq=np.ones((1, size)), b_eq=[size], bounds=(0, 2), method="highs"
            )
            other_values = (np.asarray(solve(norms, 0.1)) @ norms, -capped.fun)
            for found, these in ((rows, values), (altered, other_values)):
                for name, value in zip(found, these, strict=True):
                    found[name] = max(found[name], abs(value / optimum - 1))

    def as_rows(found: dict[str, float]) -> tuple[Measured, ...]:
        return tuple(
            Measured(f"{name}: relative distance from B max g", float(v), 1e-9)
            for name, v in found.items()
        )

    return Check(
        "S-E7",
        "without the penalty, all weight on the largest norm is optimal: max w.g = B max g",
        "EXACT",
        as_rows(rows),
        control=as_rows(altered),
    )


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
            worst = max(worst, largest_difference(own, bisection(norms, regularization)))
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
            Measured(f"{name}: bisection", largest_difference(weights, expected), 1e-9)
            for name, weights in altered.items()
        )
        peers: dict[str, Callable[[np.ndarray, float], Any]] = {
            "SciPy SLSQP": slsqp,
            "jaxopt OSQP": jax.jit(lambda g, lam: low_weights(g, lam, solver="osqp")),
        }
        if HAS_CVXOPT:
            peers["CVXOPT"] = cvxopt_qp
        worst_of = dict.fromkeys(peers, 0.0)
        for size in SLOW_SIZES:
            norms, regularization = random_programs(rng, num_slow, size)
            own = batched(norms, regularization)
            for name, peer in peers.items():
                solutions = [peer(*program) for program in zip(norms, regularization, strict=True)]
                difference = largest_difference(own, np.stack(solutions))
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
    solvers: dict[str, Callable[[Any, Any], Any]] = {
        "projection": jax.jit(low_weights),
        "jaxopt OSQP": jax.jit(lambda g, lam: low_weights(g, lam, solver="osqp")),
    }
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
    with jax.enable_x64(True):
        batched = jax.jit(jax.vmap(low_weights))

        def solve(norms: np.ndarray, regularization: np.ndarray) -> np.ndarray:
            return np.asarray(batched(norms, regularization))

        norms, regularization = random_programs(rng, count, size)
        weights = solve(norms, regularization)
        mean = norms.mean(axis=1)
        deviation = np.abs(norms - mean[:, None]).max(axis=1)
        ties = norms == norms.max(axis=1, keepdims=True)
        shared = size * ties / ties.sum(axis=1, keepdims=True)

        # w -> uniform: once nothing is clipped the distance is max |g - mean| / (2 lambda).
        large = 1e3 * (1 + norms.max(axis=1))
        distance = np.abs(solve(norms, large) - 1).max(axis=1)
        excess = np.max(distance - deviation / (2 * large))

        # Thresholds, just above and just below; the second needs a unique largest norm.
        unclipped = (mean - norms.min(axis=1)) / 2
        varied = unclipped > 0

        def wrong_side(threshold: np.ndarray) -> float:
            """Programs that clip just above the threshold, or clip nothing just below."""
            above, below = (np.where(varied, (1 + e) * threshold, 1.0) for e in (1e-6, -1e-6))
            clips = np.sum(_zeros(solve(norms, above))[varied] > 0)
            return float(clips + np.sum(_zeros(solve(norms, below))[varied] == 0))

        continuous = rng.exponential(1, (count, size))
        top = np.sort(continuous, axis=1)[:, -2:]

        def wrong_vertex(threshold: np.ndarray) -> float:
            """Programs of several weights just below the threshold, or of one just above."""
            several = np.sum(_zeros(solve(continuous, (1 - 1e-6) * threshold)) != size - 1)
            one = np.sum(_zeros(solve(continuous, (1 + 1e-6) * threshold)) == size - 1)
            return float(several + one)

        # A larger lambda: fewer zeros, a smaller gain w.g, which never falls below uniform's.
        milder = solve(norms, 1.5 * regularization)
        total = norms.sum(axis=1)
        gain, milder_gain = (np.sum(w * norms, axis=1) / total for w in (weights, milder))
        order = np.argsort(norms, axis=1)
        in_order = np.take_along_axis(weights, order, axis=1)
        scale, shift = 10 ** rng.uniform(-2, 2, count), rng.uniform(0, 10, count)
        scaled = solve(scale[:, None] * norms, scale * regularization)
        shifted = solve(norms + shift[:, None], regularization)
        only_norms = solve(scale[:, None] * norms, regularization)
        equal = solve(np.repeat(shift[:, None], size, axis=1), regularization)
        rows = (
            Measured(
                "lambda -> 0: distance from the vertex", _gap(solve, norms, 1e-12, shared), 1e-10
            ),
            Measured(
                "lambda -> inf: excess over max |g - mean| / (2 lambda)", float(excess), 1e-12
            ),
            Measured("programs on the wrong side of (mean - min) / 2", wrong_side(unclipped), 0),
            Measured(
                "programs on the wrong side of (g_1 - g_2) / (2 B)",
                wrong_vertex((top[:, 1] - top[:, 0]) / (2 * size)),
                0,
            ),
            Measured("larger norm, smaller weight", float(-np.min(np.diff(in_order))), 1e-10),
            Measured("larger lambda, larger gain w.g", float(np.max(milder_gain - gain)), 1e-12),
            Measured("gain w.g below uniform's", float(np.max(1 - gain)), 1e-12),
            Measured(
                "larger lambda, more zeros", float(np.max(_zeros(milder) - _zeros(weights))), 0
            ),
            Measured("w(c g, c lambda) - w(g, lambda)", largest_difference(scaled, weights), 1e-10),
            Measured(
                "w(g + c, lambda) - w(g, lambda)", largest_difference(shifted, weights), 1e-10
            ),
            Measured("equal norms: distance from uniform", largest_difference(equal, 1.0), 1e-10),
        )
        control = (
            Measured("programs on the wrong side of mean - min", wrong_side(2 * unclipped), 0),
            Measured(
                "programs on the wrong side of (g_1 - g_2) / 2",
                wrong_vertex((top[:, 1] - top[:, 0]) / 2),
                0,
            ),
            Measured(
                "w(c g, lambda) - w(g, lambda)", largest_difference(only_norms, weights), 1e-10
            ),
            Measured(
                "unequal norms: distance from uniform", largest_difference(weights, 1.0), 1e-10
            ),
        )
    return Check(
        "S-E9 consequences",
        "limits, thresholds, monotonicity, scale identity, shift invariance",
        "EXACT",
        rows,
        control=control,
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
            return largest_difference(batch_mean, low_weights(norms, 0.1 * factor))

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


def _gap(solve: Any, norms: np.ndarray, regularization: float, expected: np.ndarray) -> float:
    return largest_difference(solve(norms, np.full(len(norms), regularization)), expected)


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
