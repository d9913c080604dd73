"""Models trained on many random training sets at once, for the checks of zhou2022.

zhou2022 is Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal
Difficulty Measure", ECML-PKDD 2022, arXiv:2301.04850.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array

STANDARD_ERRORS = 4.0


class TanhNetwork(NamedTuple):
    """One hidden layer of tanh units, so that the outputs are smooth in the inputs."""

    hidden: Array  # [D + 1, H], the last row for a constant input
    output: Array  # [H, C]


def outputs(network: TanhNetwork, inputs: Array) -> Array:
    """[..., D] -> [..., C]."""
    one = jnp.ones((*inputs.shape[:-1], 1), inputs.dtype)
    return jnp.tanh(jnp.concatenate([inputs, one], axis=-1) @ network.hidden) @ network.output


ensemble_outputs = jax.jit(jax.vmap(outputs, (0, None)))  # R networks, [N, D] -> [R, N, C]


@functools.partial(jax.jit, static_argnames=("loss_fn", "num_outputs", "width", "num_steps"))
def train_networks(
    loss_fn: Callable[[Array, Array], Array],
    inputs: Any,
    targets: Any,
    seed: int,
    *,
    num_outputs: int = 1,
    width: int = 8,
    num_steps: int = 200,
    learning_rate: float = 0.5,
) -> TanhNetwork:
    """R networks by gradient descent on the mean loss, each on its own training set.

    Args:
      loss_fn: (outputs [n, C], targets [n]) -> losses [n].
      inputs: [R, n, D].
      targets: [R, n].
      seed: of the random initializations.
      num_outputs: C.
      width: hidden units.
      num_steps: gradient steps.
      learning_rate: of the descent.
    """

    def train(key: Array, x: Array, y: Array) -> TanhNetwork:
        first, second = jax.random.split(key)
        network = TanhNetwork(
            jax.random.normal(first, (x.shape[1] + 1, width), x.dtype),
            jax.random.normal(second, (width, num_outputs), x.dtype) / width**0.5,
        )

        def step(network: TanhNetwork, _: None) -> tuple[TanhNetwork, None]:
            gradient = jax.grad(lambda net: jnp.mean(loss_fn(outputs(net, x), y)))(network)
            return jax.tree.map(lambda p, g: p - learning_rate * g, network, gradient), None

        return jax.lax.scan(step, network, None, length=num_steps)[0]

    return jax.vmap(train)(jax.random.split(jax.random.key(seed), len(inputs)), inputs, targets)


def z_score(draws: np.ndarray, expected: Any, axis: int = 0) -> float:
    """Largest distance of the draws' means from the expected ones, in standard errors."""
    error = draws.std(axis=axis, ddof=1) / np.sqrt(draws.shape[axis])
    return float(np.max(np.abs(draws.mean(axis=axis) - expected) / error))


def power_law(sizes: np.ndarray, values: Any) -> tuple[float, float]:
    """Power of the sizes in the values, and half of its 95 % interval."""
    line: Any = scipy.stats.linregress(np.log(sizes), np.log(values))
    return float(line.slope), float(scipy.stats.t.ppf(0.975, len(sizes) - 2) * line.stderr)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    result: Any = scipy.stats.spearmanr(a, b)
    return float(result.statistic)
