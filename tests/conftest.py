"""Settings for every test: CPU, no silent rank promotion (it catches [B, 1] * [B]).

Most of the time goes into compilation, so XLA's backend optimizes little and emits loops directly
rather than through MLIR, which compiles small programs sooner; set XLA_FLAGS to change that.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
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
