"""Files that are written whole or not at all, and whose damage is noticed when they are read.

Arrays carry the checksums of their archive. A sealed JSON record carries a digest of itself; one
without, as earlier versions wrote them, is read as it is.
"""

import csv
import hashlib
import io
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

_SEAL = "sha256"


class DamagedFileError(RuntimeError):
    """A file does not hold what was written into it."""


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
        except BaseException as error:
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # a full disk does not say where
            raise


def write_text(path: Path, text: str) -> None:
    """Writes text."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented."""
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record as JSON with its digest, by which `read_sealed` knows damage."""
    write_json(path, {**record, _SEAL: _digest(record)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The record of a JSON file.

    Raises:
      DamagedFileError: it is no record, or not the one that was written.
    """
    try:
        record = json.loads(path.read_bytes())
        seal = record.pop(_SEAL, None)
    except (ValueError, AttributeError, TypeError) as error:  # not JSON, not text, not a record
        raise DamagedFileError(f"{path} is damaged: {error}") from None
    if seal is not None and seal != _digest(record):
        raise DamagedFileError(
            f"{path} is damaged: its digest is of another record (was it edited?)"
        )
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Writes one JSON object per line: `pandas.read_json(path, lines=True)`."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed `.npz`."""
    write_atomically(
        path, lambda file: np.savez_compressed(file, allow_pickle=False, **dict(arrays))
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, every byte of them checked.

    `np.load` stops at an array's last byte, and may so miss the checksum that follows it.

    Raises:
      DamagedFileError: an array is damaged, or the file is no archive of arrays.
    """
    try:
        with zipfile.ZipFile(path) as stored:
            _check_number(path, len(stored.namelist()))
            return {
                name.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(stored.read(name)), allow_pickle=False
                )
                for name in stored.namelist()
            }
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # damage can surface as almost any exception
        raise DamagedFileError(
            f"{path} is damaged: {type(error).__name__}: {error}; delete it, and make it again by "
            "the command that made it, with --resume"
        ) from None


def _check_number(path: Path, found: int) -> None:
    """Refuses an archive that says it holds more files than are found, as after damage to a list.

    The number stands in its last record, `PK 5 6`, of which zipfile takes no notice.
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 2**16), os.SEEK_END)
        tail = file.read()
    (said,) = struct.unpack_from("<H", tail, tail.rindex(b"PK\5\6") + 10)
    if said != found:
        raise ValueError(f"{said} arrays were written, {found} are found")


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows, the first of them the header: `pandas.read_csv(path)`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
