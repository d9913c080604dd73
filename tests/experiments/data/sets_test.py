"""Toy sets, and datasets by name."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import norm

from experiments.commands import catalogue
from experiments.data import load, moons, overlapping, separable
from experiments.data.sets import table
from experiments.data.sets.record import DatasetRecord
from experiments.data.sets.table import DATASETS, class_names
from experiments.data.sets.toy import DIRECTION
from experiments.data.sets.types import Dataset, Source

MAKERS = [separable, overlapping, moons]


def best_margin(inputs, labels):
    """Largest m with y <x, w> >= m for some |w|_inf <= 1, by linear programming."""
    signed = (2 * labels - 1)[:, None] * inputs
    constraints = np.hstack([-signed, np.ones((len(signed), 1))])
    bounds = [(-1, 1), (-1, 1), (None, None)]
    result = linprog([0, 0, -1], A_ub=constraints, b_ub=np.zeros(len(signed)), bounds=bounds)
    return result.x[2]


@pytest.mark.parametrize("maker", MAKERS)
def test_shapes_types_and_seeds(maker):
    data = maker(101, seed=3)
    assert data.inputs.shape == (101, 2)
    assert data.inputs.dtype == np.float32
    assert data.labels.dtype == np.int32
    assert data.num_classes == 2
    assert abs(np.bincount(data.labels, minlength=2) @ [1, -1]) == 1  # balanced but for one
    np.testing.assert_array_equal(data.inputs, maker(101, seed=3).inputs)
    assert not np.array_equal(data.inputs, maker(101, seed=4).inputs)


@pytest.mark.parametrize("margin", [0.1, 0.5, 6.0])
def test_separable_keeps_its_margin_through_the_origin(margin):
    data = separable(400, seed=0, margin=margin)
    along = (2 * data.labels - 1) * (data.inputs @ DIRECTION)
    assert along.min() >= margin - 1e-6
    assert along.min() < margin + 0.2  # the margin is used, not exceeded by far
    assert best_margin(data.inputs, data.labels) > 0


def test_overlapping_blobs_and_moons_are_not_separable():
    for data in (overlapping(400, seed=0), moons(400, seed=0)):
        assert best_margin(data.inputs, data.labels) == pytest.approx(0, abs=1e-9)


def test_overlapping_has_the_stated_error():
    data = overlapping(20_000, seed=0, distance=2.0)
    wrong = (data.inputs @ DIRECTION > 0) != data.labels
    assert wrong.mean() == pytest.approx(norm.cdf(-1), abs=4 * np.sqrt(0.16 * 0.84 / 20_000))


def test_moons_lie_on_centred_half_circles():
    data = moons(1000, seed=0, noise=0.0)
    centres = np.array([[-0.5, -0.25], [0.5, 0.25]])[data.labels]
    np.testing.assert_allclose(np.linalg.norm(data.inputs - centres, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(data.inputs.mean(axis=0), 0, atol=0.01 + 0.14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: separable(1, 0), "num_examples must be at least 2, got 1"),
        (lambda: separable(10, 0, margin=0), "margin must be positive"),
        (lambda: separable(10, 0, margin=np.nan), "margin must be positive"),
        (lambda: overlapping(10, 0, distance=-1), "distance must be non-negative"),
        (lambda: moons(10, 0, noise=np.inf), "noise must be non-negative"),
    ],
)
def test_toy_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_load_digits():
    train, test = load("digits")
    assert test is None
    assert train.inputs.shape == (1797, 8, 8, 1)
    assert train.inputs.dtype == np.uint8
    assert (train.inputs.min(), train.inputs.max()) == (0, 255)
    assert len(np.unique(train.inputs)) == 17
    np.testing.assert_array_equal(np.unique(train.labels), np.arange(10))


@pytest.mark.parametrize("name", ["separable", "overlapping", "moons"])
def test_load_toy_sets(name):
    train, test = load(name)
    assert test is None
    assert train.inputs.shape == (2000, 2)
    assert train.name == name
    np.testing.assert_array_equal(train.inputs, load(name).train.inputs)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"known are digits, .*tfds:NAME; did you mean 'mnist'\?"):
        load("mnits")
    with pytest.raises(ValueError, match=r"unknown dataset 'qqqq'; known are digits, .*tfds:NAME$"):
        load("qqqq")


def test_a_new_dataset_is_one_record(monkeypatch):
    inputs, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1], np.int32)
    kittens = DatasetRecord(
        "kittens",
        lambda size, data_dir: Source(Dataset(inputs, labels, 2, f"{size} {data_dir}"), None),
        summary="kittens that tests made up",
        source="nobody",
        access="no files needed",
        class_names=("asleep", "awake"),
        suffix=r"(?:/(\d+))?",
        suffix_text="[/SIZE]",
    )
    with pytest.raises(ValueError, match="unknown dataset 'kittens'"):
        load("kittens")
    for module in ("experiments.data.sets.table", "experiments.commands"):
        monkeypatch.setattr(f"{module}.DATASETS", (*DATASETS, kittens))
    assert load("kittens").train.name == "None None"
    assert load("kittens/32", data_dir="here").train.name == "32 here"
    assert class_names("kittens/32") == ("asleep", "awake")
    assert "kittens that tests made up" in catalogue()
    with pytest.raises(
        ValueError, match=r"unknown dataset 'kittens:32'; .*tfds:NAME, kittens\[/SIZE\]$"
    ):
        load("kittens:32")


def test_records_say_what_is_loaded():
    assert len({record.name for record in DATASETS}) == len(DATASETS)
    for name in ("digits", "separable", "overlapping", "moons"):
        (record,) = (record for record in table.DATASETS if record.name == name)
        data = load(name).train
        assert (data.num_classes, data.inputs.shape[1:], data.name) == (
            *(record.num_classes, record.input_shape, name),
        )


def test_names_of_classes():
    assert class_names("mnist") is None
    assert class_names("tfds:unheard_of") is None
    for name in ("cifar10", "tfds:cifar10"):
        assert class_names(name) == (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        )
    assert class_names("isic2018/32") == ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    for record in DATASETS:
        assert record.class_names is None or len(record.class_names) == record.num_classes
