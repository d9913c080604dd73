"""Figure 6: decision regions on imbalanced moons as training goes on, equal weights and small up.

The epochs are the paper's; an epoch is one step of full-batch gradient descent. 300 examples to 30;
the small class is y = -1, red, with ten times the weight in the second row.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture, Table
from experiments.simulated.models import TwoLayerNetwork, network_score, scores, with_constant
from experiments.simulated.plots import Plane, planes
from experiments.tools.files import read_arrays
from experiments.tools.parts import compute_parts
from experiments.zhou2022 import curves
from experiments.zhou2022.claims import added_claim
from experiments.zhou2022.data import IMBALANCED_COUNTS, simulate, small_class_weights

EPOCHS = (1, 10, 20, 30, 50, 80, 100)
_FACTORS = {"equal": 1.0, "small up": 10.0}  # on the small class
_SEEDS = {"smoke": 3, "cpu": 40, "paper": 200}
_DRAWN = 0  # the seed in the picture
_NOISE = 0.15
_EVERY_STEP = 200  # logged steps per decade: enough for every epoch of the figure
_GRID = np.stack(np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-1.5, 1.5, 61)), -1).reshape(-1, 2)
_MEASURES = ("test_error", "small_error", "large_error", "region")
_ITEM, _PLACE = "Figure 6", "Fig. 6"
_START = "after one step the start decides"
_DECIDED_BY_THE_START = (1, 10, 100)  # epochs
_SHOWS = "decision regions on imbalanced moons, equal weights and small class up"


def region_claims() -> list[Claim]:
    """Higher weights help the small class, of measures [S, 2, epochs]."""
    last = f"epoch {EPOCHS[-1]}"
    return [
        *(_recall_is_higher(e) for e in range(len(EPOCHS))),
        Claim(
            f"{last}: the small class's region is larger",
            _ITEM,
            _PLACE,
            lambda found: _at_the_end(found, "region", 1) > _at_the_end(found, "region", 0),
            cause=_START,
        ),
        Claim(
            f"{last}: balanced test error lower",
            _ITEM,
            _PLACE,
            lambda found: _at_the_end(found, "test_error", 1) < _at_the_end(found, "test_error", 0),
            cause=_START,
        ),
        added_claim(
            f"{last}: large class's error higher",
            _ITEM,
            lambda found: (
                _at_the_end(found, "large_error", 1) > _at_the_end(found, "large_error", 0)
            ),
        ),
    ]


def _recall_is_higher(e: int) -> Claim:
    def ask(found: Mapping[str, np.ndarray]) -> np.ndarray:
        recall = 1 - found["small_error"][:, :, e]
        return recall[:, 1] > recall[:, 0]

    return Claim(
        f"epoch {EPOCHS[e]}: small class's recall higher with small up",
        _ITEM,
        _PLACE,
        ask,
        cause=_START if EPOCHS[e] in _DECIDED_BY_THE_START else "",
    )


def _at_the_end(found: Mapping[str, np.ndarray], measure: str, arm: int) -> np.ndarray:
    return found[measure][:, arm, -1]


def _compute(options: Options) -> None:
    num_seeds = options.seeds or _SEEDS[options.preset]
    compute_parts(options.folder, {"figure6": partial(_train, num_seeds)}, "zhou2022.figure6")


def _train(num_seeds: int) -> dict[str, np.ndarray]:
    """Errors and regions [S, 2, epochs], the networks, and the training set in the picture."""
    with jax.enable_x64(True):
        sets = simulate("network", num_seeds, IMBALANCED_COUNTS, moons_noise=_NOISE)
        run, found = curves.train_and_measure(
            "network",
            sets,
            small_class_weights(sets.signs, tuple(_FACTORS.values())),
            num_steps=EPOCHS[-1],
            per_decade=_EVERY_STEP,
        )
        logged = np.asarray(run.step[0, 0]).tolist()
        shown = np.array([logged.index(epoch) for epoch in EPOCHS])
        params = jax.tree.map(lambda leaf: leaf[:, :, shown], run.params)
        over = jax.vmap(jax.vmap(jax.vmap(scores, (0, None)), (0, None)), (0, None))
        grid = np.asarray(over(params, with_constant(jnp.asarray(_GRID))))
    kept = {m: found[m][:, :, shown] for m in ("test_error", "small_error", "large_error")}
    return kept | {
        "region": (grid <= 0).mean(axis=-1),
        "hidden": np.asarray(params.hidden),
        "output": np.asarray(params.output),
        "inputs": sets.inputs[_DRAWN, :, :2],
        "signs": sets.signs[_DRAWN],
    }


def _present(folder: Path, preset: str) -> Page:
    found = read_arrays(folder / "figure6.npz")
    rows: list[list] = [["arm", "seed", "epoch", *_MEASURES]]
    means, panels = [], []
    for a, arm in enumerate(_FACTORS):
        for e, epoch in enumerate(EPOCHS):
            at = [found[measure][:, a, e] for measure in _MEASURES]
            means.append([arm, str(epoch), *(f"{100 * values.mean():.1f}" for values in at)])
            for s, values in enumerate(zip(*at, strict=True)):
                rows.append([arm, s, epoch, *(f"{value:.6g}" for value in values)])
            kernels = (jnp.asarray(found[name][_DRAWN, a, e]) for name in ("hidden", "output"))
            score = network_score(TwoLayerNetwork(*kernels))
            panels.append(Plane(f"{arm}, epoch {epoch}", score, found["inputs"], found["signs"]))
    small, large = IMBALANCED_COUNTS
    title = f"Small class red, {large} to {small}: equal weights above, ten times below"
    header = ["weights", "epoch", "test error %", "small %", "large %", "small's region %"]
    return Page(
        tables=[Table(header, means, title="Means over the seeds:")],
        claims=answers(region_claims(), found),
        figures=[Picture("figure6", planes(panels, title=title, num_columns=len(EPOCHS)))],
        notes=[f"The figure shows seed {_DRAWN}."],
        files={"figure6.csv": rows},
        summary={"preset": preset},
    )


EXPERIMENT = Experiment(
    name="zhou2022.figure6",
    summary=_SHOWS,
    presets={
        "smoke": "3 seeds, 100 epochs; some seconds",
        "cpu": "40 seeds, 100 epochs; some seconds",
        "paper": "200 seeds, 100 epochs; some seconds",
    },
    compute=_compute,
    present=_present,
    items={_ITEM: _SHOWS},
)
