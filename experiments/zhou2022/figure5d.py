"""Figure 5d: the balanced test error of a network on imbalanced moons, by the small class's weight.

Ten examples to one; the paper prints neither the sizes nor the weights. Here 300 and 30 examples,
moons with little noise (which a good network separates) and with much (which overlap), and weights
of the small class from that of the large one to twenty times it, each with weights of mean one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture, Table
from experiments.simulated.plots import bands, panel_of_arms
from experiments.tools.parts import compute_parts, read_parts
from experiments.zhou2022 import curves
from experiments.zhou2022.arms import arm_rows
from experiments.zhou2022.claims import added_claim
from experiments.zhou2022.data import IMBALANCED_COUNTS, simulate, small_class_weights

SMALL_CLASS_FACTORS = (1.0, 2.0, 5.0, 10.0, 20.0)
_NOISE = {"separated": 0.05, "overlapping": 0.25}  # standard deviations about the moons
_STEPS = {"smoke": 300, "cpu": 20_000, "paper": 200_000}
_SEEDS = {"smoke": 2, "cpu": 20, "paper": 100}
_MEASURES = ("test_error", "small_error", "large_error", "normalized_margin")
_ITEM, _PLACE = "Figure 5", "Fig. 5d"

_Found = Mapping[str, np.ndarray]


def small_class_claims(moons: str) -> list[Claim]:
    """A higher weight of the small class lowers the balanced test error of these moons.

    The errors are [S, A, T], in the order of `SMALL_CLASS_FACTORS`.
    """
    claims = []
    for a in range(1, len(SMALL_CLASS_FACTORS)):
        claims += [_lowers_over_time(moons, a), _lowers_at_the_end(moons, a)]
    ten = SMALL_CLASS_FACTORS.index(10.0)
    return [
        *claims,
        Claim(
            f"moons {moons}: no weight worse than the next lower, at the end",
            _ITEM,
            _PLACE,
            lambda found: np.all(np.diff(found["test_error"][:, :, -1], axis=1) <= 0, axis=1),
            cause="perhaps: beyond the class ratio a higher weight moves errors to the large class",
        ),
        Claim(
            f"moons {moons}: x 10 lowers the small class's error, at the end",
            _ITEM,
            _PLACE,
            lambda found: found["small_error"][:, ten, -1] < found["small_error"][:, 0, -1],
        ),
        added_claim(
            f"moons {moons}: x 20 raises the large class's error, at the end",
            _ITEM,
            lambda found: found["large_error"][:, -1, -1] > found["large_error"][:, 0, -1],
        ),
    ]


def _lowers_over_time(moons: str, a: int) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        overall = curves.mean_over_log_time(found["test_error"], found["step"])
        return overall[:, a] < overall[:, 0]

    return _lowers(moons, a, "over time", ask)


def _lowers_at_the_end(moons: str, a: int) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        return found["test_error"][:, a, -1] < found["test_error"][:, 0, -1]

    return _lowers(moons, a, "at the end", ask)


def _lowers(moons: str, a: int, when: str, ask: Callable[[_Found], np.ndarray]) -> Claim:
    return Claim(
        f"moons {moons}: small class x {SMALL_CLASS_FACTORS[a]:g} lowers the test error {when}",
        _ITEM,
        _PLACE,
        ask,
        cause="perhaps: the boundary of the other seeds was in the middle already",
    )


def _compute(options: Options) -> None:
    num_seeds, num_steps = options.seeds or _SEEDS[options.preset], _STEPS[options.preset]
    parts = {name: partial(_train, noise, num_seeds, num_steps) for name, noise in _NOISE.items()}
    compute_parts(options.folder, parts, "zhou2022.figure5d")


def _train(noise: float, num_seeds: int, num_steps: int) -> dict[str, np.ndarray]:
    sets = simulate("network", num_seeds, IMBALANCED_COUNTS, moons_noise=noise)
    with jax.enable_x64(True):
        weights = small_class_weights(sets.signs, SMALL_CLASS_FACTORS)
        _, found = curves.train_and_measure("network", sets, weights, num_steps=num_steps)
    return {m: found[m] for m in ("step", *_MEASURES)}


def _present(folder: Path, preset: str) -> Page:
    found = read_parts(folder, _NOISE)
    names = [f"x {factor:g}" for factor in SMALL_CLASS_FACTORS]
    rows = [
        [moons, *row]
        for moons, own in found.items()
        for row in arm_rows(SMALL_CLASS_FACTORS, own, _MEASURES, digits=6)
    ]
    panels = [
        panel_of_arms(f"moons {moons}", ylabel, own["step"], names, own[measure])
        for moons, own in found.items()
        for measure, ylabel in (
            ("test_error", "balanced test error"),
            ("small_error", "small class's error"),
        )
    ]
    num_seeds = len(found["separated"]["test_error"])
    small, large = IMBALANCED_COUNTS
    title = f"{large} to {small} examples, by the small class's weight ({num_seeds} seeds)"
    return Page(
        tables=[
            Table(
                ["moons", "small class", "test error %", "small %", "large %", "separated"],
                [row for moons, own in found.items() for row in _ends(moons, own)],
                title="Means at the end:",
            )
        ],
        claims=[
            answer
            for moons, own in found.items()
            for answer in answers(small_class_claims(moons), own)
        ],
        figures=[Picture("figure5d", bands(panels, title=title, num_columns=2))],
        notes=["Over time: on average over the logarithm of the steps from 10 on."],
        files={
            "figure5d.csv": [["moons", "small_class_factor", "seed", "step", *_MEASURES], *rows]
        },
        summary={"preset": preset},
    )


def _ends(moons: str, found: _Found) -> list[list[str]]:
    done = curves.separated(found["normalized_margin"])
    rows = []
    for a, factor in enumerate(SMALL_CLASS_FACTORS):
        errors = [100 * found[measure][:, a, -1].mean() for measure in _MEASURES[:3]]
        separated = f"{done[:, a].sum()} of {len(done)}"
        rows.append([moons, f"x {factor:g}", *(f"{e:.1f}" for e in errors), separated])
    return rows


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
    items={
        _ITEM: "normalized margins with hard examples up, and test error by the weight of the "
        "small class (5d)"
    },
)
