"""What training has shown about each example so far, in arrays keyed by position."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import (
    last_occurrence,
    read_indices,
    read_labels,
    read_logits,
    running_moments,
    write,
)
from weighting._checks import check_range
from weighting._types import PyTree
from weighting.base import Weighting, guarded
from weighting.losses import log_label_probabilities
from weighting.metrics import predict


class History(NamedTuple):
    """One row per training example; all zero (false) before its first visit.

    A visit is a step whose batch holds the example. If it occurs there more than once (drawn with
    replacement, augmented twice), the last occurrence is the visit.
    """

    count: Array  # [N] visits
    last_loss: Array  # [N]
    average_loss: Array  # [N] exponential moving average that starts at the first loss
    last_weight: Array  # [N] the weight that reached `record_history` at the last visit
    last_correct: Array  # [N] boolean: was the prediction right at the last visit
    ever_correct: Array  # [N] boolean: was it ever
    forgetting_events: Array  # [N] visits with a wrong prediction right after a correct one
    mean_probability: Array  # [N] of p_y over the visits
    variance_probability: Array  # [N] of p_y over the visits (divided by their number)

    @property
    def never_learned(self) -> Array:
        """[N] visited, and wrong every time: such examples have no forgetting event to count."""
        return (self.count > 0) & ~self.ever_correct

    @property
    def unforgettable(self) -> Array:
        """[N] learned at some visit and never forgotten since."""
        return self.ever_correct & (self.forgetting_events == 0)


def record_history(num_examples: int, decay: float | Array = 0.9) -> Weighting:
    r"""Leaves the weights alone and records losses, predictions and forgetting events.

    Chain it last to record the final weights; `read_history` finds the result in the state.

    Args:
      num_examples: N, the size of the training set.
      decay: of the moving average of the loss, in [0, 1); 0 is the last loss.

    Returns:
      A `Weighting`. Reads: losses, logits, labels, indices. State: a `History`. Scale: the incoming
      weights. Cost: O(B (C + log B)).

    References:
      Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
      ICLR 2019, arXiv:1812.05159, Sec. 3 (forgetting events at visits, unforgettable and never
      learned examples). Predictions are those of the training step, before its update.

    Example:
      >>> from weighting import chain, focal
      >>> scheme = chain(focal(2.0), record_history(num_examples=50_000))
    """
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)

    def init_fn(key, params):
        del key, params
        zeros, never = jnp.zeros(num_examples), jnp.zeros(num_examples, bool)
        none = jnp.zeros(num_examples, jnp.int32)
        return History(none, zeros, zeros, zeros, never, never, none, zeros, zeros)

    def update_fn(weights, state, signals, **extra):
        name = "record_history()"
        indices = read_indices(name, signals)
        logits, labels = read_logits(name, signals), read_labels(name, signals)
        dtype = state.last_loss.dtype
        probability = jnp.exp(log_label_probabilities(logits, labels)).astype(dtype)
        losses, correct = signals.losses.astype(dtype), predict(logits) == labels

        old: History = jax.tree.map(lambda table: table[indices], state)
        moments = (old.mean_probability, old.variance_probability)
        count, mean, variance = running_moments(old.count, *moments, probability)
        average = decay * old.average_loss + (1 - decay) * losses
        new = History(
            count=count,
            last_loss=losses,
            average_loss=jnp.where(old.count == 0, losses, average),
            last_weight=weights,
            last_correct=correct,
            ever_correct=old.ever_correct | correct,
            forgetting_events=old.forgetting_events + (old.last_correct & ~correct),
            mean_probability=mean,
            variance_probability=variance,
        )
        visits = last_occurrence(indices, signals.valid)
        return weights, jax.tree.map(
            lambda table, rows: write(table, indices, visits, rows), state, new
        )

    return guarded(init_fn, update_fn, num_examples=num_examples)


def read_history(state: PyTree) -> History:
    """The `History` in the state of a chain, however nested, or in a whole training state.

    Raises:
      ValueError: if there is none, or more than one.
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, History))
    found = [leaf for leaf in leaves if isinstance(leaf, History)]
    if len(found) != 1:
        raise ValueError(
            f"expected one History in the state, found {len(found)}. Chain record_history(N) "
            "once, and pass the state that its update returned"
        )
    return found[0]
