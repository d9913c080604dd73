"""What the paper says of Tables 3 and 4 and Figures 9 to 13 (Sec. 5.2), asked of every seed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.explain.telescope import mean_weights
from experiments.reporting.claims import Claim
from experiments.santiago2021 import gallery
from experiments.santiago2021.claims import (
    FinishedArms,
    best_setting,
    class_spread,
    class_weight_curves,
    error_curves,
    mean_early,
)
from experiments.santiago2021.lesions import LESION_SETS
from experiments.santiago2021.printed import METRICS
from experiments.training.result import Result

SKIN_MEASURE = "balanced_accuracy"  # by which settings are chosen


class LossArm(NamedTuple):
    """A loss, alone or with LOW on top."""

    loss: str
    has_low: bool = False

    @property
    def label(self) -> str:
        """The paper's name."""
        return f"LOW + {self.loss}" if self.has_low else self.loss


LOSS_ARMS = {
    "ce": LossArm("CE"),
    "bce": LossArm("bCE"),
    "fl": LossArm("FL"),
    "low_ce": LossArm("CE", has_low=True),
    "low_bce": LossArm("bCE", has_low=True),
    "low_fl": LossArm("FL", has_low=True),
}
LOW_ON_BALANCED = (  # a cause
    "perhaps: LOW raises the rarest classes once more, which bCE has raised already"
)
_THREE_SEEDS = "three seeds: differences are within their spread (Table 4)"
_DWELLS = (
    "perhaps: the small network still errs on a fifth of the training images (errors.csv), and LOW "
    "dwells on those"
)
_EARLY = 1 / 6  # of the epochs: the first 25 of the paper's 150
_GALLERY = 20
_PAIRS = (("ce", "low_ce"), ("bce", "low_bce"), ("fl", "low_fl"))
_Ask = Callable[[FinishedArms], np.ndarray]


def _metrics(result: Result) -> np.ndarray:
    """The four metrics of the test set at the end [4, S], at the chosen setting."""
    h = best_setting(result, SKIN_MEASURE)
    return np.stack([result.history[f"test_{name}"][h, :, -1] for name in METRICS])


def _training_error(result: Result) -> np.ndarray:
    """Along the epochs [S, E], at the chosen setting."""
    return error_curves(result, best_setting(result, SKIN_MEASURE), "train")


def _weights(found: FinishedArms) -> np.ndarray:
    """Of the classes [S, E, C], by LOW + CE."""
    return class_weight_curves(found["low_ce"], best_setting(found["low_ce"], SKIN_MEASURE))


def _part(found: FinishedArms, first: float, last: float) -> np.ndarray:
    """Mean weights of the classes [S, C] over a part of the epochs."""
    weights = _weights(found)
    start, stop = (round(share * weights.shape[1]) for share in (first, last))
    return weights[:, start : max(stop, start + 1)].mean(axis=1)


def _better_on_most(arm: str, low: str) -> _Ask:
    return lambda found: (_metrics(found[low]) > _metrics(found[arm])).sum(axis=0) >= 3


def _best_of_all(found: FinishedArms) -> np.ndarray:
    own = _metrics(found["low_ce"])
    others = np.stack([_metrics(found[arm]) for arm in LOSS_ARMS if arm != "low_ce"])
    return (own > others.max(axis=0)).sum(axis=0) >= 3


def _lower_at_the_end(arm: str, low: str) -> _Ask:
    return lambda found: _training_error(found[low])[:, -1] < _training_error(found[arm])[:, -1]


def _lower_early(arm: str, low: str) -> _Ask:
    return lambda found: (
        mean_early(_training_error(found[low]), _EARLY)
        < mean_early(_training_error(found[arm]), _EARLY)
    )


def _loss_claims(title: str, table: str, arm: str, low: str) -> list[Claim]:
    """LOW on top of a loss against the loss alone."""
    name, than = f"{title}: {LOSS_ARMS[low].label}", f"than {LOSS_ARMS[arm].label}"
    needs = (arm, low)
    spread, dwells = _THREE_SEEDS, _DWELLS
    if low == "low_bce":
        spread = dwells = LOW_ON_BALANCED
    return [
        Claim(
            f"{name} is better {than} on most metrics",
            table,
            table,
            _better_on_most(arm, low),
            spread,
            needs,
        ),
        Claim(
            f"{name} ends at a lower training error {than}",
            "Figure 9",
            "Fig. 9",
            _lower_at_the_end(arm, low),
            dwells,
            needs,
        ),
        Claim(
            f"{name} has a lower training error {than} early (first sixth)",
            "Figure 9",
            "Fig. 9",
            _lower_early(arm, low),
            dwells,
            needs,
        ),
    ]


