"""ISIC sets, prepared from small files in the official layout that the tests write."""

import csv
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from experiments.data import TaskConfig, load, make_task
from experiments.data.isic.__main__ import main
from experiments.data.isic.builders import Isic2018, prepare
from experiments.data.isic.published import OFFICIAL, TABLE_1

INPUT_2018 = "ISIC2018_Task3_Training_Input"
TRUTH_2018 = "ISIC2018_Task3_Training_GroundTruth.csv"
LESIONS_2018 = "ISIC2018_Task3_Training_LesionGroupings.csv"
CLASSES_2018 = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
INPUT_2017 = {"Training": "ISIC-2017_Training_Data", "Test_v2": "ISIC-2017_Test_v2_Data"}
INDICATORS = {"benign": (0, 0), "melanoma": (1, 0), "seborrheic_keratosis": (0, 1)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTING_CACHE", str(tmp_path / "cache"))


def jpeg(brightness, shape=(30, 40)):
    file = io.BytesIO()
    image = np.full((*shape, 3), brightness, np.uint8)
    image[:, : shape[1] // 2] //= 2
    Image.fromarray(image).save(file, format="jpeg", quality=95)
    return file.getvalue()


def write_rows(file, header, rows):
    with open(file, "w", newline="") as lines:
        csv.writer(lines).writerows([header, *rows])


def image_name(i):
    return f"ISIC_{24306 + i:07d}"


def write_2018(folder, labels, lesions=None, *, pack=True):
    """Image i has brightness 10 i + 20; by default every image is of its own lesion."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"{image_name(i)}.jpg": jpeg(10 * i + 20) for i in range(len(labels))}
    contents |= {"LICENSE.txt": b"text", "ATTRIBUTION.txt": b"text"}
    if pack:
        with zipfile.ZipFile(folder / f"{INPUT_2018}.zip", "w") as archive:
            for name, content in contents.items():
                archive.writestr(f"{INPUT_2018}/{name}", content)
    else:
        (folder / INPUT_2018).mkdir()
        for name, content in contents.items():
            (folder / INPUT_2018 / name).write_bytes(content)
    names = [image_name(i) for i in range(len(labels))]
    one_hot = np.eye(7)[labels].tolist()
    rows = [[n, *row] for n, row in zip(names, one_hot, strict=True)]
    write_rows(folder / TRUTH_2018, ["image", *CLASSES_2018], rows)
    lesions = range(len(labels)) if lesions is None else lesions
    rows = [[n, f"HAM_{lesion:07d}", "histo"] for n, lesion in zip(names, lesions, strict=True)]
    write_rows(folder / LESIONS_2018, ["image", "lesion_id", "diagnosis_confirm_type"], rows)
    return folder


def write_2017(folder, classes_of):
    folder.mkdir(parents=True)
    for part, classes in classes_of.items():
        images = folder / INPUT_2017[part]
        images.mkdir()
        rows = []
        for i, label in enumerate(classes):
            (images / f"{image_name(i)}.jpg").write_bytes(jpeg(10 * i + 20))
            (images / f"{image_name(i)}_superpixels.png").write_bytes(b"not looked at")
            rows.append([image_name(i), *map(float, INDICATORS[label])])
        header = ["image_id", "melanoma", "seborrheic_keratosis"]
        write_rows(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", header, rows)
    return folder


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def in_written_order(dataset):
    """Labels and groups by brightness of the right edge, which tells images apart."""
    order = np.argsort(dataset.inputs[:, 2, -1, 0])
    return dataset._replace(
        inputs=dataset.inputs[order],
        labels=dataset.labels[order],
        groups=None if dataset.groups is None else dataset.groups[order],
    )


# --- what is prepared


@pytest.mark.parametrize("pack", [True, False])
def test_2018_images_labels_and_lesions(pack, tmp_path):
    labels, lesions = [1, 0, 6, 1, 5, 2, 3, 4], [7, 8, 9, 7, 1, 2, 3, 4]
    folder = write_2018(tmp_path / "files", labels, lesions, pack=pack)
    prepared = prepare("isic2018", folder, size=8, data_dir=tmp_path / "tfds")
    assert prepared.is_new
    assert prepared.builder.info.features["label"].names == CLASSES_2018
    train, test = load("isic2018/8", data_dir=str(tmp_path / "tfds"))
    assert test is None
    assert train.inputs.shape == (8, 8, 8, 3)
    assert train.inputs.dtype == np.uint8
    assert train.num_classes == 7
    assert train.name == "isic2018/8"
    train = in_written_order(train)
    assert train.labels.tolist() == labels
    assert train.groups.dtype == np.int32
    same = np.equal.outer(train.groups, train.groups)
    np.testing.assert_array_equal(same, np.equal.outer(lesions, lesions))
    brightness = 10 * np.arange(8) + 20
    np.testing.assert_allclose(train.inputs[:, 2, -1, 0], brightness, atol=3)
    np.testing.assert_allclose(train.inputs[:, 2, 0, 0], brightness // 2, atol=3)


def test_2017_has_an_official_test_split(tmp_path):
    train = ["benign", "melanoma", "seborrheic_keratosis", "benign"]
    test = ["melanoma", "benign", "benign"]
    folder = write_2017(tmp_path / "files", {"Training": train, "Test_v2": test})
    prepare("isic2017", folder, data_dir=tmp_path / "tfds")
    source = load("isic2017", data_dir=str(tmp_path / "tfds"))
    assert source.train.inputs.shape == (4, 64, 64, 3)
    for dataset, classes in ((source.train, train), (source.test, test)):
        assert dataset.groups is None
        assert dataset.num_classes == 3
        expected = [list(INDICATORS).index(label) for label in classes]
        assert in_written_order(dataset).labels.tolist() == expected


def test_images_are_averaged_over_areas(tmp_path):
    folder = write_2018(tmp_path / "files", [1], pack=False)
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(folder / INPUT_2018 / f"{image_name(0)}.jpg", quality=100)
    prepare("isic2018", folder, size=2, data_dir=tmp_path / "tfds")
    train, _ = load("isic2018/2", data_dir=str(tmp_path / "tfds"))
    np.testing.assert_allclose(train.inputs, 100, atol=2)


def test_a_prepared_set_is_kept(tmp_path):
    folder = write_2018(tmp_path / "files", [1, 0])
    prepare("isic2018", folder, size=4, data_dir=tmp_path / "tfds")
    write_2018(folder, [1, 0, 2])
    again = prepare("isic2018", folder, size=4, data_dir=tmp_path / "tfds")
    assert not again.is_new
    assert len(load("isic2018/4", data_dir=str(tmp_path / "tfds")).train.labels) == 2


# --- subsets


def test_missing_images_are_counted_and_a_subset_must_be_wanted(tmp_path):
    folder = write_2018(tmp_path / "files", [1, 0, 2, 3], pack=False)
    for i in (1, 3):
        (folder / INPUT_2018 / f"{image_name(i)}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists 4 images and .* lacks 2 of them, such as"):
        prepare("isic2018", folder, size=4, data_dir=tmp_path / "tfds")
    prepare("isic2018", folder, size=4, data_dir=tmp_path / "tfds", allow_missing=True)
    train, _ = load("isic2018/4", data_dir=str(tmp_path / "tfds"))
    assert in_written_order(train).labels.tolist() == [1, 2]


def test_no_image_at_all_is_no_subset(tmp_path):
    folder = write_2018(tmp_path / "files", [1, 0], pack=False)
    for file in (folder / INPUT_2018).glob("*.jpg"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="has none of the images listed in"):
        prepare("isic2018", folder, data_dir=tmp_path / "tfds", allow_missing=True)


# --- errors


def drop(name):
    return lambda folder: (folder / name).unlink()


def change(name, old, new):
    return lambda folder: edit(folder / name, old, new)


def damage_image(folder):
    images = folder / INPUT_2018
    archive = images.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(f"{images.name}/{image_name(0)}.jpg", jpeg(100)[:300])
        packed.writestr(f"{images.name}/{image_name(1)}.jpg", jpeg(100))


def replace_image(folder):
    images = folder / INPUT_2018
    images.mkdir()
    for i in (0, 1):
        (images / f"{image_name(i)}.jpg").write_bytes(b"<html>not an image</html>")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (drop(f"{INPUT_2018}.zip"), FileNotFoundError, f"neither a folder {INPUT_2018} nor"),
        (drop(TRUTH_2018), FileNotFoundError, f"has no {TRUTH_2018}"),
        (drop(LESIONS_2018), FileNotFoundError, f"has no {LESIONS_2018}"),
        (
            change(TRUTH_2018, f"{image_name(0)},0.0", f"{image_name(0)},1.0"),
            ValueError,
            f"of image {image_name(0)} are 0 or 1 and sum to 1, but they are 1.0, 1.0, 0.0",
        ),
        (
            change(TRUTH_2018, f"{image_name(0)},0.0,1.0", f"{image_name(0)},0.0,0.0"),
            ValueError,
            "sum to 1, but they are 0.0, 0.0",
        ),
        (
            change(TRUTH_2018, f"{image_name(0)},0.0,1.0", f"{image_name(0)},0.5,0.5"),
            ValueError,
            "sum to 1, but they are 0.5, 0.5",
        ),
        (
            change(TRUTH_2018, f"{image_name(0)},0.0", f"{image_name(0)},x"),
            ValueError,
            rf"image {image_name(0)} has values \['x', ",
        ),
        (change(TRUTH_2018, image_name(1), image_name(0)), ValueError, "lists image .* twice"),
        (change(TRUTH_2018, "MEL", "MLE"), ValueError, "has no column 'MEL'; it has"),
        (change(LESIONS_2018, image_name(1), "other"), ValueError, "does not list image"),
        (
            lambda folder: write_rows(folder / TRUTH_2018, ["image", *CLASSES_2018], []),
            ValueError,
            "lists no image",
        ),
        (damage_image, ValueError, f"image {image_name(0)} cannot be read"),
        (replace_image, ValueError, f"image {image_name(0)} cannot be read"),
        (
            lambda folder: (folder / f"{INPUT_2018}.zip").write_bytes(b"half an archive"),
            ValueError,
            "is damaged or incomplete",
        ),
    ],
)
def test_spoilt_files_are_named(spoil, error, message, tmp_path):
    folder = write_2018(tmp_path / "files", [1, 0])
    spoil(folder)
    with pytest.raises(error, match=message):
        prepare("isic2018", folder, size=4, data_dir=tmp_path / "tfds")
    with pytest.raises(FileNotFoundError, match="is not prepared"):  # nothing half done is left
        load("isic2018/4", data_dir=str(tmp_path / "tfds"))


def test_two_diagnoses_of_2017_are_refused(tmp_path):
    classes = ["benign", "melanoma"]
    folder = write_2017(tmp_path / "files", {"Training": classes, "Test_v2": classes})
    edit(folder / "ISIC-2017_Test_v2_Part3_GroundTruth.csv", ",1.0,0.0", ",1.0,1.0")
    with pytest.raises(ValueError, match=r"sum to 0 or 1, but they are 1\.0, 1\.0"):
        prepare("isic2017", folder, size=4, data_dir=tmp_path / "tfds")


def test_arguments_are_checked(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        prepare("isic2018", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="size must be at least 1"):
        prepare("isic2018", tmp_path, size=0)
    with pytest.raises(TypeError, match="config=IsicConfig"):
        Isic2018(data_dir=str(tmp_path))


def test_a_set_that_is_not_prepared_is_answered_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        load("isic2017/32", data_dir=str(tmp_path))
    assert "isic prepare --set isic2017 --size 32 --manual-dir DIR" in str(raised.value)
    assert f"--data-dir {tmp_path}" in str(raised.value)
    for name in ("isic2018/x", "isic2018/064", "isic2019"):
        with pytest.raises(ValueError, match=r"known are .*isic2018\[/SIZE\]"):
            load(name)


# --- the command


def test_the_command_prints_counts_beside_the_published_ones(tmp_path, capsys):
    folder = write_2018(tmp_path / "files", [1, 1, 0, 6])
    command = ["prepare", "--set", "isic2018", "--size", "4", "--manual-dir", str(folder)]
    command += ["--data-dir", str(tmp_path / "tfds")]
    assert main(command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["NV", "6741", "6705", "2"] in lines
    assert ["VASC", "-", "142", "1"] in lines
    assert ["all", "10015", "4"] in lines
    assert lines[-1] == ["written", "to", str(tmp_path / "tfds/isic2018/4/1.0.0")]
    assert main(command) == 0
    assert "prepared before; remove that folder" in capsys.readouterr().out
    (folder / TRUTH_2018).unlink()
    command[4] = "5"
    assert main(command) == 1
    assert f"has no {TRUTH_2018}" in capsys.readouterr().err


def test_published_counts_add_up():
    assert sum(OFFICIAL["isic2018"].values()) == 10_015
    assert sum(OFFICIAL["isic2017"].values()) == 2_000
    assert sum(n for n in TABLE_1["isic2018"].values() if n is not None) == 9_925


# --- splits


def test_no_lesion_is_on_both_sides_of_a_split_by_group(tmp_path):
    labels = np.repeat([0, 1, 2], 8)
    lesions = np.repeat(np.arange(12), 2)
    lesions[[1, 9, 17]] = [20, 21, 22]  # single images
    folder = write_2018(tmp_path / "files", labels, lesions)
    prepare("isic2018", folder, size=2, data_dir=tmp_path / "tfds")
    source = load("isic2018/2", data_dir=str(tmp_path / "tfds"))
    config = TaskConfig(
        "isic2018/2",
        test_share=0.25,
        split_by="group",
        split_per_seed=True,
        num_clean=0,
        num_validation=3,
    )
    for seed in range(5):
        task = make_task(config, seed, source)
        assert len(task.test.labels) == 6
        test = set(source.train.groups[task.test.indices].tolist())
        rest = np.concatenate([task.train.indices, task.validation.indices])
        assert len(rest) == 18
        assert not test & set(source.train.groups[rest].tolist())
