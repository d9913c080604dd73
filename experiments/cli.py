"""The command line. Heavy imports wait until the arguments are known to be good."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class List:
    """Show the experiments, models, datasets, losses and weighting schemes."""


@dataclass(frozen=True)
class Run:
    """Run an experiment by name and print its tables; figures and arrays go to a folder."""

    name: Annotated[str, tyro.conf.Positional]
    """For instance demo or ren2018.figure2; see `list`."""
    preset: Literal["smoke", "cpu", "paper"] = "cpu"
    """smoke: seconds, to see that it works. cpu: minutes to an hour. paper: as printed."""
    seeds: int | None = None
    """Number of seeds; by default the preset's."""
    out: Path | None = None
    """Folder of the results; by default runs/NAME-PRESET."""
    data_dir: str | None = None
    """Folder of prepared tfds sets; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    resume: bool = False
    """Continue an interrupted run in the same folder, bit for bit."""


@dataclass(frozen=True)
class Report:
    """Print the tables and draw the figures of a finished experiment or training again."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that was given as --out."""


@dataclass(frozen=True)
class Train:
    """Train your own combination of data, corruption, network, loss and weighting."""

    dataset: str = "digits"
    """digits, separable, overlapping, moons, mnist, cifar10, ... or tfds:NAME."""
    data_dir: str | None = None
    """Folder of prepared tfds sets; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    noise: str = "none"
    """Wrong labels: none, uniform:RATE, background:RATE[:CLASS] or pairwise:RATE."""
    imbalance: str = "none"
    """Class imbalance: none, long_tail:RATIO, step:RATIO or 4v9:SHARE (of the second class)."""
    clean: int = 50
    """Trusted examples, class-balanced, for lookahead and fine-tuning; 0 for none."""
    validation: int = 300
    """Validation examples, before imbalance; spoiled like the training set."""
    test: int = 400
    """Test examples to split off; ignored where the dataset has an official test split."""
    model: str = "mlp"
    """linear, mlp[:SIZES], mlp_bn[:SIZES], lenet5 or ren2018_net."""
    weighting: str = "uniform"
    """NAME[:VALUE...], several joined by + to a chain, e.g. low:0.1 or lookahead+clip:0:5."""
    loss: str = "cross_entropy"
    """cross_entropy, focal[:GAMMA[:ALPHA]]; for two classes also logistic or exponential."""
    sampler: Literal["shuffled", "class_balanced"] = "shuffled"
    """class_balanced draws equally many examples of every class."""
    learning_rate: float = 0.03
    """Constant learning rate of SGD."""
    momentum: float = 0.9
    """Momentum of SGD; 0 for none."""
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    weight_decay: float = 0.0
    """Coefficient of the parameters in the gradient (l2)."""
    batch_size: int = 64
    """Examples per step."""
    clean_batch_size: int = 50
    """Clean examples per step, at most all of them."""
    steps: int = 1000
    """Training steps."""
    fine_tune_steps: int = 0
    """Further steps, unweighted, on the clean set alone."""
    fine_tune_learning_rate: float | None = None
    """Learning rate of the fine-tuning; by default that of the training."""
    evals: int = 20
    """Evaluations, evenly spaced; must divide the number of steps."""
    seeds: int = 5
    """Number of seeds; small networks train all of them in one program."""
    out: Path = Path("runs/train")
    """Folder of configuration, checkpoints, metrics and results."""
    resume: bool = False
    """Continue an interrupted run in the same folder, bit for bit."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Train, tyro.conf.subcommand("train")]
)


def main(arguments: list[str] | None = None) -> int:
    """Reads the arguments and does what they say; returns the exit status."""
    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="python -m experiments",
        description="Sample weighting: train, compare and look.",
        args=arguments,
        config=config,
    )
    from experiments import commands

    try:
        commands.execute(command)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; continue with the same command and --resume", file=sys.stderr)
        return 130
    return 0
