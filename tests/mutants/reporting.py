"""What came of the mutants: a line for each, counts, and the page of those that lived."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutants.mutations import Mutant

REASONS = Path(__file__).parent / "equivalents.json"
KILLED, SURVIVED, EQUIVALENT = "killed", "survived", "equivalent"


def reasons() -> dict[str, str]:
    """The key of a mutant that no test can or should see -> why; a reviewed file.

    It holds file -> function -> mutation -> reason, without line numbers, which move.
    """
    return {
        f"{file}::{function}: {mutation}": reason
        for file, functions in json.loads(REASONS.read_text()).items()
        for function, mutations in functions.items()
        for mutation, reason in mutations.items()
    }


def record(
    mutant: Mutant, status: str, *, killed_by: str = "", seconds: float = 0.0, reason: str = ""
) -> dict[str, Any]:
    """A mutant's row."""
    return {
        "file": mutant.file,
        "line": mutant.line,
        "function": mutant.function,
        "kind": mutant.kind,
        "mutation": mutant.mutation,
        "status": status,
        "killed_by": killed_by,
        "reason": reason,
        "seconds": round(seconds, 1),
    }


def line(row: Mapping[str, Any]) -> str:
    """One row as text."""
    place = f"{row['file'].removeprefix('weighting/')}:{row['line']}"
    told = {KILLED: row["killed_by"], EQUIVALENT: row["reason"], SURVIVED: ""}[row["status"]]
    head = f"{row['status']:10}  {row['seconds']:5.0f} s  {place:36}  {row['function']}"
    return f"{head}: {row['mutation']}" + (f"  [{told}]" if told else "")


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many of each status, and the share killed of those not known to be equivalent."""
    found = Counter(row["status"] for row in rows)
    real = found[KILLED] + found[SURVIVED]
    return {
        "mutants": len(rows),
        **{status: found[status] for status in (KILLED, SURVIVED, EQUIVALENT)},
        "killed_share": found[KILLED] / real if real else None,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The counts in a sentence."""
    found = counts(rows)
    share = found["killed_share"]
    text = f"{found['mutants']} mutants: {found[KILLED]} killed, {found[SURVIVED]} survived, "
    text += f"{found[EQUIVALENT]} equivalent"
    return text if share is None else f"{text}; killed {100 * share:.1f} % of those not equivalent"


def page(rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """docs/mutants.md."""
    lines = [
        "# Mutants",
        "",
        "Do the tests notice if a formula is wrong? A mutant is `weighting/` with one small fault: "
        "an operator, a",
        "comparison, a constant, a sibling function or a branch exchanged, or a factor, mask, "
        "bound, sign, keyword or",
        "`stop_gradient` left out (`tests/mutants/mutations.py`). Each is tested by the files that "
        "match its own",
        "(`tests/mutants/matching.py`), not by the whole suite. This page is written by",
        "",
        f"    {command}",
        "",
        summary(rows) + ".",
        "",
        "| file | mutants | killed | survived | equivalent |",
        "|---|---|---|---|---|",
    ]
    for file in sorted({row["file"] for row in rows}):
        own = counts([row for row in rows if row["file"] == file])
        numbers = (own["mutants"], own[KILLED], own[SURVIVED], own[EQUIVALENT])
        lines.append(f"| {file} | {' | '.join(map(str, numbers))} |")
    lines += _listed(rows, SURVIVED, "Survivors", "Each of these needs a test, or a reason.")
    lines += _listed(
        rows,
        EQUIVALENT,
        "Equivalents",
        "Nothing that the functions promise changes; the reasons are kept in "
        "`tests/mutants/equivalents.json`.",
    )
    return "\n".join(lines) + "\n"


def _listed(rows: Sequence[Mapping[str, Any]], status: str, title: str, text: str) -> list[str]:
    own = [row for row in rows if row["status"] == status]
    if not own:
        return ["", f"## {title}", "", "None."]
    lines = ["", f"## {title}", "", text, ""]
    for row in own:
        lines.append(f"- {row['file']}, `{row['function']}`: `{row['mutation']}`")
        if row["reason"]:
            lines[-1] += f": {row['reason']}"
    return lines
