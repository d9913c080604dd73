"""Label noise: pure functions `(labels, num_classes, rate, seed) -> Corrupted`."""

from typing import NamedTuple

import numpy as np

from experiments.data.checks import check_labels, check_rate
from experiments.data.stratify import Seed


class Corrupted(NamedTuple):
    """Labels [N] (int32) after corruption, and where they differ from the truth (bool [N])."""

    labels: np.ndarray
    is_corrupted: np.ndarray


def uniform_flip(labels: np.ndarray, num_classes: int, rate: float, seed: Seed) -> Corrupted:
    """Replace each label, with probability `rate`, by one of the other classes, uniformly.

    Ren et al., 2018, section 4.2. Their released code may draw the true class again, so at equal
    rate it corrupts fewer labels than this function.
    """
    truth = check_labels(labels, num_classes)
    rng = np.random.default_rng(seed)
    flips = _flips(truth, rate, rng)
    other = (truth + rng.integers(1, num_classes, size=len(truth))) % num_classes
    return _corrupted(truth, np.where(flips, other, truth))


def background_flip(
    labels: np.ndarray, num_classes: int, rate: float, seed: Seed, *, background: int
) -> Corrupted:
    """Replace each label, with probability `rate`, by the class `background`.

    Ren et al., 2018, section 4.2. Examples that are background already cannot be corrupted.
    """
    truth = check_labels(labels, num_classes)
    if not 0 <= background < num_classes:
        raise ValueError(f"background must lie in 0 .. {num_classes - 1}, got {background}")
    flips = _flips(truth, rate, np.random.default_rng(seed))
    return _corrupted(truth, np.where(flips, background, truth))


def pairwise_flip(labels: np.ndarray, num_classes: int, rate: float, seed: Seed) -> Corrupted:
    """Replace each label c, with probability `rate`, by the next class `(c + 1) mod C`."""
    truth = check_labels(labels, num_classes)
    flips = _flips(truth, rate, np.random.default_rng(seed))
    return _corrupted(truth, np.where(flips, (truth + 1) % num_classes, truth))


def _flips(labels: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    check_rate(rate)
    return rng.random(len(labels)) < rate


def _corrupted(truth: np.ndarray, given: np.ndarray) -> Corrupted:
    return Corrupted(given.astype(np.int32), given != truth)
