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
from experiments.training.fitting import fit_network
from weighting import losses, per_example

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


def train_weighted(
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

    def epoch(batch_key: Array, number: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(batch_key, number), len(labels))
        return order[: num_batches * size].reshape(-1, size)

    return fit_network(
        model,
        losses.cross_entropy,
        per_example(weights),
        optimizer,
        key,
        inputs,
        labels,
        draw_batches=epoch,
        num_rounds=training.num_epochs,
        num_logs=num_logs,
        log_fn=log_fn,
    )


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
