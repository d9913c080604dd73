"""Label noise: pure functions `(labels, num_classes, rate, seed) -> Corrupted`."""

from typing import NamedTuple

import numpy as np

from experiments.data.checks import check_labels, check_rate
from experiments.data.specs import Spec, SpecKind, SpecValue, read_spec
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


def no_flip(labels: np.ndarray, num_classes: int, seed: Seed) -> Corrupted:
    """Return the labels, none corrupted."""
    del seed
    truth = check_labels(labels, num_classes)
    return Corrupted(truth, np.zeros(len(truth), bool))


_RATE = SpecValue("rate", check_rate)
NOISES = {
    kind.name: kind
    for kind in (
        SpecKind("none", (), no_flip, "all labels are right"),
        SpecKind("uniform", (_RATE,), uniform_flip, "any other class, all equally likely"),
        SpecKind(
            "background",
            (_RATE, SpecValue("background", default=0, type=int, label="class")),
            background_flip,
            "the background class, 0 unless CLASS is given",
        ),
        SpecKind("pairwise", (_RATE,), pairwise_flip, "the next class"),
    )
}
"""Functions `(labels, num_classes, seed, *, ...) -> Corrupted`."""


def parse_noise(spec: str) -> Spec:
    """Read one of `NOISES`, such as "uniform:0.4" or "background:0.4:3"."""
    return read_spec(spec, NOISES, "noise")


def _flips(labels: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    check_rate(rate)
    return rng.random(len(labels)) < rate


def _corrupted(truth: np.ndarray, given: np.ndarray) -> Corrupted:
    return Corrupted(given.astype(np.int32), given != truth)
