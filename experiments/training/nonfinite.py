"""Stops a run whose loss, weights or parameters became NaN or infinite, and says where."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.training.config import RunConfig


class NonFiniteError(RuntimeError):
    """A loss, weight or parameter became NaN or infinite; the run stopped."""


@jax.jit
def finite_runs(params: Any) -> Array:
    """Whether all parameters of a run are finite: booleans [H, S], from leaves [H, S, ...].

    It is asked on the device, so that one boolean a run comes to the host, and no parameter.
    """
    leaves = jax.tree.leaves(params)
    finite = [jnp.all(jnp.isfinite(x), axis=tuple(range(2, x.ndim))) for x in leaves]
    return functools.reduce(jnp.logical_and, finite)


def check_finite(
    configs: Sequence[RunConfig], losses: np.ndarray, params: Any, first_step: int
) -> None:
    """Checks an interval of training.

    Args:
      configs: H.
      losses: weighted losses [H, S, T] of the interval's steps.
      params: parameters after its last step, leaves [H, S, ...] on the device.
      first_step: the number of its first step.

    Raises:
      NonFiniteError: names the first step at which something is not finite, and its run.
    """
    is_finite = np.asarray(finite_runs(params))[..., None]
    bad = ~np.concatenate([np.isfinite(losses), is_finite], axis=-1)
    if not bad.any():
        return
    step = int(np.argmax(bad.any(axis=(0, 1))))
    h, s = np.argwhere(bad[:, :, step])[0]
    config = configs[h]
    if step < losses.shape[-1]:
        what = f"the weighted loss became {losses[h, s, step]}"
    else:
        step, what = step - 1, "a parameter became non-finite"
    raise NonFiniteError(
        f"{what} at step {first_step + step}, seed {config.first_seed + s} "
        f"(weighting {config.weighting}, learning rate {config.learning_rate:g}). "
        "Try a smaller learning rate."
    )
