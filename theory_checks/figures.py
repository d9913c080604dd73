"""The figure of a check: its own plot, or else how far its numbers are from their bounds."""

from matplotlib.figure import Figure

from theory_checks.records import Check, Plot

MOST_ROWS = 40  # in a figure


def draw(check: Check) -> Figure:
    """The check's plot; of a check without one, the room below its bounds."""
    return _draw_plot(check.plot, check.id) if check.plot else _draw_margins(check)


def _draw_plot(plot: Plot, title: str) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in plot.curves.items():
        axes.plot(x, y, marker=".", linestyle="-" if plot.joined else "", label=name)
    if "x" in plot.log:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _draw_margins(check: Check) -> Figure:
    """The room below the bounds as a share of them: to the left of zero a bound is left."""
    rows = [(row, "asserted") for row in check.rows] + [(row, "control") for row in check.control]
    rows = [(row, kind) for row, kind in rows if row.bound is not None][:MOST_ROWS]
    figure = Figure(figsize=(7.6, 1.6 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for kind, color in (("asserted", "#0072B2"), ("control", "#D55E00")):
        places = [i for i, (_, own) in enumerate(rows) if own == kind]
        values = [max(-1e6, min(1.0, rows[i][0].margin)) for i in places]
        axes.plot(values, places, "o", color=color, label=kind)
    axes.axvline(0, color="#333333", lw=1)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-2e6, 2)
    axes.set_xticks([-1e6, -1e3, -1, 0, 1], labels=["$-10^6$", "$-10^3$", "$-1$", "0", "1"])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), labels=[row.quantity[:70] for row, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="room below the bound, as a share of it", title=check.id)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
