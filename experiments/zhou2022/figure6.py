"""Figure 6: decision regions on imbalanced moons as training goes on, equal weights and small up.

The epochs are the paper's; an epoch is one step of full-batch gradient descent. 300 examples to 30;
the small class is y = -1, red, with ten times the weight in the second row.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.models import Network, scores
from experiments.simulated.plots import Plane, planes
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.tools.tables import align
from experiments.zhou2022 import curves
from experiments.zhou2022.data import simulate
from experiments.zhou2022.figure5d import COUNTS, small_class_weights

EPOCHS = (1, 10, 20, 30, 50, 80, 100)
FACTORS = (1.0, 10.0)
ARMS = ("equal", "small up")
SEEDS = {"smoke": 3, "cpu": 40, "paper": 200}
SOURCE = "zhou2022, Fig. 6"
_DRAWN = 0  # the seed in the picture
_NOISE = 0.15
_EVERY_STEP = 200  # logged steps per decade: enough for every epoch of the figure
_GRID = np.stack(np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-1.5, 1.5, 61)), -1).reshape(-1, 2)


def _with_constant(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def network_score(hidden: np.ndarray, output: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """f on points [G, 2] of the plane, for kernels [3, H] and [H]."""
    return lambda points: np.maximum(_with_constant(points) @ hidden, 0) @ output


def statements_of(found: Mapping[str, np.ndarray]) -> list[Statement]:
    """Whether higher weights help the small class, epoch by epoch; arrays [S, 2, epochs]."""
    statements = []
    for e, epoch in enumerate(EPOCHS):
        recall = 1 - found["small_error"][:, :, e]
        text = f"epoch {epoch}: small class's recall higher with small up"
        statements.append(Statement(text, recall[:, 1] > recall[:, 0], SOURCE))
    region, large = found["region"][:, :, -1], found["large_error"][:, :, -1]
    error = found["test_error"][:, :, -1]
    last = f"epoch {EPOCHS[-1]}"
    return [
        *statements,
        Statement(
            f"{last}: the small class's region is larger", region[:, 1] > region[:, 0], SOURCE
        ),
        Statement(f"{last}: balanced test error lower", error[:, 1] < error[:, 0], SOURCE),
        Statement(f"{last}: large class's error higher", large[:, 1] > large[:, 0], "added here"),
    ]


def _compute(options: Options) -> None:
    path = options.folder / "figure6.npz"
    for _ in tqdm([] if path.exists() else [path], desc="figure 6", unit="set"):
        with jax.enable_x64(True):
            write_arrays(path, _train(options.seeds or SEEDS[options.preset]))


def _train(num_seeds: int) -> dict[str, np.ndarray]:
    """Errors and regions [S, 2, epochs], the networks, and the training set in the picture."""
    sets = simulate("network", num_seeds, COUNTS, moons_noise=_NOISE)
    weights = small_class_weights(sets.signs, FACTORS)
    run = curves.train("network", sets, weights, num_steps=EPOCHS[-1], per_decade=_EVERY_STEP)
    logged = np.asarray(run.step[0, 0]).tolist()
    shown = np.array([logged.index(epoch) for epoch in EPOCHS])
    end = jax.tree.map(lambda leaf: leaf[:, 0, -1], run.params)
    found = curves.measure("network", sets, run, end)
    params = jax.tree.map(lambda leaf: leaf[:, :, shown], run.params)
    over = jax.vmap(jax.vmap(jax.vmap(scores, (0, None)), (0, None)), (0, None))
    grid = np.asarray(over(params, jnp.asarray(_with_constant(_GRID))))
    kept = {m: found[m][:, :, shown] for m in ("test_error", "small_error", "large_error")}
    return kept | {
        "region": (grid <= 0).mean(axis=-1),
        "hidden": np.asarray(params.hidden),
        "output": np.asarray(params.output),
        "inputs": sets.inputs[_DRAWN, :, :2],
        "signs": sets.signs[_DRAWN],
    }


def _present(folder: Path, preset: str) -> str:
    with np.load(folder / "figure6.npz") as stored:
        found = {key: stored[key] for key in stored.files}
    statements = statements_of(found)
    measures = ("test_error", "small_error", "large_error", "region")
    rows: list[list] = [["arm", "seed", "epoch", *measures]]
    means = [["weights", "epoch", "test error %", "small %", "large %", "small's region %"]]
    panels = []
    for a, arm in enumerate(ARMS):
        for e, epoch in enumerate(EPOCHS):
            at = [found[m][:, a, e] for m in measures]
            means.append([arm, str(epoch), *(f"{100 * v.mean():.1f}" for v in at)])
            for s, values in enumerate(zip(*at, strict=True)):
                rows.append([arm, s, epoch, *(f"{value:.6g}" for value in values)])
            network = Network(found["hidden"][_DRAWN, a, e], found["output"][_DRAWN, a, e])
            score = network_score(*network)  # type: ignore[arg-type]
            title = f"{arm}, epoch {epoch}"
            panels.append(Plane(title, score, found["inputs"], found["signs"]))
    write_csv(folder / "figure6.csv", rows)
    write_json(
        folder / "summary.json", {"preset": preset, "statements": statements_as_json(statements)}
    )
    title = f"Small class red, {COUNTS[1]} to {COUNTS[0]}: equal weights above, ten times below"
    figure = planes(panels, title=title, num_columns=len(EPOCHS))
    plotting.save(figure, folder / "figure6.png")
    table = f"{statements_table(statements)}\n\nMeans over the seeds:\n\n{align(means)}"
    return f"{table}\nFigure (seed {_DRAWN}):\n  {folder}/figure6.png"


ITEMS = {
    "Figure 6": "decision regions on imbalanced moons, equal weights and small class up",
}
_CAUSES = {
    "epoch 1": "after one step the start decides",
}

EXPERIMENT = Experiment(
    name="zhou2022.figure6",
    summary="decision regions on imbalanced moons, equal weights and small class up",
    presets={
        "smoke": "3 seeds, 100 epochs; some seconds",
        "cpu": "40 seeds, 100 epochs; some seconds",
        "paper": "200 seeds, 100 epochs; some seconds",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("zhou2022", ITEMS),
    causes=_CAUSES,
)
