"""Pictures of the images' generalization errors: zhou2022, Figs. 1 and 2."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.reporting.plotting import CLEAN, CORRUPTED, clean_look, titled_figure

_Found = Mapping[str, np.ndarray]
_MOST_POINTS = 4000


def _unit(values: np.ndarray) -> np.ndarray:
    """Values scaled to [0, 1]; equal values become zero."""
    low, spread = values.min(), np.ptp(values)
    return (values - low) / (spread if spread > 0 else 1)


def error_distributions(found: Mapping[str, Sequence[_Found]]) -> Figure:
    """Distributions of the error, all seeds together: clean and noisy, and by category."""
    title = "Generalization error of training images (cross-entropy, five-fold cross-validation)"
    figure = titled_figure(title, 10.4, 4.0)
    left, right = figure.subplots(1, 2)
    if "noise" in found:
        _noise_panel(left, found["noise"])
    else:
        left.remove()
    if "imbalance" in found:
        _category_panel(right, found["imbalance"])
    else:
        right.remove()
    return figure


def _noise_panel(axes: Axes, seeds: Sequence[_Found]) -> None:
    error = np.concatenate([s["error"] for s in seeds])
    noisy = np.concatenate([s["label"] != s["true_label"] for s in seeds])
    low = max(np.quantile(error, 0.001), 1e-6)
    bins = np.geomspace(low, error.max(), 41)
    for mask, color, name in ((~noisy, CLEAN, "clean"), (noisy, CORRUPTED, "noisy")):
        own = np.clip(error[mask], low, None)
        shares = 100 * np.histogram(own, bins)[0] / max(mask.sum(), 1)
        label = f"{name}: mean {error[mask].mean():.2f}"
        axes.stairs(shares, bins, color=color, alpha=0.25, fill=True)
        axes.stairs(shares, bins, color=color, lw=1.5, label=label)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.set(xlabel="generalization error", ylabel="share of its kind (%)")
    axes.set_title("a  10 % of the labels wrong", loc="left", fontsize=10)
    clean_look(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _category_panel(axes: Axes, seeds: Sequence[_Found]) -> None:
    count = int(max(s["label"].max() for s in seeds)) + 1
    groups = [np.concatenate([s["error"][s["label"] == c] for s in seeds]) for c in range(count)]
    sizes = [int(np.mean([np.sum(s["label"] == c) for s in seeds])) for c in range(count)]
    axes.boxplot(
        groups,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": "#CCE3F1", "edgecolor": CLEAN},
        medianprops={"color": CLEAN},
        whiskerprops={"color": CLEAN},
        capprops={"color": CLEAN},
    )
    means = [group.mean() for group in groups]
    axes.plot(range(1, count + 1), means, "D", color=CORRUPTED, ms=4, label="mean")
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_xticks(range(1, count + 1), labels=[str(n) for n in sizes])
    axes.set(xlabel="images of the category, largest to smallest", ylabel="generalization error")
    axes.set_title("b  classes 10 : 1 (boxes: quartiles, 5 % to 95 %)", loc="left", fontsize=10)
    clean_look(axes)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _plain_ticks(axis: Axis) -> None:
    """Labels a logarithmic axis with plain numbers, few enough not to overlap."""
    low, high = axis.get_view_interval()
    wide = np.log10(high / low) > 2.5
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def error_against_measures(drawn: Mapping[str, tuple[Mapping[str, np.ndarray], _Found]]) -> Figure:
    """Error against average margin and uncertainty, each scaled to [0, 1]; a row per set."""
    title = "Generalization error of training images of one seed; all values scaled to [0, 1]"
    figure = titled_figure(title, 10.4, 3.7 * len(drawn) + 0.6)
    panels = figure.subplots(len(drawn), 2, squeeze=False)
    for row, (name, (groups, found)) in zip(panels, drawn.items(), strict=True):
        chosen = np.random.default_rng(0).permutation(len(found["error"]))[:_MOST_POINTS]
        error = _unit(found["error"])
        columns = (("a", "margin", "average margin"), ("b", "uncertainty", "epistemic uncertainty"))
        for axes, (letter, measure, words) in zip(row, columns, strict=True):
            values = _unit(found[measure])
            parts = [(part, mask) for part, mask in groups.items() if part != "all"]
            for (part, mask), color in zip(parts, (CLEAN, CORRUPTED), strict=True):
                own = chosen[mask[chosen]]
                axes.scatter(values[own], error[own], s=7, color=color, alpha=0.35, lw=0)
                axes.scatter([], [], s=20, color=color, lw=0, label=part)
            axes.set(xlabel=words, ylabel="generalization error")
            axes.set_title(f"{letter}  {name}", loc="left", fontsize=10)
            clean_look(axes)
            axes.legend(frameon=False, fontsize=9, loc="upper right")
    return figure
