"""The weightings that Figures 4 and 5 compare: which examples they raise or lower, and how much."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class WeightedArm(NamedTuple):
    """A weighting: a factor on one group of examples, or weights by a formula."""

    name: str
    group: str = ""  # whose weights the factor multiplies, or a formula mostly raises
    factor: float | None = None  # None: by a formula

    @property
    def raises(self) -> bool:
        """Whether the group's weights are larger; those by a formula are."""
        return self.factor is None or self.factor > 1

    @property
    def lowers(self) -> bool:
        """Whether the group's weights are smaller."""
        return self.factor is not None and self.factor < 1


EQUAL = WeightedArm("equal", factor=1.0)


def multiplied(group: str, factor: float) -> WeightedArm:
    """A factor on a group: "noisy x 5"."""
    return WeightedArm(f"{group} x {factor:g}", group, factor)


def names_of(arms: Sequence[WeightedArm]) -> np.ndarray:
    """As they are stored beside curves [S, A, ...] or [A, ...]."""
    return np.array([arm.name for arm in arms])


def stored_arms(arms: Sequence[WeightedArm], found: Mapping[str, np.ndarray]) -> list[WeightedArm]:
    """Those of the arms that a run has curves of."""
    names = found["arms"].tolist()
    return [arm for arm in arms if arm.name in names]


def of_arm(found: Mapping[str, np.ndarray], measure: str, arm: WeightedArm) -> np.ndarray:
    """The curves [S, ...] of one arm, of stored ones [S, A, ...]."""
    return found[measure][:, found["arms"].tolist().index(arm.name)]


def arm_rows(
    arms: Sequence[Any],
    found: Mapping[str, np.ndarray],
    measures: Sequence[str],
    *,
    digits: int,
    time: str = "step",
) -> list[list]:
    """Rows for a CSV file: arm, seed, time, measures [S, A, T]; NaN for one that was not taken."""
    times, num_seeds = found[time].tolist(), len(found[measures[-1]])
    return [
        [arm, seed, now, *(f"{_at(found, name, seed, a, t):.{digits}g}" for name in measures)]
        for a, arm in enumerate(arms)
        for seed in range(num_seeds)
        for t, now in enumerate(times)
    ]


def _at(found: Mapping[str, np.ndarray], name: str, seed: int, a: int, t: int) -> float:
    return found[name][seed, a, t] if name in found else np.nan
