"""Parts of an experiment: each is computed once and kept as an `.npz`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from experiments.tools.files import read_arrays, write_arrays
from experiments.tools.progress import follow

Arrays = Mapping[str, np.ndarray]


def compute_parts(folder: Path, parts: Mapping[str, Callable[[], Arrays]], label: str) -> None:
    """Computes the parts that the folder lacks, so that an interrupted run goes on where it was."""
    for name, compute in follow(parts.items(), label, "part"):
        path = folder / f"{name}.npz"
        if not path.exists():
            write_arrays(path, compute())


def read_parts(folder: Path, names: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    """Parts by name."""
    return {name: read_arrays(folder / f"{name}.npz") for name in names}


def read_numbered_parts(folder: Path, name: str) -> list[dict[str, np.ndarray]]:
    """The parts "NAME0", "NAME1", ... that are finished, in the order of their numbers."""
    found = [path for path in folder.glob(f"{name}*.npz") if path.suffixes == [".npz"]]
    return [read_arrays(path) for path in sorted(found, key=lambda path: (len(path.name), path))]
