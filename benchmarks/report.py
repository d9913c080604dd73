"""What all benchmarks do: read their command line, say what their numbers depend on, write them.

Numbers go to `runs/`, which git ignores; with `--keep` also to `results/`, under version control.
"""

import functools
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import tyro

from experiments.tools.command_line import read_arguments, run_command
from experiments.tools.files import write_json
from experiments.tools.versions import package_versions

RUNS, KEPT = Path("runs/benchmarks"), Path("results")


def run_benchmark(
    main: Callable[..., None], name: str, description: str | None, given: list[str] | None = None
) -> int:
    """Calls `main` with what the command line says; returns the exit status.

    Args:
      main: its arguments are the options; `out`, a file, is one of them.
      name: of the module.
      description: for `--help`; None takes that of `main`.
      given: the command line; by default the process's.
    """
    prog, given = f"python -m benchmarks.{name}", sys.argv[1:] if given is None else given

    @functools.wraps(main)  # tyro reads the signature, and would take errors of `main` for its own
    def later(**options: Any) -> Callable[[], None]:
        def work() -> None:
            options["out"].parent.mkdir(parents=True, exist_ok=True)  # refused before the work
            main(**options)

        return work

    work = read_arguments(
        lambda: tyro.cli(later, prog=prog, description=description, args=given), given, prog
    )
    return run_command(work)


def check_positive(name: str, *counts: int | None) -> None:
    """Refuses counts below one."""
    for value in counts:
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def describe_machine() -> dict[str, Any]:
    """What the numbers depend on: processor, system, device and package versions."""
    return {
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "system": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def write_results(out: Path, contents: dict[str, Any], kept: Path | None = None) -> None:
    """Writes the numbers as JSON, without NaN, and says where; to `kept`, too, if given."""
    paths = [out] if kept is None else [out, kept]
    for path in paths:
        write_json(path, _without_nan(contents))
    print(f"\nWritten to {' and '.join(map(str, paths))}")


def _without_nan(value: Any) -> Any:
    """The same with None, JSON's null, for NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if value != value else value


def _processor() -> str:
    """The processor's model name where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
