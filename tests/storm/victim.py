"""What the storm is let loose on: a small training, as a user starts it."""

import contextlib
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.__main__ import main
from experiments.tools.files import read_arrays

ROOT = Path(__file__).parents[2]
TRAIN = ["train", "--dataset", "digits", "--noise", "uniform:0.3", "--model", "mlp:8"]
TRAIN += ["--weighting", "low:0.1", "--num-train", "200", "--num-validation", "60"]
TRAIN += ["--num-test", "100", "--num-clean", "20", "--batch-size", "32", "--seeds", "2"]
LONG = [*TRAIN, "--num-steps", "120", "--num-evals", "60", "--checkpoint-seconds", "0"]
SHORT = [*TRAIN, "--num-steps", "12", "--num-evals", "4", "--checkpoint-seconds", "0"]
TIMINGS = {"seconds_per_step"}
STATUSES = (0, 1, 2, 130)  # done, refused, or interrupted: all others are accidents


class Outcome(NamedTuple):
    """How many cases of a kind there were, and what became of them."""

    what: str
    cases: int
    held: int  # as promised
    how: str  # in words

    @property
    def passed(self) -> bool:
        return self.cases == self.held


class Ended(NamedTuple):
    """A finished command."""

    status: int
    shown: str

    @property
    def is_clear(self) -> bool:
        """Whether it went well or was refused in words."""
        said = self.status == 0 or "error: " in self.shown
        return self.status in STATUSES and said and "Traceback" not in self.shown


def start(
    arguments: Sequence[str], cache: Path, log: Path, prefix: Sequence[str] = ()
) -> subprocess.Popen:
    """Starts `python -m experiments`, by a command before it; what it shows goes to the log."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "WEIGHTING_CACHE": str(cache)}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with log.open("wb") as file:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "experiments", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
        )


def finish(process: subprocess.Popen, log: Path) -> Ended:
    """Waits for the end of a process."""
    return Ended(process.wait(timeout=300), log.read_text(errors="replace"))


def command(arguments: Sequence[str], cache: Path, log: Path, prefix: Sequence[str] = ()) -> Ended:
    """Starts `python -m experiments` and waits for its end."""
    return finish(start(arguments, cache, log, prefix), log)


def here(arguments: Sequence[str], program: Callable[[list[str]], int] = main) -> Ended:
    """The same within this process, which is faster; an accident has status -1."""
    shown = io.StringIO()
    with (
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(shown),
        warnings.catch_warnings(action="ignore"),
    ):
        try:
            status = program([*map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Exception as error:
            return Ended(-1, f"{shown.getvalue()}\nTraceback: {type(error).__name__}: {error}")
    return Ended(status, shown.getvalue())


def results(folder: Path) -> dict[str, np.ndarray]:
    """What a finished run measured, but for its timings, and its lines of metrics."""
    arrays = read_arrays(folder / "result.npz")
    arrays["metrics"] = np.frombuffer((folder / "metrics.jsonl").read_bytes(), np.uint8)
    return {name: values for name, values in arrays.items() if name not in TIMINGS}


def is_same(folder: Path, expected: dict[str, np.ndarray]) -> bool:
    """Whether a run gave the same bits."""
    if not (folder / "result.npz").exists():
        return False
    found = results(folder)
    return found.keys() == expected.keys() and all(
        found[name].dtype == values.dtype and found[name].tobytes() == values.tobytes()
        for name, values in expected.items()
    )


def num_checkpoints(folder: Path) -> int:
    """The number of the last checkpoint; 0 if there is none."""
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def wait_until(
    is_true: Callable[[], bool], process: subprocess.Popen, seconds: float = 120
) -> bool:
    """Waits for something to become true, as long as the process lives; returns whether it did."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.0005)
    return False
