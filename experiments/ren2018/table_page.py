"""A finished table of the noise experiments: text, CSV, statements, and its pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.ren2018.claims import PAPER, Column, Measures
from experiments.ren2018.noise import (
    LABELS,
    Benchmark,
    accuracies,
    read,
    stopped_on_validation,
)
from experiments.reporting import plotting
from experiments.reporting.claims import Claim, statements_of
from experiments.reporting.ledger import show
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.tools.files import write_csv, write_json
from experiments.tools.statistics import mean_interval
from experiments.tools.tables import align
from experiments.training.result import Result

STOPPED = "baseline, stopped on validation"  # ours, not the paper's
# (folder, data set, results of the methods) -> further measures; may write pictures
Show = Callable[[Path, str, Mapping[str, Result]], Mapping[str, np.ndarray]]


def present_tables(
    folder: Path,
    preset: str,
    benchmark: Benchmark,
    columns: Mapping[str, Column],
    claims: Callable[[str, Sequence[str]], list[Claim]],
    show_more: Show,
) -> str:
    """Writes what is finished of a table: a column and its statements per data set."""
    measures: dict[str, dict[str, np.ndarray]] = {}
    statements: list[Statement] = []
    texts, lines = [], [["dataset", "row", "trial", "test_accuracy"]]
    for dataset in benchmark.settings:
        label, results = LABELS[dataset], read(benchmark, folder, dataset)
        if not results:
            continue
        rows = accuracies(results, benchmark.rows)
        if "baseline" in results:
            rows[STOPPED] = stopped_on_validation(results["baseline"])
        measures[label] = rows | dict(show_more(folder, dataset, results))
        statements += statements_of(PAPER, claims(label, benchmark.rows), measures[label])
        printed = columns.get(label, {})
        texts.append(_column_text(f"{benchmark.item}: {label}, test accuracy (%)", rows, printed))
        lines += [
            [label, row, trial, f"{value:.4f}"]
            for row, values in rows.items()
            for trial, value in enumerate(values)
        ]
        name = benchmark.item.lower().replace(" ", "")
        title = f"{benchmark.item}: {label}, 40 % wrong labels"
        figure = plotting.error_bars(
            {row: (100 - values).tolist() for row, values in rows.items()},
            title=title,
            label="test error (%)",
            references={row: 100 - p.value for row, p in printed.items() if row in rows},
        )
        plotting.save(figure, folder / f"{name}_{dataset}.png")
    write_csv(folder / f"{benchmark.item.lower().replace(' ', '')}.csv", lines)
    write_json(
        folder / "summary.json",
        {
            "preset": preset,
            "measures": {
                label: {name: np.asarray(values).tolist() for name, values in own.items()}
                for label, own in measures.items()
            },
            "statements": statements_as_json(statements),
        },
    )
    if not texts:
        return "no method is finished yet"
    return "\n\n".join([*texts, statements_table(statements)])


def _column_text(title: str, rows: Measures, printed: Column) -> str:
    """Rows with mean and 95 % interval, ours and the paper's, and differences to BASELINE."""
    header = ["row", "ours", "paper", "ours - BASELINE", "paper's", "trials"]
    body = []
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
    return f"{title}\n{align([header, *body])}"
