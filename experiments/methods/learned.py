"""Records of schemes whose weights a second network gives."""

from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Parameter
from weighting import Weighting


def _mentornet(context: Context, quantile: float | Array) -> Weighting:
    return weighting.mentornet(
        context.references["mentor"],
        context.num_examples,
        max(context.num_steps, 1),
        quantile=quantile,
    )


RECORDS = (
    SchemeRecord(
        weighting.mentornet,
        build=_mentornet,
        parameters=(Parameter("quantile", 0.75, tried=(0.6, 0.75)),),
        family="learned",
        source="Jiang 2018",
        needs=("losses", "labels", "history"),
        references=("mentor",),
        scale="mean one",
        suspect="low",
        from_authors="`burn_in_epoch` k (of 100) is `burn_in` = (k - 1) / 100, 0.17 for the "
        "code's 18; the mentor's parameters cannot be carried over, as it reads the LSTM's cell "
        "state, not its hidden state",
        summary="a mentor network of the loss's history, trained before",
    ),
    SchemeRecord(
        weighting.joint_weighting,
        build=lambda context, high: weighting.joint_weighting(context.input_size, high=high),
        parameters=(Parameter("high", 2.0, tried=(2.0, 4.0)),),
        family="learned",
        source="xu2021 Eq. 4",
        needs=("inputs", "losses"),
        scale="bounded",
        suspect="low",
        summary="a bounded function of the input, trained with the network on one objective",
    ),
)
