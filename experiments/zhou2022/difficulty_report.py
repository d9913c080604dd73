"""Figures 1 and 2 from stored difficulties: correlations, statements, pictures.

Correlations do not change when values are scaled to [0, 1]; only the pictures are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from experiments.reporting import plotting
from experiments.reporting.ledger import Entry, show
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.tools.files import write_csv, write_json
from experiments.tools.tables import align
from experiments.zhou2022.difficulty_plots import figure_1, figure_2

Found = Mapping[str, np.ndarray]  # of one seed: error, margin, uncertainty, label, ..., each [N]

ITEMS = {
    "Figure 1": "generalization errors of clean and noisy examples, and by category",
    "Figure 2": "generalization error against average margin and epistemic uncertainty",
}
NAMES = {"clean": "no wrong labels", "noise": "10 % wrong labels"}
_LARGE = 0.75  # errors beyond this quantile are called large

_MEAN = "10 % noise: the noisy examples' mean error is larger than the clean ones'"
_TAIL = "10 : 1: the rarer half of the categories holds a larger share of large errors"
_RANK = "10 : 1: the rarer a category, the larger its share of large errors (rank correlation > 0)"
_PAIRS = "{}: of two examples mostly the one with the larger average margin has the smaller error"
_EXCEPTIONS = "{}: average margin and error do not order the examples in the same way throughout"
_NEGATIVE = "{}: {} of average margin and error is negative{}"
_GROUPS = {
    "clean": ("among the examples predicted rightly", "among those predicted wrongly"),
    "noise": ("among the clean examples", "among the noisy examples"),
}
_SIGNS = ("positive", "negative")
_UNCERTAINTY = "{}: rank correlation of uncertainty and error is {} {}"
_OVERALL = "{}: rank correlation of uncertainty and error is positive overall"


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation; NaN for fewer than two or equal values."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation, of the ranks."""
    return pearson(scipy.stats.rankdata(x), scipy.stats.rankdata(y))


def groups_of(setting: str, found: Found) -> dict[str, np.ndarray]:
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


def large_error_shares(found: Found, num_classes: int) -> np.ndarray:
    """Share [C] of every given class's examples with errors beyond the 75 % quantile of all."""
    large = found["error"] > np.quantile(found["error"], _LARGE)
    return np.array([large[found["label"] == c].mean() for c in range(num_classes)])


def statistics(setting: str, found: Found) -> dict[str, float]:
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


def statements_of(numbers: Mapping[str, Mapping[str, np.ndarray]]) -> list[Statement]:
    """The paper's readings; `numbers` holds the statistics of every seed, [S], by setting."""
    statements = []

    def ask(text: str, holds: np.ndarray, place: str) -> None:
        statements.append(Statement(text, np.asarray(holds), place))

    if "noise" in numbers:
        own = numbers["noise"]
        ask(_MEAN, own["mean error, noisy"] > own["mean error, clean"], "zhou2022, Fig. 1a")
    if "imbalance" in numbers:
        own = numbers["imbalance"]
        rarer, larger = own["rarer half's share"], own["larger half's share"]
        ask(_TAIL, rarer > larger, "zhou2022, Fig. 1b")
        ask(_RANK, own["Spearman, share and rank"] > 0, "zhou2022, Fig. 1b")
    for setting, name in NAMES.items():
        if setting not in numbers:
            continue
        own = numbers[setting]
        parts = ("predicted rightly", "predicted wrongly")
        parts = ("clean", "noisy") if setting == "noise" else parts
        agreeing = own["pairs agreeing"]
        ask(_PAIRS.format(name), agreeing > 0.5, "zhou2022, Fig. 2a")
        ask(_EXCEPTIONS.format(name), agreeing < 1, "zhou2022, Fig. 2a")
        for kind, label in (("Pearson", "linear correlation"), ("Spearman", "rank correlation")):
            text = _NEGATIVE.format(name, label, "")
            ask(text, own[f"{kind}, margin, all"] < 0, "zhou2022, Fig. 2a")
        for sign, part, words in zip(_SIGNS, parts, _GROUPS[setting], strict=True):
            value = own[f"Spearman, uncertainty, {part}"]
            holds = value > 0 if sign == "positive" else value < 0
            ask(_UNCERTAINTY.format(name, sign, words), holds, "zhou2022, Fig. 2b")
        ask(_OVERALL.format(name), own["Spearman, uncertainty, all"] > 0, "added here")
        for part in parts:
            text = _NEGATIVE.format(name, "rank correlation", f" among those {part}")
            ask(text, own[f"Spearman, margin, {part}"] < 0, "added here")
    return statements


