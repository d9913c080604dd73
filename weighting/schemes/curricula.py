"""Curricula: which examples to learn from first, by a fixed difficulty or by the losses so far."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import (
    RunningAverage,
    finish,
    init_average,
    masked_quantile,
    read_indices,
    update_average,
    whole_count,
)
from weighting._checks import check_positive, check_range, check_vector
from weighting._numbers import at_least_float32
from weighting.base import Signals, Weighting, guarded
from weighting.schemes.parts import CountState, Schedule


def root_pace(num_steps: int | Array, initial_fraction: float | Array = 0.2) -> Schedule:
    r"""The fraction :math:`\sqrt{\min(1, f_0^2 + (1 - f_0^2)\, t / T)}` at step t.

    It grows from f_0 at step 0 to one at step T, slower as it goes: the rate is inverse to the
    fraction, so that all newcomers are drawn about equally often before the next ones join.

    Args:
      num_steps: T > 0.
      initial_fraction: f_0 in (0, 1]; one stays at one.

    References:
      Platanios et al., "Competence-based Curriculum Learning for Neural Machine Translation", NAACL
      2019, arXiv:1903.09848: the square-root competence.
    """
    check_positive("num_steps", num_steps)
    check_range("initial_fraction", initial_fraction, low=0.0, high=1.0, low_open=True)
    square = initial_fraction**2
    return lambda step: jnp.sqrt(jnp.minimum(square + (1 - square) * step / num_steps, 1.0))


def co_teaching_rate(noise_rate: float | Array, num_gradual_steps: int | Array) -> Schedule:
    r"""The fraction of small losses to keep, :math:`1 - \epsilon \min(t / T_k, 1)` at step t.

    It falls from one to 1 - epsilon over the steps, as networks learn clean examples first and
    noise later: for `scheduled(small_losses, keep_fraction=...)`. The drop rate
    :math:`\min(a t, \epsilon)` of the truncated loss T-CE is the same with T_k = epsilon / a.

    Args:
      noise_rate: epsilon in [0, 1), the fraction of wrong labels.
      num_gradual_steps: T_k > 0, ten epochs in the paper.

    References:
      R(T) in Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
      Labels", NeurIPS 2018, arXiv:1804.06872, Algorithm 1.
    """
    check_range("noise_rate", noise_rate, low=0.0, high=1.0, high_open=True)
    check_positive("num_gradual_steps", num_gradual_steps)
    return lambda step: 1 - noise_rate * jnp.minimum(step / num_gradual_steps, 1.0)


def curriculum(
    difficulty: Array,
    num_steps: int | Array,
    initial_fraction: float | Array = 0.2,
    *,
    normalize: bool = True,
) -> Weighting:
    """Curriculum learning: first the easiest examples of the training set, then all of them.

    At each step the examples count whose difficulty lies below the training set's quantile at
    `root_pace`; equal difficulties enter together, and a batch of hard examples alone gets zeros.
    An initial fraction of one is uniform from the start. As these are weights, early batches have
    fewer examples that count; drawing batches from the admitted set would fill them.

    Args:
      difficulty: [N], larger is harder, by position in the training set; it stays fixed.
      num_steps: steps until every example takes part.
      initial_fraction: in (0, 1], at the first step.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: indices. State: the step. Cost: O(B), after one sort of the training set
      at construction.

    References:
      Bengio, Louradour, Collobert, Weston, "Curriculum Learning", ICML 2009; the pace is
      `root_pace`'s.
    """
    pace = root_pace(num_steps, initial_fraction)
    scores = _read_difficulty(difficulty)
    num_easier = jnp.searchsorted(jnp.sort(scores), scores, side="left")

    def init_fn(key, params):
        del key, params
        return CountState(jnp.zeros((), jnp.int32))

    def update_fn(weights: Array, state: CountState, signals: Signals, **extra: Any):
        indices = read_indices("curriculum()", signals)
        num_kept = whole_count(pace(state.count), scores.size)
        easy = (num_easier[indices] < num_kept).astype(signals.losses.dtype)
        return finish(weights * easy, signals, normalize), CountState(state.count + 1)

    return guarded(init_fn, update_fn, num_examples=scores.size)


def mentornet_curriculum(
    quantile: float | Array = 0.75,
    ramp: float | Array = 0.0,
    *,
    decay: float | Array = 0.9,
    normalize: bool = True,
) -> Weighting:
    r"""MentorNet's predefined curriculum: drops losses above a moving quantile (Jiang et al.).

    .. math:: w_i = \mathrm{clip}\!\left(1 - \frac{\ell_i - \lambda_1}{\lambda_2}, 0, 1\right)

    the minimizer of :math:`w \ell + \frac12 \lambda_2 w^2 - (\lambda_1 + \lambda_2) w` over [0, 1];
    for lambda_2 = 0 a threshold, :math:`1[\ell_i \le \lambda_1]`. lambda_1 is a moving average,
    corrected for its start, of the batches' quantiles, the present batch included. quantile = 1
    keeps nearly everything, and a large ramp is uniform.

    The paper's burn-in, during which all examples take part, is a chain:
    `chain(mentornet_curriculum(), deferred(num_steps))`, or `warm_up`. This is the curriculum that
    the paper's network learns to imitate, not the learned network.

    Args:
      quantile: in [0, 1], of the losses, that the threshold follows; the paper uses about 0.75.
      ramp: lambda_2 >= 0, in units of the loss: weights fall from one at lambda_1 to zero at
        lambda_1 + lambda_2.
      decay: in [0, 1), of the moving average.
      normalize: to mean one over the batch; False gives the native weights in [0, 1].

    Returns:
      A `Weighting`. Reads: losses. State: the average quantile. Cost: O(B log B).

    References:
      Jiang, Zhou, Leung, Li, Fei-Fei, "MentorNet: Learning Data-Driven Curriculum for Very Deep
      Neural Networks on Corrupted Labels", ICML 2018, arXiv:1712.05055.
    """
    check_range("quantile", quantile, low=0.0, high=1.0)
    check_range("ramp", ramp, low=0.0, high=math.inf, high_open=True)
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)

    def init_fn(key, params):
        del key, params
        return init_average()

    def update_fn(weights: Array, state: RunningAverage, signals: Signals, **extra: Any):
        losses, valid = at_least_float32(signals.losses), signals.valid > 0
        current = masked_quantile(losses, valid, quantile)
        threshold, state = update_average(state, current, decay, jnp.any(valid))
        excess = losses - threshold
        soft = jnp.clip(1 - excess / jnp.where(ramp > 0, ramp, 1), 0, 1)
        own = jnp.where(ramp > 0, soft, excess <= 0)
        return finish(weights * own, signals, normalize), state

    return guarded(init_fn, update_fn)


class PaceState(NamedTuple):
    """The step, and the average quantile of the first epoch's batches."""

    count: Array  # [] updates so far
    num_batches: Array  # [] batches in the average
    start: Array  # [] average quantile of their losses: lambda_0


