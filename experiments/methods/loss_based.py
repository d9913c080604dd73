"""Records of schemes that weight by the loss."""

import jax.numpy as jnp
from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Parameter
from weighting import Weighting


def _self_paced(context: Context, threshold: float | Array, growth: float | Array) -> Weighting:
    return weighting.scheduled(
        weighting.self_paced,
        threshold=lambda step: threshold * growth ** (step / context.steps_per_epoch),
    )


def _small_losses(
    context: Context, noise_rate: float | Array, gradual_epochs: float | Array
) -> Weighting:
    num_steps = jnp.maximum(gradual_epochs * context.steps_per_epoch, 1)
    rate = weighting.co_teaching_rate(noise_rate, num_steps)
    return weighting.scheduled(weighting.small_losses, keep_fraction=rate)


RECORDS = (
    SchemeRecord(
        weighting.focal,
        parameters=(Parameter("gamma", 2.0, tried=(1.0, 3.0)),),
        family="loss",
        source="Lin 2017 Eq. 4",
        needs=("logits", "labels"),
        scale="mean one",
        suspect="high",
        color="#CC79A7",
        summary="(1 - p)^gamma, constant in the backward pass",
    ),
    SchemeRecord(
        weighting.self_paced,
        build=_self_paced,
        parameters=(
            Parameter("threshold", 1.0, tried=(2.5, 4.0)),
            Parameter("growth", 1.1, tried=(1.05,)),
        ),
        family="loss",
        source="Kumar 2010",
        needs=("losses",),
        scale="mean one",
        suspect="low",
        color="#56B4E9",
        summary="keeps losses below a threshold that grows every epoch",
    ),
    SchemeRecord(
        weighting.paced_self_paced,
        build=lambda context, growth: weighting.paced_self_paced(
            max(round(context.steps_per_epoch), 1), growth
        ),
        parameters=(Parameter("growth", 1.1, tried=(1.1, 1.3)),),
        family="curriculum",
        source="Kumar 2010, own pace",
        needs=("losses",),
        scale="mean one",
        suspect="low",
        summary="self-paced from the first epoch's median loss",
    ),
    SchemeRecord(
        weighting.hard_mining,
        build=lambda context: weighting.hard_mining(jnp.argmax(context.class_counts)),
        family="loss",
        source="ren2018 4.1",
        needs=("losses", "labels"),
        scale="mean one",
        suspect="high",
        color="#D55E00",
        summary="the minority, and as many of the majority's highest losses",
    ),
    SchemeRecord(
        weighting.top_losses,
        parameters=(Parameter("fraction", 0.5, tried=(0.5, 0.8)),),
        family="loss",
        source="Shrivastava 2016",
        needs=("losses",),
        scale="mean one",
        suspect="high",
        color="#A23B00",
        summary="keeps a fraction of the batch with the highest losses",
    ),
    SchemeRecord(
        weighting.small_losses,
        build=_small_losses,
        parameters=(
            Parameter("noise_rate", 0.2, tried=(0.2, 0.4)),
            Parameter("gradual_epochs", 10.0),
        ),
        family="loss",
        source="Han 2018, Wang 2021",
        needs=("losses",),
        scale="mean one",
        suspect="low",
        summary="keeps the lowest losses, a fraction that falls to 1 - noise rate",
    ),
    SchemeRecord(
        weighting.mentornet_curriculum,
        parameters=(Parameter("quantile", 0.75, tried=(0.6, 0.75)), Parameter("ramp", 0.0)),
        family="curriculum",
        source="Jiang 2018",
        needs=("losses",),
        scale="mean one",
        suspect="low",
        summary="MentorNet's predefined curriculum: drops losses above a moving quantile",
    ),
)
