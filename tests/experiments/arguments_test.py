"""The command line: help, listings, errors, and every command once on tiny settings."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.ren2018 import figure2
from experiments.reporting.rows import Row, choose, rows_table
from experiments.studies import demo
from experiments.training.result import load_result

TINY = [
    *("--dataset", "digits", "--noise", "uniform:0.4", "--model", "mlp:8"),
    *("--num-steps", "20", "--num-evals", "2", "--seeds", "2"),
    *("--num-validation", "60", "--num-test", "100"),
]


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("demo", "ren2018.figure2", "low", "lookahead", "uniform:RATE", "lenet5", "smoke"):
        assert name in text


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["train", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_train_and_report(capsys, tmp_path):
    folder = tmp_path / "run"
    command = ["train", *TINY, "--weighting", "lookahead", "--out", str(folder)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "test_accuracy" in text
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2
    final = [row["test_accuracy"] for row in rows if row["step"] == 20]
    assert np.isclose(np.mean(final), load_result(folder).history["test_accuracy"][0, :, -1].mean())
    assert {p.name for p in folder.glob("*.png")} == {
        "examples.png",
        "test_error.png",
        "weights.png",
        "weights_by_class.png",
    }
    assert main(["report", str(folder)]) == 0
    assert "test_accuracy" in capsys.readouterr().out
    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    "weighting",
    [
        "low:1:solver=osqp",
        "low:1:gradient=last_layer",
        "lookahead_unrolled:0.1:num_steps=2",
        "focal:gamma=1+clip:0.1:3+normalize_mean",
    ],
)
def test_train_with_other_schemes(weighting, capsys, tmp_path):
    assert main(["train", *TINY, "--weighting", weighting, "--out", str(tmp_path / "run")]) == 0


def test_choose_reads_validation_alone_and_avoids_diverged_runs(tmp_path):
    assert main(["train", *TINY, "--out", str(tmp_path / "run")]) == 0
    result = load_result(tmp_path / "run")
    history = dict(result.history)
    history["validation_accuracy"] = np.array(
        [[[0.1, 0.5]] * 2, [[0.1, 0.7]] * 2, [[0.1, np.nan]] * 2]
    )
    history["test_accuracy"] = np.array([[[0, 0.9]] * 2, [[0, 0.1]] * 2, [[0, 1.0]] * 2])
    changed = type(result)(**{**result.__dict__, "history": history})
    assert choose(changed, "accuracy") == 1


def test_table_by_hand():
    row = Row("method", (1.0, 2.0, 3.0), "lr 1", 0.5, {"AUC": None})
    text = str(rows_table("title", "error", [row]))
    assert "2.00" in text  # the mean
    assert "0.58" in text  # 1 / sqrt(3)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [demo.EXPERIMENT, figure2.EXPERIMENT])
def test_smoke_presets(experiment, capsys, tmp_path):
    folder = tmp_path / "out"
    assert main(["run", experiment.name, "--preset", "smoke", "--out", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "lookahead" in text
    assert list(folder.glob("*.png"))
    assert main(["report", str(folder)]) == 0
    assert main(["run", experiment.name, "--preset", "smoke", "--out", str(folder)]) == 1
