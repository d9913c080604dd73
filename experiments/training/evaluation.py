"""Measures of trained networks on held-out data, for all runs of a program at once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.networks.models import Model
from weighting import losses, metrics
from weighting.train_step import as_output

HELD_OUT_MEASURES = {
    "validation": ("loss", "accuracy", "balanced_accuracy"),
    "test": ("loss", "accuracy", "balanced_accuracy", "mean_auc", "mean_f1"),
}
AT_THE_END = ("mean_auc",)  # it sorts: measured when training or fine-tuning ends, not on the way
_BATCH = 1000

Networks = tuple[Any, Any]  # parameters and model state, with leading axes [H, S]


@functools.cache  # so that runs that differ in their weighting share the compiled functions
def make_evaluate(
    model: Model, num_classes: int
) -> Callable[[Networks, Array, Array, tuple[str, ...]], dict[str, Array]]:
    """Measures of networks given by value.

    Returns (networks [H, S], inputs [S, N, ...], labels [S, N], names) -> measures [H, S]: those
    that are named, and `confusion` [H, S, C, C] with rows true. Batch norm uses running statistics.
    `loss` is cross-entropy (logistic for a single score) whatever the training loss, so that
    methods compare. All are NaN where a logit is not finite: the network has diverged.
    """
    loss_fn = losses.logistic if model.num_outputs == 1 else losses.cross_entropy

    def logits_of(params, model_state, inputs) -> Array:
        output, _ = model.apply(params, model_state, inputs, train=False)
        return as_output(output).logits

    over_runs = jax.jit(jax.vmap(jax.vmap(logits_of, (0, 0, 0)), (0, 0, None)))
    one_run = jax.jit(logits_of)

    def measure(logits: Array, labels: Array) -> dict[str, Array]:
        predictions = metrics.predict(logits)
        scores = logits
        if model.num_outputs == 1:
            scores = jnp.stack([-logits.reshape(-1), logits.reshape(-1)], axis=1)
        measures = {
            "loss": jnp.mean(loss_fn(logits, labels)),
            "accuracy": metrics.accuracy(labels, predictions),
            "balanced_accuracy": metrics.balanced_accuracy(labels, predictions, num_classes),
            "mean_auc": metrics.mean_auc(jax.nn.softmax(scores), labels),
            "mean_f1": metrics.mean_f1(labels, predictions, num_classes),
            "confusion": metrics.confusion_matrix(labels, predictions, num_classes),
        }
        finite = jnp.all(jnp.isfinite(logits))
        return {name: jnp.where(finite, value, jnp.nan) for name, value in measures.items()}

    def measure_all(logits: Array, labels: Array, names: tuple[str, ...]) -> dict[str, Array]:
        all_measures = jax.vmap(jax.vmap(measure), (0, None))(logits, labels)
        return {name: all_measures[name] for name in (*names, "confusion")}

    measure_some = jax.jit(measure_all, static_argnums=2)  # what is not asked for is not computed

    def all_logits(networks: Networks, inputs: Array) -> Array:
        if not model.has_convolutions:
            return over_runs(*networks, inputs)
        num_configs, num_seeds = jax.tree.leaves(networks)[0].shape[:2]
        rows = []
        for h in range(num_configs):
            for s in range(num_seeds):
                own = jax.tree.map(lambda x, i=(h, s): x[i], networks)
                starts = range(0, inputs.shape[1], _BATCH)
                parts = [one_run(*own, inputs[s, a : a + _BATCH]) for a in starts]
                rows.append(jnp.concatenate(parts))
        return jnp.stack(rows).reshape(num_configs, num_seeds, *rows[0].shape)

    def evaluate(networks: Networks, inputs: Array, labels: Array, names: tuple[str, ...]):
        return measure_some(all_logits(networks, inputs), labels, names)

    return evaluate
