r"""Lookahead's meta-gradient (ren2018, Algorithm 1, Eqs. 7-9, 12): five ways to the same scores.

At zero weights the clean loss G changes with the weight of example i by

.. math:: s_i = -\frac{\partial G(\hat\theta(\epsilon))}{\partial \epsilon_i}
              = \frac{\alpha}{n} \langle \nabla f_i(\theta), \nabla G(\theta) \rangle,

which for a dense network is a sum over layers and clean examples of products of the layers' inputs
and backpropagated signals. Here :math:`\alpha = 1`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from theory_checks.records import Check, Measured
from weighting import (
    Batch,
    fast_scores,
    init_train_state,
    linearize_losses,
    lookahead,
    lookahead_unrolled_weights,
    lookahead_weights,
    make_train_step,
    unrolled_scores,
    without_state,
)
from weighting.losses import cross_entropy

PyTree = Any

CLASSES = 3
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class MLP(nn.Module):
    """A dense network of `depth` layers."""

    depth: int
    activation: str
    bias: bool

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth - 1):
            x = ACTIVATIONS[self.activation](nn.Dense(7, use_bias=self.bias)(x))
        return nn.Dense(CLASSES, use_bias=self.bias)(x)


class ConvNet(nn.Module):
    """A convolution, average-pooling and a dense layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(4, (3, 3))(x))
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))


class BatchNormNet(nn.Module):
    """Batch norm on the batch's own statistics: each loss depends on the whole batch."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(7)(x))
        return nn.Dense(CLASSES)(nn.tanh(x))


class LookaheadProblem(NamedTuple):
    """A network at fixed parameters, a noisy batch and a clean batch."""

    params: PyTree
    losses_fn: Callable[[PyTree], Array]
    clean_loss_fn: Callable[[PyTree], Array]
    noisy: tuple[np.ndarray, np.ndarray]
    clean: tuple[np.ndarray, np.ndarray]


NETWORKS = (
    *(
        MLP(depth, activation, bias)
        for depth in (2, 3, 4, 5)
        for activation in ACTIVATIONS
        for bias in (True, False)
    ),
    ConvNet(),
    BatchNormNet(),
)


def checks(preset: str) -> list[Check]:
    """All claims; two networks for "smoke"."""
    if preset == "smoke":
        networks = (MLP(2, "relu", True), BatchNormNet())
        return [meta_gradient(networks=networks), normalization(num_points=3)]
    return [meta_gradient(), normalization()]


def _make_problem(
    module: nn.Module, *, seed: int = 0, batch_size: int = 16, num_clean: int = 5
) -> LookaheadProblem:
    """Random parameters and data in float64; call it where 64-bit arrays are on."""
    input_shape = (6, 6, 2) if isinstance(module, ConvNet) else (4,)
    rng = np.random.default_rng(seed)
    noisy, clean = (
        (rng.normal(size=(size, *input_shape)), rng.integers(0, CLASSES, size))
        for size in (batch_size, num_clean)
    )
    shapes = dict(jax.eval_shape(module.init, jax.random.key(0), noisy[0]))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))),
        shapes.pop("params"),
    )
    statistics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)  # never read

    def losses(params: PyTree, data: tuple[np.ndarray, np.ndarray]) -> Array:
        inputs, labels = map(jnp.asarray, data)
        outputs, _ = module.apply({"params": params, **statistics}, inputs, mutable=["batch_stats"])
        return cross_entropy(outputs, labels)

    return LookaheadProblem(
        params,
        lambda params: losses(params, noisy),
        lambda params: jnp.mean(losses(params, clean)),
        noisy,
        clean,
    )


def fast(problem: LookaheadProblem) -> Array:
    """The library's scores, one pass over the linearization."""
    linearized = linearize_losses(problem.losses_fn, problem.params)
    return fast_scores(linearized, jax.grad(problem.clean_loss_fn)(problem.params))


def _unrolled(problem: LookaheadProblem) -> Array:
    """Algorithm 1: automatic differentiation through the virtual step."""
    return unrolled_scores(problem.losses_fn, problem.params, problem.clean_loss_fn, optax.sgd(1.0))


