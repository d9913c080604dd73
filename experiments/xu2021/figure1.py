"""Figure 1: the four synthetic sets, and what both models make of them with equal weights.

The network has a constant input: without biases of any kind it is positively homogeneous in the
input as well, so its sign is constant along rays from the origin. The paper's "no bias terms" would
then leave moons that no parameters separate; that network is trained as well, as a control.
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
from experiments.simulated.models import Network, scores, train_arms, with_constant
from experiments.simulated.plots import Plane, planes
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.xu2021 import data
from experiments.xu2021.common import SIZES, keys, load, margins_along, size_of

SETS = {
    "separable": "(a) separable",
    "overlapping": "(b) non-separable",
    "moons": "(c) moons",
    "unbalanced moons": "(d) moons, 20 % of blue\nand 80 % of orange removed",
}
MODELS = {name: ["linear", "network"] for name in SETS}
MODELS["moons"].append("plain")  # a network without the constant input


def statements(errors: dict[tuple[str, str], np.ndarray]) -> list[Statement]:
    """From the numbers of wrong training points [S] of every set and model."""
    source, found = "xu2021, Fig. 1", []
    for name in SETS:
        separable = name == "separable"
        right = errors[name, "linear"] == 0
        text = f"linear model {'separates' if separable else 'does not separate'} the {name} set"
        found.append(Statement(text, right if separable else ~right, source))
    for name in ("moons", "unbalanced moons"):
        text = f"network with a constant input separates the {name} set"
        found.append(Statement(text, errors[name, "network"] == 0, source))
    text = "network without a constant input separates the moons set"
    return [*found, Statement(text, errors["moons", "plain"] == 0, "xu2021, Sec. 2: no biases")]


def _points(name: str, num_seeds: int, num_examples: int) -> data.Points:
    if name == "unbalanced moons":
        return data.unbalanced_moons(num_seeds, num_examples)[0]
    generate = {"separable": data.separable, "overlapping": data.overlapping, "moons": data.moons}
    return generate[name](num_seeds, num_examples)


def _compute(options: Options) -> None:
    size = size_of(options)
    for name in tqdm(SETS, desc="xu2021.figure1", unit="set"):
        path = options.folder / f"{_slug(name)}.npz"
        if path.exists():
            continue
        inputs, signs = _points(name, size.seeds, size.num_examples)
        arrays: dict[str, np.ndarray] = {"inputs": inputs, "signs": signs}
        with jax.enable_x64(True):
            for model in MODELS[name]:
                linear = model == "linear"
                seen = jnp.asarray(inputs)
                seen = with_constant(seen) if model == "network" else seen
                run = train_arms(
                    "linear" if linear else "network",
                    keys(size.seeds),
                    seen,
                    jnp.asarray(signs),
                    jnp.ones((size.seeds, 1, signs.shape[1])),
                    num_steps=size.linear_steps if linear else size.network_steps,
                    per_decade=2,
                )
                last = jax.tree.map(lambda leaf: leaf[:, :, -1:], run.params)
                margins = margins_along(last, seen, jnp.asarray(signs))
                arrays[f"{model}_errors"] = np.sum(margins[:, 0, 0] <= 0, axis=-1)
                for field, leaf in zip(_fields(model), jax.tree.leaves(last), strict=True):
                    arrays[f"{model}_{field}"] = np.asarray(leaf[:, 0, 0])
        write_arrays(path, arrays)


def _fields(model: str) -> tuple[str, ...]:
    return ("params",) if model == "linear" else Network._fields


def _present(folder: Path, preset: str) -> str:
    stored = {name: load(folder / f"{_slug(name)}.npz") for name in SETS}
    errors = {
        (name, model): arrays[f"{model}_errors"]
        for name, arrays in stored.items()
        for model in MODELS[name]
    }
    rows = [
        (name, model, seed, int(wrong), len(stored[name]["signs"][seed]))
        for (name, model), values in errors.items()
        for seed, wrong in enumerate(values)
    ]
    header = ("set", "model", "seed", "wrong", "examples")
    write_csv(folder / "figure1.csv", [header, *rows])
    found = statements(errors)
    write_json(folder / "summary.json", {"statements": statements_as_json(found)})

    panels = [
        _plane(title, stored[name], int(np.argmin(errors[name, "network"])))
        for name, title in SETS.items()
    ]
    steps = f"{SIZES[preset].network_steps:,}"
    title = f"xu2021, Fig. 1: equal weights, {steps} steps; shades network, line linear model"
    plotting.save(planes(panels, title=title), folder / "figure1.png")
    note = "The figure shows for each set the first seed with the network's fewest errors."
    return f"{statements_table(found)}\n{note}\nFigure:\n  {folder}/figure1.png"


def _plane(title: str, arrays: dict[str, np.ndarray], seed: int) -> Plane:
    network = Network(
        jnp.asarray(arrays["network_hidden"][seed]), jnp.asarray(arrays["network_output"][seed])
    )
    a, b = arrays["linear_params"][seed]
    return Plane(
        title,
        lambda points: np.asarray(scores(network, with_constant(jnp.asarray(points)))),
        arrays["inputs"][seed],
        arrays["signs"][seed],
        {"linear model": (float(a), float(b), 0.0)},
    )


def _slug(name: str) -> str:
    return name.replace(" ", "-")


ITEMS = {
    "Figure 1": "the synthetic sets and the equally weighted models",
}
_CAUSES = {
    "without a constant input": (
        "no biases (Sec. 2): a network through the origin cannot separate moons"
    ),
    "network with a constant input": (
        "five ReLU units from standard normal parameters: units die, and some seeds never separate"
    ),
}

EXPERIMENT = Experiment(
    name="xu2021.figure1",
    summary="Fig. 1: the synthetic sets and the equally weighted models",
    presets={
        "smoke": "2 seeds, 60 points; seconds",
        "cpu": "10 seeds, 200 points, 20,000 steps; a minute",
        "paper": "100 seeds, 100,000 steps; the paper prints neither number",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("xu2021", ITEMS),
    causes=_CAUSES,
)
