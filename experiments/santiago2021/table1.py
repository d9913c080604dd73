"""Table 1: how many training images of every class ISIC 2017 and ISIC 2018 have."""

from pathlib import Path

import numpy as np

from experiments.data import load
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import FAILED, OTHER_SETTING, REPRODUCED, Entry
from experiments.reporting.page import Page
from experiments.santiago2021.lesions import LESION_SETS
from experiments.santiago2021.printed import CLASS_COUNTS
from experiments.tools.files import read_sealed, write_sealed
from experiments.tools.tables import Table

ITEMS = {"Table 1": "class counts of the ISIC training sets"}
_COUNTS = "counts.json"
_MISSING = "the data: python -m experiments.data.isic prepares them from the official files"
_CAUSES = {
    "isic2017": "",
    "isic2018": "perhaps: another release of the labels, which were corrected since",
}


def _compute(options: Options) -> None:
    """Counts the classes of the sets that are prepared on this machine."""
    found = {}
    for name, data in LESION_SETS.items():
        num_classes = len(data.classes)
        if options.preset == "smoke":
            labels = np.repeat(np.arange(num_classes), np.arange(1, num_classes + 1))
        else:
            try:
                labels = load(name, data_dir=options.data_dir).train.labels
            except FileNotFoundError:
                continue
        counts = np.bincount(labels, minlength=num_classes).tolist()
        found[name] = dict(zip(data.classes, counts, strict=True))
    write_sealed(options.folder / _COUNTS, found)


def _present(folder: Path, preset: str) -> Page:
    found: dict[str, dict[str, int]] = read_sealed(folder / _COUNTS)
    header = ["data", "class", "printed", "counted"]
    lines = [
        [data, name, str(CLASS_COUNTS[data].get(name, "")), str(count)]
        for data, counts in found.items()
        for name, count in counts.items()
    ]
    page = Page(
        numbers=[] if preset == "smoke" else _numbers(found),
        files={"counts.csv": [header, *lines]},
        summary={"preset": preset, "counts": found},
    )
    if not lines:
        return page._replace(notes=["neither ISIC 2017 nor ISIC 2018 is prepared here"])
    # An empty last column, so that those with numbers stand to the right.
    return page._replace(tables=[Table([*header, ""], [[*line, ""] for line in lines])])


def _claim(data: str, name: str) -> str:
    return f"{LESION_SETS[data].title}, training images: {name}"


def _numbers(found: dict[str, dict[str, int]]) -> list[Entry]:
    entries = []
    for data, counts in found.items():
        total, official = sum(counts.values()), LESION_SETS[data].num_images
        part = f"a part of the set: {total:,} of {official:,} images"
        for name, printed in CLASS_COUNTS[data].items():
            entry = Entry("Table 1", _claim(data, name), str(printed), str(counts[name]))
            if total < official:
                entry = entry._replace(verdict=OTHER_SETTING, cause=part)
            elif counts[name] == printed:
                entry = entry._replace(verdict=REPRODUCED)
            else:
                entry = entry._replace(verdict=FAILED, cause=_CAUSES[data])
            entries.append(entry)
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
        Entry("Table 1", _claim(data, name), str(count), cause=_MISSING)
        for data, counts in CLASS_COUNTS.items()
        for name, count in counts.items()
    ),
)
