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
from typing import NamedTuple

import numpy as np

from experiments.data import TaskConfig
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


class Method(NamedTuple):
    """An arm: the changes to the base configuration, its two variants, and what it gets beyond."""

    changes: dict
    variants: Sequence[dict] = _DECAYS
    beyond: str = ""  # "clean": clean images; "reference": a network trained before; "truth"


def _weightings(*specs: str) -> Sequence[dict]:
    return [{"weighting": spec} for spec in specs]


def _losses(*specs: str) -> Sequence[dict]:
    return [{"loss": spec} for spec in specs]


METHODS: dict[str, Method] = {
    "uniform": Method({"fine_tune_steps": 120}, _FINE_TUNED),
    # weights by class
    "proportion": Method({"weighting": "proportion"}),
    "class_power": Method({}, _weightings("class_power:0.5", "class_power:0.75")),
    "effective_number": Method({}, _weightings("effective_number:0.9", "effective_number:0.99")),
    "resample": Method({"sampler": "class_balanced"}),
    "group_dro": Method({}, _weightings("group_dro:0.01", "group_dro:0.1")),
    "oracle_noise": Method({"weighting": "oracle_noise"}, beyond="truth"),
    # weights by the loss, the probability or the margin
    "random": Method({"weighting": "random"}),
    "focal": Method({}, _weightings("focal:1", "focal:3")),
    "self_paced": Method({}, _weightings("self_paced:2.5:1.05", "self_paced:4:1.05")),
    "paced_self_paced": Method({}, _weightings("paced_self_paced:1.1", "paced_self_paced:1.3")),
    "hard_mining": Method({"weighting": "hard_mining"}),
    "top_losses": Method({}, _weightings("top_losses:0.5", "top_losses:0.8")),
    "small_losses": Method({}, _weightings("small_losses:0.2", "small_losses:0.4")),
    "mentornet_curriculum": Method(
        {},
        _weightings(
            "mentornet_curriculum:0.6+deferred:0.2", "mentornet_curriculum:0.75+deferred:0.2"
        ),
    ),
    "mentornet": Method({}, _weightings("mentornet:0.6", "mentornet:0.75")),
    "joint": Method({}, _weightings("joint:2", "joint:4")),
    "superloss": Method({}, _weightings("superloss:0.25", "superloss:1")),
    "gradient_harmonized": Method(
        {}, _weightings("gradient_harmonized:30:0.5", "gradient_harmonized:30:0.75")
    ),
    "cvar": Method({}, _weightings("cvar:0.2", "cvar:0.5")),
    "tilted": Method({}, _weightings("tilted:-1", "tilted:1")),
    "chi_square_dro": Method({}, _weightings("chi_square_dro:0.3", "chi_square_dro:1")),
    "exponential_margin": Method({}, _weightings("exponential_margin:5", "exponential_margin:20")),
    "inverse_margin": Method({}, _weightings("inverse_margin:5", "inverse_margin:20")),
    # weights by gradients
    "low": Method({}, _weightings("low:0.1", "low:1")),
    "importance_sampling": Method(
        {}, _weightings("importance_sampling:25:1.2", "importance_sampling:25:1.5")
    ),
    "batch_alignment": Method({}, _weightings("batch_alignment:1", "batch_alignment:10")),
    # weights by history
    "active_bias": Method({}, _weightings("active_bias:0.02", "active_bias:0.1")),
    "active_bias_threshold": Method(
        {}, _weightings("active_bias_threshold:0.02", "active_bias_threshold:0.1")
    ),
    "loss_rank": Method({}, _weightings("loss_rank:3", "loss_rank:30")),
    "infobatch": Method({}, _weightings("infobatch:0.3", "infobatch:0.6")),
    # weights from a network trained before, or from the truth
    "curriculum": Method({}, _weightings("curriculum:0.5", "curriculum:1"), "reference"),
    "difficulty": Method({}, _weightings("difficulty:-1", "difficulty:1"), "reference"),
    "jtt": Method({}, _weightings("jtt:3", "jtt:10"), "reference"),
    "reference_inverse_margin": Method(
        {}, _weightings("reference_inverse_margin:5", "reference_inverse_margin:20"), "reference"
    ),
    "small_margins": Method(
        {}, _weightings("small_margins:0.1:2", "small_margins:0.1:5"), "reference"
    ),
    "known_noise": Method({}, _weightings("known_noise:0", "known_noise:0.1"), "truth"),
    # weights from clean examples
    "lookahead": Method({"weighting": "lookahead"}, beyond="clean"),
    "meta_weight_net": Method({}, _weightings("meta_weight_net:0.1", "meta_weight_net:1"), "clean"),
    "cmw_net": Method({}, _weightings("cmw_net:0.1", "cmw_net:1"), "clean"),
    "gradient_alignment": Method(
        {}, _weightings("gradient_alignment:0.25", "gradient_alignment:0.5"), "clean"
    ),
    "rho_loss": Method({}, _weightings("rho_loss:0.1", "rho_loss:0.25"), "clean"),
    "clean_only": Method({"num_steps": 0, "fine_tune_steps": 120}, beyond="clean"),
    # losses
    "focal loss": Method({}, _losses("focal:1", "focal:3")),
    "generalized cross-entropy": Method(
        {}, _losses("generalized_cross_entropy:0.3", "generalized_cross_entropy:0.7")
    ),
    "truncated L_q": Method(
        {},
        _losses(
            "truncated_generalized_cross_entropy:0.7:0.02",
            "truncated_generalized_cross_entropy:0.7:0.05",
        ),
    ),
    "truncated cross-entropy": Method(
        {}, _losses("truncated_cross_entropy:3", "truncated_cross_entropy:5")
    ),
    "label smoothing": Method(
        {}, _losses("smoothed_cross_entropy:0.1", "smoothed_cross_entropy:0.5")
    ),
    "bootstrap soft": Method({}, _losses("bootstrap_soft:0.5", "bootstrap_soft:0.95")),
    "bootstrap hard": Method({}, _losses("bootstrap_hard:0.5", "bootstrap_hard:0.8")),
    "distillation": Method({}, _losses("distillation:0.1", "distillation:0.5"), "reference"),
    "logit adjustment": Method({}, _losses("logit_adjusted:0.5", "logit_adjusted:1")),
    "class temperatures": Method(
        {}, _losses("class_dependent_temperatures:0.1", "class_dependent_temperatures:0.3")
    ),
    "vector scaling": Method({}, _losses("vector_scaling:0.1", "vector_scaling:0.3")),
    "LDAM": Method({}, _losses("ldam:0.5:1", "ldam:0.5:10")),
    "LDAM, deferred weights": Method(
        {"weighting": "proportion+deferred:0.5"}, _losses("ldam:0.5:1", "ldam:0.5:10")
    ),
    "polynomial tail": Method({}, _losses("polynomial_tailed:1", "polynomial_tailed:2")),
    "polynomial tail, proportion": Method(
        {"weighting": "proportion"}, _losses("polynomial_tailed:1", "polynomial_tailed:2")
    ),
    "forward correction": Method({"loss": "forward_corrected_cross_entropy"}, beyond="truth"),
    "backward correction": Method({"loss": "backward_corrected_cross_entropy"}, beyond="truth"),
    # procedures
    "S-model": Method({"procedure": "noise_layer"}),
    "S-model, confusion": Method({"procedure": "noise_layer_confusion"}, beyond="reference"),
    "co-teaching": Method(
        {"procedure": "co_teaching"}, _weightings("small_losses:0.2", "small_losses:0.4")
    ),
}
BASELINE = "uniform"


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
