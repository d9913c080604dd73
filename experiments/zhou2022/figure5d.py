"""Figure 5d: the balanced test error of a network on imbalanced moons, by the small class's weight.

Ten examples to one; the paper prints neither the sizes nor the weights. Here 300 and 30 examples,
moons with little noise (which a good network separates) and with much (which overlap), and weights
of the small class from that of the large one to twenty times it, each with weights of mean one.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.plots import Panel, bands
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.tools.tables import align
from experiments.zhou2022 import curves
from experiments.zhou2022.data import simulate

FACTORS = (1.0, 2.0, 5.0, 10.0, 20.0)
NOISE = {"separated": 0.05, "overlapping": 0.25}  # standard deviations about the moons
COUNTS = (30, 300)  # the small class is y = -1
STEPS = {"smoke": 300, "cpu": 20_000, "paper": 200_000}
SEEDS = {"smoke": 2, "cpu": 20, "paper": 100}
SOURCE = "zhou2022, Fig. 5d"
_MEASURES = ("test_error", "small_error", "large_error", "normalized_margin")


def small_class_weights(signs: np.ndarray, factors: tuple[float, ...] = FACTORS) -> np.ndarray:
    """Weights [S, A, N] of mean one with a factor on the small class."""
    weights = np.stack([np.where(signs < 0, factor, 1.0) for factor in factors], axis=1)
    return weights / weights.mean(axis=2, keepdims=True)


def statements_of(name: str, found: Mapping[str, np.ndarray]) -> list[Statement]:
    """Whether a higher weight of the small class lowers the balanced test error."""
    error, step = found["test_error"], found["step"]  # [S, A, T]
    at_end, overall = error[:, :, -1], curves.mean_over_log_time(error, step)
    statements = []
    for a, factor in enumerate(FACTORS[1:], start=1):
        for values, when in ((overall, "over time"), (at_end, "at the end")):
            text = f"moons {name}: small class x {factor:g} lowers the test error {when}"
            statements.append(Statement(text, values[:, a] < values[:, 0], SOURCE))
    small = found["small_error"][:, :, -1]
    falls = np.all(np.diff(at_end, axis=1) <= 0, axis=1)
    rises = found["large_error"][:, -1, -1] > found["large_error"][:, 0, -1]
    return [
        *statements,
        Statement(f"moons {name}: no weight worse than the next lower, at the end", falls, SOURCE),
        Statement(
            f"moons {name}: x 10 lowers the small class's error, at the end",
            small[:, FACTORS.index(10.0)] < small[:, 0],
            SOURCE,
        ),
        Statement(
            f"moons {name}: x 20 raises the large class's error, at the end", rises, "added here"
        ),
    ]


def _compute(options: Options) -> None:
    num_seeds = options.seeds or SEEDS[options.preset]
    for name, noise in tqdm(NOISE.items(), desc="figure 5d", unit="set"):
        path = options.folder / f"{name}.npz"
        if path.exists():
            continue
        sets = simulate("network", num_seeds, COUNTS, moons_noise=noise)
        with jax.enable_x64(True):
            weights = small_class_weights(sets.signs)
            run = curves.train("network", sets, weights, num_steps=STEPS[options.preset])
            end = jax.tree.map(lambda leaf: leaf[:, 0, -1], run.params)
            found = curves.measure("network", sets, run, end)
        write_arrays(path, {m: found[m] for m in ("step", *_MEASURES)})


def _present(folder: Path, preset: str) -> str:
    statements, panels = [], []
    rows: list[list] = [["moons", "small_class_factor", "seed", "step", *_MEASURES]]
    ends = [["moons", "small class", "test error %", "small %", "large %", "separated"]]
    for name in NOISE:
        with np.load(folder / f"{name}.npz") as stored:
            found = {key: stored[key] for key in stored.files}
        statements += statements_of(name, found)
        done = curves.separated(found["normalized_margin"])
        for a, factor in enumerate(FACTORS):
            errors = [100 * found[m][:, a, -1].mean() for m in _MEASURES[:3]]
            of = f"{done[:, a].sum()} of {len(done)}"
            ends.append([name, f"x {factor:g}", *(f"{e:.1f}" for e in errors), of])
            for s in range(len(done)):
                for t, step in enumerate(found["step"].tolist()):
                    values = [f"{found[m][s, a, t]:.6g}" for m in _MEASURES]
                    rows.append([name, factor, s, step, *values])
        for measure in ("test_error", "small_error"):
            by_arm = {f"x {f:g}": found[measure][:, a] for a, f in enumerate(FACTORS)}
            words = {"test_error": "balanced test error", "small_error": "small class's error"}
            panels.append(Panel(f"moons {name}", words[measure], found["step"], by_arm))
    write_csv(folder / "figure5d.csv", rows)
    write_json(
        folder / "summary.json", {"preset": preset, "statements": statements_as_json(statements)}
    )
    title = f"{COUNTS[1]} to {COUNTS[0]} examples, by the small class's weight ({len(done)} seeds)"
    plotting.save(bands(panels, title=title, num_columns=2), folder / "figure5d.png")
    note = "Over time: on average over the logarithm of the steps from 10 on. Means at the end:"
    table = f"{statements_table(statements)}\n\n{note}\n\n{align(ends)}"
    return f"{table}\nFigure:\n  {folder}/figure5d.png"


ITEMS = {
    "Figure 5": (
        "normalized margins with hard examples up, and test error by the weight of the small "
        "class (5d)"
    ),
}
_CAUSES = {
    "lowers the test error": "perhaps: the boundary of the other seeds was in the middle already",
    "no weight worse": (
        "perhaps: beyond the class ratio a higher weight moves errors to the large class"
    ),
}

EXPERIMENT = Experiment(
    name="zhou2022.figure5d",
    summary="test error on imbalanced moons by the weight of the small class",
    presets={
        "smoke": "2 seeds, 300 steps; some seconds",
        "cpu": "20 seeds, 20,000 steps; a minute",
        "paper": "100 seeds, 200,000 steps; half an hour",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("zhou2022", ITEMS),
    causes=_CAUSES,
)
