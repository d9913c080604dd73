"""Accuracies under background flips against one number, such as that of clean images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.ren2018.claims import Measures
from experiments.ren2018.noise import LABELS, NoiseMethod, row_accuracies
from experiments.reporting import plotting
from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Arms
from experiments.reporting.ledger import show
from experiments.reporting.page import Page, Picture
from experiments.tools.statistics import finite_mean, standard_error
from experiments.tools.tables import Table
from experiments.training.config import RunConfig
from experiments.training.result import is_finished, load_result

# row or method -> value on the axis -> one number per seed
RowCurves = Mapping[str, Mapping[float, np.ndarray]]

ROW_COLORS = {
    "BASELINE": "#333333",
    "BASELINE +FT": "#E69F00",
    "BASELINE +ES": "#56B4E9",
    "BASELINE +ES +FT": "#D55E00",
    "RANDOM": "#999999",
    "OURS": "#009E73",
}


class Sweep(NamedTuple):
    """A figure with methods as curves."""

    title: str  # "Figure 4"
    name: str  # of its files: "figure4"
    axis: str  # what is swept
    values: Sequence[float]
    dataset: str
    methods: Mapping[str, NoiseMethod]  # by the name of their arms
    rows: Sequence[str]
    configuration: Callable[[str, float], RunConfig]  # (method's name, value) -> with all seeds
    is_logarithmic: bool = False
    colors: Mapping[str, str] = ROW_COLORS  # by row

    @property
    def label(self) -> str:
        """The data set's name."""
        return LABELS[self.dataset]


def at(row: str, value: float) -> str:
    """The name of a measure: a row's accuracy at a value."""
    return f"{row} at {value:g}"


def measures_at(curves: RowCurves) -> dict[str, np.ndarray]:
    """The numbers of curves by the names that `at` gives them."""
    return {at(row, value): x for row, own in curves.items() for value, x in own.items()}


def sweep_arms(sweep: Sweep) -> Arms:
    """VALUE/METHOD."""
    return {
        f"{value:g}/{name}": [sweep.configuration(name, value)]
        for value in sweep.values
        for name in sweep.methods
    }


def _finished_curves(sweep: Sweep, folder: Path) -> dict[str, dict[float, np.ndarray]]:
    """Test accuracies [S] in percent of what is finished, by row and value."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for value in sweep.values:
        paths = {name: folder / f"{value:g}" / name for name in sweep.methods}
        results = {name: load_result(path) for name, path in paths.items() if is_finished(path)}
        for row, values in row_accuracies(results, sweep.methods, sweep.rows).items():
            found.setdefault(row, {})[value] = values
    return {row: found[row] for row in sweep.rows if row in found}


def sweep_page(
    folder: Path,
    preset: str,
    sweep: Sweep,
    claims: Sequence[Claim],
    more: Measures | None = None,
) -> Page:
    """The figure, the numbers and the claims of what is finished.

    The claims are about the accuracies `at` the values, and about `more` measures.
    """
    curves = _finished_curves(sweep, folder)
    measures = measures_at(curves) | dict(more or {})
    rows = [
        [sweep.label, row, f"{value:g}", seed, f"{accuracy:.4f}"]
        for row, own in curves.items()
        for value, accuracies in own.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    stored = {measure: values.tolist() for measure, values in measures.items()}
    page = Page(
        claims=answers(claims, measures),
        files={
            f"{sweep.name}.csv": [["dataset", "row", sweep.axis, "seed", "test_accuracy"], *rows]
        },
        summary={"preset": preset, "measures": stored},
    )
    if not curves:
        return page._replace(notes=["no method is finished yet"])
    figure = curves_figure(
        curves,
        sweep.colors,
        title=f"{sweep.label}, labels flipped to one class",
        x=sweep.axis,
        y="test accuracy (%)",
        is_logarithmic=sweep.is_logarithmic,
    )
    return page._replace(
        tables=[curves_table(sweep, "test accuracy (%)", curves)],
        figures=[Picture(sweep.name, figure)],
    )


def curves_table(sweep: Sweep, what: str, curves: RowCurves) -> Table:
    """Means and 95 % intervals, a line per row, a column per value."""
    seeds = {len(values) for own in curves.values() for values in own.values()}
    header = ["row", *(f"{value:g}" for value in sweep.values), ""]
    rows = [
        [row, *(show(own[value], 1) if value in own else "" for value in sweep.values), ""]
        for row, own in curves.items()
    ]
    count = ", ".join(map(str, sorted(seeds)))
    title = f"{sweep.title}: {sweep.label}, {what} against {sweep.axis}; {count} seeds"
    return Table(header, rows, title)


def curves_figure(
    curves: RowCurves,
    colors: Mapping[str, str],
    *,
    title: str,
    x: str,
    y: str,
    is_logarithmic: bool = False,
    tick_labels: Mapping[float, str] | None = None,
) -> Figure:
    """Means over the seeds with one standard error, a line per method, ticks at the values."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for row, own in curves.items():
        places = sorted(own)
        means = [float(finite_mean(np.asarray(own[p]), 0)) for p in places]
        errors = [float(np.nan_to_num(standard_error(np.asarray(own[p]), 0))) for p in places]
        style = {"color": colors[row], "marker": "o", "ms": 4, "lw": 1.6, "capsize": 2.5}
        axes.errorbar(places, means, yerr=errors, label=row, **style)
    ticks = sorted({value for own in curves.values() for value in own})
    if is_logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks, labels=[(tick_labels or {}).get(t, f"{t:g}") for t in ticks])
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontweight="bold")
    plotting.clean_look(axes)
    note = "mean ± standard error"
    figure.legend(loc="outside right upper", frameon=False, title=note, alignment="left")
    return figure
