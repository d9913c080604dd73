"""What can be asked on the command line."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.tools.command_line import read_arguments
from experiments.training.config import RunConfig


@dataclass(frozen=True)
class List:
    """Show the experiments, models, datasets, losses and weighting schemes."""


@dataclass(frozen=True)
class Methods:
    """Show every method: family, source, what it needs, scale of its weights."""

    markdown: bool = False
    """As a page of the documentation (docs/methods.md)."""


@dataclass(frozen=True)
class Run:
    """Run an experiment by name and print its tables; figures and arrays go to a folder."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """For instance demo or ren2018.figure2; see `list`."""
    preset: Literal["smoke", "cpu", "paper", "released"] = "cpu"
    """smoke: seconds, to see that it works. cpu: minutes to an hour. paper: as printed. released:
    as in the paper's released code, where that differs."""
    seeds: int | None = None
    """Number of seeds; by default the preset's."""
    out: Path | None = None
    """Folder of the results; by default runs/NAME-PRESET."""
    data_dir: str | None = None
    """Folder of prepared tfds sets; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    devices: int = 1
    """How many devices share every batch; see docs/scale_out.md."""
    at_once: int | None = None
    """How many runs (configurations times seeds) advance together at most; bounds memory."""
    only: tuple[str, ...] = ()
    """Train these arms alone, by name or pattern (low_*); by default all."""
    pretrained: str | None = None
    """File with torchvision's weights of DenseNet-161, for experiments that start from them."""
    resume: bool = False
    """Continue an interrupted run in the same folder, bit for bit."""


@dataclass(frozen=True)
class Report:
    """Print the tables and draw the figures of a finished experiment or training again.

    Without a folder: write the pages of the results, every figure and table of the papers beside
    ours, from the small files that --keep has put into the folder of results.
    """

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder that was given as --out."""
    keep: bool = False
    """Copy the experiment's small files (numbers, tables, figures) to the folder of results."""
    results: Path = Path("results")
    """The folder of results, and of the pages made of them."""


@dataclass(frozen=True)
class Explain:
    """Show who was up-weighted and when, and which labels the weights make suspect."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished trainings, to be compared; or an experiment's folder, which has several."""
    out: Path | None = None
    """Folder of the figures and suspects.csv; by default FOLDER/explain, in the first folder."""
    arms: tuple[str, ...] = ()
    """Which arms of an experiment, e.g. noise/low or 'noise/*'; by default all with weights."""
    suspicious_end: Literal["auto", "high", "low"] = "auto"
    """Which weights make a label suspect; auto asks the weighting, and shows both in doubt."""
    difficulty: Path | None = None
    """A seed's .npz of `run difficulty`, for weights by difficulty of the same examples."""
    measure: str = "K-fold error"
    """The difficulty measure to take from there."""
    data_dir: str | None = None
    """Folder of prepared tfds sets, if it is not the trainings'."""


@dataclass(frozen=True)
class Train:
    """Train your own combination of data, corruption, network, loss and weighting."""

    config: RunConfig = field(default_factory=RunConfig)
    out: Path = Path("runs/train")
    """Folder of configuration, checkpoints, metrics and results."""
    devices: int = 1
    """How many devices share every batch; see docs/scale_out.md. A run may resume on others."""
    at_once: int | None = None
    """How many runs (configurations times seeds) advance together at most; bounds memory."""
    resume: bool = False
    """Continue an interrupted run in the same folder, bit for bit."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints."""


_PROGRAM = "python -m experiments"
Command = List | Methods | Run | Report | Explain | Train
COMMANDS = {
    "list": List,
    "methods": Methods,
    "run": Run,
    "report": Report,
    "explain": Explain,
    "train": Train,
}


def read_command(arguments: list[str] | None = None) -> Command:
    """The command that the arguments (by default the process's) ask for; exits on bad ones."""
    given = sys.argv[1:] if arguments is None else arguments

    def read() -> Command:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog=_PROGRAM,
            description="Sample weighting: train, compare and look.",
            args=given,
            config=(tyro.conf.OmitArgPrefixes,),
        )

    return read_arguments(read, given, _PROGRAM, COMMANDS)
