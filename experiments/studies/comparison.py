"""A fair table: every method under four conditions, with the same budget and the same tuning.

Every method trains the same network for as many steps on the same batches, and gets six
configurations: three learning rates by two values of its own parameter (of the weight decay if it
has none). The one with the best mean validation measure is reported on the test set, once; the
validation set is spoiled like the training set. Methods that start from a reference network, or
know the truth, say so in the table: their further cost and knowledge are not in the budget.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data import TaskConfig
from experiments.methods.context import Beyond
from experiments.methods.procedures import CLEAN_ONLY, PLAIN
from experiments.methods.registry import LOSSES, PROCEDURES, SAMPLERS, SCHEMES
from experiments.methods.tuning import tried_by, variants_of
from experiments.reporting import plotting
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.method_rows import FINE_TUNING, last_evaluation, method_rows
from experiments.reporting.page import Page, Picture
from experiments.reporting.rows import Row, rows_as_json
from experiments.tools.statistics import mean_interval
from experiments.tools.tables import Table
from experiments.training.config import RunConfig
from experiments.training.result import load_result

_RATES = (0.003, 0.01, 0.03)
_DECAYS = ({"weight_decay": 0.0}, {"weight_decay": 0.001})
_FINE_TUNED = (
    {"weight_decay": 0.0, "fine_tune_learning_rate": 0.003},
    {"weight_decay": 0.001, "fine_tune_learning_rate": 0.03},
)
BASELINE = "uniform"
_CLEAN_STEPS = {"fine_tune_steps": 120}
_CHAINED = {"mentornet_curriculum": "+deferred:0.2"}  # its quantile of losses means nothing before
# Losses that are meant to be combined with weights, beside each by itself.
_COMBINED = {
    "ldam": "inverse_class_frequency+deferred:0.5",
    "polynomial_tailed": "inverse_class_frequency",
}


class Compared(NamedTuple):
    """An arm: the changes to the base configuration, its two variants, and what it gets beyond."""

    changes: dict[str, Any]
    variants: Sequence[dict[str, Any]]
    beyond: Beyond = ""


def _of_schemes() -> dict[str, Compared]:
    found = {}
    for record in SCHEMES.values():
        if not record.is_compared:
            continue
        for name, choices in variants_of(record):
            chained = _CHAINED.get(record.name, "")
            specs = [spec + chained for spec in tried_by(record, choices)]
            found[name] = _arm("weighting", specs, record.beyond(choices))
    found[BASELINE] = Compared(_CLEAN_STEPS, _FINE_TUNED)
    return found


def _of_losses() -> dict[str, Compared]:
    found = {}
    for record in LOSSES.values():
        if not record.is_compared:
            continue
        for name, choices in variants_of(record):
            # Some losses share their name with a scheme.
            arm = _arm("loss", tried_by(record, choices), record.beyond(choices))
            found[f"losses.{name}"] = arm
            if name in _COMBINED:
                spec = _COMBINED[name]
                changes = arm.changes | {"weighting": spec}
                found[f"losses.{name} with {spec}"] = arm._replace(changes=changes)
    return found


def _of_procedures() -> dict[str, Compared]:
    found = {}
    for record in PROCEDURES.values():
        if record is PLAIN:
            continue
        for name, choices in variants_of(record):
            arm = _arm("weighting", tried_by(SCHEMES[record.tried_with]), record.beyond(choices))
            found[name] = arm._replace(changes=arm.changes | {"procedure": name})
    return found


def _arm(setting: str, specs: Sequence[str], beyond: Beyond) -> Compared:
    """The arm of a method's specifications: two if its budget varies them, else one."""
    if len(specs) == 1:
        return Compared({setting: specs[0]}, _DECAYS, beyond)
    return Compared({}, [{setting: spec} for spec in specs], beyond)


METHODS: dict[str, Compared] = (
    _of_schemes()
    | {CLEAN_ONLY.name: Compared({"num_steps": 0} | _CLEAN_STEPS, _DECAYS, "clean")}
    | {name: Compared({"sampler": name}, _DECAYS) for name in SAMPLERS}
    | _of_losses()
    | _of_procedures()
)


class Condition(NamedTuple):
    """How the training data are spoiled, and what counts."""

    title: str
    changes: dict
    measure: str = "accuracy"


