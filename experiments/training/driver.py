"""The driver: trains configurations over seeds, evaluates, records, checkpoints, resumes."""

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from experiments.data import Source, Task, describe, load, make_task
from experiments.data.augmentation import parse_augmentation
from experiments.networks.models import Model, make_model
from experiments.networks.pretrained import start_from_pretrained
from experiments.tools.files import write_arrays, write_json_lines
from experiments.training.augmented import with_augmentation
from experiments.training.checkpoints import Checkpoints
from experiments.training.config import RunConfig, check_one_program
from experiments.training.evaluation import AT_THE_END, MEASURES, make_evaluate
from experiments.training.program import make_program, seed_data, stack_hyperparameters
from experiments.training.references import find_references
from experiments.training.result import Result, is_finished, load_result, result_arrays
from experiments.training.run_folder import RunFolderError, check_folder, claim_folder, describe_run
from experiments.training.streams import Stream, class_balanced, shuffled
from weighting.metrics import corruption_auc
from weighting.training.scale_out import data_mesh

TRAINING = ("loss", "weighted_loss", "accuracy", "effective_sample_size")

_corruption_auc = jax.jit(jax.vmap(lambda w, c, m: corruption_auc(w, c, mask=m), (0, None, 0)))


class NonFiniteError(RuntimeError):
    """A loss, weight or parameter became NaN or infinite; the run stopped."""


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
    if folder is not None:
        check_folder(folder, resume=resume)
    source = load_source(configs[0]) if source is None else source
    tasks = [make_task(configs[0].task, seed, source) for seed in configs[0].seed_numbers]
    if folder is None:
        run = _Run(configs, tasks, stop_on_nonfinite, devices, at_once)
        run.advance_all(lambda done: None, progress, label)
        return run.result()

    record = describe_run(configs, [describe(task) for task in tasks])
    if is_finished(folder):
        claim_folder(folder, record, resume=resume)
        try:
            return load_result(folder)
        except RunFolderError:
            pass  # damaged: written again from the last checkpoint
    run = _Run(configs, tasks, stop_on_nonfinite, devices, at_once)
    claim_folder(folder, record, resume=resume)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        restored = checkpoints.restore(run.snapshot())
        if restored is not None:
            checkpoints.discard_after(restored[0])
            run.restore(restored[1])
        last = time.monotonic()

        def keep(done: int) -> None:
            nonlocal last
            if done == run.num_chunks or time.monotonic() - last >= checkpoint_seconds:
                checkpoints.save(done, run.snapshot())
                write_json_lines(folder / "metrics.jsonl", run.rows())
                last = time.monotonic()

        try:
            run.advance_all(keep, progress, label)
        except NonFiniteError as error:
            good = checkpoints.latest()
            kept = "no checkpoint yet" if good is None else checkpoints.folder / str(good)
            raise NonFiniteError(f"{error} The last good checkpoint: {kept}.") from None
    finally:
        checkpoints.close()
    result = run.result()
    write_json_lines(folder / "metrics.jsonl", run.rows())
    write_arrays(folder / "result.npz", result_arrays(result))
    return result


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


