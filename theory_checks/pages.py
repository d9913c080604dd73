"""What a run of the checks leaves: a JSON record and a figure per claim, and two pages."""

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from theory_checks.records import STATUSES, Check, Plot, Row

MOST_ROWS = 40  # in a figure


def write_record(folder: Path, check: Check) -> None:
    """Writes `ID.json` and `ID.png`: the check's plot, or else how far its rows are from bounds."""
    folder.mkdir(parents=True, exist_ok=True)
    record = dataclasses.asdict(check)
    record["rows"] = [_row(row) for row in check.rows]
    record["control"] = [_row(row) for row in check.control]
    record |= {"passed": check.passed, "control_is_negative": check.control_is_negative}
    record.pop("plot")
    path = folder / f"{_file_name(check)}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    figure = _draw(check.plot, check.id) if check.plot else _draw_margins(check)
    figure.savefig(path.with_suffix(".png"), dpi=110)


def write_results(folder: Path, checks: Sequence[Check], preset: str) -> None:
    """Writes `RESULTS.md`: every claim with its verdict, then its numbers."""
    lines = [
        "# Theoretical claims, checked",
        "",
        f"Written by `python -m theory_checks --preset {preset} --out DIR`. Of a claim that "
        '"holds", all that is asserted lies within its bounds (if false as printed: the corrected '
        'statement). Tendencies are "reported" where nothing is asserted, and "not as printed" '
        "where the [errata](ERRATA.md) say how. Every control is negative: it leaves its bounds.",
        "",
        f"{len(checks)} claims: {_counts(checks)}; {sum(bool(c.erratum) for c in checks)} errata.",
        "",
    ]
    lines += ["| claim | status | verdict | control | statement |", "|---|---|---|---|---|"]
    for check in checks:
        verdict = "**fails**" if check.verdict == "fails" else check.verdict
        control = (
            ("negative" if check.control_is_negative else "**passes**") if check.control else "-"
        )
        lines.append(f"| {check.id} | {check.status} | {verdict} | {control} | {check.statement} |")
    lines += ["", "What the statuses mean:", ""]
    lines += [f"- {status}: {meaning}" for status, meaning in STATUSES.items()]
    for check in checks:
        lines += ["", f"## {check.id}", "", check.statement]
        if check.assumptions:
            lines += ["", f"Assumes: {check.assumptions}"]
        lines += ["", "| measured | value | bound |", "|---|---|---|"]
        named = [(row.quantity, row) for row in check.rows]
        named += [(f"control: {row.quantity}", row) for row in check.control]
        for name, row in named:
            bound = "" if row.bound is None else f"{row.bound:.3g}"
            lines.append(f"| {name} | {row.value + 0.0:.3g} | {bound} |")
        lines += ["", f"![{check.id}]({_file_name(check)}.png)"]
    (folder / "RESULTS.md").write_text("\n".join(lines) + "\n")


def write_errata(folder: Path, checks: Sequence[Check]) -> None:
    """Writes `ERRATA.md`: what does not hold as printed, and what holds instead."""
    lines = ["# Errata, machine-checked", ""]
    lines += ["What the papers print and a program refutes, with the statement that it confirms."]
    lines += ["Written by `python -m theory_checks --out DIR`.", ""]
    lines += [f"- **{check.id}**: {check.erratum}" for check in checks if check.erratum]
    (folder / "ERRATA.md").write_text("\n".join(lines) + "\n")


def _counts(checks: Sequence[Check]) -> str:
    """How many have which verdict, and how many of those that hold are false as printed."""
    verdicts = Counter(check.verdict for check in checks)
    corrected = sum(c.verdict == "holds" and c.status == "FALSE-AS-PRINTED" for c in checks)
    text = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    return f"{text} (of those that hold, {corrected} false as printed and as corrected here)"


def _row(row: Row) -> dict:
    numbers = {"value": row.value, "bound": row.bound}
    return {"quantity": row.quantity} | {
        name: None if x is None or not math.isfinite(x) else float(x) for name, x in numbers.items()
    }


def _file_name(check: Check) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", check.id)


def _draw(plot: Plot, title: str) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in plot.curves.items():
        axes.plot(x, y, marker=".", linestyle="-" if plot.joined else "", label=name)
    if "x" in plot.log:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _draw_margins(check: Check) -> Figure:
    """The room below the bounds as a share of them: to the left of zero a bound is left."""
    rows = [(row, "asserted") for row in check.rows] + [(row, "control") for row in check.control]
    rows = [(row, kind) for row, kind in rows if row.bound is not None][:MOST_ROWS]
    figure = Figure(figsize=(7.6, 1.6 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for kind, color in (("asserted", "#0072B2"), ("control", "#D55E00")):
        places = [i for i, (_, own) in enumerate(rows) if own == kind]
        values = [max(-1e6, min(1.0, rows[i][0].margin)) for i in places]
        axes.plot(values, places, "o", color=color, label=kind)
    axes.axvline(0, color="#333333", lw=1)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-2e6, 2)
    axes.set_xticks([-1e6, -1e3, -1, 0, 1], labels=["$-10^6$", "$-10^3$", "$-1$", "0", "1"])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), labels=[row.quantity[:70] for row, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="room below the bound, as a share of it", title=check.id)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
