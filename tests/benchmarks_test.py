"""The benchmark's arithmetic, a quick run, and the operation counts it relies on."""

import json

import optax
import pytest

import weighting
from experiments import benchmarks
from experiments.benchmarks import Candidate, Table
from experiments.models import lenet5, make_model
from weighting import losses

LENET = lenet5(10)


def lenet_flops(scheme, num_clean=0, batch_size=100):
    optimizer = optax.sgd(0.1, momentum=0.9)
    table = Table("", LENET, losses.cross_entropy, optimizer, batch_size, {})
    return benchmarks.compile_candidate(table, Candidate(scheme, num_clean)).flops


def tiny_table():
    return Table(
        "tiny",
        make_model("mlp:4", 3),
        losses.cross_entropy,
        optax.sgd(0.1),
        8,
        {
            "value_and_grad": Candidate(None),
            "uniform": Candidate(weighting.uniform(), max_flop_ratio=1.5),
            "lookahead": Candidate(weighting.lookahead_reweight(), num_clean=2, max_ratio=0.0),
        },
    )


def test_interleave_rotates_and_drops_the_warm_up():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = benchmarks.interleave(functions, rounds=2, warm_up=1)
    assert "".join(calls) == "abcbcacab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratio_is_paired_within_rounds():
    assert benchmarks.paired_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == (2.0, 2.0, 2.5)


def test_records_of_a_tiny_table():
    records = benchmarks.measure(tiny_table(), rounds=2, warm_up=1)
    assert [record["reference"] for record in records] == ["value_and_grad"] * 2 + ["uniform"]
    assert records[0]["ratio"] == 1.0
    assert all(record["median_ms"] > 0 and record["flops"] > 0 for record in records)
    text = benchmarks.format_records(records)
    assert "FLOP <= 1.50: met" in text
    assert "time <= 0.00: missed" in text


def test_main_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "tables", lambda: [tiny_table()])
    benchmarks.main(quick=True, out=tmp_path / "benchmarks.json")
    written = json.loads((tmp_path / "benchmarks.json").read_text())
    assert written["rounds"] == 2
    assert written["machine"]["packages"]["jax"]
    assert written["tables"][0]["records"][2]["num_clean"] == 2
    assert "tiny" in capsys.readouterr().out


def test_operation_counts_on_lenet5():
    plain = lenet_flops(None)
    assert lenet_flops(weighting.uniform()) == pytest.approx(plain, rel=1e-4)
    # A pass over the parameters' tangents multiplies twice per layer (x dW and dx W), so lookahead
    # costs at most 3 + 2 forward passes of the batch and 3 of the clean one; 2 % for the rest.
    num_clean, batch_size = 10, 100
    bound = (5 + 3 * num_clean / batch_size) / 3
    lookahead = lenet_flops(weighting.lookahead_reweight(), num_clean, batch_size)
    assert lookahead <= 1.02 * bound * plain
