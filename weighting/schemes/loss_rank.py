"""Online batch selection: examples by the rank of their latest loss."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from weighting._arrays import finish, last_occurrence, mid_ranks, read_indices, write
from weighting._checks import check_range
from weighting._numbers import as_float, nan_if
from weighting.base import Weighting, guarded, is_valid


def loss_rank_probabilities(
    losses: Array, pressure: float | Array, *, mask: Array | None = None
) -> Array:
    r"""Selection probabilities :math:`\pi_i \propto s^{-r_i / N}` by the rank of the loss.

    The largest loss has rank r = 0, the smallest N - 1, so the hardest example is drawn about s
    times as often as the easiest. Only the order of the losses counts; equal losses share their
    average rank and so their probability. Infinite losses (not yet seen) are the largest.

    Args:
      losses: [N], the latest loss of every example.
      pressure: s >= 1; 1 is uniform. The paper lets it fall from 100 to 1 during training.
      mask: [N], 0 marks examples to leave out; they get probability zero, and N is the number of
        the others.

    Returns:
      Probabilities [N] with sum one.

    References:
      Loshchilov, Hutter, "Online Batch Selection for Faster Training of Neural Networks", 2015,
      arXiv:1511.06343, Sec. 3. There ties are broken by the sort.

    Example:
      >>> import jax.numpy as jnp
      >>> probabilities = loss_rank_probabilities(jnp.array([0.1, 5.0]), 4.0)
      >>> [round(p, 3) for p in probabilities.tolist()]  # the ratio is 4 ** (1 / 2)
      [0.333, 0.667]
    """
    check_range("pressure", pressure, low=1.0, high=jnp.inf, high_open=True)
    if losses.ndim != 1:
        raise ValueError(f"losses must be a vector [N], got shape {losses.shape}")
    losses = as_float(losses)
    keep = is_valid(mask, losses)
    count = jnp.maximum(jnp.sum(keep), 1)
    rank = jnp.where(keep, count - 1 - mid_ranks(losses, keep), 0)
    scores = jnp.where(keep, jnp.exp(-jnp.log(pressure) * rank / count), 0)
    total = jnp.sum(scores)
    scores = nan_if(jnp.any(keep & jnp.isnan(losses)), scores / jnp.where(total > 0, total, 1))
    return scores.astype(losses.dtype)


class LossRankState(NamedTuple):
    """The latest loss of every example, and whether it was seen."""

    losses: Array  # [N]
    seen: Array  # [N] boolean


def loss_rank(
    num_examples: int, pressure: float | Array = 100.0, *, normalize: bool = True
) -> Weighting:
    r"""Online batch selection as weights: :math:`w_i = N \pi_i` by the rank of the latest loss.

    Uniformly drawn batches with these weights have the expected gradient of batches drawn by
    `loss_rank_probabilities`. The losses of this step enter before the ranks are taken, among the N
    examples seen so far; for a pressure that falls, see `scheduled`.

    Args:
      num_examples: size of the training set.
      pressure: s >= 1; 1 is uniform, the hardest example weighs about s times the easiest.
      normalize: to mean one over the batch; False gives N pi, mean one over the examples seen.

    Returns:
      A `Weighting`. Reads: losses, indices. State: latest losses [N]. Scale: mean one.
      Cost: O(N log N) per batch, a sort of the table.

    References:
      Loshchilov, Hutter, "Online Batch Selection for Faster Training of Neural Networks", 2015,
      arXiv:1511.06343, who draw batches instead and refresh the losses of a part of the data.
    """
    check_range("pressure", pressure, low=1.0, high=jnp.inf, high_open=True)

    def init_fn(key, params):
        del key, params
        return LossRankState(jnp.zeros(num_examples), jnp.zeros(num_examples, bool))

    def update_fn(weights, state, signals, **extra):
        indices = read_indices("loss_rank()", signals)
        visits = last_occurrence(indices, signals.valid)
        losses = write(state.losses, indices, visits, signals.losses)
        seen = write(state.seen, indices, visits, jnp.ones(indices.shape, bool))
        own = jnp.sum(seen) * loss_rank_probabilities(losses, pressure, mask=seen)[indices]
        return finish(weights * own, signals, normalize), LossRankState(losses, seen)

    return guarded(init_fn, update_fn, num_examples=num_examples)
