"""Table 1: how many training images of every class ISIC 2017 and ISIC 2018 have."""

import json
from pathlib import Path

import numpy as np

from experiments.data import load
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import FAILED, NOT_RUN, OTHER_SETTING, REPRODUCED, Entry
from experiments.santiago2021.printed import CLASS_COUNTS
from experiments.tools.files import write_csv, write_json
from experiments.tools.tables import align

ITEMS = {"Table 1": "class counts of the ISIC training sets"}
_ORDER = {  # the paper's names in the order of the prepared sets' classes
    "isic2017": ("Benign", "Melanoma", "Keratosis"),
    "isic2018": ("Melanoma", "Nevus", "BCC", "Actinic", "Keratosis", "DF", "Vascular"),
}
_MISSING = "the data: python -m experiments.data.isic prepares them from the official files"


def _compute(options: Options) -> None:
    """Counts the classes of the sets that are prepared on this machine."""
    found = {}
    for data, names in _ORDER.items():
        if options.preset == "smoke":
            labels = np.repeat(np.arange(len(names)), np.arange(1, len(names) + 1))
        else:
            try:
                labels = load(data, data_dir=options.data_dir).train.labels
            except FileNotFoundError:
                continue
        counts = np.bincount(labels, minlength=len(names)).tolist()
        found[data] = dict(zip(names, counts, strict=True))
    write_json(options.folder / "summary.json", {"preset": options.preset, "counts": found})


_OFFICIAL = {"isic2017": 2000, "isic2018": 10_015}  # training images


def _counts(folder: Path) -> dict[str, dict[str, int]]:
    return json.loads((folder / "summary.json").read_text())["counts"]


def _present(folder: Path, preset: str) -> str:
    del preset
    lines = [["data", "class", "printed", "counted", ""]]
    for data, counts in _counts(folder).items():
        for name, count in counts.items():
            printed = CLASS_COUNTS[data].get(name)
            lines.append([data, name, "" if printed is None else str(printed), str(count), ""])
    write_csv(folder / "counts.csv", [line[:-1] for line in lines])
    return align(lines) if len(lines) > 1 else "neither ISIC 2017 nor ISIC 2018 is prepared here"


def _claim(data: str, name: str) -> str:
    return f"{data.upper().replace('ISIC', 'ISIC ')}, training images: {name}"


def _entries(folder: Path, preset: str) -> list[Entry]:
    if preset == "smoke":
        return []
    entries = []
    for data, counts in _counts(folder).items():
        total = sum(counts.values())
        is_part = total < _OFFICIAL[data]
        cause = f"a part of the set: {total:,} of {_OFFICIAL[data]:,} images" if is_part else ""
        for name, printed in CLASS_COUNTS[data].items():
            verdict = REPRODUCED if counts[name] == printed else FAILED
            entry = Entry("Table 1", _claim(data, name), str(printed), str(counts[name]))
            verdict = OTHER_SETTING if is_part else verdict
            entries.append(entry._replace(verdict=verdict, cause=cause))
    return entries


EXPERIMENT = Experiment(
    name="santiago2021.table1",
    summary="class counts of ISIC 2017 and ISIC 2018 against the printed ones",
    presets={
        "smoke": "made-up labels instead of the data; at once",
        "cpu": "the sets that are prepared on this machine; seconds",
        "paper": "the sets that are prepared on this machine; seconds",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    printed=tuple(
        Entry("Table 1", _claim(data, name), str(count), verdict=NOT_RUN, cause=_MISSING)
        for data, counts in CLASS_COUNTS.items()
        for name, count in counts.items()
    ),
    entries=_entries,
    causes={"ISIC 2018": "perhaps: another release of the labels, which were corrected since"},
)
