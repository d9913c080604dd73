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
from experiments.ren2018.noise import NOISE_METHODS, NoiseMethod, configuration, with_drops
from experiments.ren2018.sweep import (
    ROW_COLORS,
    Sweep,
    at,
    curves_table,
    measures_at,
    sweep_arms,
    sweep_page,
)
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.reporting.page import Page
from experiments.training.config import RunConfig
from experiments.training.result import Result, is_finished, load_result
from experiments.training.schedule import parse_schedule

_TIMES, _LONGER = 4, ", 4 x steps"  # the end of a row's name
_METHODS = {
    "baseline": NOISE_METHODS["baseline"],
    "ours": NOISE_METHODS["ours"],
    "ours_clipped": NoiseMethod("OURS clipped", "", {"weighting": "lookahead+clip:0:5"}),
}
_LONG_METHODS = {
    f"{name}_long": method._replace(row=f"{method.row}{_LONGER}")
    for name, method in _METHODS.items()
}
_ALL = _METHODS | _LONG_METHODS
_COLORS = ROW_COLORS | {
    "OURS clipped": "#0072B2",
    "BASELINE, 4 x steps": "#888888",
    "OURS, 4 x steps": "#66C2A5",
    "OURS clipped, 4 x steps": "#56B4E9",
}
ITEMS = {"Table 2": table2.ITEMS["Table 2"]}


def lengthened(config: RunConfig, times: int) -> RunConfig:
    """The configuration with as many times the steps, drops at the same shares of them."""
    drops = parse_schedule(config.schedule).drops
    shares = [drop / config.num_steps for drop in drops]
    return with_drops(config, times * config.num_steps, *shares)


def _sweep(preset: str) -> Sweep:
    """BASELINE, OURS and OURS clipped against the learning rate; and with four times the steps."""
    dataset, setting = next(iter(table2.settings_of(preset).items()))
    if preset == "paper":  # four times as many steps are those of Table 2
        base = with_drops(setting.base, setting.base.num_steps // _TIMES, 1 / 2, 3 / 4)
        setting = setting._replace(base=base)

    def of(name: str, rate: float) -> RunConfig:
        at_rate = setting._replace(base=replace(setting.base, learning_rate=rate))
        config = configuration(_ALL[name], at_rate, "background:0.4:3", tunes=False)
        return lengthened(config, _TIMES) if name in _LONG_METHODS else config

    return Sweep(
        "Rates",
        "rates",
        "learning rate",
        (0.01, 0.1) if preset == "smoke" else (0.003, 0.01, 0.03, 0.1),
        dataset,
        _ALL,
        [method.row for method in _ALL.values()],
        of,
        is_logarithmic=True,
        colors=_COLORS,
    )


def _share_used(row: str) -> str:
    """The name of a measure."""
    return f"{row}: share of the batch used"


def _claims(label: str, rates: Sequence[float]) -> list[Claim]:
    """What stands behind OURS in Table 2; controls all, for the paper says nothing of it."""
    item, place, found = "Table 2", "ablation", []
    base, ours, clipped = (method.row for method in _METHODS.values())
    for rate in rates:
        where = f"{label}, learning rate {rate:g}"
        for steps in ("", _LONGER):
            for row, other in ((ours, base), (clipped, base), (clipped, ours)):
                text = f"{where}{steps}: {row} is above {other}"
                needs = (at(f"{row}{steps}", rate), at(f"{other}{steps}", rate))
                found.append(about(text, item, place, needs, np.greater))
        text = f"{where}: OURS uses less than a third of its batches"
        needs = (at(_share_used(ours), rate),)
        found.append(about(text, item, place, needs, lambda share: share < 100 / 3))
    return [claim._replace(is_control=True) for claim in found]


def _validation_accuracy(result: Result) -> np.ndarray:
    """At the end of training, on noisy labels; percent [S]."""
    return 100 * result.history["validation_accuracy"][0, :, -1].astype(float)


def _late_share_used(result: Result) -> np.ndarray:
    """The effective sample size by the batch size, mean over the last half; percent [S]."""
    sizes = result.history["train_effective_sample_size"][0].astype(float)
    late = 100 * sizes[:, sizes.shape[1] // 2 :].mean(axis=1)
    return late / result.configs[0].batch_size


def _further_curves(sweep: Sweep, folder: Path) -> dict[str, dict[float, np.ndarray]]:
    """Noisy validation accuracy, and the share of a batch used, of the methods as long as usual."""
    found: dict[str, dict[float, np.ndarray]] = {}
    results = {
        (name, rate): load_result(path)
        for name in _METHODS
        for rate in sweep.values
        if is_finished(path := folder / f"{rate:g}" / name)
    }
    for (name, rate), result in results.items():
        row = f"{_METHODS[name].row}: noisy validation accuracy"
        found.setdefault(row, {})[rate] = _validation_accuracy(result)
    for (name, rate), result in results.items():
        row = _share_used(_METHODS[name].row)
        found.setdefault(row, {})[rate] = _late_share_used(result)
    return found


def _present(folder: Path, preset: str) -> Page:
    sweep = _sweep(preset)
    further = _further_curves(sweep, folder)
    claims = _claims(sweep.label, sweep.values)
    page = sweep_page(folder, preset, sweep, claims, measures_at(further))
    if not further:
        return page
    return page._replace(tables=[*page.tables, curves_table(sweep, "percent", further)])


EXPERIMENT = Experiment(
    name="ren2018.table2.rates",
    summary="OURS of Table 2 against the learning rate and the number of steps (an ablation)",
    presets={
        "smoke": "digits, an MLP, 240 and 960 steps, 2 rates, 2 seeds; some seconds",
        "cpu": "CIFAR-10 (10,000 images), LeNet-5, 1,800 or 7,200 steps, 4 rates, 3 seeds; an hour",
        "paper": "CIFAR-10, ResNet-32, 20,000 and 80,000 steps, 4 rates, 5 seeds; a GPU, days",
    },
    arms=lambda preset: sweep_arms(_sweep(preset)),
    present=_present,
    items=ITEMS,
)
