"""A copy of the repository in which one mutant at a time is tested; the tree itself stays."""

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.copies import copy_parts
from tests.mutants.matching import Stage
from tests.mutants.mutations import Mutant

COPIED = (
    "weighting",
    "experiments",
    "benchmarks",
    "theory_checks",
    "tests",
    "docs",
    "pyproject.toml",
)
PATIENCE = 8  # a mutant may take this many times as long as the original did
AT_LEAST = 120.0  # seconds; other work on the machine slows both
NO_TESTS = 5  # pytest's exit status


class Outcome(NamedTuple):
    """What the tests said of a mutant."""

    killed_by: str  # a test, "timeout", or "" if it survived
    seconds: float


class Workshop:
    """A folder with a copy of the code; its programs are compiled into a cache that all share."""

    def __init__(self, root: Path, folder: Path, cache: Path):
        self.folder = folder
        self.environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.clock = itertools.count(int(time.time()))
        self.usual: dict[Stage, float] = {}
        copy_parts(root, folder, COPIED)

    def test(self, mutant: Mutant, stages: Sequence[Stage]) -> Outcome:
        """Plants the mutant, runs the stages up to the first failure, and takes it out again.

        Raises:
          RuntimeError: if the original fails a stage, or has no tests there.
        """
        limits = [max(AT_LEAST, PATIENCE * self._seconds_of_the_original(s)) for s in stages]
        with self._planted(mutant):
            total = 0.0
            for stage, limit in zip(stages, limits, strict=True):
                outcome = self._run(stage, limit)
                total += outcome.seconds
                if outcome.killed_by:
                    return Outcome(outcome.killed_by, total)
            return Outcome("", total)

    def _seconds_of_the_original(self, stage: Stage) -> float:
        if stage not in self.usual:
            outcome = self._run(stage, limit=None)
            if outcome.killed_by:
                raise RuntimeError(f"the original fails {outcome.killed_by}: mend that first")
            self.usual[stage] = outcome.seconds
        return self.usual[stage]

    @contextmanager
    def _planted(self, mutant: Mutant) -> Iterator[None]:
        path = self.folder / mutant.file
        original = path.read_bytes()
        self._write(path, mutant.apply(original))
        try:
            yield
        finally:
            self._write(path, original)

    def _write(self, path: Path, source: bytes) -> None:
        """Bytecode is renewed if a source's size or time, in whole seconds, has changed."""
        path.write_bytes(source)
        now = next(self.clock)
        os.utime(path, (now, now))

    def _run(self, stage: Stage, limit: float | None) -> Outcome:
        start = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "--no-header"),
                *("-p", "no:cacheprovider", "-p", "tests.mutants.plugin"),
                *("--schemes", ",".join(stage.schemes), *stage.files),
            ],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that what the tests start can be ended with them
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return Outcome("timeout", time.monotonic() - start)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return Outcome(
            _killer(process.returncode, output, bool(stage.schemes)), time.monotonic() - start
        )


def _killer(status: int, output: str, may_be_empty: bool) -> str:
    """The test that failed, from pytest's output; "" if none did."""
    if status == 0 or (status == NO_TESTS and may_be_empty):
        return ""
    if status == NO_TESTS:
        raise RuntimeError(f"pytest found no tests:\n{output}")
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, flags=re.MULTILINE)
    return found[1].removeprefix("tests/") if found else f"exit status {status}"


@contextmanager
def workshops(root: Path, cache: Path, count: int) -> Iterator[list[Workshop]]:
    """So many copies of the repository, removed in the end."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        yield [Workshop(root, Path(folder, str(i)), cache) for i in range(count)]