def _from_ones(problem: LookaheadProblem) -> Array:
    """Algorithm 1 from weights of one instead of zero: a virtual step that goes somewhere."""
    return unrolled_scores(
        problem.losses_fn,
        problem.params,
        problem.clean_loss_fn,
        optax.sgd(1.0),
        initial_weights=jnp.ones(len(problem.noisy[1])),
    )


def _jacobian_rows(problem: LookaheadProblem) -> Array:
    """Inner products of explicit rows of the Jacobian with the clean gradient."""
    rows = jax.jacrev(problem.losses_fn)(problem.params)
    gradient = jax.grad(problem.clean_loss_fn)(problem.params)
    products = jax.tree.map(lambda row, v: jnp.tensordot(row, v, v.ndim), rows, gradient)
    leaves = jax.tree.leaves(products)
    return sum(leaves[1:], leaves[0]) / leaves[0].shape[0]


def _finite_differences(problem: LookaheadProblem, *, step: float = 1e-4) -> Array:
    """Central differences of the clean loss in each weight, through the virtual step."""

    def after_virtual_step(weights: Array) -> Array:
        gradient = jax.grad(lambda p: jnp.mean(weights * problem.losses_fn(p)))(problem.params)
        return problem.clean_loss_fn(jax.tree.map(jnp.subtract, problem.params, gradient))

    units = step * jnp.eye(len(problem.noisy[1]))
    ahead, behind = jax.lax.map(after_virtual_step, jnp.concatenate([units, -units])).reshape(2, -1)
    return (behind - ahead) / (2 * step)


def _layer_products(problem: LookaheadProblem, network: MLP) -> np.ndarray:
    r"""Eq. 12 in NumPy.

    .. math:: s_i = \frac{1}{nm} \sum_{j,l} (z_{j,l-1} \cdot z_{i,l-1} + b)(g_{j,l} \cdot g_{i,l})

    with z the layers' inputs, g the backpropagated signals, and b = 1 with biases, whose input is a
    constant one.
    """
    layers = [problem.params[f"Dense_{i}"] for i in range(len(problem.params))]
    noisy = _backpropagate(layers, problem.noisy, network.activation)
    clean = _backpropagate(layers, problem.clean, network.activation)
    products = sum(
        (z_noisy @ z_clean.T + network.bias) * (g_noisy @ g_clean.T)
        for (z_noisy, g_noisy), (z_clean, g_clean) in zip(noisy, clean, strict=True)
    )
    return np.mean(products, axis=1) / len(problem.noisy[1])


def _relative_difference(scores: Any, reference: Any) -> float:
    """Largest difference relative to the largest score."""
    reference = np.asarray(reference)
    return float(np.max(np.abs(np.asarray(scores) - reference)) / np.max(np.abs(reference)))


def meta_gradient(
    *,
    networks: tuple[nn.Module, ...] = NETWORKS,
    scores: Callable[[LookaheadProblem], Array] = fast,
    seed: int = 0,
) -> Check:
    """R-E12: all implementations give the same scores.

    Args:
      networks: where to compare; layer products for `MLP`s only.
      scores: the implementation under test.
      seed: of parameters and data.
    """
    peers = {
        "unrolled": (_unrolled, 1e-12),
        "rows": (_jacobian_rows, 1e-12),
        "differences": (_finite_differences, 1e-6),
    }
    rows = []
    with jax.enable_x64(True):
        for network in networks:
            problem = _make_problem(network, seed=seed)
            functions = [scores, *(function for function, _ in peers.values())]
            own, *others = _jit_all(functions, problem)
            for (peer, (_, bound)), other in zip(peers.items(), others, strict=True):
                difference = _relative_difference(other, own)
                rows.append(Measured(f"{_describe(network)}: {peer}", difference, bound))
            if isinstance(network, MLP):
                difference = _relative_difference(_layer_products(problem, network), own)
                rows.append(Measured(f"{_describe(network)}: layer products", difference, 1e-12))
        problem = _make_problem(networks[0], seed=seed)
        ahead, own = _jit_all([_from_ones, scores], problem)
        control = (
            Measured("virtual step from weights one", _relative_difference(ahead, own), 1e-12),
            Measured("the gradient dG / d epsilon itself", _relative_difference(-own, own), 1e-12),
            Measured(
                "scores per example (another 1 / n)",
                _relative_difference(own / len(own), own),
                1e-12,
            ),
        )
    return Check(
        "R-E12",
        "the fast scores are Algorithm 1's: differences relative to the largest score",
        "EXACT",
        tuple(rows),
        control=control,
    )


