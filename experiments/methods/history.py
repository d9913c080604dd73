"""Records of schemes that remember what an example did before."""

from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Option, Parameter
from weighting import Weighting


def _active_bias(context: Context, smoothing: float | Array, form: str) -> Weighting:
    return weighting.active_bias(context.num_examples, form=form, smoothing=smoothing)


RECORDS = (
    SchemeRecord(
        weighting.active_bias,
        build=_active_bias,
        parameters=(Parameter("smoothing", 0.1, tried=(0.02, 0.1)),),
        options=(Option("form", ("variance", "threshold"), is_compared=True),),
        family="history",
        source="Chang 2017",
        needs=("logits", "labels", "history"),
        scale="mean one",
        suspect=None,
        summary="uncertain past predictions gain, by their variance or their closeness to the "
        "threshold",
    ),
    SchemeRecord(
        weighting.loss_rank,
        build=lambda context, pressure: weighting.loss_rank(context.num_examples, pressure),
        parameters=(Parameter("pressure", 100.0, tried=(3.0, 30.0)),),
        family="history",
        source="Loshchilov 2015",
        needs=("losses", "history"),
        scale="mean one",
        suspect="high",
        summary="by the rank of the latest loss",
    ),
    SchemeRecord(
        weighting.infobatch,
        build=lambda context, prune: weighting.infobatch(
            context.num_examples, max(context.num_steps, 1), prune=prune
        ),
        parameters=(Parameter("prune", 0.5, tried=(0.3, 0.6)),),
        family="history",
        source="Qin 2024",
        needs=("losses", "history"),
        scale="one in expectation",
        suspect=None,
        summary="drops easy examples at random and scales up the rest",
    ),
)
