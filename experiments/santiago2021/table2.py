"""Table 2 and Figure 8: CIFAR-10 and CIFAR-100 with DenseNet-BC and WRN-28-2.

The paper (Sec. 4.2): DenseNet-BC with growth 12, 300 epochs, batches of 64, rate 0.1 divided by ten
after 150 and 225 epochs; WRN-28-2, 100 epochs, batches of 128, rate 0.1 times 0.2 after 30 and 60;
crops and horizontal flips. The weight decay is that of the papers it follows, 1e-4 and 5e-4. LOW is
the best of lambda = 1, 0.5, 0.1, 0.01. Settings are chosen here on 5,000 held-out images. The
paper's MentorNet was pre-trained on noisy CIFAR-10; ours learns its curriculum beforehand.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import TaskConfig
from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import Entry, not_run, of_table
from experiments.reporting.page import Page, Picture
from experiments.reporting.rows import Row, rows_as_json, rows_table
from experiments.santiago2021 import pictures
from experiments.santiago2021.claims import GPU, FinishedArms, best_setting, final_errors
from experiments.santiago2021.methods import COMPARED_METHODS, PAPER_LAMBDAS, method_arms
from experiments.santiago2021.pictures import DrawnRun
from experiments.santiago2021.printed import TEST_ERRORS, without_intervals
from experiments.santiago2021.report import error_lines, error_rows
from experiments.training.config import RunConfig
from experiments.training.result import is_finished, load_result

ITEMS = {
    "Table 2": "test error on CIFAR-10 and CIFAR-100",
    "Figure 8": "CIFAR-10 and CIFAR-100, DenseNet-BC: test error along training and at the end",
}
_MEASURE = "accuracy"
_METHODS = ("normal", "focal", "self_paced", "importance_sampling", "mentornet", "low")
_TITLES = {
    "densenet_bc": "DenseNet-BC",
    "wrn28_2": "WRN-28-2",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
_EPOCH = {"densenet_bc": 45_000 // 64, "wrn28_2": 45_000 // 128}  # steps


def _paper(network: str, data: str) -> RunConfig:
    epoch = _EPOCH[network]
    dense = network == "densenet_bc"
    drops = (150, 225) if dense else (30, 60)
    steps = ",".join(str(drop * epoch) for drop in drops)
    epochs = 300 if dense else 100
    return RunConfig(
        task=TaskConfig(data, num_clean=0, num_validation=5000),
        model=network,
        augmentation="crop:4+flip",
        learning_rate=0.1,
        schedule=f"drops:{steps}:{0.1 if dense else 0.2}",
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4 if dense else 5e-4,
        batch_size=64 if dense else 128,
        num_steps=epochs * epoch,
        num_evals=epochs,
        seeds=5,
    )


class _Column(NamedTuple):
    """A network on a data set, in the place of a column of the table."""

    network: str
    data: str
    tag: str  # the end of the names of its arms and its picture
    base: RunConfig

    @property
    def key(self) -> tuple[str, str]:
        return self.network, self.data

    def arm(self, method: str) -> str:
        return f"{method}_{self.tag}"


def _columns(preset: str) -> list[_Column]:
    if preset == "paper":
        return [_Column(*key, "_".join(key), _paper(*key)) for key in TEST_ERRORS]
    if preset == "cpu":
        task = TaskConfig("cifar10", num_clean=0, num_validation=2000, num_train=5000)
        base = RunConfig(task=task, model="lenet5", learning_rate=0.03, nesterov=True)
        augmentation = "crop:4+flip+standardize:cifar10"  # LeNet-5 has no batch norm
        base = replace(base, augmentation=augmentation, weight_decay=5e-4, batch_size=128)
        base = replace(base, num_steps=30 * 39, num_evals=15, seeds=3)
    else:
        task = TaskConfig("digits", num_clean=0, num_validation=200)
        base = RunConfig(task=task, model="mlp:32", learning_rate=0.05, nesterov=True)
        base = replace(base, num_steps=5 * 19, num_evals=5, seeds=2)
    return [_Column("wrn28_2", "cifar10", "small_cifar10", base)]


def _arms(preset: str) -> Arms:
    names = ("normal", "mentornet", "low") if preset == "smoke" else _METHODS
    return {
        column.arm(name): configs
        for column in _columns(preset)
        for name, configs in method_arms(column.base, names, PAPER_LAMBDAS).items()
    }


def _finished_methods(folder: Path, column: _Column) -> FinishedArms:
    """The finished arms of a column, by method."""
    paths = {name: folder / column.arm(name) for name in _METHODS}
    return {name: load_result(path) for name, path in paths.items() if is_finished(path)}


def _end(found: FinishedArms, arm: str) -> np.ndarray:
    return final_errors(found[arm], best_setting(found[arm], _MEASURE))


_CHANCE = "at this rate some of SPL's runs stay at chance (errors.csv)"
_PRESAMPLE = "while its gate is shut IS learns from its whole presample, three batches a step"
_UNDERFITTED = "the small network is underfitted: LOW's training error, too, is above Normal's"
_THREE_SEEDS = "with three seeds the interval of the difference holds zero"
_CAUSES = {  # why our numbers differ, by network and method
    "densenet_bc": {},
    "wrn28_2": {
        "Normal": _THREE_SEEDS,
        "FL": _THREE_SEEDS,
        "SPL": _CHANCE,
        "IS": _PRESAMPLE,
        "MentorNet": _THREE_SEEDS,
        "LOW": _UNDERFITTED,
    },
}


def _lower_than(arm: str) -> Callable[[FinishedArms], np.ndarray]:
    return lambda found: _end(found, "low") < _end(found, arm)


def _is_steadier(found: FinishedArms) -> np.ndarray:
    return np.array([np.std(_end(found, "low")) < np.std(_end(found, "normal"))])


def _claims(data: str) -> list[Claim]:
    """What the paper says of Figure 8, of one of the two data sets."""
    rivals = ("focal", "self_paced", "importance_sampling", "mentornet")
    if data == "cifar100":
        rivals = ("normal", *rivals)
    found = [
        Claim(
            f"{_TITLES[data]}: LOW has a lower test error than {COMPARED_METHODS[arm].label}",
            "Figure 8",
            "Fig. 8",
            _lower_than(arm),
            _PRESAMPLE if arm == "importance_sampling" else _UNDERFITTED,
            ("low", arm),
        )
        for arm in rivals
    ]
    if data == "cifar10":
        found.append(
            Claim(
                f"{_TITLES[data]}: LOW's errors have a smaller standard deviation than Normal's "
                "(asked once)",
                "Figure 8",
                "Fig. 8",
                _is_steadier,
                needs=("low", "normal"),
            )
        )
    return found


def _column_entries(
    key: tuple[str, str],
    printed: Mapping[str, float],
    ours: Mapping[str, np.ndarray],
    *,
    same_setting: bool = False,
    missing: str = "",
) -> list[Entry]:
    network, data = key
    return of_table(
        "Table 2",
        without_intervals(printed),
        ours,
        reference="Normal",
        same_setting=same_setting,
        quantity=f"{_TITLES[network]}, {_TITLES[data]}, test error %",
        missing=missing,
        causes=_CAUSES[network],
    )


def _numbers(column: _Column, found: FinishedArms, *, same_setting: bool) -> list[Entry]:
    """The entries of the finished methods, if Normal is, with which they are compared."""
    if "normal" not in found:
        return []
    ours = {COMPARED_METHODS[arm].label: _end(found, arm) for arm in found}
    printed = {label: value for label, value in TEST_ERRORS[column.key].items() if label in ours}
    return _column_entries(column.key, printed, ours, same_setting=same_setting)


def _picture(column: _Column, found: FinishedArms, preset: str, name: str) -> Picture:
    runs = []
    for arm, result in found.items():
        label = COMPARED_METHODS[arm].label
        runs.append(DrawnRun(label, result, best_setting(result, _MEASURE), label))
    title = f"Test error, {name}; settings chosen on validation data"
    figure = pictures.curves_and_final_errors(runs, title=title)
    if preset == "paper" and column.network == "wrn28_2":
        return Picture(f"table2_{column.tag}", figure, "Table 2")
    return Picture(f"figure8_{column.tag}", figure, "Figure 8")


def _present(folder: Path, preset: str) -> Page:
    rows: list[Row] = []
    claims, numbers, drawn, found = [], [], [], {}
    is_paper = preset == "paper"
    for column in _columns(preset):
        own = _finished_methods(folder, column)
        if not own:
            continue
        found |= {column.arm(method): result for method, result in own.items()}
        name = f"{column.base.model}, {column.base.task.dataset}"
        rows += [row._replace(method=f"{name}: {row.method}") for row in error_rows(own, _MEASURE)]
        numbers += _numbers(column, own, same_setting=is_paper)
        drawn.append(_picture(column, own, preset, name))
        if column.network == "densenet_bc" or not is_paper:  # Figure 8 is about DenseNet-BC
            claims += answers(_claims(column.data), own)
    title = "Test error at the end; settings chosen on validation data"
    return Page(
        tables=[rows_table(title, "error %", rows)],
        claims=claims,
        numbers=numbers,
        figures=drawn,
        files={"errors.csv": error_lines(found, _MEASURE)},
        summary={"preset": preset, "rows": rows_as_json(rows)},
    )


_COMMAND = GPU.format(name="santiago2021.table2")
EXPERIMENT = Experiment(
    name="santiago2021.table2",
    summary="LOW on CIFAR-10 and CIFAR-100 against five methods",
    presets={
        "smoke": "scikit-learn digits, a small network, three of the methods, 2 seeds; some "
        "seconds",
        "cpu": "5,000 images of CIFAR-10, standardized, and LeNet-5 in the place of WRN-28-2, 30 "
        "epochs at a constant rate 0.03 (of 0.003, 0.01, 0.03 and 0.1 Normal's best accuracy on "
        "validation data, mean over three seeds), batches of 128, 3 seeds; half an hour",
        "paper": "DenseNet-BC (300 epochs) and WRN-28-2 (100) on CIFAR-10 and CIFAR-100, 5,000 "
        "validation images, 5 seeds; many days of a GPU",
    },
    arms=_arms,
    present=_present,
    items=ITEMS,
    printed=(
        *(
            entry
            for key, printed in TEST_ERRORS.items()
            for entry in _column_entries(key, printed, {}, missing=_COMMAND)
        ),
        *not_run([*_claims("cifar10"), *_claims("cifar100")], _COMMAND),
    ),
)
