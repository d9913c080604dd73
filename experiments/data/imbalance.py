"""Class imbalance: pure functions from labels to the sorted positions of the examples to keep."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.data.checks import check_labels, check_ratio
from experiments.data.specs import Spec, SpecKind, SpecValue, read_spec
from experiments.data.stratify import Seed, class_counts, draw_per_class
from experiments.data.two_classes import TWO_CLASSES, TwoClass, read_two_classes


def long_tail(
    labels: np.ndarray,
    num_classes: int,
    ratio: float,
    seed: Seed,
    *,
    shuffle_classes: bool = False,
    keep_one: bool = False,
) -> np.ndarray:
    """Thin the classes out exponentially, from `n_max` down to `n_max / ratio`.

    The class of rank r keeps `n_max * ratio ** (-r / (C - 1))` examples, rounded, with the largest
    integer `n_max` that every class can afford (Cui et al., 2019).

    Args:
      labels: [N] integers.
      num_classes: C.
      ratio: largest to smallest class, at least 1.
      seed: chooses the examples.
      shuffle_classes: rank the classes at random instead of by index. If classes differ in size,
        the number of examples kept then depends on the seed.
      keep_one: leave one example in a class that would lose all; otherwise that is an error.

    Returns:
      Positions to keep, sorted.
    """
    labels = check_labels(labels, num_classes)
    check_ratio(ratio)
    rng = np.random.default_rng(seed)
    ranks = rng.permutation(num_classes) if shuffle_classes else np.arange(num_classes)
    profile = float(ratio) ** (-ranks / (num_classes - 1))
    available = class_counts(labels, num_classes)
    present = available > 0
    largest = np.floor(np.min(available[present] / profile[present], initial=np.inf))
    wanted = np.where(present, np.rint(largest * profile), 0).astype(np.int64)
    return draw_per_class(labels, _without_empty_classes(wanted, available, keep_one), rng)


def step_imbalance(
    labels: np.ndarray, num_classes: int, ratio: float, seed: Seed, *, keep_one: bool = False
) -> np.ndarray:
    """Keep the first half of the classes and divide the others by `ratio` (Buda et al., 2018).

    With an odd number of classes the middle one is kept whole. `keep_one` is as in `long_tail`.
    """
    labels = check_labels(labels, num_classes)
    check_ratio(ratio)
    available = class_counts(labels, num_classes)
    is_minority = np.arange(num_classes) >= (num_classes + 1) // 2
    wanted = np.where(is_minority, np.rint(available / ratio), available).astype(np.int64)
    return draw_per_class(labels, _without_empty_classes(wanted, available, keep_one), seed)


def halving(
    labels: np.ndarray,
    num_classes: int,
    seed: Seed,
    *,
    order_seed: Seed | None = None,
    keep_one: bool = False,
) -> np.ndarray:
    """Rank the classes at random and halve from rank to rank: `n_max / 2 ** k` of rank k, rounded.

    `n_max` is the size of the smallest class, so that every class can afford rank 0 and all seeds
    keep equally many examples. Santiago et al., 2021, section 4.1, start from 6000 digits of MNIST
    and take what there is of a class that has fewer. Classes without examples get no rank.

    Args:
      labels: [N] integers.
      num_classes: C.
      seed: chooses the examples, and the ranks unless `order_seed` does.
      order_seed: chooses the ranks; sets with the same `order_seed` agree on the order.
      keep_one: as in `long_tail`; with ten classes, 257 examples of each suffice without.

    Returns:
      Positions to keep, sorted.
    """
    labels = check_labels(labels, num_classes)
    available = class_counts(labels, num_classes)
    present = np.flatnonzero(available)
    rng = np.random.default_rng(seed)
    order_rng = rng if order_seed is None else np.random.default_rng(order_seed)
    ranks = order_rng.permutation(num_classes)[present].argsort().argsort()
    wanted = np.zeros(num_classes, np.int64)
    wanted[present] = np.rint(np.min(available[present], initial=len(labels)) / 2.0**ranks)
    wanted = _without_empty_classes(
        wanted, available, keep_one, remedy=f"{len(present)} classes need larger ones to halve"
    )
    return draw_per_class(labels, wanted, rng)


def keep_all(
    labels: np.ndarray, num_classes: int, seed: Seed, *, keep_one: bool = False
) -> np.ndarray:
    """Return all positions."""
    del num_classes, seed, keep_one
    return np.arange(len(labels))


def _in_order_of_index(keep: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A profile that ranks the classes by index: the seed of their order does not matter."""

    def keep_in_order(*arguments: Any, order_seed: Seed | None = None, **options: Any):
        del order_seed
        return keep(*arguments, **options)

    return keep_in_order


_RATIO = SpecValue("ratio", check_ratio)
IMBALANCES = {
    kind.name: kind
    for kind in (
        SpecKind("none", (), _in_order_of_index(keep_all), "every example is kept"),
        SpecKind(
            "long_tail",
            (_RATIO,),
            _in_order_of_index(long_tail),
            "sizes fall exponentially; RATIO is that of the largest class to the smallest",
        ),
        SpecKind(
            "step",
            (_RATIO,),
            _in_order_of_index(step_imbalance),
            "the second half of the classes are RATIO times smaller",
        ),
        SpecKind("halving", (), halving, "sizes halve from class to class, in an order by seed"),
        TWO_CLASSES,
    )
}
"""Functions `(labels, num_classes, seed, *, order_seed, keep_one) -> positions`, but for
`TWO_CLASSES`."""


def parse_imbalance(spec: str) -> Spec | TwoClass:
    """Read one of `IMBALANCES`, such as "long_tail:100" or "4v9:0.995" (4 the minority)."""
    return read_two_classes(spec) or read_spec(spec, IMBALANCES, "imbalance")


def _without_empty_classes(
    wanted: np.ndarray,
    available: np.ndarray,
    keep_one: bool,
    remedy: str = "lower the ratio",
) -> np.ndarray:
    if keep_one:
        return np.maximum(wanted, available > 0)
    empty = np.flatnonzero(wanted == 0)
    if empty.size:
        c = empty[0]
        raise ValueError(
            f"class {c} would be left with no example; {remedy}"
            if available[c]
            else f"class {c} has no example to begin with"
        )
    return wanted
