"""Accuracies under background flips against one number, such as that of clean images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.ren2018.claims import PAPER, Measures
from experiments.ren2018.noise import LABELS, accuracies
from experiments.reporting import plotting
from experiments.reporting.claims import Claim, statements_of
from experiments.reporting.experiment import Arms
from experiments.reporting.ledger import show
from experiments.reporting.statements import statements_as_json, statements_table
from experiments.tools.files import write_csv, write_json
from experiments.tools.statistics import finite_mean, standard_error
from experiments.tools.tables import align
from experiments.training.config import RunConfig
from experiments.training.result import is_finished, load_result

# row or method -> value on the axis -> one number per seed
Curves = Mapping[str, Mapping[float, np.ndarray]]

COLORS = {
    "BASELINE": "#333333",
    "BASELINE +FT": "#E69F00",
    "BASELINE +ES": "#56B4E9",
    "BASELINE +ES +FT": "#D55E00",
    "RANDOM": "#999999",
    "OURS": "#009E73",
    "OURS clipped": "#0072B2",
    "BASELINE, 4 x steps": "#888888",
    "OURS, 4 x steps": "#66C2A5",
    "OURS clipped, 4 x steps": "#56B4E9",
}


class Sweep(NamedTuple):
    """A figure with methods as curves."""

    item: str  # "Figure 4"
    axis: str  # what is swept
    values: Sequence[float]
    dataset: str
    methods: Sequence[str]
    rows: Sequence[str]
    configuration: Callable[[str, float], RunConfig]  # (method, value) -> with all seeds
    is_logarithmic: bool = False

    @property
    def label(self) -> str:
        """The data set's name."""
        return LABELS[self.dataset]


def at(row: str, value: float) -> str:
    """The name of a measure: a row's accuracy at a value."""
    return f"{row} at {value:g}"


def arms_of(sweep: Sweep) -> Arms:
    """VALUE/METHOD."""
    return {
        f"{value:g}/{name}": [sweep.configuration(name, value)]
        for value in sweep.values
        for name in sweep.methods
    }


def curves_of(sweep: Sweep, folder: Path) -> dict[str, dict[float, np.ndarray]]:
    """Test accuracies [S] in percent of what is finished, by row and value."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for value in sweep.values:
        paths = {name: folder / f"{value:g}" / name for name in sweep.methods}
        results = {name: load_result(path) for name, path in paths.items() if is_finished(path)}
        for row, values in accuracies(results, sweep.rows).items():
            found.setdefault(row, {})[value] = values
    return {row: found[row] for row in sweep.rows if row in found}


def present_sweep(
    folder: Path,
    preset: str,
    sweep: Sweep,
    claims: Callable[[str], list[Claim]],
    more: Measures | None = None,
) -> str:
    """Writes the figure, the numbers and the statements of what is finished.

    The claims are about the accuracies `at` the values, and about `more` measures.
    """
    curves = curves_of(sweep, folder)
    measures = {at(row, v): x for row, own in curves.items() for v, x in own.items()}
    measures |= more or {}
    statements = statements_of(PAPER, claims(sweep.label), measures)
    name = sweep.item.lower().replace(" ", "")
    lines = [["dataset", "row", sweep.axis, "seed", "test_accuracy"]]
    lines += [
        [sweep.label, row, f"{value:g}", seed, f"{accuracy:.4f}"]
        for row, own in curves.items()
        for value, accuracies_ in own.items()
        for seed, accuracy in enumerate(accuracies_)
    ]
    write_csv(folder / f"{name}.csv", lines)
    stored = {measure: values.tolist() for measure, values in measures.items()}
    summary = {"preset": preset, "measures": stored, "statements": statements_as_json(statements)}
    write_json(folder / "summary.json", summary)
    if not curves:
        return "no method is finished yet"
    title = f"{sweep.label}, labels flipped to one class"
    figure = draw(
        curves,
        COLORS,
        title=title,
        x=sweep.axis,
        y="test accuracy (%)",
        is_logarithmic=sweep.is_logarithmic,
    )
    plotting.save(figure, folder / f"{name}.png")
    table = curves_table(sweep, "test accuracy (%)", curves)
    return f"{table}\n\n{statements_table(statements)}"


def curves_table(sweep: Sweep, what: str, curves: Curves) -> str:
    """Means and 95 % intervals, a line per row, a column per value."""
    seeds = {len(values) for own in curves.values() for values in own.values()}
    header = ["row", *(f"{value:g}" for value in sweep.values), ""]
    body = [
        [row, *(show(own[value], 1) if value in own else "" for value in sweep.values), ""]
        for row, own in curves.items()
    ]
    count = ", ".join(map(str, sorted(seeds)))
    title = f"{sweep.item}: {sweep.label}, {what} against {sweep.axis}; {count} seeds"
    return f"{title}\n{align([header, *body])}"


def draw(
    curves: Curves,
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
