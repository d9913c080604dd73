r"""Which examples to draw: sampling as the counterpart of weighting, as pure functions of a key.

Drawing class c with probability q(c) instead of its share p(c) and weighting it by q(c) / p(c) give
the same expected gradient; they differ in variance. Indices are drawn; weights stay one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._checks import check_positive, check_range, check_vector
from weighting._numbers import lookup


class ClassGroups(NamedTuple):
    """The examples of each class, as one array of positions sorted by class."""

    order: Array  # [N] positions, class by class
    starts: Array  # [C] where each class begins in `order`
    counts: Array  # [C] examples per class


def group_by_class(labels: Array, num_classes: int) -> ClassGroups:
    """Sorts the positions of a training set by class, once, for the samplers below.

    Args:
      labels: [N] integers in [0, C).
      num_classes: C.
    """
    check_vector("labels", labels)
    if not isinstance(labels, Tracer):
        values = np.asarray(labels)
        if values.size == 0 or values.min() < 0 or values.max() >= num_classes:
            raise ValueError(f"labels must be N >= 1 integers from 0 to {num_classes - 1}")
    labels = jnp.asarray(labels)
    counts = jnp.bincount(labels, length=num_classes)
    return ClassGroups(jnp.argsort(labels, stable=True), jnp.cumsum(counts) - counts, counts)


def class_balanced_indices(
    key: Array, groups: ClassGroups, batch_size: int, *, replace: bool = False
) -> Array:
    """A batch with equally many examples of every class: RESAMPLE (Ren et al., 2018).

    A batch that the classes do not divide gives its remainder to classes chosen at random, so that
    every class has the same expected share. Classes without examples are left out.

    Args:
      key: of the draw.
      groups: from `group_by_class`.
      batch_size: B, static.
      replace: False draws without replacement from every class that has at least B / C examples,
        and with replacement from smaller ones; it costs a sort of the training set. True draws
        every slot independently, O(B).

    Returns:
      Positions [B], the classes taking turns.

    References:
      RESAMPLE in Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Sec. 4.1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> labels = jnp.array([0, 0, 0, 0, 0, 1])
      >>> batch = class_balanced_indices(jax.random.key(0), group_by_class(labels, 2), 4)
      >>> labels[batch].sum()
      Array(2, dtype=int32)
    """
    check_positive("batch_size", batch_size)
    class_key, slot_key, order_key = jax.random.split(key, 3)
    present = groups.counts > 0
    num_present = jnp.sum(present)
    turns = jnp.argsort(jax.random.uniform(class_key, present.shape) + ~present)  # absent last
    slots = jnp.arange(batch_size)
    classes = turns[slots % num_present]
    counts = groups.counts[classes]
    member = jax.random.randint(slot_key, slots.shape, 0, counts)
    order = groups.order
    if not replace:
        order = _shuffle_within_classes(order_key, groups)
        turn = slots // num_present
        share = (batch_size - jnp.argsort(turns)[classes] - 1) // num_present + 1
        member = jnp.where(counts >= share, turn, member)
    return order[groups.starts[classes] + member]


def class_sampling_probabilities(class_counts: Array, power: float | Array) -> Array:
    r"""Probability of drawing each class, :math:`q(c) = n_c^\gamma / \sum_k n_k^\gamma`; [C].

    Power 1 draws examples uniformly (instance-balanced), 0 classes uniformly (class-balanced), 1/2
    is square-root sampling; a negative power favours rare classes beyond balance. A class without
    examples has probability zero at any power.

    Args:
      class_counts: [C] training examples per class.
      power: gamma, any finite number; may be traced.

    References:
      Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR
      2020, arXiv:1910.09217, Eq. (1).
    """
    check_range("power", power, low=-np.inf, high=np.inf, low_open=True, high_open=True)
    counts = jnp.asarray(class_counts)
    present = counts > 0
    shares = jnp.where(present, counts, 1) / jnp.maximum(jnp.max(counts), 1)
    powers = jnp.where(present, shares**power, 0)
    return powers / jnp.sum(powers)


def example_sampling_probabilities(
    labels: Array, class_counts: Array, power: float | Array
) -> Array:
    """Probability of drawing each example, its class's divided among the class's members; [N].

    They sum to one if `class_counts` are the counts of `labels`; a label without a count has the
    probability NaN. For `weighted_indices`.
    """
    counts = jnp.asarray(class_counts)
    per_member = class_sampling_probabilities(counts, power) / jnp.maximum(counts, 1)
    return lookup(per_member, labels)


def weighted_indices(
    key: Array, probabilities: Array, num_draws: int, *, replace: bool = True
) -> Array:
    """Draws positions with the given probabilities; [num_draws].

    Args:
      key: of the draw.
      probabilities: [N], non-negative; they need not sum to one.
      num_draws: static.
      replace: False draws distinct positions, one after the other from what is left (then the
        chance of being in the draw is no longer proportional to the probability).
    """
    check_vector("probabilities", probabilities)
    check_positive("num_draws", num_draws)
    if not replace and num_draws > len(probabilities):
        raise ValueError(
            f"cannot draw {num_draws} distinct positions out of {len(probabilities)}; draw fewer, "
            "or with replace=True"
        )
    total = jnp.sum(probabilities)
    return jax.random.choice(
        key, len(probabilities), (num_draws,), replace=replace, p=probabilities / total
    )


def _shuffle_within_classes(key: Array, groups: ClassGroups) -> Array:
    num_examples = groups.order.shape[0]
    ends = groups.starts + groups.counts
    classes = jnp.searchsorted(ends, jnp.arange(num_examples), side="right")
    return groups.order[jnp.lexsort((jax.random.uniform(key, (num_examples,)), classes))]
