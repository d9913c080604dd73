"""What the paper says of Figures 2 to 6 (Sec. 5.1.1), asked of every seed."""

from collections.abc import Callable

import numpy as np

from experiments.explain.telescope import mean_weights
from experiments.reporting.claims import Claim
from experiments.santiago2021 import gallery
from experiments.santiago2021.claims import (
    CHOICES,
    FinishedArms,
    best_setting,
    class_spread,
    class_weight_curves,
    error_curves,
    final_errors,
    mean_early,
    setting_at,
)
from experiments.santiago2021.methods import COMPARED_METHODS
from experiments.training.result import Result

SHOWN_LAMBDAS = (1.0, 0.1, 0.01)  # in Figures 2 and 3
_MEASURE = "accuracy"
_LIGHT, _HEAVY = (0, 1, 6), (5, 8, 9)
_EARLY, _DIVERSE = 0.2, 0.4  # of the epochs: the first 20 and 40 of the paper's 100
_GALLERY = 20  # images of each kind
_BOTH = ("normal", "low")
_TOLERANCE = 0.01  # of a weight that counts as one
_Ask = Callable[[FinishedArms], np.ndarray]


def _compare_losses(value: float, compare: Callable, *, early: bool = False) -> _Ask:
    """Compares the training losses of LOW and of Normal, early or at the end."""

    def ask(found: FinishedArms) -> np.ndarray:
        low = found["low"].history["train_loss"][setting_at(found["low"], value)]
        normal = found["normal"].history["train_loss"][0]
        if early:
            return compare(mean_early(low, _EARLY), mean_early(normal, _EARLY))
        return compare(low[:, -1], normal[:, -1])

    return ask


def _training_error(found: FinishedArms, value: float) -> np.ndarray:
    """Of LOW, at the end; [S]."""
    return error_curves(found["low"], setting_at(found["low"], value), "train")[:, -1]


def _lower_training_error(value: float) -> _Ask:
    def ask(found: FinishedArms) -> np.ndarray:
        normal = error_curves(found["normal"], 0, "train")[:, -1]
        return _training_error(found, value) < normal

    return ask


def _falls_with_lambda(found: FinishedArms) -> np.ndarray:
    ends = np.stack([_training_error(found, value) for value in SHOWN_LAMBDAS])
    return np.all(np.diff(ends, axis=0) < 0, axis=0)


def _figure2_claims() -> list[Claim]:
    def claim(text: str, ask: _Ask, cause: str = "") -> Claim:
        return Claim(text, "Figure 2", "Fig. 2", ask, cause, _BOTH)

    found = []
    for value in SHOWN_LAMBDAS:
        name, is_slow = f"LOW with lambda {value:g}", value == 0.01
        cause = "perhaps: 25 epochs; the paper's curve crosses Normal's after about 20"
        found += [
            claim(
                f"{name} ends at a lower training {what} than Normal", ask, cause if is_slow else ""
            )
            for what, ask in (
                ("loss", _compare_losses(value, np.less)),
                ("error", _lower_training_error(value)),
            )
        ]
        if is_slow:
            text = f"{name}: the training loss is higher in the first fifth of the epochs"
            found.append(claim(text, _compare_losses(value, np.greater, early=True)))
        else:
            text = f"{name}: the training loss falls faster (first fifth)"
            cause = "perhaps: the first epochs at this preset's rate are slower for every method"
            found.append(claim(text, _compare_losses(value, np.less, early=True), cause))
    return [
        *found,
        claim(
            "the smaller lambda (1, 0.1, 0.01), the lower the training error at the end",
            _falls_with_lambda,
            "perhaps: 25 epochs, too few for the smallest lambda",
        ),
    ]


def _is_better(arm: str, value: float, split: str) -> _Ask:
    """Whether LOW has a lower test error at the end than a method's best setting."""

    def ask(found: FinishedArms) -> np.ndarray:
        other = final_errors(found[arm], best_setting(found[arm], _MEASURE, split))
        return final_errors(found["low"], setting_at(found["low"], value)) < other

    return ask


def _figure3_claims() -> list[Claim]:
    pairs = [(arm, value) for arm in ("focal", "self_paced") for value in SHOWN_LAMBDAS]
    pairs.append(("importance_sampling", 0.01))
    slow = "its training loss, too, is above Normal's after this preset's 25 epochs"
    return [
        Claim(
            f"LOW with lambda {value:g} has a lower test error than "
            f"{COMPARED_METHODS[arm].label}, {way}",
            "Figure 3",
            "Fig. 3",
            _is_better(arm, value, split),
            slow if value == 0.01 else "",
            ("low", arm),
        )
        for way, split in CHOICES.items()
        for arm, value in pairs
    ]


def _low_against_tuned(measure: Callable[[Result, int], np.ndarray]) -> _Ask:
    def ask(found: FinishedArms) -> np.ndarray:
        low, tuned = (
            measure(found[arm], best_setting(found[arm], _MEASURE))
            for arm in ("low", "normal_tuned")
        )
        return low < tuned

    return ask


def _tuned_claims() -> list[Claim]:
    """LOW against Normal with as many learning rates as LOW has lambdas: an ablation of ours."""
    than = "than Normal with its rate tuned, both chosen on validation"
    measures = {
        "test error": final_errors,
        "training error": lambda result, h: error_curves(result, h, "train")[:, -1],
    }
    return [
        Claim(
            f"LOW has a lower {what} {than}",
            "Figure 3",
            "ablation",
            _low_against_tuned(measure),
            needs=("low", "normal_tuned"),
            is_control=True,
        )
        for what, measure in measures.items()
    ]


