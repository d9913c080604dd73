"""Records of the losses: their gradients weight examples by themselves."""

import functools
from collections.abc import Callable

from jax import Array

from experiments.methods.context import Context
from experiments.methods.records import LossFn, LossRecord
from experiments.tools.grammar import Option, Parameter
from weighting import losses


def _with_counts(loss: Callable[..., Array]) -> Callable[..., LossFn]:
    """Builds a loss that reads the class counts."""

    def build(context: Context, **settings: float | Array) -> LossFn:
        return functools.partial(loss, class_counts=context.positive_counts, **settings)

    return build


def _with_transition(loss: Callable[..., Array]) -> Callable[..., LossFn]:
    """Builds a loss that knows how labels are corrupted."""
    return lambda context: functools.partial(loss, transition=context.references["transition"])


def _distillation(context: Context, alpha: float | Array, temperature: float | Array) -> LossFn:
    teacher = context.references["logits"][context.indices]
    return functools.partial(
        losses.distillation, teacher_logits=teacher, alpha=alpha, temperature=temperature
    )


RECORDS = (
    LossRecord(
        losses.cross_entropy,
        family="basic",
        source="all four papers",
        needs=("logits", "labels"),
        is_compared=False,  # every scheme is compared with it
        summary="softmax cross-entropy",
    ),
    LossRecord(
        losses.focal,
        parameters=(Parameter("gamma", 2.0, tried=(1.0, 3.0)), Parameter("alpha", 1.0)),
        family="basic",
        source="Lin 2017",
        needs=("logits", "labels"),
        from_authors="a scalar `alpha` only scales the learning rate; RetinaNet's 0.25 for "
        "positives and 0.75 for negatives is `alpha=jnp.array([0.75, 0.25])` in Python",
        summary="focal loss, differentiated through its factor",
    ),
    LossRecord(
        losses.logistic,
        family="basic",
        source="xu2021 Sec. 2",
        needs=("score", "labels"),
        is_multiclass=False,
        is_compared=False,
        summary="logistic loss of the margin",
    ),
    LossRecord(
        losses.exponential,
        family="basic",
        source="xu2021 Sec. 2",
        needs=("score", "labels"),
        is_multiclass=False,
        is_compared=False,
        summary="exponential loss of the margin",
    ),
    LossRecord(
        losses.generalized_cross_entropy,
        parameters=(Parameter("q", 0.7, tried=(0.3, 0.7)),),
        family="robust",
        source="Zhang 2018",
        needs=("logits", "labels"),
        summary="(1 - p^q) / q, between cross-entropy (q = 0) and 1 - p (q = 1)",
    ),
    LossRecord(
        losses.truncated_generalized_cross_entropy,
        parameters=(
            Parameter("q", 0.7),
            Parameter("threshold", 0.05, tried=(0.02, 0.05)),
        ),
        family="robust",
        source="Zhang 2018",
        needs=("logits", "labels"),
        summary="the same, constant where p <= threshold",
    ),
    LossRecord(
        losses.truncated_cross_entropy,
        parameters=(Parameter("cutoff", 3.0, tried=(3.0, 5.0)),),
        family="robust",
        source="Wang 2021 (T-CE)",
        needs=("logits", "labels"),
        summary="cross-entropy, zero above a cutoff",
    ),
    LossRecord(
        losses.smoothed_cross_entropy,
        parameters=(Parameter("smoothing", 0.1, tried=(0.1, 0.5)),),
        family="soft target",
        source="Szegedy 2016",
        needs=("logits", "labels"),
        summary="label smoothing",
    ),
    LossRecord(
        losses.bootstrap_soft,
        parameters=(Parameter("beta", 0.95, tried=(0.5, 0.95)),),
        options=(Option("target", ("differentiated", "constant"), is_compared=True),),
        family="soft target",
        source="Reed 2015, ren2018 4.2",
        needs=("logits", "labels"),
        summary="target: part label, part prediction; a constant target, ren2018's released code, "
        "is cross-entropy at beta times the rate",
    ),
    LossRecord(
        losses.bootstrap_hard,
        parameters=(Parameter("beta", 0.8, tried=(0.5, 0.8)),),
        family="soft target",
        source="Reed 2015, ren2018 4.2",
        needs=("logits", "labels"),
        summary="target: part label, part predicted class",
    ),
    LossRecord(
        losses.distillation,
        build=_distillation,
        parameters=(
            Parameter("alpha", 0.5, tried=(0.1, 0.5)),
            Parameter("temperature", 2.0),
        ),
        family="soft target",
        source="Hinton 2015, Li 2017",
        needs=("logits", "labels", "table"),
        references=("logits",),
        summary="the label, and a teacher's tempered prediction",
    ),
    LossRecord(
        losses.balanced_cross_entropy,
        build=_with_counts(losses.balanced_cross_entropy),
        family="class",
        source="santiago2021 4 (bCE)",
        needs=("logits", "labels", "counts"),
        is_compared=False,  # it is inverse_class_frequency
        summary="times N / (C n_c): inverse class frequency inside the loss, where other schemes "
        "see it",
    ),
    LossRecord(
        losses.logit_adjusted,
        build=_with_counts(losses.logit_adjusted),
        parameters=(Parameter("tau", 1.0, tried=(0.5, 1.0)),),
        family="class",
        source="Menon 2021, Ren 2020",
        needs=("logits", "labels", "counts"),
        summary="adds tau log prior to the logits (tau = 1: balanced softmax)",
    ),
    LossRecord(
        losses.class_dependent_temperatures,
        build=_with_counts(losses.class_dependent_temperatures),
        parameters=(Parameter("gamma", 0.3, tried=(0.1, 0.3)),),
        family="class",
        source="Ye 2020 (CDT)",
        needs=("logits", "labels", "counts"),
        summary="divides each logit by (n_max / n_c)^gamma",
    ),
    LossRecord(
        losses.vector_scaling,
        build=_with_counts(losses.vector_scaling),
        parameters=(Parameter("gamma", 0.3, tried=(0.1, 0.3)), Parameter("tau", 1.0)),
        family="class",
        source="Kini 2021 (VS)",
        needs=("logits", "labels", "counts"),
        summary="multiplies and shifts the logits by class",
    ),
    LossRecord(
        losses.ldam,
        build=_with_counts(losses.ldam),
        parameters=(
            Parameter("max_margin", 0.5),
            Parameter("scale", 1.0, tried=(1.0, 10.0)),
        ),
        family="class",
        source="Cao 2019 (LDAM)",
        needs=("logits", "labels", "counts"),
        from_authors="`s = 30` is `scale`, for logits that are cosines (normalized features and "
        "weights); on ordinary logits it mostly multiplies the learning rate by 30",
        summary="the label must win by a margin that grows as n_c^(-1/4)",
    ),
    LossRecord(
        losses.polynomial_tailed,
        parameters=(
            Parameter("alpha", 2.0, tried=(1.0, 2.0)),
            Parameter("beta", 1.0),
        ),
        family="tail",
        source="Wang 2022",
        needs=("logits or score", "labels"),
        from_authors="the code's left piece is `smooth=False` in Python; its commands leave "
        "alpha to a configuration that has had 1 and 2, and say 2 where they give it",
        summary="polynomial tail, on which importance weights keep their effect",
    ),
    LossRecord(
        losses.forward_corrected_cross_entropy,
        build=_with_transition(losses.forward_corrected_cross_entropy),
        family="known noise",
        source="Patrini 2017",
        needs=("logits", "labels", "noise matrix"),
        references=("transition",),
        summary="cross-entropy of the noisy label",
    ),
    LossRecord(
        losses.backward_corrected_cross_entropy,
        build=_with_transition(losses.backward_corrected_cross_entropy),
        family="known noise",
        source="Patrini 2017, Natarajan 2013",
        needs=("logits", "labels", "noise matrix"),
        references=("transition",),
        summary="unbiased for the clean cross-entropy; may be negative",
    ),
)
