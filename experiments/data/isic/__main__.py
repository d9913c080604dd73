"""Prepares the ISIC sets. The files must be fetched by hand; neither TensorFlow nor a network is
needed:

    python -m experiments.data.isic prepare --set isic2018 --size 64 --manual-dir DIR
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds
import tyro

from experiments.data.isic.builders import BUILDERS, Prepared, prepare
from experiments.data.isic.published import OFFICIAL, TABLE_1, TABLE_1_NOTES
from experiments.data.sets.isic import DEFAULT_SIZE
from experiments.tools.command_line import read_arguments, run_command

_PROGRAM = "python -m experiments.data.isic"


@dataclass(frozen=True)
class Prepare:
    """Prepare a set from its official files, and compare its classes with the published counts."""

    set: Literal["isic2017", "isic2018"]
    """Which challenge."""
    manual_dir: Path
    """Folder of the official files."""
    size: int = DEFAULT_SIZE
    """Sides of the prepared images."""
    data_dir: Path | None = None
    """tfds folder to write to; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    allow_missing: bool = False
    """Prepare the images there are, though the labels list more."""


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, prepare the set, print its class counts; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments

    def read() -> Prepare:
        return tyro.extras.subcommand_cli_from_dict({"prepare": Prepare}, args=given, prog=_PROGRAM)

    options = read_arguments(read, given, _PROGRAM, ["prepare"])
    return run_command(lambda: _prepare(options))


def _prepare(options: Prepare) -> None:
    prepared = prepare(
        options.set,
        options.manual_dir,
        size=options.size,
        data_dir=options.data_dir,
        allow_missing=options.allow_missing,
    )
    print(_report(options.set, prepared))


def count_images(builder: Any) -> dict[str, list[int]]:
    """Count the images of every class in every split of a prepared set."""
    counts = {}
    for split in builder.info.splits:
        examples = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        labels = [int(examples[i]["label"]) for i in range(len(examples))]
        counts[split] = np.bincount(labels, minlength=len(builder.classes)).tolist()
    return counts


def _report(name: str, prepared: Prepared) -> str:
    counts = count_images(prepared.builder)
    lines = [f"{'class':<22}{'paper':>8}{'official':>10}" + "".join(f"{s:>8}" for s in counts)]
    for c, label in enumerate(BUILDERS[name].classes):
        printed = TABLE_1[name][label]
        lines.append(
            f"{label:<22}{'-' if printed is None else printed:>8}{OFFICIAL[name][label]:>10}"
            + "".join(f"{split[c]:>8}" for split in counts.values())
        )
    official = sum(OFFICIAL[name].values())
    lines.append(
        f"{'all':<22}{'':>8}{official:>10}" + "".join(f"{sum(c):>8}" for c in counts.values())
    )
    lines.append("paper: Santiago et al. (2021), Table 1; paper and official: training images")
    if name in TABLE_1_NOTES:
        lines.append(TABLE_1_NOTES[name])
    if (found := sum(counts["train"])) != official:
        lines.append(f"This is a subset: {found} of {official} training images.")
    path = prepared.builder.data_path
    lines.append(
        f"written to {path}"
        if prepared.is_new
        else f"found in {path}, prepared before; remove that folder to prepare it again"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
