r"""Figure 2: weights change how fast gradient descent converges, and what it does on new data.

(a, b) A linear model on separable data with equal weights, with inverse-margin weights of the
max-margin solution's margins, with weights matched to its dual,
:math:`0.8\, n\, p^\star + 0.2`, and as a control with weights proportional to the margin: angle to
the max-margin direction, and average margin. Then a network (with a constant input) under several
class weights: average margin on balanced moons, where seeds count on which every weighting
separates the classes; and error on the unbalanced moons' complementary test set. (The panels (c)
and (d) change places between the paper's versions.)
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.reporting.claims import answers
from experiments.reporting.experiment import Options
from experiments.reporting.page import Page, Picture
from experiments.simulated.models import scores, seed_keys, train_arms, with_constant
from experiments.simulated.plots import Panel, bands, panel_of_arms
from experiments.tools.parts import compute_parts, read_parts
from experiments.xu2021 import data
from experiments.xu2021.common import (
    SimulationSize,
    along,
    average_margins,
    curve_rows,
    figure_experiment,
    in_every_arm,
    margins_along,
    size_of,
)
from experiments.xu2021.figure2_claims import (
    CLASS_ARMS,
    LINEAR_ARMS,
    error_claims,
    linear_claims,
    margin_claims,
)
from weighting.implicit_bias.diagnostics import angle_between, normalized_margin
from weighting.implicit_bias.max_margin import max_margin
from weighting.schemes.margin_based import inverse_margin_weights, kl_matched_weights

_TITLES = {
    "linear": "xu2021, Fig. 2a-b: linear, separable, finitely many steps, no regularization",
    "network": "xu2021, Fig. 2c-d: network, class weights orange : blue, finitely many steps, no "
    "regularization",
}


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


def _compute_linear(size: SimulationSize) -> dict[str, np.ndarray]:
    inputs, signs = data.separable_points(size.seeds, size.num_examples)
    solved = [linear_weights(x, y) for x, y in zip(inputs, signs, strict=True)]
    weights, directions, largest = (np.stack(part) for part in zip(*solved, strict=True))
    inputs, signs = jnp.asarray(inputs), jnp.asarray(signs)
    run = train_arms(
        "linear",
        seed_keys(size.seeds),
        inputs,
        signs,
        jnp.asarray(weights),
        num_steps=size.linear_steps,
    )

    def share(params: Array, inputs: Array, signs: Array, largest: Array) -> Array:
        return normalized_margin(signs * scores(params, inputs), params, 1) / largest

    return {
        "step": np.asarray(run.step[0, 0]),
        "angle": along(angle_between, run.params, jnp.asarray(directions)),
        **average_margins("linear", run.params, inputs, signs),
        "margin_share": along(share, run.params, inputs, signs, jnp.asarray(largest)),
    }


def _compute_network(size: SimulationSize, *, unbalanced: bool) -> dict[str, np.ndarray]:
    if unbalanced:
        training, test = data.unbalanced_moons(size.network_seeds, size.num_examples)
    else:
        training = test = data.balanced_moons(size.network_seeds, size.num_examples)
    weights = data.class_arm_weights(training.signs, CLASS_ARMS)
    inputs, signs = with_constant(jnp.asarray(training.inputs)), jnp.asarray(training.signs)
    run = train_arms(
        "network",
        seed_keys(size.network_seeds),
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
    "moons": partial(_compute_network, unbalanced=False),
    "unbalanced-moons": partial(_compute_network, unbalanced=True),
}


def _compute(options: Options) -> None:
    size = size_of(options)
    with jax.enable_x64(True):
        parts = {name: partial(measure, size) for name, measure in _PARTS.items()}
        compute_parts(options.folder, parts, "xu2021.figure2")


def _present(folder: Path, preset: str) -> Page:
    del preset
    linear, moons, unbalanced = read_parts(folder, _PARTS).values()
    kept = in_every_arm(moons["margin"][..., -1] > 0)
    kept_too = in_every_arm(unbalanced["margin"][..., -1] > 0)
    counts = {"seeds": len(kept), "moons": int(kept.sum()), "unbalanced moons": int(kept_too.sum())}
    panels = {"linear": _linear_panels(linear), "network": _network_panels(moons, unbalanced, kept)}
    named = {f"{model}: {own.title}": own for model, of in panels.items() for own in of}
    note = (
        f"All class weights separate the balanced moons on {counts['moons']} of {len(kept)} seeds, "
        f"the unbalanced ones on {counts['unbalanced moons']};\nmargins of the network are of "
        "the former. Class weights are orange : blue; the density ratio is 16 : 1."
    )
    return Page(
        claims=[
            *answers(linear_claims(linear["step"]), linear),
            *answers(margin_claims(moons["step"]), moons),
            *answers(error_claims(unbalanced["step"]), unbalanced),
        ],
        figures=[
            Picture(
                f"figure2-{model}",
                bands(own, title=_TITLES[model], num_columns=2 + (len(own) == 3)),
            )
            for model, own in panels.items()
        ],
        notes=[note],
        files={"figure2.csv": curve_rows(named)},
        summary={"all_class_weights_separate": counts},
    )


def _linear_panels(found: dict[str, np.ndarray]) -> list[Panel]:
    def panel(title: str, ylabel: str, values: np.ndarray, *, log_y: bool = False) -> Panel:
        return panel_of_arms(title, ylabel, found["step"], LINEAR_ARMS, values, log_y=log_y)

    gap = 1 - found["margin_share"]
    return [
        panel("(a) angle to max margin", "radians", found["angle"], log_y=True),
        panel("(b) average margin", "average margin / |θ|", found["average_margin"]),
        panel("average margin, raw", "margin", found["raw_average_margin"]),
        panel("smallest margin", "1 - share of the largest", gap, log_y=True),
    ]


def _network_panels(
    moons: dict[str, np.ndarray], unbalanced: dict[str, np.ndarray], kept: np.ndarray
) -> list[Panel]:
    """Margins on the balanced moons of the seeds `kept`, and errors on the unbalanced ones."""
    average, raw = (
        np.where(kept[:, None, None], moons[name], np.nan)
        for name in ("average_margin", "raw_average_margin")
    )
    steps, errors = moons["step"], unbalanced["error"]
    return [
        panel_of_arms("moons", "average margin / |θ|²", steps, CLASS_ARMS, average),
        panel_of_arms("moons, raw", "average margin", steps, CLASS_ARMS, raw),
        panel_of_arms(
            "unbalanced moons", "generalization error", unbalanced["step"], CLASS_ARMS, errors
        ),
    ]


EXPERIMENT = figure_experiment(
    2,
    "speed of convergence and generalization under different weights",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 10,000 steps; networks 30 seeds, 20,000 steps; two minutes",
        "paper": "100 seeds (networks 200), 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
)
