"""What the paper reads off Figure 4, asked of a setting's curves [S, A, T].

Only seeds count on which the training set gets separated: in both arms that are compared, or in
all. `arms` names the arms of the curves, `step` [T] their times.
"""

from collections.abc import Mapping

import numpy as np

from experiments.reporting.claims import Claim
from experiments.zhou2022 import curves, pull
from experiments.zhou2022.arms import EQUAL, WeightedArm, of_arm
from experiments.zhou2022.figure4_settings import INVERSE, MATCHED, SimulatedSetting

MAX_MARGIN_MEASURES = {
    "cosine": "cosine to the reference",
    "own_cosine": "cosine to its own end",
    "average_margin": "average margin / norm^order",
    "raw_average_margin": "average margin",
    "normalized_margin": "normalized margin",
}
_ITEM = "Figure 4"
_PULL = (
    "not which examples are raised decides, but whether the weights make the gradient point more "
    "to the max-margin direction (ablation in table.txt); on many data sets they do not"
)
_WRONG_LABELS = (
    "perhaps: wrong labels pull the direction away from the margin of the others as long as they "
    "are not yet fitted; only a factor of two helps at times"
)
_FORGETTING = (
    "the cosine overshoots and the normalized margin falls while the starting point is forgotten"
)
_CAUSES = {INVERSE.group: _PULL, "tail": _PULL, "noisy": _WRONG_LABELS}  # by group

_Found = Mapping[str, np.ndarray]


def max_margin_claims(setting: SimulatedSetting) -> list[Claim]:
    """Higher weights on hard examples come nearer to the max margin, and sooner; curves rise."""
    claims = []
    for arm in setting.arms:
        if arm != EQUAL:
            for measure in MAX_MARGIN_MEASURES:
                claims += lead_claims(setting, arm, measure)
            claims.append(_leads_where_it_pulls(setting, arm))
    return claims + [_never_falls(setting, measure) for measure in MAX_MARGIN_MEASURES]


def lead_claims(setting: SimulatedSetting, arm: WeightedArm, measure: str) -> list[Claim]:
    """An arm is ahead of equal weights in a measure: over time, and at the end."""

    def pair(found: _Found) -> tuple[np.ndarray, np.ndarray]:
        both = both_separated(found, arm)
        return of_arm(found, measure, arm)[both], of_arm(found, measure, EQUAL)[both]

    def over_time(found: _Found) -> np.ndarray:
        own, other = pair(found)
        return curves.is_ahead(own, other, found["step"])

    def at_the_end(found: _Found) -> np.ndarray:
        own, other = pair(found)
        return own[:, -1] > other[:, -1]

    lead = f"{setting.title}: {arm.name} ahead of equal in {MAX_MARGIN_MEASURES[measure]}"
    cause = _CAUSES.get(arm.group, "")
    claims = [
        Claim(f"{lead}, over time", _ITEM, setting.place, over_time, cause, needs=(measure,)),
        Claim(f"{lead}, at the end", _ITEM, setting.place, at_the_end, cause, needs=(measure,)),
    ]
    if arm != MATCHED:
        return claims
    return [claim._replace(place="", is_control=True, role="added here") for claim in claims]


def both_separated(found: _Found, arm: WeightedArm) -> np.ndarray:
    """Whether both the arm and equal weights separate the training set; [S]."""
    ends = (of_arm(found, "normalized_margin", each) for each in (arm, EQUAL))
    return np.logical_and(*map(curves.separated, ends))


def _leads_where_it_pulls(setting: SimulatedSetting, arm: WeightedArm) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        ahead = of_arm(found, "cosine", arm) > of_arm(found, "cosine", EQUAL)
        return pull.is_explained(ahead, of_arm(found, "pulls_more", arm), found["step"])

    return Claim(
        f"{setting.title}: {arm.name} leads in cosine (1,000 steps) just where it pulls more",
        _ITEM,
        "",
        ask,
        needs=("pulls_more",),
        is_control=True,
        role="ablation",
    )


def _never_falls(setting: SimulatedSetting, measure: str) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        everywhere = curves.separated(found["normalized_margin"]).min(axis=1)
        return curves.never_falls(found[measure][everywhere]).min(axis=1)

    return Claim(
        f"{setting.title}: {MAX_MARGIN_MEASURES[measure]} never falls, in any arm",
        _ITEM,
        setting.place,
        ask,
        _FORGETTING,
        needs=(measure,),
    )


def heavy_noise_claims(setting: SimulatedSetting) -> list[Claim]:
    """Where many labels are wrong, lower weights on them give the lower test error."""
    lead = f"{setting.title}: test error at the end"

    def is_lowest(found: _Found) -> np.ndarray:
        lowered = [_error(found, arm) for arm in setting.arms if arm.lowers]
        others = [_error(found, arm) for arm in setting.arms if not arm.lowers]
        return np.min(lowered, axis=0) <= np.min(others, axis=0)

    def lower(arm: WeightedArm) -> Claim:
        return Claim(
            f"{lead} lower with {arm.name} than equal",
            _ITEM,
            setting.place,
            lambda found: _error(found, arm) < _error(found, EQUAL),
            _WRONG_LABELS,
        )

    def higher(arm: WeightedArm) -> Claim:
        return Claim(
            f"{lead} higher with {arm.name} than equal",
            _ITEM,
            setting.place,
            lambda found: _error(found, arm) > _error(found, EQUAL),
            _WRONG_LABELS,
        )

    return [
        Claim(f"{lead} lowest with noisy down (or a tie)", _ITEM, setting.place, is_lowest),
        *(lower(arm) if arm.lowers else higher(arm) for arm in setting.arms if arm != EQUAL),
    ]


def _error(found: _Found, arm: WeightedArm) -> np.ndarray:
    return of_arm(found, "test_error", arm)[:, -1]
