"""What the paper conjectures of Figure 4, asked of curves [S, A, T] in the order of `JOINT_ARMS`.

The curves of a model: `deviation`, the standard deviation of g; `correlation` of g with the margin;
`share`, normalized margins, of the linear model over the largest possible one; and of that model
`angle`, to the max-margin direction.
"""

from collections.abc import Mapping

import numpy as np

from experiments.reporting.claims import Claim
from experiments.xu2021.common import index_of_step
from experiments.xu2021.joint_training import JOINT_ARMS

_ITEM = "Figure 4"
_LOGISTIC = (
    "g is a logistic model: it concentrates only if its parameters grow along the classifier, "
    "which for inputs outside the unit ball they do not"
)
_SIGN = (
    "the sign follows from the data and the start of psi, not from the method: text and caption of "
    "the paper expect opposite signs"
)
_SETTLED = "perhaps: from psi = 0, g hardly differs between examples while the direction settles"

_Found = Mapping[str, np.ndarray]


def joint_claims(model: str, steps: np.ndarray) -> list[Claim]:
    """About the "linear" model or the "network", logged at these steps."""
    margin_claim = _reaches_the_margin if model == "linear" else _margin_grows
    claims = [margin_claim(model, steps, arm) for arm in range(len(JOINT_ARMS))]
    for arm in (0, 1):  # in which g is trained
        claims += _deviation_claims(model, steps, arm) + _correlation_claims(model, steps, arm)
        claims.append(_direction_claim(model, steps, arm))
    return claims


def _reaches_the_margin(model: str, steps: np.ndarray, arm: int) -> Claim:
    del steps
    return Claim(
        f"{model}, {JOINT_ARMS[arm]}: nine tenths of the largest margin reached at the end",
        _ITEM,
        "Sec. 5",
        lambda found: found["share"][:, arm, -1] >= 0.9,
    )


def _margin_grows(model: str, steps: np.ndarray, arm: int) -> Claim:
    tenth = _tenth(steps)

    def ask(found: _Found) -> np.ndarray:
        shares = found["share"][:, arm]
        separated = shares[shares[:, -1] > 0]
        return separated[:, -1] > separated[:, tenth]

    return Claim(
        f"{model}, {JOINT_ARMS[arm]}: if separated, a larger margin than after "
        f"{steps[tenth]:,} steps",
        _ITEM,
        "Sec. 5",
        ask,
    )


def _deviation_claims(model: str, steps: np.ndarray, arm: int) -> list[Claim]:
    """g concentrates to a constant."""
    tenth = _tenth(steps)

    def is_below_half(found: _Found) -> np.ndarray:
        spread = found["deviation"][:, arm]
        return spread[:, -1] < spread.max(axis=1) / 2

    def falls(found: _Found) -> np.ndarray:
        spread = found["deviation"][:, arm]
        return spread[:, -1] < spread[:, tenth]

    lead = f"{model}, {JOINT_ARMS[arm]}: deviation of g"
    return [
        Claim(
            f"{lead} at the end below half of its largest",
            _ITEM,
            "Fig. 4",
            is_below_half,
            _LOGISTIC,
        ),
        Claim(f"{lead} falls after {steps[tenth]:,} steps", _ITEM, "Fig. 4", falls, _LOGISTIC),
    ]


def _correlation_claims(model: str, steps: np.ndarray, arm: int) -> list[Claim]:
    """Its correlation with the margin rises fast, with a sign, and then vanishes."""
    early = index_of_step(steps, 100)

    def rises(found: _Found) -> np.ndarray:
        r = found["correlation"][:, arm]
        return r[:, early] > r[:, 1]

    def vanishes(found: _Found) -> np.ndarray:
        size = np.abs(found["correlation"][:, arm])
        return size[:, -1] < np.nanmax(size, axis=1) / 2

    lead, after = f"{model}, {JOINT_ARMS[arm]}", f"after {steps[early]:,} steps"
    return [
        Claim(
            f"{lead}: correlation rises between 1 and {steps[early]:,} steps",
            _ITEM,
            "Fig. 4",
            rises,
            _SIGN,
        ),
        Claim(
            f"{lead}: correlation is positive {after}",
            _ITEM,
            "Fig. 4",
            lambda found: found["correlation"][:, arm, early] > 0,
            _SIGN,
        ),
        Claim(
            f"{lead}: correlation is negative {after}",
            _ITEM,
            "Sec. 5",
            lambda found: found["correlation"][:, arm, early] < 0,
            _SIGN,
        ),
        Claim(
            f"{lead}: size of the correlation at the end below half of its largest",
            _ITEM,
            "Fig. 4",
            vanishes,
            _SIGN,
        ),
    ]


def _direction_claim(model: str, steps: np.ndarray, arm: int) -> Claim:
    """Trained weights change the way of the direction, against g = 3/2."""
    early = index_of_step(steps, 100)

    def ask(found: _Found) -> np.ndarray:
        now, fixed = found["angle"][:, arm, early], found["angle"][:, 2, early]
        return np.abs(now - fixed) > 0.1 * fixed

    return Claim(
        f"{model}, {JOINT_ARMS[arm]}: angle another by a tenth than with g = 3/2 after "
        f"{steps[early]:,} steps",
        _ITEM,
        "Sec. 5",
        ask,
        _SETTLED,
        needs=("angle",),
    )


def _tenth(steps: np.ndarray) -> int:
    """Where a tenth of the run stands."""
    return index_of_step(steps, steps[-1] / 10)
