"""Pictures of normalized margins and test errors along training: zhou2022, Fig. 5a-c."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.plotting import clean_look, titled_figure
from experiments.zhou2022.arms import EQUAL, stored_arms
from experiments.zhou2022.raised_weights import IMAGE_SETTINGS

_Found = Mapping[str, np.ndarray]
_EQUAL = "#333333"
_RAISED = ("#E69F00", "#D55E00", "#882255", "#CC79A7")
_LOWERED = ("#56B4E9", "#0072B2")


def margins_figure(found: Mapping[str, _Found], what: str) -> Figure:
    """Smallest margin and 1 % quantile over the epochs, a column per setting of Fig. 5a-c."""
    shown = [name for name in found if IMAGE_SETTINGS[name].panel != "A-5"] or list(found)
    title = f"Normalized margins along training, {what}: medians and quartiles over the seeds"
    figure = titled_figure(title, 3.9 * len(shown) + 0.4, 7.2)
    panels = figure.subplots(2, len(shown), squeeze=False)
    for name, column in zip(shown, panels.T, strict=True):
        words = ("normalized margin", "1 % quantile")
        for axes, measure, label in zip(column, ("smallest", "quantile"), words, strict=True):
            _draw(axes, name, found[name], found[name][measure])
            axes.set_ylabel(label)
            axes.set_ylim(*_limits(found[name][measure]))
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        column[0].set_title(
            f"{IMAGE_SETTINGS[name].panel}  {IMAGE_SETTINGS[name].title}", loc="left"
        )
        _legend(column[1])
    return figure


def errors_figure(
    found: Mapping[str, _Found], tail_error: Callable[[_Found], np.ndarray], what: str
) -> Figure:
    """Balanced test error over the epochs by setting, and the tail categories' where there are."""
    shown = [(name, found[name]["test_error"], "test error (%)") for name in found]
    if "imbalance" in found:
        place = list(found).index("imbalance") + 1
        own = tail_error(found["imbalance"])
        shown.insert(place, ("imbalance", own, "test error, tail categories (%)"))
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    title = f"Test errors along training, {what}: medians and quartiles over the seeds"
    figure = titled_figure(title, 3.9 * columns + 0.4, 3.9 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes, (name, values, label) in zip(panels, shown, strict=False):
        _draw(axes, name, found[name], 100 * values)
        axes.set_ylabel(label)
        late = 100 * np.median(values[:, :, values.shape[2] // 10 :], axis=0)
        pad = 0.1 * np.ptp(late) + 0.1
        axes.set_ylim(max(late.min() - pad, 0), late.max() + pad)
        axes.set_title(f"{IMAGE_SETTINGS[name].panel}  {IMAGE_SETTINGS[name].title}", loc="left")
        _legend(axes)
    return figure


def _draw(axes: Axes, name: str, found: _Found, values: np.ndarray) -> None:
    """_Found [S, A, E] of a setting's arms: grey equal, warm raised, blue lowered."""
    warm, cold = iter(_RAISED), iter(_LOWERED)
    names = found["arms"].tolist()
    for arm in stored_arms(IMAGE_SETTINGS[name].arms, found):
        color = _EQUAL if arm == EQUAL else next(cold) if arm.lowers else next(warm)
        low, middle, high = np.quantile(values[:, names.index(arm.name)], [0.25, 0.5, 0.75], axis=0)
        axes.plot(found["epoch"], middle, color=color, lw=1.6, label=arm.name)
        axes.fill_between(found["epoch"], low, high, color=color, alpha=0.15, lw=0)
    axes.set_xlabel("epochs")
    clean_look(axes)


def _legend(axes: Axes) -> None:
    """Below the panel, where no curve is."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    axes.legend(frameon=False, fontsize=8, ncols=2, **place)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Limits that show the ends; what lies far below, early in training, may leave the picture."""
    ends = np.median(values[:, :, values.shape[2] // 3 :], axis=0)  # [A, E]
    top = float(np.quantile(values, 0.75, axis=0)[:, values.shape[2] // 3 :].max())
    bottom = float(np.sort(ends.min(axis=1))[min(1, len(ends) - 1)])
    pad = 0.06 * (top - bottom) or 1e-6
    return bottom - pad, top + pad
