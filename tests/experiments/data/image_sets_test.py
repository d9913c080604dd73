"""tfds image sets, read from small files of the real format that the tests write."""

import io
import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from experiments.data import load, load_tfds
from experiments.data.sets import image_sets

SIZES = {"train": 30, "test": 12}
VERSION = "3.0.1"


def images_of(split, size):
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (size, 28, 28, 1), np.uint8), rng.integers(0, 10, size)


def write_set(data_dir, name="mnist", sizes=SIZES, file_format="array_record"):
    """Write what tfds writes for an image set: records, features.json, dataset_info.json."""
    folder = data_dir / name / VERSION
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    features.save_config(folder)
    splits = []
    for split, size in sizes.items():
        file = folder / f"{name}-{split}.{file_format}-00000-of-00001"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for image, label in zip(*images_of(split, size), strict=True):
            png = io.BytesIO()
            Image.fromarray(image[..., 0]).save(png, format="png")
            example = tf_example_pb2.Example()
            example.features.feature["image"].bytes_list.value.append(png.getvalue())
            example.features.feature["label"].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        splits.append({"name": split, "shardLengths": [str(size)], "filepathTemplate": template})
    info = {"name": name, "version": VERSION, "fileFormat": file_format, "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("WEIGHTING_CACHE", str(folder))
    return folder


@pytest.fixture
def data_dir(tmp_path, cache):
    write_set(tmp_path / "tfds")
    return str(tmp_path / "tfds")


@pytest.fixture
def reads(monkeypatch):
    """Counts the splits that are read from records rather than from the cache."""
    seen, read = [], image_sets._read
    monkeypatch.setattr(
        image_sets, "_read", lambda builder, split: (seen.append(split), read(builder, split))[1]
    )
    return seen


def check_contents(source):
    for dataset, (split, size) in zip(source, SIZES.items(), strict=True):
        images, labels = images_of(split, size)
        np.testing.assert_array_equal(dataset.inputs, images)
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.inputs.dtype == np.uint8
        assert dataset.labels.dtype == np.int32
        assert dataset.num_classes == 10


def test_reads_records_once_and_then_the_cache(data_dir, cache, reads, monkeypatch):
    monkeypatch.setattr(image_sets, "_READ_SIZE", 7)  # several calls, the last one short
    check_contents(load("mnist", data_dir=data_dir))
    assert reads == ["train", "test"]
    (file,) = cache.iterdir()  # nothing temporary is left
    assert file.name.startswith(f"mnist-{VERSION}-")
    assert file.suffix == ".npz"
    check_contents(load("tfds:mnist", data_dir=data_dir))
    assert reads == ["train", "test"]


def damage_by_truncation(file):
    file.write_bytes(file.read_bytes()[:1000])


def damage_by_one_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def damage_by_emptying(file):
    file.write_bytes(b"")


def damage_by_a_missing_array(file):
    np.savez(file, train_inputs=np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [damage_by_truncation, damage_by_one_bit, damage_by_emptying, damage_by_a_missing_array],
)
def test_a_damaged_cache_is_replaced_with_a_warning(damage, data_dir, cache, reads):
    load_tfds("mnist", data_dir)
    (file,) = cache.iterdir()
    damage(file)
    with pytest.warns(UserWarning, match="are damaged .* reading the dataset again"):
        check_contents(load_tfds("mnist", data_dir))
    assert len(reads) == 4
    check_contents(load_tfds("mnist", data_dir))
    assert len(reads) == 4


def test_a_cache_that_cannot_be_written_costs_a_warning(data_dir, cache):
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot cache arrays .* set WEIGHTING_CACHE"):
        check_contents(load_tfds("mnist", data_dir))


def test_an_interrupted_write_leaves_nothing_behind(data_dir, cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_tfds("mnist", data_dir)
    assert list(cache.iterdir()) == []


def test_other_folders_and_other_contents_have_their_own_cache(tmp_path, cache, reads):
    for i, sizes in enumerate([SIZES, SIZES, {"train": 5}]):
        write_set(tmp_path / str(i), sizes=sizes)
        source = load_tfds("mnist", str(tmp_path / str(i)))
        assert len(list(cache.iterdir())) == i + 1
    assert len(reads) == 5
    assert source.test is None
    assert len(source.train.labels) == 5


def test_without_data_dir_tfds_chooses_the_folder(data_dir, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", data_dir)
    check_contents(load_tfds("mnist"))


def test_a_missing_set_is_answered_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        load("kmnist", data_dir=str(tmp_path))
    message = str(raised.value)
    assert str(tmp_path / "kmnist") in message
    assert f"tfds.builder('kmnist', data_dir={str(tmp_path)!r}, file_format=" in message
    assert ".download_and_prepare()" in message
    for remedy in ("tensorflow-cpu", "--data-dir", "TFDS_DATA_DIR", "'digits'"):
        assert remedy in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_set_in_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"tfds\.builder\('mnist', file_format="):
        load("mnist")


def test_unknown_tfds_names(tmp_path):
    with pytest.raises(ValueError, match="tfds knows no dataset 'no_such_set'"):
        load("tfds:no_such_set", data_dir=str(tmp_path))


def test_sets_without_a_training_split_are_refused(tmp_path, cache):
    write_set(tmp_path, sizes={"test": 3})
    with pytest.raises(ValueError, match=r"has no 'train' split; it has \['test'\]"):
        load_tfds("mnist", str(tmp_path))


def test_formats_without_random_access_are_refused(tmp_path, cache):
    write_set(tmp_path, file_format="tfrecord")
    with pytest.raises(ValueError, match="without random access; prepare it again"):
        load_tfds("mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"text": tfds.features.Text()}, r"its features are \['text'\]"),
        (
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            r"its images have shape \(None, None, 3\)",
        ),
        (
            {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.Scalar(np.float32),
            },
            "its label is Scalar",
        ),
    ],
)
def test_only_image_classification_sets_are_accepted(features, message):
    with pytest.raises(ValueError, match=message):
        image_sets._check_features("some_set", tfds.features.FeaturesDict(features))
