"""Settings for every test: CPU, no silent rank promotion (it catches [B, 1] * [B]).

Most of the time goes into compilation, so XLA's backend optimizes little, and where jax still has
the choice (0.10) it emits loops directly rather than through MLIR, which compiles small programs
sooner; set XLA_FLAGS to change that.
"""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    # Later releases abort at this flag.
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # what tests compile stays with them

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Runs the test with 64-bit arrays."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Drops compiled programs before a process has the 65,530 memory maps that Linux allows.

    Every program holds some; beyond that XLA aborts the process when it compiles the next one.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
