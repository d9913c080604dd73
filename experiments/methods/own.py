"""Records of schemes and losses of one's own: in a file, or in an installed package."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.methods.records import LossFn, LossRecord, SchemeRecord
from experiments.tools.plug_ins import PlugIn, find_plug_in, installed
from weighting import Weighting

SCHEME_GROUP = "sample_weighting.schemes"
LOSS_GROUP = "sample_weighting.losses"


@functools.cache
def own_scheme(name: str) -> SchemeRecord | None:
    """The record of a factory `(numbers...) -> Weighting`, if there is one of that name.

    A factory whose scheme reads `clean_loss_fn` says so: `my_scheme.needs_clean = True`.
    """
    plug_in = find_plug_in(name, SCHEME_GROUP, given=0)
    if plug_in is None:
        return None
    return SchemeRecord(
        plug_in.function,
        build=lambda context, **numbers: _scheme(plug_in, numbers),
        parameters=plug_in.parameters,
        family="own",
        source=plug_in.place,
        needs=("clean",) if getattr(plug_in.function, "needs_clean", False) else (),
        suspect=None,
        is_compared=False,
        summary=plug_in.summary,
    )


@functools.cache
def own_loss(name: str) -> LossRecord | None:
    """The record of a loss `(logits, labels, numbers...) -> [B]`, if there is one of that name."""
    plug_in = find_plug_in(name, LOSS_GROUP, given=2)
    if plug_in is None:
        return None
    return LossRecord(
        plug_in.function,
        build=lambda context, **numbers: _loss(plug_in, numbers),
        parameters=plug_in.parameters,
        family="own",
        source=plug_in.place,
        needs=("logits", "labels"),
        is_compared=False,
        summary=plug_in.summary,
    )


def installed_schemes() -> dict[str, SchemeRecord]:
    """The records of what installed packages add."""
    found = {name: own_scheme(name) for name in installed(SCHEME_GROUP)}
    return {name: record for name, record in found.items() if record is not None}


def installed_losses() -> dict[str, LossRecord]:
    """The records of what installed packages add."""
    found = {name: own_loss(name) for name in installed(LOSS_GROUP)}
    return {name: record for name, record in found.items() if record is not None}


def _scheme(plug_in: PlugIn, numbers: dict[str, Any]) -> Weighting:
    own = plug_in.call(**numbers)
    if not isinstance(own, Weighting):
        raise plug_in.refuse(
            f"must return a Weighting (`weighting.stateless` makes one); got {_show(own)}"
        )

    def init(key, params):
        with plug_in.pointing_at():
            return own.init(key, params)

    def update(weights, state, signals, **keywords):
        with plug_in.pointing_at():
            result = own.update(weights, state, signals, **keywords)
        if not isinstance(result, tuple) or len(result) != 2:
            raise plug_in.refuse(f"must update to (weights, state); got {_show(result)}")
        new_weights, new_state = result
        if jnp.shape(new_weights) != weights.shape:
            raise plug_in.refuse(
                f"must give weights of shape {weights.shape}, one for every example of the batch; "
                f"got {_show(new_weights)}"
            )
        before, after = (jax.tree.map(_show, tree) for tree in (state, new_state))
        if before != after:
            raise plug_in.refuse(f"must keep its state as it is, {before}; got {after}")
        return new_weights, new_state

    return Weighting(init, update)


def _loss(plug_in: PlugIn, numbers: dict[str, Any]) -> LossFn:
    def loss_fn(logits: Array, labels: Array) -> Array:
        losses = plug_in.call(logits, labels, **numbers)
        if jnp.shape(losses) != labels.shape:
            raise plug_in.refuse(
                f"must give losses of shape {labels.shape}, one for every example of the batch; "
                f"got {_show(losses)}"
            )
        return losses

    return loss_fn


def _show(value: Any) -> str:
    """An array's type and shape, or another value's type."""
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"
