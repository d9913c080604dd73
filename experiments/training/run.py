"""A run between two evaluations: its state on the devices, its history so far on the host."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from experiments.data import Task
from experiments.networks.models import Model
from experiments.networks.pretrained import start_from_pretrained
from experiments.tools.progress import say
from experiments.training.config import RunConfig
from experiments.training.evaluation import AT_THE_END, HELD_OUT_MEASURES, make_evaluate
from experiments.training.history import (
    empty_history,
    history_rows,
    mean_of_known,
    record_progress,
    record_weights,
)
from experiments.training.nonfinite import check_finite
from experiments.training.program import make_program, seed_data, stack_hyperparameters
from experiments.training.references import find_references
from experiments.training.result import Result
from experiments.training.streams import clean_stream, training_stream


class Chunk(NamedTuple):
    """The steps between two evaluations."""

    first_step: int
    num_steps: int
    is_fine_tuning: bool


def chunks_of(config: RunConfig) -> list[Chunk]:
    """What a run consists of: an evaluation follows each."""
    chunks = []
    if config.num_steps:
        size = config.num_steps // config.num_evals
        chunks += [Chunk(first, size, False) for first in range(0, config.num_steps, size)]
    if config.fine_tune_steps:
        parts = max(1, min(config.num_evals, config.fine_tune_steps) // 4)
        bounds = np.linspace(0, config.fine_tune_steps, parts + 1).astype(int) + config.num_steps
        chunks += [Chunk(int(a), int(b - a), True) for a, b in itertools.pairwise(bounds)]
    return chunks


class TrainingRun:
    """Configurations that differ in numbers only (H), with all their seeds (S), in training.

    Args:
      configs: H.
      tasks: S, one a seed.
      model: the network.
      stop_on_nonfinite: whether `NonFiniteError` is raised.
      devices: how many share every batch. State and data stay on all of them between evaluations.
      at_once: see `make_program`.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        tasks: Sequence[Task],
        model: Model,
        *,
        stop_on_nonfinite: bool = True,
        devices: int = 1,
        at_once: int | None = None,
    ):
        config, task = configs[0], tasks[0]
        self.configs, self.tasks, self.stop_on_nonfinite = configs, tasks, stop_on_nonfinite
        hyper, data = stack_hyperparameters(configs), seed_data(tasks, config.seed_numbers)
        if config.references:
            data = data._replace(references=find_references(config, tasks, data, model))
        self.program = make_program(config, model, task, num_devices=devices, at_once=at_once)
        state = self.program.init(hyper, data)
        if config.pretrained is not None:
            state = start_from_pretrained(state, config.pretrained, model, config.seed_numbers)
        place = self.program.place
        self.state, self.data, self.hyper = place(state), place(data), place(hyper)

        self.evaluate = make_evaluate(config.procedure_spec.as_trained(model), task.num_classes)
        self.held_out = {split: _held_out(tasks, split) for split in HELD_OUT_MEASURES}
        own = list(zip(tasks, config.seed_numbers, strict=True))
        self.streams = [training_stream(config, task, seed) for task, seed in own]
        self.clean_streams = [clean_stream(config, task, seed) for task, seed in own]
        self.chunks = chunks_of(config)
        self.done, self.seconds, self.timed_steps = 0, 0.0, 0
        ends = [chunk.first_step + chunk.num_steps for chunk in self.chunks]
        self.history = empty_history(len(configs), tasks, ends)

    @property
    def is_done(self) -> bool:
        """Whether all steps were made."""
        return self.done == len(self.chunks)

    def snapshot(self) -> dict[str, Any]:
        """What a checkpoint holds: everything that changes."""
        return {
            "state": self.program.on_first(self.state),
            "history": self.history,
            "done": np.asarray(self.done),
            "seconds": np.asarray(self.seconds),
            "timed_steps": np.asarray(self.timed_steps),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Goes back, or on, to a snapshot of the same run."""
        self.state = self.program.place(snapshot["state"])
        self.history = {name: np.array(snapshot["history"][name]) for name in self.history}
        self.done, self.seconds = int(snapshot["done"]), float(snapshot["seconds"])
        self.timed_steps = int(snapshot["timed_steps"])

    def advance_all(self, keep: Callable[[], None], progress: bool, label: str) -> None:
        """Makes all steps that are left; calls `keep` after every evaluation."""
        total = sum(chunk.num_steps for chunk in self.chunks)
        before = sum(chunk.num_steps for chunk in self.chunks[: self.done])
        start = time.monotonic()
        disable = None if progress else True  # None: where there is no terminal
        with tqdm(total=total, initial=before, desc=label, unit="step", disable=disable) as bar:
            warm: set[tuple[int, bool]] = set()
            while not self.is_done:
                chunk = self.chunks[self.done]
                kind = (chunk.num_steps, chunk.is_fine_tuning)
                self._advance(chunk, is_timed=kind in warm)  # the first of a kind compiles
                warm.add(kind)
                self.done += 1
                keep()
                bar.update(chunk.num_steps)
                bar.set_postfix_str(self._accuracy())
            if progress and bar.disable:
                reached = [self._accuracy(), f"{time.monotonic() - start:.1f} s"]
                say(f"{label}: {', '.join(filter(None, reached))}")

    def _accuracy(self) -> str:
        """The best accuracy of a configuration on its validation set at the last evaluation."""
        accuracy = self.history["validation_accuracy"][:, :, self.done - 1]
        if np.all(np.isnan(accuracy)):
            return ""
        return f"validation={np.nanmax(mean_of_known(accuracy)):.3f}"

    def _advance(self, chunk: Chunk, is_timed: bool) -> None:
        first, count = chunk.first_step, chunk.num_steps
        indices = np.stack([stream(first, count) for stream in self.streams])
        clean = np.stack([stream(first, count) for stream in self.clean_streams])
        advance = self.program.fine_tune if chunk.is_fine_tuning else self.program.advance
        start = time.perf_counter()
        state, sums, progress = advance(self.state, indices, clean, self.data, self.hyper)
        jax.block_until_ready(state)
        elapsed = time.perf_counter() - start
        if is_timed:
            self.seconds += elapsed
            self.timed_steps += count
        if self.stop_on_nonfinite:
            losses = np.asarray(progress.weighted_loss)
            check_finite(self.configs, losses, self.program.on_first(state.params), first)
        self.state = state
        record_progress(self.history, self.done, progress)
        self._record_held_out(chunk)
        if not chunk.is_fine_tuning:
            record_weights(self.history, self.done, sums, self.tasks)

    def _record_held_out(self, chunk: Chunk) -> None:
        following = self.chunks[self.done + 1 :]
        is_end = not following or following[0].is_fine_tuning != chunk.is_fine_tuning
        networks = self.program.network(self.program.on_first(self.state))
        for split, (inputs, labels) in self.held_out.items():
            if labels.shape[1] == 0:
                continue
            names = tuple(m for m in HELD_OUT_MEASURES[split] if is_end or m not in AT_THE_END)
            measures = self.evaluate(networks, inputs, labels, names)
            for name in names:
                self.history[f"{split}_{name}"][:, :, self.done] = np.asarray(measures[name])
            if split == "test":
                self.history["confusion"] = np.asarray(measures["confusion"])

    def rows(self) -> list[dict]:
        """The history so far as rows for `metrics.jsonl`."""
        return history_rows(self.history, self.configs, self.done)

    def result(self) -> Result:
        """What was measured."""

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


def _held_out(tasks: Sequence[Task], split: str) -> tuple[jax.Array, jax.Array]:
    """Inputs [S, M, ...] and labels [S, M] of all seeds, on the first device."""
    examples = [getattr(task, split) for task in tasks]
    return (
        jnp.asarray(np.stack([e.inputs for e in examples])),
        jnp.asarray(np.stack([e.labels for e in examples])),
    )
