"""How a network is trained: by the plain step, with a noise layer, or two teaching each other."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.networks.models import Model
from weighting import init_train_state, make_train_step
from weighting.training.co_teaching import init_co_teaching_state, make_co_teaching_step
from weighting.training.noise_layer import (
    confusion_transition,
    identity_transition,
    with_noise_layer,
)

PyTree = Any

PROCEDURES = {
    "plain": "one network, one step after the other",
    "noise_layer": "S-model: a trainable layer for the label noise, from the identity",
    "noise_layer_confusion": "S-model +CONF: from a reference network's confusion matrix",
    "co_teaching": "two networks weight each other's examples",
}


class Procedure(NamedTuple):
    """What a program needs; states have no leading axes in `init` and `make_step`."""

    # (network key, run key, example inputs, references, weighting, optimizer) -> state
    init: Callable[..., PyTree]
    # (loss_fn, weighting, optimizer) -> (state, batch) -> (state, metrics)
    make_step: Callable[..., Callable]
    # state [H, S] -> (parameters, model state) of the network that is evaluated
    network: Callable[[PyTree], tuple[PyTree, PyTree]]


def make_procedure(name: str, model: Model) -> Procedure:
    """The procedure of that name around a network."""
    model = procedure_model(name, model)
    if name == "co_teaching":
        return _co_teaching(model)
    if name == "plain":
        return _plain(model, lambda params, references: params)
    return _plain(model, functools.partial(_with_transition, name, model.num_outputs))


@functools.cache
def procedure_model(name: str, model: Model) -> Model:
    """The network as the procedure trains and evaluates it."""
    if name in ("plain", "co_teaching"):
        return model
    if model.num_outputs < 2:
        raise ValueError(f"procedure {name!r} needs one logit per class, that is, another loss")
    noisy = with_noise_layer(model.apply)

    def apply(params, model_state, inputs, *, train, key=None):
        return noisy(params, model_state, inputs, train=train, key=key)

    return model._replace(apply=apply)


def _plain(model: Model, extend: Callable[[PyTree, dict], PyTree]) -> Procedure:
    def init(network_key, run_key, example_inputs, references, weighting, optimizer):
        params, model_state = model.init(network_key, example_inputs)
        params = extend(params, references)
        return init_train_state(run_key, params, weighting, optimizer, model_state=model_state)

    def make_step(loss_fn, weighting, optimizer):
        return make_train_step(model.apply, loss_fn, weighting, optimizer)

    return Procedure(init, make_step, lambda state: (state.params, state.model_state))


def _with_transition(name: str, num_classes: int, params: PyTree, references: dict) -> PyTree:
    if name == "noise_layer":
        transition = identity_transition(num_classes)
    else:
        # Rows of the reference's matrix are given labels, columns what it calls them: its best
        # guess of the truth. The layer's rows are true classes.
        transition = confusion_transition(references["confusion"].T)
    return {"network": params, "transition": transition}


def _co_teaching(model: Model) -> Procedure:
    def init(network_key, run_key, example_inputs, references, weighting, optimizer):
        del references
        both = jax.vmap(model.init, (0, None))(jax.random.split(network_key), example_inputs)
        params, model_state = both
        return init_co_teaching_state(
            jax.random.split(run_key), params, weighting, optimizer, model_state=model_state
        )

    def make_step(loss_fn, weighting, optimizer):
        step = make_co_teaching_step(model.apply, loss_fn, weighting, optimizer)

        def step_and_report_the_first(state, batch):
            state, metrics = step(state, batch)
            return state, jax.tree.map(lambda leaf: leaf[0], metrics)

        return step_and_report_the_first

    def network(state):
        return jax.tree.map(
            lambda leaf: jnp.take(leaf, 0, axis=2), (state.params, state.model_state)
        )

    return Procedure(init, make_step, network)
