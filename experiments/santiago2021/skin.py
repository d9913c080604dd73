"""Tables 3 and 4, Figures 9 to 13: skin lesions of ISIC 2017 and ISIC 2018.

The paper (Secs. 4.1.2, 4.2, 5.2): DenseNet-161 pre-trained on ImageNet, 150 epochs, batches of 32,
rate 1e-4 divided by ten after 75 and 112 epochs, colour normalization, both flips, crops of 224 out
of 300. Three losses, with LOW on top and without: cross-entropy (CE), CE weighted by the inverse
frequency of the class (bCE), focal loss (FL). LOW takes the gradients of the loss that is trained,
class weights included. FL's exponent is not printed: without LOW it has four values, under LOW it
is 2; lambda is 1, 0.5, 0.1 or 0.01. For bCE these lambdas are multiplied by the square of the
largest class weight: squared gradients are that much larger for the rarest class, and with the
lambdas as they are LOW gives it nearly all the weight. Settings are chosen by balanced accuracy on
held-out images. Figures 10 and 11 show the data set's own images, which are not for everybody to
redistribute; they stay in the run's folder.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.data import TaskConfig
from experiments.explain.galleries import class_gallery
from experiments.reporting.claims import answers
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import Entry, not_run, of_table
from experiments.reporting.page import Page, Picture
from experiments.reporting.rows import Row, describe_choice, rows_as_json, rows_table
from experiments.santiago2021 import gallery, pictures
from experiments.santiago2021.claims import GPU, FinishedArms, best_setting
from experiments.santiago2021.lesions import LESION_SETS
from experiments.santiago2021.methods import GAMMAS, PAPER_LAMBDAS
from experiments.santiago2021.pictures import DrawnRun
from experiments.santiago2021.printed import CLASS_COUNTS, METRICS, skin_column
from experiments.santiago2021.report import error_lines, finished_arms, images_of
from experiments.santiago2021.skin_claims import (
    LOSS_ARMS,
    LOW_ON_BALANCED,
    SKIN_MEASURE,
    lesion_claims,
)
from experiments.training.config import RunConfig
from experiments.training.result import Result

ITEMS = {
    "isic2017": {
        "Table 3": "ISIC 2017: three losses with LOW and without",
        "Figure 9": "ISIC 2017 and 2018: training error, three losses with LOW and without",
        "Figure 10": "ISIC 2017: images of lowest and of highest mean weight",
        "Figure 11": "ISIC 2017: lowest and highest mean weights within every class",
        "Figure 12": "ISIC 2017: mean weight of every class along training",
    },
    "isic2018": {
        "Table 4": "ISIC 2018: three losses with LOW and without",
        "Figure 9": "ISIC 2017 and 2018: training error, three losses with LOW and without",
        "Figure 10": "ISIC 2018: images of lowest and of highest mean weight",
        "Figure 11": "ISIC 2018: lowest and highest mean weights within every class",
        "Figure 13": "ISIC 2018: mean weight of every class along training",
    },
}
_EXPERIMENT_NAMES = {"isic2017": "santiago2021.table3", "isic2018": "santiago2021.table4"}
_CLASS_PICTURES = {"isic2017": "figure12_classes", "isic2018": "figure13_classes"}
_NUM_TRAIN = {"isic2017": 2000 - 200, "isic2018": 10_015 - 2003 - 400}
_LOSSES = {"ce": "cross_entropy", "bce": "balanced_cross_entropy", "fl": "focal:2"}


def _paper(data: str) -> RunConfig:
    epoch = _NUM_TRAIN[data] // 32
    if data == "isic2017":
        task = TaskConfig("isic2017/300", num_clean=0, num_validation=200)
    else:
        task = TaskConfig("isic2018/300", num_clean=0, num_validation=400, test_share=0.2)
        task = replace(task, split_per_seed=True)
    return RunConfig(
        task=task,
        model="densenet161",
        augmentation="grey_world+flip_both+random_crop:224",
        learning_rate=1e-4,
        schedule=f"drops:{75 * epoch},{112 * epoch}:0.1",
        nesterov=True,
        batch_size=32,
        num_steps=150 * epoch,
        num_evals=150,
        seeds=5,
    )


def _base(data: str, preset: str) -> RunConfig:
    if preset == "paper":
        return _paper(data)
    if preset == "cpu":
        task = TaskConfig("isic2018/32", num_clean=0, num_validation=400, test_share=0.2)
        task = replace(task, split_per_seed=True, num_train=3000)
        config = RunConfig(task=task, model="lenet5", learning_rate=0.02, nesterov=True)
        augmentation = "grey_world+flip_both+random_crop:28+signed"
        config = replace(config, augmentation=augmentation, batch_size=32)
        steps = 24 * (3000 // 32)
        drops = f"drops:{steps // 2},{steps * 3 // 4}:0.1"
        return replace(config, num_steps=steps, schedule=drops, num_evals=24, seeds=3)
    task = TaskConfig("digits", imbalance="long_tail:20", num_clean=0, num_validation=300)
    config = RunConfig(task=task, model="mlp:32", learning_rate=0.05, nesterov=True)
    return replace(config, batch_size=32, num_steps=6 * 10, num_evals=6, seeds=2)


def _arms(data: str, preset: str) -> Arms:
    """CE, bCE, FL, and each with LOW on top, in the order of the table."""
    if data == "isic2017" and preset == "cpu":
        return {}  # the surrogate has the classes of ISIC 2018
    base = _base(data, preset)
    lambdas = (0.1,) if preset == "smoke" else PAPER_LAMBDAS
    arms = {
        "ce": [base],
        "bce": [replace(base, weighting="inverse_class_frequency")],
        "fl": [replace(base, loss=f"focal:{gamma:g}") for gamma in GAMMAS],
    }
    for name, loss in _LOSSES.items():
        unit = _largest_class_weight(data) ** 2 if name == "bce" else 1.0
        arms[f"low_{name}"] = [
            replace(base, loss=loss, weighting=f"low:{unit * value:.3g}") for value in lambdas
        ]
    return arms


def _largest_class_weight(data: str) -> float:
    """Of inverse class frequencies that average to one over the images (Table 1)."""
    counts = CLASS_COUNTS[data]
    return sum(counts.values()) / (len(counts) * min(counts.values()))


def _end(result: Result, metric: str) -> np.ndarray:
    """100 times a measure of the test set at the end [S], at the chosen setting."""
    h = best_setting(result, SKIN_MEASURE)
    return 100 * result.history[f"test_{metric}"][h, :, -1].astype(float)


def _names(result: Result, data: str) -> tuple[str, ...]:
    count = result.history["class_weights"].shape[-1]
    names = LESION_SETS[data].classes
    return names if len(names) == count else tuple(map(str, range(count)))


def _pictures(data: str, found: FinishedArms) -> list[Picture]:
    has_low = any(LOSS_ARMS[arm].has_low for arm in found)
    runs = []
    for arm, result in found.items():
        loss, h = LOSS_ARMS[arm], best_setting(result, SKIN_MEASURE)
        is_dashed = has_low and not loss.has_low
        runs.append(DrawnRun(loss.label, result, h, loss.loss, is_dashed))
    name = runs[0].result.configs[0].task.dataset
    title = f"Training on {name}; settings chosen on validation data"
    training = pictures.training_figure(runs, title=title)
    drawn = [Picture(f"figure9_{data}", training, "Figure 9")]
    return [*drawn, *(_weight_pictures(data, found["low_ce"]) if "low_ce" in found else [])]


def _weight_pictures(data: str, low: Result) -> list[Picture]:
    """Who is weighted up by LOW + CE: classes, and images if they are on this machine."""
    name = low.configs[0].task.dataset
    h = best_setting(low, SKIN_MEASURE)
    value, names = low.configs[h].scheme.values[0], _names(low, data)
    title = f"Mean weights of the classes of {name}"
    panel = DrawnRun(f"LOW + CE, λ = {value:g}", low, h, "CE")
    classes = pictures.weights_of_classes([panel], names, title=title)
    drawn = [Picture(_CLASS_PICTURES[data], classes, LESION_SETS[data].figure)]
    images = images_of(low)
    if images is not None:
        title = f"{name}, LOW + CE with λ = {value:g}: mean weights over all epochs (first seed)"
        extremes = gallery.run_gallery(low, h, 0, images, names=names, title=title)
        by_class = class_gallery(low, h, 0, images, names=names, title=title)
        # The data set's own images: they stay in the run's folder.
        drawn.append(Picture("images/figure10", extremes, "Figure 10", is_public=False))
        drawn.append(Picture("images/figure11", by_class, "Figure 11", is_public=False))
    return drawn


def _row(arm: str, result: Result) -> Row:
    return Row(
        LOSS_ARMS[arm].label,
        tuple(map(float, _end(result, "balanced_accuracy"))),
        describe_choice(result.configs[best_setting(result, SKIN_MEASURE)]),
        None,
        {short: float(_end(result, metric).mean()) for metric, short in METRICS.items()},
    )


_THREE_SEEDS = "with three seeds the interval of the difference holds zero"
_FROM_SCRATCH = (
    "from scratch bCE errs on most of its training images (errors.csv); the paper starts from "
    "ImageNet's weights"
)
_CAUSES = {  # why our numbers differ, by data set and row
    "isic2017": {"bCE": _FROM_SCRATCH, "LOW + bCE": LOW_ON_BALANCED},
    "isic2018": {
        "CE": _THREE_SEEDS,
        "bCE": _FROM_SCRATCH,
        "FL": _THREE_SEEDS,
        "LOW + CE": _THREE_SEEDS,
        "LOW + bCE": LOW_ON_BALANCED,
        "LOW + FL": _THREE_SEEDS,
    },
}


def _table_entries(
    data: str, found: FinishedArms, *, same_setting: bool = False, missing: str = ""
) -> list[Entry]:
    """The entries of every metric's column."""
    return [
        entry
        for metric, short in METRICS.items()
        for entry in of_table(
            LESION_SETS[data].table,
            skin_column(data, metric),
            {LOSS_ARMS[arm].label: _end(result, metric) for arm, result in found.items()},
            reference="CE",
            same_setting=same_setting,
            quantity=f"{LESION_SETS[data].title}, {short} %",
            missing=missing,
            causes=_CAUSES[data],
        )
    ]


