"""Figures 1 and 2 from stored difficulties: correlations, claims, pictures.

Correlations do not change when values are scaled to [0, 1]; only the pictures are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from experiments.reporting.claims import answers
from experiments.reporting.ledger import show
from experiments.reporting.page import Page, Picture, Table
from experiments.tools.parts import read_numbered_parts
from experiments.zhou2022.difficulty_claims import SETS_OF_FIGURE_2, difficulty_claims
from experiments.zhou2022.difficulty_plots import error_against_measures, error_distributions

_Found = Mapping[str, np.ndarray]  # of one seed: error, margin, uncertainty, label, ..., each [N]
Numbers = Mapping[str, Mapping[str, np.ndarray]]  # statistics of every seed, [S], by set
_LARGE = 0.75  # errors beyond this quantile are called large


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation; NaN for fewer than two or equal values."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation, of the ranks."""
    return pearson(scipy.stats.rankdata(x), scipy.stats.rankdata(y))


def groups_of(setting: str, found: _Found) -> dict[str, np.ndarray]:
    """All examples, and two parts: by whether the label is wrong, or whether it is predicted."""
    everything = np.ones(len(found["error"]), bool)
    if setting == "noise":
        noisy = found["label"] != found["true_label"]
        return {"all": everything, "clean": ~noisy, "noisy": noisy}
    right = found["is_right"].astype(bool)
    return {"all": everything, "predicted rightly": right, "predicted wrongly": ~right}


def share_agreeing(margin: np.ndarray, error: np.ndarray) -> float:
    """Share of the pairs in which the larger margin has the smaller error, ties counting half."""
    tau = float(np.asarray(scipy.stats.kendalltau(margin, error))[0])
    return (1 - tau) / 2


def large_error_shares(found: _Found, num_classes: int) -> np.ndarray:
    """Share [C] of every given class's examples with errors beyond the 75 % quantile of all."""
    large = found["error"] > np.quantile(found["error"], _LARGE)
    return np.array([large[found["label"] == c].mean() for c in range(num_classes)])


def statistics(setting: str, found: _Found) -> dict[str, float]:
    """What is asked of one seed, by name."""
    error, values = found["error"].astype(float), {}
    for name, mask in groups_of(setting, found).items():
        values[f"mean error, {name}"] = float(error[mask].mean()) if mask.any() else np.nan
        for measure in ("margin", "uncertainty"):
            own = found[measure][mask].astype(float)
            values[f"Pearson, {measure}, {name}"] = pearson(own, error[mask])
            values[f"Spearman, {measure}, {name}"] = spearman(own, error[mask])
    values["pairs agreeing"] = share_agreeing(found["margin"], error)
    if setting == "imbalance":
        shares = large_error_shares(found, int(found["label"].max()) + 1)
        half = len(shares) // 2
        counts = np.bincount(found["label"])
        values["larger half's share"] = float(np.average(shares[:half], weights=counts[:half]))
        values["rarer half's share"] = float(np.average(shares[half:], weights=counts[half:]))
        values["Spearman, share and rank"] = spearman(np.arange(len(shares)), shares)
    return values


def difficulty_page(folder: Path, preset: str) -> Page:
    """Both figures of the finished seeds; a set without any is left out.

    Raises:
      RuntimeError: if there is none.
    """
    found = {
        name: read_numbered_parts(folder, f"{name}_seed")
        for name in ("clean", "noise", "imbalance")
    }
    found = {name: seeds for name, seeds in found.items() if seeds}
    if not found:
        raise RuntimeError(f"{folder} holds no finished seed")
    numbers = {name: _over_seeds(name, seeds) for name, seeds in found.items()}
    figures = [Picture("figure1", error_distributions(found), "Figure 1")]
    drawn = {
        title: (groups_of(name, found[name][0]), found[name][0])
        for name, title in SETS_OF_FIGURE_2.items()
        if name in found
    }
    if drawn:
        figures.append(Picture("figure2", error_against_measures(drawn), "Figure 2"))
    return Page(
        tables=[_statistics_table(numbers, found)],
        claims=answers(difficulty_claims(), numbers),
        figures=figures,
        files={
            "statistics.csv": _statistics_rows(numbers),
            **{f"{name}_seed0.csv": _example_rows(seeds[0]) for name, seeds in found.items()},
        },
        summary={
            "preset": preset,
            "means": {
                name: {statistic: _mean(values) for statistic, values in own.items()}
                for name, own in numbers.items()
            },
        },
    )


def _over_seeds(name: str, seeds: Sequence[_Found]) -> dict[str, np.ndarray]:
    own = [statistics(name, seed) for seed in seeds]
    return {statistic: np.array([n[statistic] for n in own]) for statistic in own[0]}


def _mean(values: np.ndarray) -> float | None:
    alive = values[np.isfinite(values)]
    return float(alive.mean()) if len(alive) else None


def _statistics_table(numbers: Numbers, found: Mapping[str, Sequence[_Found]]) -> Table:
    rows = [
        [name, statistic, show(values)]
        for name, own in numbers.items()
        for statistic, values in own.items()
    ]
    counts = ", ".join(f"{name}: {len(seeds)} seeds" for name, seeds in found.items())
    return Table(
        ["training set", "statistic", "mean and 95 % interval"],
        rows,
        note=f"Correlations are with the error. {counts}.",
        numbers=False,
    )


def _statistics_rows(numbers: Numbers) -> list[list]:
    rows: list[list] = [["set", "statistic", "seed", "value"]]
    for name, own in numbers.items():
        for statistic, values in own.items():
            rows += [[name, statistic, seed, f"{v:.6g}"] for seed, v in enumerate(values)]
    return rows


def _example_rows(found: _Found) -> list[list]:
    columns = ("index", "label", "true_label", "is_right", "error", "margin", "uncertainty")
    rows: list[list] = [list(columns)]
    for values in zip(*(found[name] for name in columns), strict=True):
        rows.append([*(int(v) for v in values[:4]), *(f"{v:.5g}" for v in values[4:])])
    return rows