def _low_beats_normal(split: str) -> _Ask:
    def ask(found: FinishedArms) -> np.ndarray:
        low = found["low"]
        h = best_setting(low, _MEASURE, split)
        return final_errors(low, h) < final_errors(found["normal"], 0)

    return ask


def _nears_normal(found: FinishedArms) -> np.ndarray:
    normal, low = final_errors(found["normal"], 0), found["low"]
    far, near = (abs(final_errors(low, setting_at(low, v)) - normal) for v in (0.01, 1.0))
    return near < far


def _rises_at_the_smallest(found: FinishedArms) -> np.ndarray:
    smallest, small = (
        final_errors(found["low"], setting_at(found["low"], value)) for value in (0.001, 0.01)
    )
    return smallest > small


def _figure4_claims() -> list[Claim]:
    return [
        *(
            Claim(
                f"the best LOW has a lower test error than Normal, lambda {way}",
                "Figure 4",
                "Fig. 4",
                _low_beats_normal(split),
                needs=_BOTH,
            )
            for way, split in CHOICES.items()
        ),
        Claim(
            "test error nears Normal's as lambda grows (1 against 0.01)",
            "Figure 4",
            "Fig. 4",
            _nears_normal,
            needs=_BOTH,
        ),
        Claim(
            "test error is higher at lambda 0.001 than at 0.01",
            "Figure 4",
            "Fig. 4",
            _rises_at_the_smallest,
            needs=("low",),
        ),
    ]


def _extreme_classes(found: FinishedArms) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per seed, the classes of the images of lowest and of highest mean weight."""
    result = found["low"]
    h = best_setting(result, _MEASURE)
    classes = []
    for s, labels in enumerate(result.labels):
        low, high = gallery.extreme_positions(mean_weights(result, h, s), _GALLERY)
        classes.append((labels[low], labels[high]))
    return classes


def _light_are_zeros(found: FinishedArms) -> np.ndarray:
    return np.array([np.mean(light == 0) > 0.5 for light, _ in _extreme_classes(found)])


def _heavy_are_several(found: FinishedArms) -> np.ndarray:
    return np.array([len(np.unique(heavy)) >= 3 for _, heavy in _extreme_classes(found)])


def _figure5_claims() -> list[Claim]:
    return [
        Claim(
            f"most of the {_GALLERY} images of lowest mean weight are zeros",
            "Figure 5",
            "Fig. 5",
            _light_are_zeros,
            needs=("low",),
        ),
        Claim(
            f"the {_GALLERY} of highest weight are of several classes",
            "Figure 5",
            "Fig. 5",
            _heavy_are_several,
            needs=("low",),
        ),
    ]


def _chosen_weights(found: FinishedArms) -> np.ndarray:
    """Class weights [S, E, C] of the chosen LOW."""
    return class_weight_curves(found["low"], best_setting(found["low"], _MEASURE))


def _alike_at_first(found: FinishedArms) -> np.ndarray:
    widths = class_spread(_chosen_weights(found))
    return widths[:, 0] < widths.max(axis=1)


def _alike_again(found: FinishedArms) -> np.ndarray:
    widths = class_spread(_chosen_weights(found))
    return widths[:, -1] < widths.max(axis=1) / 2


def _early_weights(found: FinishedArms, classes: tuple[int, ...]) -> np.ndarray:
    """Mean weights [len(classes), S] over the first 40 % of the epochs."""
    weights = _chosen_weights(found)
    return np.stack([mean_early(weights[:, :, c], _DIVERSE) for c in classes])


def _figure6_claims() -> list[Claim]:
    def claim(text: str, ask: _Ask) -> Claim:
        return Claim(text, "Figure 6", "Fig. 6", ask, needs=("low",))

    return [
        claim("class weights differ less in the first epoch than later", _alike_at_first),
        claim(
            "classes 0, 1 and 6 are below one, over the first 40 % of the epochs",
            lambda found: np.all(_early_weights(found, _LIGHT) < 1, axis=0),
        ),
        claim(
            "classes 5, 8 and 9 are above one, over the first 40 % of the epochs",
            lambda found: np.all(_early_weights(found, _HEAVY) > 1, axis=0),
        ),
        claim(
            "class weights return to one: at the end their spread is below half its largest",
            _alike_again,
        ),
    ]


def _released_is_uniform(found: FinishedArms) -> np.ndarray:
    result = found["low_batch_mean"]
    weights = result.history["example_weights"][setting_at(result, 0.1)]
    return np.nanmax(np.abs(weights - 1), axis=(1, 2)) < _TOLERANCE


_RELEASED_CLAIM = Claim(
    f"gradient scale and lambda (0.1) as released: all weights within {_TOLERANCE:g} of 1",
    "Figure 6",
    "all epochs",
    _released_is_uniform,
    needs=("low_batch_mean",),
    is_control=True,
)

MNIST_CLAIMS = (
    *_figure2_claims(),
    *_figure3_claims(),
    *_tuned_claims(),
    *_figure4_claims(),
    *_figure5_claims(),
    *_figure6_claims(),
    _RELEASED_CLAIM,
)
