"""Losses by name: `cross_entropy`, `focal:2:0.25`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from experiments.context import Context, example_context
from experiments.grammar import Parameter, Parsed, parse
from weighting import losses

LossFn = Callable[[Array, Array], Array]


class Loss(NamedTuple):
    """An entry of the registry."""

    build: Callable[..., LossFn]  # (context, *values) -> loss
    parameters: tuple[Parameter, ...] = ()
    is_multiclass: bool = True  # one logit per class; if not, one score, for two classes
    references: tuple[str, ...] = ()


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(lambda c: losses.cross_entropy),
    "focal": Loss(
        lambda c, gamma, alpha: lambda z, y: losses.focal(z, y, gamma=gamma, alpha=alpha),
        (Parameter("gamma", 2.0), Parameter("alpha", 1.0)),
    ),
    "logistic": Loss(lambda c: losses.logistic, is_multiclass=False),
    "exponential": Loss(lambda c: losses.exponential, is_multiclass=False),
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
