"""The comparison of methods and the difficulty measures: their statistics, files and figures."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr, ttest_rel
from sklearn.metrics import roc_auc_score

from experiments.__main__ import main
from experiments.data import TaskConfig
from experiments.reporting import plotting
from experiments.studies import comparison, difficulty
from experiments.studies.difficulty_scores import MEASURES
from experiments.training.config import RunConfig
from experiments.training.result import Result


def store_scores(folder, seed, is_constant=False):
    generator = np.random.default_rng(seed)
    scores = {name: generator.normal(size=50).astype(np.float32) for name in MEASURES}
    if is_constant:
        scores["class rarity"] = np.ones(50, np.float32)
    labels = generator.integers(0, 3, (2, 50))
    path = folder / f"seed{seed}.npz"
    np.savez(path, index=np.arange(50), label=labels[0], true_label=labels[1], **scores)
    return path, scores, labels[0] != labels[1]


def test_statistics_of_difficulty_are_scipy_and_scikit_learn(tmp_path):
    path, scores, is_corrupted = store_scores(tmp_path, 0, is_constant=True)
    correlations, aucs = difficulty._statistics(path)
    names = list(MEASURES)
    for i, j in ((0, 1), (3, 9), (4, 4)):
        expected = spearmanr(scores[names[i]], scores[names[j]]).statistic
        assert np.isclose(correlations[i, j], expected)
    rarity = names.index("class rarity")
    assert np.isnan(correlations[rarity, 0])
    assert np.isclose(aucs[0], roc_auc_score(is_corrupted, scores[names[0]]))
    assert aucs[rarity] == 0.5


def stored(values):
    """A result of one configuration with these test accuracies, one per seed."""
    seeds = len(values)
    config = RunConfig(TaskConfig(), num_steps=2, num_evals=1, seeds=seeds)
    history = {
        "test_accuracy": np.array(values)[None, :, None],
        "validation_accuracy": np.array(values)[None, :, None],
        "corruption_auc": np.full((1, seeds, 1), np.nan),
    }
    empty = np.zeros((seeds, 1))
    return Result((config,), history, empty, empty, empty, 0.0)


def test_intervals_are_those_of_the_paired_t_test(monkeypatch, tmp_path):
    accuracies = {"uniform": [0.8, 0.85, 0.78, 0.9], "low": [0.83, 0.86, 0.83, 0.93]}
    results = {name: stored(values) for name, values in accuracies.items()}
    tuned = replace(results["uniform"].configs[0], fine_tune_steps=1)  # the baseline's arm
    results["uniform"] = replace(results["uniform"], configs=(tuned,))
    monkeypatch.setattr(comparison, "METHODS", {name: None for name in accuracies})
    monkeypatch.setattr(comparison, "load_result", lambda folder: results[folder.name])
    cell = comparison._cells(tmp_path, "clean")["low"]
    interval = ttest_rel(accuracies["uniform"], accuracies["low"]).confidence_interval(0.95)
    assert np.isclose(cell.difference - cell.half_width, 100 * interval.low)
    assert np.isclose(cell.difference + cell.half_width, 100 * interval.high)
    assert cell.verdict == "better"


def test_differences_are_drawn_in_order_and_coloured_if_sure():
    panel = {"a": (5.0, 1.0), "b": (-2.0, 1.0), "c": (0.5, 2.0)}
    figure = plotting.differences({"one": panel, "two": panel}, title="t")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "a"]
    colors = {
        line.get_ydata()[0]: line.get_color() for line in axes.lines if len(line.get_ydata()) == 1
    }
    assert len({colors[0], colors[1], colors[2]}) == 3


def test_correlation_matrix_shows_every_number():
    figure = plotting.correlation_matrix(
        np.array([[1, -0.5], [-0.5, np.nan]]), ["a", "b"], title="t"
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "-50", "-50"]


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_the_comparison_runs(monkeypatch, tmp_path, capsys):
    few = (
        *("uniform", "low", "make_co_teaching_step", "rho_loss"),
        *("with_noise_layer:start=confusion", "active_bias:form=threshold"),
    )
    monkeypatch.setattr(comparison, "METHODS", {m: comparison.METHODS[m] for m in few})
    folder = tmp_path / "out"
    assert main(["run", "comparison", "--preset", "smoke", "--out", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "uniform + fine-tuning" in text
    assert "long tail, 20 : 1, worse than ERM" in text
    rows = read_csv(folder / "comparison.csv")
    assert len(rows) == 4 * (len(few) + 2)
    assert len(read_csv(folder / "variants.csv")) == 4 * 2 * len(few)
    assert (folder / "differences.png").exists()
    assert main(["report", str(folder)]) == 0


@pytest.mark.slow
def test_difficulty_runs_and_resumes(tmp_path, capsys):
    folder = tmp_path / "out"
    arguments = ["run", "difficulty", "--preset", "smoke", "--out", str(folder)]
    assert main(arguments) == 0
    assert "K-fold error" in capsys.readouterr().out
    files = {path: path.read_bytes() for path in folder.rglob("seed*")}
    assert len(files) == 3 * 2 + 3
    (folder / "noise" / "seed1.npz").unlink()
    assert main([*arguments, "--resume"]) == 0
    again = np.load(folder / "noise" / "seed1.npz")
    assert all(np.all(np.isfinite(again[name])) for name in MEASURES)
    for path, content in files.items():
        if path.name != "seed1.npz":
            assert path.read_bytes() == content


@pytest.mark.slow
def test_sensitivity_runs(tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["run", "sensitivity", "--preset", "smoke", "--out", str(folder)]) == 0
    assert "rank correlation" in capsys.readouterr().out
    rows = read_csv(folder / "sensitivity.csv")
    assert len(rows) == 3 * 2 * 3 * 3 * 2 * 2  # losses, pairs, sizes, decays, budgets, seeds
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["all"]["rank_correlation"] > 0.7
    assert main(["report", str(folder)]) == 0
