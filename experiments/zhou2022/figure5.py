"""Figure 5a-c: does raising hard examples raise the normalized margin, in networks on images?

Noisy labels up (a), small margins up (b), tail categories up (c), against equal weights: the same
initialization, batches and mean weight. Arms that lower the same examples stand beside them, and a
set with 40 % noise: Sec. 5 says that lowering noisy examples generalizes better (Fig. A-5 of the
supplement). The margin of a set is its smallest; since one image decides it, the 1 % quantile is
asked as well. A reference network of another initialization, trained with equal weights, says which
margins are small. Figure 5d is an experiment of its own, on simulated data.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from experiments.data import Source, Task, TaskConfig, load, make_task
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.tools.files import write_arrays
from experiments.zhou2022.class_order import equalized, renamed
from experiments.zhou2022.figure5_report import ITEMS, present, printed
from experiments.zhou2022.margin_curves import curves, data_of, reference_margins
from experiments.zhou2022.networks import Training
from experiments.zhou2022.raised_weights import SETTINGS, arms_of, weights_of

_REFERENCE_SEED = 1_000_000  # added to a seed for the reference network


class Plan(NamedTuple):
    """A data set, what is trained on it, how often, and what is recorded."""

    task: TaskConfig
    training: Training
    num_logs: int
    seeds: int
    num_test: int | None = None  # test images, by default all


_CIFAR = TaskConfig("cifar10", num_clean=0, num_validation=0)
_MNIST = TaskConfig("mnist", num_clean=0, num_validation=0, num_train=2000)
_DIGITS = TaskConfig("digits", num_clean=0, num_validation=0, num_train=400)
PLANS = {
    "zhou2022.figure5": {
        "smoke": Plan(_DIGITS, Training("mlp:64", 40, 50, 0.1, 0.9), 20, 2),
        "cpu": Plan(_MNIST, Training("mlp:64", 200, 100, 0.1, 0.9), 50, 10, 2000),
        "paper": Plan(_CIFAR, Training("resnet32", 100, 128, 0.1, 0.9, 5e-4, (0.5, 0.75)), 100, 5),
    },
    "zhou2022.figure5.cnn": {
        "smoke": Plan(_DIGITS, Training("small_cnn", 4, 50, 0.1), 4, 1),
        "cpu": Plan(
            replace(_MNIST, num_train=1000), Training("small_cnn", 60, 50, 0.1, 0.9), 20, 3, 1000
        ),
        "paper": Plan(_CIFAR, Training("small_cnn", 400, 128, 0.1, 0.9), 100, 5),
    },
}


def task_of(setting: str, config: TaskConfig, seed: int, source: Source) -> Task:
    """A seed's data; under imbalance class 0 is the largest, and classes are renamed at random."""
    config = replace(config, **SETTINGS[setting].spoiled)
    if config.imbalance != "none":
        return make_task(config, seed, renamed(equalized(source), seed))
    return make_task(config, seed, source)


def arms_curves(setting: str, plan: Plan, seed: int, source: Source) -> dict[str, np.ndarray]:
    """The measures of all arms of a setting, [A, E, ...], and their names."""
    task = task_of(setting, plan.task, seed, source)
    data = data_of(task, plan.num_test)
    arms = arms_of(SETTINGS[setting])
    settings = (data, task.num_classes, plan.num_logs)
    small = np.zeros(len(task.train.labels), np.float32)
    if setting == "margins":
        small = reference_margins(plan.training, len(arms), seed + _REFERENCE_SEED, *settings)
    weights = weights_of(setting, task, small)
    logs, _ = curves(plan.training, weights, seed, *settings)
    epochs = np.arange(1, plan.num_logs + 1) * plan.training.num_epochs // plan.num_logs
    return logs | {"arms": np.array(arms), "epoch": epochs}


def _compute(name: str, options: Options) -> None:
    plan = PLANS[name][options.preset]
    source = load(plan.task.dataset, data_dir=options.data_dir)
    jobs = [(s, seed) for seed in range(options.seeds or plan.seeds) for s in SETTINGS]
    for setting, seed in tqdm(jobs, desc=name, unit="set"):
        path = options.folder / f"{setting}_seed{seed}.npz"
        if not path.exists():
            write_arrays(path, arms_curves(setting, plan, seed, source))


_TAIL = (
    "raising and lowering the tail both lower it, while images raised by their margin (5b) gain: "
    "what counts is the margin, not the class"
)
_CAUSES = {
    "tail x 2: larger": _TAIL,
    "tail x 5: larger": _TAIL,
    "inverse frequencies: larger": _TAIL,
    "x 5: larger": "too large a weight, of which the paper warns (it prints none); see twice",
    "noisy x 2: larger": "equal and doubled weights are hardly apart once all are separated",
}


def _experiment(name: str, what: str, presets: dict[str, str], causes: dict[str, str]):
    def compute(options: Options) -> None:
        _compute(name, options)

    def show(folder: Path, preset: str) -> str:
        plan = PLANS[name][preset]
        return present(folder, preset, f"{plan.training.model} on {plan.task.dataset}")

    return Experiment(
        name=name,
        summary=f"normalized margins of {what} with hard examples raised or lowered",
        presets=presets,
        compute=compute,
        present=show,
        items=ITEMS,
        printed=printed(name) if name == "zhou2022.figure5" else (),
        entries=stored_statements("zhou2022", ITEMS),
        causes=causes,
    )


EXPERIMENTS = (
    _experiment(
        "zhou2022.figure5",
        "a network without biases (paper preset: ResNet-32)",
        {
            "smoke": "400 of scikit-learn's digits, 64 hidden units, 40 epochs, 2 seeds; seconds",
            "cpu": (
                "2,000 images of MNIST and a network with 64 hidden units, homogeneous of order "
                "two (the paper: CIFAR-10, ResNet-32), learning rate 0.1, momentum 0.9, batches of "
                "100, 200 epochs, 10 seeds; some ten minutes"
            ),
            "paper": (
                "CIFAR-10, ResNet-32, learning rate 0.1 (of our choice: momentum 0.9, weight decay "
                "5e-4, batches of 128, 100 epochs, a tenth of the rate from half and three "
                "quarters on, no augmentation), margins over the head's norm, 5 seeds; a GPU and "
                "a day"
            ),
        },
        _CAUSES,
    ),
    _experiment(
        "zhou2022.figure5.cnn",
        "a convolutional network without biases and batch norm",
        {
            "smoke": "400 of scikit-learn's digits, 4 epochs, 1 seed; half a minute",
            "cpu": (
                "1,000 images of MNIST and a small convolutional network, homogeneous of order 4 "
                "(the paper: CIFAR-10, ResNet-32), learning rate 0.1, momentum 0.9, batches of 50, "
                "60 epochs, 3 seeds; half an hour"
            ),
            "paper": (
                "CIFAR-10 and the same network, learning rate 0.1, momentum 0.9, batches of 128, "
                "400 epochs, 5 seeds; a GPU and a day"
            ),
        },
        {claim: f"perhaps, as in zhou2022.figure5: {cause}" for claim, cause in _CAUSES.items()},
    ),
)
