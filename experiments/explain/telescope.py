"""Who was up-weighted, and when: what the recorded weights of a run tell.

A weight of a `Result` is an example's mean since the evaluation before, NaN where it was not drawn;
means here are over what is finite. Axes: H configurations, S seeds, E evaluations, N training
examples, C classes, G groups of examples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from experiments.tools.statistics import finite_mean, standard_error
from experiments.training.result import Result

ZERO = 1e-6  # a weight up to this counts as zero


class Curves(NamedTuple):
    """Mean weights of groups of examples along training."""

    mean: np.ndarray  # [G, E], over the seeds; NaN where no example of the group was drawn
    standard_error: np.ndarray  # [G, E], of that mean; NaN for fewer than two seeds
    sizes: np.ndarray  # [G], examples, averaged over the seeds


class Extreme(NamedTuple):
    """Where a group's mean weight is largest, or smallest."""

    weight: float
    group: int
    evaluation: int


def weighted_evaluations(result: Result, h: int) -> np.ndarray:
    """The evaluations that have weights, in order; fine-tuning has none."""
    return np.flatnonzero(np.isfinite(result.history["example_weights"][h]).any(axis=(0, 2)))


def time_axis(result: Result, h: int) -> tuple[np.ndarray, str]:
    """The evaluations' times [E] and their unit.

    The unit is epochs, except with a sampler that does not go through the data in passes: steps.
    """
    config, steps = result.configs[h], result.history["step"]
    if config.sampler != "shuffled":
        return steps, "training steps"
    return steps * config.batch_size / result.labels.shape[1], "epochs"


def mean_weights(
    result: Result, h: int, s: int, *, first: int = 0, last: int | None = None
) -> np.ndarray:
    """Mean weight [N] of every example over the evaluations first, ..., last - 1.

    By default over all of the training, as santiago2021 ranks examples; NaN if never drawn.
    """
    return finite_mean(result.history["example_weights"][h, s, first:last], 0)


def late_weights(result: Result, h: int) -> np.ndarray:
    """Mean weights [S, N] over the second half of the evaluations that have weights."""
    weighted = weighted_evaluations(result, h)
    weights = result.history["example_weights"][h]
    return finite_mean(weights[:, weighted[weighted.size // 2 :]], 1)


def group_curves(result: Result, h: int, groups: np.ndarray, num_groups: int) -> Curves:
    """The mean weight of every group's examples at every evaluation, then over the seeds.

    Args:
      result: of the run.
      h: the configuration.
      groups: [S, N], the group of every example; negative for those that are left out.
      num_groups: G.
    """
    curves = []
    members = groups[:, None, :] == np.arange(num_groups)[None, :, None]  # [S, G, N]
    for weights, member in zip(result.history["example_weights"][h], members, strict=True):
        finite = np.isfinite(weights)
        count = finite.astype(float) @ member.T  # [E, G]
        total = np.where(finite, weights, 0).astype(float) @ member.T
        curves.append(np.where(count > 0, total / np.maximum(count, 1), np.nan).T)
    over_seeds = np.stack(curves)
    return Curves(
        finite_mean(over_seeds, 0), standard_error(over_seeds, 0), members.sum(axis=2).mean(axis=0)
    )


def num_classes(result: Result) -> int:
    """C."""
    return result.history["class_weights"].shape[-1]


def class_curves(result: Result, h: int, *, true_labels: bool = False) -> Curves:
    """Mean weights of the classes, by given labels or by true ones; G is C."""
    labels = result.true_labels if true_labels else result.labels
    return group_curves(result, h, labels, num_classes(result))


def corruption_curves(result: Result, h: int) -> Curves:
    """Mean weights of the examples with right labels, and of those with wrong ones; G is 2."""
    return group_curves(result, h, (result.labels != result.true_labels).astype(int), 2)


def quantile_groups(scores: np.ndarray, num_groups: int) -> np.ndarray:
    """Groups [S, N] of about equal size by score, 0 the lowest, for every seed by itself.

    Equal scores share a group. An example without a finite score is in none: -1.
    """
    groups = np.full(scores.shape, -1)
    for row, group in zip(scores, groups, strict=True):
        known = np.isfinite(row)
        if known.any():
            middle = (rankdata(row[known]) - 0.5) / known.sum()  # in (0, 1)
            group[known] = np.minimum((middle * num_groups).astype(int), num_groups - 1)
    return groups


def difficulty_curves(result: Result, h: int, scores: np.ndarray, *, num_groups: int = 5) -> Curves:
    """Mean weights by quantile of a difficulty [S, N], easiest first; NaNs are left out."""
    return group_curves(result, h, quantile_groups(scores, num_groups), num_groups)


def match_scores(
    result: Result, index: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Scores [S, N] for a run's examples from a table over the same dataset; NaN without match.

    The given label must be equal, too: with another one, an example has another difficulty.

    Args:
      result: of the run.
      index: [M], positions in the dataset.
      labels: [M], the labels that were given when the scores were measured.
      scores: [M].
    """
    size = 1 + max(index.max(initial=0), result.indices.max(initial=0))
    label_at, score_at = np.full(size, -1), np.full(size, np.nan)
    label_at[index], score_at[index] = labels, scores
    same = label_at[result.indices] == result.labels
    return np.where(same, score_at[result.indices], np.nan)


def extremes(curves: Curves) -> tuple[Extreme, Extreme]:
    """The largest and the smallest mean weight of any group at any evaluation."""
    places = (np.nanargmax(curves.mean), np.nanargmin(curves.mean))
    found = [np.unravel_index(place, curves.mean.shape) for place in places]
    largest, smallest = (Extreme(float(curves.mean[g, e]), int(g), int(e)) for g, e in found)
    return largest, smallest


def share_of_zeros(result: Result, h: int) -> float:
    """Share of the recorded weights, over examples, evaluations and seeds, that are zero."""
    weights = result.history["example_weights"][h]
    return float(np.mean(weights[np.isfinite(weights)] <= ZERO))


def effective_share(result: Result, h: int) -> float:
    """Kish's effective sample size of the mean weights over the number of examples, in (0, 1].

    It is 1 if all weigh the same along the whole training; averaged over the seeds.
    """
    shares = []
    for s in range(len(result.labels)):
        weights = mean_weights(result, h, s)
        weights = weights[np.isfinite(weights)]
        squares = np.sum(weights**2)
        if squares > 0:
            shares.append(np.sum(weights) ** 2 / (squares * weights.size))
    return float(np.mean(shares)) if shares else float("nan")


def confusion(result: Result, h: int) -> np.ndarray:
    """Confusion matrix [C, C] of the test set at the end, rows true and normalized to one.

    Averaged over the seeds; NaN in the row of a class without test examples.
    """
    counts = result.history["confusion"][h].astype(float)
    sizes = counts.sum(axis=2, keepdims=True)
    shares = np.where(sizes > 0, counts / np.where(sizes > 0, sizes, 1), np.nan)
    return finite_mean(shares, 0)


def neighbours(groups: Sequence[np.ndarray], num_bins: int) -> list[np.ndarray]:
    """Cuts ordered groups of examples into about so many bins of about equal size, in order.

    No bin holds examples of two groups, and none is empty.
    """
    total = sum(group.size for group in groups)
    bins = []
    for group in groups:
        own = round(num_bins * group.size / max(total, 1))
        bins += np.array_split(group, max(1, min(own, group.size))) if group.size else []
    return bins
