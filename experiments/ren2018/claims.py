"""What the paper says, as questions about measures of a run: a number per seed each."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.reporting.claims import Claim
from experiments.reporting.ledger import Entry, Printed, not_run, of_table

Measures = Mapping[str, np.ndarray]  # name -> a number per seed [S]

LARGE_STEPS = (  # a cause, measured in Table 2
    "lookahead's few positive weights share the whole step, too large at the rate that all rows "
    "share; at a smaller one, or with capped weights, it is above BASELINE (ren2018.table2.rates)"
)


class PrintedColumn(NamedTuple):
    """A column of a table of the paper: accuracies of a data set."""

    values: Mapping[str, Printed]  # by row
    causes: Mapping[str, str]  # why ours differ, by row


def about(
    text: str,
    item: str,
    place: str,
    needs: tuple[str, ...],
    holds: Callable[..., np.ndarray],
    cause: str = "",
) -> Claim:
    """A claim about the measures that it needs: those, each [S], -> booleans [S].

    Of measures with more seeds than others the first are taken, which all of them have.
    """

    def ask(found: Measures) -> np.ndarray:
        values = [np.asarray(found[name]) for name in needs]
        common = min(map(len, values))
        return holds(*(own[:common] for own in values))

    return Claim(text, item, place, ask, cause, needs)


def above_all(own: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Whether the first measure exceeds every other one; booleans [S]."""
    return np.all(own > np.stack(others), axis=0)


def quantity_of(label: str) -> str:
    """What the numbers of a column are."""
    return f"{label}, test accuracy %"


def column_entries(
    item: str,
    label: str,
    column: PrintedColumn,
    ours: Measures,
    *,
    same_setting: bool = False,
    missing: str = "",
) -> list[Entry]:
    """The entries of a data set's column, our rows against BASELINE; see `of_table`."""
    return of_table(
        item,
        column.values,
        ours,
        reference="BASELINE",
        same_setting=same_setting,
        quantity=quantity_of(label),
        missing=missing,
        causes=column.causes,
    )


def printed_table(
    item: str, columns: Mapping[str, PrintedColumn], claims: Sequence[Claim], cause: str
) -> tuple[Entry, ...]:
    """All that the paper prints of a table, not run: the columns by label, then the claims."""
    numbers = [
        entry
        for label, column in columns.items()
        for entry in column_entries(item, label, column, {}, missing=cause)
    ]
    return (*numbers, *not_run(claims, cause))
