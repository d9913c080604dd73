"""The list of all methods, for a terminal and for the documentation."""

from collections.abc import Sequence

import weighting
from experiments.methods.procedures import RECIPES
from experiments.methods.records import Kind, LibraryRecord, Record
from experiments.methods.registry import RECORDS
from experiments.tools.grammar import Option, Parameter
from experiments.tools.tables import align

KINDS: dict[Kind, str] = {
    "scheme": "weighting schemes: per-batch weights in the training step",
    "part": "parts to chain behind a scheme",
    "loss": "losses: their gradients weight examples by themselves",
    "sampler": "samplers: which examples are drawn",
    "procedure": "procedures: how training runs as a whole",
    "weights": "weights of a whole training set, computed once: arrays in, arrays out",
    "difficulty": "difficulty measures: one number per example, larger is harder",
}
FROM_AUTHORS = """
## Coming from the authors' code

A number that worked there may mean something else here. Weights average to one, so that a learning
rate keeps its meaning, and symbols are the papers'. Where released code counts otherwise, this says
what to give."""
HEADER = ("method", "settings", "family", "source", "needs", "scale", "what it does")


def show_settings(parameters: Sequence[Parameter], options: Sequence[Option]) -> str:
    """Numbers with their defaults, and choices, the default first."""
    shown = [p.name if p.default is None else f"{p.name} ({p.default:g})" for p in parameters]
    shown += [f"{option.name} ({', '.join(option.choices)})" for option in options]
    return ", ".join(shown)


def methods_as_text() -> str:
    """The list for a terminal, without the settings, which `list` shows."""
    tables = []
    for kind, title in KINDS.items():
        rows = [[name, *others] for name, _, *others in (HEADER, *_rows(kind))]
        shown = [[cell or "-" for cell in row] for row in rows]
        tables.append(f"{title}\n\n{align(shown, numbers=False)}")
    return "\n\n".join(tables) + "\n"


def methods_as_markdown() -> str:
    """The list as a page of the documentation."""
    lines = [
        "# Methods",
        "",
        "Written by `python -m experiments methods --markdown`, from the records in",
        "`experiments/methods/`. A method is called as its function in `weighting` (a loss: in",
        "`weighting.losses`), on the command line, too, where it has the settings shown: numbers",
        "with their defaults, and choices, the default first (`low:0.1:solver=osqp`). *In Python*:",
        "not on the command line, since it takes arrays or functions. Needs: *clean* is a small",
        "trusted batch, *jacobian* the linearized losses, *counts* the class counts, *history*",
        "per-example state kept by data-set index, *table* an array [N] given beforehand.",
    ]
    for kind, title in KINDS.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
        lines += [f"| {' | '.join(cell or '-' for cell in row)} |" for row in _rows(kind)]
    lines += [FROM_AUTHORS, ""]
    lines += [
        f"- `{record.name}`: {record.from_authors}." for record in RECORDS if record.from_authors
    ]
    return "\n".join(lines) + "\n"


def _rows(kind: Kind) -> list[list[str]]:
    rows = [_row(record) for record in RECORDS if record.kind == kind]
    if kind == "procedure":
        rows += [
            [r.name, r.settings, "", r.source, ", ".join(r.needs), "", r.summary] for r in RECIPES
        ]
    return rows


def _row(record: Record) -> list[str]:
    settings = show_settings(record.parameters, record.options)
    if isinstance(record, LibraryRecord):
        settings = f"in Python: {function_path(record)}"
    return [
        record.name,
        settings,
        record.family,
        record.source,
        ", ".join(record.needs),
        record.scale,
        record.summary,
    ]


def function_path(record: Record) -> str:
    """Where its function is found: in `weighting`, in `weighting.losses`, or in a module."""
    for space in (weighting, weighting.losses):
        if getattr(space, record.name, None) is record.function:
            return f"{space.__name__}.{record.name}"
    return f"{record.function.__module__}.{record.name}"
