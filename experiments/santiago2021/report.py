"""What the comparisons of methods store: a row per method, a line per setting and seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.reporting.experiment import Arms
from experiments.reporting.rows import Row, describe_choice, format_table, rows_as_json
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.santiago2021.claims import Found, best, error, final_error
from experiments.santiago2021.methods import METHODS
from experiments.tools.files import write_csv, write_json
from experiments.training.driver import load_source
from experiments.training.result import Result, is_finished, load_result


def finished(folder: Path, arms: Arms) -> Found:
    """The results of the arms that are finished."""
    return {name: load_result(folder / name) for name in arms if is_finished(folder / name)}


def rows_of(found: Found, measure: str, labels: Mapping[str, str] | None = None) -> list[Row]:
    """A row per method: test errors at the setting chosen on validation data.

    The further column is the error at the setting that is best on the test set, the paper's choice.
    """
    rows = []
    for name, result in found.items():
        h = best(result, measure)
        by_test = best(result, "accuracy", "test")
        rows.append(
            Row(
                METHODS[name].label if labels is None else labels[name],
                tuple(map(float, final_error(result, h))),
                describe_choice(result.configs[h]),
                None,
                {"best by test": float(final_error(result, by_test).mean())},
            )
        )
    return rows


def write_errors(folder: Path, found: Found, measure: str) -> None:
    """Writes `errors.csv`: every arm, setting and seed at the end of training."""
    held_out = (f"validation_{measure}_error", "test_error", "test_balanced_error")
    lines: list[tuple] = [("arm", "setting", "seed", "train_loss", "train_error", *held_out)]
    for name, result in found.items():
        for h, config in enumerate(result.configs):
            columns = (
                result.history["train_loss"][h, :, -1],
                error(result, h, "train")[:, -1],
                error(result, h, "validation", measure)[:, -1],
                final_error(result, h),
                final_error(result, h, "balanced_accuracy"),
            )
            for s, values in enumerate(np.stack(columns, axis=1)):
                numbers = (f"{value:.4f}" for value in values)
                lines.append((name, describe_choice(config), config.first_seed + s, *numbers))
    write_csv(folder / "errors.csv", lines)


def conclude(
    folder: Path,
    preset: str,
    title: str,
    measure: str,
    rows: Sequence[Row],
    statements: Sequence[Statement],
) -> str:
    """Writes `summary.json`; returns the tables."""
    write_json(
        folder / "summary.json",
        {
            "preset": preset,
            "rows": rows_as_json(rows),
            "statements": statements_as_json(statements),
        },
    )
    return format_table(title, measure, rows) + "\n\n" + statements_table(statements)


def images_of(result: Result) -> np.ndarray | None:
    """The images that the run's indices count in; None if the data are not on this machine."""
    try:
        return load_source(result.configs[0]).train.inputs
    except FileNotFoundError:
        return None
