"""Logits of made-up networks, a mask of which of them count, and small real ones."""

import jax.numpy as jnp
import numpy as np

R, N, C = 5, 7, 3


def rng():
    return np.random.default_rng(0)


def network_logits(scale=2.0):
    return rng().normal(size=(R, N, C)) * scale


LABELS = np.array([0, 1, 2, 2, 1, 0, 2])


MASK = rng().random((R, N)) < 0.6
MASK[:, 0] = [1, 1, 0, 1, 0]
MASK[:, 5] = 0  # counts for no network
MASK[:, 6] = [0, 0, 1, 0, 0]  # for one


def counted(values, i):
    """What the networks that count say of example i."""
    return values[MASK[:, i], i]


def small_net(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


def stacked_nets(num_networks, num_inputs=4):
    g = rng()
    return {
        "hidden": jnp.asarray(g.normal(size=(num_networks, num_inputs, 5))),
        "out": jnp.asarray(g.normal(size=(num_networks, 5, C))),
    }
