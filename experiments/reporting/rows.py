"""Reading finished runs, choosing a configuration on validation data, and summing up in a table."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.tools.tables import Table
from experiments.training.config import RunConfig
from experiments.training.result import Result


def choose(result: Result, measure: str, evaluation: int = -1) -> int:
    """The configuration with the best mean of a validation measure over the seeds.

    A configuration with a diverged seed is never chosen over one without. Test data play no part.
    """
    scores = result.history[f"validation_{measure}"][:, :, evaluation].mean(axis=1)
    if np.all(np.isnan(scores)):
        return 0
    return int(np.nanargmax(scores))


class Row(NamedTuple):
    """One method in a table."""

    method: str
    values: tuple[float, ...]  # one per seed
    chosen: str  # the hyperparameters chosen on validation data, or how they were set
    seconds: float | None  # of training one seed with one configuration, if it was measured
    extra: Mapping[str, float | None]  # further columns
    then: str = ""  # what followed the method's training: "early stopping", "fine-tuning"

    @property
    def name(self) -> str:
        """The method and what followed."""
        return f"{self.method} + {self.then}" if self.then else self.method

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for one seed."""
        if len(self.values) < 2:
            return math.nan
        return float(np.std(self.values, ddof=1) / math.sqrt(len(self.values)))


def describe_choice(config: RunConfig) -> str:
    """The numbers of a configuration in a few words."""
    parts = [f"lr {config.learning_rate:g}"]
    if config.weight_decay:
        parts.append(f"wd {config.weight_decay:g}")
    if config.scheme.values:
        parts.append(config.weighting)
    if config.loss_spec.values:
        parts.append(config.loss)
    if config.fine_tune_steps:
        rate = config.fine_tune_learning_rate
        parts.append(f"ft lr {config.learning_rate if rate is None else rate:g}")
    return ", ".join(parts)


def rows_table(title: str, measure: str, rows: Sequence[Row], note: str = "") -> Table:
    """The rows as a table, in the order given."""
    extras = list(dict.fromkeys(name for row in rows for name in row.extra))
    header = ["method", measure, "std. error", *extras, "seeds", "s/run", "settings"]
    body = [
        [
            row.name,
            f"{row.mean:.2f}",
            f"{row.standard_error:.2f}",
            *(_number(row.extra.get(name)) for name in extras),
            str(len(row.values)),
            _number(row.seconds),
            row.chosen,
        ]
        for row in rows
    ]
    return Table(header, body, title, note)


def rows_as_json(rows: Sequence[Row]) -> list[dict]:
    """Rows with their statistics, for `summary.json`."""
    return [
        {
            "method": row.name,
            "values": row.values,
            "chosen": row.chosen,
            "seconds": row.seconds,
            "extra": dict(row.extra),
            "mean": row.mean,
            "standard_error": None if math.isnan(row.standard_error) else row.standard_error,
        }
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"
