r"""Figure 2: weights change how fast gradient descent converges, and what it does on new data.

(a, b) A linear model on separable data with equal weights, with inverse-margin weights of the
max-margin solution's margins, with weights matched to its dual,
:math:`0.8\, n\, p^\star + 0.2`, and as a control with weights proportional to the margin: angle to
the max-margin direction, and average margin. Then a network (with a constant input) under several
class weights: average margin on balanced moons, where seeds count on which every weighting
separates the classes; and error on the unbalanced moons' complementary test set. (The panels (c)
and (d) change places between the paper's versions.)
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.models import scores, train_arms, with_constant
from experiments.simulated.plots import Panel, bands
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.xu2021 import data
from experiments.xu2021.common import (
    CURVE_HEADER,
    Size,
    along,
    average_margins,
    curve_rows,
    in_every_arm,
    keys,
    load,
    margins_along,
    milestones,
    size_of,
)
from weighting.implicit_bias.diagnostics import angle_between, normalized_margin
from weighting.implicit_bias.max_margin import max_margin
from weighting.schemes.margin_based import inverse_margin_weights, kl_matched_weights

LINEAR_ARMS = ("equal", "inverse margin", "matched to p*", "proportional to margin")
CLASS_ARMS = {  # orange : blue
    "1 : 1": (1.0, 1.0),
    "4 : 1": (4.0, 1.0),
    "16 : 1": (16.0, 1.0),
    "1 : 4": (1.0, 4.0),
    "1 : 16": (1.0, 16.0),
}
RATIO_ARM = "16 : 1"  # the density ratio of the unbalanced moons
_CONVERGED = 0.9  # of the largest margin: the linear run counts as converged
_NORMALIZED, _NORMALIZED_TWICE = "average margin / |θ|", "average margin / |θ|²"


def linear_weights(inputs: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights of the linear arms [A, N], the max-margin direction [D] and the margin."""
    solution = max_margin(inputs, signs)
    distances = signs * (inputs @ solution.direction)
    weights = [
        np.ones(len(signs)),
        np.asarray(inverse_margin_weights(jnp.asarray(distances))),
        np.asarray(kl_matched_weights(jnp.asarray(solution.dual), 0.2, form="mixture")),
        distances / distances.mean(),
    ]
    return np.stack(weights), solution.direction, float(solution.margin)


def linear_statements(
    steps: np.ndarray,
    angles: np.ndarray,
    averages: np.ndarray,
    raw_averages: np.ndarray,
    shares: np.ndarray,
) -> list[Statement]:
    """From curves [S, A, T] in the order of `LINEAR_ARMS`.

    Args:
      steps: [T].
      angles: to the max-margin direction.
      averages: average normalized margins.
      raw_averages: average margins, not normalized; the paper does not say which it plots.
      shares: normalized margins over the largest possible.
    """
    found = []
    for values, size, panel in (
        (-angles, "smaller angle", "a"),
        (averages, "larger average margin / |θ|", "b"),
        (raw_averages, "larger average margin", "b"),
    ):
        for arm, source in ((1, f"xu2021, Fig. 2{panel}"), (2, "xu2021, Prop. 1"), (3, "control")):
            for t in milestones(steps):
                text = f"{LINEAR_ARMS[arm]}: {size} than equal after {steps[t]:,} steps"
                found.append(Statement(text, values[:, arm, t] > values[:, 0, t], source))
    for arm, name in enumerate(LINEAR_ARMS):
        text = f"{name}: nine tenths of the largest margin reached at the end"
        found.append(Statement(text, shares[:, arm, -1] >= _CONVERGED, "xu2021, Prop. 1"))
    return found


