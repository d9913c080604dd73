"""What the difficulty measures have in common, and how well each finds wrong labels.

Small networks on a training set whose noise and imbalance are known; every measure of every
training example; rank correlations between the measures, and the area under the ROC curve of each
as a detector of wrong labels. Nothing is tuned.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from experiments.data import TaskConfig, load, make_task
from experiments.networks.models import make_model
from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture
from experiments.studies.difficulty_scores import MEASURES, Budget, measure_difficulty
from experiments.tools.files import read_arrays, write_arrays, write_csv
from experiments.tools.progress import follow
from experiments.tools.tables import Table

SETTINGS = {
    "noise": {"noise": "uniform:0.4"},
    "long_tail": {"imbalance": "long_tail:20"},
    "both": {"noise": "uniform:0.2", "imbalance": "long_tail:20"},
}
TITLES = {
    "noise": "40 % of the labels wrong",
    "long_tail": "long-tailed classes, 20 : 1",
    "both": "20 % wrong and long-tailed 20 : 1",
}


class Plan(NamedTuple):
    """A data set and what is trained on it."""

    task: TaskConfig
    model: str
    budget: Budget
    seeds: int


_DIGITS = TaskConfig(num_clean=0, num_validation=0, num_test=400)
_BUDGET = Budget(10, 20, 5, 5, 600, 50, 0.01, None)
_MNIST = TaskConfig("mnist", num_clean=0, num_validation=0, num_train=5000)
_MNIST_BUDGET = _BUDGET._replace(num_steps=1000, models_at_once=5)
_SMOKE_BUDGET = Budget(3, 4, 2, 3, 40, 50, 0.01, None)


def _plan(name: str, preset: str) -> Plan:
    if name == "difficulty.mnist":
        plan = Plan(_MNIST, "mlp:64", _MNIST_BUDGET, 3)
        small = replace(_MNIST, num_train=500)
    else:
        plan = Plan(_DIGITS, "mlp:64", _BUDGET, 5)
        small = replace(_DIGITS, num_train=300)
    if preset == "smoke":
        return Plan(small, "mlp:8", _SMOKE_BUDGET, 2)
    return plan._replace(seeds=20) if preset == "paper" else plan


def _compute(name: str, options: Options) -> None:
    """Measures every setting and seed into a file of its own; what is there is kept."""
    plan = _plan(name, options.preset)
    source = load(plan.task.dataset, data_dir=options.data_dir)
    model = make_model(plan.model, source.train.num_classes)
    jobs = [(s, seed) for s in SETTINGS for seed in range(options.seeds or plan.seeds)]
    for setting, seed in follow(jobs, name, "set"):
        path = _file(options.folder, setting, seed)
        if path.exists():
            continue
        task = make_task(replace(plan.task, **SETTINGS[setting]), seed, source)
        scores = measure_difficulty(task, model, plan.budget, seed)
        known = {
            "index": task.train.indices,
            "label": task.train.labels,
            "true_label": task.train.true_labels,
        }
        write_arrays(path, known | scores)
        if seed == 0:
            columns = known | scores
            rows = zip(*(column.tolist() for column in columns.values()), strict=True)
            write_csv(path.with_suffix(".csv"), [list(columns), *rows])


def _file(folder: Path, setting: str, seed: int) -> Path:
    return folder / setting / f"seed{seed}.npz"


def _present(folder: Path, preset: str) -> Page:
    del preset
    tables, pictures, summary = [], [], {}
    for setting in SETTINGS:
        files = sorted((folder / setting).glob("seed*.npz"))
        correlations, aucs = zip(*(_statistics(path) for path in files), strict=True)
        correlation = np.mean(correlations, axis=0)
        auc = np.array(aucs)
        spread = auc.std(axis=0, ddof=1) / np.sqrt(len(auc)) if len(auc) > 1 else 0 * auc[0]
        summary[setting] = {
            "seeds": len(files),
            "measures": list(MEASURES),
            "spearman": np.round(correlation, 4).tolist(),
            "auc": [None if np.isnan(a) else round(float(a), 4) for a in auc.mean(axis=0)],
            "auc_standard_error": [None if np.isnan(a) else round(float(a), 4) for a in spread],
        }
        tables.append(_table(setting, correlation, auc.mean(axis=0), spread, len(files)))
        title = f"Rank correlation of difficulty measures\n{TITLES[setting]}"
        figure = plotting.correlation_matrix(correlation, list(MEASURES), title=title)
        pictures.append(Picture(f"{setting}_spearman", figure))
    return Page(tables, figures=pictures, summary=summary)


def _statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's correlations [M, M] of the measures, and each one's AUC [M] for wrong labels."""
    stored = read_arrays(path)
    columns = np.stack([stored[name] for name in MEASURES])
    is_corrupted = stored["label"] != stored["true_label"]
    ranks = np.stack([rankdata(column) for column in columns])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    with np.errstate(invalid="ignore"):  # a constant measure correlates with nothing: NaN
        correlations = (ranks @ ranks.T) / np.outer(norms, norms)
    if not is_corrupted.any():
        return correlations, np.full(len(columns), np.nan)
    return correlations, np.array([roc_auc_score(is_corrupted, column) for column in columns])


def _table(
    setting: str, correlation: np.ndarray, auc: np.ndarray, spread: np.ndarray, seeds: int
) -> Table:
    """Measures by their correlation with the K-fold error."""
    reference, rarity = (list(MEASURES).index(name) for name in ("K-fold error", "class rarity"))
    rows = []
    for i in np.argsort(-np.nan_to_num(correlation[reference], nan=-2)):
        name = list(MEASURES)[i]
        detector = ["", ""] if np.isnan(auc[i]) else [f"{auc[i]:.3f}", f"{spread[i]:.3f}"]
        rows.append(
            [
                name,
                f"{correlation[reference, i]:.2f}",
                f"{correlation[rarity, i]:.2f}",
                *detector,
                MEASURES[name],
            ]
        )
    header = ["measure", "with K-fold error", "with rarity", "AUC", "std. error", "what"]
    title = f"{TITLES[setting]} ({seeds} seeds; Spearman's rank correlations)"
    return Table(header, rows, title)


def _experiment(name: str, data: str, times: dict[str, str]) -> Experiment:
    return Experiment(
        name=name,
        summary=f"{len(MEASURES)} difficulty measures on {data}: correlations, and wrong labels",
        presets=times,
        compute=lambda options: _compute(name, options),
        present=_present,
    )


EXPERIMENTS = (
    _experiment(
        "difficulty",
        "digits",
        {
            "smoke": "300 images, 2 seeds; a minute",
            "cpu": "all images, 5 seeds; a few minutes",
            "paper": "20 seeds",
        },
    ),
    _experiment(
        "difficulty.mnist",
        "MNIST",
        {
            "smoke": "500 images, 2 seeds; a minute",
            "cpu": "5,000 images, 3 seeds; some ten minutes",
            "paper": "20 seeds",
        },
    ),
)
