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
from experiments.reporting.claims import Claim, not_run, statements_of
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import stored_statements
from experiments.reporting.plotting import save
from experiments.santiago2021 import pictures
from experiments.santiago2021.claims import CHOICES, GPU, PAPER, Found, best, final_error
from experiments.santiago2021.methods import BASELINES, METHODS, method_arms
from experiments.santiago2021.mnist import BASE, baseline_runs, lambda_runs
from experiments.santiago2021.report import conclude, finished, rows_of, write_errors

ITEMS = {"Figure 7": "imbalanced MNIST: training and test error, LOW against the other methods"}
MEASURE = "balanced_accuracy"
FULL = "full"  # the arm on balanced data
_RIVALS = {"normal": "Normal", **BASELINES}
_COMPARED = ("normal", "low", *BASELINES)


def _arms(preset: str) -> Arms:
    task = replace(BASE.task, imbalance="halving")
    names = _COMPARED
    if preset == "paper":
        base = replace(BASE, task=task, num_steps=100 * 40)
        full = replace(BASE, num_steps=100 * 226)
    elif preset == "cpu":
        task = replace(task, num_validation=5000)
        base = replace(BASE, task=task, learning_rate=0.03, num_steps=16 * 38, num_evals=8)
        base = replace(base, seeds=3)
        full = replace(base, task=replace(task, imbalance="none"))
    else:
        task = TaskConfig("digits", imbalance="long_tail:20", num_clean=0, num_validation=300)
        base = replace(BASE, task=task, model="mlp:32", learning_rate=0.05, batch_size=32)
        base = replace(base, num_steps=5 * 10, num_evals=5, seeds=2)
        full = replace(base, task=replace(task, imbalance="none"))
        names = ("normal", "low", "self_paced")
    return {**method_arms(base, names), FULL: [full]}


def _end(found: Found, arm: str, split: str = "validation") -> np.ndarray:
    """Test error at the end [S] at the method's best setting."""
    measure = "accuracy" if split == "test" else MEASURE
    return final_error(found[arm], best(found[arm], measure, split))


def _beats(arm: str, split: str) -> Callable[[Found], np.ndarray]:
    return lambda found: _end(found, "low", split) < _end(found, arm, split)


def _worse_than_full(arm: str) -> Callable[[Found], np.ndarray]:
    return lambda found: _end(found, arm) > _end(found, FULL)


def _spreads_more(found: Found) -> np.ndarray:
    deviations = [np.std(_end(found, arm)) for arm in ("normal", "low")]
    return np.array([min(deviations) > np.std(_end(found, FULL))])


CLAIMS = (
    *(
        Claim(
            f"imbalanced MNIST: LOW has a lower test error than {name}, settings {way}",
            "Fig. 7",
            ("low", arm),
            _beats(arm, split),
        )
        for way, split in CHOICES.items()
        for arm, name in _RIVALS.items()
    ),
    *(
        Claim(
            f"{METHODS[arm].label} on imbalanced MNIST is worse than Normal on all of MNIST",
            "Fig. 7",
            (arm, FULL),
            _worse_than_full(arm),
        )
        for arm in _COMPARED
    ),
    Claim(
        "standard deviation over the seeds, of Normal and of LOW, is larger than on all of MNIST "
        "(asked once)",
        "Fig. 7",
        ("normal", "low", FULL),
        _spreads_more,
    ),
)


def _draw(folder: Path, found: Found) -> None:
    runs = {**lambda_runs(found), **baseline_runs(found, MEASURE)}
    if not runs:
        return
    task = next(iter(runs.values()))[0].configs[0].task
    data = f"{task.dataset}, {task.imbalance}"
    title = f"Test error on {data}; FL, SPL and IS at settings chosen on validation data"
    save(pictures.test_curves_and_distribution(runs, title=title), folder / "figure7_test.png")
    title = f"Training on {data}: mean and standard deviation over the seeds"
    save(pictures.training_curves(runs, title=title), folder / "figure7_training.png")


def _present(folder: Path, preset: str) -> str:
    found = finished(folder, _arms(preset))
    labels = {name: method.label for name, method in METHODS.items()}
    rows = rows_of(found, MEASURE, {**labels, FULL: "Normal, all classes whole"})
    write_errors(folder, found, MEASURE)
    _draw(folder, found)
    statements = statements_of(PAPER, CLAIMS, found)
    title = "Test error at the end, imbalanced training data; settings chosen on validation data"
    return conclude(folder, preset, title, "error %", rows, statements)


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
    printed=not_run(PAPER, CLAIMS, ITEMS, GPU.format(name="santiago2021.figure7")),
    entries=stored_statements(PAPER, ITEMS),
    causes={"than IS": "perhaps: IS sees three times as many images a step"},
)