def _most_frequent(labels: np.ndarray) -> int:
    return int(np.argmax(np.bincount(labels)))


def _lightest_are_frequent(found: FinishedArms) -> np.ndarray:
    low = found["low_ce"]
    h = best_setting(low, SKIN_MEASURE)
    holds = []
    for s, labels in enumerate(low.labels):
        light, _ = gallery.extreme_positions(mean_weights(low, h, s), _GALLERY)
        holds.append(bool(np.all(labels[light] == _most_frequent(labels))))
    return np.array(holds)


def _frequent_is_lightest(found: FinishedArms) -> np.ndarray:
    weights = _part(found, 0.0, 1.0)
    frequent = [_most_frequent(labels) for labels in found["low_ce"].labels]
    return np.nanargmin(weights, axis=1) == np.array(frequent)


def _returns_to_one(found: FinishedArms) -> np.ndarray:
    widths = class_spread(_weights(found))
    return widths[:, -1] < widths.max(axis=1) / 2


def _rare_is_heavier(found: FinishedArms) -> np.ndarray:
    """Whether the rarer half of the classes weighs more than the other, early on."""
    weights = _part(found, 0.0, _EARLY)
    holds = []
    for row, labels in zip(weights, found["low_ce"].labels, strict=True):
        sizes = np.bincount(labels, minlength=len(row))
        rare = np.argsort(np.where(sizes > 0, sizes, np.inf), kind="stable")[: len(row) // 2]
        holds.append(bool(np.nanmean(row[rare]) > np.nanmean(np.delete(row, rare))))
    return np.array(holds)


def _is_heaviest(c: int, first: float, last: float) -> _Ask:
    return lambda found: np.nanargmax(_part(found, first, last), axis=1) == c


def _is_light(c: int) -> _Ask:
    def ask(found: FinishedArms) -> np.ndarray:
        weights = _part(found, 0.0, _EARLY)
        return weights[:, c] < np.nanmean(weights, axis=1)

    return ask


def _weights_claim(text: str, item: str, place: str, ask: _Ask) -> Claim:
    return Claim(text, item, place, ask, needs=("low_ce",))


def _weight_claims_of_2017() -> list[Claim]:
    data = LESION_SETS["isic2017"]
    melanoma, keratosis = map(data.classes.index, ("Melanoma", "Keratosis"))

    def claim(text: str, ask: _Ask) -> Claim:
        return _weights_claim(f"{data.title}: {text}", "Figure 12", "Fig. 12", ask)

    return [
        _weights_claim(
            f"{data.title}: all of the {_GALLERY} lightest images are of the most frequent class",
            "Figure 10",
            "Fig. 10",
            _lightest_are_frequent,
        ),
        claim(
            "the most frequent class, Benign, weighs least over all epochs", _frequent_is_lightest
        ),
        claim("Keratosis weighs most at first (first sixth)", _is_heaviest(keratosis, 0.0, _EARLY)),
        claim(
            "Melanoma weighs most afterwards (to the middle)", _is_heaviest(melanoma, _EARLY, 0.5)
        ),
        claim(
            "class weights return to one: spread at the end below half its largest",
            _returns_to_one,
        ),
    ]


def _weight_claims_of_2018() -> list[Claim]:
    data = LESION_SETS["isic2018"]
    melanoma, vascular = map(data.classes.index, ("Melanoma", "Vascular"))

    def claim(text: str, ask: _Ask) -> Claim:
        return _weights_claim(f"{data.title}: {text}", "Figure 13", "Fig. 13", ask)

    return [
        claim("the rarer half of the classes weighs more at first (first sixth)", _rare_is_heavier),
        claim(
            "Melanoma weighs most in the second sixth (epochs 25 to 50 of 150)",
            _is_heaviest(melanoma, _EARLY, 2 * _EARLY),
        ),
        claim(
            "Vascular, though rare, is below the average of the classes at first",
            _is_light(vascular),
        ),
    ]


_WEIGHT_CLAIMS = {"isic2017": _weight_claims_of_2017, "isic2018": _weight_claims_of_2018}


def lesion_claims(name: str) -> list[Claim]:
    """The claims about one of the two data sets."""
    data = LESION_SETS[name]
    return [
        *(claim for pair in _PAIRS for claim in _loss_claims(data.title, data.table, *pair)),
        Claim(
            f"{data.title}: LOW + CE is the best of all on most metrics",
            data.table,
            data.table,
            _best_of_all,
            _THREE_SEEDS,
            tuple(LOSS_ARMS),
        ),
        *_WEIGHT_CLAIMS[name](),
    ]
