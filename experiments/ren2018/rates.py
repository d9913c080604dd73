"""Table 2's OURS against the learning rate and the number of steps: an ablation, not the paper's.

All rows of Table 2 share a learning rate. Lookahead gives most examples weight zero, and the few
others share the whole step: the effective sample size says how many they are. "Clipped" caps their
weights at five times the mean. The background class is 3, as in Figure 4; the drops of the rate
keep their shares of the steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.ren2018 import table2
from experiments.ren2018.claims import about
from experiments.ren2018.noise import METHODS, Setting, configuration, with_drops
from experiments.ren2018.settings import cpu_base, cpu_setting, paper_base, smoke_setting
from experiments.ren2018.sweep import Sweep, arms_of, at, curves_table, present_sweep
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.training.config import RunConfig
from experiments.training.result import is_finished, load_result

_METHODS = ("baseline", "ours", "ours_clipped", "baseline_long", "ours_long", "ours_clipped_long")
ROWS = tuple(METHODS[name].row for name in _METHODS)
USED = "OURS: share of the batch used"
ITEMS = {"Table 2": table2.ITEMS["Table 2"]}


def _setting(preset: str) -> Setting:
    drops = (1 / 2, 3 / 4)
    if preset == "paper":
        base = paper_base("cifar10", "resnet32", 100)
        return Setting(with_drops(base, 20_000, *drops), 0, 0, 5)
    if preset == "cpu":
        return cpu_setting(cpu_base("cifar10", 100), *drops)
    return smoke_setting()


def sweep(preset: str) -> Sweep:
    """BASELINE, OURS and OURS clipped against the learning rate; and with four times the steps."""
    setting = _setting(preset)

    def of(name: str, rate: float) -> RunConfig:
        base = replace(setting.base, learning_rate=rate)
        return configuration(name, setting._replace(base=base), "background:0.4:3", tunes=False)

    rates = (0.01, 0.1) if preset == "smoke" else (0.003, 0.01, 0.03, 0.1)
    return Sweep(
        "Rates",
        "learning rate",
        rates,
        setting.base.task.dataset,
        _METHODS,
        ROWS,
        of,
        is_logarithmic=True,
    )


def claims(label: str, rates: Sequence[float]) -> list[Claim]:
    """What stands behind OURS in Table 2; controls all, for the paper says nothing of it."""
    place, found = "ablation", []
    for rate in rates:
        where = f"{label}, learning rate {rate:g}"
        for steps, (base, ours, clipped) in (("", ROWS[:3]), (", 4 x steps", ROWS[3:])):
            for row, other in ((ours, base), (clipped, base), (clipped, ours)):
                text = f"{where}{steps}: {row.split(',')[0]} is above {other.split(',')[0]}"
                needs = (at(row, rate), at(other, rate))
                found.append(about(text, place, needs, np.greater))
        text = f"{where}: OURS uses less than a third of its batches"
        found.append(about(text, place, (at(USED, rate),), lambda share: share < 100 / 3))
    return [claim._replace(is_control=True) for claim in found]


def further_measures(swept: Sweep, folder: Path) -> dict[str, dict[float, np.ndarray]]:
    """Percent [S] by measure and rate: noisy validation accuracy, and the share of a batch used.

    The share is the effective sample size by the batch size, mean over the last half of training.
    """
    found: dict[str, dict[float, np.ndarray]] = {}
    for rate in swept.values:
        for name in _METHODS[:3]:
            path = folder / f"{rate:g}" / name
            if not is_finished(path):
                continue
            result = load_result(path)
            row, history = METHODS[name].row, result.history
            accuracy = 100 * history["validation_accuracy"][0, :, -1].astype(float)
            found.setdefault(f"{row}: noisy validation accuracy", {})[rate] = accuracy
            sizes = history["train_effective_sample_size"][0].astype(float)
            late = 100 * sizes[:, sizes.shape[1] // 2 :].mean(axis=1)
            share = late / result.configs[0].batch_size
            found.setdefault(f"{row}: share of the batch used", {})[rate] = share
    return dict(sorted(found.items(), key=lambda item: item[0].split(": ")[::-1]))


def _present(folder: Path, preset: str) -> str:
    swept = sweep(preset)
    more = further_measures(swept, folder)
    asked = claims(swept.label, swept.values)
    measures = {at(name, rate): x for name, own in more.items() for rate, x in own.items()}
    text = present_sweep(folder, preset, swept, lambda label: asked, measures)
    return f"{text}\n\n{curves_table(swept, 'percent', more)}" if more else text


EXPERIMENT = Experiment(
    name="ren2018.table2.rates",
    summary="OURS of Table 2 against the learning rate and the number of steps (an ablation)",
    presets={
        "smoke": "digits, an MLP, 240 and 960 steps, 2 rates, 2 seeds; some seconds",
        "cpu": "CIFAR-10 (10,000 images), LeNet-5, 1,800 or 7,200 steps, 4 rates, 3 seeds; an hour",
        "paper": "CIFAR-10, ResNet-32, 20,000 and 80,000 steps, 4 rates, 5 seeds; a GPU, days",
    },
    arms=lambda preset: arms_of(sweep(preset)),
    present=_present,
    items=ITEMS,
)
