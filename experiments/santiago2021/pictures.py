"""Curves along training and final distributions, as the paper draws them.

Lines are means over the seeds and bands one standard deviation, as in the paper (other figures of
this package show standard errors). They go against training steps, of which all methods make as
many; the paper's go against epochs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.reporting.plotting import clean_look
from experiments.santiago2021.claims import class_weight_curves, error_curves, final_errors
from experiments.tools.statistics import finite_mean
from experiments.training.result import Result

_NORMAL = "#333333"
_BLUES = ("#9ECAE1", "#4292C6", "#08519C", "#041E42")  # LOW, from mild to extreme
_OTHERS = {
    "FL": "#CC79A7",
    "SPL": "#E69F00",
    "IS": "#009E73",
    "MentorNet": "#D55E00",
    "bCE": "#009E73",
}
_FLOOR = 1e-4  # of logarithmic axes


class DrawnRun(NamedTuple):
    """A run as it is drawn: a result at one setting."""

    label: str
    result: Result
    h: int
    kind: str  # what its colour stands for: Normal, LOW, or another method or loss
    is_dashed: bool = False


def _styles(runs: Sequence[DrawnRun]) -> list[dict]:
    """Colour and dashes of every run: blues for LOW in their order, and a colour a method."""
    many = sum(run.kind == "LOW" for run in runs) > 2
    blues = iter(_BLUES if many else _BLUES[2:])
    found = []
    for run in runs:
        color = next(blues, _BLUES[-1]) if run.kind == "LOW" else _OTHERS.get(run.kind, _NORMAL)
        found.append({"color": color, "linestyle": "--" if run.is_dashed else "-"})
    return found


def _band(axes: Axes, steps: np.ndarray, curves: np.ndarray, label: str, style: dict) -> None:
    """Draws mean and standard deviation of curves [S, E] against the steps [E]."""
    mean = finite_mean(curves, 0)
    deviation = np.sqrt(finite_mean((curves - mean) ** 2, 0))
    axes.plot(steps, mean, lw=1.6, label=label, **style)
    low, high = mean - deviation, mean + deviation
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def training_figure(runs: Sequence[DrawnRun], *, title: str) -> Figure:
    """Training loss and training error against steps, both logarithmic.

    They are means over the batches since the last evaluation, measured before each step and without
    weights.
    """
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, result, h, *_), style in zip(runs, _styles(runs), strict=True):
        steps = result.history["step"]
        _band(left, steps, _at_least(result.history["train_loss"][h]), label, style)
        _band(right, steps, _at_least(error_curves(result, h, "train")), label, style)
    for axes, name in ((left, "training loss"), (right, "training error (%)")):
        axes.set(xlabel="step", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _logarithmic(axes)
        clean_look(axes)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def curves_and_final_errors(runs: Sequence[DrawnRun], *, title: str) -> Figure:
    """Test error against steps, and beside it a dot per seed at the end with their mean."""
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    tops = []
    for row, ((label, result, h, *_), style) in enumerate(zip(runs, _styles(runs), strict=True)):
        curves, color = error_curves(result, h), style["color"]
        _band(left, result.history["step"], curves, label, style)
        tops.append(np.nanmax(finite_mean(curves, 0)[curves.shape[1] // 4 :], initial=0.0))
        ends = final_errors(result, h)
        right.scatter(ends, np.full(len(ends), row), s=18, color=color, alpha=0.5, lw=0)
        right.plot([np.mean(ends)], [row], marker="|", ms=17, mew=2.2, color=color)
    left.set(xlabel="step", ylabel="test error (%)", ylim=(0, 1.1 * max(tops) or 1))
    left.xaxis.set_major_locator(MaxNLocator(6))
    right.set_yticks(range(len(runs)), labels=[run.label for run in runs])
    right.set_ylim(len(runs) - 0.5, -0.5)
    right.set_xlabel("test error at the end (%): seeds, mean")
    for axes in (left, right):
        clean_look(axes)
    right.grid(False, axis="y")
    left.legend(frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def error_by_lambda(
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]], normal: np.ndarray, *, title: str
) -> Figure:
    """Test error at the end against lambda, with Normal as a line.

    Args:
      curves: by label, the values of lambda and the errors [H, S].
      normal: errors of Normal [S].
      title: of the figure.
    """
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for (label, (values, errors)), color in zip(
        curves.items(), ("#08519C", "#E69F00"), strict=False
    ):
        order = np.argsort(values)
        x, mean = np.asarray(values)[order], errors.mean(axis=1)[order]
        deviation = errors.std(axis=1)[order]
        axes.errorbar(
            x, mean, yerr=deviation, color=color, marker="o", ms=5, capsize=3, lw=1.6, label=label
        )
        for h, value in enumerate(values):
            axes.scatter(np.full(errors.shape[1], value), errors[h], s=12, color=color, alpha=0.4)
    axes.axhline(normal.mean(), color=_NORMAL, lw=1.6, label="Normal")
    low, high = normal.mean() - normal.std(), normal.mean() + normal.std()
    axes.axhspan(low, high, color=_NORMAL, alpha=0.12, lw=0)
    axes.set(
        xscale="log", xlabel="λ, for per-example gradients", ylabel="test error at the end (%)"
    )
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    clean_look(axes)
    return figure


def weights_of_classes(runs: Sequence[DrawnRun], names: Sequence[str], *, title: str) -> Figure:
    """Mean weight of every class's examples against steps, a panel per run."""
    figure = Figure(figsize=(1.9 + 4.6 * len(runs), 4.0), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
    colors = matplotlib.colormaps["tab10"](np.arange(len(names)) % 10)
    for panel, (label, result, h, *_) in zip(panels, runs, strict=True):
        weights = finite_mean(class_weight_curves(result, h), 0)
        for c, name in enumerate(names):
            panel.plot(result.history["step"], weights[:, c], color=colors[c], lw=1.6, label=name)
        panel.axhline(1, color=_NORMAL, lw=0.8, ls=":")
        panel.set_title(label, fontsize=10)
        panel.set_xlabel("step")
        clean_look(panel)
    panels[0].set_ylabel("mean weight of the class")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0) if high > 5 * low else range(1, 10)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _at_least(curves: np.ndarray) -> np.ndarray:
    return np.maximum(np.asarray(curves, float), _FLOOR)
