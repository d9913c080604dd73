"""Compiling for other machines: what is read from a program, what is refused, what was kept.

Where XLA's compilers for them are installed, every scheme is compiled for every kind of target.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks.compile_for import __main__ as command
from benchmarks.compile_for.hlo import Collective, Kernels, collectives, kernels
from benchmarks.compile_for.program import Workload, roofline, shapes
from benchmarks.compile_for.rows import table_of
from benchmarks.compile_for.targets import CHIPS, check_installed, parse_target
from benchmarks.report import run_benchmark
from experiments.methods.registry import SCHEMES

ROOT = Path(__file__).parents[2]
COMPILERS = ("libtpu", "jax_cuda13_plugin")
HAS_COMPILERS = all(importlib.util.find_spec(name) for name in COMPILERS)

PROGRAM = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (x: f32[8,4], y: f32[4]) -> (f32[32], f32[4]) {
  %x = f32[8,4]{1,0} parameter(0), metadata={op_name="batch.inputs"}
  %y = f32[4]{0} parameter(1)
  %bits = f32[32]{0} bitcast(%x)
  %fusion = f32[8]{0:T(1024)S(1)} fusion(%x, %y), kind=kLoop, metadata={op_name="a(%y)"}
  %start = (f32[8]{0}, f32[32]{0}) all-gather-start(%fusion), channel_id=1, dimensions={0}
  %done = f32[32]{0} all-gather-done(%start)
  %two = ((f32[4]{0}, bf16[2]{0}), (f32[4]{0}, bf16[2]{0})) all-reduce-start(%y, %z), to_apply=%add
  %both = (f32[4]{0}, pred[16]{0}) all-reduce(%y, %p), to_apply=%add
  %one = ((f32[2]{0}), f32[2]{0}) all-reduce-start(%q), to_apply=%add
  %alone = (f32[4]{0}, f32[2]{0}) all-reduce-start(%y, %q), to_apply=%add
  %moved = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%y), channel_id=2
  ROOT %tuple = (f32[32]{0}, f32[4]{0}) tuple(%done, %y)
}
"""


def test_collectives_by_hand():
    """What one that is started gives may hold its operands, too; they do not count."""
    assert collectives(PROGRAM) == [
        Collective("all-gather", 4 * 32),
        Collective("all-reduce", 4 * 4 + 2 * 2),
        Collective("all-reduce", 4 * 4 + 16),
        Collective("all-reduce", 4 * 2),
        Collective("all-reduce", 4 * 4 + 4 * 2),
        Collective("collective-permute", 4 * 4),
    ]


def test_kernels_by_hand():
    """Seven of the entry's instructions do something; operands and results count in bytes."""
    fusion = 4 * 8 + 4 * 32 + 4 * 4
    start = 4 * 8 + 4 * 32 + 4 * 8
    two = 2 * (4 * 4 + 2 * 2) + 4 * 4
    both = 4 * 4 + 16 + 4 * 4
    one, alone = 2 * 4 * 2, 4 * 4 + 4 * 2 + 4 * 4
    moved = 2 * 4 * 4 + 2 * 4 + 4 * 4
    assert kernels(PROGRAM) == Kernels(7, fusion + start + two + both + one + alone + moved)


def test_the_kernels_of_a_program_of_today():
    """A sum of two vectors is one kernel that reads both and writes one."""
    vector = jax.ShapeDtypeStruct((100,), "float32")
    text = jax.jit(lambda x, y: x * y + 1).lower(vector, vector).compile().as_text()
    assert kernels(text) == Kernels(1, 3 * 400)


def test_the_estimate_by_hand():
    """Operations or bytes, whichever takes longer, then a ring's exchange at the link's speed."""
    target, chip = parse_target("tpu:v5e:2x4"), CHIPS["v5e"]
    exchanged = [Collective("all-reduce", 800), Collective("all-gather", 80)]
    links = (2 * 7 / 8 * 800 + 7 / 8 * 80) / chip.link
    by_operations = roofline(target, "float32", chip.flops["float32"], 1.0, exchanged, 8)
    assert by_operations == pytest.approx(1 + links)
    by_bytes = roofline(target, "float32", 1.0, 2 * chip.bandwidth, [], 8)
    assert by_bytes == pytest.approx(2)


def test_gpus_of_several_hosts_exchange_by_their_adapters():
    one, four = parse_target("gpu:h100:8"), parse_target("gpu:h100:4x8")
    assert one.link(8) == CHIPS["h100"].link
    assert four.link(32) < one.link(8)


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("tpu:v5e", "v5e:1x1"),
        ("tpu:v5p:2x2x4", "v5p:2x2x4"),
        ("gpu:h100", "1x1x1"),
        ("gpu:h100:8", "1x1x8"),
        ("gpu:h100:4x8", "1x4x8"),
    ],
)
def test_targets(name, topology):
    assert parse_target(name).topology == topology


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu:v9", "unknown target 'tpu:v9'; known: tpu:v4, .*gpu:h100"),
        ("h100", "unknown target"),
        ("gpu:v5e", "unknown target"),
        ("tpu:v5e:2by4", "must be like 2x4, got '2by4'"),
        ("gpu:h100:1x2x3", "HOSTSxGPUS"),
        ("gpu:h100:0", "must be like"),
    ],
)
def test_unknown_targets_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_target(name)


