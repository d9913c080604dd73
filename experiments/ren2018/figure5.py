"""Figure 5: accuracy against the share of labels flipped to a background class.

The paper names neither the class (here 3, as in Figure 4) nor all curves; its legend has early
stopping (ES) and fine-tuning (FT).
"""

from dataclasses import replace
from pathlib import Path

from experiments.ren2018.claims import LARGE_STEPS, PAPER, about, not_run
from experiments.ren2018.noise import Setting, configuration, with_drops
from experiments.ren2018.settings import cpu_base, cpu_setting, paper_base, smoke_setting
from experiments.ren2018.sweep import Sweep, arms_of, at, present_sweep
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.reporting.ledger import stored_statements
from experiments.training.config import RunConfig

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_METHODS = ("ours", "baseline_ft", "baseline_es", "random")
_ROWS = ("BASELINE", "BASELINE +ES", "RANDOM", "BASELINE +FT", "BASELINE +ES +FT", "OURS")
ITEMS = {"Figure 5": "accuracy against the share of labels flipped to a background class"}


def sweep(preset: str) -> Sweep:
    """Figure 5 as the preset makes it."""
    if preset == "paper":
        dataset, rates, methods = "cifar10", RATES, _METHODS
    elif preset == "cpu":
        dataset, rates, methods = "mnist", (0.0, 0.3, 0.5), _METHODS[:-1]
    else:
        dataset, rates, methods = "digits", (RATES[0], RATES[-1]), _METHODS[:2]
    setting = _setting(preset)

    def of(name: str, value: float) -> RunConfig:
        tunes = name in ("baseline_ft", "baseline_es")
        return configuration(name, setting, f"background:{value:g}:3", tunes=tunes)

    return Sweep("Figure 5", "share of flipped labels", rates, dataset, methods, _ROWS, of)


def _setting(preset: str) -> Setting:
    if preset == "paper":
        base = with_drops(paper_base("cifar10", "resnet32", 100), 80_000, 1 / 2, 3 / 4)
        return Setting(base, 5000, 2000, 5)
    if preset == "cpu":
        base = replace(cpu_base("mnist", 100), num_evals=4)
        return cpu_setting(base, 1 / 2, 3 / 4)
    return smoke_setting()


def claims(label: str) -> list[Claim]:
    """What the paper reads off the figure (Sec. 4.3)."""
    place = "Fig. 5, Sec. 4.3"
    none, half = RATES[0], RATES[-1]
    return [
        about(
            f"{label}: from no noise to 50 % OURS loses at most seven points",
            place,
            (at("OURS", none), at("OURS", half)),
            lambda none, half: none - half <= 7,
        ),
        about(
            f"{label}: from no noise to 50 % the baseline loses more than 40 points",
            place,
            (at("BASELINE", none), at("BASELINE", half)),
            lambda none, half: none - half > 40,
        ),
        about(
            f"{label}: without noise OURS is below the baseline, by at most three points",
            place,
            (at("OURS", none), at("BASELINE", none)),
            lambda ours, base: (ours <= base) & (base - ours <= 3),
        ),
    ]


def _present(folder: Path, preset: str) -> str:
    return present_sweep(folder, preset, sweep(preset), claims)


_COMMAND = "a GPU: python -m experiments run ren2018.figure5 --preset paper"

EXPERIMENT = Experiment(
    name="ren2018.figure5",
    summary="accuracy against the share of labels flipped to a background class",
    presets={
        "smoke": "digits, an MLP, 240 steps, 2 rates, 2 seeds; some seconds",
        "cpu": "MNIST (5,000 images, 100 clean), LeNet-5, 1,500 steps, 500 of fine-tuning, "
        "three shares, without RANDOM, 3 seeds; ten minutes",
        "paper": "CIFAR-10, ResNet-32, 80,000 steps, 5 seeds; a GPU, a day or two",
    },
    arms=lambda preset: arms_of(sweep(preset)),
    present=_present,
    items=ITEMS,
    printed=not_run("Figure 5", {}, claims("CIFAR-10"), ITEMS, _COMMAND),
    entries=stored_statements(PAPER, ITEMS),
    causes={"without noise OURS": f"perhaps, as in Table 2: {LARGE_STEPS}"},
)
