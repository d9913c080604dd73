r"""Inverse propensity weights: undo a selection whose probabilities are known.

If example i enters the training set with probability :math:`e(x_i)`, weights :math:`1 / e(x_i)`
make sums over what was observed unbiased for sums over everything (Horvitz and Thompson, 1952).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import finish, read_indices
from weighting._checks import check_range, check_vector
from weighting.base import Signals, Weighting, mean_one, stateless


def inverse_propensity_weights(
    propensities: Array,
    *,
    observed: Array | None = None,
    floor: float | Array = 0.0,
    normalize: bool = True,
) -> Array:
    r"""Weights :math:`w_i = o_i / \max(e_i, \text{floor})` of a sample; [N].

    Args:
      propensities: e [N], the probability that each example is observed, in (0, 1].
      observed: o [N], 0/1; None means that all N were observed.
      floor: smallest propensity used, in [0, 1]: weights are at most 1 / floor. It trades bias for
        variance; one makes the weights uniform.
      normalize: True scales the weights of the observed examples to mean one (the self-normalized
        or Hajek estimator, slightly biased, invariant to adding a constant to the losses). False is
        the unbiased estimator: :math:`\frac{1}{N} \sum_i w_i \ell_i` over all N, observed or not.

    Returns:
      Weights [N], zero where an example was not observed.

    References:
      Horvitz and Thompson, "A Generalization of Sampling Without Replacement From a Finite
      Universe", JASA 1952; Swaminathan and Joachims, "The Self-Normalized Estimator for
      Counterfactual Learning", NeurIPS 2015.

    Example:
      >>> import jax.numpy as jnp
      >>> inverse_propensity_weights(jnp.array([0.5, 0.1]), floor=0.25, normalize=False)
      Array([2., 4.], dtype=float32)
    """
    _check_propensities(propensities)
    check_range("floor", floor, low=0.0, high=1.0)
    seen = jnp.ones_like(propensities) if observed is None else observed.astype(propensities.dtype)
    used = jnp.maximum(propensities, floor)
    weights = seen / jnp.where(used > 0, used, 1)
    return mean_one(weights, seen) if normalize else weights


def inverse_propensity(
    propensities: Array, *, floor: float | Array = 0.0, normalize: bool = True
) -> Weighting:
    r"""Weights the training examples by the inverse of their probability of being observed.

    Args:
      propensities: [N] by position in the training set, in (0, 1].
      floor: smallest propensity used, in [0, 1]; one is uniform.
      normalize: to mean one over the batch (self-normalized); False gives 1 / max(e, floor).

    Returns:
      A `Weighting`. Reads: indices. State: none. Cost: O(B).

    References:
      Horvitz and Thompson, "A Generalization of Sampling Without Replacement From a Finite
      Universe", JASA 1952.
    """
    own = inverse_propensity_weights(jnp.asarray(propensities), floor=floor, normalize=False)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        indices = read_indices("inverse_propensity()", signals)
        return finish(weights * own[indices], signals, normalize)

    return stateless(update, num_examples=own.shape[0])


def _check_propensities(propensities: Array) -> None:
    check_vector("propensities", propensities)
    if isinstance(propensities, Tracer):
        return
    values = np.asarray(propensities)
    if not np.all((values > 0) & (values <= 1)):
        raise ValueError(
            "propensities must lie in (0, 1]: an example that could not have been observed has no "
            f"weight; got values from {values.min():g} to {values.max():g}"
        )
