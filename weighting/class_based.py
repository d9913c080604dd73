"""Weights that depend on the class alone."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._parts import read_labels
from weighting.base import Weighting, stateless


def inverse_class_frequency(class_counts: Array) -> Weighting:
    r"""Weights examples by the inverse of their class's frequency: PROPORTION, balanced
    cross-entropy.

    .. math:: w_i = \frac{N}{C\, n_{y_i}}

    The weights average to one over the *training set*, not over each batch: normalizing per batch
    would give a biased estimate of the weighted risk (chain `normalize_mean()` if you want it).

    Args:
      class_counts: [C] training examples per class; every class needs at least one.

    Returns:
      A `Weighting`. Reads: labels. State: none. Scale: mean one over the training set. Cost: O(B).

    References:
      PROPORTION in Ren et al., "Learning to Reweight Examples", ICML 2018, Sec. 4.1 (the released
      code does not normalize); bCE in Santiago et al., "LOW", Pattern Recognition 2021, Sec. 4.
    """
    if not isinstance(class_counts, Tracer):
        _check_counts(np.asarray(class_counts))
    counts = jnp.asarray(class_counts)
    class_weights = jnp.sum(counts) / (len(counts) * counts)

    def update(weights, signals, **extra):
        labels = read_labels("inverse_class_frequency()", signals)
        return (weights * class_weights[labels] * signals.valid).astype(signals.losses.dtype)

    return stateless(update)


def _check_counts(counts: np.ndarray) -> None:
    if counts.ndim != 1 or not np.all(counts > 0):
        raise ValueError(
            "class_counts must be a vector [C] of positive counts, one per class; got "
            f"{counts.tolist()}. A class without examples cannot be weighted: drop it, or merge it."
        )
