"""Figure 5a-c from stored curves: statements, tables, pictures.

Axes: S seeds, A arms, E records along training.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.reporting import plotting
from experiments.reporting.ledger import Entry, show
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.tools.files import write_csv, write_json
from experiments.tools.tables import align
from experiments.zhou2022.figure5_plots import errors_figure, margins_figure
from experiments.zhou2022.raised_weights import (
    EQUAL,
    SETTINGS,
    Setting,
    arms_of,
    lowering,
    raising,
    tail_classes,
)

Curves = Mapping[str, np.ndarray]  # smallest, quantile, ..., each [S, A, E, ...]; arms [A]

ITEMS = {
    "Figure 5": (
        "normalized margins with hard examples raised (5a-c), and test error by the weight of the "
        "small class (5d)"
    )
}
_WORDS = {"smallest": "normalized margin", "quantile": "1 % quantile of the normalized margins"}


def setting_statements(setting: Setting, found: Curves) -> list[Statement]:
    """What the paper says of a setting, asked of every seed; unknown arms are left out."""
    names = found["arms"].tolist()
    base = names.index(EQUAL)
    statements = []

    def ask(text: str, holds: np.ndarray, place: str) -> None:
        statements.append(Statement(f"{setting.title}: {text}", np.asarray(holds), place))

    def end(measure: str, name: str) -> np.ndarray:
        return found[measure][:, names.index(name), -1]

    up = [name for name in raising(setting) if name in names]
    down = [name for name in lowering(setting) if name in names]
    if setting.panel != "A-5":
        for name in up:
            for measure, words in _WORDS.items():
                mean = found[measure].mean(axis=2)  # [S, A]
                text = f"{name}: larger {words} than with equal weights, over the epochs"
                holds = mean[:, names.index(name)] > mean[:, base]
                ask(text, holds, f"zhou2022, Fig. {setting.panel}")
                text = f"{name}: larger {words} than with equal weights, at the end"
                holds = end(measure, name) > end(measure, EQUAL)
                ask(text, holds, f"zhou2022, Fig. {setting.panel}")
            mean = found["average"].mean(axis=2)
            holds = mean[:, names.index(name)] > mean[:, base]
            ask(f"{name}: larger average margin, over the epochs", holds, "added here")
    if setting.group == "noisy" and down:
        last = found["test_error"][:, :, -1]
        lowered = np.isin(found["arms"], down)
        holds = last[:, lowered].min(axis=1) < last[:, ~lowered].min(axis=1)
        ask("a lowered weight has the lowest test error", holds, "zhou2022, Fig. A-5")
        for name in down:
            holds = end("test_error", name) < end("test_error", EQUAL)
            ask(f"{name}: lower test error than equal weights", holds, "zhou2022, Fig. A-5")
        for name in up:
            holds = end("test_error", name) > end("test_error", EQUAL)
            ask(f"{name}: higher test error than equal weights", holds, "added here")
    if setting.group == "tail":
        for name in up:
            holds = tail_error(found)[:, names.index(name), -1] < tail_error(found)[:, base, -1]
            ask(f"{name}: lower test error of the tail categories", holds, "zhou2022, Sec. 5")
            holds = end("test_error", name) < end("test_error", EQUAL)
            ask(f"{name}: lower balanced test error", holds, "added here")
    if setting.group == "small margins":
        for name in up:
            holds = end("test_error", name) < end("test_error", EQUAL)
            ask(f"{name}: lower test error than equal weights", holds, "added here")
    return statements


def tail_error(found: Curves) -> np.ndarray:
    """Mean test error [S, A, E] of the rarer half of the categories."""
    errors = found["class_error"]
    return errors[..., tail_classes(errors.shape[-1])].mean(axis=-1)


def printed(name: str) -> tuple[Entry, ...]:
    """The statements of a run at the paper's settings, which needs a GPU."""
    cause = f"a GPU: python -m experiments run {name} --preset paper"
    entries = []
    for setting in SETTINGS.values():
        arms = np.array(arms_of(setting))
        zeros = np.zeros((1, len(arms), 1))
        blank = dict.fromkeys((*_WORDS, "average", "test_error"), zeros)
        blank |= {"class_error": np.stack([zeros, zeros], axis=-1), "arms": arms}
        for statement in setting_statements(setting, blank):
            paper, _, place = statement.expected.partition(", ")
            if paper == "zhou2022":
                entries.append(Entry("Figure 5", f"{statement.text} ({place})", cause=cause))
    return tuple(entries)


def load_curves(folder: Path) -> dict[str, Curves]:
    """The finished seeds of every setting, stacked along a first axis; none is left out."""
    found = {}
    for name in SETTINGS:
        first = len(f"{name}_seed")
        paths = sorted(folder.glob(f"{name}_seed*.npz"), key=lambda p: int(p.stem[first:]))
        seeds = []
        for path in paths:
            with np.load(path) as stored:
                seeds.append({key: stored[key] for key in stored.files})
        if seeds:
            fixed = ("arms", "epoch")
            stacked = {k: np.stack([s[k] for s in seeds]) for k in seeds[0] if k not in fixed}
            found[name] = stacked | {key: seeds[0][key] for key in fixed}
    return found


def present(folder: Path, preset: str, what: str) -> str:
    """Tables; also writes figures, CSV and the summary."""
    found = load_curves(folder)
    if not found:
        raise RuntimeError(f"{folder} holds no finished seed")
    statements = [s for name, own in found.items() for s in setting_statements(SETTINGS[name], own)]
    lines = [["setting", "weights", "margin", "1 % quantile", "average", "train error %"]]
    lines[0] += ["test error %", "separated"]
    rows: list[list] = [["setting", "weights", "seed", "epoch", *_COLUMNS]]
    for name, own in found.items():
        for a, arm in enumerate(own["arms"].tolist()):
            last = {m: own[m][:, a, -1].astype(float) for m in _COLUMNS}
            done = f"{np.sum(last['smallest'] > 0)} of {len(last['smallest'])}"
            numbers = [_exponent(last[m]) for m in ("smallest", "quantile", "average")]
            errors = [show(100 * last[m]) for m in ("train_error", "test_error")]
            lines.append([SETTINGS[name].title, arm, *numbers, *errors, done])
            for s in range(len(own["scale"])):
                for e, epoch in enumerate(own["epoch"].tolist()):
                    values = [f"{own[m][s, a, e]:.5g}" for m in _COLUMNS]
                    rows.append([name, arm, s, epoch, *values])
    write_csv(folder / "figure5.csv", rows)
    write_json(
        folder / "summary.json", {"preset": preset, "statements": statements_as_json(statements)}
    )
    plotting.save(margins_figure(found, what), folder / "figure5_margins.png")
    plotting.save(errors_figure(found, tail_error, what), folder / "figure5_errors.png")
    note = (
        "Margins are normalized; means and 95 % intervals at the end. Test error: mean over the "
        "classes.\nSeparated: seeds with every training image on its side at the end."
    )
    pictures = "\n".join(f"  {path}" for path in sorted(folder.glob("*.png")))
    return f"{statements_table(statements)}\n\n{align(lines)}\n{note}\nFigures:\n{pictures}"


_COLUMNS = ("smallest", "quantile", "average", "train_error", "test_error", "scale")


def _exponent(values: np.ndarray) -> str:
    return f"{values.mean():.3g}"
