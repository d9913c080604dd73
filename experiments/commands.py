"""What the commands of the command line do."""

from pathlib import Path

from experiments import arguments
from experiments.catalogue import EXPERIMENTS, NAMES
from experiments.data.augmentation import AUGMENTATIONS
from experiments.data.corruption import NOISES
from experiments.data.imbalance import IMBALANCES
from experiments.data.sets.table import DATASETS
from experiments.explain.overview import Choices, explain
from experiments.explain.training_page import training_page
from experiments.methods.own import installed_losses, installed_schemes
from experiments.methods.pages import methods_as_markdown, methods_as_text, show_settings
from experiments.methods.records import Record
from experiments.methods.registry import LOSSES, PROCEDURES, SCHEMES
from experiments.networks.models import MODELS
from experiments.networks.own_model import MODEL_GROUP
from experiments.reporting.experiment import Options, present, read_record, run
from experiments.reporting.page import write_page
from experiments.reporting.paper_pages import keep, write_pages
from experiments.tools.compilation_cache import use_compilation_cache
from experiments.tools.names import lookup
from experiments.tools.plug_ins import installed
from experiments.tools.tables import align
from experiments.training.config import SAMPLERS
from experiments.training.driver import train


def execute(command: arguments.Command) -> None:
    """Does what the command says."""
    use_compilation_cache()
    match command:
        case arguments.List():
            print(catalogue())
        case arguments.Methods():
            print(methods_as_markdown() if command.markdown else methods_as_text(), end="")
        case arguments.Run():
            experiment = lookup(command.name, NAMES, "experiment")
            folder = command.out or Path("runs") / f"{experiment.name}-{command.preset}"
            options = Options(
                command.preset,
                folder,
                command.seeds,
                command.data_dir,
                command.resume,
                command.devices,
                command.at_once,
                command.only,
                command.pretrained,
            )
            print(f"\n{run(experiment, options)}\n\nEverything is in {folder}")
        case arguments.Report(folder=None, results=results):
            print(f"Written to {write_pages(results, EXPERIMENTS)}")
        case arguments.Report(folder=Path() as folder, keep=is_kept, results=results):
            print(report(folder))
            if is_kept:
                print(f"\nKept in {keep(folder, results)}")
        case arguments.Explain():
            choices = Choices(
                command.arms,
                command.suspicious_end,
                command.difficulty,
                command.measure,
                command.data_dir,
            )
            print(explain(command.folders, command.out, choices))
        case arguments.Train():
            train_own(command)


def catalogue() -> str:
    """All names that the command line knows."""
    experiments = [["experiment", "preset", "what it does"]]
    for name, experiment in EXPERIMENTS.items():
        experiments.append([name, "", experiment.summary])
        if experiment.other_names:
            experiments.append(["", "is also", ", ".join(experiment.other_names)])
        experiments += [["", preset, text] for preset, text in experiment.presets.items()]
    schemes = [["weighting", "settings (default)", "what it does"]]
    for name, scheme in (installed_schemes() | SCHEMES).items():
        clean = "; needs a clean set" if scheme.needs_clean else ""
        schemes.append([name, _settings(scheme), scheme.summary + clean])
    losses = [["loss", "settings (default)", "what it does"]]
    for name, loss in (installed_losses() | LOSSES).items():
        two = "" if loss.is_multiclass else "; for two classes"
        losses.append([name, _settings(loss), loss.summary + two])
    procedures = [["procedure", "settings (default)", "what it does"]]
    procedures += [[name, _settings(record), record.summary] for name, record in PROCEDURES.items()]
    others = [
        ["kind", "names"],
        [
            "model",
            ", ".join([*MODELS, *installed(MODEL_GROUP)])
            + "; sizes may follow mlp and mlp_bn: mlp:64,64",
        ],
        ["of your own", "weighting, loss or model FILE.py:FUNCTION, see docs/extending.md"],
        ["augmentation", "none, " + ", ".join(AUGMENTATIONS) + "; joined by +"],
        ["sampler", ", ".join(SAMPLERS)],
    ]
    tables = (experiments, schemes, losses, procedures, *_data_tables(), others)
    return "\n\n".join(align(table, numbers=False) for table in tables)


def _data_tables() -> list[list[list[str]]]:
    """Datasets, and ways to spoil them."""
    datasets = [["dataset", "inputs", "classes", "what it is", "source", "files"]]
    for record in DATASETS:
        shape = " x ".join(map(str, record.input_shape or ()))
        classes = str(record.num_classes or "")
        about = [record.summary, record.source, record.access]
        datasets.append([record.syntax, shape, classes, *about])
    noises = [["noise", "what a wrong label becomes"]]
    noises += [[kind.syntax, kind.summary] for kind in NOISES.values()]
    imbalances = [["imbalance", "what it does"]]
    imbalances += [[kind.syntax, kind.summary] for kind in IMBALANCES.values()]
    return [datasets, noises, imbalances]


def _settings(record: Record) -> str:
    return show_settings(record.parameters, record.options)


def report(folder: Path) -> str:
    """The tables of a folder; writes them and its figures again."""
    if (folder / "config.json").exists():
        return present_training(folder)
    record = read_record(folder)
    experiment = lookup(record["experiment"], EXPERIMENTS, "experiment")
    return present(experiment, folder, record["preset"])


def train_own(command: arguments.Train) -> None:
    """Trains one configuration and shows it."""
    train(
        command.config,
        folder=command.out,
        resume=command.resume,
        checkpoint_seconds=command.checkpoint_seconds,
        devices=command.devices,
        at_once=command.at_once,
        label=command.config.label,
    )
    print(f"\n{present_training(command.out)}\n\nEverything is in {command.out}")


def present_training(folder: Path) -> str:
    """The table and the figures of one training, written into its folder."""
    return write_page(training_page(folder), folder, "")