CONDITIONS = {
    "clean": Condition("clean labels", {}),
    "noise": Condition("40 % wrong, uniform", {"noise": "uniform:0.4"}),
    "background": Condition("40 % called class 0", {"noise": "background:0.4"}),
    "long_tail": Condition("long tail, 20 : 1", {"imbalance": "long_tail:20"}, "balanced_accuracy"),
}

_DIGITS = TaskConfig(num_clean=50, num_validation=300, num_test=400)
_MNIST = TaskConfig("mnist", num_clean=50, num_validation=1000, num_train=2000)
_BASES = {
    "comparison": RunConfig(_DIGITS, model="mlp:64", batch_size=50, num_evals=2),
    "comparison.mnist": RunConfig(_MNIST, model="mlp:32", batch_size=50, num_evals=2),
}
_SIZES = {
    "comparison": {
        "smoke": {"num_steps": 40, "seeds": 2, "reference_steps": 20},
        "cpu": {"num_steps": 600, "num_evals": 6, "seeds": 5},
        "paper": {"num_steps": 600, "num_evals": 6, "seeds": 20},
    },
    "comparison.mnist": {
        "smoke": {"num_steps": 40, "seeds": 2, "reference_steps": 20},
        "cpu": {"num_steps": 400, "num_evals": 4, "seeds": 3},
        "paper": {"num_steps": 1000, "num_evals": 5, "seeds": 20},
    },
}


def _arms(name: str, preset: str) -> Arms:
    base = replace(_BASES[name], **_SIZES[name][preset])
    # Conditions of one method follow each other: three of them share what was compiled.
    return {
        f"{condition}/{method}": [
            replace(
                base,
                task=replace(base.task, **CONDITIONS[condition].changes),
                learning_rate=rate,
                **changes,
                **variant,
            )
            for rate in _RATES
            for variant in variants
        ]
        for method, (changes, variants, _) in METHODS.items()
        for condition in CONDITIONS
    }


class Cell(NamedTuple):
    """A method under a condition, against the baseline with the same seeds."""

    row: Row
    difference: float  # mean of the paired differences of the errors
    half_width: float  # of its 95 % interval, Student's t

    @property
    def verdict(self) -> str:
        """better or worse where the interval excludes zero."""
        if not abs(self.difference) > self.half_width:
            return ""
        return "better" if self.difference < 0 else "worse"


def _cells(folder: Path, condition: str) -> dict[str, Cell]:
    rows = {
        row.name: row
        for method in METHODS
        for row in method_rows(
            method,
            load_result(folder / condition / method),
            CONDITIONS[condition].measure,
            is_baseline=method == BASELINE,
        )
    }
    baseline = rows[BASELINE]
    cells = {}
    for name, row in rows.items():
        cells[name] = Cell(row, *mean_interval(np.subtract(row.values, baseline.values)))
    return cells


def _present(folder: Path, preset: str) -> Page:
    del preset
    table = {condition: _cells(folder, condition) for condition in CONDITIONS}
    differences = {
        CONDITIONS[c].title: {m: (cell.difference, cell.half_width) for m, cell in cells.items()}
        for c, cells in table.items()
    }
    figure = plotting.differences(
        differences, title="Test error minus ERM's, points (95 % intervals, paired by seed)"
    )
    files = "comparison.csv (the table), variants.csv (each method's two variants)"
    return Page(
        [_table(table)],
        figures=[Picture("differences", figure)],
        notes=[_verdicts(table), f"For pandas: {files}"],
        files={"comparison.csv": _table_rows(table), "variants.csv": _variant_rows(folder)},
        summary={c: rows_as_json([x.row for x in cells.values()]) for c, cells in table.items()},
    )


_NOTE = """\
Test errors in %, balanced over classes under the long tail. - and +: the 95 % interval
of the difference to ERM, paired by seed, lies below or above zero (of so many, one in
twenty does by chance). AUC: how well low weights find wrong labels (0.5 chance; near 0,
high ones do). s/run: of training alone, one configuration and seed."""


