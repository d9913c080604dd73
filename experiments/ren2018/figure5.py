"""Figure 5: accuracy against the share of labels flipped to a background class.

The paper names neither the class (here 3, as in Figure 4) nor all curves; its legend has early
stopping (ES) and fine-tuning (FT).
"""

from pathlib import Path

from experiments.ren2018.claims import LARGE_STEPS, about
from experiments.ren2018.noise import NOISE_METHODS, configuration
from experiments.ren2018.settings import curve_setting
from experiments.ren2018.sweep import Sweep, at, sweep_arms, sweep_page
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Experiment
from experiments.reporting.ledger import not_run
from experiments.reporting.page import Page
from experiments.training.config import RunConfig

_NONE, _HALF = 0.0, 0.5
_SHARES = {
    "smoke": (_NONE, _HALF),
    "cpu": (_NONE, 0.3, _HALF),
    "paper": (_NONE, 0.1, 0.2, 0.3, 0.4, _HALF),
}
_METHODS = {
    "smoke": ("ours", "baseline_ft"),
    "cpu": ("ours", "baseline_ft", "baseline_es"),
    "paper": ("ours", "baseline_ft", "baseline_es", "random"),
}
_ROWS = ("BASELINE", "BASELINE +ES", "RANDOM", "BASELINE +FT", "BASELINE +ES +FT", "OURS")
ITEMS = {"Figure 5": "accuracy against the share of labels flipped to a background class"}


def _sweep(preset: str) -> Sweep:
    setting = curve_setting(preset)

    def of(name: str, value: float) -> RunConfig:
        method = NOISE_METHODS[name]
        noise = f"background:{value:g}:3"
        return configuration(method, setting, noise, tunes=method.tuned_row in _ROWS)

    return Sweep(
        "Figure 5",
        "figure5",
        "share of flipped labels",
        _SHARES[preset],
        setting.base.task.dataset,
        {name: NOISE_METHODS[name] for name in _METHODS[preset]},
        _ROWS,
        of,
    )


def _claims(label: str) -> list[Claim]:
    """What the paper reads off the figure."""
    item, place = "Figure 5", "Fig. 5, Sec. 4.3"
    return [
        about(
            f"{label}: from no noise to 50 % OURS loses at most seven points",
            item,
            place,
            (at("OURS", _NONE), at("OURS", _HALF)),
            lambda none, half: none - half <= 7,
        ),
        about(
            f"{label}: from no noise to 50 % the baseline loses more than 40 points",
            item,
            place,
            (at("BASELINE", _NONE), at("BASELINE", _HALF)),
            lambda none, half: none - half > 40,
        ),
        about(
            f"{label}: without noise OURS is below the baseline, by at most three points",
            item,
            place,
            (at("OURS", _NONE), at("BASELINE", _NONE)),
            lambda ours, base: (ours <= base) & (base - ours <= 3),
            cause=f"perhaps, as in Table 2: {LARGE_STEPS}",
        ),
    ]


def _present(folder: Path, preset: str) -> Page:
    sweep = _sweep(preset)
    return sweep_page(folder, preset, sweep, _claims(sweep.label))


EXPERIMENT = Experiment(
    name="ren2018.figure5",
    summary="accuracy against the share of labels flipped to a background class",
    presets={
        "smoke": "digits, an MLP, 240 steps, 2 rates, 2 seeds; some seconds",
        "cpu": "MNIST (5,000 images, 100 clean), LeNet-5, 1,500 steps, 500 of fine-tuning, "
        "three shares, without RANDOM, 3 seeds; ten minutes",
        "paper": "CIFAR-10, ResNet-32, 80,000 steps, 5 seeds; a GPU, a day or two",
    },
    arms=lambda preset: sweep_arms(_sweep(preset)),
    present=_present,
    items=ITEMS,
    printed=not_run(
        _claims("CIFAR-10"), "a GPU: python -m experiments run ren2018.figure5 --preset paper"
    ),
)
