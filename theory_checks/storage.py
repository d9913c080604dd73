"""Records of checks on disk: `ID.json` for each claim, with its figure `ID.png`, and back.

A number that JSON has no word for is a string: "nan", "inf" or "-inf".
"""

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.tools.files import (
    DamagedFileError,
    read_sealed,
    write_atomically,
    write_sealed,
)
from theory_checks.figures import draw
from theory_checks.records import Check, Measured

NON_FINITE = ("nan", "inf", "-inf")


class RecordError(ValueError):
    """A record that cannot be shown: which, what is wrong with it, and what to do."""


class Recorded(NamedTuple):
    """A check as it is kept: without its plot, which is in the figure, but with its preset."""

    check: Check
    preset: str


def file_name(claim: str) -> str:
    """A claim's ID as the stem of its files."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", claim)


def write_record(folder: Path, check: Check, preset: str) -> None:
    """Writes `ID.json` and `ID.png`, in place of what an earlier run left."""
    record = {
        "id": check.id,
        "statement": check.statement,
        "status": check.status,
        "rows": [_to_json(row) for row in check.rows],
        "assumptions": check.assumptions,
        "control": [_to_json(row) for row in check.control],
        "erratum": check.erratum,
        "passed": check.passed,
        "control_is_negative": check.control_is_negative,
        "preset": preset,
    }
    path = folder / f"{file_name(check.id)}.json"
    write_sealed(path, record)
    figure = draw(check)
    write_atomically(
        path.with_suffix(".png"), lambda file: figure.savefig(file, format="png", dpi=110)
    )


def read_records(folder: Path, claims: Sequence[str]) -> list[Recorded]:
    """All records of a folder, in the order of the claims; of some claims there may be none.

    Raises:
      RecordError: a record is damaged, or of a claim that is not among the given ones.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))}
    stray = paths.keys() - {file_name(claim) for claim in claims}
    if stray:
        names = " ".join(
            shlex.quote(str(paths[stem].with_suffix(suffix)))
            for stem in sorted(stray)
            for suffix in (".json", ".png")
        )
        raise RecordError(f"no check makes the claims of these records any more; delete {names}")
    kept = [(claim, paths[file_name(claim)]) for claim in claims if file_name(claim) in paths]
    return [_read(path, claim) for claim, path in kept]


def _read(path: Path, claim: str) -> Recorded:
    """One record; a field that earlier records lack has its default."""
    try:
        record = read_sealed(path)
        check = Check(
            _text(record, "id"),
            _text(record, "statement"),
            _text(record, "status"),
            _from_json(record["rows"]),
            assumptions=_text(record, "assumptions", ""),
            control=_from_json(record.get("control", ())),
            erratum=_text(record, "erratum", ""),
        )
        if check.id != claim:
            raise ValueError(f"it is the record of {check.id!r}")
        return Recorded(check, _text(record, "preset", "full"))
    except KeyError as error:
        what = f"{error} is missing"
    except DamagedFileError as error:
        what = str(error).removeprefix(f"{path} is damaged: ")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        what = str(error)
    again = f"python -m theory_checks {shlex.quote(claim)} --out {shlex.quote(str(path.parent))}"
    raise RecordError(f"{path} is damaged: {what}; make it again by `{again}`")


def _text(record: Mapping[str, Any], field: str, default: str | None = None) -> str:
    value = record[field] if default is None else record.get(field, default)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is not a text but {value!r}")
    return value


def _to_json(row: Measured) -> dict[str, Any]:
    bound = None if row.bound is None else _finite(row.bound)
    return {"quantity": row.quantity, "value": _finite(row.value), "bound": bound}


def _from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Measured, ...]:
    return tuple(
        Measured(
            _text(row, "quantity"),
            _number(row["value"]),
            None if row["bound"] is None else _number(row["bound"]),
        )
        for row in rows
    )


def _finite(value: float) -> float | str:
    """The number, or its word."""
    return float(value) if math.isfinite(value) else str(float(value))


def _number(value: Any) -> float:
    """The number that `_finite` was given."""
    if value in NON_FINITE or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return float(value)
    raise ValueError(f"{value!r} is not a number")
