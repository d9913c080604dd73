"""How a network is trained: by the plain step, with a noise layer, or two teaching each other."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.models import Model
from weighting import init_train_state, make_train_step

PyTree = Any

PROCEDURES = ("plain", "noise_layer", "noise_layer_confusion", "co_teaching")


class Procedure(NamedTuple):
    """What a program needs; states have no leading axes here."""

    # (network key, run key, example inputs, references, weighting, optimizer) -> state
    init: Callable[..., PyTree]
    # (loss_fn, weighting, optimizer) -> (state, batch) -> (state, metrics)
    make_step: Callable[..., Callable]
    # state -> (parameters, model state) of the network that is evaluated; leading axes allowed
    network: Callable[[PyTree], tuple[PyTree, PyTree]]


def make_procedure(name: str, model: Model) -> Procedure:
    """The procedure of that name around a network."""
    return _plain(procedure_model(name, model))


@functools.cache
def procedure_model(name: str, model: Model) -> Model:
    """The network as the procedure trains and evaluates it."""
    return model


def _plain(model: Model) -> Procedure:
    def init(network_key, run_key, example_inputs, references, weighting, optimizer):
        params, model_state = model.init(network_key, example_inputs)
        return init_train_state(run_key, params, weighting, optimizer, model_state=model_state)

    def make_step(loss_fn, weighting, optimizer):
        return make_train_step(model.apply, loss_fn, weighting, optimizer)

    return Procedure(init, make_step, lambda state: (state.params, state.model_state))
