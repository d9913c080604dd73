"""What a finished run shows, as values; text and files are made of them once, at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.reporting import plotting
from experiments.reporting.claims import Answer, answers_as_json, source
from experiments.reporting.ledger import Entry
from experiments.tools.files import write_atomically, write_csv, write_json
from experiments.tools.tables import Table

TEXT, SUMMARY = "table.txt", "summary.json"


class Picture(NamedTuple):
    """A figure with the name of its file, and the paper's figure or table that it belongs to."""

    name: str  # without .png
    figure: Figure
    item: str = ""  # by default the experiment's first
    is_public: bool = True  # otherwise it stays in the run's folder, as a data set's own images do


class Page(NamedTuple):
    """Everything that a finished run shows."""

    tables: Sequence[Table] = ()
    claims: Sequence[Answer] = ()
    numbers: Sequence[Entry] = ()  # those that a paper prints, with ours beside them
    figures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    files: Mapping[str, Sequence[Sequence[Any]]] = {}  # "errors.csv" -> rows, the first a header
    summary: Mapping[str, Any] = {}  # the numbers, for `summary.json`


def page_text(page: Page, paper: str) -> str:
    """Tables, claims with their verdicts, and notes."""
    parts = [str(table) for table in page.tables]
    if page.claims:
        parts.append(str(claims_table(page.claims, paper)))
    return "\n\n".join([*parts, *page.notes])


def claims_table(answers: Sequence[Answer], paper: str) -> Table:
    """The claims with their verdicts."""
    rows = [
        [a.claim.text, source(a.claim, paper), f"{a.count} of {len(a.holds)}", a.verdict]
        for a in answers
    ]
    return Table(["statement", "source", "seeds", "verdict"], rows, numbers=False)


def write_page(page: Page, folder: Path, paper: str) -> str:
    """Writes the page's text, numbers, tables and figures; returns what to show in a terminal.

    `table.txt` and `summary.json` (if there are numbers or claims), a CSV per file and a PNG per
    figure, each whole or not at all.
    """
    text = page_text(page, paper)
    write_atomically(folder / TEXT, lambda file: file.write(f"{text}\n".encode()))
    summary = dict(page.summary)
    if page.claims:
        summary["statements"] = answers_as_json(page.claims, paper)
    if summary:
        write_json(folder / SUMMARY, summary)
    for name, rows in page.files.items():
        write_csv(folder / name, rows)
    paths = [folder / f"{picture.name}.png" for picture in page.figures]
    for path, picture in zip(paths, page.figures, strict=True):
        plotting.save(picture.figure, path)
    if not paths:
        return text
    return "\n".join([text, "", "Figures:", *(f"  {path}" for path in paths)])
