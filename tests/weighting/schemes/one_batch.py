"""Signals of a batch, and runs of a scheme over one or several of them."""

import jax
import jax.numpy as jnp
import numpy as np

from weighting import Signals


def signals(values, **fields):
    return Signals(jnp.asarray(values, jnp.result_type(float)), **fields)


def run(scheme, batches):
    """Weights of each batch in turn."""
    state, all_weights = scheme.init(jax.random.key(0), None), []
    for batch in batches:
        weights, state = scheme.update(batch.valid, state, batch)
        all_weights.append(np.asarray(weights))
    return all_weights


def update(scheme, batch):
    return run(scheme, [batch])[0]
