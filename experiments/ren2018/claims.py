"""What the paper says, as questions that a run can answer once what they need is measured."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.ledger import Entry, Printed, of_statements, of_table
from experiments.statements import Statement

PAPER = "ren2018"
Measures = Mapping[str, np.ndarray]  # name -> a number per seed [S]
Column = Mapping[str, Printed]  # row of a table -> what the paper prints


class Claim(NamedTuple):
    """A statement of the paper about one data set."""

    text: str
    place: str  # "Fig. 7", "Table 1, Sec. 4.3"
    needs: tuple[str, ...]  # the measures that it is about
    holds: Callable[..., np.ndarray]  # those measures, each [S] -> booleans [S]


def ask(claims: Sequence[Claim], measures: Measures) -> list[Statement]:
    """Asks the claims of which all is measured."""
    return [
        Statement(
            claim.text,
            np.asarray(claim.holds(*(np.asarray(measures[name]) for name in claim.needs))),
            f"{PAPER}, {claim.place}",
        )
        for claim in claims
        if all(name in measures for name in claim.needs)
    ]


def is_best(row: str, rows: Sequence[str], label: str, place: str) -> Claim:
    """The row has the highest accuracy of all."""
    others = tuple(other for other in rows if other != row)

    def holds(own: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        return np.all(own > np.stack(rest), axis=0)

    return Claim(
        f"{label}: {row} has the highest accuracy of all rows", place, (row, *others), holds
    )


def quantity_of(label: str) -> str:
    """What the numbers of a column are."""
    return f"{label}, test accuracy %"


def not_run(
    item: str,
    columns: Mapping[str, Column],
    claims: Sequence[Claim],
    items: Mapping[str, str],
    cause: str,
) -> tuple[Entry, ...]:
    """All that the paper prints, not run: the columns by label, then the claims."""
    numbers = [
        Entry(item, f"{row}: {quantity_of(label)}", str(printed), cause=cause)
        for label, column in columns.items()
        for row, printed in column.items()
    ]
    asked = [Statement(c.text, np.zeros(0, bool), f"{PAPER}, {c.place}") for c in claims]
    stored = [
        {"statement": s.text, "source": s.expected, "holds": 0, "seeds": 0, "verdict": s.verdict}
        for s in asked
    ]
    statements = of_statements(stored, PAPER, items)
    return (*numbers, *(entry._replace(ours="", cause=cause) for entry in statements))


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
