"""What the figures of zhou2022 show along training, and how two arms are compared.

Axes: S seeds, A arms (weightings), T logged steps. The cosine is the paper's "cosine distance".
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.simulated.models import ORDERS, scores, seed_keys, train_arms
from experiments.zhou2022.data import SimulatedSets
from weighting.implicit_bias.diagnostics import average_margin, cosine_similarity, normalized_margin
from weighting.implicit_bias.long_horizon import Trajectory, run_descent

PyTree = Any
_FIRST = 10  # comparisons over time begin at this step


def train_weightings(
    model: str, sets: SimulatedSets, weights: np.ndarray, *, num_steps: int, **settings
) -> Trajectory:
    """Trains arms with weights [S, A, N]; seed s starts from the key s, whatever the arms are."""
    arrays = (jnp.asarray(array) for array in (sets.inputs, sets.signs, weights))
    return train_arms(model, seed_keys(len(sets.inputs)), *arrays, num_steps=num_steps, **settings)


def train_and_measure(
    model: str,
    sets: SimulatedSets,
    weights: np.ndarray,
    *,
    num_steps: int,
    equal: int = 0,
    **settings,
) -> tuple[Trajectory, dict[str, np.ndarray]]:
    """Trains arms; `measured_curves` with the end of the arm of equal weights as the reference."""
    run = train_weightings(model, sets, weights, num_steps=num_steps, **settings)
    end = jax.tree.map(lambda leaf: leaf[:, equal, -1], run.params)
    return run, measured_curves(model, sets, run, end)


def far_end(
    model: str, sets: SimulatedSets, weights: np.ndarray, run: Trajectory, num_steps: int
) -> PyTree:
    """The parameters [S, A, ...] of a run continued by steps of length 0.01.

    Steps of one length reach in the direction what constant learning rates need exponentially many
    of, provided the data are separated.
    """

    def go_on(params: PyTree, weights: Array, inputs: Array, signs: Array) -> PyTree:
        path = run_descent(
            lambda params: signs * scores(params, inputs),
            params,
            weights,
            num_steps=num_steps,
            learning_rate=0.01,
            step_rule="normalized",
            per_decade=1,
        )
        return jax.tree.map(lambda leaf: leaf[-1], path.params)

    end = jax.tree.map(lambda leaf: leaf[:, :, -1], run.params)
    over = jax.vmap(jax.vmap(go_on, (0, 0, None, None)))
    arrays = (jnp.asarray(array) for array in (weights, sets.inputs, sets.signs))
    return jax.jit(over)(end, *arrays)


def measured_curves(
    model: str, sets: SimulatedSets, run: Trajectory, reference: PyTree, own: PyTree | None = None
) -> dict[str, np.ndarray]:
    """Curves [S, A, T] of the arms.

    Args:
      model: "linear" or "network".
      sets: what was trained on.
      run: of all arms.
      reference: parameters [S, ...] whose direction the cosine is taken to.
      own: parameters [S, A, ...], every arm's own reference, if it has one.

    Returns:
      cosine, own_cosine (if `own`), average_margin and normalized_margin (over the norm to the
      order of homogeneity), raw_average_margin, small_error and large_error (on the test examples
      of y = -1 and of y = 1), test_error (their mean), all [S, A, T]; step [T].
    """
    order = ORDERS[model]

    def at(params, reference, own, sets: Any) -> dict[str, Array]:
        margins = sets.signs * scores(params, sets.inputs)
        mean = average_margin(margins, params, order)
        wrong = sets.test_signs * scores(params, sets.test_inputs) <= 0
        errors = [jnp.mean(wrong, where=sets.test_signs == sign) for sign in (-1, 1)]
        measured = {
            "cosine": cosine_similarity(params, reference),
            "average_margin": mean.normalized,
            "raw_average_margin": mean.raw,
            "normalized_margin": normalized_margin(margins, params, order),
            "small_error": errors[0],
            "large_error": errors[1],
            "test_error": (errors[0] + errors[1]) / 2,
        }
        if own is not None:
            measured["own_cosine"] = cosine_similarity(params, own)
        return measured

    over_steps = jax.vmap(at, (0, None, None, None))
    over_arms = jax.vmap(over_steps, (0, None, 0 if own is not None else None, None))
    arrays = jax.tree.map(jnp.asarray, (run.params, reference, own, sets))
    measured = jax.jit(lambda arrays: jax.lax.map(lambda seed: over_arms(*seed), arrays))(arrays)
    found = {name: np.asarray(values) for name, values in measured.items()}
    return found | {"step": np.asarray(run.step[0, 0])}


def separated(normalized_margin: np.ndarray) -> np.ndarray:
    """Which runs [..., T] end with every training example on its side."""
    return np.asarray(normalized_margin[..., -1] > 0)


def mean_over_log_time(curve: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Mean over the logged steps from 10 on; they are equally spaced in the logarithm."""
    late = step >= _FIRST
    return curve[..., late].mean(axis=-1)


def is_ahead(curve: np.ndarray, other: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Whether a curve [..., T] lies above another on average over the logarithm of time."""
    return np.asarray(mean_over_log_time(curve, step) > mean_over_log_time(other, step))


def never_falls(curve: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    """Whether no value of a curve [..., T] is smaller than the one logged before it."""
    return np.asarray(np.all(np.diff(curve, axis=-1) >= -tolerance, axis=-1))
