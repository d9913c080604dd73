"""What a run measures on the way, as arrays on the host: filled in evaluation by evaluation.

Axes: H configurations, S seeds, E evaluations, C classes, N training examples. `Result.history`
says what the arrays are; all but `step` are NaN until they are measured.
"""

from collections.abc import Sequence

import jax
import numpy as np

from experiments.data import Task
from experiments.training.config import RunConfig
from experiments.training.evaluation import HELD_OUT_MEASURES
from experiments.training.program import Progress, WeightSums
from weighting.metrics import corruption_auc

History = dict[str, np.ndarray]

_corruption_auc = jax.jit(jax.vmap(lambda w, c, m: corruption_auc(w, c, mask=m), (0, None, 0)))


def empty_history(num_configs: int, tasks: Sequence[Task], steps: Sequence[int]) -> History:
    """The arrays of a run that is evaluated after each of `steps` [E], and measured nothing yet."""
    shape = (num_configs, len(tasks), len(steps))
    num_classes, num_train = tasks[0].num_classes, len(tasks[0].train.labels)
    names = [f"train_{m}" for m in Progress._fields] + ["corruption_auc"]
    names += [f"{split}_{m}" for split, measures in HELD_OUT_MEASURES.items() for m in measures]
    shapes = {
        **dict.fromkeys(names, shape),
        "class_weights": (*shape, num_classes),
        "example_weights": (*shape, num_train),
        "confusion": (*shape[:2], num_classes, num_classes),
    }
    history = {name: np.full(s, np.nan, np.float32) for name, s in shapes.items()}
    return {**history, "step": np.array(steps, np.int32)}


def record_progress(history: History, e: int, progress: Progress) -> None:
    """Means over the steps [H, S, T] since the last evaluation whose weighted loss is finite."""
    finite = np.isfinite(progress.weighted_loss)
    for name, values in zip(Progress._fields, progress, strict=True):
        means = np.where(finite, values, np.nan).mean(axis=-1)
        history[f"train_{name}"][:, :, e] = means


def record_weights(history: History, e: int, sums: WeightSums, tasks: Sequence[Task]) -> None:
    """Mean weights of examples and classes, and how well they tell wrong labels from right ones."""
    count = np.asarray(sums.count)
    weights = np.where(count > 0, np.asarray(sums.weights) / np.maximum(count, 1), np.nan)
    history["example_weights"][:, :, e] = weights
    for s, task in enumerate(tasks):
        labels, corrupted = task.train.labels, task.train.is_corrupted
        for c in np.unique(labels):
            history["class_weights"][:, s, e, c] = mean_of_known(weights[:, s, labels == c])
        if corrupted.any():
            drawn = ~np.isnan(weights[:, s])
            auc = _corruption_auc(np.where(drawn, weights[:, s], 0), corrupted, drawn)
            history["corruption_auc"][:, s, e] = auc


def history_rows(history: History, configs: Sequence[RunConfig], num_done: int) -> list[dict]:
    """The numbers of the first `num_done` evaluations as rows for `metrics.jsonl`."""
    scalars = [name for name, value in history.items() if value.ndim == 3]
    num_seeds = history["corruption_auc"].shape[1]
    return [
        {
            "weighting": config.weighting,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "seed": config.first_seed + s,
            "step": int(history["step"][e]),
        }
        | {name: _json_number(history[name][h, s, e]) for name in scalars}
        for e in range(num_done)
        for h, config in enumerate(configs)
        for s in range(num_seeds)
    ]


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    count = np.sum(~np.isnan(values), axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def _json_number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
