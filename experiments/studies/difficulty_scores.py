"""All difficulty measures of one training set: an ensemble, its checkpoints, cross-validation."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import Task
from experiments.networks.models import Model, to_float
from experiments.training.fitting import last, make_fit, make_predict
from weighting import losses
from weighting.difficulty import one_network
from weighting.difficulty import several_networks as ensemble
from weighting.difficulty.cross_validation import cross_validated_predictions, generalization_error


class Budget(NamedTuple):
    """How much is trained."""

    num_networks: int  # R, on the whole training set, for measures of an ensemble
    num_snapshots: int  # K, checkpoints of each network
    num_repeats: int  # of the cross-validation
    num_folds: int
    num_steps: int  # of every network
    batch_size: int
    learning_rate: float
    models_at_once: int | None  # of the cross-validation; None is all


# Measures of one network, of R networks or of K checkpoints; then K-fold cross-validation.
MEASURES = {
    "loss": "one network's, at the end",
    "1 - p": "one network's, at the end",
    "margin": "one network's, at the end, negative",
    "logit gradient": "norm, one network, at the end",
    "gradient": "norm over all parameters, one network, at the end",
    "class rarity": "one over the class's size",
    "prediction depth": "nearest-neighbour probes of one network's layers",
    "forgetting": "mean over networks",
    "AUM": "margin averaged along training, mean over networks, negative",
    "VoG": "variance of the input gradient along training",
    "gradient-norm variance": "along training",
    "EL2N": "early: mean over networks at the second checkpoint",
    "GraNd": "early: mean over networks at the first checkpoint",
    "average margin": "mean over networks, negative",
    "margin variance": "over networks",
    "predictive variance": "epistemic uncertainty over networks",
    "predictive entropy": "total uncertainty over networks",
    "mutual information": "of networks, BALD",
    "K-fold error": "generalization error, zhou2022 Eq. 2",
    "K-fold bias": "its first part",
    "K-fold variance": "its second part",
}


def measure_difficulty(
    task: Task, model: Model, budget: Budget, seed: int
) -> dict[str, np.ndarray]:
    """Every measure [N] of the task's training set, in its order, larger is harder."""
    inputs = to_float(jnp.asarray(task.train.inputs))
    labels = jnp.asarray(task.train.labels)
    fit = _fit(model, budget)
    ensemble_key, fold_key = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(ensemble_key, budget.num_networks)
    mask = jnp.ones(len(labels))
    networks = _train_many(fit)(keys, inputs, labels, mask)
    scores = _ensemble_scores(model, networks, inputs, labels, task.num_classes)
    predictions = cross_validated_predictions(
        _last_fit(fit),
        make_predict(model),
        fold_key,
        inputs,
        labels,
        num_folds=budget.num_folds,
        num_repeats=budget.num_repeats,
        stratify=True,
        models_at_once=budget.models_at_once,
    )
    parts = generalization_error(predictions, labels)
    scores |= {
        "K-fold error": parts.error,
        "K-fold bias": parts.bias,
        "K-fold variance": parts.variance,
    }
    return {name: np.asarray(scores[name], np.float32) for name in MEASURES}


@functools.cache  # one function for equal settings, so that it is compiled once
def _fit(model: Model, budget: Budget):
    return make_fit(
        model,
        losses.cross_entropy,
        num_steps=budget.num_steps,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        num_snapshots=budget.num_snapshots,
    )


@functools.cache
def _last_fit(fit):
    return lambda *arguments: last(fit(*arguments))


@functools.cache
def _train_many(fit):
    return jax.jit(jax.vmap(fit, (0, None, None, None)))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _ensemble_scores(
    model: Model, networks, inputs: Array, labels: Array, num_classes: int
) -> dict[str, Array]:
    """Measures of networks with leading axes [R, K]."""
    predict = make_predict(model)

    def logits_and_features(network):
        output = model.apply(*network, inputs, train=False)[0]
        return output.logits, output.features

    logits, features = jax.lax.map(lambda n: jax.lax.map(logits_and_features, n), networks)
    final = logits[:, -1]  # [R, N, C]
    first_network = jax.tree.map(lambda leaf: leaf[0], networks)  # [K]
    counts = jnp.zeros(num_classes).at[labels].add(1)
    one, ce = final[0], losses.cross_entropy

    def example_loss(network, example):
        x, y = example
        return ce(predict(network, x[None]), y[None])[0]

    def norms(network):
        return one_network.gradient_norm(example_loss, network, (inputs, labels), chunk_size=256)

    along = jax.lax.map(norms, first_network)  # [K, N]
    early = jax.lax.map(norms, jax.tree.map(lambda leaf: leaf[:, 0], networks))  # [R, N]
    correct = jnp.argmax(logits, axis=-1) == labels[None, None, :]  # [R, K, N]
    margin = jax.vmap(jax.vmap(lambda z: one_network.negative_margin(z, labels)))(logits)
    layers = [inputs.reshape(len(inputs), -1), features[0, -1], one]
    return {
        "loss": ce(one, labels),
        "1 - p": one_network.error_probability(one, labels),
        "margin": one_network.negative_margin(one, labels),
        "logit gradient": one_network.logit_gradient_norm(ce, one, labels),
        "gradient": along[-1],
        "class rarity": one_network.class_rarity(labels, counts),
        "prediction depth": one_network.prediction_depth(
            layers,
            labels,
            layers,
            jnp.argmax(one, axis=1),
            num_classes,
            own_index=jnp.arange(len(labels)),
        ),
        "forgetting": jnp.mean(jax.vmap(ensemble.forgetting_events)(correct), axis=0),
        "AUM": jnp.mean(margin, axis=(0, 1)),
        "VoG": ensemble.variance_of_gradients(
            ensemble.input_gradients(predict, first_network, inputs, labels), labels, num_classes
        ),
        "gradient-norm variance": ensemble.variance_over_networks(along),
        "EL2N": ensemble.el2n(logits[:, 1], labels),
        "GraNd": jnp.mean(early, axis=0),
        "average margin": ensemble.negative_average_margin(final, labels),
        "margin variance": ensemble.margin_variance(final, labels),
        "predictive variance": ensemble.predictive_variance(jax.nn.softmax(final, axis=2)),
        "predictive entropy": ensemble.predictive_entropy(final),
        "mutual information": ensemble.mutual_information(final),
    }
