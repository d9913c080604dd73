"""Two-dimensional sets with two balanced classes: float32 inputs [N, 2], labels 0 and 1.

The distribution never depends on the seed, so two seeds give two samples of one problem.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import truncnorm
from sklearn.datasets import make_moons

from experiments.data.sets.record import EMBEDDED, DatasetRecord
from experiments.data.sets.types import Dataset, Source

_NUM_EXAMPLES = 2000  # of the sets by name

DIRECTION = np.array([1.0, 1.0]) / np.sqrt(2.0)
"""Unit vector from the centre of class 0 to that of class 1, for both pairs of blobs."""

_ACROSS = np.array([-1.0, 1.0]) / np.sqrt(2.0)


def separable(num_examples: int, seed: int, *, margin: float = 0.5) -> Dataset:
    """Two unit Gaussian blobs that a line through the origin separates with a margin.

    The blobs are centred at `±2 u` with `u = DIRECTION`, and conditioned on
    `y <x, u> >= margin` for `y = ±1` (class 1, class 0), so no bias is needed.
    """
    _check_num_examples(num_examples)
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be positive and finite, got {margin}")
    rng = np.random.default_rng(seed)
    labels = _alternating_labels(num_examples)
    along = truncnorm.rvs(margin - 2, np.inf, loc=2, size=num_examples, random_state=rng)
    across = rng.standard_normal(num_examples)
    points = np.outer((2 * labels - 1) * along, DIRECTION) + np.outer(across, _ACROSS)
    return _dataset("separable", points, labels)


def overlapping(num_examples: int, seed: int, *, distance: float = 2.0) -> Dataset:
    """Two unit Gaussian blobs whose centres are `distance` apart, about the origin.

    The best classifier is linear and errs with probability `Phi(-distance / 2)`.
    """
    _check_num_examples(num_examples)
    if not (np.isfinite(distance) and distance >= 0):
        raise ValueError(f"distance must be non-negative and finite, got {distance}")
    rng = np.random.default_rng(seed)
    labels = _alternating_labels(num_examples)
    centres = np.outer((labels - 0.5) * distance, DIRECTION)
    return _dataset("overlapping", centres + rng.standard_normal((num_examples, 2)), labels)


def moons(num_examples: int, seed: int, *, noise: float = 0.05) -> Dataset:
    """Two interleaved half circles of radius one, centred, with Gaussian `noise` added."""
    _check_num_examples(num_examples)
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise must be non-negative and finite, got {noise}")
    points, labels = make_moons(num_examples, noise=noise, random_state=seed)
    return _dataset("moons", points - np.array([0.5, 0.25]), np.asarray(labels))


def _check_num_examples(num_examples: int) -> None:
    if num_examples < 2:
        raise ValueError(f"num_examples must be at least 2, got {num_examples}")


def _alternating_labels(num_examples: int) -> np.ndarray:
    return np.arange(num_examples) % 2


def _dataset(name: str, points: np.ndarray, labels: np.ndarray) -> Dataset:
    return Dataset(points.astype(np.float32), labels.astype(np.int32), num_classes=2, name=name)


def _record(name: str, draw: Callable[[int, int], Dataset], summary: str) -> DatasetRecord:
    return DatasetRecord(
        name,
        lambda *_: Source(draw(_NUM_EXAMPLES, 0), test=None),
        summary=f"{_NUM_EXAMPLES:,} points: {summary}",
        source="drawn here",
        access=EMBEDDED,
        num_classes=2,
        input_shape=(2,),
    )


SEPARABLE = _record("separable", separable, "two blobs that a line separates with a margin")
OVERLAPPING = _record("overlapping", overlapping, "two blobs that overlap")
MOONS = _record("moons", moons, "two interleaved half circles")
