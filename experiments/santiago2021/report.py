"""What the comparisons of methods store: a row per method, a line per setting and seed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reporting.rows import Row, describe_choice
from experiments.santiago2021.claims import (
    FinishedArms,
    best_setting,
    error_curves,
    final_errors,
)
from experiments.santiago2021.methods import COMPARED_METHODS
from experiments.training.driver import load_source
from experiments.training.result import Result, is_finished, load_result

METHOD_LABELS = {name: method.label for name, method in COMPARED_METHODS.items()}


def finished_arms(folder: Path, names: Iterable[str]) -> FinishedArms:
    """The results of the arms that are finished."""
    return {name: load_result(folder / name) for name in names if is_finished(folder / name)}


def error_rows(
    found: FinishedArms, measure: str, labels: Mapping[str, str] = METHOD_LABELS
) -> list[Row]:
    """A row per method: test errors at the setting chosen on validation data.

    The further column is the error at the setting that is best on the test set, the paper's choice.
    """
    rows = []
    for name, result in found.items():
        h = best_setting(result, measure)
        by_test = best_setting(result, "accuracy", "test")
        rows.append(
            Row(
                labels[name],
                tuple(map(float, final_errors(result, h))),
                describe_choice(result.configs[h]),
                None,
                {"best by test": float(final_errors(result, by_test).mean())},
            )
        )
    return rows


def error_lines(found: FinishedArms, measure: str) -> list[tuple[Any, ...]]:
    """For `errors.csv`: every arm, setting and seed at the end of training, below a header."""
    held_out = (f"validation_{measure}_error", "test_error", "test_balanced_error")
    lines: list[tuple] = [("arm", "setting", "seed", "train_loss", "train_error", *held_out)]
    for name, result in found.items():
        for h, config in enumerate(result.configs):
            columns = (
                result.history["train_loss"][h, :, -1],
                error_curves(result, h, "train")[:, -1],
                error_curves(result, h, "validation", measure)[:, -1],
                final_errors(result, h),
                final_errors(result, h, "balanced_accuracy"),
            )
            for s, values in enumerate(np.stack(columns, axis=1)):
                numbers = (f"{value:.4f}" for value in values)
                lines.append((name, describe_choice(config), config.first_seed + s, *numbers))
    return lines


def images_of(result: Result) -> np.ndarray | None:
    """The images that the run's indices count in; None if the data are not on this machine."""
    try:
        return load_source(result.configs[0]).train.inputs
    except FileNotFoundError:
        return None
