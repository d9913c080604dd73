"""Binary losses of `weighting` at arrays of scores or margins, for the checks of zhou2022."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

BinaryLoss = Callable[[Array, Array], Array]  # (scores [n], labels [n] in {0, 1}) -> losses [n]


def mean_loss(loss_fn: BinaryLoss, scores: Any, labels: np.ndarray) -> np.ndarray:
    """Mean loss of scores [P, R] over R, with labels [P] in {0, 1}."""
    scores = jnp.asarray(scores)
    all_labels = jnp.repeat(jnp.asarray(labels), scores.shape[1])
    return np.asarray(loss_fn(scores.ravel(), all_labels)).reshape(scores.shape).mean(axis=1)


def loss_of_margins(loss_fn: BinaryLoss, margins: np.ndarray) -> np.ndarray:
    """Losses of margins of any shape: scores with labels one."""
    flat = jnp.asarray(margins).ravel()
    return np.asarray(loss_fn(flat, jnp.ones(flat.shape, int))).reshape(margins.shape)
