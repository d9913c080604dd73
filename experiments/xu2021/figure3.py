r"""Figure 3: class weights move the solution where classes overlap, and only there.

Half of every set is linearly separable, the other half is not and spans a coordinate of its own
(`data.partly_separable`). In the plane the line turns, and with a constant input it shifts, with
the class weights; in space the separable part has two coordinates, so that the direction there can
be compared with the max-margin one. The reference :math:`\tilde\theta(w)` is the minimizer of the
weighted exponential risk over the non-separable span, by Newton's method.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Options
from experiments.reporting.page import Page, Picture
from experiments.simulated.models import seed_keys, train_arms
from experiments.simulated.plots import Panel, Plane, bands, panel_of_arms, planes
from experiments.tools.parts import compute_parts, read_parts
from experiments.xu2021 import data
from experiments.xu2021.common import (
    SimulationSize,
    along,
    curve_rows,
    figure_experiment,
    in_every_arm,
    index_of_step,
    size_of,
)
from weighting.implicit_bias.diagnostics import angle_between
from weighting.implicit_bias.max_margin import max_margin
from weighting.implicit_bias.separable_part import finite_solution, separable_part

PARTLY_SEPARABLE = {
    "plane": {"num_separable": 1, "constant": False},
    "intercept": {"num_separable": 1, "constant": True},
    "space": {"num_separable": 2, "constant": False},
}
_CLASS_ARMS = {  # orange : blue
    "10 : 1": (10.0, 1.0),
    "3 : 1": (3.0, 1.0),
    "1 : 1": (1.0, 1.0),
    "1 : 3": (1.0, 3.0),
    "1 : 10": (1.0, 10.0),
}
_ITEM, _PLACE = "Figure 3", "Fig. 3, Prop. 2"
_SLOW = (
    "the separable part converges at the rate of log t: not at its end after the steps of this "
    "preset"
)


def limit_claims(name: str, steps: np.ndarray) -> list[Claim]:
    r"""What Prop. 2 says of one set; arms are in the order of the weight of blue.

    The claims are about `finite`, the parameters of the non-separable span [S, A, T, K]; `limit`,
    theirs :math:`\tilde\theta` [S, A, K]; `rest`, the other parameters [S, A, T, D - K]; `angle`,
    of those to the max-margin direction of the separable part [S, A, T].
    """
    earlier = index_of_step(steps, steps[-1] / 10)
    has_plane = PARTLY_SEPARABLE[name]["num_separable"] > 1  # in which directions can differ
    cause = _SLOW if has_plane else ""

    def is_nearer(found: Mapping[str, np.ndarray]) -> np.ndarray:
        distance = _distance_to_limit(found)
        return in_every_arm(distance[..., -1] < distance[..., earlier])

    def directions_are_nearer(found: Mapping[str, np.ndarray]) -> np.ndarray:
        spread = largest_angle(found["rest"])
        return spread[:, -1] < spread[:, earlier]

    on_the_span = [
        Claim(
            f"{name}: the heavier blue, the larger the parameter that moves the line",
            _ITEM,
            _PLACE,
            lambda found: in_every_arm(np.diff(found["finite"][:, :, -1, -1], axis=1) > 0),
            cause,
        ),
        Claim(
            f"{name}: every weighting ends ten times nearer to its own limit than to others'",
            _ITEM,
            _PLACE,
            _is_at_its_own_limit,
            cause,
        ),
        Claim(
            f"{name}: every weighting is nearer to its limit than after {steps[earlier]:,} steps",
            _ITEM,
            _PLACE,
            is_nearer,
            cause,
        ),
    ]
    if not has_plane:
        return on_the_span
    return [
        *on_the_span,
        *(
            Claim(
                f"{name}: {arm} ends within 0.1 of the max-margin direction",
                _ITEM,
                _PLACE,
                lambda found, a=a: found["angle"][:, a, -1] < 0.1,
                cause,
            )
            for a, arm in enumerate(_CLASS_ARMS)
        ),
        Claim(
            f"{name}: separable directions of two weightings nearer than after "
            f"{steps[earlier]:,} steps",
            _ITEM,
            _PLACE,
            directions_are_nearer,
            cause,
        ),
    ]


def _is_at_its_own_limit(found: Mapping[str, np.ndarray]) -> np.ndarray:
    last, limits = found["finite"][:, :, -1], found["limit"]
    distances = np.linalg.norm(last[:, :, None] - limits[:, None, :], axis=-1)  # [S, A, A]
    own = np.diagonal(distances, axis1=1, axis2=2)
    others = np.min(distances + np.diag(np.full(own.shape[1], np.inf)), axis=2)
    return in_every_arm(10 * own < others)


def _distance_to_limit(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """[S, A, T], in the non-separable span."""
    return np.linalg.norm(found["finite"] - found["limit"][:, :, None], axis=-1)


def largest_angle(vectors: np.ndarray) -> np.ndarray:
    """The largest angle between two arms [S, T], of vectors [S, A, T, D]."""
    units = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    chords = np.linalg.norm(units[:, :, None] - units[:, None], axis=-1)
    return 2 * np.arcsin(np.minimum(chords.max(axis=(1, 2)) / 2, 1))


def _compute(options: Options) -> None:
    size = size_of(options)
    parts = {name: partial(_train, size, **kind) for name, kind in PARTLY_SEPARABLE.items()}
    compute_parts(options.folder, parts, "xu2021.figure3")


def _train(size: SimulationSize, *, num_separable: int, constant: bool) -> dict[str, np.ndarray]:
    """A set, what all weightings make of it, and where they should end."""
    points = data.partly_separable(
        size.seeds, size.num_examples, num_separable=num_separable, constant=constant
    )
    weights = data.class_arm_weights(points.signs, _CLASS_ARMS)
    solved = [_solve(*rows) for rows in zip(*points, weights, strict=True)]
    limits, directions = (np.stack(part) for part in zip(*solved, strict=True))
    with jax.enable_x64(True):
        run = train_arms(
            "linear",
            seed_keys(size.seeds),
            jnp.asarray(points.inputs),
            jnp.asarray(points.signs),
            jnp.asarray(weights),
            num_steps=size.linear_steps,
        )
        separable = run.params[..., :num_separable]
        return {
            "inputs": points.inputs,
            "signs": points.signs,
            "step": np.asarray(run.step[0, 0]),
            "params": np.asarray(run.params),
            "limit": limits,
            "angle": along(angle_between, separable, jnp.asarray(directions)),
        }


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


def _present(folder: Path, preset: str) -> Page:
    del preset
    stored = read_parts(folder, PARTLY_SEPARABLE)
    found = {name: _split(name, arrays) for name, arrays in stored.items()}
    panels = _panels(found)
    lines = planes(
        _planes(stored),
        title="xu2021, Fig. 3: lines under class weights orange : blue, not separable as a whole",
        num_columns=3,
    )
    curves = bands(
        panels,
        title="xu2021, Fig. 3: class weights orange : blue, linear, partly separable",
        num_columns=4,
    )
    return Page(
        claims=[
            answer
            for name, own in found.items()
            for answer in answers(limit_claims(name, own["step"]), own)
        ],
        figures=[Picture("figure3-lines", lines), Picture("figure3-curves", curves)],
        notes=["Limits are computed by Newton's method. The figure of lines shows the first seed."],
        files={"figure3.csv": curve_rows({panel.title: panel for panel in panels})},
    )


def _panels(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Panel]:
    """The line's parameter and the angle of all sets, then the distances to the limits."""
    upper, lower = [], []
    for name, own in found.items():
        panel = partial(panel_of_arms, steps=own["step"], arms=_CLASS_ARMS)
        upper.append(panel(f"{name}: last coordinate of θ", "", values=own["finite"][..., -1]))
        distance = _distance_to_limit(own)
        lower.append(panel(f"{name}: distance of Πθ to its limit", "", values=distance, log_y=True))
        if own["rest"].shape[-1] > 1:
            title = f"{name}: angle to max margin"
            upper.append(panel(title, "radians", values=own["angle"], log_y=True))
    return upper + lower


