"""Figure 5a-c: does raising hard examples raise the normalized margin, in networks on images?

Noisy labels up (a), small margins up (b), tail categories up (c), against equal weights: the same
initialization, batches and mean weight. Arms that lower the same examples stand beside them, and a
set with 40 % noise: Sec. 5 says that lowering noisy examples generalizes better (Fig. A-5 of the
supplement). The margin of a set is its smallest; since one image decides it, the 1 % quantile is
asked as well. A reference network of another initialization, trained with equal weights, says which
margins are small. Figure 5d is an experiment of its own, on simulated data.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import Source, TaskConfig, load
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import Entry, not_run
from experiments.reporting.page import Page
from experiments.tools.parts import compute_parts
from experiments.zhou2022.arms import names_of
from experiments.zhou2022.class_order import spoiled_task
from experiments.zhou2022.figure5_claims import ITEMS, raised_claims
from experiments.zhou2022.figure5_report import margins_page
from experiments.zhou2022.margin_curves import arm_curves, image_arrays, reference_margins
from experiments.zhou2022.networks import Training
from experiments.zhou2022.raised_weights import IMAGE_SETTINGS, weights_of

_REFERENCE_SEED = 1_000_000  # added to a seed for the reference network


class MarginCurvesPlan(NamedTuple):
    """A data set, what is trained on it, how often, and what is recorded."""

    task: TaskConfig
    training: Training
    num_logs: int
    seeds: int
    num_test: int | None = None  # test images, by default all


_CIFAR = TaskConfig("cifar10", num_clean=0, num_validation=0)
_MNIST = TaskConfig("mnist", num_clean=0, num_validation=0, num_train=2000)
_DIGITS = TaskConfig("digits", num_clean=0, num_validation=0, num_train=400)
_PLANS = {
    "zhou2022.figure5": {
        "smoke": MarginCurvesPlan(_DIGITS, Training("mlp:64", 40, 50, 0.1, 0.9), 20, 2),
        "cpu": MarginCurvesPlan(_MNIST, Training("mlp:64", 200, 100, 0.1, 0.9), 50, 10, 2000),
        "paper": MarginCurvesPlan(
            _CIFAR, Training("resnet32", 100, 128, 0.1, 0.9, 5e-4, (0.5, 0.75)), 100, 5
        ),
    },
    "zhou2022.figure5.cnn": {
        "smoke": MarginCurvesPlan(_DIGITS, Training("small_cnn", 4, 50, 0.1), 4, 1),
        "cpu": MarginCurvesPlan(
            replace(_MNIST, num_train=1000), Training("small_cnn", 60, 50, 0.1, 0.9), 20, 3, 1000
        ),
        "paper": MarginCurvesPlan(_CIFAR, Training("small_cnn", 400, 128, 0.1, 0.9), 100, 5),
    },
}


def setting_curves(
    name: str, plan: MarginCurvesPlan, seed: int, source: Source
) -> dict[str, np.ndarray]:
    """The measures of all arms of a setting, [A, E, ...], and their names."""
    setting = IMAGE_SETTINGS[name]
    task = spoiled_task(plan.task, setting.spoiled, seed, source)
    data = image_arrays(task, plan.num_test)
    settings = (data, task.num_classes, plan.num_logs)
    margins = np.zeros(len(task.train.labels), np.float32)
    if name == "margins":
        reference_seed = seed + _REFERENCE_SEED
        num_arms = len(setting.arms)
        margins = reference_margins(plan.training, num_arms, reference_seed, *settings)
    weights = weights_of(setting, task, margins)
    logs, _ = arm_curves(plan.training, weights, seed, *settings)
    epochs = np.arange(1, plan.num_logs + 1) * plan.training.num_epochs // plan.num_logs
    return logs | {"arms": names_of(setting.arms), "epoch": epochs}


def _printed(name: str) -> tuple[Entry, ...]:
    """The claims as a run at the paper's settings would be asked, which needs a GPU."""
    settings = IMAGE_SETTINGS.values()
    asked = [claim for setting in settings for claim in raised_claims(setting, setting.arms)]
    return not_run(asked, f"a GPU: python -m experiments run {name} --preset paper")


def _experiment(
    name: str,
    what: str,
    presets: dict[str, str],
    *,
    doubt: str = "",
    printed: tuple[Entry, ...] = (),
) -> Experiment:
    """The figure with a network of one kind; causes that were found with another are in doubt."""

    def compute(options: Options) -> None:
        plan = _PLANS[name][options.preset]
        source = load(plan.task.dataset, data_dir=options.data_dir)
        parts = {
            f"{setting}_seed{seed}": partial(setting_curves, setting, plan, seed, source)
            for seed in range(options.seeds or plan.seeds)
            for setting in IMAGE_SETTINGS
        }
        compute_parts(options.folder, parts, name)

    def present(folder: Path, preset: str) -> Page:
        plan = _PLANS[name][preset]
        what = f"{plan.training.model} on {plan.task.dataset}"
        return margins_page(folder, preset, what, doubt)

    return Experiment(
        name=name,
        summary=f"normalized margins of {what} with hard examples raised or lowered",
        presets=presets,
        compute=compute,
        present=present,
        items=ITEMS,
        printed=printed,
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
        printed=_printed("zhou2022.figure5"),
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
        doubt="perhaps, as in zhou2022.figure5: ",
    ),
)