def _numbers(data: str, found: FinishedArms, preset: str) -> list[Entry]:
    """The entries of the finished rows, if CE is, with which they are compared."""
    if "ce" not in found:
        return []
    entries = _table_entries(data, found, same_setting=preset == "paper")
    return [entry for entry in entries if entry.seeds]


def _present(data: str, folder: Path, preset: str) -> Page:
    found = finished_arms(folder, _arms(data, preset))
    rows = [_row(arm, result) for arm, result in found.items()]
    title = "Test set at the end; settings chosen on validation data"
    return Page(
        tables=[rows_table(title, "BAcc %", rows)],
        claims=answers(lesion_claims(data), found),
        numbers=_numbers(data, found, preset),
        figures=_pictures(data, found) if found else [],
        files={"errors.csv": error_lines(found, SKIN_MEASURE)},
        summary={"preset": preset, "rows": rows_as_json(rows)},
    )


def _experiment(data: str) -> Experiment:
    name, title = _EXPERIMENT_NAMES[data], LESION_SETS[data].title
    cause = f"the prepared images and {GPU.format(name=name)}"
    small = (
        "nothing: there is no surrogate of ISIC 2017 (santiago2021.table4 has one of ISIC 2018)"
        if data == "isic2017"
        else "ISIC 2018 at 32 x 32, 3,000 training images, LeNet-5 from scratch, 24 epochs at rate "
        "0.02 (at 0.05 bCE does not learn) divided by ten after half and three quarters of them, "
        "crops of 28, 3 seeds; half an hour"
    )
    return Experiment(
        name=name,
        summary=f"LOW with three losses on {title}",
        presets={
            "smoke": "scikit-learn digits, a long tail 20 : 1, a small network, 2 seeds; some "
            "seconds",
            "cpu": small,
            "paper": f"{title}, DenseNet-161 from ImageNet's weights, 150 epochs, 5 seeds; "
            "a GPU, days",
        },
        arms=lambda preset: _arms(data, preset),
        present=lambda folder, preset: _present(data, folder, preset),
        items=ITEMS[data],
        printed=(
            *_table_entries(data, {}, missing=cause),
            *not_run(lesion_claims(data), cause),
        ),
    )


EXPERIMENTS = tuple(_experiment(data) for data in LESION_SETS)
