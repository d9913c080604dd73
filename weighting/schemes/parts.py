"""Parts to chain behind a scheme: normalize, clip, temper, mix, smooth, warm up, schedule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from weighting._arrays import read_indices, write
from weighting._checks import check_positive, check_range
from weighting.base import Signals, Weighting, guarded, mean_one, stateless

Schedule = Callable[[Array], Array]  # step -> value, as in optax


def normalize_mean() -> Weighting:
    """Scales the weights to average one over the batch; all-zero weights stay zero."""
    return stateless(lambda weights, signals, **extra: mean_one(weights, signals.valid))


def clip(low: float | Array = 0.0, high: float | Array = jnp.inf) -> Weighting:
    """Bounds every weight to [low, high], as the bounds [1/M, M] of xu2021 and [b, B] of zhou2022.

    The mean changes; chain `normalize_mean()` behind it where that matters. Padding stays at zero.
    """
    check_range("low", low, low=0.0)
    check_range("high", high, low=0.0, low_open=True)
    return stateless(lambda weights, signals, **extra: jnp.clip(weights, low, high) * signals.valid)


def temper(power: float | Array) -> Weighting:
    """Raises weights to a power and restores mean one: 0 gives uniform, above 1 sharpens."""
    check_range("power", power, low=0.0)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        positive = weights > 0
        powers = jnp.where(positive, weights, 1) ** power
        return mean_one(
            jnp.where(positive, powers, jnp.asarray(power == 0, weights.dtype)), signals.valid
        )

    return stateless(update)


def mix_with_uniform(fraction: float | Array) -> Weighting:
    """`(1 - fraction) * weights + fraction`: a floor of `fraction`, and the mean stays one."""
    check_range("fraction", fraction, low=0.0, high=1.0)
    return stateless(
        lambda weights, signals, **extra: (1 - fraction) * weights + fraction * signals.valid
    )


class EmaState(NamedTuple):
    """Per-example averages, by position in the training set."""

    average: Array  # [N]
    count: Array  # [N] times the example was seen, for the bias correction


def ema(decay: float | Array, num_examples: int) -> Weighting:
    """Exponential moving average of each example's weight over the steps in which it was seen.

    Keyed by `signals.indices`; bias-corrected, so that the first weight of an example is its own.
    An example that occurs twice in a batch is averaged with one of its two weights.

    Args:
      decay: in [0, 1); larger means smoother.
      num_examples: N, the size of the training set.
    """
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)

    def init_fn(key, params):
        del key, params
        return EmaState(jnp.zeros(num_examples), jnp.zeros(num_examples, jnp.int32))

    def update_fn(weights, state, signals, **extra):
        indices = read_indices("ema()", signals)
        seen = signals.valid > 0
        count = write(state.count, indices, seen, state.count[indices] + 1)
        new = decay * state.average[indices] + (1 - decay) * weights
        average = write(state.average, indices, seen, new)
        correction = 1 - decay ** jnp.maximum(count[indices], 1)
        return (new / correction * signals.valid).astype(weights.dtype), EmaState(average, count)

    return guarded(init_fn, update_fn, num_examples=num_examples)


class CountState(NamedTuple):
    """Number of updates so far, and the state of whatever is scheduled."""

    count: Array
    inner: Any = ()


def fade_in(strength: Schedule) -> Weighting:
    """Interpolates from uniform (strength 0) to the incoming weights (strength 1) by the step.

    Args:
      strength: an optax schedule, step -> value in [0, 1].
    """

    def init_fn(key, params):
        del key, params
        return CountState(jnp.zeros((), jnp.int32))

    def update_fn(weights, state, signals, **extra):
        share = strength(state.count)
        weights = share * weights + (1 - share) * signals.valid
        return weights.astype(signals.losses.dtype), CountState(state.count + 1)

    return guarded(init_fn, update_fn)


def deferred(start: float | Array) -> Weighting:
    """Uniform weights before step `start`, the incoming weights from it on.

    Args:
      start: number of steps; need not be whole.

    References:
      DRW in Cao, Wei, Gaidon, Arechiga, Ma, "Learning Imbalanced Datasets with Label-Distribution-
      Aware Margin Loss", NeurIPS 2019, arXiv:1906.07413, Algorithm 1.
    """
    check_range("start", start, low=0.0)
    return fade_in(lambda step: 1.0 * (step >= start))


def warm_up(num_steps: int) -> Weighting:
    """Uniform weights at step 0, the incoming weights from step `num_steps` on, linear between."""
    check_positive("num_steps", num_steps)
    return fade_in(lambda step: jnp.minimum(step / num_steps, 1.0))


def scheduled(factory: Callable[..., Weighting], **schedules: Schedule) -> Weighting:
    """A scheme whose hyperparameters follow schedules over the steps.

    Example:
      >>> import optax
      >>> from weighting import low
      >>> scheme = scheduled(low, regularization=optax.linear_schedule(1.0, 0.1, 1000))
    """

    def scheme_at(count: Array) -> Weighting:
        return factory(**{name: schedule(count) for name, schedule in schedules.items()})

    def init_fn(key, params):
        count = jnp.zeros((), jnp.int32)
        return CountState(count, scheme_at(count).init(key, params))

    def update_fn(weights, state, signals, **extra):
        weights, inner = scheme_at(state.count).update(weights, state.inner, signals, **extra)
        return weights, CountState(state.count + 1, inner)

    return Weighting(init_fn, update_fn)
