r"""Descent of linear predictors under weights that are chosen anew at every step.

Arms are ways to choose the weights [N] at the parameters of the moment: by difficulty (clipped to
:math:`[b, B]`), in any other way within those bounds, not at all, or without the bounds. All arms
run on all data sets together, as for the checks of zhou2022, Theorem A.1:

.. math:: \theta_{t+1} = \theta_t + h_t \sum_i q_i z_i,
   \qquad q_i \propto -w_{t,i}\, \ell'(z_i^\top \theta_t).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.common.reference import clear_points, separable_points, solve_max_margin
from weighting.implicit_bias.diagnostics import log_losses, log_slopes

BOUNDS = (0.1, 10.0)  # b and B
COUNT = 20  # examples of a data set
DIFFICULTIES = ("loss", "1 - p", "gradient norm", "margin", "easy first")
ANY = ("random", "adversary")
STATIC = ("static uniform", "static random")
UNBOUNDED = ("zero on the support", "zero on the harder half", "1 / loss, not clipped")
ARMS = DIFFICULTIES + ANY + STATIC + UNBOUNDED
CLIPPED = len(DIFFICULTIES + ANY + STATIC)  # the arms within the bounds come first


class SeparableSets(NamedTuple):
    """S data sets of equal size, labels folded in, with their max-margin solutions."""

    points: np.ndarray  # [S, N, D]
    direction: np.ndarray  # [S, D]
    margin: np.ndarray  # [S]
    support: np.ndarray  # [S, N] boolean
    static: np.ndarray  # [S, N], the weights of "static random"


class ArmPaths(NamedTuple):
    """Every arm on every data set at T recorded times."""

    params: np.ndarray  # [S, T, A, D]
    path: np.ndarray  # [S, T, A], the sum of the h so far: S_t
    squares: np.ndarray  # [S, T, A], of their squares
    cost: np.ndarray  # [S, T, A], of h times c


def make_sets(
    rng: np.random.Generator, num_sets: int, size: int, *, clear: bool = False
) -> SeparableSets:
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
    return SeparableSets(np.stack(points), directions, margins, duals > 1e-9, np.stack(static))


def log_uniform(rng: np.random.Generator, shape: int | tuple[int, int]) -> np.ndarray:
    """Weights between the bounds, uniform in their logarithm."""
    return np.exp(rng.uniform(np.log(BOUNDS[0]), np.log(BOUNDS[1]), shape))


def descend_arms(
    sets: SeparableSets,
    times: np.ndarray,
    rate: float,
    *,
    loss: str = "exponential",
    constant: bool = False,
    bounds: tuple[float, float] = BOUNDS,
) -> ArmPaths:
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
        return ArmPaths(*(np.asarray(record) for record in records))


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
        log_weights = _arm_log_weights(u, points, across, draws, support, static, bounds, loss)
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


def _arm_log_weights(
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
