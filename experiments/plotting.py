"""Figures of finished runs, drawn from their results alone.

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

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.files import write_atomically
from experiments.result import Result
from weighting.metrics import corruption_auc

Runs = Mapping[str, tuple[Result, int]]

# Distinguishable under the common colour-vision deficiencies (Okabe and Ito), and greys.
_COLORS = {
    "uniform": "#333333",
    "random": "#999999",
    "proportion": "#E69F00",
    "resample": "#8C6D1F",
    "hard_mining": "#D55E00",
    "top_losses": "#A23B00",
    "self_paced": "#56B4E9",
    "focal": "#CC79A7",
    "low": "#0072B2",
    "low_osqp": "#4A9FD8",
    "low_last_layer": "#003F66",
    "lookahead": "#009E73",
    "lookahead_kept": "#66C9AD",
    "lookahead_last_layer": "#00553E",
    "clean_only": "#B8A100",
}
_OTHER_COLORS = ("#882255", "#44AA99", "#AA4499", "#999933", "#332288", "#CC6677")
_DASHES = ("-", "--", ":", "-.")
_CLEAN, _CORRUPTED = "#0072B2", "#D55E00"
_REFERENCE, _GRID = "#CC0000", "#DDDDDD"
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
        mean, standard_error = _mean(errors, 0), _standard_error(errors, 0)
        alive = int(np.isfinite(errors[:, -1]).sum())
        seeds = "" if alive == len(errors) else f" ({alive} of {len(errors)} seeds)"
        final = f"{mean[-1]:5.1f} %" if alive else "diverged"
        color = _color(method)
        label = f"{final}  {method}{seeds}"
        (line,) = axes.plot(steps, mean, color=color, linestyle=dash, lw=1.8, label=label)
        low, high = mean - standard_error, mean + standard_error
        axes.fill_between(steps, low, high, color=color, alpha=0.18, lw=0)
        finals.append((mean[-1] if alive else math.inf, len(finals), line))
        settled += [x for x in high[len(steps) // 4 :] if np.isfinite(x)]
        settled += [x for x in mean[len(steps) // 4 :] if np.isfinite(x)]
    axes.set_ylim(0, 1.08 * max(settled) or 1)  # the first steps may leave the picture
    axes.set_xlim(left=0)
    axes.set(xlabel="training steps", ylabel=f"test error (%): 100 - {_words(measure)}")
    axes.set_title(title, loc="left", fontweight="bold")
    _clean_look(axes)
    figure.legend(
        handles=[line for *_, line in sorted(finals, key=lambda entry: entry[:2])],
        title="error at the end",
        loc="outside right upper",
        frameon=False,
        alignment="left",
    )
    return figure


def weight_histograms(runs: Runs, *, title: str) -> Figure:
    """Mean weights of clean and of corrupted training examples, one panel per method.

    The mean is over the second half of the training; all seeds are pooled. A panel's title tells
    which weights flag wrong labels, and the AUC of the weight as their detector. The last bar also
    counts the few larger weights.
    """
    figure, panels = _small_multiples(len(runs), title)
    for panel, (method, (result, h)) in zip(panels, runs.items(), strict=True):
        weights = _late_weights(result, h).ravel()
        drawn = np.isfinite(weights)
        weights, corrupted = weights[drawn], (result.labels != result.true_labels).ravel()[drawn]
        highest = float(np.quantile(weights, 0.995)) if weights.size else 0.0
        bins = np.linspace(0, max(1.05 * highest, 2.0), 36)
        inside = np.minimum(weights, bins[-1])
        for is_kind, color, name in (
            (~corrupted, _CLEAN, "right label"),
            (corrupted, _CORRUPTED, "wrong label"),
        ):
            share = np.histogram(inside[is_kind], bins)[0] * 100 / max(is_kind.sum(), 1)
            panel.stairs(share, bins, color=color, alpha=0.35, fill=True)
            panel.stairs(share, bins, color=color, lw=1.4, label=name)
        panel.set_title(f"{method}\n{_detector(weights, corrupted)}", fontsize=9.5)
        panel.set(xlim=(0, bins[-1]), ylim=(0, None))
        _clean_look(panel)
    _label_outer(panels, "mean weight in the second half", "share of examples (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def weights_by_class(runs: Runs, *, title: str) -> Figure:
    """Mean weight of each class's examples against steps, one panel per method.

    Dark lines are rare classes, bright ones frequent; the colour bar tells sizes in the training
    set by given label, averaged over seeds.
    """
    figure, panels = _small_multiples(len(runs), title)
    result = next(iter(runs.values()))[0]
    num_classes = result.history["class_weights"].shape[-1]
    sizes = np.mean([np.bincount(row, minlength=num_classes) for row in result.labels], axis=0)
    order = np.argsort(sizes, kind="stable")
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.93, num_classes))
    tops = []
    for panel, (method, (result, h)) in zip(panels, runs.items(), strict=True):
        weights = _mean(result.history["class_weights"][h], 0)  # [E, C]
        known = np.isfinite(weights).any(axis=1)
        steps = result.history["step"][known]
        panel.axhline(1, color="#888888", lw=0.8, ls=":", zorder=1)
        for color, c in zip(colors, order, strict=True):
            panel.plot(steps, weights[known, c], color=color, lw=1.5, label=f"class {c}")
        tops += [1.0, *weights[np.isfinite(weights)]]
        panel.set_title(method, fontsize=9.5)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        _clean_look(panel)
    for panel in panels:
        panel.set_ylim(0, 1.06 * max(tops))
    _label_outer(panels, "training steps", "mean weight")
    norm = BoundaryNorm(np.arange(num_classes + 1) - 0.5, num_classes)
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colors)), ax=panels, pad=0.02)
    shown = np.unique(np.linspace(0, num_classes - 1, min(num_classes, 12)).astype(int)).tolist()
    bar.set_ticks(shown, labels=[f"{order[i]}: {sizes[order[i]]:.0f}" for i in shown])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.ax.minorticks_off()
    bar.set_label("class: examples, rare to frequent", fontsize=9)
    return figure


def extreme_examples(
    result: Result,
    h: int,
    seed: int,
    inputs: np.ndarray,
    *,
    rows: int = 2,
    columns: int = 10,
    title: str,
) -> Figure:
    """The training images with the highest and with the lowest mean weights, and their labels.

    The mean is over the second half of the training. A wrong label is framed in red and written
    "given → true". Where more examples tie than there is room for, evenly spaced ones are shown.

    Args:
      result: of the run.
      h: the configuration.
      seed: the seed, which chooses the training set.
      inputs: uint8 [M, height, width, channels], the dataset that `result.indices` counts in.
      rows: rows of images for each of the two groups.
      columns: images in a row.
      title: of the figure.
    """
    weights = _late_weights(result, h)[seed]
    labels, truth = result.labels[seed], result.true_labels[seed]
    figure = Figure(figsize=(0.85 * columns + 0.3, 2.05 * rows + 1.3), layout="constrained")
    note = "Over an image its label, given → true if wrong; under it its mean weight."
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(note, fontsize=9, x=0.01, ha="left")
    groups = figure.subfigures(2, 1, squeeze=False).ravel()
    for group, name, sign in zip(groups, ("Highest", "Lowest"), (-1, 1), strict=True):
        chosen, num_tied = _lowest(sign * weights, rows * columns)
        share = 100 * np.mean(labels[chosen] != truth[chosen]) if chosen.size else 0.0
        text = f"{name} weights: {share:.0f} % wrong labels"
        if num_tied:
            text += f" ({num_tied} examples tie at {abs(weights[chosen[-1]]):.2f})"
        group.suptitle(text, fontsize=10.5, x=0.01, ha="left")
        panels = group.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[chosen.size :]:
            panel.set_axis_off()
        for panel, i in zip(panels, chosen, strict=False):
            _show_image(panel, inputs[result.indices[seed, i]])
            wrong = labels[i] != truth[i]
            caption = f"{labels[i]} → {truth[i]}" if wrong else f"{labels[i]}"
            panel.set_title(caption, fontsize=8, color=_REFERENCE if wrong else "black", pad=3)
            panel.set_xlabel(f"{weights[i]:.2f}", fontsize=7.5, labelpad=2)
            for spine in panel.spines.values():
                spine.set(color=_REFERENCE if wrong else "#BBBBBB", linewidth=2.2 if wrong else 0.6)
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
    means = {method: float(_mean(seeds, 0)) for method, seeds in values.items()}
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
            spread = np.nan_to_num(float(_standard_error(seeds, 0)))  # of one seed: no bar
            style = {"fmt": "D", "ms": 5.5, "capsize": 3, "lw": 1.5}
            axes.errorbar(means[method], row - 0.08, xerr=spread, color=color, **style)
    handles = [
        Line2D([], [], color="#666666", marker="o", ls="", ms=4, alpha=0.6, label="one seed"),
        Line2D([], [], color="#666666", marker="D", ms=5.5, label="mean ± standard error"),
    ]
    if references:
        rows = [row for row, method in enumerate(order) if method in references]
        marks = [references[order[row]] for row in rows]
        style = {"color": _REFERENCE, "marker": "|", "ms": 15, "mew": 2, "ls": ""}
        handles += axes.plot(marks, rows, **style, label="paper")
    axes.set_yticks(range(len(order)), labels=names)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", fontweight="bold")
    _clean_look(axes)
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
            color = "#AAAAAA" if not sure else _CLEAN if value < 0 else _CORRUPTED
            panel.errorbar(value, row, xerr=np.nan_to_num(half_width), color=color, fmt="o", ms=3)
        panel.axvline(0, color="#333333", lw=0.8)
        panel.set_xscale("symlog", linthresh=4, linscale=1.5)
        low, high = panel.get_xlim()
        ticks = [t for t in (-60, -10, -3, -1, 0, 1, 3, 10, 60) if low <= t <= high]
        panel.set_xticks(ticks, labels=[f"{t:+d}" if t else "0" for t in ticks], fontsize=8)
        panel.minorticks_off()
        panel.set_title(name, fontsize=10)
        _clean_look(panel)
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
    _clean_look(axes)
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
    return _COLORS.get(base, other)


def _dashes(methods: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Line styles that keep methods of one colour apart."""
    seen: Counter[str] = Counter()
    styles = []
    for method in methods:
        styles.append(_DASHES[seen[_color(method)] % len(_DASHES)])
        seen[_color(method)] += 1
    return styles


