"""The main job: every method on real handwritten digits, under label noise and class imbalance.

Two problems on scikit-learn's digits, a small bias-free network, 10 seeds: 40 % of the training
labels flipped uniformly, and a long-tailed class distribution (20 : 1). Every method gets six
configurations (three learning rates by two values of its own parameter, or of the weight decay if
it has none) and the one with the best mean validation measure is reported on the test set, once.
The validation set is as noisy, or as imbalanced, as the training set: no method gets more clean
labels than the 50 trusted images, and the baselines get those as well, by fine-tuning.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data import TaskConfig
from experiments.explain import galleries, telescope_plots
from experiments.methods.procedures import CLEAN_ONLY
from experiments.methods.registry import SCHEMES
from experiments.methods.tuning import tried_by
from experiments.reporting import plotting
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.method_rows import last_evaluation, method_rows
from experiments.reporting.page import Page, Picture
from experiments.reporting.rows import Row, choose, rows_as_json, rows_table
from experiments.training.config import RunConfig
from experiments.training.driver import load_source
from experiments.training.result import Result, load_result

_RATES = (0.003, 0.01, 0.03)
_DECAYS = ({"weight_decay": 0.0}, {"weight_decay": 0.001})
_TUNED_CLEAN = (
    {"weight_decay": 0.0, "fine_tune_learning_rate": 0.003},
    {"weight_decay": 0.001, "fine_tune_learning_rate": 0.03},
)


_BASELINES = ("uniform", "random", "inverse_class_frequency")
_TUNED = ("focal", "self_paced", "top_losses", "low")
_CLEAN_STEPS = {"fine_tune_steps": 120}


class Shown(NamedTuple):
    """A row of the table: the changes to the base configuration, and its two variants."""

    changes: dict[str, Any]
    variants: Sequence[dict[str, Any]] = _DECAYS


def _tuned(name: str) -> Shown:
    return Shown({}, [{"weighting": spec} for spec in tried_by(SCHEMES[name])])


METHODS: dict[str, Shown] = (
    {name: Shown({"weighting": name} | _CLEAN_STEPS, _TUNED_CLEAN) for name in _BASELINES}
    | {name: _tuned(name) for name in _TUNED}
    | {"lookahead": Shown({"weighting": "lookahead"})}
    | {CLEAN_ONLY.name: Shown({"num_steps": 0} | _CLEAN_STEPS)}
)


class Problem(NamedTuple):
    """How the digits are spoiled, and what counts."""

    title: str
    task: TaskConfig
    measure: str
    heading: str


_DIGITS = TaskConfig(num_clean=50, num_validation=300, num_test=400)
PROBLEMS = {
    "noise": Problem(
        "40 % of the training labels are wrong",
        replace(_DIGITS, noise="uniform:0.4"),
        "accuracy",
        "error %",
    ),
    "long_tail": Problem(
        "long-tailed classes, 20 : 1",
        replace(_DIGITS, imbalance="long_tail:20"),
        "balanced_accuracy",
        "balanced error %",
    ),
}


def _arms(preset: str) -> Arms:
    sizes = {
        "smoke": {"num_steps": 48, "num_evals": 4, "seeds": 2},
        "cpu": {"num_steps": 600, "num_evals": 10, "seeds": 10},
        "paper": {"num_steps": 600, "num_evals": 10, "seeds": 20},
    }[preset]
    base = replace(RunConfig(model="mlp:64", batch_size=50, clean_batch_size=50), **sizes)
    return {
        f"{name}/{method}": [
            replace(base, task=problem.task, learning_rate=rate, **changes, **variant)
            for rate in _RATES
            for variant in variants
        ]
        for name, problem in PROBLEMS.items()
        for method, (changes, variants) in METHODS.items()
    }


def _rows(problem: Problem, results: dict[str, Result]) -> list[Row]:
    rows = [
        row
        for method, result in results.items()
        for row in method_rows(method, result, problem.measure, is_baseline=method in _BASELINES)
    ]
    return sorted(rows, key=lambda row: row.mean)


def _verdict(rows: Sequence[Row]) -> str:
    """Lookahead against ERM, seed by seed."""
    by_name = {row.name: row for row in rows}
    difference = np.subtract(by_name["uniform"].values, by_name["lookahead"].values)
    error = np.std(difference, ddof=1) / np.sqrt(len(difference))
    return (
        f"Lookahead's error is {difference.mean():.2f} points below ERM's "
        f"(standard error of the difference {error:.2f}, {len(difference)} paired seeds)."
    )


def _present(folder: Path, preset: str) -> Page:
    del preset
    tables, pictures, summary = [], [], {}
    for name, problem in PROBLEMS.items():
        results = {method: load_result(folder / name / method) for method in METHODS}
        rows = _rows(problem, results)
        summary[name] = rows_as_json(rows)
        tables.append(rows_table(problem.title, problem.heading, rows, _verdict(rows)))
        runs = {m: (r, choose(r, problem.measure, last_evaluation(r))) for m, r in results.items()}
        pictures += _pictures(name, problem, runs)
    note = "noise AUC: how well low weights find wrong labels (0.5 chance; near 0, high ones do)."
    return Page(tables, figures=pictures, notes=[note], summary=summary)


def _pictures(name: str, problem: Problem, runs: dict[str, tuple[Result, int]]) -> list[Picture]:
    trained = {m: run for m, run in runs.items() if run[0].configs[0].num_steps}
    title = f"{problem.title}\nbaselines end with fine-tuning"
    curves = plotting.test_error_curves(trained, measure=problem.measure, title=title)
    pictures = [Picture(f"{name}_test_error", curves)]
    if name == "noise":
        shown = ("lookahead", "low", "focal", "self_paced", "top_losses", "random")
        title = "Weights of clean and corrupted examples"
        weights = telescope_plots.weight_histograms({m: trained[m] for m in shown}, title=title)
        pictures.append(Picture("noise_weights", weights))
        for method in ("lookahead", "low"):
            result, h = runs[method]
            images = load_source(result.configs[h]).train.inputs
            title = f"Highest and lowest weights: {method}"
            grid = galleries.extreme_examples(result, h, 0, images, title=title)
            pictures.append(Picture(f"noise_examples_{method}", grid))
    else:
        shown = (
            "inverse_class_frequency",
            "lookahead",
            "low",
            "focal",
            "self_paced",
            "top_losses",
        )
        classes = {m: trained[m] for m in shown}
        figure = telescope_plots.weights_by_class(classes, title="Mean weight of each class")
        pictures.append(Picture(f"{name}_weights", figure))
    return pictures


EXPERIMENT = Experiment(
    name="demo",
    summary="every method on scikit-learn's digits, under label noise and class imbalance",
    presets={
        "smoke": "48 steps, 2 seeds; half a minute",
        "cpu": "600 steps, 10 seeds; under 2 minutes on 2 cores",
        "paper": "600 steps, 20 seeds; a few minutes",
    },
    arms=_arms,
    present=_present,
)
