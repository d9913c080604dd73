"""Are two folders of results the same, number by number?

Run `python -m tests.same_numbers BEFORE AFTER`. Every JSON and CSV file below BEFORE is compared
with the one of the same name below AFTER, value by value and without tolerance; so are names of
figures, and `result.npz` array by array. What may differ is named, and not compared: seconds, where
and with which versions a run was made, and the layout of text. `--rename OLD=NEW` allows for a name
that changed, as a value, a key or a folder. Exits 1 if anything else differs.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

NOT_COMPARED = {"seconds", "s/run", "seconds_per_step", "made", "versions", "platform", "figures"}
NOT_COMPARED |= {"sha256"}  # the digest of a record, of what is not compared as well
TEXT = {"table.txt", "config.json", "metrics.jsonl"}  # laid out, or kept as result.npz


def main(arguments: list[str] | None = None) -> int:
    """Prints every difference, then how much was compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.same_numbers", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rename", nargs="*", default=[], metavar="OLD=NEW")
    options = parser.parse_args(arguments)
    renamed = dict(pair.split("=", 1) for pair in options.rename)
    count, lines = compare_folders(options.before, options.after, renamed)
    print("\n".join(lines[:200]))
    print(f"{count} files compared, {len(lines)} differences")
    return 1 if lines or not count else 0


def compare_folders(
    before: Path, after: Path, renamed: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """How many files were compared, and the differences, one line each."""
    count, lines = 0, []
    for path in sorted(before.rglob("*")):
        place = path.relative_to(before)
        other = after.joinpath(*((renamed or {}).get(part, part) for part in place.parts))
        if path.suffix not in (".json", ".csv", ".npz", ".png") or path.name in TEXT:
            continue
        if "checkpoints" in place.parts:
            continue
        count += 1
        if not other.exists():
            lines.append(f"{place}: missing")
        elif path.suffix != ".png":
            lines += [f"{place}{text}" for text in _compare(path, other, renamed or {})]
    return count, lines


def _compare(path: Path, other: Path, renamed: Mapping[str, str]) -> Iterator[str]:
    if path.suffix == ".npz":
        yield from _arrays(path, other)
        return
    read = _json if path.suffix == ".json" else _csv
    yield from _values(_rename(read(path), renamed), read(other))


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _rename(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {renamed.get(key, key): _rename(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_rename(item, renamed) for item in value]
    return renamed.get(value, value) if isinstance(value, str) else value


def _values(before: Any, after: Any, place: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            if key not in NOT_COMPARED:
                yield from _values(before.get(key), after.get(key), f"{place} > {key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            yield from _values(a, b, f"{place}[{i}]")
    elif not _same(before, after):
        yield f"{place}: {before!r} before, {after!r} after"


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before):
        return math.isnan(after)
    return before == after


def _arrays(path: Path, other: Path) -> Iterator[str]:
    with np.load(path) as one, np.load(other) as two:
        for name in sorted({*one.files, *two.files} - NOT_COMPARED):
            if name not in one.files or name not in two.files:
                yield f" > {name}: only in one of them"
            elif not np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f"):
                yield f" > {name}: arrays differ"


if __name__ == "__main__":
    sys.exit(main())
