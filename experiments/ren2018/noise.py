"""The experiments with wrong labels (Sec. 4.2): methods, settings, arms, and reading them back.

A method is trained with every trial's seed, noise and batches. Early stopping (+ES) is the paper's:
a schedule three quarters as long, whose second drop comes earlier. Fine-tuning (+FT) goes on from
the network just trained, on the clean images alone, at the learning rate the training ended with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.experiment import Arms
from experiments.reporting.method_rows import last_evaluation
from experiments.training.config import RunConfig
from experiments.training.result import Result, is_finished, load_result
from experiments.training.schedule import parse_schedule

LABELS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST", "digits": "digits"}


class NoiseMethod(NamedTuple):
    """A row of a table, and the row after fine-tuning."""

    row: str
    tuned_row: str
    changes: Mapping[str, Any]  # of a training's configuration
    stops_early: bool = False
    is_clean_only: bool = False  # learns from the clean images alone


_CONFUSION = {"procedure": "with_noise_layer:start=confusion"}
NOISE_METHODS = {
    "baseline": NoiseMethod("BASELINE", "", {}),  # kept as it is when trained, for Figure 6
    "baseline_ft": NoiseMethod("BASELINE", "BASELINE +FT", {}),
    "baseline_es": NoiseMethod("BASELINE +ES", "BASELINE +ES +FT", {}, stops_early=True),
    "random": NoiseMethod("RANDOM", "RANDOM +FT", {"weighting": "random"}),
    "weighted": NoiseMethod("WEIGHTED", "WEIGHTED +FT", {"weighting": "oracle_noise"}),
    "reed_hard": NoiseMethod("REED-HARD", "", {"loss": "bootstrap_hard:0.8"}),
    # As in the released code, which is what the paper's numbers are of; and as published by Reed.
    "reed_soft_es": NoiseMethod(
        "REED SOFT +ES", "", {"loss": "bootstrap_soft:0.95:target=constant"}, stops_early=True
    ),
    "reed_soft_published_es": NoiseMethod(
        "REED SOFT +ES, published", "", {"loss": "bootstrap_soft:0.95"}, stops_early=True
    ),
    "reed_hard_es": NoiseMethod("REED HARD +ES", "", {"loss": "bootstrap_hard:0.8"}, True),
    "s_model": NoiseMethod("S-MODEL", "", {"procedure": "with_noise_layer"}),
    "s_model_conf": NoiseMethod("S-MODEL +CONF", "S-MODEL +CONF +FT", _CONFUSION),
    "s_model_conf_es": NoiseMethod("S-MODEL +CONF +ES", "S-MODEL +CONF +ES +FT", _CONFUSION, True),
    "mentornet": NoiseMethod("MENTORNET", "MENTORNET +FT", {"weighting": "mentornet:0.6"}),
    "clean_only": NoiseMethod("CLEAN ONLY", "", {}, is_clean_only=True),
    "ours": NoiseMethod("OURS", "", {"weighting": "lookahead"}),
}


class NoiseSetting(NamedTuple):
    """How a data set is learned, but for the noise and the method."""

    base: RunConfig  # with the schedule of methods that do not stop early
    fine_tune_steps: int
    clean_only_steps: int
    num_trials: int
    fine_tune_learning_rate: float | None = None  # by default that at the end of training


def with_drops(config: RunConfig, num_steps: int, *shares: float) -> RunConfig:
    """The configuration with so many steps, whose learning rate drops tenfold at these shares.

    The number of evaluations follows that of the steps.
    """
    drops = ",".join(str(round(share * num_steps)) for share in shares)
    num_evals = config.num_evals * num_steps // config.num_steps
    return replace(config, num_steps=num_steps, num_evals=num_evals, schedule=f"drops:{drops}")


def stopped_early(config: RunConfig) -> RunConfig:
    """Stops a long schedule at three quarters; drops at one half and five eighths of the long one.

    That is 60K steps instead of 80K, with drops at 40K and 50K instead of 40K and 60K (Sec. 4.2).
    """
    return with_drops(config, config.num_steps * 3 // 4, 2 / 3, 5 / 6)


def configuration(
    method: NoiseMethod, setting: NoiseSetting, noise: str, *, tunes: bool
) -> RunConfig:
    """A method's configuration under a noise, with all seeds; `tunes`: then fine-tuned."""
    base = setting.base
    config = replace(base, task=replace(base.task, noise=noise), seeds=setting.num_trials)
    if method.is_clean_only:  # fine-tuning from scratch, at the learning rate of a training
        return replace(config, num_steps=0, fine_tune_steps=setting.clean_only_steps)
    config = replace(config, **method.changes)
    if method.stops_early:
        config = stopped_early(config)
    if tunes:
        rate, schedule = setting.fine_tune_learning_rate, parse_schedule(config.schedule)
        if rate is None:
            rate = config.learning_rate * schedule.factor ** len(schedule.drops)
        steps = setting.fine_tune_steps
        config = replace(config, fine_tune_steps=steps, fine_tune_learning_rate=rate)
    return config


