"""What all benchmarks do with their numbers: say what they depend on, and write them down."""

import os
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.tools.files import write_json
from experiments.tools.versions import package_versions


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


def write_results(out: Path, contents: dict[str, Any]) -> None:
    """Writes the numbers as JSON, without NaN, and says where."""
    write_json(out, _without_nan(contents))
    print(f"\nWritten to {out}")


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
