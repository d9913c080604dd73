"""Arrays kept on disk between runs: written whole or not at all, re-read when damaged."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.tools.files import read_arrays, write_atomically

Arrays = Mapping[str, np.ndarray]


def cache_dir() -> Path:
    """Return the folder of cached arrays: `$WEIGHTING_CACHE` or `~/.cache/sample-weighting`."""
    return Path(os.environ.get("WEIGHTING_CACHE") or "~/.cache/sample-weighting").expanduser()


def cached(path: Path, names: Sequence[str], read_fn: Callable[[], Arrays]) -> Arrays:
    """Return the arrays `names` stored at `path` (.npz); call `read_fn` and store them if absent.

    A damaged file is replaced, with a warning. A folder
    that cannot be written costs a warning and a slower start next time.
    """
    if path.exists():
        try:
            stored = read_arrays(path)
            return {name: stored[name] for name in names}
        except Exception as error:  # damage can surface as almost any exception
            warnings.warn(
                f"the cached arrays at {path} are damaged ({type(error).__name__}: {error}); "
                "reading the dataset again",
                stacklevel=2,
            )
    arrays = read_fn()
    try:
        write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **dict(arrays)))
    except OSError as error:
        warnings.warn(
            f"cannot cache arrays at {path} ({error}); set WEIGHTING_CACHE to a writable folder "
            "to avoid reading the dataset on every start",
            stacklevel=2,
        )
    return arrays
