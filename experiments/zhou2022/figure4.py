"""Figure 4: higher weights on hard examples, and how soon the max-margin solution comes near.

Panels (a, b) linear and (c, d) nonlinear with inverse-margin weights, (e, f) wrong labels up,
nonlinear, (g, h) the small class up, linear; and Sec. 5 (Fig. A-5): wrong labels *down* when they
are many, 40 %. The paper gives neither weights nor sizes nor times. All arms of a seed share data
and initial parameters, and their weights have mean one.

The direction of reference is the max-margin solution for the linear predictor. For the network it
is where the run with equal weights ends if it is continued by 10,000 steps of length 0.01, so that
the cosine of this arm tends to one by construction; the cosine to every arm's own end is beside it,
and the normalized margin needs no reference. Only seeds on which the training set gets separated
have a margin to speak of. Five units cannot separate wrong labels of moons in the plane: that set
is small and has six irrelevant inputs.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.reporting.claims import answers
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture, Table
from experiments.simulated.plots import Panel, bands
from experiments.tools.parts import compute_parts, read_parts
from experiments.zhou2022 import curves
from experiments.zhou2022.arms import EQUAL, arm_rows, of_arm
from experiments.zhou2022.figure4_claims import (
    MAX_MARGIN_MEASURES,
    both_separated,
    heavy_noise_claims,
    lead_claims,
    max_margin_claims,
)
from experiments.zhou2022.figure4_settings import HEAVY_NOISE, PANELS, SimulatedSetting
from experiments.zhou2022.figure4_training import train_heavy_noise, train_linear, train_network

_STEPS = {"smoke": (300, 300), "cpu": (10_000, 20_000), "paper": (100_000, 200_000)}
_SEEDS = {"smoke": 2, "cpu": 40, "paper": 100}
_OF_SMOKE = ("linear_imbalanced", "network_clean", "linear_heavy_noise")
_QUESTION = "do higher weights on hard examples speed up the way to the max margin?"
_TINY = 1e-12  # what logarithmic axes show of zero

_Found = Mapping[str, np.ndarray]


def _settings(preset: str) -> dict[str, SimulatedSetting]:
    everything = PANELS | HEAVY_NOISE
    return {name: everything[name] for name in _OF_SMOKE} if preset == "smoke" else everything


def _compute(options: Options) -> None:
    num_seeds = options.seeds or _SEEDS[options.preset]
    linear_steps, network_steps = _STEPS[options.preset]
    parts = {}
    for name, setting in _settings(options.preset).items():
        is_linear = setting.model == "linear"
        num_steps = linear_steps if is_linear else network_steps
        train: Callable[..., dict[str, np.ndarray]] = train_heavy_noise
        if name in PANELS:
            train = train_linear if is_linear else train_network
        parts[name] = partial(train, setting, num_seeds, num_steps)
    with jax.enable_x64(True):
        compute_parts(options.folder, parts, "zhou2022.figure4")


def _present(folder: Path, preset: str) -> Page:
    settings = _settings(preset)
    found = read_parts(folder, settings)
    asked = {
        name: max_margin_claims(setting) if name in PANELS else heavy_noise_claims(setting)
        for name, setting in settings.items()
    }
    measures = [*MAX_MARGIN_MEASURES, "test_error"]
    rows = [
        [name, *row]
        for name, setting in settings.items()
        for row in arm_rows([arm.name for arm in setting.arms], found[name], measures, digits=8)
    ]
    return Page(
        tables=[_lead_table(settings, found), _end_table(settings, found)],
        claims=[answer for name in settings for answer in answers(asked[name], found[name])],
        figures=[
            Picture(
                name,
                _max_margin_figure(setting, found[name])
                if name in PANELS
                else _heavy_noise_figure(setting, found[name]),
            )
            for name, setting in settings.items()
        ],
        files={"figure4.csv": [["setting", "arm", "seed", "step", *measures], *rows]},
        summary={"preset": preset},
    )


def _lead_table(settings: Mapping[str, SimulatedSetting], found: Mapping[str, _Found]) -> Table:
    """A row for every arm: the seeds on which it is ahead of equal weights."""
    rows = []
    for name, setting in settings.items():
        for arm in setting.arms:
            if name in PANELS and arm != EQUAL:
                cells = []
                for measure in MAX_MARGIN_MEASURES:
                    ahead = answers(lead_claims(setting, arm, measure), found[name])
                    cells.append(", ".join(str(answer.count) for answer in ahead))
                seeds = str(both_separated(found[name], arm).sum())
                rows.append([setting.title, arm.name, *cells, seeds])
    return Table(
        ["setting", "arm", *MAX_MARGIN_MEASURES.values(), "seeds"],
        rows,
        title="Seeds on which the arm is ahead of equal weights, on average over the logarithm of "
        "the steps\nfrom 10 on, and at the end; of the seeds that both separate:",
    )


def _end_table(settings: Mapping[str, SimulatedSetting], found: Mapping[str, _Found]) -> Table:
    header = ["setting", "arm", "1 - cosine", "1 - own cosine", "average margin"]
    return Table(
        [*header, "normalized margin", "test error %", "separated"],
        [row for name, setting in settings.items() for row in _ends(setting, found[name])],
        title="Medians at the end, of the seeds that the arm and equal weights separate "
        "(or of all):",
    )


def _ends(setting: SimulatedSetting, found: _Found) -> list[list[str]]:
    rows = []
    for arm in setting.arms:
        done = curves.separated(of_arm(found, "normalized_margin", arm))
        both = both_separated(found, arm)
        chosen = both if both.any() else np.ones_like(both)
        last = {m: of_arm(found, m, arm)[chosen, -1] for m, v in found.items() if v.ndim == 3}
        median = {m: float(np.median(v)) for m, v in last.items()}
        own = 1 - median.get("own_cosine", np.nan)
        rows.append(
            [
                setting.title,
                arm.name,
                f"{1 - median['cosine']:.2g}" if both.any() else "",
                f"{own:.2g}" if np.isfinite(own) and both.any() else "",
                f"{median['average_margin']:.4f}",
                f"{median['normalized_margin']:.4f}",
                f"{100 * median['test_error']:.1f}",
                f"{done.sum()} of {len(done)}" + ("" if both.any() else " (all shown)"),
            ]
        )
    return rows


def _max_margin_figure(setting: SimulatedSetting, found: _Found) -> Figure:
    """Panels of the measures, of the seeds that all arms separate, or of all if there are none."""
    done = curves.separated(found["normalized_margin"]).min(axis=1)
    shown = done if done.any() else np.ones_like(done)
    panels = []
    for measure, name in MAX_MARGIN_MEASURES.items():
        if measure not in found:
            continue
        values, title, log_y = found[measure], name, False
        if measure in ("cosine", "own_cosine"):
            values, title, log_y = np.maximum(1 - values, _TINY), f"1 - {name}", True
        elif measure == "normalized_margin" and "largest_margin" in found:
            shortfall = found["largest_margin"][:, None, None] - values
            values, title, log_y = np.maximum(shortfall, _TINY), f"largest - {name}", True
        values = np.where(shown[:, None, None], values, np.nan)
        panels.append(_panel(setting, found, title, values, log_y=log_y))
    seeds = f"the {done.sum()} of {len(done)} seeds separated" if done.any() else _all(done)
    columns = 3 if len(panels) > 4 else 4
    return bands(panels, title=f"{setting.title} ({seeds})", num_columns=columns)


def _heavy_noise_figure(setting: SimulatedSetting, found: _Found) -> Figure:
    measures = {"test_error": "test error", "raw_average_margin": "average margin"}
    panels = [_panel(setting, found, title, found[measure]) for measure, title in measures.items()]
    seeds = _all(found["test_error"])
    return bands(panels, title=f"{setting.title} ({seeds})", num_columns=2)


def _panel(
    setting: SimulatedSetting, found: _Found, title: str, values: np.ndarray, *, log_y: bool = False
) -> Panel:
    """Values [S, A, T] of all arms, equal weights first."""
    arms = sorted(setting.arms, key=lambda arm: arm != EQUAL)
    by_arm = {arm.name: values[:, setting.arms.index(arm)] for arm in arms}
    return Panel(title, "", found["step"], by_arm, log_y)


def _all(seeds: np.ndarray) -> str:
    return f"all {len(seeds)} seeds"


EXPERIMENT = Experiment(
    name="zhou2022.figure4",
    summary=_QUESTION,
    presets={
        "smoke": "2 seeds, 300 steps, three of the six settings; half a minute",
        "cpu": "40 seeds, 10,000 steps (linear) and 20,000 (network); two or three minutes",
        "paper": "100 seeds, ten times the steps; an hour",
    },
    compute=_compute,
    present=_present,
    items={"Figure 4": _QUESTION},
)
