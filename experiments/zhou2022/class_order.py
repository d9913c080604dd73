"""A source whose classes are equally large and named at random: for imbalance by class number."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.data import Dataset, Source, Task, TaskConfig, make_task


def spoiled_task(config: TaskConfig, changes: Mapping[str, Any], seed: int, source: Source) -> Task:
    """A seed's data with wrong labels or imbalance, as the changes say.

    Under imbalance class 0 is the largest, and classes are renamed at random.
    """
    config = replace(config, **changes)
    if config.imbalance == "none":
        return make_task(config, seed, source)
    return make_task(config, seed, renamed(equalized(source), seed))


def equalized(source: Source) -> Source:
    """As many training examples of every class as the smallest class has, the first ones.

    The size of an imbalanced set then does not depend on which class is the largest. Positions
    count in the smaller set.
    """
    labels = source.train.labels
    size = np.bincount(labels, minlength=source.train.num_classes).min()
    kept = [np.flatnonzero(labels == c)[:size] for c in range(source.train.num_classes)]
    return source._replace(train=_pick(source.train, np.sort(np.concatenate(kept))))


def renamed(source: Source, seed: int) -> Source:
    """The same images with a random permutation of the class numbers, in both splits."""
    names = np.random.default_rng(seed).permutation(source.train.num_classes)

    def rename(dataset: Dataset) -> Dataset:
        return dataset._replace(labels=names[dataset.labels].astype(dataset.labels.dtype))

    test = None if source.test is None else rename(source.test)
    return source._replace(train=rename(source.train), test=test)


def _pick(dataset: Dataset, positions: np.ndarray) -> Dataset:
    groups = None if dataset.groups is None else dataset.groups[positions]
    inputs, labels = dataset.inputs[positions], dataset.labels[positions]
    return dataset._replace(inputs=inputs, labels=labels, groups=groups)
