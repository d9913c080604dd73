"""The simulated sets of zhou2022: clean, with wrong labels, or imbalanced; linear or nonlinear.

The paper names neither the distributions nor the sizes. Linear: two Gaussian blobs that a line
through the origin separates. Nonlinear: two moons, with a constant input in place of the bias of
the first layer. The small class of an imbalanced set is y = -1; tests are clean and balanced.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data.corruption import uniform_flip
from experiments.data.sets import toy
from experiments.data.sets.types import Dataset

IMBALANCED_COUNTS = (30, 300)  # of the small class and of the large one, in Figures 5d and 6


class SimulatedSets(NamedTuple):
    """Training and test sets of several seeds; S seeds, N and M examples, D inputs."""

    inputs: np.ndarray  # [S, N, D]
    signs: np.ndarray  # [S, N], the labels given, -1 or 1
    is_corrupted: np.ndarray  # [S, N] booleans
    test_inputs: np.ndarray  # [S, M, D]
    test_signs: np.ndarray  # [S, M]


def simulate(
    model: str,
    num_seeds: int,
    counts: Sequence[int],
    *,
    noise_rate: float = 0.0,
    num_irrelevant: int = 0,
    moons_noise: float = 0.05,
    num_test: int = 1000,
) -> SimulatedSets:
    """Sets for "linear" or "network"; the sets of a seed do not depend on how many there are.

    Args:
      model: the model they are for.
      num_seeds: S.
      counts: training examples with y = -1 and with y = 1.
      noise_rate: probability of a wrong training label.
      num_irrelevant: further inputs, standard normal and independent of the class.
      moons_noise: standard deviation of the noise on the moons.
      num_test: clean test examples of either class.
    """
    rows = []
    for seed in range(num_seeds):
        rng = np.random.default_rng([seed, len(counts)])
        inputs, labels = _draw(model, counts, 2 * seed, moons_noise)
        test_inputs, test_labels = _draw(model, (num_test, num_test), 2 * seed + 1, moons_noise)
        given, is_corrupted = uniform_flip(labels, 2, noise_rate, seed)
        inputs, test_inputs = (
            _widen(model, array, num_irrelevant, rng) for array in (inputs, test_inputs)
        )
        rows.append((inputs, 2.0 * given - 1, is_corrupted, test_inputs, 2.0 * test_labels - 1))
    return SimulatedSets(*(np.stack(column) for column in zip(*rows, strict=True)))


def of_mean_one(weights: Sequence[np.ndarray]) -> np.ndarray:
    """The arms' weights [S, N] as [S, A, N], over their means: one learning rate for all arms."""
    stacked = np.stack(weights, axis=1)
    return stacked / stacked.mean(axis=2, keepdims=True)


def small_class_weights(signs: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Weights [S, A, N] with a factor on the small class, y = -1."""
    return of_mean_one([np.where(signs < 0, factor, 1.0) for factor in factors])


def _draw(
    model: str, counts: Sequence[int], seed: int, moons_noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """The first so many examples of either class of a balanced set, small class first."""
    size = 2 * max(counts)
    drawn: Dataset
    if model == "network":
        drawn = toy.moons(size, seed, noise=moons_noise)
    else:
        drawn = toy.separable(size, seed)
    kept = [np.flatnonzero(drawn.labels == c)[:count] for c, count in enumerate(counts)]
    chosen = np.concatenate(kept)
    return drawn.inputs[chosen].astype(np.float64), drawn.labels[chosen]


def _widen(model: str, inputs: np.ndarray, num_irrelevant: int, rng: np.random.Generator):
    """Irrelevant inputs at the end, and for the network a constant after them."""
    columns = [inputs, rng.standard_normal((len(inputs), num_irrelevant))]
    if model == "network":
        columns.append(np.ones((len(inputs), 1)))
    return np.concatenate(columns, axis=1)