def separated_from(steps: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """The logged step [...] from which on the smallest margin [..., T] stays positive, or inf."""
    last_wrong = margins.shape[-1] - 1 - np.argmax(np.flip(margins <= 0, axis=-1), axis=-1)
    first_right = np.where((margins > 0).all(axis=-1), 0, last_wrong + 1)
    return np.append(steps, np.inf)[first_right]


def margin_statements(
    steps: np.ndarray, averages: np.ndarray, margins: np.ndarray
) -> list[Statement]:
    """From average and smallest margins [S, A, T] of the network, where all weights separate."""
    separates = margins[..., -1] > 0
    kept = averages[in_every_arm(separates)]
    found = []
    for t in milestones(steps)[1:]:
        low, high = kept[:, :, t].min(axis=1), kept[:, :, t].max(axis=1)
        text = f"class weights change the average margin by a tenth after {steps[t]:,} steps"
        found.append(Statement(text, high - low > 0.1 * np.abs(high), "xu2021, Fig. 2c"))
    starts = separated_from(steps, margins[in_every_arm(separates)])
    text = "some class weights separate the classes in half the steps of others"
    found.append(Statement(text, 2 * starts.min(axis=1) <= starts.max(axis=1), "xu2021, Fig. 2c"))
    spread = np.ptp(kept, axis=1)
    t = milestones(steps)[-2]
    text = f"class weights differ less in average margin at the end than after {steps[t]:,} steps"
    return [*found, Statement(text, spread[:, -1] < spread[:, t], "xu2021, Prop. 3")]


def error_statements(
    steps: np.ndarray, errors: np.ndarray, margins: np.ndarray, arms: Sequence[str]
) -> list[Statement]:
    """From test errors and smallest training margins [S, A, T] of the network."""
    ratio, equal = arms.index(RATIO_ARM), arms.index("1 : 1")
    source = "xu2021, Fig. 2d, Thm. 1"
    found = []
    for t in milestones(steps):
        now = errors[:, :, t]
        text = f"no weights err less than the density ratio's after {steps[t]:,} steps"
        found.append(Statement(text, now[:, ratio] <= now.min(axis=1), source))
        text = f"the density ratio's weights err less than equal ones after {steps[t]:,} steps"
        found.append(Statement(text, now[:, ratio] < now[:, equal], source))
    spread = np.ptp(errors, axis=1)
    for t in milestones(steps)[:-1]:
        text = f"errors differ less between class weights at the end than after {steps[t]:,} steps"
        found.append(Statement(text, spread[:, -1] < spread[:, t], "xu2021, Fig. 2d"))
    text = "where all separate: errors at the end within two points in a hundred"
    kept = spread[in_every_arm(margins[..., -1] > 0), -1]
    return [*found, Statement(text, kept <= 0.02, "xu2021, Prop. 3")]


def _compute_linear(size: Size) -> dict[str, np.ndarray]:
    inputs, signs = data.separable(size.seeds, size.num_examples)
    solved = [linear_weights(x, y) for x, y in zip(inputs, signs, strict=True)]
    weights, directions, largest = (np.stack(part) for part in zip(*solved, strict=True))
    inputs, signs = jnp.asarray(inputs), jnp.asarray(signs)
    run = train_arms(
        "linear", keys(size.seeds), inputs, signs, jnp.asarray(weights), num_steps=size.linear_steps
    )

    def share(params: Array, inputs: Array, signs: Array, largest: Array) -> Array:
        return normalized_margin(signs * scores(params, inputs), params, 1) / largest

    return {
        "step": np.asarray(run.step[0, 0]),
        "angle": along(angle_between, run.params, jnp.asarray(directions)),
        **average_margins("linear", run.params, inputs, signs),
        "margin_share": along(share, run.params, inputs, signs, jnp.asarray(largest)),
    }


def _compute_network(size: Size, *, unbalanced: bool) -> dict[str, np.ndarray]:
    if unbalanced:
        training, test = data.unbalanced_moons(size.network_seeds, size.num_examples)
    else:
        training = test = data.moons(size.network_seeds, size.num_examples)
    weights = np.stack(
        [data.class_weights(training.signs, *pair) for pair in CLASS_ARMS.values()], axis=1
    )
    inputs, signs = with_constant(jnp.asarray(training.inputs)), jnp.asarray(training.signs)
    run = train_arms(
        "network",
        keys(size.network_seeds),
        inputs,
        signs,
        jnp.asarray(weights),
        num_steps=size.network_steps,
    )
    fresh, fresh_signs = with_constant(jnp.asarray(test.inputs)), jnp.asarray(test.signs)
    return {
        "step": np.asarray(run.step[0, 0]),
        **average_margins("network", run.params, inputs, signs),
        "margin": np.asarray(run.margin),
        "error": np.mean(margins_along(run.params, fresh, fresh_signs) <= 0, axis=-1),
    }


_PARTS = {
    "linear": _compute_linear,
    "moons": functools.partial(_compute_network, unbalanced=False),
    "unbalanced-moons": functools.partial(_compute_network, unbalanced=True),
}


def _compute(options: Options) -> None:
    for name, measure in tqdm(_PARTS.items(), desc="xu2021.figure2", unit="part"):
        path = options.folder / f"{name}.npz"
        if not path.exists():
            with jax.enable_x64(True):
                write_arrays(path, measure(size_of(options)))


def _present(folder: Path, preset: str) -> str:
    del preset
    linear, moons, unbalanced = (load(folder / f"{name}.npz") for name in _PARTS)
    linear["gap"] = 1 - linear["margin_share"]
    class_arms = list(CLASS_ARMS)
    kept, kept_too = (in_every_arm(part["margin"][..., -1] > 0) for part in (moons, unbalanced))
    separating = moons | {
        name: np.where(kept[:, None, None], values, np.nan)
        for name, values in moons.items()
        if name != "step"
    }
    panels = {
        "linear": [
            _panel("(a) angle to max margin", "radians", linear, "angle", LINEAR_ARMS, log_y=True),
            _panel("(b) average margin", _NORMALIZED, linear, "average_margin", LINEAR_ARMS),
            _panel("average margin, raw", "margin", linear, "raw_average_margin", LINEAR_ARMS),
            _panel(
                "smallest margin",
                "1 - share of the largest",
                linear,
                "gap",
                LINEAR_ARMS,
                log_y=True,
            ),
        ],
        "network": [
            _panel("moons", _NORMALIZED_TWICE, separating, "average_margin", class_arms),
            _panel("moons, raw", "average margin", separating, "raw_average_margin", class_arms),
            _panel("unbalanced moons", "generalization error", unbalanced, "error", class_arms),
        ],
    }
    write_csv(folder / "figure2.csv", [CURVE_HEADER, *_rows(panels)])
    found = [
        *linear_statements(linear["step"], linear["angle"], linear["average_margin"],
                           linear["raw_average_margin"], linear["margin_share"]),
        *margin_statements(moons["step"], moons["average_margin"], moons["margin"]),
        *error_statements(unbalanced["step"], unbalanced["error"], unbalanced["margin"],
                          class_arms),
    ]  # fmt: skip
    counts = {"seeds": len(kept), "moons": int(kept.sum()), "unbalanced moons": int(kept_too.sum())}
    summary = {"statements": statements_as_json(found), "all_class_weights_separate": counts}
    write_json(folder / "summary.json", summary)

    paths = [folder / f"figure2-{name}.png" for name in panels]
    titles = (
        "xu2021, Fig. 2a-b: linear, separable, finitely many steps, no regularization",
        "xu2021, Fig. 2c-d: network, class weights orange : blue, finitely many steps, no "
        "regularization",
    )
    for path, title, own in zip(paths, titles, panels.values(), strict=True):
        plotting.save(bands(own, title=title, num_columns=2 + (len(own) == 3)), path)
    note = (
        f"All class weights separate the balanced moons on {counts['moons']} of {len(kept)} seeds, "
        f"the unbalanced ones on {counts['unbalanced moons']};\nmargins of the network are of "
        "the former. Class weights are orange : blue; the density ratio is 16 : 1."
    )
    return "\n".join([statements_table(found), note, "Figures:", *(f"  {path}" for path in paths)])


def _panel(
    title: str,
    ylabel: str,
    arrays: dict[str, np.ndarray],
    name: str,
    arms: Sequence[str],
    *,
    log_y: bool = False,
) -> Panel:
    curves = {arm: arrays[name][:, a] for a, arm in enumerate(arms)}
    return Panel(title, ylabel, arrays["step"], curves, log_y)


def _rows(panels: dict[str, list[Panel]]) -> list[tuple]:
    return [
        row
        for model, own in panels.items()
        for panel in own
        for row in curve_rows(f"{model}: {panel.title}", panel.steps, panel.curves)
    ]


ITEMS = {
    "Figure 2": "speed of convergence and generalization under different weights",
}
_CAUSES = {
    "inverse margin: smaller angle": (
        "the weights that speed the direction up are those of the dual solution, zero off the "
        "support vectors; inverse margins only resemble them, and which way they lead depends on "
        "the data"
    ),
    "inverse margin: larger average margin / ": (
        "as with the angle: the weights that are matched to the dual win late, inverse margins do "
        "not always"
    ),
    "inverse margin: larger average margin": (
        "early on the steps are of the size of the starting point"
    ),
    "matched to p*": (
        "Prop. 1 bounds the rate late in training; early on the starting point decides"
    ),
    "class weights change the average margin": (
        "the larger effect is early; at the end all weightings approach one margin"
    ),
    "class weights differ less": "few seeds separate (dead units), and their margins still grow",
    "err less": "perhaps: with so few points the density ratio reweights noise, too",
    "errors differ less": "perhaps: late differences are a few test points",
    "where all separate": "the margins are still growing at the end of the run",
}

EXPERIMENT = Experiment(
    name="xu2021.figure2",
    summary="Fig. 2: speed of convergence and generalization under different weights",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 10,000 steps; networks 30 seeds, 20,000 steps; two minutes",
        "paper": "100 seeds (networks 200), 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("xu2021", ITEMS),
    causes=_CAUSES,
)
