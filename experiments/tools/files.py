"""Files that are written whole or not at all."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np


def write_atomically(path: Path, write_fn: Callable[[IO[bytes]], Any]) -> None:
    """Calls `write_fn` on a temporary file beside `path`, then moves it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            write_fn(file)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented."""
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Writes one JSON object per line: `pandas.read_json(path, lines=True)`."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed `.npz`."""
    write_atomically(
        path, lambda file: np.savez_compressed(file, allow_pickle=False, **dict(arrays))
    )


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows, the first of them the header: `pandas.read_csv(path)`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
