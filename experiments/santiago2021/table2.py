"""Table 2 and Figure 8: CIFAR-10 and CIFAR-100 with DenseNet-BC and WRN-28-2.

The paper (Sec. 4.2): DenseNet-BC with growth 12, 300 epochs, batches of 64, rate 0.1 divided by ten
after 150 and 225 epochs; WRN-28-2, 100 epochs, batches of 128, rate 0.1 times 0.2 after 30 and 60;
crops and horizontal flips. The weight decay is that of the papers it follows, 1e-4 and 5e-4. LOW is
the best of lambda = 1, 0.5, 0.1, 0.01. Settings are chosen here on 5,000 held-out images. The
paper's MentorNet was pre-trained on noisy CIFAR-10; ours learns its curriculum beforehand.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.data import TaskConfig
from experiments.reporting.claims import Claim, not_run, statements_of
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import Entry, of_statements, of_table
from experiments.reporting.plotting import Runs, save
from experiments.santiago2021 import pictures
from experiments.santiago2021.claims import GPU, PAPER, Found, best, final_error
from experiments.santiago2021.methods import METHODS, PAPER_LAMBDAS, method_arms
from experiments.santiago2021.printed import TEST_ERRORS, column
from experiments.santiago2021.report import conclude, finished, rows_of, write_errors
from experiments.training.config import RunConfig

ITEMS = {
    "Table 2": "test error on CIFAR-10 and CIFAR-100",
    "Figure 8": "CIFAR-10 and CIFAR-100, DenseNet-BC: test error along training and at the end",
}
MEASURE = "accuracy"
NAMES = ("normal", "focal", "self_paced", "importance_sampling", "mentornet", "low")
_TITLES = {
    "densenet_bc": "DenseNet-BC",
    "wrn28_2": "WRN-28-2",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
# The column of the table that a small network stands in for, and the tag of its arms.
_STAND_IN = ("wrn28_2", "cifar10")
_SMALL = "small_cifar10"
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


def _arms(preset: str) -> Arms:
    if preset == "paper":
        bases = {f"{network}_{data}": _paper(network, data) for network, data in TEST_ERRORS}
    elif preset == "cpu":
        task = TaskConfig("cifar10", num_clean=0, num_validation=2000, num_train=5000)
        base = RunConfig(task=task, model="lenet5", learning_rate=0.03, nesterov=True)
        augmentation = "crop:4+flip+standardize:cifar10"  # LeNet-5 has no batch norm
        base = replace(base, augmentation=augmentation, weight_decay=5e-4, batch_size=128)
        bases = {_SMALL: replace(base, num_steps=30 * 39, num_evals=15, seeds=3)}
    else:
        task = TaskConfig("digits", num_clean=0, num_validation=200)
        base = RunConfig(task=task, model="mlp:32", learning_rate=0.05, nesterov=True)
        base = replace(base, num_steps=5 * 19, num_evals=5, seeds=2)
        bases = {_SMALL: base}
    names = ("normal", "mentornet", "low") if preset == "smoke" else NAMES
    return {
        arm: configs
        for tag, base in bases.items()
        for arm, configs in method_arms(base, names, f"_{tag}", lambdas=PAPER_LAMBDAS).items()
    }


def _of(found: Found, tag: str) -> Found:
    """The arms of one network and data set, by method."""
    ending = f"_{tag}"
    return {arm.removesuffix(ending): r for arm, r in found.items() if arm.endswith(ending)}


def _columns(found: Found) -> dict[tuple[str, str], Found]:
    """The finished arms of every column; the small network stands in for one of them."""
    columns = {key: _of(found, "_".join(key)) for key in TEST_ERRORS}
    small = _of(found, _SMALL)
    if small:
        columns[_STAND_IN] = small
    return {key: own for key, own in columns.items() if own}


def _end(found: Found, arm: str) -> np.ndarray:
    return final_error(found[arm], best(found[arm], MEASURE))


def _claims(data: str) -> tuple[Claim, ...]:
    def below(arm: str) -> Callable[[Found], np.ndarray]:
        return lambda found: _end(found, "low") < _end(found, arm)

    def steadier(found: Found) -> np.ndarray:
        return np.array([np.std(_end(found, "low")) < np.std(_end(found, "normal"))])

    title = _TITLES[data]
    rivals = NAMES[:-1] if data == "cifar100" else NAMES[1:-1]
    claims = [
        Claim(
            f"{title}: LOW has a lower test error than {METHODS[arm].label}",
            "Fig. 8",
            ("low", arm),
            below(arm),
        )
        for arm in rivals
    ]
    if data == "cifar10":
        text = f"{title}: LOW's errors have a smaller standard deviation than Normal's (asked once)"
        claims.append(Claim(text, "Fig. 8", ("low", "normal"), steadier))
    return tuple(claims)


CLAIMS = {data: _claims(data) for data in ("cifar10", "cifar100")}


def _quantity(network: str, data: str) -> str:
    return f"{_TITLES[network]}, {_TITLES[data]}, test error %"


def _table(errors: dict, *, same_setting: bool, missing: str) -> list[Entry]:
    """Entries of all columns; `errors` are {(network, data): {method: [S]}}."""
    entries = []
    for (network, data), printed in TEST_ERRORS.items():
        ours = errors.get((network, data), {})
        if ours and "Normal" not in ours:
            continue  # nothing to compare with
        entries += of_table(
            "Table 2",
            column(printed),
            ours,
            reference="Normal",
            same_setting=same_setting,
            quantity=_quantity(network, data),
            missing=missing,
        )
    return entries


def _present(folder: Path, preset: str) -> str:
    found = finished(folder, _arms(preset))
    write_errors(folder, found, MEASURE)
    rows, statements = [], []
    for (network, data), own in _columns(found).items():
        config = next(iter(own.values())).configs[0]
        name = f"{config.model}, {config.task.dataset}"
        rows += [row._replace(method=f"{name}: {row.method}") for row in rows_of(own, MEASURE)]
        runs: Runs = {METHODS[arm].label: (r, best(r, MEASURE)) for arm, r in own.items()}
        title = f"Test error, {name}; settings chosen on validation data"
        item = "table2" if preset == "paper" and network == "wrn28_2" else "figure8"
        place = network if preset == "paper" else "small"
        path = folder / f"{item}_{place}_{data}.png"
        save(pictures.test_curves_and_distribution(runs, title=title), path)
        if network == "densenet_bc" or preset != "paper":
            statements += statements_of(PAPER, CLAIMS[data], own)
    title = "Test error at the end; settings chosen on validation data"
    return conclude(folder, preset, title, "error %", rows, statements)


def _entries(folder: Path, preset: str) -> list[Entry]:
    found = finished(folder, _arms(preset))
    errors = {
        key: {METHODS[arm].label: _end(own, arm) for arm in own}
        for key, own in _columns(found).items()
    }
    table = _table(errors, same_setting=preset == "paper", missing="")
    stored = json.loads((folder / "summary.json").read_text())["statements"]
    return [e for e in table if e.ours] + of_statements(stored, PAPER, ITEMS)


_CHANCE = "at this rate some of SPL's runs stay at chance (errors.csv)"
_PRESAMPLE = "while its gate is shut IS learns from its whole presample, three batches a step"
_UNDERFITTED = "the small network is underfitted: LOW's training error, too, is above Normal's"
_CAUSES = {
    "IS: WRN": _PRESAMPLE,
    "than IS": _PRESAMPLE,
    "SPL: WRN": _CHANCE,
    "LOW: WRN": _UNDERFITTED,
    "LOW has a lower": _UNDERFITTED,
    ": WRN": "with three seeds the interval of the difference holds zero",
}
_CAUSE = GPU.format(name="santiago2021.table2")
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
        *_table({}, same_setting=True, missing=_CAUSE),
        *not_run(PAPER, [claim for claims in CLAIMS.values() for claim in claims], ITEMS, _CAUSE),
    ),
    entries=_entries,
    causes=_CAUSES,
)