def _late_weights(result: Result, h: int) -> np.ndarray:
    """Mean weights [S, N] over the second half of the evaluations that have weights."""
    weights = result.history["example_weights"][h]  # [S, E, N]
    weighted = np.flatnonzero(np.isfinite(weights).any(axis=(0, 2)))
    return _mean(weights[:, weighted[weighted.size // 2 :]], 1)


def _detector(weights: np.ndarray, corrupted: np.ndarray) -> str:
    if not 0 < corrupted.sum() < corrupted.size:
        return "one kind of label only"
    auc = float(corruption_auc(jnp.asarray(weights), jnp.asarray(corrupted)))
    if abs(auc - 0.5) < 0.005:
        return "weight does not flag noise (AUC 0.50)"
    kind = "low" if auc > 0.5 else "high"
    return f"{kind} weight flags noise (AUC {max(auc, 1 - auc):.2f})"


def _lowest(values: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Positions of the `count` lowest values in order, and how many tie for the last places.

    NaNs do not count. If not all that tie fit in, evenly spaced ones are taken; otherwise 0 tie.
    """
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    if order.size <= count:
        return order, 0
    last = values[order[count - 1]]
    below, tied = order[values[order] < last], order[values[order] == last]
    room = count - below.size
    chosen = tied[:: tied.size // room][:room]
    return np.concatenate([below, chosen]), tied.size if tied.size > room else 0


def _show_image(panel: Axes, image: np.ndarray) -> None:
    gray = image.shape[-1] == 1
    panel.imshow(image[..., 0] if gray else image, cmap="gray_r", vmin=0, vmax=255)
    panel.set_xticks([])
    panel.set_yticks([])


def _small_multiples(count: int, title: str) -> tuple[Figure, list[Axes]]:
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


def _label_outer(panels: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Labels the x axis of the lowest panel of each column, the y axis of each row's first."""
    for i, panel in enumerate(panels):
        if i % 3 == 0:
            panel.set_ylabel(ylabel)
        if i + 3 >= len(panels):
            panel.set_xlabel(xlabel)


def _clean_look(axes: Axes) -> None:
    axes.grid(True, color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0).sum(axis=axis, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _standard_error(values: np.ndarray, axis: int) -> np.ndarray:
    """Standard error of the mean of what is finite; NaN for fewer than two values."""
    count = np.isfinite(values).sum(axis=axis)
    squares = (values - np.expand_dims(_mean(values, axis), axis)) ** 2
    variance = _mean(squares, axis) * count / np.maximum(count - 1, 1)
    return np.where(count > 1, np.sqrt(variance / np.maximum(count, 1)), np.nan)
