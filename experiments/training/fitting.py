"""A whole training run as one pure function, to be vmapped: for ensembles and cross-validation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.networks.models import Model
from weighting import Batch, init_train_state, make_train_step, uniform

PyTree = Any
Fit = Callable[[Array, Array, Array, Array], PyTree]


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
    train_step = make_train_step(model.apply, loss_fn, uniform(), optimizer)

    def fit(key: Array, inputs: Array, labels: Array, mask: Array) -> PyTree:
        init_key, batch_key = jax.random.split(key)
        params, model_state = model.init(init_key, inputs[:1])
        state = init_train_state(key, params, uniform(), optimizer, model_state=model_state)
        kept_first = jnp.argsort(mask <= 0, stable=True)
        num_kept = jnp.sum(mask > 0)

        def step(state, number):
            step_key = jax.random.fold_in(batch_key, number)
            chosen = kept_first[jax.random.randint(step_key, (batch_size,), 0, num_kept)]
            state, _ = train_step(state, Batch(inputs[chosen], labels[chosen]))
            return state, None

        def part(state, numbers):
            state, _ = jax.lax.scan(step, state, numbers)
            return state, (state.params, state.model_state)

        numbers = jnp.arange(num_steps).reshape(num_snapshots, -1)
        return jax.lax.scan(part, state, numbers)[1]

    return fit


def last(networks: PyTree) -> PyTree:
    """The last snapshot."""
    return jax.tree.map(lambda leaf: leaf[-1], networks)


def make_predict(model: Model) -> Callable[[PyTree, Array], Array]:
    """Returns predict(network, inputs) -> logits, of one network."""
    return lambda network, inputs: model.apply(*network, inputs, train=False)[0].logits
