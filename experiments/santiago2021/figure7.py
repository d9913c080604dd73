"""Figure 7: the methods of Figure 3 on imbalanced MNIST.

The paper (Secs. 4.1.1, 5.1.2) ranks the digits at random in every run and keeps 6000 / 2^k images
of the k-th, 11,989 in all; the test set stays balanced. Held-out images, as imbalanced, choose the
settings here by balanced accuracy, and images of every class are as many as the smallest class
affords, so that there are some 10,000. An arm on all the digits is the yardstick of the paper's
"worse than with the full data".
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.data import TaskConfig
from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import not_run
from experiments.reporting.page import Page, Picture
from experiments.reporting.rows import rows_as_json, rows_table
from experiments.santiago2021 import pictures
from experiments.santiago2021.claims import (
    CHOICES,
    GPU,
    FinishedArms,
    best_setting,
    final_errors,
)
from experiments.santiago2021.methods import COMPARED_METHODS, RIVALS, method_arms
from experiments.santiago2021.mnist import MNIST_BASE, lambda_runs, rival_runs
from experiments.santiago2021.report import (
    METHOD_LABELS,
    error_lines,
    error_rows,
    finished_arms,
)

ITEMS = {"Figure 7": "imbalanced MNIST: training and test error, LOW against the other methods"}
_MEASURE = "balanced_accuracy"
_FULL = "full"  # the arm on balanced data
_COMPARED = ("normal", "low", *RIVALS)


def _arms(preset: str) -> Arms:
    task = replace(MNIST_BASE.task, imbalance="halving")
    names = _COMPARED
    if preset == "paper":
        base = replace(MNIST_BASE, task=task, num_steps=100 * 40)
        full = replace(MNIST_BASE, num_steps=100 * 226)
    elif preset == "cpu":
        task = replace(task, num_validation=5000)
        base = replace(MNIST_BASE, task=task, learning_rate=0.03, num_steps=16 * 38, num_evals=8)
        base = replace(base, seeds=3)
        full = replace(base, task=replace(task, imbalance="none"))
    else:
        task = TaskConfig("digits", imbalance="long_tail:20", num_clean=0, num_validation=300)
        base = replace(MNIST_BASE, task=task, model="mlp:32", learning_rate=0.05, batch_size=32)
        base = replace(base, num_steps=5 * 10, num_evals=5, seeds=2)
        full = replace(base, task=replace(task, imbalance="none"))
        names = ("normal", "low", "self_paced")
    return {**method_arms(base, names), _FULL: [full]}


def _end(found: FinishedArms, arm: str, split: str = "validation") -> np.ndarray:
    """Test error at the end [S] at the method's best setting."""
    measure = "accuracy" if split == "test" else _MEASURE
    return final_errors(found[arm], best_setting(found[arm], measure, split))


def _beats(arm: str, split: str) -> Callable[[FinishedArms], np.ndarray]:
    return lambda found: _end(found, "low", split) < _end(found, arm, split)


def _worse_than_full(arm: str) -> Callable[[FinishedArms], np.ndarray]:
    return lambda found: _end(found, arm) > _end(found, _FULL)


def _spreads_more(found: FinishedArms) -> np.ndarray:
    deviations = [np.std(_end(found, arm)) for arm in ("normal", "low")]
    return np.array([min(deviations) > np.std(_end(found, _FULL))])


_LARGER_BATCHES = "perhaps: IS sees three times as many images a step"
_CLAIMS = (
    *(
        Claim(
            f"imbalanced MNIST: LOW has a lower test error than {COMPARED_METHODS[arm].label}, "
            f"settings {way}",
            "Figure 7",
            "Fig. 7",
            _beats(arm, split),
            _LARGER_BATCHES if arm == "importance_sampling" else "",
            ("low", arm),
        )
        for way, split in CHOICES.items()
        for arm in ("normal", *RIVALS)
    ),
    *(
        Claim(
            f"{COMPARED_METHODS[arm].label} on imbalanced MNIST is worse than Normal on all of "
            "MNIST",
            "Figure 7",
            "Fig. 7",
            _worse_than_full(arm),
            needs=(arm, _FULL),
        )
        for arm in _COMPARED
    ),
    Claim(
        "standard deviation over the seeds, of Normal and of LOW, is larger than on all of MNIST "
        "(asked once)",
        "Figure 7",
        "Fig. 7",
        _spreads_more,
        needs=("normal", "low", _FULL),
    ),
)


def _pictures(found: FinishedArms) -> list[Picture]:
    runs = [*lambda_runs(found), *rival_runs(found, _MEASURE)]
    if not runs:
        return []
    task = runs[0].result.configs[0].task
    data = f"{task.dataset}, {task.imbalance}"
    test = f"Test error on {data}; FL, SPL and IS at settings chosen on validation data"
    training = f"Training on {data}: mean and standard deviation over the seeds"
    return [
        Picture("figure7_test", pictures.curves_and_final_errors(runs, title=test)),
        Picture("figure7_training", pictures.training_figure(runs, title=training)),
    ]


def _present(folder: Path, preset: str) -> Page:
    found = finished_arms(folder, _arms(preset))
    rows = error_rows(found, _MEASURE, {**METHOD_LABELS, _FULL: "Normal, all classes whole"})
    title = "Test error at the end, imbalanced training data; settings chosen on validation data"
    return Page(
        tables=[rows_table(title, "error %", rows)],
        claims=answers(_CLAIMS, found),
        figures=_pictures(found),
        files={"errors.csv": error_lines(found, _MEASURE)},
        summary={"preset": preset, "rows": rows_as_json(rows)},
    )


EXPERIMENT = Experiment(
    name="santiago2021.figure7",
    summary="LOW on imbalanced MNIST against normal training and other methods",
    presets={
        "smoke": "scikit-learn digits, a long tail 20 : 1, three of the methods, 2 seeds; some "
        "seconds",
        "cpu": "imbalanced MNIST, 9,900 training images, 16 epochs at rate 0.03 (not 100 at "
        "0.001; Normal's best on validation data), 5,000 validation images before imbalance, 3 "
        "seeds; half an hour",
        "paper": "imbalanced MNIST, LeNet-5, 100 epochs, 5 seeds; 2,000 images before imbalance "
        "kept for validation (the paper chose by test error); a GPU",
    },
    arms=_arms,
    present=_present,
    items=ITEMS,
    printed=not_run(_CLAIMS, GPU.format(name="santiago2021.figure7")),
)
