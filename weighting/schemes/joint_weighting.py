r"""A weighting model trained jointly with the network on one weighted risk (xu2021, Eq. 4)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._arrays import finish, read_features
from weighting._checks import check_choice, check_positive, check_range, concrete, require
from weighting._numbers import at_least_float32
from weighting.base import Signals, Weighting, guarded
from weighting.linearize import weighted_risk

SOURCES = ("inputs", "features")
STARTS = ("zeros", "normal")


class LogisticModel(NamedTuple):
    """psi and b of one logistic unit."""

    kernel: Array  # [D]
    bias: Array  # []


class JointWeightingState(NamedTuple):
    """The weighting model and its optimizer's state."""

    model: LogisticModel
    opt_state: optax.OptState


def joint_weighting(
    num_inputs: int,
    *,
    source: str = "inputs",
    low: float | Array = 1.0,
    high: float | Array = 2.0,
    start: str = "zeros",
    optimizer: optax.GradientTransformation | None = None,
    normalize: bool = False,
) -> Weighting:
    r"""Weights from a logistic model of the inputs, trained with the network on the same risk.

    .. math:: \min_{\psi, b, \theta} \frac{1}{n} \sum_i g(x_i)\, \ell_i(\theta), \qquad
              g(x) = a + (B - a)\, \sigma(\psi^\top x + b)

    by simultaneous gradient steps: this step's weights are those of the model before it moves. As
    the risk is *minimized*, examples with large losses lose weight; when all losses vanish, so does
    the model's gradient, and the weights stand still. Equal bounds are uniform.

    Args:
      num_inputs: D, numbers per example once flattened.
      source: "inputs" of the network (`examples[0]`), or "features", those of its last layer.
      low: a >= 0, which g stays above.
      high: B >= a, which g stays below. The paper's figure has sigma + 1, that is (1, 2); its
        constraint 1/M < g < M, for any M >= 2, is wider.
      start: of psi and b: "zeros", where g = (a + B) / 2, or "normal", standard normal.
      optimizer: of the model, default `optax.sgd(0.1)`.
      normalize: to mean one over the batch, in the risk that the model descends as well; False is
        the paper.

    Returns:
      A `Weighting`. Reads: losses; `examples` or features. State: psi, b and the optimizer's.
      Scale: native, between a and B. Cost: O(B D).

    References:
      Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for Deep Learning", ICLR 2021,
      Eq. (4) and Fig. 4. The start is not printed. Its text expects weights that correlate
      negatively with the margin; descent on this risk gives positively correlated ones.
    """
    check_positive("num_inputs", num_inputs)
    check_choice("source", source, SOURCES)
    check_choice("start", start, STARTS)
    check_range("low", low, low=0.0)
    floor = concrete(low)
    check_range("high", high, low=0.0 if floor is None else floor, high=math.inf, high_open=True)
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer

    def init_fn(key, params):
        del params
        if start == "zeros":
            model = LogisticModel(jnp.zeros(num_inputs), jnp.zeros(()))
        else:
            keys = jax.random.split(key)
            model = LogisticModel(
                jax.random.normal(keys[0], (num_inputs,)), jax.random.normal(keys[1], ())
            )
        return JointWeightingState(model, optimizer.init(model))

    def update_fn(weights, state, signals, *, examples=None, **extra):
        wide = signals._replace(losses=at_least_float32(signals.losses))
        inputs = _read_inputs(source, num_inputs, signals, examples).astype(
            state.model.kernel.dtype
        )

        def own_weights(model: LogisticModel) -> Array:
            share = jax.nn.sigmoid(inputs @ model.kernel + model.bias)
            return finish(low + (high - low) * share, wide, normalize)

        def risk(model: LogisticModel) -> Array:
            return weighted_risk(wide.losses, own_weights(model), signals.valid)

        updates, opt_state = optimizer.update(
            jax.grad(risk)(state.model), state.opt_state, state.model
        )
        model: Any = optax.apply_updates(state.model, updates)
        moved = JointWeightingState(model, opt_state)
        present = jnp.any(signals.valid > 0)
        new_state = jax.tree.map(lambda new, old: jnp.where(present, new, old), moved, state)
        return (weights * own_weights(state.model)).astype(signals.losses.dtype), new_state

    return guarded(init_fn, update_fn)


def _read_inputs(source: str, num_inputs: int, signals: Signals, examples: Any) -> Array:
    name = f"joint_weighting(source={source!r})"
    if source == "inputs":
        values = require(name, "examples", examples, "Pass (inputs, labels).")[0]
    else:
        values = read_features(name, signals)
    if not hasattr(values, "shape"):
        raise TypeError(f"{name} needs the {source} as one array, got {type(values).__name__}")
    flat = values.reshape(values.shape[0], -1)
    if flat.shape[1] != num_inputs:
        raise ValueError(
            f"{name} was built for num_inputs={num_inputs}, but each example has {flat.shape[1]} "
            f"numbers ({source} of shape {values.shape}); pass num_inputs={flat.shape[1]}"
        )
    return flat
