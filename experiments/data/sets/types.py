"""The two records every loader returns."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Labelled examples held in memory.

    `inputs` are uint8 images [N, H, W, C] or float32 features [N, D]; `labels` are int32 [N] in
    `0 .. num_classes - 1`. `groups` int32 [N], where known, number what examples have in common
    (images of one lesion); the numbers mean nothing beyond the one array.
    """

    inputs: np.ndarray
    labels: np.ndarray
    num_classes: int
    name: str
    groups: np.ndarray | None = None


class Source(NamedTuple):
    """A dataset as published; `test` is None where there is no official test split."""

    train: Dataset
    test: Dataset | None
