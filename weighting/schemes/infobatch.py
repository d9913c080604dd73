"""Dynamic data pruning without bias: dropped at random, survivors scaled up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import last_occurrence, read_indices, write
from weighting._checks import check_positive, check_range
from weighting.base import Weighting, guarded
from weighting.linearize import masked_mean


class InfobatchState(NamedTuple):
    """The latest loss of every example, and what the draws of a step are folded from."""

    losses: Array  # [N]
    seen: Array  # [N] boolean
    key: Array
    count: Array  # [] steps so far


def infobatch(
    num_examples: int,
    num_steps: int | Array,
    *,
    prune: float | Array = 0.5,
    anneal: float | Array = 0.125,
) -> Weighting:
    r"""InfoBatch: drops well-learned examples at random and scales up the rest (Qin et al., 2024).

    .. math:: w_i = \begin{cases} 0 \text{ with probability } r,\ \frac{1}{1 - r} \text{ otherwise}
       & \text{if } h_i < \bar h \\ 1 & \text{otherwise} \end{cases}

    with h the stored losses and their mean over the examples seen so far; an example not seen yet
    is kept. Every weight is one in expectation, so the weighted gradient is unbiased, which
    normalizing per batch would spoil. A dropped example keeps its stored loss. The last fraction of
    the steps prunes nothing. The draw of a step depends on the key, the step and the example alone,
    so a resumed run repeats it.

    Args:
      num_examples: N, the size of the training set.
      num_steps: length of the training run.
      prune: r in [0, 1); 0 is uniform.
      anneal: fraction of the steps at the end without pruning, in [0, 1]; 1 is uniform.

    Returns:
      A `Weighting`. Reads: losses, indices. State: latest losses [N], a key, a step count. Scale:
      mean one in expectation. Cost: O(N) per batch. It reproduces the gradients, not the savings:
      a dropped example has had its forward pass.

    References:
      Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR
      2024, arXiv:2303.04947, Secs. 2.2-2.4. The paper draws once per epoch and leaves the dropped
      examples out of the batches; its scores start at one instead of unseen.
    """
    check_positive("num_steps", num_steps)
    check_range("prune", prune, low=0.0, high=1.0, high_open=True)
    check_range("anneal", anneal, low=0.0, high=1.0)

    def init_fn(key, params):
        del params
        seen = jnp.zeros(num_examples, bool)
        return InfobatchState(jnp.zeros(num_examples), seen, key, jnp.zeros((), jnp.int32))

    def update_fn(weights, state, signals, **extra):
        indices = read_indices("infobatch()", signals)
        stored = state.losses[indices]
        learned = state.seen[indices] & (stored < masked_mean(state.losses, state.seen))
        candidates = learned & (state.count < (1 - anneal) * num_steps)

        step_key = jax.random.fold_in(state.key, state.count)
        draw = jax.vmap(lambda index: jax.random.uniform(jax.random.fold_in(step_key, index)))
        dropped = candidates & (draw(indices) < prune)
        own = jnp.where(dropped, 0, jnp.where(candidates, 1 / (1 - prune), 1))

        trained = last_occurrence(indices, signals.valid) & ~dropped
        losses = write(state.losses, indices, trained, signals.losses)
        seen = write(state.seen, indices, trained, jnp.ones(indices.shape, bool))
        weights = (weights * own * signals.valid).astype(signals.losses.dtype)
        return weights, InfobatchState(losses, seen, state.key, state.count + 1)

    return guarded(init_fn, update_fn, num_examples=num_examples)
