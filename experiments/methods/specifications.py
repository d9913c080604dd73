"""What the command line asks for, read: weightings, losses and procedures with their settings."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

import weighting
from experiments.methods.context import Context, example_context
from experiments.methods.own import own_loss, own_scheme
from experiments.methods.procedures import Procedure, ProcedureRecord
from experiments.methods.records import LossFn, LossRecord, SchemeRecord
from experiments.methods.registry import LOSSES, PROCEDURES, SCHEMES
from experiments.networks.models import Model
from experiments.tools.grammar import Parsed, Term, parse_methods, split_chain
from experiments.tools.names import lookup, quoting
from weighting import Weighting


class SchemeSpec(NamedTuple):
    """Which schemes to chain, with their settings."""

    parsed: Parsed

    @property
    def records(self) -> list[SchemeRecord]:
        """What the registry says of them."""
        return [find_scheme(name) for name in self.parsed.names]

    @property
    def needs_clean(self) -> bool:
        """Whether a clean set must be given."""
        return any(record.needs_clean for record in self.records)

    @property
    def references(self) -> set[str]:
        """What must be known before training, see `context.REFERENCES`."""
        settings = zip(self.records, self.parsed.settings(self.parsed.values), strict=True)
        return {name for record, own in settings for name in record.known_before(own)}

    @property
    def values(self) -> tuple[float, ...]:
        """Those that may vary between the runs of one program, in order."""
        return self.parsed.values

    @property
    def fixed(self) -> tuple[Term, ...]:
        """All that may not vary between the runs of one program."""
        return self.parsed.terms

    def build(self, context: Context, values: Sequence[float | Array]) -> Weighting:
        """The scheme, with `values` (possibly traced) in the place of the spec's own."""
        settings = zip(self.records, self.parsed.settings(values), strict=True)
        schemes = [record.make(context, own) for record, own in settings]
        return schemes[0] if len(schemes) == 1 else weighting.chain(*schemes)


class LossSpec(NamedTuple):
    """A loss with its settings."""

    parsed: Parsed

    @property
    def record(self) -> LossRecord:
        """What the registry says of it."""
        return find_loss(self.parsed.names[0])

    @property
    def references(self) -> tuple[str, ...]:
        """What must be known before training, see `context.REFERENCES`."""
        return self.record.references

    @property
    def values(self) -> tuple[float, ...]:
        """Those that may vary between the runs of one program, in order."""
        return self.parsed.values

    @property
    def fixed(self) -> tuple[Term, ...]:
        """All that may not vary between the runs of one program."""
        return self.parsed.terms

    def build(self, context: Context, values: Sequence[float | Array]) -> LossFn:
        """The loss, with `values` (possibly traced) in the place of the spec's own."""
        return self.record.make(context, self.parsed.settings(values)[0])


class ProcedureSpec(NamedTuple):
    """A procedure with its settings."""

    parsed: Parsed

    @property
    def record(self) -> ProcedureRecord:
        """What the registry says of it."""
        return PROCEDURES[self.parsed.names[0]]

    @property
    def references(self) -> tuple[str, ...]:
        """What must be known before training, see `context.REFERENCES`."""
        return self.record.known_before(self._settings)

    def as_trained(self, model: Model) -> Model:
        """The network as the procedure trains and evaluates it."""
        return _as_trained(self.record, model)

    def build(self, model: Model) -> Procedure:
        """The procedure around a network."""
        return self.record.build(self.as_trained(model), **self._settings)

    @property
    def _settings(self) -> dict[str, str]:
        return self.parsed.settings(())[0]


@functools.cache  # one object for equal arguments, so that compiled functions are found again
def _as_trained(record: ProcedureRecord, model: Model) -> Model:
    return record.as_trained(model)


def find_scheme(name: str) -> SchemeRecord:
    """The record of that name, ours or a plug-in's; refuses unknown ones."""
    return SCHEMES.get(name) or own_scheme(name) or lookup(name, SCHEMES, "weighting")


def find_loss(name: str) -> LossRecord:
    """The record of that name, ours or a plug-in's; refuses unknown ones."""
    return LOSSES.get(name) or own_loss(name) or lookup(name, LOSSES, "loss")


@functools.cache  # a configuration asks again and again
def parse_scheme(text: str) -> SchemeSpec:
    """Reads `NAME[:VALUE...][:KEY=VALUE...]`, several joined by `+` to a chain.

    A name is a scheme's of ours, an installed package's, or `FILE.py:FUNCTION`. Refuses bad values
    at once.

    Example:
      >>> parse_scheme("low:0.1+clip:0:5").values
      (0.1, 0.0, 5.0)
    """
    spec = SchemeSpec(parse_methods(text, find_scheme))
    with quoting(text):
        spec.build(example_context(), spec.values)  # the factories refuse bad values
    return spec


@functools.cache
def parse_loss(text: str) -> LossSpec:
    """Reads `NAME[:VALUE...][:KEY=VALUE...]`; refuses bad values at once.

    Example:
      >>> parse_loss("focal:2").values
      (2.0, 1.0)
    """
    if len(split_chain(text)) > 1:
        raise ValueError(f"losses cannot be chained; got {text!r}")
    spec = LossSpec(parse_methods(text, find_loss))
    scores = jnp.zeros((1, 2)) if spec.record.is_multiclass else jnp.zeros(1)
    with quoting(text):
        loss_fn = spec.build(example_context(), spec.values)
        loss_fn(scores, jnp.zeros(1, jnp.int32))  # the loss refuses bad values
    return spec


@functools.cache
def parse_procedure(text: str) -> ProcedureSpec:
    """Reads `NAME[:KEY=VALUE...]`.

    Example:
      >>> parse_procedure("with_noise_layer:start=confusion").references
      ('confusion',)
    """
    if len(split_chain(text)) > 1:
        raise ValueError(f"procedures cannot be chained; got {text!r}")
    return ProcedureSpec(parse_methods(text, lambda name: lookup(name, PROCEDURES, "procedure")))
