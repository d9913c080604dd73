"""What some methods must know before training: the truth, or what a reference network makes of it.

The reference network is the configuration's own network, trained by plain ERM with
`reference_steps` and `reference_learning_rate`, on the training set or on the clean set. It has
the same seed, so all methods that start from one start from the same.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import Task
from experiments.networks.models import Model
from experiments.training.config import RunConfig
from experiments.training.fitting import Fit, last, make_fit, make_predict
from experiments.training.program import SeedData, make_program, stack_hyperparameters
from experiments.training.streams import shuffled
from weighting import losses
from weighting.difficulty.cross_validation import cross_validated_predictions
from weighting.metrics import confusion_matrix, predict
from weighting.schemes import margin_based
from weighting.schemes.mentornet import Mentor, mentor_targets, sample_mentor_features, train_mentor
from weighting.schemes.meta.meta_weight_net import cluster_class_sizes

_STREAM = 2_000_003  # so that the reference network sees other batches than the run


def find_references(
    config: RunConfig, tasks: Sequence[Task], data: SeedData, model: Model
) -> dict[str, Any]:
    """All that the configuration's methods ask for, with a leading seed axis."""
    wanted = config.references
    found: dict[str, Any] = {}
    if "is_corrupted" in wanted:
        found["is_corrupted"] = jnp.asarray(np.stack([t.train.is_corrupted for t in tasks]))
    if "transition" in wanted:
        found["transition"] = jnp.asarray(np.stack([_transition(task) for task in tasks]))
    if wanted & {"logits", "errors", "margins", "confusion"}:
        logits = _reference_logits(config, tasks, data, model, on_clean=False)
        predictions = jax.vmap(predict)(logits)
        count = jax.vmap(lambda y, p: confusion_matrix(y, p, tasks[0].num_classes))
        found["logits"] = logits
        found["errors"] = (predictions != data.labels).astype(jnp.float32)
        found["margins"] = jax.vmap(margin_based.margins)(logits, data.labels)
        found["confusion"] = count(data.labels, predictions)
    if "clean_losses" in wanted:
        logits = _reference_logits(config, tasks, data, model, on_clean=True)
        loss_fn = losses.logistic if model.num_outputs == 1 else losses.cross_entropy
        found["clean_losses"] = jax.vmap(loss_fn)(logits, data.labels)
    if "difficulty" in wanted:
        found["difficulty"] = _generalization_errors(config, data, model)
    if "size_clusters" in wanted:
        clusters = [cluster_class_sizes(np.maximum(c, 1)) for c in np.asarray(data.class_counts)]
        found["size_clusters"] = jnp.asarray(np.stack(clusters))
    if "mentor" in wanted:
        mentor = _trained_mentor()
        found["mentor"] = jax.tree.map(lambda x: jnp.stack([x] * len(tasks)), mentor)
    return {name: found[name] for name in sorted(wanted)}


@functools.cache
def _trained_mentor() -> Mentor:
    """A MentorNet that has learned its predefined curriculum, before it sees any data."""
    features_key, train_key = jax.random.split(jax.random.key(0))
    features = sample_mentor_features(features_key, 20_000)
    return jax.jit(train_mentor)(train_key, features, mentor_targets(features))


def _transition(task: Task) -> np.ndarray:
    """P(given label | true label) as counted on the training set, rows true."""
    counts = np.zeros((task.num_classes, task.num_classes), np.float32)
    np.add.at(counts, (task.train.true_labels, task.train.labels), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _reference_logits(
    config: RunConfig, tasks: Sequence[Task], data: SeedData, model: Model, *, on_clean: bool
) -> Array:
    """Logits [S, N, C] of the training set by a reference network."""
    reference = replace(
        config,
        weighting="uniform",
        loss="cross_entropy" if config.loss_spec.record.is_multiclass else "logistic",
        procedure="plain",
        schedule="constant",
        learning_rate=config.reference_learning_rate,
        fine_tune_learning_rate=None,
        weight_decay=0.0,
    )
    program = make_program(reference, model, tasks[0])
    hyper = stack_hyperparameters([reference])
    data = data._replace(references={})
    state = program.init(hyper, data)
    sizes = (len(tasks[0].train.labels), len(tasks[0].clean.labels))
    batches = (config.batch_size, min(config.clean_batch_size, max(sizes[1], 1)))
    indices, clean = (
        _indices(size, batch, config.reference_steps, config.seed_numbers)
        for size, batch in zip(sizes, batches, strict=True)
    )
    advance = program.fine_tune if on_clean else program.advance
    state, _, _ = advance(state, indices, clean, data, hyper)
    networks = jax.tree.map(lambda leaf: leaf[0], program.network(state))
    return _logits(model, networks, data.inputs)


def _indices(size: int, batch_size: int, num_steps: int, seeds: Sequence[int]) -> np.ndarray:
    """Batches [S, T, B] of a set; empty ones of an empty set."""
    if size == 0:
        return np.zeros((len(seeds), num_steps, 0), np.int32)
    streams = [shuffled(size, batch_size, seed + _STREAM) for seed in seeds]
    return np.stack([stream(0, num_steps) for stream in streams])


def _logits(model: Model, networks, inputs: Array) -> Array:
    apply = jax.jit(lambda p, m, x: model.apply(p, m, x, train=False)[0].logits)
    rows = [
        apply(*jax.tree.map(lambda leaf, s=s: leaf[s], networks), inputs[s])
        for s in range(len(inputs))
    ]
    return jnp.stack(rows)


def _generalization_errors(config: RunConfig, data: SeedData, model: Model) -> Array:
    """K-fold generalization errors [S, N]: five repeats of five folds, as in zhou2022."""
    loss_fn = losses.logistic if model.num_outputs == 1 else losses.cross_entropy
    fit = make_fit(
        model,
        loss_fn,
        num_steps=config.reference_steps,
        batch_size=config.batch_size,
        learning_rate=config.reference_learning_rate,
        momentum=config.momentum,
    )
    last_network = functools.partial(_last_of, fit)

    def one_seed(s: int, seed: int) -> Array:
        predictions = cross_validated_predictions(
            last_network,
            make_predict(model),
            jax.random.key(seed + _STREAM),
            data.inputs[s],
            data.labels[s],
        )
        return jnp.mean(jax.vmap(loss_fn, (0, None))(predictions, data.labels[s]), axis=0)

    return jnp.stack([one_seed(s, seed) for s, seed in enumerate(config.seed_numbers)])


def _last_of(fit: Fit, *arguments: Array):
    return last(fit(*arguments))
