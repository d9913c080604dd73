"""Figure 4: accuracy against the number of clean images, 40 % of the labels flipped to class 3.

The paper's text names 15, 100 and about 1,000 clean images. Every number of clean images has its
own split; the training set keeps its size.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.ren2018.claims import PAPER, about, not_run
from experiments.ren2018.noise import Setting, configuration, with_drops
from experiments.ren2018.settings import cpu_base, cpu_setting, paper_base, smoke_setting
from experiments.ren2018.sweep import Sweep, arms_of, at, present_sweep
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.reporting.ledger import stored_statements
from experiments.training.config import RunConfig

NOISE = "background:0.4:3"
SIZES = (15, 50, 100, 300, 1000)
_NAMED = (15, 100, 1000)  # by the paper's text
_METHODS = ("ours", "baseline_ft", "baseline_es")
_ROWS = ("BASELINE +FT", "BASELINE +ES +FT", "OURS")
ITEMS = {"Figure 4": "accuracy against the number of clean images, 40 % flipped to one class"}


def sweep(preset: str) -> Sweep:
    """Figure 4 as the preset makes it."""
    if preset == "paper":
        dataset, sizes, methods = "cifar10", SIZES, _METHODS
    elif preset == "cpu":
        dataset, sizes, methods = "mnist", _NAMED, _METHODS
    else:
        dataset, sizes, methods = "digits", (15, 100), _METHODS[:2]

    def of(name: str, value: float) -> RunConfig:
        return configuration(name, _setting(preset, int(value)), NOISE, tunes=name != "ours")

    axis = "clean images"
    return Sweep("Figure 4", axis, sizes, dataset, methods, _ROWS, of, is_logarithmic=True)


def _setting(preset: str, num_clean: int) -> Setting:
    if preset == "paper":
        base = paper_base("cifar10", "resnet32", num_clean)
        base = replace(base, task=replace(base.task, num_train=44_000))
        return Setting(with_drops(base, 80_000, 1 / 2, 3 / 4), 5000, 2000, 5)
    if preset == "cpu":
        base = replace(cpu_base("mnist", num_clean), num_evals=4)
        base = replace(base, task=replace(base.task, num_train=4000))
        return cpu_setting(base, 1 / 2, 3 / 4)
    setting = smoke_setting()
    task = replace(setting.base.task, num_clean=num_clean, num_train=1000)
    return setting._replace(base=replace(setting.base, task=task))


def claims(label: str) -> list[Claim]:
    """What the paper reads off the figure (Sec. 4.3)."""
    place = "Fig. 4, Sec. 4.3"
    fewest, hundred, most = SIZES[0], SIZES[2], SIZES[-1]
    ours, tuned = "OURS", "BASELINE +ES +FT"

    def within_three(few: np.ndarray, many: np.ndarray) -> np.ndarray:
        return many - few <= 3

    return [
        about(
            f"{label}: with 15 clean images OURS is at most three points below its own with 100",
            place,
            (at(ours, fewest), at(ours, hundred)),
            within_three,
        ),
        about(
            f"{label}: with 1,000 clean images OURS is at most one point above its own with 100",
            place,
            (at(ours, hundred), at(ours, most)),
            lambda hundred, most: most - hundred <= 1,
        ),
        *(
            about(
                f"{label}: with 15 clean images {row} is five points or more below its own "
                "with 1,000",
                place,
                (at(row, fewest), at(row, most)),
                lambda few, many: many - few >= 5,
            )
            for row in ("BASELINE +FT", tuned)
        ),
        about(
            f"{label}: with 15 clean images OURS is above both fine-tuned baselines",
            place,
            (at(ours, fewest), at("BASELINE +FT", fewest), at(tuned, fewest)),
            lambda ours, plain, early: ours > np.maximum(plain, early),
        ),
        about(
            f"{label}: with 1,000 clean images {tuned} catches up with OURS, to a point",
            place,
            (at(tuned, most), at(ours, most)),
            lambda tuned, ours: tuned >= ours - 1,
        ),
    ]


def _present(folder: Path, preset: str) -> str:
    return present_sweep(folder, preset, sweep(preset), claims)


_COMMAND = "a GPU: python -m experiments run ren2018.figure4 --preset paper"

EXPERIMENT = Experiment(
    name="ren2018.figure4",
    summary="accuracy against the number of clean images, 40 % of the labels flipped to class 3",
    presets={
        "smoke": "digits, an MLP, 240 steps, 2 sizes, 2 seeds; some seconds",
        "cpu": "MNIST (4,000 training images), LeNet-5, 1,500 steps, 500 of fine-tuning, 3 seeds; "
        "the sizes that the text names; ten minutes",
        "paper": "CIFAR-10, ResNet-32, 80,000 steps, 5 seeds; a GPU, a day or two",
    },
    arms=lambda preset: arms_of(sweep(preset)),
    present=_present,
    items=ITEMS,
    printed=not_run("Figure 4", {}, claims("CIFAR-10"), ITEMS, _COMMAND),
    entries=stored_statements(PAPER, ITEMS),
)
