"""The folder of a run: its configuration, checkpoints, metrics and results.

- `config.json`: configurations, versions, and a digest of every seed's data; written first.
- `checkpoints/`: the last two complete states.
- `metrics.jsonl`: one line per configuration, seed and evaluation.
- `result.npz`: everything measured, as arrays; written last.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from experiments.data import TaskConfig
from experiments.tools.files import DamagedFileError, read_sealed, write_sealed
from experiments.tools.versions import package_versions
from experiments.training.config import RunConfig

try:
    import fcntl
except ImportError:  # not a Unix system
    fcntl = None


class RunFolderError(RuntimeError):
    """The output folder cannot be used for this run; nothing in it was changed."""


def describe_run(configs: list[RunConfig], data: list[dict]) -> dict[str, Any]:
    """What determines a run's numbers, as plain JSON."""
    record = {
        "configs": [asdict(config) for config in configs],
        "data": data,
        "versions": package_versions(),
        "platform": f"{jax.default_backend()} {platform.machine()}",
    }
    return json.loads(json.dumps(record))


def check_folder(folder: Path, *, resume: bool, marker: str = "config.json") -> None:
    """Refuses a folder that holds something else, cannot be written, or needs `resume`."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; give a folder that is new or empty")
    # A kill may leave a temporary file of write_atomically behind: it is nobody's.
    if folder.is_dir() and any(path.suffix != ".tmp" for path in folder.iterdir()):
        if not (folder / marker).exists():
            raise RunFolderError(
                f"{folder} is not empty and holds no run of ours (no {marker}); "
                "give a folder that is new or empty"
            )
        if not resume:
            raise RunFolderError(
                f"{folder} already holds a run; continue it with --resume, or give another --out"
            )
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise RunFolderError(f"{existing} is a file; give another --out")
    if not os.access(existing, os.W_OK):
        raise RunFolderError(f"{existing} cannot be written; give another --out")


def make_folder(folder: Path) -> None:
    """Makes a folder that `check_folder` let pass; refuses one that cannot be made after all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RunFolderError(f"{folder} cannot be made ({why}); give another --out") from None


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder until the end, however that comes.

    The hold is the system's (flock): it ends with the process. Temporary files that a killed one
    left are deleted.

    Raises:
      RunFolderError: another process holds the folder.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"another process is training in {folder}; wait for it, or give another --out"
            ) from None
        except OSError:  # a file system without locks
            pass
        for left in folder.glob("tmp*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def claim_folder(folder: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Writes the record of a new run, or checks that a folder to resume holds the same run."""
    check_folder(folder, resume=resume)
    path = folder / "config.json"
    if not path.exists():
        write_sealed(path, record)
        return
    try:
        stored = read_sealed(path)
    except DamagedFileError as error:
        raise RunFolderError(f"{error}; restore it, or start again with another --out") from None
    different = json_differences(_with_defaults(stored), record)
    if different:
        raise RunFolderError(
            f"{folder} holds a run of another configuration:\n  "
            + "\n  ".join(different[:10])
            + "\nResume with the configuration it was started with, or give another --out."
        )


def _with_defaults(record: Any) -> Any:
    """The record of an older version, whose configurations lack later settings, with those."""
    try:
        configs = [asdict(as_config(config)) for config in record["configs"]]
    except (KeyError, TypeError, ValueError):
        return record  # differs in more: the comparison says in what
    return json.loads(json.dumps({**record, "configs": configs}))


def as_config(record: dict[str, Any]) -> RunConfig:
    """A configuration from its stored form; settings that it lacks have their defaults."""
    return RunConfig(**{**record, "task": TaskConfig(**record["task"])})


def json_differences(stored: Any, wanted: Any, path: str = "") -> list[str]:
    """The places in which two JSON values differ, one line each."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        lines = []
        for key in sorted(stored.keys() | wanted.keys()):
            lines += json_differences(stored.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
        return lines
    if isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        lines = []
        for i, (a, b) in enumerate(zip(stored, wanted, strict=True)):
            lines += json_differences(a, b, f"{path}[{i}]")
        return lines
    return [] if stored == wanted else [f"{path}: {stored!r} there, {wanted!r} here"]
