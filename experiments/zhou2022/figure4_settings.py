"""The sets of Figure 4, with the weightings that are compared on each."""

from typing import NamedTuple

import numpy as np

from experiments.zhou2022.arms import EQUAL, WeightedArm, multiplied
from experiments.zhou2022.data import SimulatedSets, simulate

INVERSE = WeightedArm("inverse margin", "small margin")
MATCHED = WeightedArm("dual-matched")
_RAISED = (2.0, 5.0, 10.0)


class SimulatedSetting(NamedTuple):
    """One of the figure's pairs of panels."""

    title: str
    place: str  # in the paper
    model: str
    counts: tuple[int, int]
    arms: tuple[WeightedArm, ...]
    noise_rate: float = 0.0
    num_irrelevant: int = 0


PANELS = {
    "linear_clean": SimulatedSetting(
        "linear, clean", "Fig. 4a-b", "linear", (100, 100), (EQUAL, INVERSE, MATCHED)
    ),
    "network_clean": SimulatedSetting(
        "network, clean", "Fig. 4c-d", "network", (50, 50), (EQUAL, INVERSE)
    ),
    "network_noisy": SimulatedSetting(
        "network, 10 % wrong labels",
        "Fig. 4e-f",
        "network",
        (20, 20),
        (EQUAL, *(multiplied("noisy", factor) for factor in _RAISED)),
        noise_rate=0.1,
        num_irrelevant=6,
    ),
    "linear_imbalanced": SimulatedSetting(
        "linear, imbalanced 10:1",
        "Fig. 4g-h",
        "linear",
        (20, 200),
        (EQUAL, *(multiplied("tail", factor) for factor in _RAISED), MATCHED),
    ),
}
HEAVY_NOISE = {
    f"{model}_heavy_noise": SimulatedSetting(
        f"{model}, 40 % wrong labels",
        "Sec. 5 (Fig. A-5)",
        model,
        (100, 100),
        (
            *(multiplied("noisy", factor) for factor in (0.0, 0.1, 0.5)),
            EQUAL,
            *(multiplied("noisy", factor) for factor in (2.0, 5.0)),
        ),
        noise_rate=0.4,
    )
    for model in ("linear", "network")
}


def simulated_sets(setting: SimulatedSetting, num_seeds: int) -> SimulatedSets:
    """The sets of so many seeds."""
    return simulate(
        setting.model,
        num_seeds,
        setting.counts,
        noise_rate=setting.noise_rate,
        num_irrelevant=setting.num_irrelevant,
    )


def group_weights(arm: WeightedArm, sets: SimulatedSets) -> np.ndarray:
    """Weights [S, N] of an arm with a factor: the factor in its group, one elsewhere."""
    if arm == EQUAL:
        return np.ones(sets.signs.shape)
    if arm.factor is None:
        raise ValueError(f"{arm.name} multiplies no group")
    groups = {"noisy": sets.is_corrupted, "tail": sets.signs < 0}
    return np.where(groups[arm.group], arm.factor, 1.0)
