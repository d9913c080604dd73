"""The pages RESULTS.md and ERRATA.md, made from the records of a folder alone."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.tools.files import write_text
from theory_checks.records import STATUSES, Check
from theory_checks.storage import Recorded, file_name, read_records


class Counts(NamedTuple):
    """How many claims there are, and of what kind."""

    claims: int
    passed: int
    verdicts: Counter[str]  # "holds", "not as printed", "reported", "fails"
    corrected: int  # of those that hold: false as printed, so that the corrected statement does
    errata: int


def count(checks: Sequence[Check]) -> Counts:
    """The counts of RESULTS.md and of the README."""
    return Counts(
        claims=len(checks),
        passed=sum(check.passed for check in checks),
        verdicts=Counter(check.verdict for check in checks),
        corrected=sum(c.verdict == "holds" and c.status == "FALSE-AS-PRINTED" for c in checks),
        errata=sum(bool(check.erratum) for check in checks),
    )


def write_pages(folder: Path, claims: Sequence[str]) -> None:
    """Writes `RESULTS.md` and `ERRATA.md` from the folder's records alone, in the claims' order.

    Raises:
      RecordError: a record is damaged, or of none of the claims; nothing is written.
    """
    records = read_records(folder, claims)
    results = _results_page(records, len(claims))
    errata = _errata_page([record.check for record in records])
    write_text(folder / "RESULTS.md", results)
    write_text(folder / "ERRATA.md", errata)


def _results_page(records: Sequence[Recorded], num_claims: int) -> str:
    """Every claim with its verdict, then its numbers; of how many claims there are records."""
    checks = [record.check for record in records]
    lines = [
        "# Theoretical claims, checked",
        "",
        f'{_written_by(records)} Of a claim that "holds", all that is asserted lies within its '
        'bounds (if false as printed: the corrected statement). Tendencies are "reported" where '
        'nothing is asserted, and "not as printed" where the [errata](ERRATA.md) say how. Every '
        "control is negative: it leaves its bounds.",
        "",
        _counts_sentence(count(checks), num_claims),
        "",
        "| claim | status | verdict | control | statement |",
        "|---|---|---|---|---|",
        *(_verdict_line(check) for check in checks),
        "",
        "What the statuses mean:",
        "",
        *(f"- {status}: {meaning}" for status, meaning in STATUSES.items()),
    ]
    for check in checks:
        lines += _section(check)
    return "\n".join(lines) + "\n"


def _errata_page(checks: Sequence[Check]) -> str:
    """What does not hold as printed, and what holds instead."""
    lines = ["# Errata, machine-checked", ""]
    lines += ["What the papers print and a program refutes, with the statement that it confirms."]
    lines += ["Written by `python -m theory_checks --out DIR`.", ""]
    lines += [f"- **{check.id}**: {check.erratum}" for check in checks if check.erratum]
    return "\n".join(lines) + "\n"


def _written_by(records: Sequence[Recorded]) -> str:
    """The command that most records are of, and which records are of another preset."""
    presets = Counter(record.preset for record in records).most_common()
    usual = presets[0][0] if presets else "full"
    sentences = [f"Written by `python -m theory_checks --preset {usual} --out DIR`."]
    for preset, _ in presets[1:]:
        names = ", ".join(record.check.id for record in records if record.preset == preset)
        sentences.append(f"By `--preset {preset}` instead: {names}.")
    return " ".join(sentences)


def _counts_sentence(counts: Counts, num_claims: int) -> str:
    """How many have which verdict, and how many of those that hold are false as printed."""
    claims = str(counts.claims)
    if counts.claims < num_claims:
        claims += f" of {num_claims}"
    verdicts = ", ".join(f"{number} {name}" for name, number in counts.verdicts.most_common())
    return (
        f"{claims} claims: {verdicts} (of those that hold, {counts.corrected} false as printed "
        f"and as corrected here); {counts.errata} errata."
    )


def _verdict_line(check: Check) -> str:
    verdict = "**fails**" if check.verdict == "fails" else check.verdict
    control = ("negative" if check.control_is_negative else "**passes**") if check.control else "-"
    return _table_line(check.id, check.status, verdict, control, check.statement)


def _section(check: Check) -> list[str]:
    """The lines of one claim: statement, assumptions, every number with its bound, figure."""
    lines = ["", f"## {check.id}", "", check.statement]
    if check.assumptions:
        lines += ["", f"Assumes: {check.assumptions}"]
    lines += ["", "| measured | value | bound |", "|---|---|---|"]
    for name, row in check.labelled_rows:
        bound = "" if row.bound is None else f"{row.bound:.3g}"
        lines.append(_table_line(name, f"{row.value + 0.0:.3g}", bound))
    return [*lines, "", f"![{check.id}]({file_name(check.id)}.png)"]


def _table_line(*cells: str) -> str:
    """A line of a Markdown table; a bar within a cell, as of a norm, would end it."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