class Cancellation(NamedTuple):
    """What should cancel or vanish at some parameters, and what should not."""

    rates: Any  # largest difference in a weight, over inner learning rates
    scales: Any  # the same, over multiples of G
    mean: Any  # distance of the mean weight from one or zero
    negative: Any  # how many weights are
    rates_from_ones: Any  # as `rates`, where the virtual step starts at weights of one
    native_mean: Any  # distance of the mean from one, not normalized


def _cancellation(problem: LookaheadProblem, params: PyTree) -> Cancellation:
    losses_fn, clean_loss_fn = problem.losses_fn, problem.clean_loss_fn

    def at_rate(rate: Array) -> Array:
        return lookahead_unrolled_weights(losses_fn, params, clean_loss_fn, optax.sgd(rate))

    def at_scale(scale: Array) -> Array:
        return lookahead_weights(losses_fn, params, lambda p: scale * clean_loss_fn(p))

    def from_ones_at_rate(rate: Array) -> Array:
        return lookahead_unrolled_weights(
            losses_fn,
            params,
            clean_loss_fn,
            optax.sgd(rate),
            initial_weights=jnp.ones(len(problem.noisy[1])),
        )

    weights = lookahead_weights(losses_fn, params, clean_loss_fn)
    native = lookahead_weights(losses_fn, params, clean_loss_fn, normalize=False)
    ahead = jax.lax.map(from_ones_at_rate, jnp.array([1e-3, 0.1, 10.0]))
    by_rate = jax.lax.map(at_rate, jnp.array([1e-3, 0.1, 10.0]))
    by_scale = jax.lax.map(at_scale, jnp.array([1e-6, 0.1, 1e6]))
    mean = jnp.mean(weights)
    return Cancellation(
        jnp.max(jnp.abs(by_rate - weights[None])),
        jnp.max(jnp.abs(by_scale - weights[None])),
        jnp.minimum(jnp.abs(mean - 1), mean),
        jnp.sum(weights < 0).astype(mean.dtype),
        jnp.max(jnp.abs(ahead - weights[None])),
        jnp.abs(jnp.mean(native) - 1),
    )


