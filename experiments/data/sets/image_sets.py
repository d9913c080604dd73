"""Image classification sets from TensorFlow Datasets, read without TensorFlow.

Decoding tens of thousands of images takes seconds, so it is done once and the arrays are cached.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from experiments.data.sets.types import Dataset, Source
from experiments.tools.cache import Arrays, cache_dir, cached

_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview#image_classification"
_GROUP_FEATURE = "lesion"  # a text that names what several images show
_READ_SIZE = 512  # one call for many records is three times as fast as one call for each


class UnknownTfdsSetError(ValueError):
    """tfds neither knows the name nor finds a prepared set of it."""


def load_tfds(name: str, data_dir: str | None = None) -> Source:
    """Load the tfds image set `name` ("mnist", "emnist/letters") as uint8 arrays.

    Args:
      name: tfds name; the set must have been prepared in the `array_record` format.
      data_dir: tfds folder; None leaves it to tfds (`$TFDS_DATA_DIR` or `~/tensorflow_datasets`).

    Returns:
      A `Source` of the splits "train" and "test"; `test` is None if the set has no such split. The
      datasets have `groups` if the set has a text feature "lesion": equal texts, equal numbers.
    """
    builder = _builder(name, data_dir)
    num_classes = _check_features(name, builder.info.features)
    splits = [split for split in ("train", "test") if split in builder.info.splits]
    if "train" not in splits:
        raise ValueError(
            f"tfds set {name!r} has no 'train' split; it has {sorted(builder.info.splits)}"
        )
    parts = ["inputs", "labels"] + ["groups"] * _has_groups(builder)
    arrays = cached(
        _cache_path(builder),
        [f"{split}_{part}" for split in splits for part in parts],
        lambda: _read_splits(builder, splits),
    )
    datasets = {
        split: Dataset(
            **{part: arrays[f"{split}_{part}"] for part in parts},
            num_classes=num_classes,
            name=name,
        )
        for split in splits
    }
    return Source(datasets["train"], datasets.get("test"))


def _builder(name: str, data_dir: str | None):
    """Return the tfds builder of a prepared set; nothing is ever downloaded."""
    # Imported here, because it takes a second.
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except DatasetNotFoundError:
        raise UnknownTfdsSetError(
            f"tfds knows no dataset {name!r}; its image sets: {_CATALOG}"
        ) from None
    if not builder.info.splits:
        where = "" if data_dir is None else f", data_dir={data_dir!r}"
        raise FileNotFoundError(
            f"dataset {name!r} is not prepared: looked for it in {builder.data_path}. "
            "Either prepare it once (needs `pip install tensorflow-cpu importlib_resources`, for "
            "this step only):\n"
            f'  python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}{where}, '
            "file_format='array_record').download_and_prepare()\"\n"
            "or point --data-dir or TFDS_DATA_DIR to a tfds folder that holds it, "
            "or use the embedded dataset 'digits', which needs no files."
        )
    return builder


def _check_features(name: str, features) -> int:
    """Return the number of classes of an image classification set; refuse any other set."""
    problem = None
    if not {"image", "label"} <= set(features):
        problem = f"its features are {sorted(features)}"
    elif features["image"].np_dtype != np.uint8 or None in features["image"].shape:
        shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
        problem = f"its images have shape {shape} and dtype {dtype}"
    elif getattr(features["label"], "num_classes", None) is None:
        problem = f"its label is {features['label']}"
    if problem is not None:
        raise ValueError(
            f"tfds set {name!r} cannot be used: {problem}; wanted is an 'image' of fixed shape "
            "and dtype uint8 with a class 'label'"
        )
    return features["label"].num_classes


def _has_groups(builder) -> bool:
    return _GROUP_FEATURE in builder.info.features


def _cache_path(builder) -> Path:
    """Return a file that changes with the set's name, version, folder and recorded contents."""
    info_file = Path(builder.data_path) / "dataset_info.json"
    digest = hashlib.sha256(str(info_file.resolve()).encode())
    digest.update(info_file.read_bytes())
    stem = builder.info.full_name.replace("/", "-")
    return cache_dir() / f"{stem}-{digest.hexdigest()[:16]}.npz"


def _read_splits(builder, splits: list[str]) -> Arrays:
    arrays = {}
    for split in splits:
        arrays |= {f"{split}_{part}": array for part, array in _read(builder, split).items()}
    return arrays


def _read(builder, split: str) -> Arrays:
    try:
        examples = builder.as_data_source(split=split)
    except NotImplementedError:
        raise ValueError(
            f"{builder.info.full_name} in {builder.data_path} is stored in a format without "
            "random access; prepare it again, in another folder, with file_format='array_record'"
        ) from None
    inputs = np.empty((len(examples), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(examples), np.int32)
    names = []
    label = f"reading {builder.info.name} {split}"
    with tqdm(total=len(examples), desc=label, leave=False, disable=None) as bar:
        for start in range(0, len(examples), _READ_SIZE):
            positions = range(start, min(start + _READ_SIZE, len(examples)))
            for i, example in zip(positions, examples.__getitems__(positions), strict=True):
                inputs[i], labels[i] = example["image"], example["label"]
                names.append(example.get(_GROUP_FEATURE))
            bar.update(len(positions))
    arrays = {"inputs": inputs, "labels": labels}
    if _has_groups(builder):
        arrays["groups"] = np.unique(names, return_inverse=True)[1].astype(np.int32)
    return arrays
