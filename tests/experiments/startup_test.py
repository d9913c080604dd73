"""What importing costs, and that compiled programs are kept where they are said to be."""

import os
import subprocess
import sys
from collections import Counter

import jax
import numpy as np
import pytest

from experiments.__main__ import main


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_library_leaves_slow_packages_alone():
    code = "import sys, weighting; print([m for m in {names} if m in sys.modules])"
    names = ["jaxopt", "scipy.optimize", "flax", "tensorflow", "sklearn", "matplotlib"]
    assert run_python(code.replace("{names}", str(names))).strip() == "[]"


def test_jaxopt_may_be_imported_within_a_trace():
    code = """
import jax, jax.numpy as jnp
from weighting import low_weights
solve = jax.jit(lambda g: low_weights(g, 0.25, solver="osqp"))
norms = jnp.array([0.0, 0.25, 0.5])
print(*solve(norms), *low_weights(norms, 0.25, solver="osqp"))
"""
    weights = [float(word) for word in run_python(code).split()]
    np.testing.assert_allclose(weights, [0.5, 1.0, 1.5] * 2, atol=1e-5)  # OSQP's tolerance


TRAIN = ["train", "--dataset", "digits", "--model", "linear", "--seeds", "1"]
TRAIN += ["--num-validation", "30", "--num-test", "30"]


def test_programs_are_kept_in_the_cache_folder(tmp_path):
    command = [*TRAIN, "--num-steps", "2", "--num-evals", "1", "--out", str(tmp_path / "run")]
    run_python(
        f"from experiments.__main__ import main; raise SystemExit(main({command}))",
        WEIGHTING_CACHE=str(tmp_path / "cache"),
        JAX_ENABLE_COMPILATION_CACHE="true",
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",  # however fast this machine compiles
    )
    assert any((tmp_path / "cache" / "compiled").iterdir())


@pytest.mark.slow
def test_importing_takes_at_most_half_again_as_long_as_jax():
    code = (
        "import time; a = time.perf_counter(); import jax; b = time.perf_counter();"
        "import weighting; print((time.perf_counter() - a) / (b - a))"
    )
    ratios = sorted(float(run_python(code)) for _ in range(7))
    assert ratios[3] < 1.5


def num_compilations(num_intervals, folder, caplog):
    """Of the programs of a run; single operations outside them are compiled once a process."""
    jax.clear_caches()
    caplog.clear()
    run = ["--num-steps", str(2 * num_intervals), "--num-evals", str(num_intervals)]
    with jax.log_compiles(True):
        assert main([*TRAIN, *run, "--out", str(folder)]) == 0
    programs = ("jit(init)", "jit(all_runs)", "jit(logits_of)", "jit(measure_all)")
    found = [m for m in caplog.messages if m.startswith("Finished XLA compilation")]
    return Counter(name for name in programs for message in found if name in message)


def test_nothing_is_compiled_after_the_first_interval(caplog, tmp_path):
    few, many = (num_compilations(count, tmp_path / str(count), caplog) for count in (2, 5))
    assert few == many
    assert few["jit(all_runs)"] == 1
