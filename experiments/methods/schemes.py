"""Weighting schemes by name: `low:0.1`, `focal:2+clip:0:5`, and what each one needs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import weighting
from experiments.methods.context import Context, example_context
from experiments.tools.grammar import Parameter, Parsed, parse
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
    return weighting.lookahead_unrolled(optax.sgd(learning_rate), num_steps=int(num_steps))


def _counts(context: Context) -> Array:
    """The class counts; a class without examples counts as one, since none of its will come."""
    return jnp.maximum(context.class_counts, 1)


def _true_priors(context: Context) -> Array:
    """P(true class), from the given labels' frequencies and the known noise."""
    given = context.class_counts / jnp.sum(context.class_counts)
    solution = jnp.linalg.solve(context.references["transition"].T, given)
    return jnp.maximum(solution, 0) / jnp.sum(jnp.maximum(solution, 0))


def _small_losses(
    context: Context, noise_rate: float | Array, gradual_epochs: float | Array
) -> Weighting:
    num_steps = jnp.maximum(gradual_epochs * context.steps_per_epoch, 1)
    rate = weighting.co_teaching_rate(noise_rate, num_steps)
    return weighting.scheduled(weighting.small_losses, keep_fraction=rate)


def _curriculum(
    context: Context, share: float | Array, initial_fraction: float | Array
) -> Weighting:
    num_steps = jnp.maximum(share * context.num_steps, 1)
    return weighting.curriculum(context.references["difficulty"], num_steps, initial_fraction)


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
    "lookahead": Scheme(lambda c: weighting.lookahead(), needs_clean=True),
    "lookahead_kept": Scheme(
        lambda c, steps: weighting.lookahead(refresh_every=int(steps)),
        (Parameter("steps", 5, is_static=True),),
        needs_clean=True,
    ),
    "lookahead_last_layer": Scheme(
        lambda c: weighting.lookahead(select=_is_head), needs_clean=True
    ),
    "lookahead_unrolled": Scheme(
        _unrolled,
        (Parameter("learning_rate", 0.1), Parameter("num_steps", 1, is_static=True)),
        needs_clean=True,
    ),
    "class_power": Scheme(
        lambda c, rho: weighting.class_power(_counts(c), rho), (Parameter("rho", 0.5),)
    ),
    "effective_number": Scheme(
        lambda c, beta: weighting.effective_number(_counts(c), beta), (Parameter("beta", 0.99),)
    ),
    "oracle_noise": Scheme(
        lambda c: weighting.oracle_noise(c.references["transition"], _true_priors(c)),
        references=("transition",),
    ),
    "small_losses": Scheme(
        _small_losses, (Parameter("noise_rate", 0.2), Parameter("gradual_epochs", 10.0))
    ),
    "superloss": Scheme(lambda c, r: weighting.superloss(r), (Parameter("regularization", 1.0),)),
    "gradient_harmonized": Scheme(
        lambda c, bins, decay: weighting.gradient_harmonized(int(bins), decay=decay),
        (Parameter("num_bins", 30, is_static=True), Parameter("decay", 0.75)),
    ),
    "curriculum": Scheme(
        _curriculum,
        (Parameter("share", 0.5), Parameter("initial_fraction", 0.2)),
        references=("difficulty",),
    ),
    "mentornet_curriculum": Scheme(
        lambda c, quantile, ramp: weighting.mentornet_curriculum(quantile, ramp),
        (Parameter("quantile", 0.75), Parameter("ramp", 0.0)),
    ),
    "paced_self_paced": Scheme(
        lambda c, growth: weighting.paced_self_paced(max(round(c.steps_per_epoch), 1), growth),
        (Parameter("growth", 1.1),),
    ),
    "cvar": Scheme(lambda c, alpha: weighting.cvar(alpha), (Parameter("alpha", 0.5),)),
    "tilted": Scheme(lambda c, tilt: weighting.tilted(tilt), (Parameter("tilt", 1.0),)),
    "chi_square_dro": Scheme(
        lambda c, r: weighting.chi_square_dro(r), (Parameter("regularization", 1.0),)
    ),
    "group_dro": Scheme(
        lambda c, step_size, adjustment: weighting.group_dro(
            len(c.class_counts), step_size, group_counts=_counts(c), adjustment=adjustment
        ),
        (Parameter("step_size", 0.01), Parameter("adjustment", 0.0)),
    ),
    "exponential_margin": Scheme(
        lambda c, bound: weighting.exponential_margin(bound), (Parameter("bound", 20.0),)
    ),
    "inverse_margin": Scheme(
        lambda c, bound: weighting.inverse_margin(bound), (Parameter("bound", 20.0),)
    ),
    "reference_inverse_margin": Scheme(
        lambda c, bound: weighting.per_example(
            weighting.inverse_margin_weights(c.references["margins"], bound=bound)
        ),
        (Parameter("bound", 20.0),),
        references=("margins",),
    ),
    "small_margins": Scheme(
        lambda c, quantile, value: weighting.per_example(
            weighting.small_margin_weights(c.references["margins"], quantile, value)
        ),
        (Parameter("quantile", 0.1), Parameter("value", 2.0)),
        references=("margins",),
    ),
    "known_noise": Scheme(
        lambda c, value: weighting.per_example(
            weighting.known_examples_weights(c.references["is_corrupted"], value)
        ),
        (Parameter("value", 0.0),),
        references=("is_corrupted",),
    ),
    "jtt": Scheme(
        lambda c, upweight: weighting.per_example(
            weighting.jtt_weights(c.references["errors"], upweight)
        ),
        (Parameter("upweight", 3.0),),
        references=("errors",),
    ),
    "difficulty": Scheme(
        lambda c, strength, bound: weighting.per_example(
            weighting.difficulty_weights(
                c.references["difficulty"], map="rank", strength=strength, bounds=(1 / bound, bound)
            )
        ),
        (Parameter("strength", 1.0), Parameter("bound", 20.0)),
        references=("difficulty",),
    ),
    "active_bias": Scheme(
        lambda c, smoothing: weighting.active_bias(c.num_examples, smoothing=smoothing),
        (Parameter("smoothing", 0.1),),
    ),
    "active_bias_threshold": Scheme(
        lambda c, smoothing: weighting.active_bias(
            c.num_examples, form="threshold", smoothing=smoothing
        ),
        (Parameter("smoothing", 0.1),),
    ),
    "loss_rank": Scheme(
        lambda c, pressure: weighting.loss_rank(c.num_examples, pressure),
        (Parameter("pressure", 100.0),),
    ),
    "infobatch": Scheme(
        lambda c, prune: weighting.infobatch(c.num_examples, max(c.num_steps, 1), prune=prune),
        (Parameter("prune", 0.5),),
    ),
    "importance_sampling": Scheme(
        lambda c, draws, threshold: weighting.importance_sampling(int(draws), threshold=threshold),
        (Parameter("num_draws", 25, is_static=True), Parameter("threshold", 1.5)),
    ),
    "meta_weight_net": Scheme(
        lambda c, rate: weighting.meta_weight_net(rate),
        (Parameter("learning_rate", 0.1),),
        needs_clean=True,
    ),
    "cmw_net": Scheme(
        lambda c, rate: weighting.cmw_net(
            c.class_counts, 3, rate, clusters=c.references["size_clusters"]
        ),
        (Parameter("learning_rate", 0.1),),
        needs_clean=True,
        references=("size_clusters",),
    ),
    "joint": Scheme(
        lambda c, high: weighting.joint_weighting(c.input_size, high=high),
        (Parameter("high", 2.0),),
    ),
    "mentornet": Scheme(
        lambda c, quantile: weighting.mentornet(
            c.references["mentor"], c.num_examples, max(c.num_steps, 1), quantile=quantile
        ),
        (Parameter("quantile", 0.75),),
        references=("mentor",),
    ),
    "rho_loss": Scheme(
        lambda c, fraction: weighting.rho_loss(c.references["clean_losses"], fraction),
        (Parameter("fraction", 0.1),),
        references=("clean_losses",),
    ),
    "batch_alignment": Scheme(
        lambda c, r: weighting.batch_alignment(r), (Parameter("regularization", 1.0),)
    ),
    "gradient_alignment": Scheme(
        lambda c, fraction, rate: weighting.gradient_alignment(fraction, rate),
        (Parameter("fraction", 0.5), Parameter("learning_rate", 0.1)),
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
    "deferred": Scheme(
        lambda c, share: weighting.deferred(share * c.num_steps),
        (Parameter("share", 0.5),),
    ),
    "record_history": Scheme(
        lambda c, decay: weighting.record_history(c.num_examples, decay),
        (Parameter("decay", 0.9),),
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


@functools.cache  # a configuration asks again and again
def parse_scheme(text: str) -> SchemeSpec:
    """Reads `name[:value[:value]]`, several joined by `+` to a chain; refuses bad values at once.

    Example:
      >>> parse_scheme("low:0.1+clip:0:5").values
      (0.1, 0.0, 5.0)
    """
    spec = SchemeSpec(parse(text, SCHEMES, "weighting"))
    spec.build(example_context(), spec.values)  # the factories refuse bad values
    return spec
