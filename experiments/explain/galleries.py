"""Galleries of the training images with the highest and with the lowest weights."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.explain.telescope import late_weights, mean_weights
from experiments.reporting.plotting import REFERENCE
from experiments.training.result import Result

_MOST_CLASSES = 12  # in one gallery
_WIDTH, _HEIGHT = 1.12, 1.62  # of a cell, in image sides: room for the label and the weight


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
    weights = late_weights(result, h)[seed]
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
            panel.set_title(caption, fontsize=8, color=REFERENCE if wrong else "black", pad=3)
            panel.set_xlabel(f"{weights[i]:.2f}", fontsize=7.5, labelpad=2)
            for spine in panel.spines.values():
                spine.set(color=REFERENCE if wrong else "#BBBBBB", linewidth=2.2 if wrong else 0.6)
    return figure


def class_gallery(
    result: Result,
    h: int,
    seed: int,
    inputs: np.ndarray,
    *,
    columns: int = 6,
    names: Sequence[str] | None = None,
    title: str,
) -> Figure:
    """A row for every class by given label: its images of lowest and of highest mean weight.

    The mean is over the whole training. The extreme image stands on the left of its group. Of many
    classes evenly spaced ones are shown, of tied examples, too.

    Args:
      result: of the run.
      h: the configuration.
      seed: the seed, which chooses the training set.
      inputs: uint8 [M, height, width, channels], the dataset that `result.indices` counts in.
      columns: images of each group in a row.
      names: of the classes [C]; by default their numbers.
      title: of the figure.
    """
    weights, labels = mean_weights(result, h, seed), result.labels[seed]
    present = np.unique(labels[np.isfinite(weights)])
    few = min(present.size, _MOST_CLASSES)
    classes = present[np.linspace(0, max(present.size - 1, 0), few).round().astype(int)]
    size = (1.7 * columns + 1.3, 1.25 * max(few, 1) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    note = "Rows: given labels. Over a wrongly labelled image its true label; under it its weight."
    figure.supxlabel(note, fontsize=9, x=0.01, ha="left")
    panels = figure.subplots(1, 2)
    for panel, name, sign in zip(panels, ("Lowest", "Highest"), (1, -1), strict=True):
        for row, c in enumerate(classes):
            own = np.where(labels == c, sign * weights, np.nan)
            for column, i in enumerate(_lowest(own, columns)[0]):
                true = result.true_labels[seed, i]
                text = "" if true == labels[i] else f"→ {_name(names, true)}"
                image = inputs[result.indices[seed, i]]
                _place(panel, image, column, row, text, f"{weights[i]:.2f}")
        panel.set(xlim=(-0.05, columns * _WIDTH), ylim=(max(few, 1) * _HEIGHT - 0.3, -0.35))
        panel.set_aspect("equal")
        panel.set_title(f"{name} mean weights", fontsize=10.5)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
    panels[0].set_yticks(
        [row * _HEIGHT + 0.5 for row in range(few)], labels=[_name(names, c) for c in classes]
    )
    panels[0].tick_params(length=0, labelsize=10)
    return figure


def _place(panel: Axes, image: np.ndarray, column: int, row: int, over: str, under: str) -> None:
    """Puts an image into a cell, with text over it (then it gets a frame) and under it."""
    x, y = column * _WIDTH, row * _HEIGHT
    gray = image.shape[-1] == 1
    pixels = image[..., 0] if gray else image
    panel.imshow(pixels, cmap="gray_r", vmin=0, vmax=255, extent=(x, x + 1, y + 1, y))
    color, width = (REFERENCE, 2.0) if over else ("#BBBBBB", 0.6)
    panel.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=color, lw=width))
    panel.text(x + 0.5, y - 0.05, over, ha="center", va="bottom", fontsize=8, color=REFERENCE)
    panel.text(x + 0.5, y + 1.04, under, ha="center", va="top", fontsize=8)


def _name(names: Sequence[str] | None, c: int) -> str:
    return str(c) if names is None else names[c]


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