class NoiseTable(NamedTuple):
    """A table as a preset makes it: one kind of noise, and all its rows."""

    item: str  # "Table 1"
    name: str  # of its files: "table1"
    noise: str  # "uniform:0.4" or "background:0.4"
    backgrounds: Mapping[str, Sequence[int]]  # data set -> the background class of each trial
    methods: Sequence[str]  # of NOISE_METHODS
    rows: Sequence[str]  # that are shown, in order
    settings: Mapping[str, NoiseSetting]  # by data set


def rows_made(methods: Sequence[str], rows: Sequence[str]) -> tuple[str, ...]:
    """Which of a table's rows the methods make."""
    chosen = [NOISE_METHODS[name] for name in methods]
    made = {row for method in chosen for row in (method.row, method.tuned_row)}
    return tuple(row for row in rows if row in made)


def table_arms(table: NoiseTable) -> Arms:
    """DATASET/METHOD, or DATASET/METHOD/TRIAL where every trial has its own background class."""
    return {
        arm: [config]
        for dataset in table.settings
        for arms in _trials(table, dataset).values()
        for arm, config in arms.items()
    }


def _trials(table: NoiseTable, dataset: str) -> dict[str, dict[str, RunConfig]]:
    """The arms of every method on a data set, one or one a trial."""
    setting, classes = table.settings[dataset], table.backgrounds.get(dataset, ())
    found = {}
    for name in table.methods:
        method, arm = NOISE_METHODS[name], f"{dataset}/{name}"
        tunes = method.tuned_row in table.rows
        if not classes:
            found[name] = {arm: configuration(method, setting, table.noise, tunes=tunes)}
            continue
        found[name] = {}
        for trial, background in enumerate(classes[: setting.num_trials]):
            noise = f"{table.noise}:{background}"
            config = configuration(method, setting, noise, tunes=tunes)
            found[name][f"{arm}/{trial}"] = replace(config, seeds=1, first_seed=trial)
    return found


def finished_trials(table: NoiseTable, folder: Path, dataset: str) -> dict[str, list[Path]]:
    """The folders of every method whose trials are all finished."""
    found = {name: [folder / arm for arm in arms] for name, arms in _trials(table, dataset).items()}
    return {name: paths for name, paths in found.items() if all(map(is_finished, paths))}


def trials_joined(table: NoiseTable, folder: Path, dataset: str) -> dict[str, Result]:
    """The results of the finished methods, the trials as seeds of one result."""
    return {
        name: joined([load_result(path) for path in paths])
        for name, paths in finished_trials(table, folder, dataset).items()
    }


def joined(results: Sequence[Result]) -> Result:
    """Runs with different seeds as one; the configurations are those of the first."""
    first = results[0]

    def over_seeds(name: str) -> np.ndarray:
        if name == "step":
            return first.history[name]
        return np.concatenate([result.history[name] for result in results], axis=1)

    return replace(
        first,
        history={name: over_seeds(name) for name in first.history},
        labels=np.concatenate([result.labels for result in results]),
        true_labels=np.concatenate([result.true_labels for result in results]),
        indices=np.concatenate([result.indices for result in results]),
    )


def row_accuracies(
    results: Mapping[str, Result], methods: Mapping[str, NoiseMethod], rows: Sequence[str]
) -> dict[str, np.ndarray]:
    """Test accuracies [S] in percent at the end of training, and after fine-tuning, by row.

    Args:
      results: by the method's name.
      methods: by the same names.
      rows: that are wanted, in order.
    """
    found: dict[str, np.ndarray] = {}
    for name, result in results.items():
        accuracy = 100 * result.history["test_accuracy"][0].astype(float)
        found[methods[name].row] = accuracy[:, last_evaluation(result)]
        if methods[name].tuned_row in rows:
            found[methods[name].tuned_row] = accuracy[:, -1]
    return {row: found[row] for row in rows if row in found}


def stopped_on_validation(result: Result) -> np.ndarray:
    """Test accuracies [S] in percent where each seed's accuracy on its validation set was best."""
    last = last_evaluation(result) + 1
    best = np.argmax(np.nan_to_num(result.history["validation_accuracy"][0, :, :last]), axis=1)
    accuracy = 100 * result.history["test_accuracy"][0].astype(float)
    return accuracy[np.arange(len(best)), best]


def fall_after_drop(result: Result) -> np.ndarray:
    """How far [S] validation accuracy fell from its best after the first drop, in points."""
    drop = parse_schedule(result.configs[0].schedule).drops[0]
    last = last_evaluation(result) + 1
    late = result.history["step"][:last] >= drop
    curve = 100 * result.history["validation_accuracy"][0, :, :last][:, late].astype(float)
    return curve.max(axis=1) - curve[:, -1]


def background_classes(result: Result) -> np.ndarray:
    """The class [S] that all wrong labels of a seed name."""
    pairs = zip(result.labels, result.true_labels, strict=True)
    return np.array([labels[labels != truth][0] for labels, truth in pairs])


def called_background(result: Result) -> np.ndarray:
    """Share [S] of the other classes' test images called background, mean over those classes."""
    shares = []
    for matrix, b in zip(result.history["confusion"][0], background_classes(result), strict=True):
        rates = matrix[:, b] / matrix.sum(axis=1)
        shares.append(np.delete(rates, b).mean())
    return np.array(shares)