def _printed() -> tuple[Entry, ...]:
    """The statements of a run at the paper's settings, which needs a GPU."""
    blank: dict[str, np.ndarray] = _Zeros()
    statements = statements_of({name: blank for name in ("clean", "noise", "imbalance")})
    cause = "a GPU: python -m experiments run zhou2022.difficulty --preset paper"
    entries = []
    for statement in statements:
        paper, _, place = statement.expected.partition(", ")
        if paper == "zhou2022":
            item = f"Figure {place.removeprefix('Fig. ')[0]}"
            entries.append(Entry(item, f"{statement.text} ({place})", cause=cause))
    return tuple(entries)


class _Zeros(dict):
    """Answers every name with one seed's zero."""

    def __missing__(self, key: str) -> np.ndarray:
        return np.zeros(1)


PRINTED = _printed()


def load_seeds(folder: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """The finished seeds by setting, in order; a setting without any is left out."""
    found = {}
    for setting in ("clean", "noise", "imbalance"):
        paths = [
            p for p in folder.glob(f"{setting}_seed*.npz") if p.stem.split("seed")[1].isdigit()
        ]
        for path in sorted(paths, key=lambda p: int(p.stem.split("seed")[1])):
            with np.load(path) as stored:
                found.setdefault(setting, []).append({k: stored[k] for k in stored.files})
    return found


def present(folder: Path, preset: str) -> str:
    """Tables; also writes figures, CSV files and the summary."""
    found = load_seeds(folder)
    if not found:
        raise RuntimeError(f"{folder} holds no finished seed")
    numbers: dict[str, dict[str, np.ndarray]] = {}
    for setting, seeds in found.items():
        own = [statistics(setting, seed) for seed in seeds]
        numbers[setting] = {name: np.array([n[name] for n in own]) for name in own[0]}
    statements = statements_of(numbers)
    write_json(
        folder / "summary.json",
        {
            "preset": preset,
            "statements": statements_as_json(statements),
            "means": {s: {n: _mean(v) for n, v in own.items()} for s, own in numbers.items()},
        },
    )
    _write_tables(folder, found, numbers)
    plotting.save(figure_1(found), folder / "figure1.png")
    drawn = {NAMES[s]: (groups_of(s, found[s][0]), found[s][0]) for s in NAMES if s in found}
    if drawn:
        plotting.save(figure_2(drawn), folder / "figure2.png")
    lines = [["training set", "statistic", "mean and 95 % interval", ""]]
    for setting, own in numbers.items():
        lines += [[setting, name, show(values), ""] for name, values in own.items()]
    counts = ", ".join(f"{s}: {len(seeds)} seeds" for s, seeds in found.items())
    pictures = "\n".join(f"  {path}" for path in sorted(folder.glob("*.png")))
    note = f"Correlations are with the error. {counts}."
    return f"{statements_table(statements)}\n\n{align(lines)}\n{note}\nFigures:\n{pictures}"


def _mean(values: np.ndarray) -> float | None:
    alive = values[np.isfinite(values)]
    return float(alive.mean()) if len(alive) else None


def _write_tables(
    folder: Path,
    found: Mapping[str, Sequence[Found]],
    numbers: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Statistics of every seed, and the first seed's examples."""
    rows: list[list] = [["set", "statistic", "seed", "value"]]
    for setting, own in numbers.items():
        for name, values in own.items():
            rows += [[setting, name, seed, f"{v:.6g}"] for seed, v in enumerate(values)]
    write_csv(folder / "statistics.csv", rows)
    columns = ("index", "label", "true_label", "is_right", "error", "margin", "uncertainty")
    for setting, seeds in found.items():
        rows = [list(columns)]
        for values in zip(*(seeds[0][name] for name in columns), strict=True):
            rows.append([*(int(v) for v in values[:4]), *(f"{v:.5g}" for v in values[4:])])
        write_csv(folder / f"{setting}_seed0.csv", rows)
