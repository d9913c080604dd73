r"""Margins and test errors of networks along training, with many weightings.

The normalized margin of a homogeneous network of order :math:`\alpha` is
:math:`u / \|\theta\|^\alpha` with the functional margin :math:`u_i = f_{y_i} - \max_{j \ne y_i}
f_j`. Batch norm breaks homogeneity; there the scale is that of the head alone,
:math:`\|W_{head}\|_F \cdot \operatorname{mean}_i \|\phi_i\|` with its inputs :math:`\phi`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import Task
from experiments.networks.models import Model, make_model
from experiments.zhou2022.networks import Training, logits_and_features, train_weighted
from weighting.implicit_bias.diagnostics import homogeneity_order, parameter_norm
from weighting.metrics import margins

PyTree = Any
_QUANTILE = 0.01
RECORDED = ("smallest", "quantile", "average", "train_error", "test_error", "class_error", "scale")


class ImageArrays(NamedTuple):
    """Training and test images on the device."""

    inputs: Array  # [N, ...]
    labels: Array  # [N], the given ones
    test_inputs: Array  # [M, ...]
    test_labels: Array  # [M]


def image_arrays(task: Task, num_test: int | None) -> ImageArrays:
    """A task's data, with at most so many test images (a random choice, the same for all)."""
    chosen = np.arange(len(task.test.labels))
    if num_test is not None and num_test < len(chosen):
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:num_test])
    arrays = (task.train.inputs, task.train.labels, task.test.inputs, task.test.labels)
    inputs, labels, test_inputs, test_labels = map(jnp.asarray, arrays)
    return ImageArrays(inputs, labels, test_inputs[chosen], test_labels[chosen])


def order_of_homogeneity(model: Model, inputs: Array) -> int | None:
    """The order of homogeneity in the parameters; None if the network is not homogeneous."""
    params, model_state = model.init(jax.random.key(0), inputs[:1])
    if model_state:
        return None
    found = homogeneity_order(
        lambda params, x: model.apply(params, {}, x, train=False)[0].logits, params, inputs[:20]
    )
    return round(float(found.order)) if float(found.deviation) < 1e-3 else None


def recorded(
    model: Model, order: int | None, num_classes: int, data: ImageArrays, network: PyTree
) -> dict[str, Array]:
    """Measures of one network, see `RECORDED`; margins are normalized, scale is what divides them.

    `quantile` is the 1 % quantile of the training margins, `class_error` [C] the test error by
    true class, `test_error` its mean.
    """
    logits, features = logits_and_features(model, network, data.inputs)
    own = margins(logits, data.labels)
    if order is None:
        size = jnp.mean(jnp.linalg.norm(features, axis=1))
        scale = jnp.linalg.norm(network[0]["head"]["kernel"]) * size
    else:
        scale = parameter_norm(network[0]) ** order
    of_test = jnp.argmax(logits_and_features(model, network, data.test_inputs)[0], axis=1)
    is_class = data.test_labels[None, :] == jnp.arange(num_classes)[:, None]
    wrong = of_test != data.test_labels
    class_error = jnp.sum(is_class & wrong[None, :], axis=1) / jnp.sum(is_class, axis=1)
    return {
        "smallest": jnp.min(own) / scale,
        "quantile": jnp.quantile(own, _QUANTILE) / scale,
        "average": jnp.mean(own) / scale,
        "train_error": jnp.mean(own <= 0),
        "test_error": jnp.mean(class_error),
        "class_error": class_error,
        "scale": scale,
    }


@functools.lru_cache(maxsize=8)  # one function for equal settings, so that it is compiled once
def _trainer(training: Training, order: int | None, num_classes: int, num_logs: int):
    """(weights [A, N], key, data) -> records [A, E, ...] and the last training margins [A, N]."""
    model = make_model(training.model, num_classes)

    def one(weights: Array, key: Array, data: ImageArrays) -> tuple[dict[str, Array], Array]:
        network, logs = train_weighted(
            model,
            training,
            key,
            data.inputs,
            data.labels,
            weights,
            log_fn=lambda network: recorded(model, order, num_classes, data, network),
            num_logs=num_logs,
        )
        logits = logits_and_features(model, network, data.inputs)[0]
        return logs, margins(logits, data.labels)

    def all_arms(weights: Array, key: Array, data: ImageArrays) -> tuple[dict[str, Array], Array]:
        if model.has_convolutions:
            return jax.lax.map(lambda own: one(own, key, data), weights)
        return jax.vmap(one, (0, None, None))(weights, key, data)

    return jax.jit(all_arms)


def arm_curves(
    training: Training,
    weights: np.ndarray,
    seed: int,
    data: ImageArrays,
    num_classes: int,
    num_logs: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Trains arms with weights [A, N] from one initialization on the same batches.

    Networks with convolutions train one after another, since side by side they gain nothing.

    Returns:
      The measures, [A, E] or [A, E, C], and every arm's training margins [A, N] at the end.
    """
    model = make_model(training.model, num_classes)
    trainer = _trainer(training, order_of_homogeneity(model, data.inputs), num_classes, num_logs)
    size = 1 if model.has_convolutions else len(weights)
    parts = [
        jax.tree.map(np.asarray, trainer(jnp.asarray(part), jax.random.key(seed), data))
        for part in np.split(weights, range(size, len(weights), size))
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def reference_margins(
    training: Training,
    num_copies: int,
    seed: int,
    data: ImageArrays,
    num_classes: int,
    num_logs: int,
) -> np.ndarray:
    """Training margins [N], at the end, of a network with equal weights.

    Copies of it train side by side, so that what was compiled for as many arms serves again.
    """
    model = make_model(training.model, num_classes)
    shape = (1 if model.has_convolutions else num_copies, len(data.labels))
    return arm_curves(training, np.ones(shape, np.float32), seed, data, num_classes, num_logs)[1][0]
