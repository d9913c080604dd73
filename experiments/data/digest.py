"""A record of the data of a run, to be stored beside its results."""

import hashlib

import numpy as np

from experiments.data.stratify import class_counts
from experiments.data.tasks import Examples, Task


def describe(task: Task) -> dict:
    """Return sizes, class counts, corruption and SHA-256 digests of each split, as plain JSON.

    Two tasks with equal records hold the same examples in the same order with the same labels.
    """
    return {"name": task.name, "num_classes": task.num_classes} | {
        split: _describe(getattr(task, split), task.num_classes)
        for split in ("train", "clean", "validation", "test")
    }


def _describe(examples: Examples, num_classes: int) -> dict:
    if examples.labels.ndim != 1:
        raise ValueError(
            f"describe() takes one task; got stacked labels of shape {list(examples.labels.shape)}"
        )
    size = len(examples.labels)
    num_corrupted = int(examples.is_corrupted.sum())
    return {
        "size": size,
        "input_shape": list(examples.inputs.shape[1:]),
        "class_counts": class_counts(examples.labels, num_classes).tolist(),
        "true_class_counts": class_counts(examples.true_labels, num_classes).tolist(),
        "num_corrupted": num_corrupted,
        "corruption_rate": num_corrupted / size if size else 0.0,
        "sha256": {field: _sha256(getattr(examples, field)) for field in Examples._fields},
    }


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
