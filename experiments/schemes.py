"""Weighting schemes and losses by name: `low:0.1`, `focal:2+clip:0:5`, and what each one needs."""

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

import weighting
from weighting import Weighting, losses

T = TypeVar("T")


class Context(NamedTuple):
    """What a scheme may need to know of the training set."""

    class_counts: Array  # [C] training examples by (given) label
    num_examples: int
    steps_per_epoch: float


class Parameter(NamedTuple):
    """A hyperparameter. Numbers that are not static may differ between runs of one program."""

    name: str
    default: float
    is_static: bool = False


class Scheme(NamedTuple):
    """An entry of the registry."""

    build: Callable[..., Weighting]  # (context, *values) -> Weighting
    summary: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    needs_clean: bool = False


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


_REGULARIZATION = Parameter("regularization", 0.1)

SCHEMES: dict[str, Scheme] = {
    "uniform": Scheme(lambda c: weighting.uniform(), "equal weights (ERM)", "all"),
    "proportion": Scheme(
        lambda c: weighting.inverse_class_frequency(c.class_counts),
        "inverse class frequency",
        "ren2018 4.1, santiago2021 bCE",
    ),
    "random": Scheme(lambda c: weighting.random(), "rectified Gaussian", "ren2018 Eq. 16"),
    "focal": Scheme(
        lambda c, gamma: weighting.focal(gamma),
        "(1 - p)^gamma, constant in the backward pass",
        "Lin et al. 2017",
        (Parameter("gamma", 2.0),),
    ),
    "self_paced": Scheme(
        _self_paced,
        "keeps losses below a threshold that grows every epoch",
        "Kumar et al. 2010",
        (Parameter("threshold", 1.0), Parameter("growth", 1.1)),
    ),
    "hard_mining": Scheme(
        lambda c: weighting.hard_mining(jnp.argmax(c.class_counts)),
        "minority, and as many of the majority's highest losses",
        "ren2018 4.1",
    ),
    "top_losses": Scheme(
        lambda c, fraction: weighting.top_losses(fraction),
        "keeps a fraction of the batch with the highest losses",
        "Shrivastava et al. 2016",
        (Parameter("fraction", 0.5),),
    ),
    "low": Scheme(
        lambda c, regularization: weighting.low(regularization),
        "LOW: the weights that decrease the loss most",
        "santiago2021 Eq. 9",
        (_REGULARIZATION,),
    ),
    "low_osqp": Scheme(
        lambda c, regularization: weighting.low(regularization, solver="osqp"),
        "LOW by jaxopt's OSQP",
        "santiago2021 Eq. 9",
        (_REGULARIZATION,),
    ),
    "low_last_layer": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient="last_layer"),
        "LOW with gradients of the last layer",
        "santiago2021 Eq. 8",
        (_REGULARIZATION,),
    ),
    "low_parameters": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient="parameters"),
        "LOW with gradients of all parameters",
        "santiago2021 Eq. 8",
        (_REGULARIZATION,),
    ),
    "low_batch_mean": Scheme(
        lambda c, regularization: weighting.low(regularization, gradient_scale="batch_mean"),
        "LOW with the released code's scale of the gradients",
        "santiago2021 code",
        (_REGULARIZATION,),
    ),
    "lookahead": Scheme(
        lambda c: weighting.lookahead_reweight(),
        "lookahead on a clean set, fast form",
        "ren2018 Alg. 1",
        needs_clean=True,
    ),
    "lookahead_kept": Scheme(
        lambda c, steps: weighting.lookahead_reweight(refresh_every=int(steps)),
        "approximation: the clean gradient is kept for some steps",
        "ren2018",
        (Parameter("steps", 5, is_static=True),),
        needs_clean=True,
    ),
    "lookahead_last_layer": Scheme(
        lambda c: weighting.lookahead_reweight(select=_is_head),
        "approximation: the last layer's gradients only",
        "ren2018",
        needs_clean=True,
    ),
    "lookahead_unrolled": Scheme(
        _unrolled,
        "differentiates through virtual SGD steps",
        "ren2018 Alg. 1",
        (Parameter("learning_rate", 0.1), Parameter("num_steps", 1, is_static=True)),
        needs_clean=True,
    ),
    "normalize": Scheme(lambda c: weighting.normalize_mean(), "part: mean one", "-"),
    "clip": Scheme(
        lambda c, low, high: weighting.clip(low, high),
        "part: bounds the weights",
        "xu2021, zhou2022",
        (Parameter("low", 0.0), Parameter("high", 5.0)),
    ),
    "temper": Scheme(
        lambda c, power: weighting.temper(power),
        "part: raises weights to a power",
        "-",
        (Parameter("power", 0.5),),
    ),
    "mix": Scheme(
        lambda c, fraction: weighting.mix_with_uniform(fraction),
        "part: mixes with uniform weights",
        "-",
        (Parameter("fraction", 0.1),),
    ),
    "ema": Scheme(
        lambda c, decay: weighting.ema(decay, c.num_examples),
        "part: averages each example's weight over time",
        "-",
        (Parameter("decay", 0.9),),
    ),
    "warm_up": Scheme(
        lambda c, steps: weighting.warm_up(int(steps)),
        "part: uniform at first, the scheme after some steps",
        "-",
        (Parameter("steps", 100, is_static=True),),
    ),
}


