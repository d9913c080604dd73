"""Weighting schemes by name: `low:0.1`, `focal:2+clip:0:5`, and what each one needs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import weighting
from experiments.context import Context, example_context
from experiments.grammar import Parameter, Parsed, parse
from weighting import Weighting


class Scheme(NamedTuple):
    """An entry of the registry; `experiments/methods.py` describes it."""

    build: Callable[..., Weighting]  # (context, *values) -> Weighting
    parameters: tuple[Parameter, ...] = ()
    needs_clean: bool = False
    references: tuple[str, ...] = ()


def _is_head(path: tuple[Any, ...]) -> bool:
    return "head" in jax.tree_util.keystr(path)


def _self_paced(context: Context, threshold: float | Array, growth: float | Array) -> Weighting:
    return weighting.scheduled(
        weighting.self_paced,
        threshold=lambda step: threshold * growth ** (step / context.steps_per_epoch),
    )


def _unrolled(context: Context, learning_rate: float | Array, num_steps: float) -> Weighting:
    return weighting.lookahead_reweight(
        mode="unrolled", optimizer=optax.sgd(learning_rate), num_steps=int(num_steps)
    )


_REGULARIZATION = (Parameter("regularization", 0.1),)

SCHEMES: dict[str, Scheme] = {
    "uniform": Scheme(lambda c: weighting.uniform()),
    "proportion": Scheme(lambda c: weighting.inverse_class_frequency(c.class_counts)),
    "random": Scheme(lambda c: weighting.random()),
    "focal": Scheme(lambda c, gamma: weighting.focal(gamma), (Parameter("gamma", 2.0),)),
    "self_paced": Scheme(_self_paced, (Parameter("threshold", 1.0), Parameter("growth", 1.1))),
    "hard_mining": Scheme(lambda c: weighting.hard_mining(jnp.argmax(c.class_counts))),
    "top_losses": Scheme(
        lambda c, fraction: weighting.top_losses(fraction), (Parameter("fraction", 0.5),)
    ),
    "low": Scheme(lambda c, regularization: weighting.low(regularization), _REGULARIZATION),
    "low_osqp": Scheme(
        lambda c, regularization: weighting.low(regularization, solver="osqp"), _REGULARIZATION
    ),
    "low_last_layer": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient="last_layer"),
        _REGULARIZATION,
    ),
    "low_parameters": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient="parameters"),
        _REGULARIZATION,
    ),
    "low_batch_mean": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient_scale="batch_mean"),
        _REGULARIZATION,
    ),
    "lookahead": Scheme(lambda c: weighting.lookahead_reweight(), needs_clean=True),
    "lookahead_kept": Scheme(
        lambda c, steps: weighting.lookahead_reweight(refresh_every=int(steps)),
        (Parameter("steps", 5, is_static=True),),
        needs_clean=True,
    ),
    "lookahead_last_layer": Scheme(
        lambda c: weighting.lookahead_reweight(select=_is_head), needs_clean=True
    ),
    "lookahead_unrolled": Scheme(
        _unrolled,
        (Parameter("learning_rate", 0.1), Parameter("num_steps", 1, is_static=True)),
        needs_clean=True,
    ),
    "normalize": Scheme(lambda c: weighting.normalize_mean()),
    "clip": Scheme(
        lambda c, low, high: weighting.clip(low, high),
        (Parameter("low", 0.0), Parameter("high", 5.0)),
    ),
    "temper": Scheme(lambda c, power: weighting.temper(power), (Parameter("power", 0.5),)),
    "mix": Scheme(
        lambda c, fraction: weighting.mix_with_uniform(fraction), (Parameter("fraction", 0.1),)
    ),
    "ema": Scheme(
        lambda c, decay: weighting.ema(decay, c.num_examples), (Parameter("decay", 0.9),)
    ),
    "warm_up": Scheme(
        lambda c, steps: weighting.warm_up(int(steps)), (Parameter("steps", 100, is_static=True),)
    ),
}


class SchemeSpec(NamedTuple):
    """A parsed specification: which schemes to chain, and their values."""

    parsed: Parsed

    @property
    def entries(self) -> list[Scheme]:
        """The registry's entries."""
        return [SCHEMES[name] for name in self.parsed.names]

    @property
    def needs_clean(self) -> bool:
        """Whether a clean set must be given."""
        return any(entry.needs_clean for entry in self.entries)

    @property
    def references(self) -> set[str]:
        """What must be known before training, see `context.REFERENCES`."""
        return {name for entry in self.entries for name in entry.references}

    @property
    def values(self) -> tuple[float, ...]:
        """Those that may vary between the runs of one program, in order."""
        return self.parsed.values

    def build(self, context: Context, values: Sequence[float | Array]) -> Weighting:
        """The scheme, with `values` (possibly traced) in the place of the spec's own."""
        schemes = [
            entry.build(context, *arguments)
            for entry, arguments in zip(self.entries, self.parsed.arguments(values), strict=True)
        ]
        return schemes[0] if len(schemes) == 1 else weighting.chain(*schemes)


def parse_scheme(text: str) -> SchemeSpec:
    """Reads `name[:value[:value]]`, several joined by `+` to a chain; refuses bad values at once.

    Example:
      >>> parse_scheme("low:0.1+clip:0:5").values
      (0.1, 0.0, 5.0)
    """
    spec = SchemeSpec(parse(text, SCHEMES, "weighting"))
    spec.build(example_context(), spec.values)  # the factories refuse bad values
    return spec
