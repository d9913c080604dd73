r"""Figure 4: a weighting model trained jointly with the classifier on one risk (Eq. 4).

.. math:: \min_{\psi, b, \theta} \frac1n \sum_i g(x_i)\, e^{-y_i f(\theta, x_i)}, \qquad
          g(x) = \sigma(\psi^\top x + b) + 1

by simultaneous gradient steps, of a linear model on separable data and of a network (with a
constant input) on moons. The start of psi is not printed: zeros, where g = 3/2, and standard
normal. As a control g stays at 3/2. The paper conjectures that the classifier still converges to
the max-margin solution, that g concentrates to a constant, and that its correlation with the margin
rises fast and then vanishes; its text expects negative correlations early, its caption an increase.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.models import INITIALIZERS, ORDERS, scores, with_constant
from experiments.simulated.plots import Histogram, Panel, bands, histograms
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.xu2021 import data
from experiments.xu2021.common import (
    CURVE_HEADER,
    along,
    curve_rows,
    in_every_arm,
    keys,
    load,
    margins_along,
    place,
    size_of,
)
from weighting.implicit_bias.diagnostics import angle_between
from weighting.implicit_bias.long_horizon import Trajectory, run_descent
from weighting.implicit_bias.max_margin import max_margin
from weighting.schemes.joint_weighting import STARTS, LogisticModel, joint_weighting

PyTree = Any
ARMS = ("psi from zeros", "psi from normal", "g = 3/2")
MODELS = {"linear": "linear, separable", "network": "network, moons"}
_MORE_STEPS = 10  # of the linear model than elsewhere: concentration is slow


def log_g(psi: LogisticModel, inputs: Array) -> Array:
    """log(1 + sigmoid(psi . x + b)) for inputs [..., D]."""
    return jnp.log1p(jax.nn.sigmoid(inputs @ psi.kernel + psi.bias))


def train_jointly(
    model: str, keys: Array, inputs: Array, signs: Array, *, num_steps: int
) -> Trajectory:
    """Trains the arms of every seed: parameters (theta, psi), arrays with leading axes [S, A].

    As g e^{-u} = e^{-(u - log g)}, descent on the joint risk is descent with equal weights on the
    margins u - log g. The steps are capped as in `train_arms`.
    """

    def run(key: Array, inputs: Array, signs: Array, psi: LogisticModel, rate: Array) -> Trajectory:
        seen = with_constant(inputs) if model == "network" else inputs

        def margins(params: PyTree) -> Array:
            theta, psi = params
            fixed = jax.lax.stop_gradient(psi)
            psi = jax.tree.map(lambda free, held: held + rate * (free - held), psi, fixed)
            return signs * scores(theta, seen) - log_g(psi, inputs)

        start = (INITIALIZERS[model](key, seen.shape[-1]), psi)
        return run_descent(
            margins, start, num_steps=num_steps, learning_rate=0.1, step_rule="loss_capped",
            per_decade=8,
        )  # fmt: skip

    def start_psi(key: Array, start: str) -> LogisticModel:
        scheme = joint_weighting(inputs.shape[-1], start=start)
        model = scheme.init(jax.random.fold_in(key, 1), None).model
        return jax.tree.map(lambda leaf: leaf.astype(inputs.dtype), model)

    def over_arms(key: Array, inputs: Array, signs: Array) -> Trajectory:
        starts = [start_psi(key, start) for start in (*STARTS, "zeros")]
        psi = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        rates = jnp.array([1.0, 1.0, 0.0])
        return jax.vmap(run, (None, None, None, 0, 0))(key, inputs, signs, psi, rates)

    return jax.jit(jax.vmap(over_arms))(keys, inputs, signs)


def correlations(g: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Over the last axis; nan where g is constant."""
    g = g - g.mean(axis=-1, keepdims=True)
    margins = margins - margins.mean(axis=-1, keepdims=True)
    scale = np.linalg.norm(g, axis=-1) * np.linalg.norm(margins, axis=-1)
    constant = np.ptp(g, axis=-1) < 1e-12
    return np.where(constant, np.nan, np.sum(g * margins, axis=-1) / np.where(constant, 1, scale))


