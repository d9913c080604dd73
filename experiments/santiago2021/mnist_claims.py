"""What the paper says of Figures 2 to 6 (Sec. 5.1.1), asked of every seed."""

from collections.abc import Callable

import numpy as np

from experiments.explain.telescope import mean_weights
from experiments.reporting.claims import Claim
from experiments.santiago2021 import gallery
from experiments.santiago2021.claims import (
    CHOICES,
    Found,
    best,
    class_weights,
    error,
    final_error,
    mean_early,
    setting,
    spread,
)
from experiments.santiago2021.methods import BASELINES
from experiments.training.result import Result

MEASURE = "accuracy"
SHOWN = (1.0, 0.1, 0.01)  # in Figures 2 and 3
LIGHT, HEAVY = (0, 1, 6), (5, 8, 9)
EARLY, DIVERSE = 0.2, 0.4  # of the epochs: the first 20 and 40 of the paper's 100
GALLERY = 20  # images of each kind
_BOTH = ("normal", "low")
_TOLERANCE = 0.01  # of a weight that counts as one


def _training_loss(found: Found, arm: str, h: int) -> np.ndarray:
    return found[arm].history["train_loss"][h]


def _early_losses(found: Found, value: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean training losses [S] of LOW and of Normal over the first fifth of the epochs."""
    low = _training_loss(found, "low", setting(found["low"], value))
    return mean_early(low, EARLY), mean_early(_training_loss(found, "normal", 0), EARLY)


def _training_error(found: Found, value: float) -> np.ndarray:
    return error(found["low"], setting(found["low"], value), "train")[:, -1]


def _training_claims() -> list[Claim]:
    def lower_loss(found: Found, value: float) -> np.ndarray:
        low = _training_loss(found, "low", setting(found["low"], value))
        return low[:, -1] < _training_loss(found, "normal", 0)[:, -1]

    def lower_error(found: Found, value: float) -> np.ndarray:
        return _training_error(found, value) < error(found["normal"], 0, "train")[:, -1]

    def faster(found: Found, value: float) -> np.ndarray:
        low, normal = _early_losses(found, value)
        return low < normal

    def slower(found: Found, value: float) -> np.ndarray:
        low, normal = _early_losses(found, value)
        return low > normal

    def ordered(found: Found) -> np.ndarray:
        ends = np.stack([_training_error(found, value) for value in SHOWN])
        return np.all(np.diff(ends, axis=0) < 0, axis=0)

    claims = []
    for value in SHOWN:
        name = f"LOW with lambda {value:g}"
        claims += [
            _of(f"{name} ends at a lower training loss than Normal", lower_loss, value),
            _of(f"{name} ends at a lower training error than Normal", lower_error, value),
        ]
        claims.append(
            _of(
                f"{name}: the training loss is higher in the first fifth of the epochs",
                slower,
                value,
            )
            if value == 0.01
            else _of(f"{name}: the training loss falls faster (first fifth)", faster, value)
        )
    text = "the smaller lambda (1, 0.1, 0.01), the lower the training error at the end"
    return [*claims, Claim(text, "Fig. 2", _BOTH, ordered)]


def _of(text: str, ask: Callable[[Found, float], np.ndarray], value: float) -> Claim:
    return Claim(text, "Fig. 2", _BOTH, lambda found: ask(found, value))


def _is_better(arm: str, value: float, split: str) -> Callable[[Found], np.ndarray]:
    """Whether LOW has a lower test error at the end than a method's best setting."""

    def ask(found: Found) -> np.ndarray:
        other = final_error(found[arm], best(found[arm], MEASURE, split))
        return final_error(found["low"], setting(found["low"], value)) < other

    return ask


def _test_claims() -> list[Claim]:
    pairs = [(arm, value) for arm in ("focal", "self_paced") for value in SHOWN]
    pairs.append(("importance_sampling", 0.01))
    return [
        Claim(
            f"LOW with lambda {value:g} has a lower test error than {BASELINES[arm]}, {way}",
            "Fig. 3",
            ("low", arm),
            _is_better(arm, value, split),
        )
        for way, split in CHOICES.items()
        for arm, value in pairs
    ]


def _low_beats_normal(split: str) -> Callable[[Found], np.ndarray]:
    def ask(found: Found) -> np.ndarray:
        low = found["low"]
        return final_error(low, best(low, MEASURE, split)) < final_error(found["normal"], 0)

    return ask


def _tuned_claims() -> list[Claim]:
    """LOW against Normal with as many learning rates as LOW has lambdas: an ablation of ours."""
    arms = ("low", "normal_tuned")

    def compare(measure: Callable[[Result, int], np.ndarray]) -> Callable[[Found], np.ndarray]:
        def ask(found: Found) -> np.ndarray:
            low, tuned = (measure(found[arm], best(found[arm], MEASURE)) for arm in arms)
            return low < tuned

        return ask

    than = "than Normal with its rate tuned, both chosen on validation"
    return [
        Claim(f"LOW has a lower {what} {than}", "ablation", arms, compare(measure), is_control=True)
        for what, measure in (
            ("test error", final_error),
            ("training error", lambda result, h: error(result, h, "train")[:, -1]),
        )
    ]


def _lambda_claims() -> list[Claim]:
    def nearer(found: Found) -> np.ndarray:
        normal, low = final_error(found["normal"], 0), found["low"]
        gaps = [abs(final_error(low, setting(low, v)) - normal) for v in (1.0, 0.01)]
        return gaps[0] < gaps[1]

    def rises(found: Found) -> np.ndarray:
        low = found["low"]
        return final_error(low, setting(low, 0.001)) > final_error(low, setting(low, 0.01))

    claims = [
        Claim(
            f"the best LOW has a lower test error than Normal, lambda {way}",
            "Fig. 4",
            _BOTH,
            _low_beats_normal(split),
        )
        for way, split in CHOICES.items()
    ]
    return [
        *claims,
        Claim(
            "test error nears Normal's as lambda grows (1 against 0.01)", "Fig. 4", _BOTH, nearer
        ),
        Claim("test error is higher at lambda 0.001 than at 0.01", "Fig. 4", ("low",), rises),
    ]


def extreme_classes(
    result: Result, h: int, count: int = GALLERY
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per seed, the classes of the images of lowest and of highest mean weight."""
    found = []
    for s, labels in enumerate(result.labels):
        low, high = gallery.extremes(mean_weights(result, h, s), count)
        found.append((labels[low], labels[high]))
    return found


def _weight_claims() -> list[Claim]:
    def chosen_weights(found: Found) -> np.ndarray:
        return class_weights(found["low"], best(found["low"], MEASURE))

    def zeros(found: Found) -> np.ndarray:
        low = found["low"]
        classes = extreme_classes(low, best(low, MEASURE))
        return np.array([np.mean(light == 0) > 0.5 for light, _ in classes])

    def several(found: Found) -> np.ndarray:
        low = found["low"]
        classes = extreme_classes(low, best(low, MEASURE))
        return np.array([len(np.unique(heavy)) >= 3 for _, heavy in classes])

    def alike_at_first(found: Found) -> np.ndarray:
        widths = spread(chosen_weights(found))
        return widths[:, 0] < widths.max(axis=1)

    def side(found: Found, classes: tuple[int, ...], sign: int) -> np.ndarray:
        weights = chosen_weights(found)
        early = np.stack([mean_early(weights[:, :, c], DIVERSE) for c in classes])
        return np.all(sign * (early - 1) > 0, axis=0)

    def alike_again(found: Found) -> np.ndarray:
        widths = spread(chosen_weights(found))
        return widths[:, -1] < widths.max(axis=1) / 2

    def uniform(found: Found) -> np.ndarray:
        result = found["low_batch_mean"]
        weights = result.history["example_weights"][setting(result, 0.1)]
        return np.nanmax(np.abs(weights - 1), axis=(1, 2)) < _TOLERANCE

    low = ("low",)
    return [
        Claim(
            f"most of the {GALLERY} images of lowest mean weight are zeros", "Fig. 5", low, zeros
        ),
        Claim(f"the {GALLERY} of highest weight are of several classes", "Fig. 5", low, several),
        Claim(
            "class weights differ less in the first epoch than later", "Fig. 6", low, alike_at_first
        ),
        Claim(
            "classes 0, 1 and 6 are below one, over the first 40 % of the epochs",
            "Fig. 6",
            low,
            lambda found: side(found, LIGHT, -1),
        ),
        Claim(
            "classes 5, 8 and 9 are above one, over the first 40 % of the epochs",
            "Fig. 6",
            low,
            lambda found: side(found, HEAVY, 1),
        ),
        Claim(
            "class weights return to one: at the end their spread is below half its largest",
            "Fig. 6",
            low,
            alike_again,
        ),
        Claim(
            f"gradient scale and lambda (0.1) as released: all weights within {_TOLERANCE:g} of 1",
            "all epochs",
            ("low_batch_mean",),
            uniform,
            is_control=True,
        ),
    ]


CLAIMS = (
    *_training_claims(),
    *_test_claims(),
    *_tuned_claims(),
    *_lambda_claims(),
    *_weight_claims(),
)
