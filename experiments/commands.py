"""What the commands of the command line do."""

from pathlib import Path

import numpy as np

from experiments import arguments
from experiments.catalogue import EXPERIMENTS, NAMES
from experiments.data.augmentation import AUGMENTATIONS
from experiments.explain import galleries, telescope_plots
from experiments.explain.overview import Choices, explain
from experiments.methods.own import installed_losses, installed_schemes
from experiments.methods.pages import methods_as_markdown, methods_as_text, show_settings
from experiments.methods.records import Record
from experiments.methods.registry import LOSSES, PROCEDURES, SCHEMES
from experiments.networks.models import MODELS
from experiments.networks.own_model import MODEL_GROUP
from experiments.reporting import plotting
from experiments.reporting.experiment import Options, present, read_record, run
from experiments.reporting.results_page import keep, write_page
from experiments.tools.compilation_cache import use_compilation_cache
from experiments.tools.names import lookup
from experiments.tools.plug_ins import installed
from experiments.tools.tables import align
from experiments.training.config import SAMPLERS, RunConfig
from experiments.training.driver import load_source, train
from experiments.training.result import Result, load_result


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
            print(f"Written to {write_page(results)}")
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
            "dataset",
            "digits, separable, overlapping, moons, mnist, cifar10, isic2018/64, ..., tfds:NAME",
        ],
        ["noise", "none, uniform:RATE, background:RATE[:CLASS], pairwise:RATE"],
        ["imbalance", "none, long_tail:RATIO, step:RATIO, halving, 4v9:SHARE"],
        [
            "model",
            ", ".join([*MODELS, *installed(MODEL_GROUP)])
            + "; sizes may follow mlp and mlp_bn: mlp:64,64",
        ],
        ["of your own", "weighting, loss or model FILE.py:FUNCTION, see docs/extending.md"],
        ["augmentation", "none, " + ", ".join(AUGMENTATIONS) + "; joined by +"],
        ["sampler", ", ".join(SAMPLERS)],
    ]
    tables = (experiments, schemes, losses, procedures, others)
    return "\n\n".join(align(table, numbers=False) for table in tables)


def _settings(record: Record) -> str:
    return show_settings(record.parameters, record.options)


def report(folder: Path) -> str:
    """The tables of a folder; draws its figures again."""
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
    """A table of the final measures of one training, and its figures."""
    result = load_result(folder)
    history, config = result.history, result.configs[0]
    lines = [["final measure", "mean", "std. error", "seeds"]]
    for name in sorted(history):
        final = history[name][0, :, -1] if history[name].ndim == 3 else np.array([np.nan])
        if name.startswith(("test_", "validation_", "corruption")) and np.all(np.isfinite(final)):
            spread = np.std(final, ddof=1) / np.sqrt(final.size) if final.size > 1 else np.nan
            lines.append([name, f"{final.mean():.4f}", f"{spread:.4f}", str(final.size)])
    _draw(folder, result, config)
    runs = result.seconds_per_step * (config.num_steps + config.fine_tune_steps)
    figures = "\n".join(f"  {path}" for path in sorted(folder.glob("*.png")))
    title = f"{config.label} on {config.task.dataset}, {runs:.1f} s of training"
    return f"{title}\n{align(lines)}\nFigures:\n{figures}"


def _draw(folder: Path, result: Result, config: RunConfig) -> None:
    runs = {config.label: (result, 0)}
    title = f"{config.task.dataset}, {config.label}"
    plotting.save(plotting.test_error_curves(runs, title=title), folder / "test_error.png")
    if not config.num_steps:
        return
    plotting.save(
        telescope_plots.weights_by_class(runs, title=title), folder / "weights_by_class.png"
    )
    if np.any(result.labels != result.true_labels):
        figure = telescope_plots.weight_histograms(runs, title=title)
        plotting.save(figure, folder / "weights.png")
    images = load_source(config).train.inputs
    if images.ndim == 4:
        figure = galleries.extreme_examples(result, 0, 0, images, title=title)
        plotting.save(figure, folder / "examples.png")
