"""Figures of finished runs, drawn from their results alone; `telescope_plots` has the weights'.

A method is given as its name, a `Result`, and the index `h` of the configuration to show. It has
the same colour in every figure. A seed that diverged, and an example that was never drawn, are left
out of means. Axes: S seeds, E evaluations, N training examples, C classes.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.methods.procedures import RECIPES
from experiments.methods.registry import SAMPLERS, SCHEMES
from experiments.tools.files import write_atomically
from experiments.tools.statistics import finite_mean, standard_error
from experiments.training.result import Result

Runs = Mapping[str, tuple[Result, int]]

# Distinguishable under the common colour-vision deficiencies (Okabe and Ito), and greys.
_COLORS = {
    record.name: record.color for record in (*SCHEMES.values(), *SAMPLERS.values(), *RECIPES)
}
_OTHER_COLORS = ("#882255", "#44AA99", "#AA4499", "#999933", "#332288", "#CC6677")
_DASHES = ("-", "--", ":", "-.")
CLEAN, CORRUPTED = "#0072B2", "#D55E00"
REFERENCE, _GRID = "#CC0000", "#DDDDDD"
_PANEL = (3.4, 2.7)  # inches, width and height of a small multiple


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def test_error_curves(  # its name is no test's
    runs: Runs,
    *,
    measure: str = "accuracy",  # noqa: PT028
    title: str,
) -> Figure:
    """Test error, 100 (1 - measure), against steps; the legend is sorted by the final error.

    Lines are means over the seeds, bands one standard error of the mean.

    Args:
      runs: the methods.
      measure: any measure of the test set in [0, 1]: accuracy, balanced_accuracy, ...
      title: of the figure.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    finals, settled = [], [0.0]
    for (method, (result, h)), dash in zip(runs.items(), _dashes(runs), strict=True):
        steps = result.history["step"]
        errors = 100 * (1 - result.history[f"test_{measure}"][h])  # [S, E]
        mean, spread = finite_mean(errors, 0), standard_error(errors, 0)
        alive = int(np.isfinite(errors[:, -1]).sum())
        seeds = "" if alive == len(errors) else f" ({alive} of {len(errors)} seeds)"
        final = f"{mean[-1]:5.1f} %" if alive else "diverged"
        color = _color(method)
        label = f"{final}  {method}{seeds}"
        (line,) = axes.plot(steps, mean, color=color, linestyle=dash, lw=1.8, label=label)
        low, high = mean - spread, mean + spread
        axes.fill_between(steps, low, high, color=color, alpha=0.18, lw=0)
        finals.append((mean[-1] if alive else math.inf, len(finals), line))
        settled += [x for x in high[len(steps) // 4 :] if np.isfinite(x)]
        settled += [x for x in mean[len(steps) // 4 :] if np.isfinite(x)]
    axes.set_ylim(0, 1.08 * max(settled) or 1)  # the first steps may leave the picture
    axes.set_xlim(left=0)
    axes.set(xlabel="training steps", ylabel=f"test error (%): 100 - {_words(measure)}")
    axes.set_title(title, loc="left", fontweight="bold")
    clean_look(axes)
    figure.legend(
        handles=[line for *_, line in sorted(finals, key=lambda entry: entry[:2])],
        title="error at the end",
        loc="outside right upper",
        frameon=False,
        alignment="left",
    )
    return figure


def error_bars(
    groups: Mapping[str, Sequence[float]],
    *,
    title: str,
    label: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """A dot per seed, with the mean and its standard error; the lowest mean is on top.

    Args:
      groups: the values of each method, one per seed; one that is not finite is left out.
      title: of the figure.
      label: what the values are, with the unit.
      references: published values of some of the methods, to be marked.
    """
    values = {method: np.asarray(list(seeds), float) for method, seeds in groups.items()}
    means = {method: float(finite_mean(seeds, 0)) for method, seeds in values.items()}
    order = sorted(values, key=lambda m: math.inf if math.isnan(means[m]) else means[m])
    figure = Figure(figsize=(7.2, 1.4 + 0.42 * len(order)), layout="constrained")
    axes = figure.subplots()
    names = []
    for row, method in enumerate(order):
        seeds, color = values[method], _color(method)
        alive = seeds[np.isfinite(seeds)]
        part = f" ({alive.size} of {seeds.size} seeds)" if alive.size < seeds.size else ""
        names.append(method + part)
        axes.scatter(alive, np.full(alive.size, row + 0.17), s=16, color=color, alpha=0.5, lw=0)
        if alive.size:
            spread = np.nan_to_num(float(standard_error(seeds, 0)))  # of one seed: no bar
            style = {"fmt": "D", "ms": 5.5, "capsize": 3, "lw": 1.5}
            axes.errorbar(means[method], row - 0.08, xerr=spread, color=color, **style)
    handles = [
        Line2D([], [], color="#666666", marker="o", ls="", ms=4, alpha=0.6, label="one seed"),
        Line2D([], [], color="#666666", marker="D", ms=5.5, label="mean ± standard error"),
    ]
    if references:
        rows = [row for row, method in enumerate(order) if method in references]
        marks = [references[order[row]] for row in rows]
        style = {"color": REFERENCE, "marker": "|", "ms": 15, "mew": 2, "ls": ""}
        handles += axes.plot(marks, rows, **style, label="paper")
    axes.set_yticks(range(len(order)), labels=names)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", fontweight="bold")
    clean_look(axes)
    axes.grid(False, axis="y")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def differences(panels: Mapping[str, Mapping[str, tuple[float, float]]], *, title: str) -> Figure:
    """Differences with intervals, a panel per condition; the lowest mean over panels is on top.

    Args:
      panels: per condition, per method, the difference and the half-width of its interval. An
        interval that excludes zero is drawn in colour.
      title: of the figure.
    """
    methods = list(next(iter(panels.values())))
    averages = {m: np.mean([panel[m][0] for panel in panels.values()]) for m in methods}
    order = sorted(methods, key=lambda m: np.nan_to_num(averages[m], nan=np.inf))
    size = (2.2 + 2.6 * len(panels), 1.4 + 0.21 * len(order))
    figure = Figure(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for panel, (name, cells) in zip(axes, panels.items(), strict=True):
        for row, method in enumerate(order):
            value, half_width = cells[method]
            sure = abs(value) > half_width
            color = "#AAAAAA" if not sure else CLEAN if value < 0 else CORRUPTED
            panel.errorbar(value, row, xerr=np.nan_to_num(half_width), color=color, fmt="o", ms=3)
        panel.axvline(0, color="#333333", lw=0.8)
        panel.set_xscale("symlog", linthresh=4, linscale=1.5)
        low, high = panel.get_xlim()
        ticks = [t for t in (-60, -10, -3, -1, 0, 1, 3, 10, 60) if low <= t <= high]
        panel.set_xticks(ticks, labels=[f"{t:+d}" if t else "0" for t in ticks], fontsize=8)
        panel.minorticks_off()
        panel.set_title(name, fontsize=10)
        clean_look(panel)
        panel.grid(True, axis="y", color=_GRID, lw=0.3)
    axes[0].set_yticks(range(len(order)), labels=order, fontsize=8)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def scatter(x_values: np.ndarray, y_values: np.ndarray, *, x: str, y: str, title: str) -> Figure:
    """Points with both axes logarithmic; zeros are drawn at the lower edge."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    low_x, low_y = (np.min(values[values > 0], initial=1.0) / 2 for values in (x_values, y_values))
    axes.scatter(np.maximum(x_values, low_x), np.maximum(y_values, low_y), s=8, alpha=0.3, lw=0)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    clean_look(axes)
    return figure


def correlation_matrix(correlations: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """A matrix [M, M] in [-1, 1] as colours and numbers (in hundredths)."""
    size = 2.2 + 0.36 * len(names)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(correlations):
        if np.isfinite(value):
            color = "white" if abs(value) > 0.6 else "#333333"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
    axes.set_xticks(range(len(names)), labels=names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.6, label="Spearman's rank correlation")
    return figure


def _color(method: str) -> str:
    """The colour of a method by the first part of its name: that of `low:0.1` is that of `low`."""
    base = re.split(r"[+:(,]", method)[0].strip().lower().replace(" ", "_").replace("-", "_")
    other = _OTHER_COLORS[zlib.crc32(base.encode()) % len(_OTHER_COLORS)]
    return _COLORS.get(base) or other


def _dashes(methods: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Line styles that keep methods of one colour apart."""
    seen: Counter[str] = Counter()
    styles = []
    for method in methods:
        styles.append(_DASHES[seen[_color(method)] % len(_DASHES)])
        seen[_color(method)] += 1
    return styles


def titled_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure of a size in inches with a title at the upper left."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def small_multiples(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, at most three in a row, and those panels."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    width, height = max(columns * _PANEL[0], 4.8), rows * _PANEL[1] + 0.8
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def label_outer(panels: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Labels the x axis of the lowest panel of each column, the y axis of each row's first."""
    for i, panel in enumerate(panels):
        if i % 3 == 0:
            panel.set_ylabel(ylabel)
        if i + 3 >= len(panels):
            panel.set_xlabel(xlabel)


def clean_look(axes: Axes) -> None:
    """A light grid, and no frame at the top and the right."""
    axes.grid(True, color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _words(measure: str) -> str:
    return measure.replace("_", " ")