def statements(
    model: str,
    steps: np.ndarray,
    spreads: np.ndarray,
    correlation: np.ndarray,
    shares: np.ndarray,
    angles: np.ndarray | None = None,
) -> list[Statement]:
    """What the paper conjectures, from curves [S, A, T] in the order of `ARMS`.

    Args:
      model: "linear" or "network".
      steps: [T].
      spreads: standard deviations of g.
      correlation: of g with the margin.
      shares: normalized margins, over the largest possible one for the linear model.
      angles: to the max-margin direction, of the linear model.
    """
    source, found = "xu2021, Fig. 4", []
    tenth, early = place(steps, steps[-1] / 10), place(steps, 100)
    for arm, start in enumerate(ARMS):
        name = f"{model}, {start}"
        if model == "linear":
            text = f"{name}: nine tenths of the largest margin reached at the end"
            found.append(Statement(text, shares[:, arm, -1] >= 0.9, "xu2021, Sec. 5"))
        else:
            kept = shares[shares[:, arm, -1] > 0, arm]
            text = f"{name}: if separated, a larger margin than after {steps[tenth]:,} steps"
            found.append(Statement(text, kept[:, -1] > kept[:, tenth], "xu2021, Sec. 5"))
    for arm, start in enumerate(ARMS[:2]):
        name, spread, r = f"{model}, {start}", spreads[:, arm], correlation[:, arm]
        text = f"{name}: deviation of g at the end below half of its largest"
        found.append(Statement(text, spread[:, -1] < spread.max(axis=1) / 2, source))
        text = f"{name}: deviation of g falls after {steps[tenth]:,} steps"
        found.append(Statement(text, spread[:, -1] < spread[:, tenth], source))
        text = f"{name}: correlation rises between 1 and {steps[early]:,} steps"
        found.append(Statement(text, r[:, early] > r[:, 1], source))
        text = f"{name}: correlation is positive after {steps[early]:,} steps"
        found.append(Statement(text, r[:, early] > 0, source))
        text = f"{name}: correlation is negative after {steps[early]:,} steps"
        found.append(Statement(text, r[:, early] < 0, "xu2021, Sec. 5"))
        text = f"{name}: size of the correlation at the end below half of its largest"
        largest = np.nanmax(np.abs(r), axis=1)
        found.append(Statement(text, np.abs(r[:, -1]) < largest / 2, source))
        if angles is not None:
            now, fixed = angles[:, arm, early], angles[:, 2, early]
            text = (
                f"{name}: angle another by a tenth than with g = 3/2 after {steps[early]:,} steps"
            )
            found.append(Statement(text, np.abs(now - fixed) > 0.1 * fixed, "xu2021, Sec. 5"))
    return found


def _measure(model: str, num_seeds: int, num_examples: int, num_steps: int) -> dict:
    draw = data.separable if model == "linear" else data.moons
    points = draw(num_seeds, num_examples)
    inputs, signs = jnp.asarray(points.inputs), jnp.asarray(points.signs)
    run = train_jointly(model, keys(num_seeds), inputs, signs, num_steps=num_steps)
    theta, psi = run.params
    seen = with_constant(inputs) if model == "network" else inputs
    margins = margins_along(theta, seen, signs)
    g = np.exp(along(log_g, psi, inputs))
    steps = np.asarray(run.step[0, 0])
    squares = along(lambda theta: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta)), theta)
    normalized = margins.min(axis=-1) / squares ** (ORDERS[model] / 2)
    times = [place(steps, steps[-1] / 10**k) for k in (3, 2, 1, 0)]
    arrays = {
        "step": steps,
        "deviation": g.std(axis=-1),
        "correlation": correlations(g, margins),
        "g": g[:, :2, [0, *times]],  # [S, 2, 5, N]
        "g_step": steps[[0, *times]],
        "share": normalized,
    }
    if model == "linear":
        solutions = [max_margin(*rows) for rows in zip(*points, strict=True)]
        largest = np.array([solution.margin for solution in solutions])
        directions = jnp.asarray(np.stack([solution.direction for solution in solutions]))
        arrays["share"] = normalized / largest[:, None, None]
        arrays["angle"] = along(angle_between, theta, directions)
    return arrays


