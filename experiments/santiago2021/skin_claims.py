"""What the paper says of Tables 3 and 4 and Figures 9 to 13 (Sec. 5.2), asked of every seed."""

from collections.abc import Callable

import numpy as np

from experiments.explain.telescope import mean_weights
from experiments.reporting.claims import Claim
from experiments.santiago2021 import gallery
from experiments.santiago2021.claims import Found, best, class_weights, error, mean_early, spread
from experiments.santiago2021.printed import METRICS
from experiments.training.result import Result

MEASURE = "balanced_accuracy"
LABELS = {
    "ce": "CE",
    "bce": "bCE",
    "fl": "FL",
    "low_ce": "LOW + CE",
    "low_bce": "LOW + bCE",
    "low_fl": "LOW + FL",
}
CLASSES = {  # in the order of the prepared sets
    "isic2017": ("Benign", "Melanoma", "Keratosis"),
    "isic2018": ("Melanoma", "Nevus", "BCC", "Actinic", "Keratosis", "DF", "Vascular"),
}
EARLY = 1 / 6  # of the epochs: the first 25 of the paper's 150
GALLERY = 20
_LOSSES = ("ce", "bce", "fl")
_LOW = ("low_ce",)


def _metrics(result: Result) -> np.ndarray:
    """The four metrics of the test set at the end [4, S], at the chosen setting."""
    h = best(result, MEASURE)
    return np.stack([result.history[f"test_{name}"][h, :, -1] for name in METRICS])


def _training_error(found: Found, arm: str) -> np.ndarray:
    return error(found[arm], best(found[arm], MEASURE), "train")


def _weights(found: Found) -> np.ndarray:
    return class_weights(found["low_ce"], best(found["low_ce"], MEASURE))


def _early(found: Found, first: float = 0.0, last: float = EARLY) -> np.ndarray:
    """Mean weights of the classes [S, C] over a part of the epochs."""
    weights = _weights(found)
    start, stop = (round(share * weights.shape[1]) for share in (first, last))
    return weights[:, start : max(stop, start + 1)].mean(axis=1)


def _on_most_metrics(loss: str) -> Callable[[Found], np.ndarray]:
    def ask(found: Found) -> np.ndarray:
        better = _metrics(found[f"low_{loss}"]) > _metrics(found[loss])
        return better.sum(axis=0) >= 3

    return ask


def _best_of_all(found: Found) -> np.ndarray:
    own = _metrics(found["low_ce"])
    others = np.stack([_metrics(found[arm]) for arm in LABELS if arm != "low_ce"])
    return (own > others.max(axis=0)).sum(axis=0) >= 3


def _lower(loss: str) -> Callable[[Found], np.ndarray]:
    return lambda found: (
        _training_error(found, f"low_{loss}")[:, -1] < _training_error(found, loss)[:, -1]
    )


def _faster(loss: str) -> Callable[[Found], np.ndarray]:
    def ask(found: Found) -> np.ndarray:
        curves = [_training_error(found, arm) for arm in (f"low_{loss}", loss)]
        low, other = (mean_early(curve, EARLY) for curve in curves)
        return low < other

    return ask


def _most_frequent(labels: np.ndarray) -> int:
    return int(np.argmax(np.bincount(labels)))


def _lightest_are_frequent(found: Found) -> np.ndarray:
    low = found["low_ce"]
    h = best(low, MEASURE)
    holds = []
    for s, labels in enumerate(low.labels):
        light, _ = gallery.extremes(mean_weights(low, h, s), GALLERY)
        holds.append(bool(np.all(labels[light] == _most_frequent(labels))))
    return np.array(holds)


def _frequent_is_lightest(found: Found) -> np.ndarray:
    weights = _early(found, 0.0, 1.0)
    frequent = [_most_frequent(labels) for labels in found["low_ce"].labels]
    return np.nanargmin(weights, axis=1) == np.array(frequent)


def _returns_to_one(found: Found) -> np.ndarray:
    widths = spread(_weights(found))
    return widths[:, -1] < widths.max(axis=1) / 2


def _rare_is_heavier(found: Found) -> np.ndarray:
    """Whether the rarer half of the classes weighs more than the other, early on."""
    weights = _early(found)
    holds = []
    for row, labels in zip(weights, found["low_ce"].labels, strict=True):
        sizes = np.bincount(labels, minlength=len(row))
        rare = np.argsort(np.where(sizes > 0, sizes, np.inf), kind="stable")[: len(row) // 2]
        holds.append(bool(np.nanmean(row[rare]) > np.nanmean(np.delete(row, rare))))
    return np.array(holds)


def _is_heaviest(c: int, first: float, last: float) -> Callable[[Found], np.ndarray]:
    return lambda found: np.nanargmax(_early(found, first, last), axis=1) == c


def _is_light(c: int) -> Callable[[Found], np.ndarray]:
    def ask(found: Found) -> np.ndarray:
        weights = _early(found)
        return weights[:, c] < np.nanmean(weights, axis=1)

    return ask


def claims_of(data: str) -> tuple[Claim, ...]:
    """The claims about one of the two data sets."""
    title = data.upper().replace("ISIC", "ISIC ")
    table = "Table 3" if data == "isic2017" else "Table 4"
    claims = []
    for loss in _LOSSES:
        arms, name = (loss, f"low_{loss}"), f"{title}: {LABELS[f'low_{loss}']}"
        than = f"than {LABELS[loss]}"
        claims += [
            Claim(f"{name} is better {than} on most metrics", table, arms, _on_most_metrics(loss)),
            Claim(f"{name} ends at a lower training error {than}", "Fig. 9", arms, _lower(loss)),
            Claim(
                f"{name} has a lower training error {than} early (first sixth)",
                "Fig. 9",
                arms,
                _faster(loss),
            ),
        ]
    text = f"{title}: LOW + CE is the best of all on most metrics"
    claims.append(Claim(text, table, tuple(LABELS), _best_of_all))
    text = f"{title}: all of the {GALLERY} lightest images are of the most frequent class"
    if data == "isic2017":
        claims += [
            Claim(text, "Fig. 10", _LOW, _lightest_are_frequent),
            Claim(
                f"{title}: the most frequent class, Benign, weighs least over all epochs",
                "Fig. 12",
                _LOW,
                _frequent_is_lightest,
            ),
            Claim(
                f"{title}: Keratosis weighs most at first (first sixth)",
                "Fig. 12",
                _LOW,
                _is_heaviest(2, 0.0, EARLY),
            ),
            Claim(
                f"{title}: Melanoma weighs most afterwards (to the middle)",
                "Fig. 12",
                _LOW,
                _is_heaviest(1, EARLY, 0.5),
            ),
            Claim(
                f"{title}: class weights return to one: spread at the end below half its largest",
                "Fig. 12",
                _LOW,
                _returns_to_one,
            ),
        ]
    else:
        claims += [
            Claim(
                f"{title}: the rarer half of the classes weighs more at first (first sixth)",
                "Fig. 13",
                _LOW,
                _rare_is_heavier,
            ),
            Claim(
                f"{title}: Melanoma weighs most in the second sixth (epochs 25 to 50 of 150)",
                "Fig. 13",
                _LOW,
                _is_heaviest(0, EARLY, 2 * EARLY),
            ),
            Claim(
                f"{title}: Vascular, though rare, is below the average of the classes at first",
                "Fig. 13",
                _LOW,
                _is_light(6),
            ),
        ]
    return tuple(claims)
