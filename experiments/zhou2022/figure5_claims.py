"""What the paper reads off Figure 5a-c, asked of a setting's curves [S, A, E].

The claims are about the `smallest` normalized margin, the 1 % `quantile` and the `average`, about
`test_error` and, with a last axis of classes, `class_error`; `arms` names the arms.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.reporting.claims import Claim
from experiments.zhou2022.arms import EQUAL, WeightedArm, of_arm
from experiments.zhou2022.claims import added_claim
from experiments.zhou2022.raised_weights import ImageSetting, tail_classes

ITEMS = {
    "Figure 5": (
        "normalized margins with hard examples raised (5a-c), and test error by the weight of the "
        "small class (5d)"
    )
}
_ITEM = "Figure 5"
_WORDS = {"smallest": "normalized margin", "quantile": "1 % quantile of the normalized margins"}
_TAIL = (
    "raising and lowering the tail both lower it, while images raised by their margin (5b) gain: "
    "what counts is the margin, not the class"
)
_TOO_LARGE = "too large a weight, of which the paper warns (it prints none); see twice"
_HARDLY_APART = "equal and doubled weights are hardly apart once all are separated"

_Found = Mapping[str, np.ndarray]


def raised_claims(
    setting: ImageSetting, arms: Sequence[WeightedArm], doubt: str = ""
) -> list[Claim]:
    """Raised examples raise the margin; wrong labels are better lowered.

    Args:
      setting: what the arms are of.
      arms: those that were trained, equal weights among them.
      doubt: what stands before every cause.
    """
    raised = [arm for arm in arms if arm.raises]
    lowered = [arm for arm in arms if arm.lowers]
    claims = []
    if setting.panel != "A-5":
        for arm in raised:
            for measure in _WORDS:
                claims += _larger_margin(setting, arm, measure)
            claims.append(_larger_average(setting, arm))
    if setting.group == "noisy" and lowered:
        claims += _noisy_claims(setting, raised, lowered)
    if setting.group == "tail":
        for arm in raised:
            claims += _tail_claims(setting, arm)
    if setting.group == "small margins":
        claims += [_lower_test_error(setting, arm) for arm in raised]
    return [claim._replace(cause=claim.cause and f"{doubt}{claim.cause}") for claim in claims]


def _larger_margin(setting: ImageSetting, arm: WeightedArm, measure: str) -> list[Claim]:
    def over_the_epochs(found: _Found) -> np.ndarray:
        own, equal = (of_arm(found, measure, each).mean(axis=1) for each in (arm, EQUAL))
        return own > equal

    lead = f"{setting.title}: {arm.name}: larger {_WORDS[measure]} than with equal weights"
    place, cause = f"Fig. {setting.panel}", _why_not_larger(arm)
    return [
        Claim(f"{lead}, over the epochs", _ITEM, place, over_the_epochs, cause),
        Claim(
            f"{lead}, at the end",
            _ITEM,
            place,
            lambda found: _end(found, measure, arm) > _end(found, measure, EQUAL),
            cause,
        ),
    ]


def _why_not_larger(arm: WeightedArm) -> str:
    if arm.group == "tail":
        return _TAIL
    if arm.factor == 5:
        return _TOO_LARGE
    return _HARDLY_APART if (arm.group, arm.factor) == ("noisy", 2) else ""


def _larger_average(setting: ImageSetting, arm: WeightedArm) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        own, equal = (of_arm(found, "average", each).mean(axis=1) for each in (arm, EQUAL))
        return own > equal

    text = f"{setting.title}: {arm.name}: larger average margin, over the epochs"
    return added_claim(text, _ITEM, ask)


def _noisy_claims(
    setting: ImageSetting, raised: Sequence[WeightedArm], lowered: Sequence[WeightedArm]
) -> list[Claim]:
    """Lowering wrong labels generalizes better (Sec. 5)."""

    def is_lowest(found: _Found) -> np.ndarray:
        last = found["test_error"][:, :, -1]
        is_lowered = np.isin(found["arms"], [arm.name for arm in lowered])
        return last[:, is_lowered].min(axis=1) < last[:, ~is_lowered].min(axis=1)

    def lower(arm: WeightedArm) -> Claim:
        return Claim(
            f"{setting.title}: {arm.name}: lower test error than equal weights",
            _ITEM,
            "Fig. A-5",
            _errs_less(arm),
        )

    def higher(arm: WeightedArm) -> Claim:
        return added_claim(
            f"{setting.title}: {arm.name}: higher test error than equal weights",
            _ITEM,
            lambda found: _end(found, "test_error", arm) > _end(found, "test_error", EQUAL),
        )

    text = f"{setting.title}: a lowered weight has the lowest test error"
    return [
        Claim(text, _ITEM, "Fig. A-5", is_lowest),
        *(lower(arm) for arm in lowered),
        *(higher(arm) for arm in raised),
    ]


def _tail_claims(setting: ImageSetting, arm: WeightedArm) -> list[Claim]:
    lead = f"{setting.title}: {arm.name}"

    def errs_less_on_the_tail(found: _Found) -> np.ndarray:
        error, arms = tail_error(found)[:, :, -1], found["arms"].tolist()
        return error[:, arms.index(arm.name)] < error[:, arms.index(EQUAL.name)]

    return [
        Claim(
            f"{lead}: lower test error of the tail categories",
            _ITEM,
            "Sec. 5",
            errs_less_on_the_tail,
        ),
        added_claim(f"{lead}: lower balanced test error", _ITEM, _errs_less(arm)),
    ]


def _lower_test_error(setting: ImageSetting, arm: WeightedArm) -> Claim:
    text = f"{setting.title}: {arm.name}: lower test error than equal weights"
    return added_claim(text, _ITEM, _errs_less(arm))


def _errs_less(arm: WeightedArm) -> Callable[[_Found], np.ndarray]:
    return lambda found: _end(found, "test_error", arm) < _end(found, "test_error", EQUAL)


def _end(found: _Found, measure: str, arm: WeightedArm) -> np.ndarray:
    return of_arm(found, measure, arm)[:, -1]


def tail_error(found: _Found) -> np.ndarray:
    """Mean test error [S, A, E] of the rarer half of the categories."""
    errors = found["class_error"]
    return errors[..., tail_classes(errors.shape[-1])].mean(axis=-1)
