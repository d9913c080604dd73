"""The driver: trains configurations over seeds, evaluates, records, checkpoints, resumes."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.data import Source, Task, describe, load, make_task
from experiments.data.augmentation import parse_augmentation
from experiments.networks.models import Model, make_model
from experiments.tools.files import write_arrays, write_json_lines
from experiments.training.augmented import with_augmentation
from experiments.training.checkpoints import Checkpoints
from experiments.training.config import RunConfig, check_one_program
from experiments.training.nonfinite import NonFiniteError
from experiments.training.result import Result, is_finished, load_result, result_arrays
from experiments.training.run import TrainingRun
from experiments.training.run_folder import (
    RunFolderError,
    check_folder,
    claim_folder,
    describe_run,
    hold_folder,
    make_folder,
)
from weighting.training.scale_out import data_mesh


def load_source(config: RunConfig) -> Source:
    """Reads the configuration's dataset."""
    return load(config.task.dataset, data_dir=config.task.data_dir)


@functools.cache  # one object for equal arguments, so that compiled functions are found again
def _cached_model(name: str, num_outputs: int, augmentation: str) -> Model:
    return with_augmentation(make_model(name, num_outputs), parse_augmentation(augmentation))


def build_model(config: RunConfig, num_classes: int) -> Model:
    """The configuration's network, with as many outputs as the loss wants."""
    if config.loss_spec.record.is_multiclass:
        return _cached_model(config.model, num_classes, config.augmentation)
    if num_classes != 2:
        raise ValueError(f"loss {config.loss!r} is for two classes; this task has {num_classes}")
    return _cached_model(config.model, 1, config.augmentation)


def train(
    configs: RunConfig | Sequence[RunConfig],
    *,
    source: Source | None = None,
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    stop_on_nonfinite: bool = True,
    devices: int = 1,
    at_once: int | None = None,
    progress: bool = True,
    label: str = "",
) -> Result:
    """Trains one configuration, or several that differ in numbers only, with all their seeds.

    Interrupted and resumed, a run gives the same arrays bit for bit as without interruption; if
    several devices took part, to rounding.

    Args:
      configs: see `check_one_program` for what may differ.
      source: data to use instead of loading the dataset.
      folder: where to keep configuration, checkpoints and results; None keeps nothing.
      resume: continue the run in `folder` (or start it, if the folder is empty).
      checkpoint_seconds: least time between checkpoints; there is always one at the end.
      stop_on_nonfinite: whether a non-finite loss stops the run. In a search over learning rates
        it may rather mark its own configuration, whose measures become NaN.
      devices: how many share every batch. A run may resume on more or fewer. (Reference networks
        train on one.)
      at_once: how many runs (configurations times seeds) advance together at most, which bounds
        memory; by default all, of networks with convolutions on CPU one.
      progress: whether to show a bar.
      label: of the bar.

    Raises:
      ValueError: for bad configurations, before any work.
      RunFolderError, CheckpointError: if the folder cannot be used; nothing in it is changed.
      NonFiniteError: names the step and the last good checkpoint.
    """
    configs = [configs] if isinstance(configs, RunConfig) else list(configs)
    check_one_program(configs)
    check_devices(configs[0], devices)
    check_at_once(at_once)
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must not be negative, got {checkpoint_seconds}")
    if folder is not None:
        check_folder(folder, resume=resume)
    source = load_source(configs[0]) if source is None else source
    tasks = [make_task(configs[0].task, seed, source) for seed in configs[0].seed_numbers]

    def start() -> TrainingRun:
        return TrainingRun(
            configs,
            tasks,
            build_model(configs[0], tasks[0].num_classes),
            stop_on_nonfinite=stop_on_nonfinite,
            devices=devices,
            at_once=at_once,
        )

    if folder is None:
        run = start()
        run.advance_all(lambda: None, progress, label)
        return run.result()
    finished = _finished(folder, configs, tasks, resume)
    if finished is not None:
        return finished
    run = start()
    make_folder(folder)
    with hold_folder(folder):
        claim_folder(folder, _record(configs, tasks), resume=resume)
        _advance_in(folder, run, checkpoint_seconds, progress, label)
        result = run.result()
        write_json_lines(folder / "metrics.jsonl", run.rows())
        write_arrays(folder / "result.npz", result_arrays(result))
    return result


def _record(configs: list[RunConfig], tasks: list[Task]) -> dict:
    return describe_run(configs, [describe(task) for task in tasks])


def _finished(
    folder: Path, configs: list[RunConfig], tasks: list[Task], resume: bool
) -> Result | None:
    """What the run in the folder measured; None unless it is complete."""
    if not is_finished(folder):
        return None
    claim_folder(folder, _record(configs, tasks), resume=resume)
    try:
        return load_result(folder)
    except RunFolderError:
        return None  # damaged: written again from the last checkpoint


def _advance_in(
    folder: Path, run: TrainingRun, checkpoint_seconds: float, progress: bool, label: str
) -> None:
    """Advances a run from its last checkpoint in the folder to its end."""
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        restored = checkpoints.restore(run.snapshot())
        if restored is not None:
            checkpoints.discard_after(restored[0])
            run.restore(restored[1])
        run.advance_all(_keep_in(folder, run, checkpoints, checkpoint_seconds), progress, label)
    except NonFiniteError as error:
        good = checkpoints.latest()
        kept = "no checkpoint yet" if good is None else checkpoints.folder / str(good)
        raise NonFiniteError(f"{error} The last good checkpoint: {kept}.") from None
    finally:
        checkpoints.close()


def _keep_in(
    folder: Path, run: TrainingRun, checkpoints: Checkpoints, least_seconds: float
) -> Callable[[], None]:
    """To be called after every evaluation: saves the run, not too often, and when it is done."""
    last = time.monotonic()

    def keep() -> None:
        nonlocal last
        if run.is_done or time.monotonic() - last >= least_seconds:
            checkpoints.save(run.done, run.snapshot())
            write_json_lines(folder / "metrics.jsonl", run.rows())
            last = time.monotonic()

    return keep


def check_at_once(at_once: int | None) -> None:
    """Refuses a number of runs below one."""
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1 run, or left out for all; got {at_once}")


def check_devices(config: RunConfig, devices: int) -> None:
    """Refuses more devices than there are, and batches that they cannot share equally."""
    data_mesh(devices)
    sizes = {"batch_size": config.batch_size}
    if config.scheme.needs_clean or config.fine_tune_steps:
        sizes["clean_batch_size"] = min(config.clean_batch_size, config.task.num_clean)
    for name, size in sizes.items():
        if size % devices:
            raise ValueError(
                f"{name}={size} cannot be split equally over {devices} devices; "
                f"take a multiple of {devices}"
                + (f" (num_clean={config.task.num_clean})" if name == "clean_batch_size" else "")
            )
