"""What one finished training shows: its final measures, and who was weighted up."""

from pathlib import Path

import numpy as np

from experiments.explain import galleries, telescope_plots
from experiments.reporting import plotting
from experiments.reporting.page import Page, Picture, Table
from experiments.training.config import RunConfig
from experiments.training.driver import load_source
from experiments.training.result import Result, load_result

_SHOWN = ("test_", "validation_", "corruption")


def training_page(folder: Path) -> Page:
    """A table of the final measures of one training, and its figures."""
    result = load_result(folder)
    config = result.configs[0]
    seconds = result.seconds_per_step * (config.num_steps + config.fine_tune_steps)
    title = f"{config.label} on {config.task.dataset}, {seconds:.1f} s of training"
    header = ["final measure", "mean", "std. error", "seeds"]
    return Page(
        tables=[Table(header, _final_measures(result), title)],
        figures=_pictures(result, config),
    )


def _final_measures(result: Result) -> list[list[str]]:
    rows = []
    for name in sorted(result.history):
        values = result.history[name]
        final = values[0, :, -1] if values.ndim == 3 else np.array([np.nan])
        if name.startswith(_SHOWN) and np.all(np.isfinite(final)):
            spread = np.std(final, ddof=1) / np.sqrt(final.size) if final.size > 1 else np.nan
            rows.append([name, f"{final.mean():.4f}", f"{spread:.4f}", str(final.size)])
    return rows


def _pictures(result: Result, config: RunConfig) -> list[Picture]:
    runs = {config.label: (result, 0)}
    title = f"{config.task.dataset}, {config.label}"
    pictures = [Picture("test_error", plotting.test_error_curves(runs, title=title))]
    if not config.num_steps:
        return pictures
    by_class = telescope_plots.weights_by_class(runs, title=title)
    pictures.append(Picture("weights_by_class", by_class))
    if np.any(result.labels != result.true_labels):
        histograms = telescope_plots.weight_histograms(runs, title=title)
        pictures.append(Picture("weights", histograms))
    images = load_source(config).train.inputs
    if images.ndim == 4:
        examples = galleries.extreme_examples(result, 0, 0, images, title=title)
        pictures.append(Picture("examples", examples))
    return pictures
