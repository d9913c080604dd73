"""Records of schemes that weight classes, or groups."""

import jax.numpy as jnp
from jax import Array

import weighting
from experiments.methods.context import Context
from experiments.methods.records import LibraryRecord, SchemeRecord
from experiments.tools.grammar import Parameter
from weighting import Weighting


def _true_priors(context: Context) -> Array:
    """P(true class), from the given labels' frequencies and the known noise."""
    given = context.class_counts / jnp.sum(context.class_counts)
    solution = jnp.linalg.solve(context.references["transition"].T, given)
    return jnp.maximum(solution, 0) / jnp.sum(jnp.maximum(solution, 0))


def _group_dro(context: Context, step_size: float | Array, adjustment: float | Array) -> Weighting:
    return weighting.group_dro(
        len(context.class_counts),
        step_size,
        group_counts=context.positive_counts,
        adjustment=adjustment,
    )


RECORDS = (
    SchemeRecord(
        weighting.inverse_class_frequency,
        build=lambda context: weighting.inverse_class_frequency(context.class_counts),
        family="class",
        source="ren2018 4.1 (PROPORTION), santiago2021 (bCE)",
        needs=("labels", "counts"),
        scale="mean one over the set",
        suspect=None,
        color="#E69F00",
        summary="inverse class frequency",
    ),
    SchemeRecord(
        weighting.class_power,
        build=lambda context, rho: weighting.class_power(context.positive_counts, rho),
        parameters=(Parameter("rho", 0.5, tried=(0.5, 0.75)),),
        family="class",
        source="DisAlign (Zhang 2021), zhou2022 2.3 (G-RW)",
        needs=("labels", "counts"),
        scale="mean one over the set",
        suspect=None,
        summary="a power of inverse frequency: 0 equal, 1/2 square root, 1 inverse",
    ),
    SchemeRecord(
        weighting.effective_number,
        build=lambda context, beta: weighting.effective_number(context.positive_counts, beta),
        parameters=(Parameter("beta", 0.99, tried=(0.9, 0.99)),),
        family="class",
        source="Cui 2019 Eq. 2",
        needs=("labels", "counts"),
        scale="mean one over the set",
        suspect=None,
        from_authors="the code's weights sum to C over the classes and stay so, these average "
        "to one over the training set; multiply the learning rate by the mean of the code's, "
        "the sum of n_c w_c / N",
        summary="inverse effective number of samples",
    ),
    LibraryRecord(
        weighting.class_weights,
        kind="scheme",
        family="class",
        source="xu2021 Figs. 2-3, zhou2022 Figs. 4-6",
        needs=("labels",),
        scale="mean one over the set",
        summary="weights of the classes by hand",
    ),
    SchemeRecord(
        weighting.group_dro,
        build=_group_dro,
        parameters=(
            Parameter("step_size", 0.01, tried=(0.01, 0.1)),
            Parameter("adjustment", 0.0),
        ),
        family="robust",
        source="Sagawa 2020 Alg. 1",
        needs=("losses", "labels", "history"),
        scale="mean one",
        suspect=None,
        from_authors="`generalization_adjustment` is `adjustment` and the code grants it to "
        "groups that a batch lacks, too; its scale is `normalize=False` in Python",
        summary="groups (here the classes) with large losses gain",
    ),
    SchemeRecord(
        weighting.oracle_noise,
        build=lambda context: weighting.oracle_noise(
            context.references["transition"], _true_priors(context)
        ),
        family="class",
        source="ren2018 4.2 (WEIGHTED)",
        needs=("labels", "noise matrix"),
        references=("transition",),
        scale="mean one",
        suspect="low",
        summary="P(the label is clean) under known noise",
    ),
)
