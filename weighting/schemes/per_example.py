"""Fixed weights of the training examples, looked up by position."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import read_indices
from weighting._checks import check_range
from weighting.base import Signals, Weighting, stateless


def per_example(weights: Array, *, normalize: bool = True) -> Weighting:
    r"""Fixed weights :math:`w_i = v_i / \bar v`, one for every training example.

    It carries whatever is known before training: density ratios (importance weighting, Shimodaira,
    2000), inverse propensities, oracle margins, difficulties, known noisy examples. They average to
    one over the *training set*, not over each batch: normalizing per batch would bias the estimate
    of the weighted risk (chain `normalize_mean()` to self-normalize).

    Args:
      weights: v [N], not negative, by position in the training set.
      normalize: to mean one over the training set; False takes the weights as they are.

    Returns:
      A `Weighting`. Reads: indices. State: none. Scale: mean one over the training set. Cost: O(B).

    References:
      xu2021 (Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for Deep Learning", ICLR
      2021), Sec. 2: weights that are fixed before training.

    Example:
      >>> import jax.numpy as jnp
      >>> scheme = per_example(jnp.array([1.0, 1.0, 4.0]))  # weights 0.5, 0.5, 2
    """
    table = jnp.asarray(weights)
    if table.ndim != 1:
        raise ValueError(
            "weights must be a vector [N], one weight per training example; got shape "
            f"{table.shape}"
        )
    if not isinstance(weights, Tracer):
        _check_values(np.asarray(weights), normalize)
    table = table.astype(jnp.promote_types(table.dtype, jnp.float32))
    if normalize:
        mean = jnp.mean(table)
        table = table / jnp.where(mean == 0, 1, mean)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        own = table[read_indices("per_example()", signals)]
        return (weights * own).astype(signals.losses.dtype)

    return stateless(update, num_examples=table.shape[0])


def known_examples_weights(is_member: Array, value: float | Array) -> Array:
    r"""Weight v on the marked examples and 1 on the others, scaled to mean one; [N].

    Above 1 the marked examples gain (the experiments of zhou2022 on noisy examples, up), below 1
    they lose, 0 drops them, 1 is uniform.

    Args:
      is_member: [N], boolean or 0/1: which training examples are marked.
      value: v >= 0.

    Returns:
      Weights [N] that average to one (all zero if v = 0 and every example is marked).

    References:
      Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal Difficulty
      Measure", ECML-PKDD 2022 (zhou2022), Figs. 4e-f and 5a; the ratios are not printed.

    Example:
      >>> import jax.numpy as jnp
      >>> known_examples_weights(jnp.array([True, False, False, False]), 5.0)
      Array([2.5, 0.5, 0.5, 0.5], dtype=float32)
    """
    check_range("value", value, low=0.0)
    marked = jnp.asarray(is_member)
    if marked.ndim != 1:
        raise ValueError(f"is_member must be a vector [N], got shape {marked.shape}")
    weights = jnp.where(marked != 0, jnp.asarray(value, float), 1.0)
    mean = jnp.mean(weights)
    return weights / jnp.where(mean == 0, 1, mean)


def jtt_weights(is_error: Array, upweight: float | Array) -> Array:
    r"""Just Train Twice: the examples that a first model gets wrong weigh more (Liu et al., 2021).

    A short run of ERM (regularized, stopped early) identifies the error set; the second model
    trains from scratch with these weights. The paper repeats every error `upweight` times in the
    training set, which is the same risk up to its scale; here the weights average to one.

    Args:
      is_error: [N], boolean or 0/1: which training examples the first model misclassifies.
      upweight: lambda_up >= 1; 1 is uniform, a large one trains on the errors alone.

    Returns:
      Weights [N] that average to one, for `per_example`.

    References:
      Liu et al., "Just Train Twice: Improving Group Robustness without Training Group Information",
      ICML 2021, arXiv:2107.09044, Algorithm 1.
    """
    check_range("upweight", upweight, low=1.0)
    return known_examples_weights(is_error, upweight)


def _check_values(weights: np.ndarray, normalize: bool) -> None:
    values = weights.astype(np.float64)
    bad = ~np.isfinite(values) | (values < 0)
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"weights must be finite and not negative; weights[{first}] is {values[first]:g}"
        )
    if normalize and not np.any(values > 0):
        raise ValueError("weights are all zero (or there are none): nothing to scale to mean one")
