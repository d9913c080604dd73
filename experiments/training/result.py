"""What a run measured, and how it is stored in its folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.tools.files import DamagedFileError, read_arrays, read_sealed
from experiments.training.config import RunConfig
from experiments.training.run_folder import RunFolderError, as_config


@dataclass(frozen=True)
class Result:
    """Everything a run measured. Axes: H configurations, S seeds, E evaluations, N, C."""

    configs: tuple[RunConfig, ...]
    history: dict[str, np.ndarray]
    """`step` [E]; `train_*`, `validation_*`, `test_*`, `corruption_auc` [H, S, E];
    `test_mean_auc` is NaN but where training or fine-tuning ends.
    `class_weights` [H, S, E, C] and `example_weights` [H, S, E, N], means since the last
    evaluation (NaN where an example was not drawn); `confusion` [H, S, C, C], of the test set."""
    labels: np.ndarray
    """[S, N] given training labels, and `true_labels` [S, N]."""
    true_labels: np.ndarray
    indices: np.ndarray
    """[S, N] positions of the training examples in the dataset."""
    seconds_per_step: float
    """Of all H x S runs together, without compilation and evaluation."""


def result_arrays(result: Result) -> dict[str, np.ndarray]:
    """The arrays of a result, as they are stored."""
    return {
        **result.history,
        "train_labels": result.labels,
        "train_true_labels": result.true_labels,
        "train_indices": result.indices,
        "seconds_per_step": np.asarray(result.seconds_per_step),
    }


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished run."""
    return (folder / "result.npz").exists()


def load_result(folder: Path) -> Result:
    """Reads a finished run from its folder."""
    for name in ("config.json", "result.npz"):
        if not (folder / name).exists():
            raise RunFolderError(f"{folder} holds no finished run: {name} is missing")
    try:
        record = read_sealed(folder / "config.json")
        arrays = read_arrays(folder / "result.npz")
        return Result(
            configs=tuple(map(as_config, record["configs"])),
            labels=arrays.pop("train_labels"),
            true_labels=arrays.pop("train_true_labels"),
            indices=arrays.pop("train_indices"),
            seconds_per_step=float(arrays.pop("seconds_per_step")),
            history=arrays,
        )
    except (DamagedFileError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"the run in {folder} is damaged: {error}") from None
