"""A source whose classes are equally large and named at random: for imbalance by class number."""

import numpy as np

from experiments.data import Dataset, Source


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
