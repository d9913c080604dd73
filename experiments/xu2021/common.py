"""What the figures of xu2021 share: presets, and measures along trajectories.

The paper trains with full-batch gradient descent at rate 0.1, exponential loss and standard normal
starts; numbers of points, steps and seeds are not printed. Axes: S seeds, A arms, T logged steps.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page
from experiments.simulated.models import ORDERS, scores
from experiments.simulated.plots import Panel
from weighting.implicit_bias.diagnostics import average_margin

PyTree = Any


class SimulationSize(NamedTuple):
    """How much a preset runs."""

    seeds: int
    network_seeds: int  # of Fig. 2, where those count on which all weightings separate the classes
    num_examples: int
    linear_steps: int
    network_steps: int


SIMULATION_SIZES = {
    "smoke": SimulationSize(2, 2, 60, 300, 600),
    "cpu": SimulationSize(10, 30, 200, 10_000, 20_000),
    "paper": SimulationSize(100, 200, 200, 100_000, 100_000),
}


def size_of(options: Options) -> SimulationSize:
    """The preset's, with the number of seeds asked for, if one was."""
    size = SIMULATION_SIZES[options.preset]
    if options.seeds is None:
        return size
    return size._replace(seeds=options.seeds, network_seeds=options.seeds)


def figure_experiment(
    number: int,
    shows: str,
    *,
    presets: Mapping[str, str],
    compute: Callable[[Options], None],
    present: Callable[[Path, str], Page],
) -> Experiment:
    """The experiment of a figure of the paper, and of what it shows."""
    return Experiment(
        name=f"xu2021.figure{number}",
        summary=f"Fig. {number}: {shows}",
        presets=presets,
        compute=compute,
        present=present,
        items={f"Figure {number}": shows},
    )


def along(function: Callable, params: PyTree, *per_seed: Array) -> np.ndarray:
    """function(params, ...) at every logged step [S, A, T]; the other arguments are [S, ...]."""
    fixed = (None,) * len(per_seed)
    over = jax.vmap(jax.vmap(function, (0, *fixed)), (0, *fixed))
    return np.asarray(jax.jit(jax.vmap(over))(params, *per_seed))


def margins_along(params: PyTree, inputs: Array, signs: Array) -> np.ndarray:
    """Margins y f(x) [S, A, T, N], not normalized."""
    return along(lambda params, x, y: y * scores(params, x), params, inputs, signs)


def average_margins(
    model: str, params: PyTree, inputs: Array, signs: Array
) -> dict[str, np.ndarray]:
    """Mean margins [S, A, T]: over the norm to the order of homogeneity, and as they are."""

    def measure(params: PyTree, inputs: Array, signs: Array) -> Array:
        return jnp.stack(average_margin(signs * scores(params, inputs), params, ORDERS[model]))

    raw, normalized = np.moveaxis(along(measure, params, inputs, signs), -1, 0)
    return {"average_margin": normalized, "raw_average_margin": raw}


def index_of_step(steps: np.ndarray, step: float) -> int:
    """Where the last logged step up to `step` stands."""
    return int(np.searchsorted(steps, step, side="right")) - 1


def milestones(steps: np.ndarray) -> list[int]:
    """Where powers of ten from 10 on stand, and the last step."""
    powers = 10 ** np.arange(1, 10)
    found = [index_of_step(steps, power) for power in powers[powers < steps[-1]]]
    return [*found, len(steps) - 1]


def in_every_arm(flags: np.ndarray) -> np.ndarray:
    """Whether it holds in all arms [S], from [S, A]."""
    return np.asarray(np.all(flags, axis=1))


def curve_rows(panels: Mapping[str, Panel]) -> list[tuple]:
    """Rows for a CSV file: the curves [S, T] of all panels by name, after a header."""
    rows = [
        (name, arm, seed, int(panel.steps[t]), f"{values[seed, t]:.6g}")
        for name, panel in panels.items()
        for arm, values in panel.curves.items()
        for seed, t in np.ndindex(values.shape)
    ]
    return [("panel", "arm", "seed", "step", "value"), *rows]
