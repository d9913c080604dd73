"""Records of schemes that start from a table: a network trained before, or the truth."""

import jax.numpy as jnp
from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import LibraryRecord, SchemeRecord
from experiments.tools.grammar import Parameter
from weighting import Weighting, per_example


def _curriculum(
    context: Context, share: float | Array, initial_fraction: float | Array
) -> Weighting:
    num_steps = jnp.maximum(share * context.num_steps, 1)
    return weighting.curriculum(context.references["difficulty"], num_steps, initial_fraction)


def _difficulty(context: Context, strength: float | Array, bound: float | Array) -> Weighting:
    weights = weighting.difficulty_weights(
        context.references["difficulty"], map="rank", strength=strength, bounds=(1 / bound, bound)
    )
    return per_example(weights)


def _inverse_margins(context: Context, bound: float | Array) -> Weighting:
    margins = context.references["margins"]
    return per_example(weighting.inverse_margin_weights(margins, bound=bound))


def _small_margins(context: Context, quantile: float | Array, value: float | Array) -> Weighting:
    margins = context.references["margins"]
    return per_example(weighting.small_margin_weights(margins, quantile, value))


def _jtt(context: Context, upweight: float | Array) -> Weighting:
    return per_example(weighting.jtt_weights(context.references["errors"], upweight))


def _known_examples(context: Context, value: float | Array) -> Weighting:
    return per_example(weighting.known_examples_weights(context.references["is_corrupted"], value))


RECORDS = (
    SchemeRecord(
        weighting.curriculum,
        build=_curriculum,
        parameters=(
            Parameter("share", 0.5, tried=(0.5, 1.0)),
            Parameter("initial_fraction", 0.2),
        ),
        family="curriculum",
        source="Bengio 2009, Platanios 2019",
        needs=("table",),
        references=("difficulty",),
        scale="mean one",
        suspect="low",
        summary="the easiest fraction of the training set, growing",
    ),
    SchemeRecord(
        weighting.difficulty_weights,
        build=_difficulty,
        parameters=(
            Parameter("strength", 1.0, tried=(-1.0, 1.0)),
            Parameter("bound", 20.0),
        ),
        family="difficulty",
        source="zhou2022 Secs. 2.1, 4",
        needs=("table",),
        references=("difficulty",),
        scale="mean one over the set, in [b, B]",
        suspect=lambda strength, bound: strength,
        summary="power, exponential, rank or inverse of a difficulty; on the command line the rank "
        "of K-fold generalization errors",
    ),
    SchemeRecord(
        weighting.jtt_weights,
        build=_jtt,
        parameters=(Parameter("upweight", 3.0, tried=(3.0, 10.0)),),
        family="table",
        source="Liu 2021 Alg. 1",
        needs=("table",),
        references=("errors",),
        scale="mean one over the set",
        suspect=lambda upweight: upweight - 1,
        from_authors="`--up_weight k` appends k copies to the original, `upweight` = k + 1; the "
        "copies lengthen an epoch, here the weights average to one",
        summary="Just Train Twice: a first network's errors gain",
    ),
    SchemeRecord(
        weighting.inverse_margin_weights,
        build=_inverse_margins,
        parameters=(Parameter("bound", 20.0, tried=(5.0, 20.0)),),
        family="margin",
        source="xu2021 Fig. 2, zhou2022 Fig. 4",
        needs=("table",),
        references=("margins",),
        scale="mean one over the set, in [1/M, M]",
        suspect="high",
        summary="1 / margin of a reference network",
    ),
    SchemeRecord(
        weighting.small_margin_weights,
        build=_small_margins,
        parameters=(
            Parameter("quantile", 0.1),
            Parameter("value", 2.0, tried=(2.0, 5.0)),
        ),
        family="margin",
        source="zhou2022 Fig. 5b",
        needs=("table",),
        references=("margins",),
        scale="mean one over the set",
        suspect=lambda quantile, value: value - 1,
        summary="v on the smallest margins of a reference network",
    ),
    SchemeRecord(
        weighting.known_examples_weights,
        build=_known_examples,
        parameters=(Parameter("value", 0.0, tried=(0.0, 0.1)),),
        family="table",
        source="zhou2022 Figs. 4e-f, 5a",
        needs=("table",),
        references=("is_corrupted",),
        scale="mean one over the set",
        suspect=None,
        summary="v on the examples known to be noisy",
    ),
    LibraryRecord(
        weighting.per_example,
        kind="scheme",
        family="table",
        source="xu2021 Sec. 2",
        needs=("table",),
        scale="mean one over the set",
        summary="fixed weights by position in the training set",
    ),
    LibraryRecord(
        weighting.inverse_propensity,
        kind="scheme",
        family="shift",
        source="Horvitz 1952, xu2021 Sec. 1",
        needs=("table",),
        scale="mean one",
        summary="one over the probability of being observed",
    ),
)
