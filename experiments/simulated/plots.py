"""Figures of the simulations: curves with bands, and what a classifier makes of the plane."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from experiments.reporting.plotting import titled_figure

_CLASSES = ("#D55E00", "#0072B2")  # of y = -1 and y = +1
_SHADES = ListedColormap(["#F8DFCC", "#CCE3F1"])
_ARMS = ("#333333", "#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9")


class Panel(NamedTuple):
    """Curves of several arms over steps, each [S, T]; a seed with a NaN is left out there."""

    title: str
    ylabel: str
    steps: np.ndarray  # [T]
    curves: Mapping[str, np.ndarray]
    log_y: bool = False


class Plane(NamedTuple):
    """A classifier of the plane with the points it was trained on."""

    title: str
    score: Callable[[np.ndarray], np.ndarray]  # [G, 2] -> [G]
    inputs: np.ndarray  # [N, 2]
    signs: np.ndarray  # [N]
    lines: Mapping[str, tuple[float, float, float]] = {}  # name -> (a, b, c) of a x + b y + c = 0


class Histogram(NamedTuple):
    """Values of several groups, each [M], between limits."""

    title: str
    xlabel: str
    groups: Mapping[str, np.ndarray]
    limits: tuple[float, float]


def panel_of_arms(
    title: str,
    ylabel: str,
    steps: np.ndarray,
    arms: Iterable[str],
    values: np.ndarray,
    *,
    log_y: bool = False,
) -> Panel:
    """A panel of curves [S, A, T], which belong to the arms in this order."""
    curves = {arm: values[:, a] for a, arm in enumerate(arms)}
    return Panel(title, ylabel, steps, curves, log_y)


def bands(panels: Sequence[Panel], *, title: str, num_columns: int = 3) -> Figure:
    """Medians over the seeds as lines, from quartile to quartile as bands; steps are logarithmic.

    An arm has one colour in all panels; the legend is shared.
    """
    figure, axes = _grid(len(panels), num_columns, title, (3.6, 2.9))
    arms = list(dict.fromkeys(arm for panel in panels for arm in panel.curves))
    colors = {arm: _ARMS[i % len(_ARMS)] for i, arm in enumerate(arms)}
    handles = {}
    for panel, ax in zip(panels, axes, strict=True):
        for arm, values in panel.curves.items():
            alive = np.isfinite(values).any(axis=0) & (panel.steps > 0)
            if not alive.any():
                continue
            low, middle, high = np.nanquantile(values[:, alive], [0.25, 0.5, 0.75], axis=0)
            steps = panel.steps[alive]
            (handles[arm],) = ax.plot(steps, middle, color=colors[arm], lw=1.7, label=arm)
            ax.fill_between(steps, low, high, color=colors[arm], alpha=0.16, lw=0)
        ax.set_xscale("log")
        if panel.log_y:
            ax.set_yscale("log")
        ax.set_title(panel.title, fontsize=10)
        ax.set(xlabel="steps", ylabel=panel.ylabel)
        ax.grid(True, color="#DDDDDD", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, handles)
    return figure


def planes(panels: Sequence[Plane], *, title: str, num_columns: int = 4) -> Figure:
    """The plane shaded by the predicted class, with training points and straight lines."""
    figure, axes = _grid(len(panels), num_columns, title, (2.7, 2.6))
    handles = {}
    for panel, ax in zip(panels, axes, strict=True):
        low, high = panel.inputs.min(axis=0), panel.inputs.max(axis=0)
        pad = 0.15 * (high - low).max()
        first, second = (np.linspace(a - pad, b + pad, 200) for a, b in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(first, second), axis=-1)
        score = np.asarray(panel.score(grid.reshape(-1, 2))).reshape(200, 200)
        ax.pcolormesh(first, second, score > 0, cmap=_SHADES, vmin=0, vmax=1, rasterized=True)
        for sign, color in zip((-1, 1), _CLASSES, strict=True):
            points = panel.inputs[panel.signs == sign]
            ax.scatter(*points.T, s=8, color=color, lw=0)
        for (name, (a, b, c)), color in zip(panel.lines.items(), _ARMS, strict=False):
            value = a * grid[..., 0] + b * grid[..., 1] + c
            ax.contour(first, second, value, levels=[0.0], colors=color, linewidths=1.5)
            (handles[name],) = ax.plot([], [], color=color, lw=1.5)
        ax.set_title(panel.title, fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    _legend(figure, handles)
    return figure


def histogram_panels(panels: Sequence[Histogram], *, title: str, num_columns: int = 5) -> Figure:
    """Shares of the values in thirty bins; a group has one colour in all panels."""
    figure, axes = _grid(len(panels), num_columns, title, (2.6, 2.3))
    handles = {}
    for i, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
        bins = np.linspace(*panel.limits, 31)
        for (name, values), color in zip(panel.groups.items(), _ARMS, strict=False):
            shares = 100 * np.histogram(values, bins)[0] / len(values)
            ax.stairs(shares, bins, color=color, alpha=0.2, fill=True)
            handles[name] = ax.stairs(shares, bins, color=color, lw=1.4)
        ax.set_title(panel.title, fontsize=10)
        ax.set(xlabel=panel.xlabel, xlim=panel.limits, ylim=(0, None))
        if i % num_columns == 0:
            ax.set_ylabel("examples (%)")
        ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, handles)
    return figure


def _legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """One for all panels, below them; none without entries."""
    if handles:
        columns = 5 if len(handles) == 5 else 4
        entries = list(handles.values()), list(handles)
        figure.legend(*entries, loc="outside lower center", frameon=False, ncols=columns)


def _grid(
    count: int, num_columns: int, title: str, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, `num_columns` in a row."""
    columns = min(count, num_columns)
    rows = math.ceil(count / columns)
    figure = titled_figure(title, size[0] * columns, size[1] * rows + 0.9)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]
