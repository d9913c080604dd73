"""Figures 1 and 2: the generalization error of every training image, and what goes with it.

The error of an example is the mean cross-entropy of networks that were not trained on it, from
repeated five-fold cross-validation (Sec. 2.4; Eq. 2). Five repeats give five held-out predictions
of every image; they also give its average margin (of the logits) and, as the variance of the
softmax over them (Eq. 7), its epistemic uncertainty.

Three training sets of the same size before imbalance: clean; 10 % of the labels wrong, uniformly;
classes in an exponential profile of 10 : 1. The order of the classes in that profile is drawn for
every seed, lest a class that is hard by itself stand for a rare one. Figure 2 does not say whether
labels were wrong; it is asked of both sets.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import Task, TaskConfig, load
from experiments.networks.models import make_model
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import not_run
from experiments.tools.files import read_arrays, write_arrays
from experiments.tools.progress import follow
from experiments.zhou2022.class_order import spoiled_task
from experiments.zhou2022.difficulty_claims import ITEMS, difficulty_claims
from experiments.zhou2022.difficulty_report import difficulty_page
from experiments.zhou2022.networks import Training, logits_and_features, train_weighted
from weighting.difficulty import several_networks
from weighting.difficulty.cross_validation import cross_validated_predictions, generalization_error
from weighting.metrics import margins

CHANGES_OF_SETS: dict[str, dict] = {  # to the task
    "clean": {},
    "noise": {"noise": "uniform:0.1"},
    "imbalance": {"imbalance": "long_tail:10"},
}
_NUM_FOLDS = _NUM_REPEATS = 5


class CrossValidationPlan(NamedTuple):
    """A data set, what is trained on it, and how often."""

    task: TaskConfig
    training: Training
    seeds: int


def _plan_of(preset: str) -> CrossValidationPlan:
    """What a preset runs."""
    mnist = TaskConfig("mnist", num_clean=0, num_validation=0, num_train=5000)
    if preset == "paper":
        task = TaskConfig("cifar10", num_clean=0, num_validation=0)
        return CrossValidationPlan(
            task, Training("resnet32", 100, 128, 0.1, 0.9, 5e-4, (0.5, 0.75)), 3
        )
    if preset == "cpu":
        return CrossValidationPlan(mnist, Training("mlp:64", 20, 50, 0.1), 10)
    task = TaskConfig("digits", num_clean=0, num_validation=0, num_train=600)
    return CrossValidationPlan(task, Training("mlp:32", 10, 40, 0.1), 2)


@functools.cache  # one function for equal settings, so that it is compiled once
def _functions(training: Training, num_classes: int):
    model = make_model(training.model, num_classes)

    def fit(key, inputs, labels, mask):
        return train_weighted(model, training, key, inputs, labels, mask)[0]

    def predict(network, inputs):
        return logits_and_features(model, network, inputs)[0]

    return fit, predict, 1 if model.has_convolutions else None


def held_out_logits(task: Task, training: Training, seed: int, repeat: int) -> np.ndarray:
    """Logits [N, C] for every training image of the one network of a repeat that lacks it."""
    fit, predict, at_once = _functions(training, task.num_classes)
    predictions = cross_validated_predictions(
        fit,
        predict,
        jax.random.fold_in(jax.random.key(seed), repeat),
        jnp.asarray(task.train.inputs),
        jnp.asarray(task.train.labels),
        num_folds=_NUM_FOLDS,
        num_repeats=1,
        stratify=True,
        models_at_once=at_once,
    )
    return np.asarray(predictions[0])


@jax.jit
def _measures(logits, labels):
    probabilities = jax.nn.softmax(logits, axis=2)
    return {
        "error": generalization_error(logits, labels).error,
        "margin": jnp.mean(jax.vmap(margins, (0, None))(logits, labels), axis=0),
        "uncertainty": several_networks.predictive_variance(probabilities),
        "is_right": jnp.argmax(jnp.mean(probabilities, axis=0), axis=1) == labels,
    }


def difficulty_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Error, average margin, epistemic uncertainty, each [N], from held-out logits [R, N, C].

    `is_right` says whether the mean of the predicted probabilities names the given label.
    """
    found = _measures(jnp.asarray(logits), jnp.asarray(labels))
    return {name: np.asarray(values) for name, values in found.items()}


def _compute(options: Options) -> None:
    """Every repeat, and then every set and seed, into a file of its own."""
    plan = _plan_of(options.preset)
    source = load(plan.task.dataset, data_dir=options.data_dir)
    jobs = [(n, seed) for seed in range(options.seeds or plan.seeds) for n in CHANGES_OF_SETS]
    for name, seed in follow(jobs, "zhou2022.difficulty", "set"):
        path = options.folder / f"{name}_seed{seed}.npz"
        if path.exists():
            continue
        task = spoiled_task(plan.task, CHANGES_OF_SETS[name], seed, source)
        repeats = [_repeat_file(path, repeat) for repeat in range(_NUM_REPEATS)]
        for repeat, part in enumerate(repeats):
            if not part.exists():
                own = held_out_logits(task, plan.training, seed, repeat)
                write_arrays(part, {"logits": own})
        logits = np.stack([read_arrays(part)["logits"] for part in repeats])
        examples = task.train
        known = {
            "index": examples.indices,
            "label": examples.labels,
            "true_label": examples.true_labels,
        }
        write_arrays(path, known | difficulty_of(logits, examples.labels))
        for part in repeats:
            part.unlink()


def _repeat_file(path: Path, repeat: int) -> Path:
    return path.with_name(f"{path.stem}_repeat{repeat}.part.npz")


EXPERIMENT = Experiment(
    name="zhou2022.difficulty",
    summary="every image's generalization error against noise, rarity, margin and uncertainty",
    presets={
        "smoke": "600 of scikit-learn's digits, 25 small networks each, 2 seeds; ten seconds",
        "cpu": (
            "5,000 images of MNIST and a network with 64 hidden units (the paper: CIFAR-10, "
            "ResNet-32), 20 epochs, learning rate 0.1, 25 networks per set and seed, 10 seeds; "
            "some minutes"
        ),
        "paper": (
            "CIFAR-10, ResNet-32, learning rate 0.1 (of our choice: momentum 0.9, weight decay "
            "5e-4, batches of 128, 100 epochs, a tenth of the rate from half and three quarters "
            "on, no augmentation), 25 networks per set and seed, 3 seeds; a GPU and a day or two"
        ),
    },
    compute=_compute,
    present=difficulty_page,
    items=ITEMS,
    printed=not_run(
        difficulty_claims(), "a GPU: python -m experiments run zhou2022.difficulty --preset paper"
    ),
)