def paced_self_paced(
    steps_per_epoch: int | Array,
    growth: float | Array = 1.1,
    initial_quantile: float | Array = 0.5,
    *,
    normalize: bool = True,
) -> Weighting:
    r"""Self-paced learning at a pace of its own: :math:`w_i = 1[\ell_i < \lambda_e]` in epoch e.

    The first epoch is uniform and sets :math:`\lambda_1`, the mean over its batches of a quantile
    of their losses; then :math:`\lambda_{e+1} = \lambda_e \cdot` growth until all examples are in.
    A growth of one keeps the threshold, which admits more examples as they are learned; a large
    growth is uniform. Kumar et al. leave the start and the pace to the application.

    Args:
      steps_per_epoch: > 0.
      growth: factor per epoch, >= 1.
      initial_quantile: in [0, 1]: of the first epoch's losses, how many lie below the threshold.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses. State: the step and the first threshold. Cost: O(B log B).

    References:
      Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", NeurIPS 2010; the
      start and the pace are ours. For other paces: `scheduled(self_paced, threshold=...)`.
    """
    check_positive("steps_per_epoch", steps_per_epoch)
    check_range("growth", growth, low=1.0, high=math.inf, high_open=True)
    check_range("initial_quantile", initial_quantile, low=0.0, high=1.0)

    def init_fn(key, params):
        del key, params
        return PaceState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros(()))

    def update_fn(weights: Array, state: PaceState, signals: Signals, **extra: Any):
        losses, valid = at_least_float32(signals.losses), signals.valid > 0
        epoch = state.count // steps_per_epoch
        counted = (epoch < 1) & jnp.any(valid)
        num_batches = state.num_batches + counted
        change = (masked_quantile(losses, valid, initial_quantile) - state.start) / jnp.maximum(
            num_batches, 1
        )
        start = jnp.where(counted, state.start + change, state.start).astype(state.start.dtype)
        largest = jnp.finfo(start.dtype).max
        factor = jnp.minimum(jnp.asarray(growth, start.dtype) ** (epoch - 1), largest)
        own = ((epoch < 1) | (losses < start * factor)).astype(signals.losses.dtype)
        return finish(weights * own, signals, normalize), PaceState(
            state.count + 1, num_batches, start
        )

    return guarded(init_fn, update_fn)


def _read_difficulty(difficulty: Array) -> Array:
    scores = jnp.asarray(difficulty)
    check_vector("difficulty", scores)
    if not isinstance(difficulty, Tracer) and not np.all(np.isfinite(np.asarray(difficulty))):
        raise ValueError(
            "difficulty must be finite, one number per training example; got nan or inf"
        )
    return scores
