"""Figure 4: accuracy against the number of clean images, 40 % of the labels flipped to class 3.

The paper's text names 15, 100 and about 1,000 clean images. Every number of clean images has its
own split; the training set keeps its size.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.ren2018.claims import about
from experiments.ren2018.noise import NOISE_METHODS, configuration
from experiments.ren2018.settings import curve_setting
from experiments.ren2018.sweep import Sweep, at, sweep_arms, sweep_page
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.reporting.ledger import not_run
from experiments.reporting.page import Page
from experiments.training.config import RunConfig

_FEWEST, _HUNDRED, _MOST = 15, 100, 1000  # clean images, named by the paper's text
_SIZES = {
    "smoke": (_FEWEST, _HUNDRED),
    "cpu": (_FEWEST, _HUNDRED, _MOST),
    "paper": (_FEWEST, 50, _HUNDRED, 300, _MOST),
}
_NUM_TRAIN = {"smoke": 1000, "cpu": 4000, "paper": 44_000}
_METHODS = ("ours", "baseline_ft", "baseline_es")
_OURS, _TUNED, _EARLY_TUNED = "OURS", "BASELINE +FT", "BASELINE +ES +FT"
_ROWS = (_TUNED, _EARLY_TUNED, _OURS)
ITEMS = {"Figure 4": "accuracy against the number of clean images, 40 % flipped to one class"}


def _sweep(preset: str) -> Sweep:
    methods = _METHODS[:2] if preset == "smoke" else _METHODS
    setting = curve_setting(preset)

    def of(name: str, value: float) -> RunConfig:
        method, base = NOISE_METHODS[name], setting.base
        task = replace(base.task, num_clean=int(value), num_train=_NUM_TRAIN[preset])
        own = setting._replace(base=replace(base, task=task))
        return configuration(method, own, "background:0.4:3", tunes=method.tuned_row in _ROWS)

    return Sweep(
        "Figure 4",
        "figure4",
        "clean images",
        _SIZES[preset],
        setting.base.task.dataset,
        {name: NOISE_METHODS[name] for name in methods},
        _ROWS,
        of,
        is_logarithmic=True,
    )


def _claims(label: str) -> list[Claim]:
    """What the paper reads off the figure."""

    def claim(text: str, needs: tuple[str, ...], holds: Callable[..., np.ndarray]) -> Claim:
        return about(f"{label}: {text}", "Figure 4", "Fig. 4, Sec. 4.3", needs, holds)

    return [
        claim(
            "with 15 clean images OURS is at most three points below its own with 100",
            (at(_OURS, _FEWEST), at(_OURS, _HUNDRED)),
            lambda fewest, hundred: hundred - fewest <= 3,
        ),
        claim(
            "with 1,000 clean images OURS is at most one point above its own with 100",
            (at(_OURS, _HUNDRED), at(_OURS, _MOST)),
            lambda hundred, most: most - hundred <= 1,
        ),
        *(
            claim(
                f"with 15 clean images {row} is five points or more below its own with 1,000",
                (at(row, _FEWEST), at(row, _MOST)),
                lambda fewest, most: most - fewest >= 5,
            )
            for row in (_TUNED, _EARLY_TUNED)
        ),
        claim(
            "with 15 clean images OURS is above both fine-tuned baselines",
            (at(_OURS, _FEWEST), at(_TUNED, _FEWEST), at(_EARLY_TUNED, _FEWEST)),
            lambda ours, tuned, early: ours > np.maximum(tuned, early),
        ),
        claim(
            f"with 1,000 clean images {_EARLY_TUNED} catches up with OURS, to a point",
            (at(_EARLY_TUNED, _MOST), at(_OURS, _MOST)),
            lambda early, ours: early >= ours - 1,
        ),
    ]


def _present(folder: Path, preset: str) -> Page:
    sweep = _sweep(preset)
    return sweep_page(folder, preset, sweep, _claims(sweep.label))


EXPERIMENT = Experiment(
    name="ren2018.figure4",
    summary="accuracy against the number of clean images, 40 % of the labels flipped to class 3",
    presets={
        "smoke": "digits, an MLP, 240 steps, 2 sizes, 2 seeds; some seconds",
        "cpu": "MNIST (4,000 training images), LeNet-5, 1,500 steps, 500 of fine-tuning, 3 seeds; "
        "the sizes that the text names; ten minutes",
        "paper": "CIFAR-10, ResNet-32, 80,000 steps, 5 seeds; a GPU, a day or two",
    },
    arms=lambda preset: sweep_arms(_sweep(preset)),
    present=_present,
    items=ITEMS,
    printed=not_run(
        _claims("CIFAR-10"), "a GPU: python -m experiments run ren2018.figure4 --preset paper"
    ),
)
