"""Figures 6 and 7: confusion matrices, and accuracies along training, on wrong labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.explain import telescope_plots
from experiments.ren2018.noise import LABELS, NOISE_METHODS
from experiments.reporting import plotting
from experiments.reporting.method_rows import last_evaluation
from experiments.reporting.page import Picture
from experiments.tools.statistics import finite_mean, standard_error
from experiments.training.result import Result
from experiments.training.schedule import parse_schedule

_COLORS = {
    "BASELINE": "#333333",
    "S-MODEL": "#CC79A7",
    "S-MODEL +CONF": "#D55E00",
    "OURS": "#009E73",
}


def confusion_pictures(dataset: str, results: Mapping[str, Result], kind: str) -> list[Picture]:
    """Figure 6: confusion matrices of BASELINE and OURS, of the first trial's test images."""
    found = {n: _first_seed(results[n]) for n in ("baseline", "ours") if n in results}
    if not found:
        return []
    runs = {NOISE_METHODS[name].row: (result, 0) for name, result in found.items()}
    title = f"{LABELS[dataset]}, {kind}: test images, first trial"
    figure = telescope_plots.confusion_matrices(runs, title=title)
    return [Picture(f"figure6_{dataset}", figure, "Figure 6")]


def _first_seed(result: Result) -> Result:
    history = {n: v if n == "step" else v[:, :1] for n, v in result.history.items()}
    return replace(result, history=history)


def accuracies_on_given_labels(
    results: Mapping[str, Result], names: Sequence[str], *, title: str
) -> Figure:
    """Figure 7: training (dotted) and validation accuracy (solid) against steps, on wrong labels.

    Lines are means over the trials, bands one standard error of the validation accuracy; vertical
    lines tell where the learning rate drops.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    handles = []
    for name in (name for name in names if name in results):
        result, row = results[name], NOISE_METHODS[name].row
        end = last_evaluation(result) + 1
        steps, color = result.history["step"][:end], _COLORS[row]
        train, validation = (
            100 * result.history[f"{split}_accuracy"][0, :, :end]
            for split in ("train", "validation")
        )
        axes.plot(steps, finite_mean(train, 0), color=color, ls=":", lw=1.6)
        mean, spread = finite_mean(validation, 0), np.nan_to_num(standard_error(validation, 0))
        handles += axes.plot(steps, mean, color=color, lw=1.8, label=row)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)
        for drop in parse_schedule(result.configs[0].schedule).drops:
            axes.axvline(drop, color="#BBBBBB", lw=0.8, zorder=0)
    handles.append(Line2D([], [], color="#666666", lw=1.8, label="validation"))
    handles.append(Line2D([], [], color="#666666", ls=":", lw=1.6, label="training"))
    axes.set(xlabel="training steps", ylabel="accuracy on given labels (%)")
    axes.set_xlim(left=0)
    axes.set_title(title, loc="left", fontweight="bold")
    plotting.clean_look(axes)
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure
