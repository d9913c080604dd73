"""Many runs at once beside one run after another: the main job's table, and LeNet-5.

Run `python -m benchmarks.many_runs`. A method's runs (configurations times seeds) are
trained in one call, and then in one call each, in the same process. Both ways make their data,
evaluate and record; both are compiled beforehand. What is compared besides time is every run's
accuracy on the test set after every interval. LeNet-5 trains on random images, where only the time
counts, with more and more runs at once.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import (
    KEPT,
    RUNS,
    check_positive,
    describe_machine,
    run_benchmark,
    write_results,
)
from experiments.data import Dataset, Source, TaskConfig
from experiments.studies.demo import EXPERIMENT
from experiments.tools.host_memory import keep_large_blocks
from experiments.tools.names import lookup
from experiments.tools.progress import follow
from experiments.tools.tables import align
from experiments.training.config import RunConfig
from experiments.training.driver import load_source, train
from experiments.training.result import Result

LENET_RUNS = (1, 2, 4)
LENET_BATCHES = (50, 256)
_HEADER = ["main job", "runs", "together s", "one by one s", "times faster", "same accuracy"]
_HEADER += ["largest difference"]


class RunsComparison(NamedTuple):
    """Seconds of all runs together and one after another, and whether the results agree."""

    num_runs: int
    together: float
    one_by_one: float
    same_accuracy: float  # part of all test accuracies that agree exactly
    largest_difference: float  # of test accuracies
    mean_difference: float  # of the mean test accuracy over all runs at the end

    @property
    def ratio(self) -> float:
        """How many times faster together."""
        return self.one_by_one / self.together


def compare(configs: Sequence[RunConfig], source: Source) -> RunsComparison:
    """Trains the configurations with all their seeds, both ways."""
    single = [replace(c, seeds=1, first_seed=s) for c in configs for s in c.seed_numbers]
    _timed(configs, source)
    _timed([single[0]], source)
    together, result = _timed(configs, source)
    times, alone = zip(*(_timed([config], source) for config in single), strict=True)
    ours = result.history["test_accuracy"].reshape(len(single), -1)
    theirs = np.concatenate([one.history["test_accuracy"] for one in alone]).reshape(ours.shape)
    shown = ~np.isnan(ours)
    return RunsComparison(
        num_runs=len(single),
        together=together,
        one_by_one=sum(times),
        same_accuracy=float(np.mean(ours[shown] == theirs[shown])),
        largest_difference=float(np.max(np.abs(ours - theirs)[shown])),
        mean_difference=float(np.mean(ours[:, -1]) - np.mean(theirs[:, -1])),
    )


def lenet_milliseconds(num_runs: int, batch_size: int, num_steps: int) -> float:
    """Per run and step of LeNet-5, for so many runs at once."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * batch_size, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, len(images)).astype(np.int32)
    data = Dataset(images, labels, 10, "random")
    config = RunConfig(
        task=TaskConfig(num_train=3 * batch_size, num_validation=20, num_test=20, num_clean=10),
        model="lenet5",
        weighting="low:0.1",
        batch_size=batch_size,
        num_steps=2 * num_steps,
        num_evals=2,
        seeds=num_runs,
    )
    result = train(config, source=Source(data, None), at_once=num_runs, progress=False)
    return 1e3 * result.seconds_per_step / num_runs


def main(
    preset: str = "cpu",
    seeds: int | None = None,
    out: Path = RUNS / "many_runs.json",
    keep: bool = False,
) -> None:
    """Prints the tables and writes them as JSON.

    Args:
      preset: of the main job.
      seeds: how many, instead of the preset's.
      out: the JSON file.
      keep: write results/many_runs.json, too, which is under version control.
    """
    lookup(preset, EXPERIMENT.presets, "preset")
    check_positive("seeds", seeds)
    keep_large_blocks()
    rows = main_job(preset, seeds)
    total = of_all(list(rows.values()))
    lines = [[name, *_cells(row)] for name, row in {**rows, "all": total}.items()]
    print(align([_HEADER, *lines]))
    lenet = lenet_at_once(20 if preset == "cpu" else 2)
    table = [["LeNet-5, batch", "runs at once", "ms per run and step"]]
    for batch_size, num_runs, milliseconds in lenet:
        table.append([str(batch_size), str(num_runs), f"{milliseconds:.2f}"])
    print(f"\n{align(table)}")
    write_results(
        out,
        {
            "machine": describe_machine(),
            "preset": preset,
            "main_job": [{"name": name, **_record(row)} for name, row in rows.items()],
            "all": _record(total),
            "lenet5": [
                dict(zip(("batch_size", "at_once", "ms_per_step"), row, strict=True))
                for row in lenet
            ],
        },
        KEPT / "many_runs.json" if keep else None,
    )


def main_job(preset: str, seeds: int | None) -> dict[str, RunsComparison]:
    """Every method of the main job, both ways."""
    rows, sources = {}, {}
    for name, configs in follow(EXPERIMENT.arms(preset).items(), "main job", "method"):
        if seeds is not None:
            configs = [replace(config, seeds=seeds) for config in configs]
        key = configs[0].task.dataset
        sources[key] = sources.get(key) or load_source(configs[0])
        rows[name] = compare(configs, sources[key])
    return rows


def of_all(rows: Sequence[RunsComparison]) -> RunsComparison:
    """All methods together: sums of the times, the mean agreement, the largest differences."""
    return RunsComparison(
        num_runs=sum(row.num_runs for row in rows),
        together=sum(row.together for row in rows),
        one_by_one=sum(row.one_by_one for row in rows),
        same_accuracy=float(np.mean([row.same_accuracy for row in rows])),
        largest_difference=max(row.largest_difference for row in rows),
        mean_difference=max((row.mean_difference for row in rows), key=abs),
    )


def lenet_at_once(num_steps: int) -> list[tuple[int, int, float]]:
    """(batch size, runs at once, milliseconds per run and step) of LeNet-5."""
    return [
        (batch_size, num_runs, lenet_milliseconds(num_runs, batch_size, num_steps))
        for batch_size in LENET_BATCHES
        for num_runs in LENET_RUNS
    ]


def _timed(configs: Sequence[RunConfig], source: Source) -> tuple[float, Result]:
    begin = time.perf_counter()
    result = train(configs, source=source, stop_on_nonfinite=False, progress=False)
    return time.perf_counter() - begin, result


def _record(row: RunsComparison) -> dict[str, float]:
    return {**row._asdict(), "ratio": row.ratio}


def _cells(row: RunsComparison) -> list[str]:
    return [
        str(row.num_runs),
        f"{row.together:.2f}",
        f"{row.one_by_one:.2f}",
        f"{row.ratio:.1f}",
        f"{100 * row.same_accuracy:.1f} %",
        f"{row.largest_difference:.4f}",
    ]


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "many_runs", __doc__))