@pytest.mark.skipif(HAS_COMPILERS, reason="the compilers are installed")
def test_without_the_compilers_it_is_said_what_to_install():
    with pytest.raises(ValueError, match=r"libtpu.* pip install -r requirements-compile\.txt"):
        check_installed(parse_target("tpu:v5e"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tpu:v9"], "unknown target"),
        (["--network", "resnet33"], "resnet33"),
        (["--weighting", "lowe"], "lowe"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_before_work(arguments, message, capsys, tmp_path):
    out = tmp_path / "steps.json"
    given = [*arguments, "--out", str(out)]
    assert run_benchmark(command.main, "compile_for", None, given) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_what_was_compiled_stays(tmp_path, monkeypatch, capsys):
    """Neither a run for other targets nor one that goes on compiles it again, or drops it."""
    asked = []

    def compile_row(workload, target):
        asked.append(target)
        row = {"target": target, **workload._asdict(), "error": "not tried"}
        return row | {"memory_bytes": 1}

    monkeypatch.setattr(command, "compile_row", compile_row)
    monkeypatch.setattr(command, "check_installed", lambda target: None)
    out = tmp_path / "steps.json"
    settings = {"network": ("mlp:8",), "weighting": ("uniform",), "dtype": ("float32",), "out": out}
    for targets in (("tpu:v5e",), ("gpu:h100",), ("tpu:v5e", "gpu:h100")):
        command.main(targets, **settings)
    assert asked == ["tpu:v5e", "gpu:h100"]
    assert {row["target"] for row in json.loads(out.read_text())["rows"]} == set(asked)
    monkeypatch.setattr("benchmarks.compile_for.rows.compilers", lambda: {"jax": "another"})
    command.main(("tpu:v5e",), **settings)
    assert asked == ["tpu:v5e", "gpu:h100", "tpu:v5e"]


@pytest.mark.parametrize(
    "network", ["transformer", "mlp:8", pytest.param("resnet32", marks=pytest.mark.slow)]
)
def test_shapes_are_those_of_all_devices(network):
    workload = Workload(network, "lookahead", 4, 2, "bfloat16")
    step, state, batch = shapes(workload, 8)
    assert batch.labels.shape == (32,)
    assert batch.clean.labels.shape == (16,)
    after, metrics = jax.eval_shape(step, state, batch)
    assert metrics.weights.shape == (32,)
    assert all(leaf.dtype == "float32" for leaf in jax.tree.leaves(after.params))
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


def test_a_table_compares_with_plain_erm_of_the_same_target():
    known = {
        **{"target": "gpu:h100", "network": "n", "dtype": "float32", "batch_size": 1},
        **{"split": False, "memory_bytes": 4 * 2**20, "argument_bytes": 2**20, "kernels": 3},
        **{"temp_bytes": 2**20, "collectives": {"all-reduce": 2}, "collective_bytes": 5e6},
        **{"compile_seconds": 1.0, "estimated_seconds": 2e-3, "error": None},
    }
    plain = known | {"scheme": "uniform", "flops": 2e9, "bytes_moved": 1e9}
    low = known | {"scheme": "low:0.1", "flops": 3e9, "bytes_moved": 4e9}
    lost = {"target": "tpu:v5e", "network": "n", "dtype": "float32", "scheme": "low:0.1"}
    lost |= {"error": "needs more memory than the device has"}
    table = table_of([plain, low, lost])
    cells = dict(zip(table.header[4:], table.rows[1][4:], strict=True))
    assert table.rows[1][4:10] == ["2", "50.0%", "3", "1.50", "4", "4.00"]
    assert cells["collectives"] == "2"
    assert cells["estimate"] == "2 ms"
    assert table.rows[2][-1] == "needs more memory than the device has"


def test_what_was_written():
    """On 256 chips a scheme that sorts or projects exchanges at most twice more than plain ERM."""
    kept = json.loads((ROOT / "results" / "compile" / "exchanges.json").read_text())["rows"]
    counts = {row["scheme"]: sum(row["collectives"].values()) for row in kept}
    assert {row["target"] for row in kept} == {"tpu:v5e:16x16"}
    assert {"low:0.1", "low:0.1:solver=osqp", "cvar", "chi_square_dro", "loss_rank"} < counts.keys()
    more = {name: count - counts["uniform"] for name, count in counts.items()}
    assert {name for name, count in more.items() if count > 2} == {"meta_weight_net"}


@pytest.mark.slow
@pytest.mark.skipif(not HAS_COMPILERS, reason="needs requirements-compile.txt")
@pytest.mark.parametrize("target", ["tpu:v5e:2x2", "gpu:h100:2"])
def test_every_scheme_compiles(target, tmp_path):
    """In a process of its own, as libtpu may be loaded by one only."""
    names = list(SCHEMES)
    out = tmp_path / "steps.json"
    arguments = ["--network", "mlp:8", "--dtype", "float32", "--batch-size", "8"]
    arguments += ["--clean-size", "4", "--weighting", *names, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = [sys.executable, "-m", "benchmarks.compile_for", target, *arguments]
    subprocess.run(process, check=True, env=environment, cwd=tmp_path)
    rows = json.loads(out.read_text())["rows"]
    assert [row["scheme"] for row in rows] == names
    assert all(row["error"] is None and row["temp_bytes"] >= 0 for row in rows)
