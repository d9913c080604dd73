"""What an experiment is, and how its arms are trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import RunConfig
from experiments.files import write_json
from experiments.run_folder import RunFolderError, check_folder, differences
from experiments.training import check_at_once, check_devices, load_source, train

Arms = Mapping[str, Sequence[RunConfig]]  # name -> configurations that differ in numbers only


class Experiment(NamedTuple):
    """A named experiment: what it trains, and what it shows of it."""

    name: str
    summary: str
    presets: Mapping[str, str]  # name -> what it runs and about how long it takes
    present: Callable[[Path, str], str]  # (folder, preset) -> tables; also writes figures there
    arms: Callable[[str], Arms] = lambda preset: {}  # preset -> arms
    # Work of another kind, into the folder; what an interrupted run left there must be kept.
    compute: Callable[["Options"], None] = lambda options: None


class Options(NamedTuple):
    """What the command line may change."""

    preset: str
    folder: Path
    seeds: int | None = None
    data_dir: str | None = None
    resume: bool = False
    devices: int = 1
    at_once: int | None = None


def run(experiment: Experiment, options: Options) -> str:
    """Trains all arms into sub-folders of the folder, then presents them. Returns the tables."""
    if options.preset not in experiment.presets:
        raise ValueError(
            f"{experiment.name} has no preset {options.preset!r}; "
            f"it has {', '.join(experiment.presets)}"
        )
    arms = {
        name: [_override(config, options) for config in configs]
        for name, configs in experiment.arms(options.preset).items()
    }
    _check_devices(arms, options.devices)
    check_at_once(options.at_once)
    record = {"experiment": experiment.name, "preset": options.preset}
    _claim(options.folder, record, resume=options.resume)
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
    experiment.compute(options)
    return experiment.present(options.folder, options.preset)


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
    return config


def _claim(folder: Path, record: dict, *, resume: bool) -> None:
    check_folder(folder, resume=resume, marker="experiment.json")
    path = folder / "experiment.json"
    if path.exists():
        different = differences(read_record(folder), record)
        if different:
            raise RunFolderError(f"{folder} holds another experiment: {'; '.join(different)}")
    else:
        write_json(path, record)


def read_record(folder: Path) -> dict:
    """The `experiment.json` of a folder: which experiment it holds, at which preset."""
    path = folder / "experiment.json"
    if not path.exists():
        raise RunFolderError(f"{folder} holds no experiment (no experiment.json)")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path} is damaged: {error}") from None
