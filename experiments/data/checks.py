"""Checks of arguments shared by the data functions."""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from experiments.data.sets.types import Dataset, Source


def check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return `labels` as int32 [N], or say why they are not labels in `0 .. num_classes - 1`."""
    labels = np.asarray(labels)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape [N], got shape {list(labels.shape)}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.size:
        raise ValueError(
            f"labels must lie in 0 .. {num_classes - 1}; "
            f"{outside.size} do not, such as {outside[0]}"
        )
    return labels.astype(np.int32)


def check_dataset(dataset: Dataset) -> None:
    """Raise unless inputs and labels are well-formed and equally many."""
    labels = check_labels(dataset.labels, dataset.num_classes)
    if len(dataset.inputs) != len(labels):
        raise ValueError(
            f"dataset {dataset.name!r} has {len(dataset.inputs)} inputs and {len(labels)} labels; "
            "they must be equally many"
        )


def check_source(source: Source) -> None:
    """Raise unless both splits are well-formed and fit each other."""
    train, test = source
    check_dataset(train)
    if test is None:
        return
    check_dataset(test)
    kinds = [(d.num_classes, d.inputs.shape[1:], d.inputs.dtype) for d in (train, test)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the training and test splits of {train.name!r} differ in (number of classes, input "
            f"shape, dtype): {kinds[0]} and {kinds[1]}"
        )


def check_rate(rate: float) -> None:
    """Raise unless `rate` is a probability."""
    if not 0 <= rate <= 1:  # also refuses NaN
        raise ValueError(f"the noise rate must lie in [0, 1], got {rate}")


def check_ratio(ratio: float) -> None:
    """Raise unless `ratio` is a finite number of at least one."""
    if not (math.isfinite(ratio) and ratio >= 1):
        raise ValueError(f"the imbalance ratio (largest to smallest class) is >= 1, got {ratio}")


def check_disjoint(indices: Mapping[str, np.ndarray]) -> None:
    """Raise if two of the named index arrays (positions in one dataset) share an example.

    Example:
      >>> check_disjoint({"train": np.arange(5, 100), "clean": np.arange(5)})
    """
    for (first, a), (second, b) in itertools.combinations(indices.items(), 2):
        shared = np.intersect1d(a, b)
        if shared.size:
            listed = ", ".join(map(str, shared[:10])) + (", ..." if shared.size > 10 else "")
            raise ValueError(
                f"the {first} set overlaps the {second} set in {shared.size} examples: {listed}; "
                "results would be optimistic, so split them before going on"
            )
