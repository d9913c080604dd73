"""Networks trained on images with a fixed weight per example, and what is read off along the way.

Axes: N examples, E records along training. One call is one pure function, to be vmapped over
weightings or over training sets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.networks.models import Model
from weighting import Batch, init_train_state, losses, make_train_step, per_example

PyTree = Any
CHUNK = 500  # images at a time outside of training


class Training(NamedTuple):
    """How a network is trained: SGD on batches of a fresh permutation every epoch."""

    model: str
    num_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    drops: tuple[float, ...] = ()  # shares of the epochs after which the rate falls to a tenth


def train(
    model: Model,
    training: Training,
    key: Array,
    inputs: Array,
    labels: Array,
    weights: Array,
    *,
    log_fn: Callable[[PyTree], PyTree] = lambda network: (),
    num_logs: int = 1,
) -> tuple[PyTree, PyTree]:
    r"""Minimizes :math:`\frac1N \sum_i w_i \ell_i`, cross-entropy, weights scaled to mean one.

    What is left of an epoch after its last whole batch is not used in it. The key sets initial
    parameters and batches, so that runs that differ in their weights alone share both.

    Args:
      model: the network.
      training: its settings; `model` is not read.
      key: of this run.
      inputs: [N, ...].
      labels: [N].
      weights: [N], not negative.
      log_fn: (parameters, model state) -> pytree, called after each of `num_logs` equal parts.
      num_logs: E; divides the number of epochs.

    Returns:
      The network, (parameters, model state), and the records stacked along a first axis [E].
    """
    size = training.batch_size
    num_batches = len(labels) // size
    if num_batches == 0 or training.num_epochs % num_logs:
        raise ValueError(
            f"{len(labels)} examples and {training.num_epochs} epochs do not give batches of {size}"
            f" and {num_logs} equal parts"
        )
    num_steps = training.num_epochs * num_batches
    rate = optax.piecewise_constant_schedule(
        training.learning_rate, {round(share * num_steps): 0.1 for share in training.drops}
    )
    optimizer = optax.chain(
        optax.add_decayed_weights(training.weight_decay),
        optax.sgd(rate, momentum=training.momentum or None),
    )
    weighting = per_example(weights)
    train_step = make_train_step(model.apply, losses.cross_entropy, weighting, optimizer)
    init_key, batch_key = jax.random.split(key)
    params, model_state = model.init(init_key, inputs[:1])
    state = init_train_state(key, params, weighting, optimizer, model_state=model_state)

    def step(state, chosen):
        batch = Batch(inputs[chosen], labels[chosen], indices=chosen)
        return train_step(state, batch)[0], None

    def epoch(state, number):
        order = jax.random.permutation(jax.random.fold_in(batch_key, number), len(labels))
        return jax.lax.scan(step, state, order[: num_batches * size].reshape(-1, size))[0], None

    def part(state, numbers):
        state, _ = jax.lax.scan(epoch, state, numbers)
        return state, log_fn((state.params, state.model_state))

    numbers = jnp.arange(training.num_epochs).reshape(num_logs, -1)
    state, logs = jax.lax.scan(part, state, numbers)
    return (state.params, state.model_state), logs


def logits_and_features(model: Model, network: PyTree, inputs: Array) -> tuple[Array, Any]:
    """Logits [N, C] and head inputs [N, D] of one network, `CHUNK` images at a time."""

    def at(chunk: Array) -> tuple[Array, Any]:
        output = model.apply(*network, chunk, train=False)[0]
        return output.logits, output.features

    size = min(CHUNK, len(inputs))
    whole = len(inputs) - len(inputs) % size
    parts = jax.lax.map(at, inputs[:whole].reshape(-1, size, *inputs.shape[1:]))
    first = jax.tree.map(lambda leaf: leaf.reshape(whole, -1), parts)
    if whole == len(inputs):
        return first
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, at(inputs[whole:]))
