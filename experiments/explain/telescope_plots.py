"""Figures of weights: who was up-weighted, when, and whether that found the wrong labels.

A method is given as in `plotting`; `telescope` has the numbers.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from experiments.explain import telescope
from experiments.explain.suspects import detection_auc
from experiments.explain.telescope import Curves, late_weights
from experiments.reporting.plotting import (
    CLEAN,
    CORRUPTED,
    Runs,
    clean_look,
    label_outer,
    small_multiples,
)
from experiments.tools.statistics import finite_mean
from experiments.training.result import Result

_NUMBERED_CLASSES = 12  # a confusion matrix of at most so many has its numbers written in
_HEAT_BINS = 200


def weight_histograms(runs: Runs, *, title: str, whole: bool = False) -> Figure:
    """Mean weights of clean and of corrupted training examples, one panel per method.

    The mean is over the second half of the training, or the whole of it; all seeds are pooled. A
    panel's title tells which weights flag wrong labels, and the AUC of the weight as their
    detector. The last bar also counts the few larger weights.
    """
    figure, panels = small_multiples(len(runs), title)
    for panel, (method, (result, h)) in zip(panels, runs.items(), strict=True):
        means = _whole_weights(result, h) if whole else late_weights(result, h)
        weights = means.ravel()
        drawn = np.isfinite(weights)
        weights, corrupted = weights[drawn], (result.labels != result.true_labels).ravel()[drawn]
        highest = float(np.quantile(weights, 0.995)) if weights.size else 0.0
        bins = np.linspace(0, max(1.05 * highest, 2.0), 36)
        inside = np.minimum(weights, bins[-1])
        for is_kind, color, name in (
            (~corrupted, CLEAN, "right label"),
            (corrupted, CORRUPTED, "wrong label"),
        ):
            share = np.histogram(inside[is_kind], bins)[0] * 100 / max(is_kind.sum(), 1)
            panel.stairs(share, bins, color=color, alpha=0.35, fill=True)
            panel.stairs(share, bins, color=color, lw=1.4, label=name)
        panel.set_title(f"{method}\n{_detector(weights, corrupted)}", fontsize=9.5)
        panel.set(xlim=(0, bins[-1]), ylim=(0, None))
        clean_look(panel)
    part = "whole training" if whole else "second half"
    label_outer(panels, f"mean weight in the {part}", "share of examples (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def weights_by_class(
    runs: Runs,
    *,
    title: str,
    true_labels: bool = False,
    names: Sequence[str] | None = None,
) -> Figure:
    """Mean weight of each class's examples along training, one panel per method.

    Lines are means over the seeds, bands one standard error of the mean. Dark lines are rare
    classes, bright ones frequent; the colour bar tells sizes in the training set by the same kind
    of label, averaged over seeds.

    Args:
      runs: the methods.
      title: of the figure.
      true_labels: whether classes are those of the true labels, instead of the given ones.
      names: of the classes [C]; by default their numbers.
    """
    result, h = next(iter(runs.values()))
    num_classes = telescope.num_classes(result)
    sizes = telescope.class_curves(result, h, true_labels=true_labels).sizes
    order = np.argsort(sizes, kind="stable")
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.93, num_classes))
    by_class = dict(zip(order.tolist(), colors, strict=True))
    names = [str(c) for c in range(num_classes)] if names is None else names

    curves = {
        method: telescope.class_curves(*run, true_labels=true_labels)
        for method, run in runs.items()
    }
    figure, panels = _curve_panels(
        runs,
        curves,
        [by_class[c] for c in range(num_classes)],
        [f"class {n}" for n in names],
        title,
    )
    norm = BoundaryNorm(np.arange(num_classes + 1) - 0.5, num_classes)
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colors)), ax=panels, pad=0.02)
    shown = np.unique(np.linspace(0, num_classes - 1, min(num_classes, 12)).astype(int)).tolist()
    bar.set_ticks(shown, labels=[f"{names[int(order[i])]}: {sizes[order[i]]:.0f}" for i in shown])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.ax.minorticks_off()
    kind = "class by true label" if true_labels else "class"
    bar.set_label(f"{kind}: examples, rare to frequent", fontsize=9)
    return figure


def weights_by_corruption(runs: Runs, *, title: str) -> Figure:
    """Mean weight of rightly and of wrongly labelled examples along training, with bands."""
    curves = {method: telescope.corruption_curves(*run) for method, run in runs.items()}
    labels = ["right label", "wrong label"]
    figure, panels = _curve_panels(runs, curves, [CLEAN, CORRUPTED], labels, title)
    _legend_below(figure, panels[0])
    return figure


def weights_by_difficulty(
    runs: Runs, scores: Mapping[str, np.ndarray], *, measure: str, title: str, num_groups: int = 5
) -> Figure:
    """Mean weight by quantile of a difficulty along training, with bands; dark is easy.

    Args:
      runs: the methods.
      scores: of every method, [S, N]; NaN where unknown.
      measure: what the difficulty is called.
      title: of the figure.
      num_groups: how many quantiles.
    """
    curves = {
        method: telescope.difficulty_curves(*run, scores[method], num_groups=num_groups)
        for method, run in runs.items()
    }
    colors = matplotlib.colormaps["plasma"](np.linspace(0, 0.85, num_groups))
    middle = [""] * (num_groups - 2)
    labels = [
        f"{g + 1}{text}"
        for g, text in enumerate([" (easiest)", *middle, " (hardest)"][-num_groups:])
    ]
    figure, panels = _curve_panels(runs, curves, list(colors), labels, title)
    _legend_below(figure, panels[0], title=f"quantiles of {measure}")
    return figure


def heat_map(result: Result, h: int, seed: int, *, title: str) -> Figure:
    """The weights of all training examples of a seed along training, as colours.

    On the left examples stand in order of their mean weight, beside the share of wrong labels if
    there are any; on the right by class (given label), then by mean weight. A row is the mean of
    neighbours, grey where none of them was drawn.
    """
    evaluations = telescope.weighted_evaluations(result, h)
    weights = result.history["example_weights"][h, seed][evaluations]
    means = finite_mean(weights, 0)
    order = np.argsort(-means, kind="stable")
    order = order[np.isfinite(means[order])]
    labels, wrong = result.labels[seed], result.labels[seed] != result.true_labels[seed]
    times, unit = telescope.time_axis(result, h)
    widths = [1.0, 0.28, 1.0] if wrong.any() else [1.0, 1.0]
    figure = Figure(figsize=(9.6 if wrong.any() else 8.4, 4.8), layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    panels = figure.subplots(1, len(widths), width_ratios=widths)
    bins = telescope.neighbours([order], _HEAT_BINS)
    rows = [finite_mean(weights[:, each], 1) for each in bins]
    top = max(float(np.nanquantile(rows, 0.995)), 2.0)
    times = np.array([0.0, *times[evaluations]])
    image = _draw_bins(panels[0], weights, bins, times, top)
    panels[0].set(title="by mean weight", xlabel=unit, ylabel="examples, heaviest first")
    if wrong.any():
        share = [100 * wrong[each].mean() for each in bins]
        panels[1].stairs(share, _edges(bins), orientation="horizontal", fill=True, color=CORRUPTED)
        panels[1].set(ylim=(order.size, 0), xlim=(0, 100), xlabel="%", title="wrong labels")
        panels[1].tick_params(labelleft=False)
        clean_look(panels[1])
    classes = np.unique(labels[order])
    groups = [order[labels[order] == c] for c in classes]
    _draw_bins(panels[-1], weights, telescope.neighbours(groups, _HEAT_BINS), times, top)
    bounds = _edges(groups)
    for bound in bounds[1:-1]:
        panels[-1].axhline(bound, color="white", lw=1.2)
    middles = (bounds[1:] + bounds[:-1]) / 2
    shown = _apart(middles, 0.03 * order.size)
    panels[-1].set_yticks(middles[shown], labels=[str(c) for c in classes[shown]])
    panels[-1].set(title="by class, then weight", xlabel=unit, ylabel="class (given label)")
    for panel in panels:
        panel.title.set_fontsize(10)
        panel.tick_params(labelsize=9)
    figure.colorbar(image, ax=panels, label="weight", extend="max", pad=0.01, shrink=0.9)
    return figure


def _draw_bins(
    panel: Axes, weights: np.ndarray, bins: Sequence[np.ndarray], times: np.ndarray, top: float
) -> QuadMesh:
    """Mean weights of the bins as colours, from weights [E, N] between times [E + 1]."""
    rows = np.ma.masked_invalid([finite_mean(weights[:, each], 1) for each in bins])
    mesh = panel.pcolormesh(times, _edges(bins), rows, cmap="viridis", vmin=0, vmax=top)
    mesh.set_rasterized(True)
    panel.set_facecolor("#BBBBBB")  # shows where nothing is drawn
    panel.invert_yaxis()
    return mesh


def _apart(places: np.ndarray, distance: float) -> list[int]:
    """Which of ascending places to label, so that labels keep a distance."""
    shown = [0]
    for i, place in enumerate(places):
        if place - places[shown[-1]] >= distance:
            shown.append(i)
    return shown


def _edges(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Where parts laid end to end begin and end."""
    return np.cumsum([0, *(part.size for part in parts)])


