"""A whole training run as one pure function, to be vmapped: for ensembles and cross-validation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.networks.models import Model
from weighting import Batch, Weighting, init_train_state, make_train_step, uniform

PyTree = Any
Fit = Callable[[Array, Array, Array, Array], PyTree]


def fit_network(
    model: Model,
    loss_fn: Callable[[Array, Array], Array],
    weighting: Weighting,
    optimizer: optax.GradientTransformation,
    key: Array,
    inputs: Array,
    labels: Array,
    *,
    draw_batches: Callable[[Array, Array], Array],
    num_rounds: int,
    num_logs: int = 1,
    log_fn: Callable[[PyTree], PyTree] = lambda network: (),
) -> tuple[PyTree, PyTree]:
    """Trains a network on batches that are drawn round by round.

    Args:
      model: the network.
      loss_fn: (logits, labels) -> losses [B].
      weighting: of the examples; it may read their indices.
      optimizer: of the parameters.
      key: sets the initial parameters and the batches, nothing else does.
      inputs: [N, ...].
      labels: [N].
      draw_batches: (key, number of the round) -> indices [T, B] of the round's batches.
      num_rounds: of T steps each.
      num_logs: E; divides `num_rounds`.
      log_fn: (parameters, model state) -> pytree, called after each of `num_logs` equal parts.

    Returns:
      The network, (parameters, model state), and the logs stacked along a first axis [E].
    """
    train_step = make_train_step(model.apply, loss_fn, weighting, optimizer)
    init_key, batch_key = jax.random.split(key)
    params, model_state = model.init(init_key, inputs[:1])
    state = init_train_state(key, params, weighting, optimizer, model_state=model_state)

    def step(state, chosen):
        batch = Batch(inputs[chosen], labels[chosen], indices=chosen)
        return train_step(state, batch)[0], None

    def one_round(state, number):
        return jax.lax.scan(step, state, draw_batches(batch_key, number))[0], None

    def part(state, numbers):
        state, _ = jax.lax.scan(one_round, state, numbers)
        return state, log_fn((state.params, state.model_state))

    numbers = jnp.arange(num_rounds).reshape(num_logs, -1)
    state, logs = jax.lax.scan(part, state, numbers)
    return (state.params, state.model_state), logs


def make_fit(
    model: Model,
    loss_fn: Callable[[Array, Array], Array],
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float = 0.9,
    num_snapshots: int = 1,
) -> Fit:
    """Returns fit(key, inputs [N, ...], labels [N], mask [N]) -> networks.

    Plain ERM by SGD with momentum on batches drawn with replacement from the unmasked examples. The
    networks are (parameters, model state) after each of `num_snapshots` equal parts of the steps,
    stacked along a leading axis.

    Raises:
      ValueError: if `num_snapshots` does not divide `num_steps`.
    """
    if num_steps % num_snapshots:
        raise ValueError(f"num_snapshots={num_snapshots} must divide num_steps={num_steps}")
    optimizer = optax.sgd(learning_rate, momentum=momentum or None)

    def fit(key: Array, inputs: Array, labels: Array, mask: Array) -> PyTree:
        kept_first = jnp.argsort(mask <= 0, stable=True)
        num_kept = jnp.sum(mask > 0)

        def draw(batch_key: Array, number: Array) -> Array:
            step_key = jax.random.fold_in(batch_key, number)
            return kept_first[jax.random.randint(step_key, (1, batch_size), 0, num_kept)]

        _, snapshots = fit_network(
            model,
            loss_fn,
            uniform(),
            optimizer,
            key,
            inputs,
            labels,
            draw_batches=draw,
            num_rounds=num_steps,
            num_logs=num_snapshots,
            log_fn=lambda network: network,
        )
        return snapshots

    return fit


def last(networks: PyTree) -> PyTree:
    """The last snapshot."""
    return jax.tree.map(lambda leaf: leaf[-1], networks)


def make_predict(model: Model) -> Callable[[PyTree, Array], Array]:
    """Returns predict(network, inputs) -> logits, of one network."""
    return lambda network, inputs: model.apply(*network, inputs, train=False)[0].logits
