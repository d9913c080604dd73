"""What claims read off the finished arms. Axes: H settings, S seeds, E epochs, C classes."""

from collections.abc import Mapping

import numpy as np

from experiments.reporting.rows import choose
from experiments.training.result import Result

FinishedArms = Mapping[str, Result]  # by name
GPU = "a GPU: python -m experiments run {name} --preset paper"
# How the setting to compare is chosen. The paper has no validation set: it takes the best by test.
CHOICES = {"chosen on validation": "validation", "chosen by test error, as in the paper": "test"}


def setting_at(result: Result, value: float) -> int:
    """The index of the setting whose scheme has this first value."""
    values = [config.scheme.values[0] for config in result.configs]
    return values.index(value)


def best_setting(result: Result, measure: str, split: str = "validation") -> int:
    """The setting with the best mean of a measure at the end, on validation or on test data.

    By test data is the paper's way, for claims about its choice alone; nothing is chosen by it.
    """
    if split == "validation":
        return choose(result, measure)
    scores = result.history[f"{split}_{measure}"][:, :, -1].mean(axis=1)
    return 0 if np.all(np.isnan(scores)) else int(np.nanargmax(scores))


def error_curves(
    result: Result, h: int, split: str = "test", measure: str = "accuracy"
) -> np.ndarray:
    """100 (1 - measure) along the epochs; [S, E]."""
    return 100 * (1 - result.history[f"{split}_{measure}"][h].astype(float))


def final_errors(result: Result, h: int, measure: str = "accuracy") -> np.ndarray:
    """Of the test set, at the end; [S]."""
    return error_curves(result, h, measure=measure)[:, -1]


def mean_early(curves: np.ndarray, share: float) -> np.ndarray:
    """Mean of curves [S, E] over the first part of the epochs; [S]."""
    count = max(1, round(share * curves.shape[1]))
    return curves[:, :count].mean(axis=1)


def class_weight_curves(result: Result, h: int) -> np.ndarray:
    """Mean weights of the classes in every epoch; [S, E, C]."""
    return result.history["class_weights"][h].astype(float)


def class_spread(weights: np.ndarray) -> np.ndarray:
    """The largest less the smallest class weight of every epoch; [S, E]."""
    return np.nanmax(weights, axis=2) - np.nanmin(weights, axis=2)
