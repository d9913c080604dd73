"""Table 2's OURS against the learning rate and the number of steps: an ablation, not the paper's.

All rows of Table 2 share a learning rate. Lookahead gives most examples weight zero, and the others
share the whole step: how many those are (the effective sample size) says how much noisier its steps
are than BASELINE's. The background class is 3, as in Figure 4; the drops of the rate keep their
shares of the steps.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.claims import Claim
from experiments.config import RunConfig
from experiments.experiment import Experiment
from experiments.ledger import stored_statements
from experiments.ren2018.claims import PAPER, about
from experiments.ren2018.noise import METHODS, Setting, configuration, with_drops
from experiments.ren2018.settings import cpu_base, cpu_setting, paper_base, smoke_setting
from experiments.ren2018.sweep import Sweep, arms_of, at, present_sweep
from experiments.result import is_finished, load_result

_METHODS = ("baseline", "ours", "baseline_long", "ours_long")
_ROWS = tuple(METHODS[name].row for name in _METHODS)
_BASELINE, _OURS, _BASELINE_LONG, _OURS_LONG = _ROWS
_EFFECTIVE = "effective sample size (share of the batch)"
ITEMS = {"Table 2": "CIFAR with 40 % of the labels flipped to a background class, 10 clean a class"}


def _setting(preset: str) -> Setting:
    drops = (1 / 2, 3 / 4)
    if preset == "paper":
        base = paper_base("cifar10", "resnet32", 100)
        return Setting(with_drops(base, 20_000, *drops), 0, 0, 5)
    if preset == "cpu":
        return cpu_setting(cpu_base("cifar10", 100), *drops)
    return smoke_setting()


def sweep(preset: str) -> Sweep:
    """BASELINE and OURS against the learning rate, and both with four times the steps."""
    setting = _setting(preset)

    def of(name: str, rate: float) -> RunConfig:
        base = replace(setting.base, learning_rate=rate)
        return configuration(name, setting._replace(base=base), "background:0.4:3", tunes=False)

    rates = (0.01, 0.1) if preset != "cpu" else (0.003, 0.01, 0.03)
    return Sweep(
        "Rates",
        "learning rate",
        rates,
        setting.base.task.dataset,
        _METHODS,
        _ROWS,
        of,
        is_logarithmic=True,
    )


def claims(label: str, rates: tuple[float, ...]) -> list[Claim]:
    """What stands behind OURS in Table 2."""
    place, highest = "ablation", max(rates)
    found = []
    for rate in rates:
        text = f"{label}, learning rate {rate:g}: OURS is above BASELINE"
        needs = (at(_BASELINE, rate), at(_OURS, rate))
        found.append(about(text, place, needs, lambda base, ours: ours > base))
        needs = (at(_BASELINE_LONG, rate), at(_OURS_LONG, rate))
        text = f"{text}, with four times the steps"
        found.append(about(text, place, needs, lambda base, ours: ours > base))
        needs = (at(_EFFECTIVE, rate),)
        text = f"{label}, learning rate {rate:g}: OURS uses less than half of its batches"
        found.append(about(text, place, needs, lambda share: share < 0.5))
    text = f"{label}: OURS is better at a smaller learning rate than at {highest:g}"
    needs = tuple(at(_OURS, rate) for rate in rates)

    def is_better(*accuracies: np.ndarray) -> np.ndarray:
        return np.max(accuracies[:-1], axis=0) > accuracies[-1]

    found.append(about(text, place, needs, is_better))
    return [claim._replace(is_control=True) for claim in found]


def effective_sample_sizes(sweep: Sweep, folder: Path) -> dict[str, np.ndarray]:
    """Of OURS, as shares of the batch [S], means over the last half of training."""
    found = {}
    for rate in sweep.values:
        path = folder / f"{rate:g}" / "ours"
        if is_finished(path):
            result = load_result(path)
            sizes = result.history["train_effective_sample_size"][0]
            late = sizes[:, sizes.shape[1] // 2 :].mean(axis=1)
            found[at(_EFFECTIVE, rate)] = late / result.configs[0].batch_size
    return found


def _present(folder: Path, preset: str) -> str:
    swept = sweep(preset)
    return present_sweep(
        folder,
        preset,
        swept,
        lambda label: claims(label, tuple(swept.values)),
        effective_sample_sizes(swept, folder),
    )


EXPERIMENT = Experiment(
    name="ren2018.table2.rates",
    summary="OURS of Table 2 against the learning rate and the number of steps (an ablation)",
    presets={
        "smoke": "digits, an MLP, 240 and 960 steps, 2 rates, 2 seeds; some seconds",
        "cpu": "CIFAR-10 (10,000 images), LeNet-5, 1,800 and 7,200 steps, 3 rates, 3 seeds; half "
        "an hour",
        "paper": "CIFAR-10, ResNet-32, 20,000 and 80,000 steps, 2 rates, 5 seeds; a GPU, days",
    },
    arms=lambda preset: arms_of(sweep(preset)),
    present=_present,
    items=ITEMS,
    entries=stored_statements(PAPER, ITEMS),
)
