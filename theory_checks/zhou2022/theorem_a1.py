r"""Weights that change at every step keep the max-margin direction (zhou2022, Sec. 4.1, Thm A.1).

The theorem itself is in the supplement; this form and its proof are derived here. Let
:math:`\|z_i\| \le 1`, let weights :math:`w_t \in [b, B]^n`, b > 0, be chosen at every step in *any*
way (they may depend on the past), and let :math:`\theta_0 = 0`,
:math:`\theta_{t+1} = \theta_t + h_t g_t`, :math:`g_t = \sum_i q_i z_i`,
:math:`q_i \propto w_{t,i} e^{-u_i}`, :math:`u_i = z_i^\top \theta_t`. That is gradient descent on
the exponential loss with the step :math:`\eta_t = h_t / L(\theta_t; w_t)`. Then

.. math:: \tan^2 \angle(\theta_t, \theta^\star)
   \le \frac{2 S_t \log(n B / b) + \sum_{s<t} h_s^2}{\gamma^{\star 2} S_t^2},
   \qquad S_t = \sum_{s<t} h_s.

Proof. (1) With :math:`v_i = u_i - \min u` and :math:`Z = \sum_i w_i e^{-v_i} \ge \min w`, Gibbs'
identity gives :math:`\sum_i q_i v_i = \log(\sum w / Z) - KL(q \| w / \sum w) \le c := \log(\sum_i
w_i / \min w) \le \log(n B / b)`. (2) Split :math:`\theta = a \theta^\star + r`, :math:`r \perp
\theta^\star`. As :math:`g^\top \theta^\star \ge \gamma^\star`, :math:`a_t \ge \gamma^\star S_t \ge
0`. (3) :math:`\min u \le \sum_i p^\star_i u_i = \gamma^\star a`, so :math:`g^\top r = g^\top
\theta - a\, g^\top \theta^\star \le \min u + c - \gamma^\star a \le c`. (4) Hence
:math:`\|r_{t+1}\|^2 \le \|r_t\|^2 + 2 h_t c_t + h_t^2`; divide the sum by :math:`a_t^2`. So the
direction converges if :math:`S_t \to \infty` with bounded :math:`h_t`, as for :math:`h_t` constant.

For the logistic loss :math:`w_i / (1 + e^{-u_i})` takes the place of :math:`w_i` in
:math:`c_t`. Weights of zero have no finite :math:`c_t`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.common.descent import log_spaced
from theory_checks.common.reference import (
    Solution,
    clear_points,
    curve,
    mean_interval,
    separable_points,
    slope,
    solve_max_margin,
)
from theory_checks.records import Check, Plot, Row
from weighting.implicit_bias.diagnostics import log_losses, log_slopes
from weighting.implicit_bias.max_margin import max_margin

BOUNDS = (0.1, 10.0)  # b and B
COUNT = 20  # examples of a data set
DIFFICULTIES = ("loss", "1 - p", "gradient norm", "margin", "easy first")
ANY = ("random", "adversary")
STATIC = ("static uniform", "static random")
UNBOUNDED = ("zero on the support", "zero on the harder half", "1 / loss, not clipped")
ARMS = DIFFICULTIES + ANY + STATIC + UNBOUNDED
CLIPPED = len(DIFFICULTIES + ANY + STATIC)  # the arms within the bounds come first


class Sets(NamedTuple):
    """S data sets of equal size, labels folded in, with their max-margin solutions."""

    points: np.ndarray  # [S, N, D]
    direction: np.ndarray  # [S, D]
    margin: np.ndarray  # [S]
    support: np.ndarray  # [S, N] boolean
    static: np.ndarray  # [S, N], the weights of "static random"


class Run(NamedTuple):
    """Every arm on every data set at T recorded times."""

    params: np.ndarray  # [S, T, A, D]
    path: np.ndarray  # [S, T, A], the sum of the h so far: S_t
    squares: np.ndarray  # [S, T, A], of their squares
    cost: np.ndarray  # [S, T, A], of h times c


def checks(preset: str) -> list[Check]:
    """The bound and the limit; short runs for "smoke"."""
    if preset == "smoke":
        return [bound(num_sets=4, num_params=200, last=3000,
                  losses=("exponential",), sizes=(3,)),
                limit(num_sets=4, last=3000, last_constant=3000, sizes=(3,))]  # fmt: skip
    return [bound(), limit()]


def bound(
    *,
    num_sets: int = 6,
    num_params: int = 2000,
    last: int = 3000,
    losses: tuple[str, ...] = ("exponential", "logistic"),
    sizes: tuple[int, ...] = (2, 3),
    tighten: float = 1.0,
    seed: int = 0,
) -> Check:
    """The steps of the proof at random parameters, and the bound, times `tighten`, on descent."""
    rng = np.random.default_rng(seed)
    gibbs, turn, without = -np.inf, -np.inf, -np.inf
    worst, progress, blind, share = 0.0, 0.0, 0.0, []
    for size in sizes:
        sets = make_sets(rng, num_sets, size)
        for points, direction, margin, _, _ in zip(*sets, strict=True):
            excess = anywhere(rng, points, direction, margin, num_params)
            gibbs, turn, without = (
                max(pair) for pair in zip((gibbs, turn, without), excess, strict=True)
            )
        for loss in losses:
            for rate, constant in ((10.0, False), (0.01, False), (1.0, True)):
                run = descend(sets, log_spaced(last), rate, loss=loss, constant=constant)
                along, across = split(run.params, sets.direction)
                reach = sets.margin[:, None, None] * run.path
                kept = slice(None, CLIPPED)
                progress = max(progress, float(np.max((reach / along)[..., kept])))
                used = across**2 / (2 * run.cost + run.squares)
                worst = max(worst, float(np.max(used[..., kept])) / tighten)
                share.append(float(np.median(used[:, -1, kept])))
                # Zero weights left out of the minimum, as if c were finite.
                budget = 2 * np.log(COUNT) * run.path + run.squares
                blind = max(blind, float(np.max(((across / along) ** 2 * reach**2 / budget)[
                    :, -1, ARMS.index("zero on the support")])))  # fmt: skip
    return Check(
        "Z-TA1 bound",
        "weights in [b, B] chosen anew at every step: tan^2 of the angle <= (2 S log(n B / b) + "
        "sum h^2) / (margin S)^2",
        "EXACT-CORR",
        (
            Row("random theta and w: sum q u - min u - log(sum w / min w)", gibbs, 1e-12),
            Row("the pull across theta*, less that logarithm", turn, 1e-12),
            Row("margin times S over the component along theta*", progress, 1 + 1e-12),
            Row("squared component across over its bound: largest", worst, 1 + 1e-12),
            Row("its median at the end", float(np.median(share))),
        ),
        assumptions=f"{', '.join(losses)} loss, |z_i| <= 1, start at zero, weights in {BOUNDS} by "
        "difficulty, at random, or by an adversary; any steps",
        control=(
            Row("zero on the support: left / right side, zeros left out", blind, 1.0),
            Row("sum q u - min u - log(sum w / max w)", without, 1e-12),
        ),
        erratum=(
            "The text says that difficulty-based weights do not change the max-margin direction; "
            "for weights of zero, or not bounded, that is false. For weights in [b, B], b > 0, it "
            "holds for any choice at every step, with the explicit bound above."
        ),
    )


def limit(
    *,
    num_sets: int = 8,
    last: int = 10_000,
    last_constant: int = 30_000,
    sizes: tuple[int, ...] = (2, 3),
    bounds: tuple[float, float] = BOUNDS,
    seed: int = 1,
) -> Check:
    """Z-TA1: angles to the max-margin direction along descent, weights recomputed at each step."""
    rng = np.random.default_rng(seed)
    times = log_spaced(last)
    angles, constant_angles, smaller, mean_point, solver = [], [], [], [], 0.0
    for size in sizes:
        sets = make_sets(rng, num_sets, size, clear=True)
        for points, direction in zip(sets.points, sets.direction, strict=True):
            own = max_margin(points, np.ones(len(points)))
            solver = max(solver, float(np.linalg.norm(np.asarray(own.direction) - direction)))
        run = descend(sets, times, 1.0, bounds=bounds)
        angles.append(angle(run.params, sets.direction[:, None, None]))
        rest, means = others(sets)
        smaller.append(angle(run.params, rest[:, None, None])[..., ARMS.index(UNBOUNDED[0])])
        mean_point.append(angle(run.params, means[:, None, None])[..., ARMS.index(UNBOUNDED[2])])
        slow = descend(sets, log_spaced(last_constant), 1.0, constant=True, bounds=bounds)
        constant_angles.append(angle(slow.params, sets.direction[:, None, None]))
    angles, constant = np.concatenate(angles), np.concatenate(constant_angles)
    half = len(times) // 2
    slopes = slope(np.log(times[half:]), np.moveaxis(np.log(angles[:, half:]), 1, -1))  # [S, A]
    rows = [Row("max-margin direction, library against SciPy", solver, 1e-8)]
    moving = range(len(DIFFICULTIES + ANY))
    for i in moving:
        mean, low, high = mean_interval(slopes[:, i])
        rows += [
            Row(f"{ARMS[i]}: largest angle after {last} steps 1 / L", angles[:, -1, i].max(), 0.02),
            Row("slope of log angle on log t, mean", mean),
            Row("its 95 % interval over data sets, low", low),
            Row("high", high, -0.5),
        ]
    static = angles[:, -1, ARMS.index("static uniform")]
    rows.append(Row("static uniform weights: largest angle", static.max(), 0.02))
    rows.append(Row("static random weights: largest angle", angles[:, -1, CLIPPED - 1].max(), 0.02))
    for i in moving:
        ratio = np.exp(mean_interval(np.log(angles[:, -1, i] / static)))
        rows.append(Row(f"{ARMS[i]}: angle over static uniform's, geometric mean", ratio[0]))
        rows.append(Row("95 % interval, low", ratio[1]))
        rows.append(Row("95 % interval, high", ratio[2]))
    decade = constant[:, [-5, -1], :CLIPPED]
    rows += [
        Row(f"constant step, {last_constant} steps: largest angle", decade[:, 1].max()),
        Row("largest angle over that a decade earlier, difficulties, mean",
            float(np.mean(decade[:, 1, : len(DIFFICULTIES)] / decade[:, 0, : len(DIFFICULTIES)])),
            1.0),
        Row("zero on the support: largest angle to the smaller problem's direction",
            np.concatenate(smaller)[:, -1].max(), 0.02),
        Row("1 / loss, not clipped: largest angle to the mean point",
            np.concatenate(mean_point)[:, -1].max(), 1e-9),
    ]  # fmt: skip
    zero = [ARMS.index(name) for name in UNBOUNDED]
    control = [Row(f"{ARMS[i]}: smallest angle", angles[:, -1, i].min(), 0.02) for i in zero]
    control += [Row("zero on the support: slope of log angle, smallest", slopes[:, zero[0]].min(),
                    -0.5)]  # fmt: skip
    shown = ("loss", "margin", "random", "static uniform", "zero on the support")
    return Check(
        "Z-TA1",
        "weights by difficulty, clipped to [b, B], leave the limit direction at max-margin",
        "LIMIT",
        tuple(Row(row.quantity, float(row.value), row.bound) for row in rows),
        assumptions="separable points in the unit ball, exponential loss; weights recomputed at "
        f"each step, scaled to mean one and then clipped to {bounds}",
        control=tuple(Row(row.quantity, float(row.value), row.bound) for row in control),
        plot=Plot(
            "steps 1 / L",
            "median angle to the max-margin direction",
            {
                name: curve(times, np.median(angles[..., ARMS.index(name)], axis=0))
                for name in shown
            },
            "xy",
        ),
    )


def make_sets(rng: np.random.Generator, num_sets: int, size: int, *, clear: bool = False) -> Sets:
    """Random separable data sets; with `clear` the other points are far from the supports."""
    points, solutions, static = [], [], []
    while len(points) < num_sets:
        drawn = (
            clear_points(rng, COUNT, size)
            if clear
            else separable_points(rng, COUNT, size, gap=(0.2, 0.6))
        )
        solution = solve_max_margin(drawn)
        points.append(drawn)
        solutions.append(solution)
        static.append(log_uniform(rng, COUNT))
    directions, margins, duals = (np.stack(column) for column in zip(*solutions, strict=True))
    return Sets(np.stack(points), directions, margins, duals > 1e-9, np.stack(static))


def log_uniform(rng: np.random.Generator, shape: int | tuple[int, int]) -> np.ndarray:
    """Weights between the bounds, uniform in their logarithm."""
    return np.exp(rng.uniform(np.log(BOUNDS[0]), np.log(BOUNDS[1]), shape))


def others(sets: Sets) -> tuple[np.ndarray, np.ndarray]:
    """Directions [S, D]: max-margin without the support vectors, and the mean point."""
    solutions: list[Solution] = [
        solve_max_margin(points[~support])
        for points, support in zip(sets.points, sets.support, strict=True)
    ]
    means = sets.points.mean(axis=1)
    return (
        np.stack([solution.direction for solution in solutions]),
        means / np.linalg.norm(means, axis=1, keepdims=True),
    )


def anywhere(
    rng: np.random.Generator,
    points: np.ndarray,
    direction: np.ndarray,
    margin: float,
    num_params: int,
) -> tuple[float, float, float]:
    """Largest excess of steps (1) and (3) of the proof at random parameters and weights.

    The third is that of (1) with the largest weight in the smallest one's place.
    """
    params = rng.normal(size=(num_params, points.shape[1]))
    params = params * 10 ** rng.uniform(-2, 3, (num_params, 1))
    params *= np.sign(params @ direction)[:, None]
    weights = log_uniform(rng, (num_params, len(points)))
    u = params @ points.T
    above = u - u.min(axis=1, keepdims=True)
    q = weights * np.exp(-above)
    q /= q.sum(axis=1, keepdims=True)
    mean = np.sum(q * above, axis=1)
    total = np.log(weights.sum(axis=1))
    across = params - (params @ direction)[:, None] * direction
    pull = np.sum((q @ points) * across, axis=1)
    c = total - np.log(weights.min(axis=1))
    scale = 1 + np.abs(u).max(axis=1)
    return (
        float(np.max((mean - c) / scale)),
        float(np.max((pull - c) / scale)),
        float(np.max((mean - total + np.log(weights.max(axis=1))) / scale)),
    )


def descend(
    sets: Sets,
    times: np.ndarray,
    rate: float,
    *,
    loss: str = "exponential",
    constant: bool = False,
    bounds: tuple[float, float] = BOUNDS,
) -> Run:
    """Every arm on every data set from zero; steps rate / L, or rate if `constant`.

    L is the weighted mean of the loss's slopes, which for the exponential loss is the risk.
    """
    with jax.enable_x64(True):
        lengths = jnp.asarray(np.diff(np.append(0, times)))
        arrays = (sets.points, sets.direction, sets.support, sets.static)
        records = _descend_all(
            *(jnp.asarray(value) for value in arrays),
            jax.random.split(jax.random.key(0), len(sets.points)),
            lengths,
            jnp.asarray(rate),
            jnp.asarray(constant),
            jnp.asarray(bounds),
            loss=loss,
        )
        return Run(*(np.asarray(record) for record in records))


@functools.partial(jax.jit, static_argnames="loss")
def _descend_all(*arguments: Array, loss: str) -> tuple[Array, ...]:
    run = functools.partial(_descend, loss=loss)
    return jax.vmap(run, (0, 0, 0, 0, 0, None, None, None, None))(*arguments)


def _descend(
    points: Array,
    direction: Array,
    support: Array,
    static: Array,
    key: Array,
    lengths: Array,
    rate: Array,
    constant: Array,
    bounds: Array,
    *,
    loss: str,
) -> tuple[Array, ...]:
    arms, count = len(ARMS), len(points)

    def step(index: Array, carry: tuple) -> tuple:
        params, path, squares, cost, total = carry
        u = params @ points.T
        across = params - (params @ direction)[:, None] * direction[None]
        draws = jax.random.bernoulli(jax.random.fold_in(key, total), shape=(count,))
        log_weights = arm_log_weights(u, points, across, draws, support, static, bounds, loss)
        pulls = log_weights + jax.vmap(functools.partial(log_slopes, loss=loss))(u)
        log_scale = jax.nn.logsumexp(pulls, axis=1, keepdims=True)
        q = jnp.exp(pulls - log_scale)
        h = rate * jnp.where(constant, jnp.exp(log_scale[:, 0]) / count, 1.0)
        effective = pulls + u
        c = jax.nn.logsumexp(effective, axis=1) - jnp.min(effective, axis=1)
        return (
            params + h[:, None] * (q @ points),
            path + h,
            squares + h**2,
            cost + h * c,
            total + 1,
        )

    def segment(carry: tuple, length: Array) -> tuple[tuple, tuple]:
        carry = jax.lax.fori_loop(0, length, step, carry)
        return carry, carry[:-1]

    zeros = jnp.zeros(arms)
    start = (jnp.zeros((arms, points.shape[1])), zeros, zeros, zeros, jnp.zeros((), int))
    return jax.lax.scan(segment, start, lengths)[1]


def arm_log_weights(
    u: Array,
    points: Array,
    across: Array,
    draws: Array,
    support: Array,
    static: Array,
    bounds: Array,
    loss: str,
) -> Array:
    """Logarithms of the weights of every arm [A, N] at its own margins u [A, N].

    Args:
      u: margins [A, N].
      points: [N, D].
      across: [A, D], the parameters' components orthogonal to the max-margin direction.
      draws: [N] boolean, for "random".
      support: [N] boolean.
      static: [N], for "static random".
      bounds: b and B.
      loss: "exponential" or "logistic".
    """
    log_loss = jax.vmap(functools.partial(log_losses, loss=loss))(u)
    sizes = jnp.log(jnp.linalg.norm(points, axis=1))
    spread = jnp.std(u[3]) + 1e-12
    difficulty = jnp.stack(
        [
            log_loss[0],
            log_slopes(u[1], "logistic"),
            log_slopes(u[2], loss) + sizes,
            -2 * u[3] / spread,
            -log_loss[4],
        ]
    )
    log_means = jax.nn.logsumexp(difficulty, axis=1, keepdims=True) - jnp.log(len(points))
    low, high = jnp.log(bounds[0]), jnp.log(bounds[1])
    clipped = jnp.clip(difficulty - log_means, low, high)
    extremes = jnp.stack([draws, points @ across[6] > 0])
    zero = jnp.where(support, -jnp.inf, log_loss[9])
    harder = jnp.where(u[10] < jnp.median(u[10]), -jnp.inf, 0.0)
    return jnp.concatenate(
        [
            clipped,
            jnp.where(extremes, high, low),
            jnp.stack([jnp.zeros_like(static), jnp.log(static), zero, harder, -log_loss[11]]),
        ]
    )


def split(params: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component of params [S, ..., D] along a unit vector [S, D], and the norm of the rest."""
    unit = direction[:, None, None]
    along = np.sum(params * unit, axis=-1)
    return along, np.linalg.norm(params - along[..., None] * unit, axis=-1)


def angle(params: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Angles between params [..., D] and unit vectors, accurate also where they are small."""
    units = params / np.linalg.norm(params, axis=-1, keepdims=True)
    apart = np.linalg.norm(units - direction, axis=-1)
    return 2 * np.arctan2(apart, np.linalg.norm(units + direction, axis=-1))
