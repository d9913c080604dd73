"""Many devices compute what one does: train steps, runs of the driver, and two processes.

The work is in on_devices.py; its processes simulate devices, which this one cannot once JAX runs.
Differences are absolute, of float32 numbers of order one (weights and effective sample sizes: up to
the batch size, 32): sums over devices are taken in another order, and a few steps carry the
rounding on.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from weighting import Batch, init_train_state, losses, low, make_train_step, without_state
from weighting.training.scale_out import data_mesh, pad_batch, parallel_step, replicate

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TOLERANCE = 1e-5


def start(*arguments, num_devices=8):
    flags = (
        f"--xla_force_host_platform_device_count={num_devices}",
        "--xla_backend_optimization_level=0",  # compile sooner
        "--xla_llvm_disable_expensive_passes=true",
    )
    return subprocess.Popen(
        [sys.executable, str(HERE / "on_devices.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": " ".join(flags),
        },
    )


def finish(process, path):
    with process:
        try:
            output, _ = process.communicate(timeout=1500)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "found.json"
    return finish(start(path, "quick"), path)


@pytest.fixture(scope="module")
def found_slowly(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "found.json"
    return finish(start(path, "slow"), path)


# --- train steps ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["uniform", "low, mask", "lookahead, batch norm", "chain to mean one"]
)
def test_eight_devices_compute_what_one_does(case, found):
    assert found["steps"][case] < TOLERANCE


def test_batches_are_split(found):
    assert found["is split"]


def test_sorts_and_projections_gather_once(found):
    """The control, LOW's step with everything left where the examples are, does not."""
    counts = found["collectives"]
    plain = counts.pop("uniform")
    assert plain > 0
    assert len(counts) == 5
    assert {name: count for name, count in counts.items() if count > plain + 2} == {}
    assert found["collectives of low, split"] > plain + 2


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("shard_batch", "a batch of 12 examples cannot be split .* 8 devices; .* pad it to 16"),
        ("parallel_step", "a clean batch of 10 examples cannot be split .* `Batch.mask`"),
        ("data_mesh", "JAX finds 8 .*--xla_force_host_platform_device_count=9"),
        ("batch_size", "batch_size=50 cannot be split equally over 8 devices"),
        ("clean_batch_size", "clean_batch_size=50 .* over 4 devices; take a multiple of 4"),
    ],
)
def test_refusals(what, message, found):
    assert re.search(message, found["refusals"][what])


def test_two_processes_with_their_own_examples_compute_what_one_does(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = [tmp_path / f"found{number}.json" for number in range(2)]
    processes = [
        start(path, "pair", port, number, num_devices=2) for number, path in enumerate(paths)
    ]
    with processes[0], processes[1]:  # both are waited for, whatever happens
        for process, path in zip(processes, paths, strict=True):
            steps = finish(process, path)["steps"]
            assert steps["lookahead, batch norm"] < TOLERANCE


def test_on_one_device_nothing_changes():
    mesh, scheme, optimizer = data_mesh(1), low(0.1), optax.sgd(0.1)
    apply_fn = without_state(lambda params, inputs: inputs @ params)
    step = make_train_step(apply_fn, losses.logistic, scheme, optimizer)
    inputs = jax.random.normal(jax.random.key(0), (8, 3))
    batch = Batch(inputs, jnp.arange(8) % 2)
    state = init_train_state(jax.random.key(1), jnp.ones(3), scheme, optimizer)
    expected, expected_metrics = jax.jit(step)(state, batch)
    found, metrics = parallel_step(step, mesh)(replicate(mesh, state), batch)
    np.testing.assert_array_equal(found.params, expected.params)
    np.testing.assert_array_equal(metrics.weights, expected_metrics.weights)
    for donate in (False, True):
        start = replicate(mesh, state)
        parallel_step(step, mesh, donate=donate)(start, batch)
        assert start.params.is_deleted() == donate


def test_the_page_runs():
    page = (ROOT / "docs" / "scale_out.md").read_text()
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (32, 4))
    names = {
        "key": key,
        "inputs": inputs,
        "labels": jnp.argmax(inputs, axis=1),
        "params": jnp.zeros((4, 4)),
        "apply_fn": without_state(lambda params, inputs: inputs @ params),
    }
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    exec(compile("\n".join(blocks[:2]), "docs/scale_out.md", "exec"), names)
    expected, _ = names["one_device"]
    np.testing.assert_allclose(names["many"].params, expected.params, atol=1e-6)
    exec(compile(blocks[2], "docs/scale_out.md, padding", "exec"), names)
    assert names["many"].step == 2
    np.testing.assert_array_equal(names["metrics"].weights[5:], 0)


