"""Data on the host, in plain numpy: load a dataset, spoil it on purpose, split it into a task."""

from experiments.data.checks import check_disjoint
from experiments.data.corruption import (
    Corrupted,
    background_flip,
    pairwise_flip,
    parse_noise,
    uniform_flip,
)
from experiments.data.digest import describe
from experiments.data.imbalance import long_tail, parse_imbalance, step_imbalance
from experiments.data.sets.image_sets import load_tfds
from experiments.data.sets.table import load
from experiments.data.sets.toy import moons, overlapping, separable
from experiments.data.sets.types import Dataset, Source
from experiments.data.tasks import Examples, Task, TaskConfig, make_task, stack_tasks
from experiments.data.two_classes import two_class_imbalance

__all__ = [
    "Corrupted",
    "Dataset",
    "Examples",
    "Source",
    "Task",
    "TaskConfig",
    "background_flip",
    "check_disjoint",
    "describe",
    "load",
    "load_tfds",
    "long_tail",
    "make_task",
    "moons",
    "overlapping",
    "pairwise_flip",
    "parse_imbalance",
    "parse_noise",
    "separable",
    "stack_tasks",
    "step_imbalance",
    "two_class_imbalance",
    "uniform_flip",
]
