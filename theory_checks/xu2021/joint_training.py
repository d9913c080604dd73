r"""Linear classifiers trained jointly with a model of their weights (xu2021, Sec. 5, Eq. 4).

The weights are :math:`g_i = 1 + \sigma(\psi^\top x_i + b)`; see `joint` for the claims.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from theory_checks.common.reference import MarginSolution, separable_points, solve_max_margin
from weighting import Signals, joint_weighting
from weighting.implicit_bias.diagnostics import angle_between

CURVATURE = 1.14  # kappa: [[1, sqrt 2 / 4], [sqrt 2 / 4, 2 / (6 sqrt 3)]] has norm 1.133
COUNT, SIZE = 20, 3
WIDE = 6.0  # radius of inputs that are not in the unit ball


class CentredSet(NamedTuple):
    """Centred inputs in the unit ball that a hyperplane through the origin separates."""

    inputs: np.ndarray  # [N, D]
    labels: np.ndarray  # [N]
    solution: MarginSolution


class JointPath(NamedTuple):
    """Both models after each of T numbers of steps, for K problems."""

    params: np.ndarray  # [K, T, D]
    kernels: np.ndarray  # [K, T, D]
    biases: np.ndarray  # [K, T]
    sum_squares: np.ndarray  # [K, T] of the steps in theta so far
    decreases: np.ndarray  # [K, T], sum (1 / a - kappa / 2) |step|^2 over both models


class JointArm(NamedTuple):
    """A way to train, on all data sets: its path [S, ...] and what follows from it."""

    path: JointPath
    gates: np.ndarray  # [S, T, N]
    margins: np.ndarray  # [S, T, N]
    angles: np.ndarray  # [S, T], degrees from the max-margin direction
    spreads: np.ndarray  # [S, T], standard deviations of g
    correlations: np.ndarray  # [S, T] of g with the margin; nan where g or the margin is constant


class JointSetting(NamedTuple):
    """A way to train."""

    learning_rate: float  # of theta
    model_rate: float  # of (psi, b)
    normalized: bool = False  # steps over the loss
    normal_start: bool = False  # of (psi, b), for zeros
    low: float = 1.0  # lowest weight
    radius: float = 1.0  # of the inputs


SETTINGS = {
    "plain": JointSetting(0.1, 0.1),
    "plain, normal start": JointSetting(0.1, 0.1, normal_start=True),
    "long": JointSetting(0.5, 0.5, normalized=True),
    "long, normal start": JointSetting(0.5, 0.5, normalized=True, normal_start=True),
    "wide": JointSetting(0.5 / WIDE**2, 0.5 / WIDE**2, normalized=True, radius=WIDE),
    "no floor": JointSetting(0.1, 0.1, normalized=True, low=0.0),
    "ascent": JointSetting(0.1, -0.1),
}


def centred_data(rng: np.random.Generator) -> CentredSet:
    """Points of two random classes, moved to mean zero and again separable through the origin."""
    while True:
        points = separable_points(rng, COUNT, SIZE)
        labels = rng.choice([-1.0, 1.0], COUNT)
        inputs = labels[:, None] * points
        inputs = inputs - inputs.mean(axis=0)
        inputs /= np.linalg.norm(inputs, axis=1).max()
        folded = labels[:, None] * inputs
        solution = solve_max_margin(folded)
        if np.min(folded @ solution.direction) > 0.05:
            return CentredSet(inputs, labels, solution)


def train_settings(data: list[CentredSet], times: np.ndarray) -> dict[str, JointArm]:
    """Every setting on all data sets, in one run."""
    inputs = np.stack([case.inputs for case in data])
    labels = np.stack([case.labels for case in data])
    columns = {
        name: np.repeat(column, len(data))
        for name, column in zip(
            JointSetting._fields, zip(*SETTINGS.values(), strict=True), strict=True
        )
    }
    radii = columns.pop("radius")
    path = train_jointly(
        np.concatenate([inputs] * len(SETTINGS)) * radii[:, None, None],
        np.concatenate([labels] * len(SETTINGS)),
        times,
        **columns,
    )
    arms = {}
    for index, (name, setting) in enumerate(SETTINGS.items()):
        rows = slice(index * len(data), (index + 1) * len(data))
        part = JointPath(*(record[rows] for record in path))
        arms[name] = _describe(data, part, low=setting.low, radius=setting.radius)
    return arms


def train_jointly(
    inputs: np.ndarray,
    labels: np.ndarray,
    times: np.ndarray,
    learning_rate: np.ndarray,
    normalized: np.ndarray,
    normal_start: np.ndarray,
    low: np.ndarray,
    model_rate: np.ndarray,
) -> JointPath:
    """K joint runs on inputs [K, N, D] and labels [K, N]; the settings are vectors [K].

    With `normalized` both steps are divided by the mean loss.
    """
    with jax.enable_x64(True):
        lengths = jnp.asarray(np.diff(np.append(0, times)))
        arrays = (inputs, labels, learning_rate, normalized, normal_start, low, model_rate)
        records = _train(*(jnp.asarray(array, float) for array in arrays), lengths)
        return JointPath(*(np.asarray(record) for record in records))


@jax.jit
def _train(
    inputs: Array,
    labels: Array,
    learning_rate: Array,
    normalized: Array,
    normal_start: Array,
    low: Array,
    model_rate: Array,
    lengths: Array,
) -> tuple[Array, ...]:
    def run(key, inputs, labels, learning_rate, normalized, normal_start, low, model_rate):
        count, size = inputs.shape
        points = labels[:, None] * inputs
        optimizer = optax.sgd(model_rate)
        zeros, drawn = (
            joint_weighting(size, low=low, high=2.0, start=start, optimizer=optimizer)
            for start in ("zeros", "normal")
        )
        state = zeros.init(key, None)
        model = jax.tree.map(lambda leaf: normal_start * leaf, drawn.init(key, None).model)

        def step(_, carry):
            params, state, squares, decrease = carry
            margins = points @ params
            shift = normalized * (jax.nn.logsumexp(-margins) - jnp.log(count))
            losses = jnp.exp(-margins - shift)
            weights, new = zeros.update(
                jnp.ones(count), state, Signals(losses), examples=(inputs, labels)
            )
            move = learning_rate * (weights * losses) @ points / count
            turn = jax.tree.map(jnp.subtract, new.model, state.model)
            own, other = jnp.sum(move**2), optax.tree.norm(turn, squared=True)
            scaled = learning_rate * jnp.mean(weights * losses)  # eta L
            decrease = decrease + (1 / scaled - CURVATURE / 2) * (own + other)
            return params + move, new, squares + own, decrease

        def segment(carry, length):
            carry = jax.lax.fori_loop(0, length, step, carry)
            params, state, squares, decrease = carry
            return carry, (params, state.model.kernel, state.model.bias, squares, decrease)

        start = (jnp.zeros(size), state._replace(model=model), jnp.zeros(()), jnp.zeros(()))
        return jax.lax.scan(segment, start, lengths)[1]

    keys = jax.random.split(jax.random.key(0), len(inputs))
    return jax.vmap(run)(
        keys, inputs, labels, learning_rate, normalized, normal_start, low, model_rate
    )


def _describe(data: list[CentredSet], path: JointPath, *, low: float, radius: float) -> JointArm:
    gates, margins, angles = [], [], []
    for index, (inputs, labels, solution) in enumerate(data):
        logits = radius * path.kernels[index] @ inputs.T + path.biases[index][:, None]
        gates.append(low + (2 - low) / (1 + np.exp(-logits)))
        margins.append(radius * path.params[index] @ (labels[:, None] * inputs).T)
        with jax.enable_x64(True):
            turn = jax.vmap(angle_between, (0, None))
            radians = turn(jnp.asarray(path.params[index]), jnp.asarray(solution.direction))
            angles.append(np.degrees(np.asarray(radians)))
    spreads = np.std(gates, axis=-1)
    return JointArm(
        path,
        np.array(gates),
        np.array(margins),
        np.array(angles),
        spreads,
        _correlations(np.array(gates), np.array(margins)),
    )


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's, over the last axis."""
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in (a, b))
    size = np.sqrt(np.sum(a**2, axis=-1) * np.sum(b**2, axis=-1))
    return np.divide(np.sum(a * b, axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)