class SchemeSpec(NamedTuple):
    """A parsed specification: which schemes to chain, and their values."""

    names: tuple[str, ...]
    static: tuple[tuple[float | None, ...], ...]  # per scheme and parameter; None where it varies
    values: tuple[float, ...]  # those that may vary between runs, in order

    @property
    def needs_clean(self) -> bool:
        """Whether a clean set must be given."""
        return any(SCHEMES[name].needs_clean for name in self.names)

    def build(self, context: Context, values: Sequence[float | Array]) -> Weighting:
        """The scheme, with `values` (possibly traced) in the place of the spec's own."""
        remaining = iter(values)
        schemes = [
            SCHEMES[name].build(context, *(next(remaining) if v is None else v for v in static))
            for name, static in zip(self.names, self.static, strict=True)
        ]
        return schemes[0] if len(schemes) == 1 else weighting.chain(*schemes)


def parse_scheme(spec: str) -> SchemeSpec:
    """Reads `name[:value[:value]]`, several joined by `+` to a chain; refuses bad values at once.

    Example:
      >>> parse_scheme("low:0.1+clip:0:5").values
      (0.1, 0.0, 5.0)
    """
    names, static, varying = [], [], []
    for part in spec.split("+"):
        name, *texts = part.split(":")
        entry = lookup(name, SCHEMES, "weighting")
        if len(texts) > len(entry.parameters):
            known = ":".join([name, *(p.name.upper() for p in entry.parameters)])
            raise ValueError(f"{part!r} has too many values; {name} is written {known}")
        numbers = [_number(text, part) for text in texts]
        numbers += [p.default for p in entry.parameters[len(texts) :]]
        names.append(name)
        static.append(
            tuple(
                n if p.is_static else None for p, n in zip(entry.parameters, numbers, strict=True)
            )
        )
        varying += [n for p, n in zip(entry.parameters, numbers, strict=True) if not p.is_static]
    parsed = SchemeSpec(tuple(names), tuple(static), tuple(varying))
    parsed.build(Context(jnp.ones(2), 2, 1.0), parsed.values)  # the factories refuse bad values
    return parsed


LOSSES: dict[str, tuple[Callable[..., Array], tuple[str, ...]]] = {
    "cross_entropy": (losses.cross_entropy, ()),
    "focal": (losses.focal, ("gamma", "alpha")),
    "logistic": (losses.logistic, ()),
    "exponential": (losses.exponential, ()),
}


def parse_loss(spec: str) -> Callable[[Array, Array], Array]:
    """Reads `cross_entropy`, `focal[:GAMMA[:ALPHA]]`, `logistic` or `exponential`."""
    name, *texts = spec.split(":")
    loss_fn, parameters = lookup(name, LOSSES, "loss")
    if len(texts) > len(parameters):
        raise ValueError(f"{spec!r} has too many values; {name} takes {parameters or 'none'}")
    values = {p: _number(t, spec) for p, t in zip(parameters, texts, strict=False)}
    bound = functools.partial(loss_fn, **values) if values else loss_fn
    scores = jnp.zeros((1, 2)) if is_multiclass(spec) else jnp.zeros(1)
    bound(scores, jnp.zeros(1, jnp.int32))  # the loss refuses bad values
    return bound


def is_multiclass(loss_spec: str) -> bool:
    """Whether the loss reads one logit per class; if not, one score, for two classes."""
    return loss_spec.split(":")[0] in ("cross_entropy", "focal")


def lookup(name: str, known: Mapping[str, T], kind: str) -> T:
    """`known[name]`, or an error that lists the known names and guesses the one that was meant."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(known)}{hint}")


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {spec!r} is not a number") from None
