"""The four sets of xu2021, Fig. 1, drawn afresh for every seed: inputs [S, N, D], signs [S, N].

Numbers of points, noise and classes' shapes are not printed. Class +1 is the paper's blue one,
class -1 its orange one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.data.sets import toy
from experiments.data.sets.types import Dataset

_REMOVED = {1: 0.2, -1: 0.8}  # share of a class that the unbalanced moons lack
_NOISE = 0.05


class SignedPoints(NamedTuple):
    """A sample for every seed."""

    inputs: np.ndarray  # [S, N, D] float64
    signs: np.ndarray  # [S, N], -1.0 or 1.0


def separable_points(num_seeds: int, num_examples: int) -> SignedPoints:
    """Fig. 1a: two Gaussian blobs that a line through the origin separates."""
    return _draw(toy.separable, num_seeds, num_examples)


def overlapping_points(num_seeds: int, num_examples: int) -> SignedPoints:
    """Fig. 1b: two Gaussian blobs that overlap."""
    return _draw(toy.overlapping, num_seeds, num_examples)


def balanced_moons(num_seeds: int, num_examples: int) -> SignedPoints:
    """Fig. 1c: two balanced moons, centred."""
    return _draw(lambda n, seed: toy.moons(n, seed, noise=_NOISE), num_seeds, num_examples)


def unbalanced_moons(num_seeds: int, num_examples: int) -> tuple[SignedPoints, SignedPoints]:
    """Fig. 1d: moons without a fifth of blue and four fifths of orange; and what was removed.

    The paper says "down-sampling (20% for the blue class, and 80% for the orange class)" and tests
    on "the remaining 80% of the orange class and 20% of the blue class": training and test sets are
    complementary only if those are the shares removed.

    Returns:
      Training set and test set. Together they are `balanced_moons`.
    """
    inputs, signs = balanced_moons(num_seeds, num_examples)
    chosen = np.zeros(signs.shape, bool)
    for seed, row in enumerate(signs):
        rng = np.random.default_rng([seed, 1])
        for sign, share in _REMOVED.items():
            places = rng.permutation(np.flatnonzero(row == sign))
            chosen[seed, places[: round(share * len(places))]] = True
    return _select(inputs, signs, ~chosen), _select(inputs, signs, chosen)


def density_ratio(signs: np.ndarray) -> np.ndarray:
    """p_test / p_train of the unbalanced moons at the training points [...]: 1/4 blue, 4 orange.

    The moons do not overlap, so the ratio is a function of the input; it is the classes' since both
    sets hold one half of all points.
    """
    ratios = {sign: removed / (1 - removed) for sign, removed in _REMOVED.items()}
    return np.where(signs > 0, ratios[1], ratios[-1])


def partly_separable(
    num_seeds: int, num_examples: int, *, num_separable: int = 1, constant: bool = False
) -> SignedPoints:
    """Half of the points can be separated, the other half cannot and lies across (Prop. 2).

    The separable half: `num_separable` coordinates in which a cone about the first axis separates
    the classes, and one more of noise. The other half is zero in the former, overlapping in the
    latter: normal about 1 for class +1 and about 0 for -1. (With classes symmetric about the origin
    no class weight would move a line through it.) So the non-separable span is the last coordinate,
    with the `constant` one, if any, after it.
    """
    size = num_separable + 1
    inputs = np.zeros((num_seeds, num_examples, size + constant))
    signs = np.tile(np.where(np.arange(num_examples) % 2, 1.0, -1.0), (num_seeds, 1))
    for seed in range(num_seeds):
        rng = np.random.default_rng(seed)
        half = num_examples // 2
        along = rng.uniform(0.3, 1.5, half)
        inputs[seed, :half, 0] = signs[seed, :half] * along
        inputs[seed, :half, 1:num_separable] = rng.uniform(-1, 1, (half, num_separable - 1))
        inputs[seed, :half, num_separable] = rng.normal(0, 0.7, half)
        inputs[seed, half:, num_separable] = rng.normal(signs[seed, half:] > 0, 0.7)
    if constant:
        inputs[..., -1] = 1.0
    return SignedPoints(inputs, signs)


def class_arm_weights(signs: np.ndarray, arms: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """Weights [S, A, N] of arms that weigh orange and blue examples by these two numbers."""
    return np.stack([np.where(signs > 0, blue, orange) for orange, blue in arms.values()], axis=1)


def _draw(
    generate: Callable[[int, int], Dataset], num_seeds: int, num_examples: int
) -> SignedPoints:
    sets = [generate(num_examples, seed) for seed in range(num_seeds)]
    inputs = np.stack([data.inputs for data in sets]).astype(np.float64)
    return SignedPoints(inputs, np.stack([2.0 * data.labels - 1 for data in sets]))


def _select(inputs: np.ndarray, signs: np.ndarray, chosen: np.ndarray) -> SignedPoints:
    """The chosen points; every seed has equally many."""
    rows = range(len(signs))
    return SignedPoints(
        np.stack([inputs[seed][chosen[seed]] for seed in rows]),
        np.stack([signs[seed][chosen[seed]] for seed in rows]),
    )
