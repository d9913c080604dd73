"""How a network is trained: by the plain step, with a noise layer, or two teaching each other."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.methods.records import Kind, LibraryRecord, RecipeRecord, Record
from experiments.networks.models import Model
from experiments.tools.grammar import Option
from weighting import init_train_state, make_selective_train_step, make_train_step
from weighting.schemes.mentornet import train_mentor
from weighting.training.co_teaching import init_co_teaching_state, make_co_teaching_step
from weighting.training.noise_layer import (
    confusion_transition,
    identity_transition,
    with_noise_layer,
)

PyTree = Any


class Procedure(NamedTuple):
    """What a program needs; states have no leading axes in `init` and `make_step`."""

    # (network key, run key, example inputs, references, weighting, optimizer) -> state
    init: Callable[..., PyTree]
    # (loss_fn, weighting, optimizer) -> (state, batch) -> (state, metrics)
    make_step: Callable[..., Callable]
    # state [H, S] -> (parameters, model state) of the network that is evaluated
    network: Callable[[PyTree], tuple[PyTree, PyTree]]


@dataclass(frozen=True, eq=False)
class ProcedureRecord(Record):
    """A way of training of the command line."""

    _: KW_ONLY
    kind: Kind = "procedure"
    build: Callable[..., Procedure]
    """(network, **settings) -> procedure, of the network as it is trained."""
    as_trained: Callable[[Model], Model] = lambda model: model
    """The network as the procedure trains and evaluates it."""
    known: Mapping[str, tuple[str, ...]] | None = None
    """Which choice asks for which references."""
    tried_with: str = "uniform"
    """The scheme by whose values a budget of tuning varies it."""

    def known_before(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The references that it asks for with these settings."""
        return tuple(
            name for value in settings.values() for name in (self.known or {}).get(value, ())
        )


def plain(model: Model) -> Procedure:
    """One network, one step after the other."""
    return _one_network(model, lambda params, references: params)


def _one_network(model: Model, extend: Callable[[PyTree, dict], PyTree]) -> Procedure:
    def init(network_key, run_key, example_inputs, references, weighting, optimizer):
        params, model_state = model.init(network_key, example_inputs)
        params = extend(params, references)
        return init_train_state(run_key, params, weighting, optimizer, model_state=model_state)

    def make_step(loss_fn, weighting, optimizer):
        return make_train_step(model.apply, loss_fn, weighting, optimizer)

    return Procedure(init, make_step, lambda state: (state.params, state.model_state))


def _noise_layer(model: Model, start: str) -> Procedure:
    def extend(params: PyTree, references: dict) -> PyTree:
        if start == "identity":
            transition = identity_transition(model.num_outputs)
        else:
            # Rows of the reference's matrix are given labels, columns what it calls them: its best
            # guess of the truth. The layer's rows are true classes.
            transition = confusion_transition(references["confusion"].T)
        return {"network": params, "transition": transition}

    return _one_network(model, extend)


def _noisy(model: Model) -> Model:
    if model.num_outputs < 2:
        raise ValueError(
            "procedure 'with_noise_layer' needs one logit per class, that is, another loss"
        )
    noisy = with_noise_layer(model.apply)

    def apply(params, model_state, inputs, *, train, key=None):
        return noisy(params, model_state, inputs, train=train, key=key)

    return model._replace(apply=apply)


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


PLAIN = ProcedureRecord(
    plain,
    build=plain,
    family="",
    source="",
    summary="one network, one step after the other",
)
RECORDS = (
    ProcedureRecord(
        with_noise_layer,
        build=_noise_layer,
        as_trained=_noisy,
        options=(Option("start", ("identity", "confusion"), is_compared=True),),
        known={"confusion": ("confusion",)},
        family="known noise",
        source="Goldberger 2017, ren2018 4.2 (S-MODEL, S-MODEL +CONF)",
        needs=("logits", "labels"),
        summary="S-model: a matrix of the noise trained with the network, from the identity or "
        "from a reference network's confusion matrix",
    ),
    ProcedureRecord(
        make_co_teaching_step,
        build=_co_teaching,
        tried_with="small_losses",
        family="two networks",
        source="Han 2018 Alg. 1",
        needs=("two networks",),
        scale="the scheme's",
        from_authors="the code divides the sum over the kept examples by their number twice, so "
        "that its learning rate is this one's times the number kept (Adam hardly sees it), and "
        "its drop rate rises once an epoch, here every step",
        summary="either network's weights come from the other",
    ),
    LibraryRecord(
        train_mentor,
        kind="procedure",
        family="learned",
        source="Jiang 2018",
        needs=("features", "targets"),
        summary="teaches a mentor network a curriculum, or who is clean",
    ),
    LibraryRecord(
        make_selective_train_step,
        kind="procedure",
        family="selection",
        source="Katharopoulos 2018, Mindermann 2022",
        needs=("a large batch",),
        scale="mean over the selected",
        summary="scores a large batch by a forward pass, trains on a part",
    ),
)
CLEAN_ONLY = RecipeRecord(
    "clean_only",
    settings="--num-steps 0 --fine-tune-steps N",
    source="ren2018 4.2 (CLEAN ONLY)",
    needs=("clean",),
    color="#B8A100",
    summary="trains on the clean set alone",
)
RECIPES = (
    RecipeRecord(
        "fine-tuning",
        settings="--fine-tune-steps N",
        source="ren2018 4.2 (+FT)",
        needs=("clean",),
        summary="further steps on the clean set, unweighted",
    ),
    RecipeRecord(
        "early stopping",
        settings="a row of the tables",
        source="ren2018 4.2 (+ES)",
        needs=("validation set",),
        summary="the evaluation that is best on validation data",
    ),
    CLEAN_ONLY,
)
