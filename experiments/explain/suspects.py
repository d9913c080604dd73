"""Examples whose weights make their labels suspect, and how often the suspicion is right.

Schemes that favour what is hard to fit give wrong labels high weights; schemes that trust what is
easy, or what a clean set confirms, give them low ones. Which end is suspect is what the scheme's
record says of its definition, never read from the true labels: these only tell how well it worked.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from experiments.explain.telescope import mean_weights
from experiments.methods.records import End, SchemeRecord
from experiments.tools.statistics import mean_interval
from experiments.training.config import RunConfig
from experiments.training.result import Result


class Interval(NamedTuple):
    """A mean over seeds with the half-width of its 95 % interval, Student's t; NaN for one seed."""

    mean: float
    half_width: float
    count: int


def suspicious_end(config: RunConfig) -> End | None:
    """Which weights, high or low ones, mark suspected labels; None if the scheme does not tell.

    Parts of a chain must agree. The first epochs decide for schemes of high weights: a network
    that has learnt the wrong labels by heart gives them no larger losses than others.
    """
    spec = config.scheme
    settings = spec.parsed.settings(spec.values)
    ends: set[End | None] = {
        _end(record, own)
        for record, own in zip(spec.records, settings, strict=True)
        if not record.keeps_order
    }
    return ends.pop() if len(ends) == 1 else None


def _end(record: SchemeRecord, settings: Mapping[str, Any]) -> End | None:
    if not callable(record.suspect):
        return record.suspect
    sign = record.suspect(**settings)
    return "high" if sign > 0 else "low" if sign < 0 else None


def suspicion(
    result: Result, h: int, s: int, end: End, *, first: int = 0, last: int | None = None
) -> np.ndarray:
    """How suspect every label is [N]: the mean weight, with its sign turned if low ones are.

    NaN for an example that was never drawn; `first` and `last` as in `mean_weights`.
    """
    weights = mean_weights(result, h, s, first=first, last=last)
    return weights if end == "high" else -weights


def suspects(result: Result, h: int, s: int, end: End) -> np.ndarray:
    """Positions of the training examples, the most suspect first; without those never drawn."""
    return ranking(suspicion(result, h, s, end))


def ranking(scores: np.ndarray) -> np.ndarray:
    """Positions by falling score [N]; NaNs are left out, ties keep their order."""
    order = np.argsort(-scores, kind="stable")
    return order[np.isfinite(scores[order])]


def detection_auc(scores: np.ndarray, is_corrupted: np.ndarray) -> float:
    """Probability that a wrong label [N] scores above a right one, ties counting one half.

    The area under the ROC curve, by Mann and Whitney's rank sum. NaN scores are left out; NaN if
    but one kind of label is left.
    """
    known = np.isfinite(scores)
    positive = is_corrupted[known]
    num_wrong = int(positive.sum())
    num_right = positive.size - num_wrong
    if not num_wrong or not num_right:
        return float("nan")
    rank_sum = rankdata(scores[known])[positive].sum()
    return float((rank_sum - num_wrong * (num_wrong + 1) / 2) / (num_wrong * num_right))


def precision_at(scores: np.ndarray, is_corrupted: np.ndarray, k: int | None = None) -> float:
    """Share of wrong labels among the k highest scores [N]; by default k is their number.

    Of the examples that tie for the last places, a random choice is expected to be taken. NaN
    scores are left out, of the k, too; NaN if k is 0.
    """
    known = np.isfinite(scores)
    scores, wrong = scores[known], is_corrupted[known]
    k = int(wrong.sum()) if k is None else min(k, scores.size)
    if not k:
        return float("nan")
    threshold = np.sort(scores)[-k]
    above, tied = scores > threshold, scores == threshold
    return float((wrong[above].sum() + (k - above.sum()) * wrong[tied].mean()) / k)


def over_seeds(
    result: Result, h: int, end: End, measure: Callable[[np.ndarray, np.ndarray], float]
) -> Interval:
    """The mean of `measure(suspicion, is_corrupted)` over the seeds where it is finite."""
    wrong = result.labels != result.true_labels
    seeds = range(len(wrong))
    values = np.array([measure(suspicion(result, h, s, end), wrong[s]) for s in seeds])
    finite = values[np.isfinite(values)]
    return Interval(*mean_interval(finite), finite.size)


SUSPECT_COLUMNS = ("rank", "index", "given_label", "true_label", "mean_weight")


def suspect_rows(result: Result, h: int, s: int, end: End) -> list[tuple]:
    """A row for every suspect, as `SUSPECT_COLUMNS`; the true label only if it is another."""
    weights = mean_weights(result, h, s)
    rows = []
    for rank, i in enumerate(suspects(result, h, s, end), start=1):
        given, true = int(result.labels[s, i]), int(result.true_labels[s, i])
        shown = "" if given == true else true
        rows.append((rank, int(result.indices[s, i]), given, shown, f"{weights[i]:.6g}"))
    return rows
