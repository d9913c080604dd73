"""Data on the host, in plain numpy: load a dataset, spoil it on purpose, split it into a task."""

from experiments.data.checks import check_disjoint
from experiments.data.corruption import Corrupted, background_flip, pairwise_flip, uniform_flip
from experiments.data.datasets import load
from experiments.data.describe import describe
from experiments.data.image_sets import load_tfds
from experiments.data.imbalance import long_tail, step_imbalance, two_class_imbalance
from experiments.data.specs import parse_imbalance, parse_noise
from experiments.data.tasks import Examples, Task, TaskConfig, make_task, stack_tasks
from experiments.data.toy import moons, overlapping, separable
from experiments.data.types import Dataset, Source

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
