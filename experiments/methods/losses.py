"""Losses by name: `cross_entropy`, `focal:2:0.25`."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from experiments.methods.context import Context, example_context
from experiments.tools.grammar import Parameter, Parsed, parse
from weighting import losses

LossFn = Callable[[Array, Array], Array]


class Loss(NamedTuple):
    """An entry of the registry."""

    build: Callable[..., LossFn]  # (context, *values) -> loss
    parameters: tuple[Parameter, ...] = ()
    is_multiclass: bool = True  # one logit per class; if not, one score, for two classes
    references: tuple[str, ...] = ()


def _distillation(context: Context, alpha: float | Array, temperature: float | Array) -> LossFn:
    teacher = context.references["logits"][context.indices]
    return lambda z, y: losses.distillation(
        z, y, teacher_logits=teacher, alpha=alpha, temperature=temperature
    )


def _with(loss: Callable[..., Array], *names: str) -> Callable[..., LossFn]:
    """Builds a loss from its values, which have these names."""

    def build(context: Context, *values: float | Array) -> LossFn:
        return functools.partial(loss, **dict(zip(names, values, strict=True)))

    return build


def _with_counts(loss: Callable[..., Array], *names: str) -> Callable[..., LossFn]:
    """The same for a loss that reads the class counts; a class without examples counts as one."""

    def build(context: Context, *values: float | Array) -> LossFn:
        counts = jnp.maximum(context.class_counts, 1)
        return functools.partial(loss, class_counts=counts, **dict(zip(names, values, strict=True)))

    return build


def _with_transition(loss: Callable[..., Array]) -> Callable[..., LossFn]:
    """The same for a loss that knows how labels are corrupted."""

    def build(context: Context) -> LossFn:
        return functools.partial(loss, transition=context.references["transition"])

    return build


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_with(losses.cross_entropy)),
    "focal": Loss(
        _with(losses.focal, "gamma", "alpha"), (Parameter("gamma", 2.0), Parameter("alpha", 1.0))
    ),
    "generalized_cross_entropy": Loss(
        _with(losses.generalized_cross_entropy, "q"), (Parameter("q", 0.7),)
    ),
    "truncated_generalized_cross_entropy": Loss(
        _with(losses.truncated_generalized_cross_entropy, "q", "threshold"),
        (Parameter("q", 0.7), Parameter("threshold", 0.05)),
    ),
    "truncated_cross_entropy": Loss(
        _with(losses.truncated_cross_entropy, "cutoff"), (Parameter("cutoff", 3.0),)
    ),
    "smoothed_cross_entropy": Loss(
        _with(losses.smoothed_cross_entropy, "smoothing"), (Parameter("smoothing", 0.1),)
    ),
    "bootstrap_soft": Loss(_with(losses.bootstrap_soft, "beta"), (Parameter("beta", 0.95),)),
    "bootstrap_hard": Loss(_with(losses.bootstrap_hard, "beta"), (Parameter("beta", 0.8),)),
    "distillation": Loss(
        _distillation,
        (Parameter("alpha", 0.5), Parameter("temperature", 2.0)),
        references=("logits",),
    ),
    "balanced_cross_entropy": Loss(_with_counts(losses.balanced_cross_entropy)),
    "logit_adjusted": Loss(_with_counts(losses.logit_adjusted, "tau"), (Parameter("tau", 1.0),)),
    "class_dependent_temperatures": Loss(
        _with_counts(losses.class_dependent_temperatures, "gamma"), (Parameter("gamma", 0.3),)
    ),
    "vector_scaling": Loss(
        _with_counts(losses.vector_scaling, "gamma", "tau"),
        (Parameter("gamma", 0.3), Parameter("tau", 1.0)),
    ),
    "ldam": Loss(
        _with_counts(losses.ldam, "max_margin", "scale"),
        (Parameter("max_margin", 0.5), Parameter("scale", 1.0)),
    ),
    "polynomial_tailed": Loss(
        _with(losses.polynomial_tailed, "alpha", "beta"),
        (Parameter("alpha", 2.0), Parameter("beta", 1.0)),
    ),
    "forward_corrected_cross_entropy": Loss(
        _with_transition(losses.forward_corrected_cross_entropy), references=("transition",)
    ),
    "backward_corrected_cross_entropy": Loss(
        _with_transition(losses.backward_corrected_cross_entropy), references=("transition",)
    ),
    "logistic": Loss(_with(losses.logistic), is_multiclass=False),
    "exponential": Loss(_with(losses.exponential), is_multiclass=False),
}


class LossSpec(NamedTuple):
    """A parsed specification."""

    parsed: Parsed

    @property
    def entry(self) -> Loss:
        """The registry's entry."""
        return LOSSES[self.parsed.names[0]]

    def build(self, context: Context, values: Sequence[float | Array]) -> LossFn:
        """The loss, with `values` (possibly traced) in the place of the spec's own."""
        return self.entry.build(context, *self.parsed.arguments(values)[0])


@functools.cache  # a configuration asks again and again
def parse_loss(text: str) -> LossSpec:
    """Reads `name[:value[:value]]`; refuses bad values at once.

    Example:
      >>> parse_loss("focal:2").parsed.values
      (2.0, 1.0)
    """
    if "+" in text:
        raise ValueError(f"losses cannot be chained; got {text!r}")
    spec = LossSpec(parse(text, LOSSES, "loss"))
    scores = jnp.zeros((1, 2)) if spec.entry.is_multiclass else jnp.zeros(1)
    loss_fn = spec.build(example_context(), spec.parsed.values)
    loss_fn(scores, jnp.zeros(1, jnp.int32))  # the loss refuses bad values
    return spec
