"""What an experiment is, and how its arms are trained."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting.ledger import Entry, entries_of, write_ledger
from experiments.reporting.page import Page, write_page
from experiments.tools.files import DamagedFileError, read_sealed, write_sealed
from experiments.training.config import RunConfig
from experiments.training.driver import check_at_once, check_devices, load_source, train
from experiments.training.result import is_finished, load_result
from experiments.training.run_folder import (
    RunFolderError,
    check_folder,
    hold_folder,
    json_differences,
    make_folder,
)

_MARKER = "experiment.json"
Arms = Mapping[str, Sequence[RunConfig]]  # name -> configurations that differ in numbers only


class Experiment(NamedTuple):
    """A named experiment: what it trains, and what it shows of it."""

    name: str
    summary: str
    presets: Mapping[str, str]  # name -> what it runs and about how long it takes
    present: Callable[[Path, str], Page]  # (folder, preset) -> what a finished run shows
    arms: Callable[[str], Arms] = lambda preset: {}  # preset -> arms
    # Work of another kind, into the folder; what an interrupted run left there must be kept.
    compute: Callable[["Options"], None] = lambda options: None
    # The figures and tables of a paper that it makes: "Figure 2" -> what it shows.
    items: Mapping[str, str] = {}
    # What the paper prints, with the reason why it would not be run (a GPU, data).
    printed: tuple[Entry, ...] = ()

    @property
    def paper(self) -> str:
        """The paper that its items belong to."""
        return self.name.split(".")[0]

    @property
    def other_names(self) -> list[str]:
        """The names of its figures and tables, "ren2018.figure2"."""
        names = (f"{self.paper}.{item.lower().replace(' ', '')}" for item in self.items)
        return [name for name in names if name != self.name]


class Options(NamedTuple):
    """What the command line may change."""

    preset: str
    folder: Path
    seeds: int | None = None
    data_dir: str | None = None
    resume: bool = False
    devices: int = 1
    at_once: int | None = None
    only: tuple[str, ...] = ()  # arms, as patterns; by default all
    pretrained: str | None = None  # weights of the networks that have published ones


def run(experiment: Experiment, options: Options) -> str:
    """Trains all arms into sub-folders of the folder, then presents them. Returns the tables."""
    if options.preset not in experiment.presets:
        raise ValueError(
            f"{experiment.name} has no preset {options.preset!r}; "
            f"it has {', '.join(experiment.presets)}"
        )
    arms = {
        name: [_override(config, options) for config in configs]
        for name, configs in _wanted(experiment.arms(options.preset), options.only).items()
    }
    _check_devices(arms, options.devices)
    check_at_once(options.at_once)
    record = {"experiment": experiment.name, "preset": options.preset}
    check_folder(options.folder, resume=options.resume, marker=_MARKER)
    make_folder(options.folder)
    with hold_folder(options.folder):
        _claim(options.folder, record)
        _train_all(arms, options)
        experiment.compute(options)
        return present(experiment, options.folder, options.preset, arms)


def _train_all(arms: Arms, options: Options) -> None:
    """Trains every arm into its sub-folder."""
    sources: dict[Any, Any] = {}
    for i, (name, configs) in enumerate(arms.items(), start=1):
        key = (configs[0].task.dataset, configs[0].task.data_dir)
        if key not in sources:
            sources[key] = load_source(configs[0])
        train(
            configs,
            source=sources[key],
            folder=options.folder / name,
            resume=True,  # the experiment's own folder was checked above
            stop_on_nonfinite=len(configs) == 1,
            devices=options.devices,
            at_once=options.at_once,
            label=f"[{i}/{len(arms)}] {name}",
        )


def present(experiment: Experiment, folder: Path, preset: str, arms: Arms | None = None) -> str:
    """Writes all that a finished experiment shows, and its part of the ledger; returns the text."""
    page = experiment.present(folder, preset)
    text = write_page(page, folder, experiment.paper)
    if experiment.items:
        first = next(iter(experiment.items))
        write_ledger(
            folder,
            [*page.numbers, *entries_of(page.claims)],
            {p.name: p.item or first for p in page.figures if p.is_public},
            experiment=experiment.name,
            preset=preset,
            what=experiment.presets[preset],
            arms=_trained(folder, experiment.arms(preset)) if arms is None else arms,
        )
    return text


def _trained(folder: Path, arms: Arms) -> Arms:
    """The configurations that the folder's arms were trained with."""
    found = {name: folder / name for name in arms}
    return {name: load_result(at).configs for name, at in found.items() if is_finished(at)}


def _wanted(arms: Arms, patterns: Sequence[str]) -> Arms:
    """The arms that match a pattern, such as low_*; all without patterns."""
    for pattern in patterns:
        if not fnmatch.filter(arms, pattern):
            raise ValueError(f"no arm is called {pattern!r}; there are {', '.join(arms) or 'none'}")
    if not patterns:
        return arms
    return {n: c for n, c in arms.items() if any(fnmatch.fnmatchcase(n, p) for p in patterns)}


def _check_devices(arms: Arms, devices: int) -> None:
    if devices != 1 and not arms:
        raise ValueError("this experiment does not train on batches; leave --devices out")
    for configs in arms.values():
        check_devices(configs[0], devices)


def _override(config: RunConfig, options: Options) -> RunConfig:
    if options.seeds is not None:
        config = replace(config, seeds=options.seeds)
    if options.data_dir is not None:
        config = replace(config, task=replace(config.task, data_dir=options.data_dir))
    if options.pretrained is not None and config.model == "densenet161":
        config = replace(config, pretrained=options.pretrained)
    return config


def _claim(folder: Path, record: dict) -> None:
    path = folder / _MARKER
    if path.exists():
        different = json_differences(read_record(folder), record)
        if different:
            raise RunFolderError(f"{folder} holds another experiment: {'; '.join(different)}")
    else:
        write_sealed(path, record)


def read_record(folder: Path) -> dict:
    """The `experiment.json` of a folder: which experiment it holds, at which preset."""
    path = folder / _MARKER
    if not path.exists():
        raise RunFolderError(f"{folder} holds no experiment (no experiment.json)")
    try:
        record = read_sealed(path)
    except DamagedFileError as error:
        raise RunFolderError(f"{error}; restore it, or start again with another --out") from None
    if not {"experiment", "preset"} <= record.keys():
        raise RunFolderError(f"{path} names no experiment and preset; restore it")
    return record
