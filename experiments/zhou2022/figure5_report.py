"""Figure 5a-c from stored curves: claims, tables, pictures.

Axes: S seeds, A arms, E records along training.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.reporting.claims import answers
from experiments.reporting.ledger import show
from experiments.reporting.page import Page, Picture, Table
from experiments.tools.parts import read_numbered_parts
from experiments.zhou2022.arms import arm_rows, of_arm, stored_arms
from experiments.zhou2022.figure5_claims import raised_claims, tail_error
from experiments.zhou2022.figure5_plots import errors_figure, margins_figure
from experiments.zhou2022.raised_weights import IMAGE_SETTINGS

_Found = Mapping[str, np.ndarray]  # smallest, quantile, ..., each [S, A, E, ...]; arms [A]
_COLUMNS = ("smallest", "quantile", "average", "train_error", "test_error", "scale")


def margins_page(folder: Path, preset: str, what: str, doubt: str) -> Page:
    """The finished seeds of every setting.

    Args:
      folder: of the run.
      preset: of the run.
      what: the network and the data.
      doubt: what stands before the causes.

    Raises:
      RuntimeError: if no seed is finished.
    """
    found = _stacked_seeds(folder)
    if not found:
        raise RuntimeError(f"{folder} holds no finished seed")
    arms = {name: stored_arms(IMAGE_SETTINGS[name].arms, own) for name, own in found.items()}
    rows = [
        [name, *row]
        for name, own in found.items()
        for row in arm_rows(own["arms"].tolist(), own, _COLUMNS, digits=5, time="epoch")
    ]
    return Page(
        tables=[_end_table(found)],
        claims=[
            answer
            for name, own in found.items()
            for answer in answers(raised_claims(IMAGE_SETTINGS[name], arms[name], doubt), own)
        ],
        figures=[
            Picture("figure5_margins", margins_figure(found, what)),
            Picture("figure5_errors", errors_figure(found, tail_error, what)),
        ],
        files={"figure5.csv": [["setting", "weights", "seed", "epoch", *_COLUMNS], *rows]},
        summary={"preset": preset},
    )


def _stacked_seeds(folder: Path) -> dict[str, _Found]:
    """The finished seeds of every setting, stacked along a first axis; none is left out."""
    found = {}
    for name in IMAGE_SETTINGS:
        seeds = read_numbered_parts(folder, f"{name}_seed")
        if seeds:
            fixed = {key: seeds[0][key] for key in ("arms", "epoch")}
            found[name] = {key: np.stack([s[key] for s in seeds]) for key in seeds[0]} | fixed
    return found


def _end_table(found: Mapping[str, _Found]) -> Table:
    rows = []
    for name, own in found.items():
        setting = IMAGE_SETTINGS[name]
        for arm in stored_arms(setting.arms, own):
            last = {m: of_arm(own, m, arm)[:, -1].astype(float) for m in _COLUMNS}
            numbers = (f"{last[m].mean():.3g}" for m in ("smallest", "quantile", "average"))
            errors = (show(100 * last[m]) for m in ("train_error", "test_error"))
            done = f"{np.sum(last['smallest'] > 0)} of {len(last['smallest'])}"
            rows.append([setting.title, arm.name, *numbers, *errors, done])
    header = ["setting", "weights", "margin", "1 % quantile", "average", "train error %"]
    return Table(
        [*header, "test error %", "separated"],
        rows,
        note="Margins are normalized; means and 95 % intervals at the end. Test error: mean over "
        "the classes.\nSeparated: seeds with every training image on its side at the end.",
    )
