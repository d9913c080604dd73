"""Keeping a part of every batch by a score."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import descending_rank, finish, read_indices, whole_count
from weighting._checks import check_range
from weighting._numbers import at_least_float32
from weighting.base import Signals, Weighting, stateless


def rho_loss(
    irreducible_losses: Array, fraction: float | Array = 0.1, *, normalize: bool = True
) -> Weighting:
    r"""RHO-LOSS: keeps the examples worth learning and not yet learnt (Mindermann et al., 2022).

    Those with the largest reducible loss :math:`\ell_i - \ell^{\mathrm{holdout}}_i`, the second
    term being the loss under a model trained on other, held-out data. It is large for noise, which
    nothing reduces, and for outliers, which the holdout data do not need; redundant examples have a
    small first term. Equal irreducible losses give `top_losses`. Ties go to the first in the batch.

    Args:
      irreducible_losses: [N], by position in the training set; fixed before training.
      fraction: in (0, 1]; at least one example is kept, and one is uniform. The paper keeps 32 out
        of 320.
      normalize: to mean one over the batch; False gives the native zeros and ones.

    Returns:
      A `Weighting`. Reads: losses, indices. State: none. Cost: O(B log B).

    References:
      Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and Not
      Yet Learnt", ICML 2022, arXiv:2206.07137, Algorithm 1.
    """
    check_range("fraction", fraction, low=0.0, high=1.0, low_open=True)
    table = jnp.asarray(irreducible_losses)
    if table.ndim != 1:
        raise ValueError(
            "irreducible_losses must be a vector [N], one per training example; got shape "
            f"{table.shape}"
        )
    if not isinstance(irreducible_losses, Tracer):
        bad = ~np.isfinite(np.asarray(irreducible_losses, np.float64))
        if np.any(bad):
            raise ValueError(
                f"irreducible_losses must be finite; entry {int(np.flatnonzero(bad)[0])} is not"
            )

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        expected = table[read_indices("rho_loss()", signals)]
        reducible = at_least_float32(signals.losses) - expected
        valid = signals.valid > 0
        num_kept = jnp.maximum(whole_count(fraction, jnp.sum(valid)), 1)
        chosen = valid & (descending_rank(reducible, valid) < num_kept)
        return finish(weights * chosen.astype(signals.losses.dtype), signals, normalize)

    return stateless(update, num_examples=table.shape[0])
