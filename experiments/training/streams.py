"""Which examples make up which batch: seeded streams of indices, computed on the host."""

from collections.abc import Callable

import numpy as np

from experiments.data import Task
from experiments.training.config import RunConfig

Stream = Callable[[int, int], np.ndarray]  # (first step, number of steps) -> [T, B] indices


def training_stream(config: RunConfig, task: Task, seed: int) -> Stream:
    """Batches of the training set, as the configuration's sampler draws them."""
    if config.sampler == "class_balanced_indices":
        return class_balanced(task.train.labels, config.batch_size, seed)
    return shuffled(len(task.train.labels), config.batch_size, seed)


def clean_stream(config: RunConfig, task: Task, seed: int) -> Stream:
    """Batches of the clean set; of no example if there is none."""
    size = len(task.clean.labels)
    if size == 0:
        return lambda first, count: np.zeros((count, 0), np.int32)
    return shuffled(size, min(config.clean_batch_size, size), seed + 1_000_003)


def shuffled(num_examples: int, batch_size: int, seed: int) -> Stream:
    """Batches from one permutation of the data after the other, end to end.

    Every example occurs once in every `num_examples` positions; a batch may straddle two
    permutations, so all batches are full and nothing is padded. A batch as large as the data is
    all of it, in its order.

    Args:
      num_examples: size of the data, N.
      batch_size: B <= N.
      seed: of the permutations; the p-th permutation depends on (seed, p) alone.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch size {batch_size} does not fit {num_examples} examples; "
            f"take one between 1 and {num_examples}"
        )
    if batch_size == num_examples:
        return lambda first, count: np.tile(np.arange(num_examples, dtype=np.int32), (count, 1))

    def stream(first: int, count: int) -> np.ndarray:
        start, stop = first * batch_size, (first + count) * batch_size
        passes = range(start // num_examples, (stop - 1) // num_examples + 1)
        order = np.concatenate(
            [np.random.default_rng([seed, p]).permutation(num_examples) for p in passes]
        )
        offset = passes[0] * num_examples
        window = order[start - offset : stop - offset]
        return window.reshape(count, batch_size).astype(np.int32)

    return stream


def class_balanced(labels: np.ndarray, batch_size: int, seed: int) -> Stream:
    """RESAMPLE (ren2018, Sec. 4.1): every batch has equally many examples of every class.

    Drawn with replacement; a remainder of the batch goes to the first classes in turn.
    """
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    sizes = [len(part) for part in np.array_split(np.arange(batch_size), len(members))]

    def batch(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, step])
        drawn = [rng.choice(m, size) for m, size in zip(members, sizes, strict=True)]
        return np.concatenate(drawn).astype(np.int32)

    return lambda first, count: np.stack([batch(step) for step in range(first, first + count)])
