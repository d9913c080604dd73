r"""Figure 4: a weighting model trained jointly with the classifier on one risk (Eq. 4).

.. math:: \min_{\psi, b, \theta} \frac1n \sum_i g(x_i)\, e^{-y_i f(\theta, x_i)}, \qquad
          g(x) = \sigma(\psi^\top x + b) + 1

by simultaneous gradient steps, of a linear model on separable data and of a network (with a
constant input) on moons. The start of psi is not printed: zeros, where g = 3/2, and standard
normal. As a control g stays at 3/2. The paper conjectures that the classifier still converges to
the max-margin solution, that g concentrates to a constant, and that its correlation with the margin
rises fast and then vanishes; its text expects negative correlations early, its caption an increase.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.claims import answers
from experiments.reporting.experiment import Options
from experiments.reporting.page import Page, Picture
from experiments.simulated.models import ORDERS, seed_keys, with_constant
from experiments.simulated.plots import Histogram, Panel, bands, histogram_panels, panel_of_arms
from experiments.tools.parts import compute_parts, read_parts
from experiments.xu2021 import data
from experiments.xu2021.common import (
    along,
    curve_rows,
    figure_experiment,
    in_every_arm,
    index_of_step,
    margins_along,
    size_of,
)
from experiments.xu2021.figure4_claims import joint_claims
from experiments.xu2021.joint_training import JOINT_ARMS, correlations, log_g, train_jointly
from weighting.implicit_bias.diagnostics import angle_between
from weighting.implicit_bias.max_margin import max_margin

_TITLES = {"linear": "linear, separable", "network": "network, moons"}
_TRAINED = JOINT_ARMS[:2]  # in which g is trained
_MORE_STEPS = 10  # of the linear model than elsewhere: concentration is slow


def _train(model: str, num_seeds: int, num_examples: int, num_steps: int) -> dict[str, np.ndarray]:
    draw = data.separable_points if model == "linear" else data.balanced_moons
    points = draw(num_seeds, num_examples)
    inputs, signs = jnp.asarray(points.inputs), jnp.asarray(points.signs)
    run = train_jointly(model, seed_keys(num_seeds), inputs, signs, num_steps=num_steps)
    theta, psi = run.params
    seen = with_constant(inputs) if model == "network" else inputs
    margins = margins_along(theta, seen, signs)
    g = np.exp(along(log_g, psi, inputs))
    steps = np.asarray(run.step[0, 0])
    squares = along(lambda theta: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta)), theta)
    normalized = margins.min(axis=-1) / squares ** (ORDERS[model] / 2)
    times = [index_of_step(steps, steps[-1] / 10**k) for k in (3, 2, 1, 0)]
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
    with jax.enable_x64(True):
        parts = {
            model: partial(_train, model, size.seeds, size.num_examples, steps[model])
            for model in _TITLES
        }
        compute_parts(options.folder, parts, "xu2021.figure4")


def _present(folder: Path, preset: str) -> Page:
    del preset
    stored = read_parts(folder, _TITLES)
    panels = [*_linear_panels(stored["linear"]), *_network_panels(stored["network"])]
    curves = bands(
        panels, title="xu2021, Fig. 4: joint training, finitely many steps, no regularization"
    )
    weights = histogram_panels(
        [pane for model, found in stored.items() for pane in _histograms(model, found)],
        title="xu2021, Fig. 4: weights g of the jointly trained model, all seeds, no "
        "regularization",
    )
    ends = stored["network"]["share"][..., -1]  # [S, A]
    return Page(
        claims=[
            answer
            for model, found in stored.items()
            for answer in answers(joint_claims(model, found["step"]), found)
        ],
        figures=[Picture("figure4-histograms", weights), Picture("figure4-curves", curves)],
        files={"figure4.csv": curve_rows({f"{p.title}: {p.ylabel}": p for p in panels})},
        summary={
            "network_separates": {
                arm: int(np.sum(ends[:, a] > 0)) for a, arm in enumerate(JOINT_ARMS)
            }
        },
    )


def _linear_panels(found: Mapping[str, np.ndarray]) -> list[Panel]:
    title, steps, gap = _TITLES["linear"], found["step"], 1 - found["share"]
    return [
        *_weight_panels(title, found),
        panel_of_arms(title, "1 - share of the largest", steps, JOINT_ARMS, gap, log_y=True),
    ]


def _network_panels(found: Mapping[str, np.ndarray]) -> list[Panel]:
    """Margins of the seeds on which all arms separate."""
    title, steps, share = _TITLES["network"], found["step"], found["share"]
    separates = in_every_arm(share[..., -1] > 0)
    kept = np.where(separates[:, None, None], share, np.nan)
    counted = f"{title}, {separates.sum()} of {len(share)} seeds separate"
    return [
        *_weight_panels(title, found),
        panel_of_arms(counted, "smallest margin / |θ|²", steps, JOINT_ARMS, kept),
    ]


def _weight_panels(title: str, found: Mapping[str, np.ndarray]) -> list[Panel]:
    measures = {
        "correlation of g and margin": found["correlation"],
        "standard deviation of g": found["deviation"],
    }
    return [
        panel_of_arms(title, ylabel, found["step"], _TRAINED, values)
        for ylabel, values in measures.items()
    ]


def _histograms(model: str, found: Mapping[str, np.ndarray]) -> list[Histogram]:
    """The weights g of all seeds' examples at every stored step."""
    return [
        Histogram(
            f"{model}, step {step:,}",
            "g",
            {arm: found["g"][:, a, t].ravel() for a, arm in enumerate(_TRAINED)},
            (1.0, 2.0),
        )
        for t, step in enumerate(found["g_step"])
    ]


EXPERIMENT = figure_experiment(
    4,
    "a weighting model trained jointly with the classifier",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 100,000 steps (network: 20,000); a minute",
        "paper": "100 seeds, 1,000,000 steps (network: 100,000)",
    },
    compute=_compute,
    present=_present,
)
