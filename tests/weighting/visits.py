"""Batches in which examples repeat and padding occurs, and a run of a scheme over them."""

import jax
import numpy as np

from weighting import Signals

NUM_EXAMPLES, BATCH, CLASSES = 9, 6, 3


def random_batches(num_batches, seed=0):
    """Batches with repeated indices and padding; the leading axis is the step."""
    generator = np.random.default_rng(seed)
    shape = (num_batches, BATCH)
    return {
        "losses": generator.exponential(size=shape).astype(np.float32),
        "logits": generator.normal(size=(*shape, CLASSES)).astype(np.float32),
        "labels": generator.integers(0, CLASSES, shape).astype(np.int32),
        "indices": generator.integers(0, NUM_EXAMPLES - 1, shape).astype(np.int32),
        "mask": (generator.random(shape) < 0.8).astype(np.float32),
        "weights": generator.random(shape).astype(np.float32),
    }


def visits(batches, step):
    """The last valid occurrence of every index: {index: position}."""
    indices, mask = batches["indices"][step], batches["mask"][step]
    return {int(indices[i]): i for i in range(BATCH) if mask[i]}


def probability(batches, step, i):
    powers = np.exp(batches["logits"][step, i].astype(np.float64))
    return powers[batches["labels"][step, i]] / powers.sum()


def scan(scheme, batches):
    def step(state, batch):
        weights = batch.pop("weights") * batch["mask"]
        weights, state = scheme.update(weights, state, Signals(**batch))
        return state, weights

    state = scheme.init(jax.random.key(0), None)
    return jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, dict(batches))