class _Run:
    """A run between two chunks: the device state, and the history so far on the host."""

    def __init__(
        self,
        configs: list[RunConfig],
        tasks: list[Task],
        stop_on_nonfinite: bool,
        devices: int = 1,
        at_once: int | None = None,
    ):
        config, task = configs[0], tasks[0]
        self.configs, self.tasks, self.stop_on_nonfinite = configs, tasks, stop_on_nonfinite
        self.hyper, self.data = (
            stack_hyperparameters(configs),
            seed_data(tasks, config.seed_numbers),
        )
        model = build_model(config, task.num_classes)
        num_train = len(task.train.labels)
        if config.references:
            found = find_references(config, tasks, self.data, model)
            self.data = self.data._replace(references=found)
        self.program = make_program(config, model, task, num_devices=devices, at_once=at_once)
        self.evaluate = make_evaluate(config.procedure_spec.as_trained(model), task.num_classes)
        own = list(zip(tasks, config.seed_numbers, strict=True))
        self.streams = [_stream(config, task, seed) for task, seed in own]
        self.clean_streams = [_clean_stream(config, task, seed) for task, seed in own]
        self.held_out = {
            name: tuple(
                jnp.asarray(np.stack([getattr(getattr(t, name), field) for t in tasks]))
                for field in ("inputs", "labels")
            )
            for name in ("validation", "test")
        }
        self.chunks = _chunks(config)
        self.num_chunks = len(self.chunks)
        self.done, self.seconds, self.timed_steps = 0, 0.0, 0
        self.state = self.program.init(self.hyper, self.data)
        if config.pretrained is not None:
            path, seeds = config.pretrained, config.seed_numbers
            self.state = start_from_pretrained(self.state, path, model, seeds)
        self.data = self.program.place(self.data)
        shape = (len(configs), len(tasks), self.num_chunks)
        names = [f"train_{m}" for m in TRAINING] + ["corruption_auc"]
        names += [f"{split}_{m}" for split, measures in MEASURES.items() for m in measures]
        self.history: dict[str, np.ndarray] = {
            name: np.full(shape, np.nan, np.float32) for name in names
        }
        classes = task.num_classes
        self.history["class_weights"] = np.full((*shape, classes), np.nan, np.float32)
        self.history["example_weights"] = np.full((*shape, num_train), np.nan, np.float32)
        self.history["confusion"] = np.full((*shape[:2], classes, classes), np.nan, np.float32)
        self.history["step"] = np.array([first + n for first, n, _ in self.chunks], np.int32)

    def snapshot(self) -> Any:
        """What a checkpoint holds: everything that changes."""
        return {
            "state": self.state,
            "history": self.history,
            "done": np.asarray(self.done),
            "seconds": np.asarray(self.seconds),
            "timed_steps": np.asarray(self.timed_steps),
        }

    def restore(self, snapshot: Any) -> None:
        self.state = snapshot["state"]
        self.history = {name: np.array(snapshot["history"][name]) for name in self.history}
        self.done, self.seconds = int(snapshot["done"]), float(snapshot["seconds"])
        self.timed_steps = int(snapshot["timed_steps"])

    def advance_all(self, keep: Callable[[int], None], progress: bool, label: str) -> None:
        total = sum(n for _, n, _ in self.chunks)
        before = sum(n for _, n, _ in self.chunks[: self.done])
        with tqdm(
            total=total, initial=before, desc=label, unit="step", disable=not progress
        ) as bar:
            warm: set[tuple[int, bool]] = set()
            while self.done < self.num_chunks:
                first, num_steps, tuning = self.chunks[self.done]
                self._advance(first, num_steps, tuning, timed=(num_steps, tuning) in warm)
                warm.add((num_steps, tuning))
                self.done += 1
                keep(self.done)
                bar.update(num_steps)
                accuracy = self.history["validation_accuracy"][:, :, self.done - 1]
                if not np.all(np.isnan(accuracy)):
                    bar.set_postfix(validation=f"{np.nanmax(_mean(accuracy)):.3f}")

    def _advance(self, first: int, num_steps: int, tuning: bool, timed: bool) -> None:
        indices = np.stack([stream(first, num_steps) for stream in self.streams])
        clean = np.stack([stream(first, num_steps) for stream in self.clean_streams])
        advance = self.program.fine_tune if tuning else self.program.advance
        start = time.perf_counter()
        state, sums, progress = advance(self.state, indices, clean, self.data, self.hyper)
        jax.block_until_ready(state)
        elapsed = time.perf_counter() - start
        if timed:  # the first chunk of a kind compiles
            self.seconds += elapsed
            self.timed_steps += num_steps
        self._check_finite(np.asarray(progress.weighted_loss), state.params, first)
        self.state = state
        self._record(self.done, sums, progress, tuning)

    def _check_finite(self, losses: np.ndarray, params: Any, first: int) -> None:
        """Checks the losses [H, S, T] of a chunk, and the parameters after its last step."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
        finite = [np.isfinite(x).reshape(*x.shape[:2], -1).all(axis=-1) for x in leaves]
        finite_params = np.logical_and.reduce(finite)[..., None]
        bad = ~np.concatenate([np.isfinite(losses), finite_params], axis=-1)
        if not (bad.any() and self.stop_on_nonfinite):
            return
        step = int(np.argmax(bad.any(axis=(0, 1))))
        h, s = np.argwhere(bad[:, :, step])[0]
        config = self.configs[h]
        if step < losses.shape[-1]:
            what = f"the weighted loss became {losses[h, s, step]}"
        else:
            step, what = step - 1, "a parameter became non-finite"
        raise NonFiniteError(
            f"{what} at step {first + step}, seed {config.first_seed + s} "
            f"(weighting {config.weighting}, learning rate {config.learning_rate:g}). "
            "Try a smaller learning rate."
        )

    def _record(self, chunk: int, sums, progress, tuning: bool) -> None:
        history = self.history
        following = self.chunks[chunk + 1 :]
        ends = not following or following[0][2] != tuning
        finite = np.isfinite(progress.weighted_loss)
        for name, values in zip(TRAINING, progress, strict=True):
            means = np.where(finite, values, np.nan).mean(axis=-1)
            history[f"train_{name}"][:, :, chunk] = means
        for split, (inputs, labels) in self.held_out.items():
            if labels.shape[1] == 0:
                continue
            names = tuple(m for m in MEASURES[split] if ends or m not in AT_THE_END)
            measures = self.evaluate(self.program.network(self.state), inputs, labels, names)
            for name in names:
                history[f"{split}_{name}"][:, :, chunk] = np.asarray(measures[name])
            if split == "test":
                history["confusion"] = np.asarray(measures["confusion"])
        if tuning:
            return
        count = np.asarray(sums.count)
        weights = np.where(count > 0, np.asarray(sums.weights) / np.maximum(count, 1), np.nan)
        history["example_weights"][:, :, chunk] = weights
        for s, task in enumerate(self.tasks):
            labels, corrupted = task.train.labels, task.train.is_corrupted
            for c in np.unique(labels):
                history["class_weights"][:, s, chunk, c] = _mean(weights[:, s, labels == c])
            if corrupted.any():
                drawn = ~np.isnan(weights[:, s])
                auc = _corruption_auc(np.where(drawn, weights[:, s], 0), corrupted, drawn)
                history["corruption_auc"][:, s, chunk] = auc

    def rows(self) -> list[dict]:
        """The history as rows for `metrics.jsonl`."""
        scalars = [name for name, value in self.history.items() if value.ndim == 3]
        return [
            {
                "weighting": config.weighting,
                "learning_rate": config.learning_rate,
                "weight_decay": config.weight_decay,
                "seed": config.first_seed + s,
                "step": int(self.history["step"][e]),
            }
            | {name: _json_number(self.history[name][h, s, e]) for name in scalars}
            for e in range(self.done)
            for h, config in enumerate(self.configs)
            for s in range(len(self.tasks))
        ]

    def result(self) -> Result:
        def stack(field: str) -> np.ndarray:
            return np.stack([getattr(task.train, field) for task in self.tasks])

        return Result(
            configs=tuple(self.configs),
            history=dict(self.history),
            labels=stack("labels"),
            true_labels=stack("true_labels"),
            indices=stack("indices"),
            seconds_per_step=self.seconds / max(self.timed_steps, 1),
        )


def _chunks(config: RunConfig) -> list[tuple[int, int, bool]]:
    """(first step, number of steps, is fine-tuning) between evaluations."""
    chunks = []
    if config.num_steps:
        size = config.num_steps // config.num_evals
        chunks += [(first, size, False) for first in range(0, config.num_steps, size)]
    if config.fine_tune_steps:
        parts = max(1, min(config.num_evals, config.fine_tune_steps) // 4)
        bounds = np.linspace(0, config.fine_tune_steps, parts + 1).astype(int) + config.num_steps
        chunks += [(int(a), int(b - a), True) for a, b in itertools.pairwise(bounds)]
    return chunks


def _stream(config: RunConfig, task: Task, seed: int) -> Stream:
    if config.sampler == "class_balanced_indices":
        return class_balanced(task.train.labels, config.batch_size, seed)
    return shuffled(len(task.train.labels), config.batch_size, seed)


def _clean_stream(config: RunConfig, task: Task, seed: int) -> Stream:
    size = len(task.clean.labels)
    if size == 0:
        return lambda first, count: np.zeros((count, 0), np.int32)
    return shuffled(size, min(config.clean_batch_size, size), seed + 1_000_003)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    count = np.sum(~np.isnan(values), axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def _json_number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
