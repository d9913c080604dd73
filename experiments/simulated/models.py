"""The simulations of xu2021 and zhou2022: their two models, trained with many weightings at once.

Both papers train, by full-batch gradient descent with the exponential loss from standard normal
parameters, a linear model or a network with one layer of five ReLU units; neither has biases, so
the models are homogeneous (of order one and two). A constant input may stand for a bias of the
first layer. Axes: S seeds, A arms (weightings), T logged steps, N examples, D inputs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from weighting.implicit_bias.long_horizon import Trajectory, run_descent

PyTree = Any
ORDERS = {"linear": 1, "network": 2}  # of homogeneity
_NUM_UNITS = 5


class TwoLayerNetwork(NamedTuple):
    """One hidden layer of ReLU units, no biases."""

    hidden: Array  # [D, H]
    output: Array  # [H]


def _init_linear(key: Array, num_inputs: int) -> Array:
    """Standard normal parameters [D]."""
    return jax.random.normal(key, (num_inputs,))


def _init_network(key: Array, num_inputs: int) -> TwoLayerNetwork:
    """Standard normal kernels."""
    keys = jax.random.split(key)
    hidden = jax.random.normal(keys[0], (num_inputs, _NUM_UNITS))
    return TwoLayerNetwork(hidden, jax.random.normal(keys[1], (_NUM_UNITS,)))


INITIALIZERS: dict[str, Callable[[Array, int], PyTree]] = {
    "linear": _init_linear,
    "network": _init_network,
}


def scores(params: PyTree, inputs: Array) -> Array:
    """f(x) for inputs [..., D]; its sign is the predicted class."""
    if isinstance(params, TwoLayerNetwork):
        return jax.nn.relu(inputs @ params.hidden) @ params.output
    return inputs @ params


def with_constant(inputs: Array) -> Array:
    """Inputs [..., D] with a last coordinate of one, so that the first layer has a bias."""
    return jnp.concatenate([inputs, jnp.ones((*inputs.shape[:-1], 1), inputs.dtype)], axis=-1)


def network_score(network: TwoLayerNetwork) -> Callable[[np.ndarray], np.ndarray]:
    """f on points [G, 2] of the plane, of a network with a constant input."""
    return lambda points: np.asarray(scores(network, with_constant(jnp.asarray(points))))


def seed_keys(num_seeds: int) -> Array:
    """One key a seed [S], the same however many there are."""
    return jax.vmap(jax.random.key)(jnp.arange(num_seeds))


def train_arms(
    model: str,
    keys: Array,
    inputs: Array,
    signs: Array,
    weights: Array,
    *,
    num_steps: int,
    learning_rate: float = 0.1,
    per_decade: int = 8,
) -> Trajectory:
    r"""Trains every arm of every seed; the arms of a seed share data and initial parameters.

    The weights of an arm are divided by their mean, so that the arms differ in proportions alone.
    A step is :math:`0.1 / \max(1, L)` times the gradient: plain steps of 0.1 diverge from some
    starts, where the exponential loss is huge.

    Args:
      model: "linear" or "network".
      keys: [S].
      inputs: [S, N, D].
      signs: [S, N], labels in {-1, 1}.
      weights: [S, A, N], positive.
      num_steps: of gradient descent.
      learning_rate: the papers' 0.1.
      per_decade: logged steps per factor of ten.

    Returns:
      `Trajectory`, every array with leading axes [S, A].
    """

    def run(key: Array, inputs: Array, signs: Array, weights: Array) -> Trajectory:
        params = INITIALIZERS[model](key, inputs.shape[-1])
        return run_descent(
            lambda params: signs * scores(params, inputs),
            params,
            weights / jnp.mean(weights),
            num_steps=num_steps,
            learning_rate=learning_rate,
            step_rule="loss_capped",
            per_decade=per_decade,
        )

    over_arms = jax.vmap(run, (None, None, None, 0))
    return jax.jit(jax.vmap(over_arms))(keys, inputs, signs, weights)