def _compute(options: Options) -> None:
    size = size_of(options)
    steps = {"linear": _MORE_STEPS * size.linear_steps, "network": size.network_steps}
    for model in tqdm(MODELS, desc="xu2021.figure4", unit="model"):
        path = options.folder / f"{model}.npz"
        if not path.exists():
            with jax.enable_x64(True):
                write_arrays(path, _measure(model, size.seeds, size.num_examples, steps[model]))


def _present(folder: Path, preset: str) -> str:
    del preset
    stored = {model: load(folder / f"{model}.npz") for model in MODELS}
    found, panels, panes = [], [], []
    for model, arrays in stored.items():
        steps, share = arrays["step"], arrays["share"]
        found += statements(
            model, steps, arrays["deviation"], arrays["correlation"], share, arrays.get("angle")
        )
        title = MODELS[model]
        for ylabel, values in (
            ("correlation of g and margin", arrays["correlation"]),
            ("standard deviation of g", arrays["deviation"]),
        ):
            panels.append(Panel(title, ylabel, steps, _by_arm(values[:, :2])))
        if model == "linear":
            panels.append(
                Panel(title, "1 - share of the largest", steps, _by_arm(1 - share), log_y=True)
            )
        else:
            separates = in_every_arm(share[..., -1] > 0)
            title += f", {separates.sum()} of {len(share)} seeds separate"
            kept = np.where(separates[:, None, None], share, np.nan)
            panels.append(Panel(title, "smallest margin / |θ|²", steps, _by_arm(kept)))
        for t, step in enumerate(arrays["g_step"]):
            groups = {arm: arrays["g"][:, a, t].ravel() for a, arm in enumerate(ARMS[:2])}
            panes.append(Histogram(f"{model}, step {step:,}", "g", groups, (1.0, 2.0)))
    rows = [
        row
        for panel in panels
        for row in curve_rows(f"{panel.title}: {panel.ylabel}", panel.steps, panel.curves)
    ]
    write_csv(folder / "figure4.csv", [CURVE_HEADER, *rows])
    separating = {arm: int(np.sum(stored["network"]["share"][:, a, -1] > 0))
                  for a, arm in enumerate(ARMS)}  # fmt: skip
    summary = {"statements": statements_as_json(found), "network_separates": separating}
    write_json(folder / "summary.json", summary)
    paths = [folder / "figure4-histograms.png", folder / "figure4-curves.png"]
    title = "xu2021, Fig. 4: weights g of the jointly trained model, all seeds, no regularization"
    plotting.save(histograms(panes, title=title), paths[0])
    title = "xu2021, Fig. 4: joint training, finitely many steps, no regularization"
    plotting.save(bands(panels, title=title), paths[1])
    return "\n".join([statements_table(found), "Figures:", *(f"  {path}" for path in paths)])


def _by_arm(values: np.ndarray) -> dict[str, np.ndarray]:
    return {arm: values[:, a] for a, arm in enumerate(ARMS[: values.shape[1]])}


ITEMS = {
    "Figure 4": "a weighting model trained jointly with the classifier",
}
_CAUSES = {
    "deviation of g": (
        "g is a logistic model: it concentrates only if its parameters grow along the classifier, "
        "which for inputs outside the unit ball they do not"
    ),
    "correlation": (
        "the sign follows from the data and the start of psi, not from the method: text and "
        "caption of the paper expect opposite signs"
    ),
    "angle another": (
        "perhaps: from psi = 0, g hardly differs between examples while the direction settles"
    ),
}

EXPERIMENT = Experiment(
    name="xu2021.figure4",
    summary="Fig. 4: a weighting model trained jointly with the classifier",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 100,000 steps (network: 20,000); a minute",
        "paper": "100 seeds, 1,000,000 steps (network: 100,000)",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("xu2021", ITEMS),
    causes=_CAUSES,
)