# --- padding ----------------------------------------------------------------------------------


def test_padding_by_hand():
    clean = Batch(np.ones((1, 1)), np.ones(1))
    batch = Batch(np.array([[1.0], [2.0]]), np.array([0, 1]), np.array([7, 9]), clean=clean)
    padded = pad_batch(batch, 4)
    np.testing.assert_array_equal(padded.inputs, [[1], [2], [2], [2]])
    np.testing.assert_array_equal(padded.labels, [0, 1, 1, 1])
    np.testing.assert_array_equal(padded.indices, [7, 9, 9, 9])
    np.testing.assert_array_equal(padded.mask, [1, 1, 0, 0])
    assert padded.clean is clean


def test_padding_keeps_a_mask_and_gives_a_full_batch_one():
    batch = Batch(jnp.ones((3, 1)), jnp.ones(3), mask=jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(pad_batch(batch, 4).mask, [1, 0, 1, 0])
    np.testing.assert_array_equal(pad_batch(batch._replace(mask=None), 3).mask, [1, 1, 1])
    with pytest.raises(ValueError, match="3 examples cannot be padded to 2"):
        pad_batch(batch, 2)


# --- runs -------------------------------------------------------------------------------------


def largest(differences):
    scales = dict.fromkeys(("train_effective_sample_size", "example_weights", "class_weights"), 32)
    return max(value / scales.get(name, 1) for name, value in differences.items())


def test_a_run_begun_on_eight_devices_ends_on_one(found):
    differences = found["eight, two, one"]
    assert {"train_loss", "test_loss", "example_weights", "test_accuracy"} <= differences.keys()
    assert largest(differences) < TOLERANCE


def test_a_state_stays_on_its_devices_between_evaluations(found):
    stays = found["stays"]
    assert stays["devices"] == [8]
    assert stays["devices of a checkpoint"] == [1]
    assert stays["is the same memory"]
    assert "Disallowed device-to-device transfer" in stays["control"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--devices", "4096"], "--xla_force_host_platform_device_count=4096"),
        (["train", "--devices", "0"], "number of devices must be at least 1"),
        (["run", "demo", "--devices", "4096"], "4096 devices were asked for"),
        (["run", "xu2021.figure1", "--devices", "2"], "does not train on batches"),
    ],
)
def test_bad_numbers_of_devices_are_refused_before_work(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "new")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# --- slow -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["low", "low, batch norm", "lookahead", "lookahead, layerwise", "random", "state per example"],
)
def test_eight_devices_compute_what_one_does_in_more_cases(case, found_slowly):
    assert found_slowly["steps"][case] < TOLERANCE


@pytest.mark.slow
def test_the_comparison_would_see_weights_that_are_not_global(found_slowly):
    assert found_slowly["wrong weights"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("run", ["batch norm", "convolutions"])
def test_runs_on_eight_devices(run, found_slowly):
    assert largest(found_slowly[run]) < TOLERANCE


@pytest.mark.slow
def test_every_scheme_on_eight_devices(found_slowly):
    assert len(found_slowly["schemes"]) > 40
    for name, differences in found_slowly["schemes"].items():
        assert largest(differences) < TOLERANCE, name
