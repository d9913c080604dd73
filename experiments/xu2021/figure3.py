r"""Figure 3: class weights move the solution where classes overlap, and only there.

Half of every set is linearly separable, the other half is not and spans a coordinate of its own
(`data.partly_separable`). In the plane the line turns, and with a constant input it shifts, with
the class weights; in space the separable part has two coordinates, so that the direction there can
be compared with the max-margin one. The reference :math:`\tilde\theta(w)` is the minimizer of the
weighted exponential risk over the non-separable span, by Newton's method.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.models import train_arms
from experiments.simulated.plots import Panel, Plane, bands, planes
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.xu2021 import data
from experiments.xu2021.common import (
    CURVE_HEADER,
    along,
    curve_rows,
    in_every_arm,
    keys,
    load,
    place,
    size_of,
)
from weighting.implicit_bias.diagnostics import angle_between
from weighting.implicit_bias.max_margin import max_margin
from weighting.implicit_bias.separable_part import finite_solution, separable_part

SETS = {
    "plane": {"num_separable": 1, "constant": False},
    "intercept": {"num_separable": 1, "constant": True},
    "space": {"num_separable": 2, "constant": False},
}
CLASS_ARMS = {  # orange : blue
    "10 : 1": (10.0, 1.0),
    "3 : 1": (3.0, 1.0),
    "1 : 1": (1.0, 1.0),
    "1 : 3": (1.0, 3.0),
    "1 : 10": (1.0, 10.0),
}


def statements(
    name: str,
    steps: np.ndarray,
    finite: np.ndarray,
    limits: np.ndarray,
    rest: np.ndarray,
    angles: np.ndarray,
) -> list[Statement]:
    r"""What Prop. 2 says of one set; the arms are in the order of `CLASS_ARMS`.

    Args:
      name: of the set.
      steps: [T].
      finite: parameters of the non-separable span [S, A, T, K].
      limits: theta-tilde [S, A, K].
      rest: the other parameters [S, A, T, D - K].
      angles: of those to the max-margin direction of the separable part [S, A, T].
    """
    source, found = "xu2021, Fig. 3, Prop. 2", []
    last = finite[:, :, -1]
    text = f"{name}: the heavier blue, the larger the parameter that moves the line"
    found.append(Statement(text, in_every_arm(np.diff(last[..., -1], axis=1) > 0), source))
    distances = np.linalg.norm(last[:, :, None] - limits[:, None, :], axis=-1)  # [S, A, A]
    own = np.diagonal(distances, axis1=1, axis2=2)
    others = np.min(distances + np.diag(np.full(own.shape[1], np.inf)), axis=2)
    text = f"{name}: every weighting ends ten times nearer to its own limit than to others'"
    found.append(Statement(text, in_every_arm(10 * own < others), source))
    t = place(steps, steps[-1] / 10)
    earlier = np.linalg.norm(finite[:, :, t] - limits, axis=-1)
    text = f"{name}: every weighting is nearer to its limit than after {steps[t]:,} steps"
    found.append(Statement(text, in_every_arm(own < earlier), source))
    if name == "space":
        for a in range(angles.shape[1]):
            text = f"{name}: {list(CLASS_ARMS)[a]} ends within 0.1 of the max-margin direction"
            found.append(Statement(text, angles[:, a, -1] < 0.1, source))
        spread = largest_angle(rest)
        text = (
            f"{name}: separable directions of two weightings nearer than after {steps[t]:,} steps"
        )
        found.append(Statement(text, spread[:, -1] < spread[:, t], source))
    return found


def largest_angle(vectors: np.ndarray) -> np.ndarray:
    """The largest angle between two arms [S, T], of vectors [S, A, T, D]."""
    units = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    chords = np.linalg.norm(units[:, :, None] - units[:, None], axis=-1)
    return 2 * np.arcsin(np.minimum(chords.max(axis=(1, 2)) / 2, 1))


def _compute(options: Options) -> None:
    size = size_of(options)
    for name, kind in tqdm(SETS.items(), desc="xu2021.figure3", unit="set"):
        path = options.folder / f"{name}.npz"
        if path.exists():
            continue
        points = data.partly_separable(size.seeds, size.num_examples, **kind)
        weights = np.stack(
            [data.class_weights(points.signs, *pair) for pair in CLASS_ARMS.values()], axis=1
        )
        solved = [_solve(*rows) for rows in zip(*points, weights, strict=True)]
        limits, directions = (np.stack(part) for part in zip(*solved, strict=True))
        with jax.enable_x64(True):
            run = train_arms(
                "linear",
                keys(size.seeds),
                jnp.asarray(points.inputs),
                jnp.asarray(points.signs),
                jnp.asarray(weights),
                num_steps=size.linear_steps,
            )
            count = kind["num_separable"]
            angles = along(angle_between, run.params[..., :count], jnp.asarray(directions))
            write_arrays(
                path,
                {
                    "inputs": points.inputs,
                    "signs": points.signs,
                    "step": np.asarray(run.step[0, 0]),
                    "params": np.asarray(run.params),
                    "limit": limits,
                    "angle": angles,
                },
            )


def _solve(inputs: np.ndarray, signs: np.ndarray, weights: np.ndarray) -> tuple:
    """Limits [A, K] in the non-separable span, and the max-margin direction of the other part.

    The span is that of the last K coordinates, which is checked.
    """
    part = separable_part(inputs, signs)
    count = part.complement_basis.shape[1]
    if not np.array_equal(part.is_separable, inputs[:, 0] != 0) or np.any(
        np.abs(part.span_basis[:count]) > 1e-9
    ):
        raise ValueError("the points across can be separated as well; take another seed")
    limits = [
        finite_solution(inputs, signs, row, part, loss="exponential").theta[count:]
        for row in weights
    ]
    chosen = part.is_separable
    return np.stack(limits), max_margin(inputs[chosen, :count], signs[chosen]).direction


def _present(folder: Path, preset: str) -> str:
    del preset
    stored = {name: load(folder / f"{name}.npz") for name in SETS}
    found, upper, lower = [], [], []
    for name, arrays in stored.items():
        count, params = SETS[name]["num_separable"], arrays["params"]
        finite = params[..., count:]
        steps, angles = arrays["step"], arrays["angle"]
        found += statements(name, steps, finite, arrays["limit"], params[..., :count], angles)
        distance = np.linalg.norm(finite - arrays["limit"][:, :, None], axis=-1)
        upper.append(_panel(f"{name}: last coordinate of θ", "", steps, finite[..., -1]))
        title = f"{name}: distance of Πθ to its limit"
        lower.append(_panel(title, "", steps, distance, log_y=True))
        if count > 1:
            title = f"{name}: angle to max margin"
            upper.append(_panel(title, "radians", steps, angles, log_y=True))
    panels = upper + lower
    rows = [row for panel in panels for row in curve_rows(panel.title, panel.steps, panel.curves)]
    write_csv(folder / "figure3.csv", [CURVE_HEADER, *rows])
    write_json(folder / "summary.json", {"statements": statements_as_json(found)})
    paths = [folder / "figure3-lines.png", folder / "figure3-curves.png"]
    title = "xu2021, Fig. 3: lines under class weights orange : blue, not separable as a whole"
    plotting.save(planes(_planes(stored), title=title, num_columns=3), paths[0])
    title = "xu2021, Fig. 3: class weights orange : blue, linear, partly separable"
    plotting.save(bands(panels, title=title, num_columns=4), paths[1])
    note = "Limits are computed by Newton's method. The figure of lines shows the first seed."
    return "\n".join([statements_table(found), note, "Figures:", *(f"  {path}" for path in paths)])


def _panel(title: str, ylabel: str, steps: np.ndarray, values: np.ndarray, **options) -> Panel:
    curves = {arm: values[:, a] for a, arm in enumerate(CLASS_ARMS)}
    return Panel(title, ylabel, steps, curves, **options)


def _planes(stored: dict[str, dict[str, np.ndarray]]) -> list[Plane]:
    """The first seed's lines of both planar sets at three times; shades are of equal weights."""
    found = []
    for name, title in (("plane", "through the origin"), ("intercept", "with a constant input")):
        arrays = stored[name]
        steps = arrays["step"]
        for step in (steps[-1] / 100, steps[-1] / 10, steps[-1]):
            t = place(steps, step)
            a, b, c = np.append(arrays["params"][0, :, t], np.zeros((5, 1)), axis=1).T[:3]
            found.append(
                Plane(
                    f"{title}, {steps[t]:,} steps",
                    lambda points, a=a, b=b, c=c: points @ [a[2], b[2]] + c[2],
                    arrays["inputs"][0, :, :2],
                    arrays["signs"][0],
                    dict(zip(CLASS_ARMS, zip(a, b, c, strict=True), strict=True)),
                )
            )
    return found


ITEMS = {
    "Figure 3": "class weights move the solution on the non-separable part",
}
_CAUSES = {
    "space": (
        "the separable part converges at the rate of log t: not at its end after the steps of "
        "this preset"
    ),
}

EXPERIMENT = Experiment(
    name="xu2021.figure3",
    summary="Fig. 3: class weights move the solution on the non-separable part",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 200 points, 10,000 steps; half a minute",
        "paper": "100 seeds, 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("xu2021", ITEMS),
    causes=_CAUSES,
)