def confusion_matrices(runs: Runs, *, title: str, names: Sequence[str] | None = None) -> Figure:
    """Confusion matrices of the test set, a panel per method: rows true, each summing to 100 %.

    Means over the seeds. With many classes colours stand alone, without numbers.
    """
    matrices = {method: telescope.confusion(result, h) for method, (result, h) in runs.items()}
    num_classes = len(next(iter(matrices.values())))
    numbered = num_classes <= _NUMBERED_CLASSES
    columns = min(len(runs), 3)
    grid_rows = -(-len(runs) // columns)
    side = 1.0 + 0.34 * num_classes if numbered else 4.2
    side = max(side, 2.6)
    size = (columns * side + 1.1, grid_rows * (side + 0.35) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.1, h_pad=0.1)
    panels = list(figure.subplots(grid_rows, columns, squeeze=False).ravel())
    for panel in panels[len(runs) :]:
        panel.remove()
    image = None
    for i, (panel, (method, matrix)) in enumerate(zip(panels, matrices.items(), strict=False)):
        image = panel.imshow(100 * matrix, cmap="Blues", vmin=0, vmax=100)
        correct = 100 * finite_mean(np.diag(matrix), 0)
        panel.set_title(f"{method}\n{correct:.1f} % right, mean over classes", fontsize=9.5)
        if numbered:
            ticks = names or [str(c) for c in range(num_classes)]
            turned = {"rotation": 60, "ha": "right"} if max(map(len, ticks)) > 2 else {}
            panel.set_xticks(range(num_classes), labels=ticks, **turned)
            panel.set_yticks(range(num_classes), labels=ticks)
            _write_numbers(panel, 100 * matrix)
        panel.tick_params(length=0, labelsize=8)
        if i % columns == 0:
            panel.set_ylabel("true class")
        if i + columns >= len(runs):
            panel.set_xlabel("predicted class")
    if image is not None:
        bar = figure.colorbar(image, ax=panels[: len(runs)], shrink=0.7, pad=0.01)
        bar.set_label("share of the true class (%)")
    return figure


def _write_numbers(panel: Axes, percentages: np.ndarray) -> None:
    """Whole percentages into the cells of a matrix; nothing where they round to zero."""
    for (row, column), value in np.ndenumerate(percentages):
        if value >= 0.5:
            color = "white" if value > 55 else "#222222"
            style = {"ha": "center", "va": "center", "fontsize": 7.5, "color": color}
            panel.text(column, row, f"{value:.0f}", **style)


def _curve_panels(
    runs: Runs,
    curves: Mapping[str, Curves],
    colors: Sequence,
    labels: Sequence[str],
    title: str,
) -> tuple[Figure, list[Axes]]:
    """Curves of groups against time with bands, a panel per method, all of one height."""
    figure, panels = small_multiples(len(runs), title)
    tops, units = [1.0], []
    for panel, (method, (result, h)) in zip(panels, runs.items(), strict=True):
        own = curves[method]
        known = np.isfinite(own.mean).any(axis=0)
        times, unit = telescope.time_axis(result, h)
        units.append(unit)
        panel.axhline(1, color="#888888", lw=0.8, ls=":", zorder=1)
        for mean, error, color, label in zip(*own[:2], colors, labels, strict=True):
            mean, error = mean[known], np.nan_to_num(error[known])
            panel.plot(times[known], mean, color=color, lw=1.5, label=label)
            low, high = mean - error, mean + error
            panel.fill_between(times[known], low, high, color=color, alpha=0.15, lw=0)
            tops += list(high[np.isfinite(high)])
        panel.set_title(method, fontsize=9.5)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        clean_look(panel)
    for panel in panels:
        panel.set_ylim(0, 1.06 * max(tops))
    label_outer(panels, " or ".join(sorted(set(units))), "mean weight")
    return figure, panels


def _legend_below(figure: Figure, panel: Axes, *, title: str | None = None) -> None:
    handles, labels = panel.get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": min(len(handles), 5), "frameon": False}
    figure.legend(handles, labels, title=title, **place)


def _whole_weights(result: Result, h: int) -> np.ndarray:
    """Mean weights [S, N] over all evaluations."""
    return finite_mean(result.history["example_weights"][h], 1)


def _detector(weights: np.ndarray, corrupted: np.ndarray) -> str:
    if not 0 < corrupted.sum() < corrupted.size:
        return "one kind of label only"
    auc = detection_auc(-weights, corrupted)
    if abs(auc - 0.5) < 0.005:
        return "weight does not flag noise (AUC 0.50)"
    kind = "low" if auc > 0.5 else "high"
    return f"{kind} weight flags noise (AUC {max(auc, 1 - auc):.2f})"
