"""Training sets of two classes in the plane, with label noise or imbalance, and clean test sets."""

from typing import Any, NamedTuple

import numpy as np

NUM_TRAIN = 100
NUM_TEST = 1000
NOISE = 0.2  # share of wrong labels
TASKS = ("symmetric noise", "one-sided noise", "imbalance", "clean")
NOISY = TASKS[:2]


class FlawedData(NamedTuple):
    """One training set and its test set; the inputs end in a constant one."""

    inputs: Any  # [N, 3]
    labels: Any  # [N]
    is_noisy: Any  # [N]
    test_inputs: Any  # [M, 3], one half of each class
    class_counts: Any  # [2] of the given labels


def draw(task: str, kind: str, rng: np.random.Generator) -> FlawedData:
    """Two Gaussians (for "linear") or two moons, with the task's flaw in the training set."""
    rare = NUM_TRAIN // 11 if task == "imbalance" else NUM_TRAIN // 2
    classes = np.repeat([0, 1], [NUM_TRAIN - rare, rare])
    test_classes = np.repeat([0, 1], NUM_TEST // 2)
    points = _gaussians if kind == "linear" else _moons
    count = round(NOISE * NUM_TRAIN) if task in NOISY else 0
    candidates = np.flatnonzero(classes == 0) if task == "one-sided noise" else np.arange(NUM_TRAIN)
    is_noisy = np.isin(np.arange(NUM_TRAIN), rng.permutation(candidates)[:count])
    labels = np.where(is_noisy, 1 - classes, classes)
    inputs, test_inputs = (
        np.column_stack([points(rng, group), np.ones(len(group))]).astype(np.float32)
        for group in (classes, test_classes)
    )
    return FlawedData(inputs, labels, is_noisy, test_inputs, np.bincount(labels, minlength=2))


def _gaussians(rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    """Unit Gaussians at a distance of two."""
    return rng.normal(size=(len(classes), 2)) + (2 * classes[:, None] - 1) * np.array([1.0, 0.0])


def _moons(rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    """Two half circles that reach into one another, with noise of 0.2."""
    angles, signs = rng.uniform(0, np.pi, len(classes)), 1 - 2 * classes
    circles = np.column_stack([signs * np.cos(angles), signs * np.sin(angles)])
    centers = np.where(classes[:, None] == 1, [0.5, 0.25], [-0.5, -0.25])
    return circles + centers + 0.2 * rng.normal(size=circles.shape)
