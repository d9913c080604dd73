"""A compiled step as a row of a table: of text, and of results/compile/steps.json."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.errors import JaxRuntimeError

from benchmarks.compile_for.program import Workload, compile_step
from benchmarks.compile_for.targets import compilers, parse_target
from experiments.tools.tables import Table

PLAIN = "uniform"
NO_ROOM = "RESOURCE_EXHAUSTED"
Row = dict[str, Any]
NOTE = (
    "Of each device. Memory: arguments and temporaries, and their share of the device's. "
    "Operations\nare those of the program as written, bytes those that its kernels read and write; "
    "a loop's body\ncounts once. Estimate: the data sheet's least time (operations or bytes, then "
    "exchanges), no measurement."
)


def compile_row(workload: Workload, target_name: str) -> Row:
    """Compiles a workload; what does not fit into the device's memory says so in `error`."""
    target = parse_target(target_name)
    row: Row = {"target": target_name, **workload._asdict()}
    row["memory_bytes"] = int(target.chip.memory_bytes)
    try:
        cost = compile_step(workload, target)
    except JaxRuntimeError as error:
        if NO_ROOM not in str(error):
            raise
        return row | {"error": "needs more memory than the device has"}
    kinds = Counter(collective.kind for collective in cost.collectives)
    num_bytes = sum(collective.num_bytes for collective in cost.collectives)
    own = cost._asdict() | {"collectives": dict(kinds), "collective_bytes": num_bytes}
    return row | own | {"error": None}


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was compiled for what."""
    return tuple(row[name] for name in ("target", *Workload._fields))


def read_rows(path: Path) -> dict[tuple[Any, ...], Row]:
    """The rows of a file, by key, if they are of these compilers."""
    if not path.exists():
        return {}
    contents = json.loads(path.read_text())
    rows = contents["rows"] if contents["compilers"] == compilers() else []
    return {key_of(row): row for row in rows}


def table_of(rows: list[Row]) -> Table:
    """The rows, beside plain ERM's on the same target where it is among them."""
    header = ("target", "network", "dtype", "weighting", "MiB", "of memory", "GFLOP", "x ERM")
    header += ("GB moved", "x ERM", "collectives", "MB", "kernels", "compiled in", "estimate")
    return Table(header, [_cells(row, _plain(row, rows)) for row in rows], note=NOTE)


def _cells(row: Row, plain: Row | None) -> list[str]:
    cells = [row["target"], row["network"], row["dtype"], row["scheme"]]
    if row["error"]:
        return [*cells, *["-"] * 10, row["error"]]
    needed = row["argument_bytes"] + row["temp_bytes"]
    return [
        *cells,
        f"{needed / 2**20:,.0f}",
        f"{needed / row['memory_bytes']:.1%}",
        f"{row['flops'] / 1e9:,.4g}",
        _ratio("flops", row, plain),
        f"{row['bytes_moved'] / 1e9:.4g}",
        _ratio("bytes_moved", row, plain),
        str(sum(row["collectives"].values())),
        f"{row['collective_bytes'] / 1e6:.3g}",
        str(row["kernels"]),
        f"{row['compile_seconds']:.0f} s",
        f"{1e3 * row['estimated_seconds']:.3g} ms",
    ]


def _plain(row: Row, rows: list[Row]) -> Row | None:
    """Plain ERM's row under the same circumstances."""
    same = ("target", "network", "dtype", "batch_size", "split")
    for other in rows:
        if other["scheme"] == PLAIN and all(other[name] == row[name] for name in same):
            return None if other["error"] else other
    return None


def _ratio(name: str, row: Row, plain: Row | None) -> str:
    return "-" if plain is None or not plain[name] else f"{row[name] / plain[name]:.2f}"
