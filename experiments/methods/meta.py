"""Records of schemes that ask a small clean set."""

from typing import Any

import jax
import optax
from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Option, Parameter
from weighting import Weighting


def _is_head(path: tuple[Any, ...]) -> bool:
    return "head" in jax.tree_util.keystr(path)


def _lookahead(context: Context, refresh_every: int, select: str) -> Weighting:
    del context
    return weighting.lookahead(
        refresh_every=refresh_every, select=_is_head if select == "head" else None
    )


def _unrolled(context: Context, learning_rate: float | Array, num_steps: int) -> Weighting:
    del context
    return weighting.lookahead_unrolled(optax.sgd(learning_rate), num_steps=num_steps)


def _cmw_net(context: Context, learning_rate: float | Array) -> Weighting:
    return weighting.cmw_net(
        context.class_counts, 3, learning_rate, clusters=context.references["size_clusters"]
    )


RECORDS = (
    SchemeRecord(
        weighting.lookahead,
        build=_lookahead,
        parameters=(Parameter("refresh_every", 1, is_count=True),),
        options=(Option("select", ("all", "head")),),
        family="meta",
        source="ren2018 Alg. 1",
        needs=("jacobian", "clean"),
        scale="mean one",
        suspect="low",
        color="#009E73",
        summary="one lookahead step on a clean batch, fast form; both settings approximate it",
    ),
    SchemeRecord(
        weighting.lookahead_unrolled,
        build=_unrolled,
        parameters=(
            Parameter("learning_rate", 0.1),
            Parameter("num_steps", 1, is_count=True),
        ),
        family="meta",
        source="ren2018 Alg. 1",
        needs=("losses at other parameters", "clean"),
        scale="mean one",
        suspect="low",
        is_compared=False,  # with one step it is lookahead
        summary="differentiates through virtual SGD steps",
    ),
    SchemeRecord(
        weighting.meta_weight_net,
        parameters=(Parameter("learning_rate", 0.1, tried=(0.1, 1.0)),),
        family="meta",
        source="Shu 2019",
        needs=("losses", "jacobian", "clean"),
        scale="mean one",
        suspect="low",
        from_authors="the code's virtual step has the learning rate of the training, whatever "
        "its momentum, and its weights are not normalized, `normalize=False`; its weight "
        "network's Adam has weight decay: "
        "`optimizer=optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-3))`",
        summary="a network of the loss, learned on clean examples",
    ),
    SchemeRecord(
        weighting.cmw_net,
        build=_cmw_net,
        parameters=(Parameter("learning_rate", 0.1, tried=(0.1, 1.0)),),
        family="meta",
        source="Shu 2022",
        needs=("losses", "labels", "jacobian", "counts", "clean"),
        references=("size_clusters",),
        scale="mean one",
        suspect="low",
        from_authors="the code's weight network has Adam at 1e-4 with weight decay 1e-5 and "
        "amsgrad, the default here is `optax.adam(1e-3)`: "
        "`optimizer=optax.chain(optax.add_decayed_weights(1e-5), optax.amsgrad(1e-4))`",
        summary="the same, with an output for small, middling and large classes",
    ),
    SchemeRecord(
        weighting.gradient_alignment,
        parameters=(
            Parameter("fraction", 0.5, tried=(0.25, 0.5)),
            Parameter("learning_rate", 0.1),
        ),
        family="selection",
        source="Wang 2024 (GREATS)",
        needs=("logits", "labels", "features", "jacobian", "clean"),
        scale="mean one",
        suspect="low",
        summary="greedy choice by effect on clean examples, less redundancy",
    ),
    SchemeRecord(
        weighting.rho_loss,
        build=lambda context, fraction: weighting.rho_loss(
            context.references["clean_losses"], fraction
        ),
        parameters=(Parameter("fraction", 0.1, tried=(0.1, 0.25)),),
        family="selection",
        source="Mindermann 2022",
        needs=("losses", "table"),
        references=("clean_losses",),
        scale="mean one",
        suspect="low",
        summary="keeps what is hard now but not for a network trained on clean data",
    ),
)
