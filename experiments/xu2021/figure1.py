"""Figure 1: the four synthetic sets, and what both models make of them with equal weights.

The network has a constant input: without biases of any kind it is positively homogeneous in the
input as well, so its sign is constant along rays from the origin. The paper's "no bias terms" would
then leave moons that no parameters separate; that network is trained as well, as a control.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Options
from experiments.reporting.page import Page, Picture
from experiments.simulated.models import (
    TwoLayerNetwork,
    network_score,
    seed_keys,
    train_arms,
    with_constant,
)
from experiments.simulated.plots import Plane, planes
from experiments.tools.files import read_arrays
from experiments.tools.parts import compute_parts
from experiments.xu2021 import data
from experiments.xu2021.common import (
    SIMULATION_SIZES,
    SimulationSize,
    figure_experiment,
    margins_along,
    size_of,
)

_TITLES = {
    "separable": "(a) separable",
    "overlapping": "(b) non-separable",
    "moons": "(c) moons",
    "unbalanced moons": "(d) moons, 20 % of blue\nand 80 % of orange removed",
}
MODELS_OF_SETS = {name: ["linear", "network"] for name in _TITLES}
MODELS_OF_SETS["moons"].append("plain")  # a network without the constant input
_ITEM, _PLACE = "Figure 1", "Fig. 1"


def equal_weights_claims() -> list[Claim]:
    """What the figure shows, of the numbers of wrong training points [S] by set and model."""
    return [
        Claim(
            "linear model separates the separable set",
            _ITEM,
            _PLACE,
            lambda errors: errors["separable"]["linear"] == 0,
        ),
        *(
            Claim(
                f"linear model does not separate the {name} set",
                _ITEM,
                _PLACE,
                lambda errors, name=name: errors[name]["linear"] != 0,
            )
            for name in ("overlapping", "moons", "unbalanced moons")
        ),
        *(
            Claim(
                f"network with a constant input separates the {name} set",
                _ITEM,
                _PLACE,
                lambda errors, name=name: errors[name]["network"] == 0,
                cause="five ReLU units from standard normal parameters: units die, and some seeds "
                "never separate",
            )
            for name in ("moons", "unbalanced moons")
        ),
        Claim(
            "network without a constant input separates the moons set",
            _ITEM,
            "Sec. 2: no biases",
            lambda errors: errors["moons"]["plain"] == 0,
            cause="no biases (Sec. 2): a network through the origin cannot separate moons",
        ),
    ]


def _compute(options: Options) -> None:
    size = size_of(options)
    parts = {_slug(name): partial(_train, name, size) for name in _TITLES}
    compute_parts(options.folder, parts, "xu2021.figure1")


def _train(name: str, size: SimulationSize) -> dict[str, np.ndarray]:
    """A set, and every model's errors [S] and parameters at the end."""
    inputs, signs = _points(name, size.seeds, size.num_examples)
    arrays = {"inputs": inputs, "signs": signs}
    with jax.enable_x64(True):
        for model in MODELS_OF_SETS[name]:
            linear = model == "linear"
            seen = jnp.asarray(inputs)
            seen = with_constant(seen) if model == "network" else seen
            run = train_arms(
                "linear" if linear else "network",
                seed_keys(size.seeds),
                seen,
                jnp.asarray(signs),
                jnp.ones((size.seeds, 1, signs.shape[1])),
                num_steps=size.linear_steps if linear else size.network_steps,
                per_decade=2,
            )
            last = jax.tree.map(lambda leaf: leaf[:, :, -1:], run.params)
            margins = margins_along(last, seen, jnp.asarray(signs))
            arrays[f"{model}_errors"] = np.sum(margins[:, 0, 0] <= 0, axis=-1)
            fields = ("params",) if linear else TwoLayerNetwork._fields
            for field, leaf in zip(fields, jax.tree.leaves(last), strict=True):
                arrays[f"{model}_{field}"] = np.asarray(leaf[:, 0, 0])
    return arrays


def _points(name: str, num_seeds: int, num_examples: int) -> data.SignedPoints:
    if name == "unbalanced moons":
        return data.unbalanced_moons(num_seeds, num_examples)[0]
    draw = {
        "separable": data.separable_points,
        "overlapping": data.overlapping_points,
        "moons": data.balanced_moons,
    }
    return draw[name](num_seeds, num_examples)


def _present(folder: Path, preset: str) -> Page:
    stored = {name: read_arrays(folder / f"{_slug(name)}.npz") for name in _TITLES}
    errors = {
        name: {model: stored[name][f"{model}_errors"] for model in models}
        for name, models in MODELS_OF_SETS.items()
    }
    rows = [
        (name, model, seed, int(wrong), len(stored[name]["signs"][seed]))
        for name, of_models in errors.items()
        for model, values in of_models.items()
        for seed, wrong in enumerate(values)
    ]
    panels = [
        _plane(title, stored[name], int(np.argmin(errors[name]["network"])))
        for name, title in _TITLES.items()
    ]
    steps = f"{SIMULATION_SIZES[preset].network_steps:,}"
    title = f"xu2021, Fig. 1: equal weights, {steps} steps; shades network, line linear model"
    return Page(
        claims=answers(equal_weights_claims(), errors),
        figures=[Picture("figure1", planes(panels, title=title))],
        notes=["The figure shows for each set the first seed with the network's fewest errors."],
        files={"figure1.csv": [("set", "model", "seed", "wrong", "examples"), *rows]},
    )


def _plane(title: str, arrays: dict[str, np.ndarray], seed: int) -> Plane:
    network = TwoLayerNetwork(
        jnp.asarray(arrays["network_hidden"][seed]), jnp.asarray(arrays["network_output"][seed])
    )
    a, b = arrays["linear_params"][seed]
    return Plane(
        title,
        network_score(network),
        arrays["inputs"][seed],
        arrays["signs"][seed],
        {"linear model": (float(a), float(b), 0.0)},
    )


def _slug(name: str) -> str:
    return name.replace(" ", "-")


EXPERIMENT = figure_experiment(
    1,
    "the synthetic sets and the equally weighted models",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 200 points, 20,000 steps; a minute",
        "paper": "100 seeds, 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
)