def _table(table: dict[str, dict[str, Cell]]) -> Table:
    """Methods by the mean over the conditions of their difference to the baseline."""
    names = list(table["clean"])
    average = {m: np.mean([cells[m].difference for cells in table.values()]) for m in names}
    header = ["method", *(CONDITIONS[c].title for c in table)]
    header += ["AUC noise", "AUC background", "s/run", "beyond the budget"]
    body = []
    for name in sorted(names, key=lambda m: np.nan_to_num(average[m], nan=np.inf)):
        cells = [table[condition][name] for condition in table]
        mark = {"better": "-", "worse": "+", "": " "}
        errors = [
            f"{cell.row.mean:.1f} ± {cell.row.standard_error:.1f}{mark[cell.verdict]}"
            for cell in cells
        ]
        aucs = [table[c][name].row.extra["noise AUC"] for c in ("noise", "background")]
        shown = ("" if auc is None else f"{auc:.2f}" for auc in aucs)
        seconds = np.mean([cell.row.seconds or 0 for cell in cells])
        body.append([name, *errors, *shown, f"{seconds:.3f}", _beyond(cells[0].row)])
    return Table(header, body, note=_NOTE)


def _beyond(row: Row) -> str:
    """What the method gets beyond the others' budget."""
    if row.then == FINE_TUNING:
        return "clean"
    return "" if row.then else METHODS[row.method].beyond


def _verdicts(table: dict[str, dict[str, Cell]]) -> str:
    """Which methods hurt and which help, per condition."""
    lines = []
    for condition, cells in table.items():
        for verdict in ("worse", "better"):
            found = sorted(
                (cell.difference, name) for name, cell in cells.items() if cell.verdict == verdict
            )
            listed = ", ".join(f"{name} ({d:+.1f})" for d, name in found) or "none"
            lines.append(f"{CONDITIONS[condition].title}, {verdict} than ERM: {listed}")
    return "\n".join(lines)


def _table_rows(table: dict[str, dict[str, Cell]]) -> list[list]:
    """For `comparison.csv`."""
    header = ["condition", "method", "error", "standard_error", "difference", "half_width"]
    rows: list[list] = [[*header, "verdict", "noise_auc", "seconds", "settings", "beyond"]]
    for condition, cells in table.items():
        for name, cell in cells.items():
            row = cell.row
            numbers = [row.mean, row.standard_error, cell.difference, cell.half_width]
            rest = [cell.verdict, row.extra["noise AUC"], row.seconds, row.chosen, _beyond(row)]
            rows.append([condition, name, *(f"{x:.4f}" for x in numbers), *rest])
    return rows


def _variant_rows(folder: Path) -> list[list[str]]:
    """Every method's two variants, each at the learning rate that is best on validation data."""
    rows = [["condition", "method", "variant", "learning_rate", "error", "standard_error"]]
    for condition, (_, _, measure) in CONDITIONS.items():
        for method, (_, variants, _) in METHODS.items():
            result = load_result(folder / condition / method)
            at = last_evaluation(result)
            errors = 100 * (1 - result.history[f"test_{measure}"][:, :, at])
            scores = result.history[f"validation_{measure}"][:, :, at].mean(axis=1)
            for first, variant in enumerate(variants):
                own = np.arange(first, len(scores), len(variants))
                h = own[np.argmax(np.nan_to_num(scores[own], nan=-1))]
                settings = " ".join(f"{name}={value}" for name, value in variant.items())
                spread = errors[h].std(ddof=1) / np.sqrt(errors.shape[1])
                rate = f"{result.configs[h].learning_rate:g}"
                numbers = [f"{errors[h].mean():.4f}", f"{spread:.4f}"]
                rows.append([condition, method, settings, rate, *numbers])
    return rows


def _experiment(name: str, data: str, times: dict[str, str]) -> Experiment:
    return Experiment(
        name=name,
        summary=f"every method on {data}: clean, uniform noise, background flips, long tail",
        presets=times,
        arms=lambda preset: _arms(name, preset),
        present=_present,
    )


EXPERIMENTS = (
    _experiment(
        "comparison",
        "digits",
        {
            "smoke": "40 steps, 2 seeds; some minutes, all of it compilation",
            "cpu": "600 steps, 5 seeds; under 20 minutes on 2 cores",
            "paper": "600 steps, 20 seeds",
        },
    ),
    _experiment(
        "comparison.mnist",
        "MNIST (2,000 images)",
        {
            "smoke": "40 steps, 2 seeds",
            "cpu": "400 steps, 3 seeds; half an hour on 2 cores",
            "paper": "1,000 steps, 20 seeds",
        },
    ),
)
