"""Images of lowest and of highest weight side by side, the label in the upper left corner."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.explain.telescope import mean_weights
from experiments.training.result import Result

_GAP, _CAPTION = 0.08, 0.24  # in image sides


def extreme_positions(weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the `count` lowest and of the `count` highest weights; NaNs are left out."""
    order = np.argsort(weights, kind="stable")
    order = order[np.isfinite(weights[order])]
    count = min(count, order.size // 2)
    return order[:count], order[::-1][:count]


def lightest_and_heaviest(
    images: np.ndarray,
    labels: list[str],
    weights: np.ndarray,
    *,
    title: str,
    rows: int = 5,
    columns: int = 4,
) -> Figure:
    """Two blocks of images: those of lowest weight on the left, of highest on the right.

    Args:
      images: uint8 [N, height, width, channels].
      labels: [N], to be written into the images.
      weights: [N]; written under the images.
      title: of the figure.
      rows: of each block.
      columns: of each block.
    """
    figure = Figure(figsize=(2 * columns + 0.6, 1.22 * rows + 0.8), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    panels = figure.subplots(1, 2)
    ends = extreme_positions(weights, rows * columns)
    for panel, name, chosen in zip(panels, ("Lowest", "Highest"), ends, strict=True):
        for place, i in enumerate(chosen):
            row, column = divmod(place, columns)
            _draw(panel, images[i], row, column, labels[i], f"{weights[i]:.3f}")
        panel.set(
            xlim=(0, columns * (1 + _GAP)), ylim=(rows * (1 + _CAPTION), -_GAP), aspect="equal"
        )
        panel.set_title(f"{name} weights", fontsize=10)
        panel.set_axis_off()
    return figure


def run_gallery(
    result: Result,
    h: int,
    seed: int,
    inputs: np.ndarray,
    *,
    names: tuple[str, ...] | None = None,
    title: str,
    rows: int = 5,
    columns: int = 4,
) -> Figure:
    """The same of a run's training images by their mean weight over all of the training."""
    weights = mean_weights(result, h, seed)
    chosen = np.unique(np.concatenate(extreme_positions(weights, rows * columns)))
    labels = result.labels[seed, chosen]
    return lightest_and_heaviest(
        inputs[result.indices[seed, chosen]],
        [str(names[c]) if names is not None else str(c) for c in labels],
        weights[chosen],
        title=title,
        rows=rows,
        columns=columns,
    )


def _draw(panel: Axes, image: np.ndarray, row: int, column: int, label: str, under: str) -> None:
    x, y = column * (1 + _GAP), row * (1 + _CAPTION)
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(x, x + 1, y + 1, y))
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.0}
    panel.text(
        x + 0.03, y + 0.03, label, ha="left", va="top", fontsize=7, color="#08519C", bbox=box
    )
    panel.text(x + 0.5, y + 1.02, under, ha="center", va="top", fontsize=7)
