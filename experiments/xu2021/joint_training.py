"""The classifier and its weighting model trained on one risk, for Figure 4."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.simulated.models import INITIALIZERS, scores, with_constant
from weighting.implicit_bias.long_horizon import Trajectory, run_descent
from weighting.schemes.joint_weighting import STARTS, LogisticModel, joint_weighting

PyTree = Any
JOINT_ARMS = ("psi from zeros", "psi from normal", "g = 3/2")


def log_g(psi: LogisticModel, inputs: Array) -> Array:
    """log(1 + sigmoid(psi . x + b)) for inputs [..., D]."""
    return jnp.log1p(jax.nn.sigmoid(inputs @ psi.kernel + psi.bias))


def train_jointly(
    model: str, keys: Array, inputs: Array, signs: Array, *, num_steps: int
) -> Trajectory:
    """Trains `JOINT_ARMS` of every seed: parameters (theta, psi), arrays with leading axes [S, A].

    As g e^{-u} = e^{-(u - log g)}, descent on the joint risk is descent with equal weights on the
    margins u - log g. The steps are capped as in `train_arms`.
    """

    def run(key: Array, inputs: Array, signs: Array, psi: LogisticModel, rate: Array) -> Trajectory:
        seen = with_constant(inputs) if model == "network" else inputs

        def margins(params: PyTree) -> Array:
            theta, psi = params
            fixed = jax.lax.stop_gradient(psi)
            psi = jax.tree.map(lambda free, held: held + rate * (free - held), psi, fixed)
            return signs * scores(theta, seen) - log_g(psi, inputs)

        start = (INITIALIZERS[model](key, seen.shape[-1]), psi)
        return run_descent(
            margins,
            start,
            num_steps=num_steps,
            learning_rate=0.1,
            step_rule="loss_capped",
            per_decade=8,
        )

    def start_psi(key: Array, start: str) -> LogisticModel:
        scheme = joint_weighting(inputs.shape[-1], start=start)
        model = scheme.init(jax.random.fold_in(key, 1), None).model
        return jax.tree.map(lambda leaf: leaf.astype(inputs.dtype), model)

    def over_arms(key: Array, inputs: Array, signs: Array) -> Trajectory:
        starts = [start_psi(key, start) for start in (*STARTS, "zeros")]
        psi = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        rates = jnp.array([1.0, 1.0, 0.0])
        return jax.vmap(run, (None, None, None, 0, 0))(key, inputs, signs, psi, rates)

    return jax.jit(jax.vmap(over_arms))(keys, inputs, signs)


def correlations(g: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Over the last axis; nan where g is constant."""
    g = g - g.mean(axis=-1, keepdims=True)
    margins = margins - margins.mean(axis=-1, keepdims=True)
    scale = np.linalg.norm(g, axis=-1) * np.linalg.norm(margins, axis=-1)
    constant = np.ptp(g, axis=-1) < 1e-12
    return np.where(constant, np.nan, np.sum(g * margins, axis=-1) / np.where(constant, 1, scale))
