"""A finished table of the noise experiments: text, CSV, claims, entries, and its pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.ren2018.claims import Measures, PrintedColumn, column_entries
from experiments.ren2018.noise import (
    LABELS,
    NOISE_METHODS,
    NoiseTable,
    row_accuracies,
    stopped_on_validation,
    trials_joined,
)
from experiments.reporting import plotting
from experiments.reporting.claims import Claim, answers
from experiments.reporting.ledger import Entry, Printed, show
from experiments.reporting.page import Page, Picture
from experiments.tools.statistics import mean_interval
from experiments.tools.tables import Table
from experiments.training.result import Result

_STOPPED = "baseline, stopped on validation"  # ours, not the paper's


class TableExtras(NamedTuple):
    """What a data set's finished methods show besides the table."""

    measures: Mapping[str, np.ndarray] = {}  # name -> a number per seed
    figures: Sequence[Picture] = ()


class _Part(NamedTuple):
    """What is finished of a data set."""

    dataset: str
    rows: Measures  # accuracies
    extras: TableExtras

    @property
    def label(self) -> str:
        return LABELS[self.dataset]

    @property
    def measures(self) -> Measures:
        return {**self.rows, **self.extras.measures}


def noise_table_page(
    folder: Path,
    preset: str,
    table: NoiseTable,
    columns: Mapping[str, PrintedColumn],
    claims: Callable[[str, Sequence[str]], list[Claim]],
    extras_of: Callable[[Path, str, Mapping[str, Result]], TableExtras],
) -> Page:
    """What is finished of a table: a column, its entries and its claims per data set.

    Args:
      folder: of the run.
      preset: of the run.
      table: as the preset makes it.
      columns: what the paper prints, by the data set's label.
      claims: (label, rows) -> what the paper says.
      extras_of: (folder, data set, results by method) -> what else they show.
    """
    found = {dataset: trials_joined(table, folder, dataset) for dataset in table.settings}
    parts = [
        _Part(dataset, _rows(table, results), extras_of(folder, dataset, results))
        for dataset, results in found.items()
        if results
    ]
    lines = [
        [part.label, row, trial, f"{value:.4f}"]
        for part in parts
        for row, values in part.rows.items()
        for trial, value in enumerate(values)
    ]
    measures = {
        part.label: {name: values.tolist() for name, values in part.measures.items()}
        for part in parts
    }
    return Page(
        tables=[_column_table(table, part, columns) for part in parts],
        claims=[
            answer
            for part in parts
            for answer in answers(claims(part.label, table.rows), part.measures)
        ],
        numbers=[entry for part in parts for entry in _numbers(table, part, columns, preset)],
        figures=[
            picture
            for part in parts
            for picture in (_error_bars(table, part, columns), *part.extras.figures)
        ],
        notes=[] if parts else ["no method is finished yet"],
        files={f"{table.name}.csv": [["dataset", "row", "trial", "test_accuracy"], *lines]},
        summary={"preset": preset, "measures": measures},
    )


def _rows(table: NoiseTable, results: Mapping[str, Result]) -> Measures:
    rows = row_accuracies(results, NOISE_METHODS, table.rows)
    if "baseline" in results:
        rows[_STOPPED] = stopped_on_validation(results["baseline"])
    return rows


def _numbers(
    table: NoiseTable, part: _Part, columns: Mapping[str, PrintedColumn], preset: str
) -> list[Entry]:
    """The entries of the rows that are finished, if BASELINE is, with which they are compared."""
    if part.label not in columns or "BASELINE" not in part.rows:
        return []
    column = columns[part.label]
    finished = {row: printed for row, printed in column.values.items() if row in part.rows}
    return column_entries(
        table.item,
        part.label,
        column._replace(values=finished),
        part.rows,
        same_setting=preset == "paper",
    )


def _printed(part: _Part, columns: Mapping[str, PrintedColumn]) -> Mapping[str, Printed]:
    return columns[part.label].values if part.label in columns else {}


def _error_bars(table: NoiseTable, part: _Part, columns: Mapping[str, PrintedColumn]) -> Picture:
    printed = _printed(part, columns)
    figure = plotting.error_bars(
        {row: (100 - values).tolist() for row, values in part.rows.items()},
        title=f"{table.item}: {part.label}, 40 % wrong labels",
        label="test error (%)",
        references={row: 100 - p.value for row, p in printed.items() if row in part.rows},
    )
    return Picture(f"{table.name}_{part.dataset}", figure, table.item)


def _column_table(table: NoiseTable, part: _Part, columns: Mapping[str, PrintedColumn]) -> Table:
    """Rows with mean and 95 % interval, ours and the paper's, and differences to BASELINE."""
    header = ["row", "ours", "paper", "ours - BASELINE", "paper's", "trials"]
    rows, printed, body = part.rows, _printed(part, columns), []
    for row, values in rows.items():
        paper, gain, their_gain = "", "", ""
        if "BASELINE" in rows and row != "BASELINE":
            difference, half_width = mean_interval(values - rows["BASELINE"])
            gain = f"{difference:+.2f} ± {half_width:.2f}"
        if row in printed:
            paper = str(printed[row])
            if row != "BASELINE":
                their_gain = f"{printed[row].value - printed['BASELINE'].value:+.2f}"
        body.append([row, show(values), paper, gain, their_gain, str(len(values))])
    return Table(header, body, f"{table.item}: {part.label}, test accuracy (%)")
