"""Random weights: a baseline that is hard to beat under label noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting.base import Weighting, guarded, mean_one


class RandomState(NamedTuple):
    """The key that every step's draw is folded from, and the number of steps so far."""

    key: Array
    count: Array


def random() -> Weighting:
    r"""Rectified Gaussian weights, fresh every step: RANDOM (Ren et al., 2018).

    .. math:: w_i \propto \max(z_i, 0), \quad z_i \sim \mathcal{N}(0, 1)

    Half of the batch is dropped on average. Should every z_i be negative, the weights are all zero.

    Returns:
      A `Weighting`. Reads: nothing. State: a key and a step count. Scale: mean one over the batch
      (ren2018 has sum one; multiply by B). Cost: O(B).

    References:
      Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Eq. (16).
    """

    def init_fn(key, params):
        del params
        return RandomState(key, jnp.zeros((), jnp.int32))

    def update_fn(weights, state, signals, **extra):
        noise = jax.random.normal(
            jax.random.fold_in(state.key, state.count), weights.shape, signals.losses.dtype
        )
        weights = mean_one(weights * jnp.maximum(noise, 0), signals.valid)
        return weights, RandomState(state.key, state.count + 1)

    return guarded(init_fn, update_fn)
