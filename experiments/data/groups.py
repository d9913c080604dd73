"""Draws by whole groups (all images of one lesion), so that none is in two splits."""

import numpy as np

from experiments.data.sets.types import Dataset
from experiments.data.stratify import Seed, class_counts


def check_groups(dataset: Dataset) -> np.ndarray:
    """Return the groups [N] of a dataset; raise if it has none or they do not fit its labels."""
    if dataset.groups is None:
        raise ValueError(f"dataset {dataset.name!r} has no groups: split it by example")
    groups = np.asarray(dataset.groups)
    if groups.shape != dataset.labels.shape or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"groups of {dataset.name!r} must be integers of shape {list(dataset.labels.shape)}, "
            f"got {groups.dtype} of shape {list(groups.shape)}"
        )
    return groups


def split_groups(
    labels: np.ndarray, groups: np.ndarray, wanted: np.ndarray, seed: Seed
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `wanted[c]` examples of each class c by whole groups, at random; return also the rest.

    How many examples are drawn and left never depends on the seed. That is free where a class has
    enough groups of a single example (one less than its largest group has examples): they fill up
    what larger groups leave open. Of a class with fewer, `largest - 1` examples belong to neither
    part: at most one group is cut, and the others make up for what another seed would lose so.

    Args:
      labels: [N] integers; a group has examples of one class alone.
      groups: [N] integers.
      wanted: [C], none more than the class has.
      seed: chooses the groups.

    Returns:
      Positions of the examples drawn, and of the rest; both sorted.

    Raises:
      ValueError: a group has two classes, or a class so few groups that one part gets none.
    """
    _, groups = np.unique(groups, return_inverse=True)
    _check_pure(labels, groups)
    rng = np.random.default_rng(seed)
    pairs = [
        _split_class(c, np.flatnonzero(labels == c), groups, int(number), rng)
        for c, number in enumerate(wanted)
    ]
    drawn, rest = (np.sort(np.concatenate(part)) for part in zip(*pairs, strict=True))
    return drawn, rest


def _split_class(
    c: int, members: np.ndarray, groups: np.ndarray, wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if wanted == 0:
        return members[:0], members
    sizes = class_counts(groups[members], len(groups))
    order = rng.permutation(np.flatnonzero(sizes))
    largest = int(sizes.max())
    singles = order[sizes[order] == 1]
    fillers = singles[: largest - 1]
    order = np.concatenate([order[~np.isin(order, fillers)], fillers])

    missing, taken = wanted, np.zeros(len(groups), bool)
    for group in order:
        if sizes[group] <= missing:
            taken[group] = True
            missing -= sizes[group]
    is_drawn = taken[groups[members]]
    drawn, rest = members[is_drawn], rng.permutation(members[~is_drawn])
    if missing:  # every group left is larger than that: cut the smallest
        left = order[~taken[order]]
        is_cut = groups[rest] == left[np.argmin(sizes[left])]
        drawn = np.concatenate([drawn, rest[is_cut][:missing]])
        rest = rest[~is_cut]
    num_lost = 0 if len(singles) >= largest - 1 else largest - 1
    num_left = len(members) - wanted - num_lost
    if num_left <= 0 and len(members) > wanted:
        raise ValueError(
            f"class {c} has {len(members)} examples in {len(order)} groups: too few to draw "
            f"{wanted} of them by whole groups and leave any"
        )
    return drawn, rest[:num_left]


def _check_pure(labels: np.ndarray, groups: np.ndarray) -> None:
    first = np.zeros(groups.max(initial=-1) + 1, labels.dtype)
    first[groups] = labels
    mixed = np.flatnonzero(first[groups] != labels)
    if mixed.size:
        i = mixed[0]
        raise ValueError(
            f"a group must have one class; that of example {i} has classes {labels[i]} and "
            f"{first[groups[i]]}"
        )