def _split(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of the non-separable span, and the others."""
    count = PARTLY_SEPARABLE[name]["num_separable"]
    return arrays | {"finite": arrays["params"][..., count:], "rest": arrays["params"][..., :count]}


def _planes(stored: dict[str, dict[str, np.ndarray]]) -> list[Plane]:
    """The first seed's lines of both planar sets at three times; shades are of equal weights."""
    found = []
    for name, title in (("plane", "through the origin"), ("intercept", "with a constant input")):
        arrays = stored[name]
        steps = arrays["step"]
        for step in (steps[-1] / 100, steps[-1] / 10, steps[-1]):
            t = index_of_step(steps, step)
            a, b, c = np.append(arrays["params"][0, :, t], np.zeros((5, 1)), axis=1).T[:3]
            found.append(
                Plane(
                    f"{title}, {steps[t]:,} steps",
                    lambda points, a=a, b=b, c=c: points @ [a[2], b[2]] + c[2],
                    arrays["inputs"][0, :, :2],
                    arrays["signs"][0],
                    dict(zip(_CLASS_ARMS, zip(a, b, c, strict=True), strict=True)),
                )
            )
    return found


EXPERIMENT = figure_experiment(
    3,
    "class weights move the solution on the non-separable part",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 200 points, 10,000 steps; half a minute",
        "paper": "100 seeds, 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
)
