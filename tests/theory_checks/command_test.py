"""The theory checks at reduced size, and that each fails when what it checks is wrong."""

import dataclasses
import json
import math

import pytest

from theory_checks import __main__ as command
from theory_checks.records import Check, Plot, Row
from theory_checks.ren2018 import metagradient
from theory_checks.santiago2021 import quadratic_program
from weighting import low_weights

SMALL_NETWORKS = (metagradient.MLP(2, "relu", True), metagradient.BatchNormNet())


@pytest.mark.parametrize(
    "run_check",
    [
        lambda: quadratic_program.linear_program(count=12),
        lambda: quadratic_program.float32_residual(count=60, num_timed=1),
        lambda: quadratic_program.consequences(count=30, size=8),
        lambda: quadratic_program.gradient_scale(),
        lambda: metagradient.normalization(num_points=3),
    ],
    ids=["linear_program", "float32_residual", "consequences", "gradient_scale", "normalization"],
)
def test_claim_holds(run_check):
    check = run_check()
    assert check.passed, check.report()
    assert check.control
    assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_projection_agrees_and_a_perturbed_solver_does_not(monkeypatch):
    monkeypatch.setattr(quadratic_program, "SIZES", (5, 16))
    monkeypatch.setattr(quadratic_program, "SLOW_SIZES", (5,))
    right = quadratic_program.projection(per_size=12, num_slow=6)
    assert right.passed, right.report()
    assert right.control
    monkeypatch.setattr(quadratic_program, "SLOW_SIZES", ())
    wrong = quadratic_program.projection(
        solve=lambda norms, lam: low_weights(norms, lam) * (1 + 1e-8), per_size=12
    )
    assert wrong.failing == [wrong.rows[0].quantity]


def test_scores_agree_and_perturbed_ones_do_not():
    right = metagradient.meta_gradient(networks=SMALL_NETWORKS)
    assert right.passed, right.report()
    assert right.control
    assert len(right.rows) == 7
    wrong = metagradient.meta_gradient(
        networks=SMALL_NETWORKS[:1], scores=lambda problem: metagradient.fast(problem) * (1 + 1e-5)
    )
    assert wrong.failing == [row.quantity for row in wrong.rows]


def test_check_passes_only_within_every_bound():
    check = Check("X", "a claim", "EXACT", (Row("near", 0.5, 1.0), Row("count", 0, 0)))
    assert check.passed
    assert check.worst_margin == 0.5
    for value in (1.5, math.nan, math.inf):
        failed = dataclasses.replace(check, rows=(*check.rows, Row("far", value, 1.0)))
        assert not failed.passed
        assert "FAILED" in failed.report()
    assert not dataclasses.replace(check, rows=(Row("count", 1, 0),)).passed
    assert dataclasses.replace(check, rows=(Row("reported", 9.0),)).passed
    with pytest.raises(ValueError, match="status is one of EXACT"):
        Check("X", "a claim", "TRUE", ())


def test_a_control_that_passes_fails_the_check():
    check = Check("X", "a claim", "EXACT", (Row("x", 0.5, 1.0),), control=(Row("x", 2.0, 1.0),))
    assert check.passed
    assert "control negative" in check.report()
    blind = dataclasses.replace(check, control=(Row("x", 0.5, 1.0),))
    assert not blind.passed
    assert "CONTROL PASSED" in blind.report()


def test_records_and_pages(monkeypatch, tmp_path, capsys):
    plot = Plot("t", "error", {"measured": ([1, 10], [0.1, 0.01])}, "xy")
    check = Check(
        "A-1", "a claim", "EXACT", (Row("x", math.inf, 1.0),), "smooth", erratum="No.", plot=plot
    )
    monkeypatch.setattr(command, "CHECKS", {"a": lambda preset: [check]})
    assert command.main(["--out", str(tmp_path)]) == 1
    assert "FAILED  A-1" in capsys.readouterr().out
    record = json.loads((tmp_path / "A-1.json").read_text())
    assert record["rows"] == [{"quantity": "x", "value": None, "bound": 1.0}]
    assert record["passed"] is False
    assert (tmp_path / "A-1.png").read_bytes().startswith(b"\x89PNG")
    assert "| A-1 | EXACT | **fails** | - | a claim |" in (tmp_path / "RESULTS.md").read_text()
    assert "- **A-1**: No." in (tmp_path / "ERRATA.md").read_text()


def test_command_line(monkeypatch, capsys):
    good = Check("G", "good", "EXACT", (Row("x", 0.0, 1.0),))
    bad = Check("B", "bad", "EXACT", (Row("x", 2.0, 1.0),))
    made = {"good": lambda preset: [good], "bad": lambda preset: [good, bad]}
    monkeypatch.setattr(command, "CHECKS", made)
    assert command.main(["good"]) == 0
    assert command.main(["--only", "good", "--preset", "smoke"]) == 0
    assert command.main([]) == 1
    assert "failed: B" in capsys.readouterr().out
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["good", "bad"]
    with pytest.raises(SystemExit):
        command.main(["better"])