def normalization(*, num_points: int = 20, seed: int = 0) -> Check:
    """R-E9: weights sum to n or zero; inner learning rate and scale of G cancel.

    Args:
      num_points: random parameters to compare at.
      seed: of parameters and data.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        problem = _make_problem(MLP(2, "tanh", True), seed=seed)
        cancellation = jax.jit(functools.partial(_cancellation, problem))
        points = (
            jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), problem.params)
            for _ in range(num_points)
        )
        found = np.array([cancellation(params) for params in points])
        guard = _opposing_batch()
    worst = Cancellation(*found.max(axis=0).tolist())
    rows = (
        Measured("inner learning rate 1e-3..10: difference in a weight", worst.rates, 1e-11),
        Measured("clean loss times 1e-6..1e6: difference in a weight", worst.scales, 1e-11),
        Measured("mean weight: distance from one or zero", worst.mean, 1e-12),
        Measured("negative weights", worst.negative, 0),
    )
    from_ones_name = "from weights one, rate 1e-3..10: difference in a weight"
    return Check(
        "R-E9",
        "weights average to one, or are all zero; scales of the virtual step and of G cancel",
        "EXACT",
        rows + guard,
        control=(
            Measured(from_ones_name, worst.rates_from_ones, 1e-11),
            Measured("not normalized, mean weight: distance from one", worst.native_mean, 1e-12),
        ),
    )


def _opposing_batch() -> tuple[Measured, ...]:
    """The guard, on a linear model: a batch that resembles the clean example but for its labels."""
    inputs = jnp.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    wrong, right = jnp.array([1, 1, 1]), jnp.array([0, 0, 0])
    params = jnp.array([[0.1, -0.2], [0.3, 0.0]])
    clean = Batch(inputs[:1], right[:1])

    def losses(params: Array, labels: Array) -> Array:
        return cross_entropy(inputs @ params, labels)

    @jax.jit
    def weights(params: Array, labels: Array) -> Array:
        return lookahead_weights(lambda p: losses(p, labels), params, lambda p: losses(p, right)[0])

    def change(optimizer: optax.GradientTransformation) -> float:
        """Largest change of a parameter in a step whose weights are zero, after one that moved."""
        apply_fn = without_state(lambda params, inputs: inputs @ params)
        step = jax.jit(make_train_step(apply_fn, cross_entropy, lookahead(), optimizer))
        state = init_train_state(jax.random.key(0), params, lookahead(), optimizer)
        state, _ = step(state, Batch(inputs, right, clean=clean))
        after, _ = step(state, Batch(inputs, wrong, clean=clean))
        return float(jnp.max(jnp.abs(after.params - state.params)))

    opposing, agreeing = weights(params, wrong), weights(params, right)
    mixed = weights(params, jnp.array([1, 0, 1])) - jnp.array([0.0, 3.0, 0.0])
    slope = jax.jit(jax.grad(lambda p: jnp.sum(weights(p, wrong))))(params)
    sgd, momentum = change(optax.sgd(0.1)), change(optax.sgd(0.1, momentum=0.9))
    return (
        Measured("opposing batch: weights that are not zero", float(jnp.sum(opposing != 0)), 0),
        Measured("opposing batch: infinite derivatives", float(jnp.sum(~jnp.isfinite(slope))), 0),
        Measured("agreeing batch: weights that are zero", float(jnp.sum(agreeing == 0)), 0),
        Measured("mixed batch: distance from (0, 3, 0)", float(jnp.max(jnp.abs(mixed))), 1e-12),
        Measured("zero weights, SGD: change of a parameter", sgd, 0),
        Measured("zero weights, momentum 0.9: change of a parameter", momentum),
    )


def _describe(network: nn.Module) -> str:
    if isinstance(network, MLP):
        bias = "bias" if network.bias else "no bias"
        return f"{network.activation}, depth {network.depth}, {bias}"
    return "convolutions" if isinstance(network, ConvNet) else "batch norm"


def _jit_all(
    functions: list[Callable[[LookaheadProblem], Array]], problem: LookaheadProblem
) -> list[Array]:
    """All functions of one problem, compiled together."""
    return jax.jit(lambda: [function(problem) for function in functions])()


def _backpropagate(
    layers: list[PyTree], data: tuple[np.ndarray, np.ndarray], activation: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each layer's inputs and the gradients of the losses by its outputs, in NumPy."""
    x, labels = data
    inputs, outputs = [], []
    for index, layer in enumerate(layers):
        inputs.append(x)
        z = x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0.0))
        outputs.append(z)
        if index < len(layers) - 1:
            x = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
    exponentials = np.exp(outputs[-1] - outputs[-1].max(axis=1, keepdims=True))
    signal = exponentials / exponentials.sum(axis=1, keepdims=True)
    signal[np.arange(len(labels)), labels] -= 1
    signals = [signal]
    for layer, z in zip(layers[:0:-1], outputs[-2::-1], strict=True):
        slope = 1 - np.tanh(z) ** 2 if activation == "tanh" else (z > 0).astype(z.dtype)
        signal = (signal @ np.asarray(layer["kernel"]).T) * slope
        signals.append(signal)
    return list(zip(inputs, signals[::-1], strict=True))
