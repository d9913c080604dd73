"""What the paper says, as questions about measures of a run: a number per seed each."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.reporting import claims
from experiments.reporting.claims import Claim
from experiments.reporting.ledger import Entry, Printed, of_statements, of_table

PAPER = "ren2018"
Measures = Mapping[str, np.ndarray]  # name -> a number per seed [S]
Column = Mapping[str, Printed]  # row of a table -> what the paper prints

LARGE_STEPS = (  # a cause, measured in Table 2
    "lookahead's few positive weights share the whole step, too large at the rate that all rows "
    "share; at a smaller one, or with capped weights, it is above BASELINE (ren2018.table2.rates)"
)


def about(text: str, place: str, needs: tuple[str, ...], holds: Callable[..., np.ndarray]) -> Claim:
    """A claim about the measures that it needs: those, each [S], -> booleans [S].

    Of measures with more seeds than others the first are taken, which all of them have.
    """

    def ask(found: Mapping[str, np.ndarray]) -> np.ndarray:
        values = [np.asarray(found[name]) for name in needs]
        common = min(map(len, values))
        return holds(*(own[:common] for own in values))

    return Claim(text, place, needs, ask)


def is_best(row: str, rows: Sequence[str], label: str, place: str) -> Claim:
    """The row has the highest accuracy of all."""
    others = tuple(other for other in rows if other != row)

    def holds(own: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        return np.all(own > np.stack(rest), axis=0)

    return about(
        f"{label}: {row} has the highest accuracy of all rows", place, (row, *others), holds
    )


def quantity_of(label: str) -> str:
    """What the numbers of a column are."""
    return f"{label}, test accuracy %"


def not_run(
    item: str,
    columns: Mapping[str, Column],
    found: Sequence[Claim],
    items: Mapping[str, str],
    cause: str,
) -> tuple[Entry, ...]:
    """All that the paper prints, not run: the columns by label, then the claims."""
    numbers = [
        Entry(item, f"{row}: {quantity_of(label)}", str(printed), cause=cause)
        for label, column in columns.items()
        for row, printed in column.items()
    ]
    return (*numbers, *claims.not_run(PAPER, found, items, cause))


def entries_of_tables(
    item: str, columns: Mapping[str, Column], items: Mapping[str, str]
) -> Callable[[Path, str], list[Entry]]:
    """The entries of a table's finished rows against BASELINE, and of its stored statements."""

    def entries(folder: Path, preset: str) -> list[Entry]:
        summary = json.loads((folder / "summary.json").read_text())
        found = []
        for label, column in columns.items():
            ours = summary["measures"].get(label, {})
            if "BASELINE" in ours:
                found += of_table(
                    item,
                    {row: printed for row, printed in column.items() if row in ours},
                    ours,
                    reference="BASELINE",
                    same_setting=preset == "paper",
                    quantity=quantity_of(label),
                )
        return found + of_statements(summary["statements"], PAPER, items)

    return entries
