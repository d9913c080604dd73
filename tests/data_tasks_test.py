"""Tasks: splits without leaks, equal shapes over seeds, noise and imbalance where they belong."""

import itertools
import json

import numpy as np
import pytest

from experiments.data import (
    Dataset,
    Source,
    TaskConfig,
    check_disjoint,
    describe,
    load,
    make_task,
    stack_tasks,
)
from experiments.data.stratify import apportion, draw_per_class, spread_evenly

SPLITS = ("train", "clean", "validation", "test")
CONFIGS = {
    "plain": TaskConfig(),
    "noise": TaskConfig(noise="uniform:0.4"),
    "long_tail": TaskConfig(imbalance="long_tail:50", noise="background:0.4:3"),
    "step": TaskConfig(imbalance="step:10", num_train=700, num_clean=13),
    "4v9": TaskConfig(
        imbalance="4v9:0.9", num_train=110, num_clean=10, num_validation=40, noise="pairwise:0.2"
    ),
    "no clean set": TaskConfig(num_clean=0, num_validation=0, num_train=900),
}


def counts(examples, num_classes=10, field="true_labels"):
    return np.bincount(getattr(examples, field), minlength=num_classes).tolist()


def numbered_source(train_counts, test_counts=None, num_classes=10):
    """Inputs that are their own positions (test ones from 1,000,000 on), so that leaks show."""

    def dataset(class_counts, offset):
        labels = np.repeat(np.arange(num_classes, dtype=np.int32), class_counts)
        inputs = (np.arange(len(labels)) + offset)[:, None].astype(np.float32)
        return Dataset(inputs, labels, num_classes, "numbered")

    test = None if test_counts is None else dataset(test_counts, 1_000_000)
    return Source(dataset(train_counts, 0), test)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def config(request):
    return request.param


# --- properties of every task


def test_splits_never_share_an_example(config, digits):
    task = make_task(config, 0, digits)
    for first, second in itertools.combinations(SPLITS, 2):
        a, b = getattr(task, first).indices, getattr(task, second).indices
        assert not set(a.tolist()) & set(b.tolist())
    for split in SPLITS:
        indices = getattr(task, split).indices
        assert len(set(indices.tolist())) == len(indices)


def test_examples_come_from_the_source(config, digits):
    task = make_task(config, 0, digits)
    for split in SPLITS:
        examples = getattr(task, split)
        np.testing.assert_array_equal(examples.inputs, digits.train.inputs[examples.indices])
        truth = digits.train.labels[examples.indices]
        if config is CONFIGS["4v9"]:
            assert set(truth.tolist()) <= {4, 9}
            truth = truth == 9
        np.testing.assert_array_equal(examples.true_labels, truth)
        for field in ("labels", "true_labels", "indices"):
            assert getattr(examples, field).dtype == np.int32


def test_all_seeds_have_equal_shapes_and_true_class_counts(config, digits):
    tasks = [make_task(config, seed, digits) for seed in range(5)]
    for split in SPLITS:
        assert len({getattr(t, split).inputs.shape for t in tasks}) == 1
        assert len({str(counts(getattr(t, split))) for t in tasks}) == 1
    stacked = stack_tasks(tasks)
    assert stacked.train.inputs.shape == (5, *tasks[0].train.inputs.shape)
    for split, field in itertools.product(SPLITS, ("labels", "indices", "is_corrupted")):
        values = getattr(getattr(stacked, split), field)
        np.testing.assert_array_equal(values[3], getattr(getattr(tasks[3], split), field))


def test_a_seed_fixes_the_task_and_another_changes_it(config, digits):
    assert describe(make_task(config, 7, digits)) == describe(make_task(config, 7, digits))
    one, other = make_task(config, 7, digits), make_task(config, 8, digits)
    assert not np.array_equal(one.train.indices, other.train.indices)
    if config.num_clean:
        assert not np.array_equal(one.clean.indices, other.clean.indices)


def test_clean_and_test_labels_are_right_and_clean_is_balanced(config, digits):
    task = make_task(config, 0, digits)
    assert not task.clean.is_corrupted.any()
    assert not task.test.is_corrupted.any()
    clean = counts(task.clean, task.num_classes)
    assert sum(clean) == config.num_clean
    assert max(clean) - min(clean) <= 1


def test_the_test_split_of_a_set_is_one_for_all_seeds(config, digits):
    one, other = make_task(config, 0, digits), make_task(config, 1, digits)
    np.testing.assert_array_equal(one.test.indices, other.test.indices)


def test_noise_kinds_meet_the_same_split_at_one_seed(digits):
    quiet = make_task(TaskConfig(), 3, digits)
    noisy = make_task(TaskConfig(noise="uniform:0.4"), 3, digits)
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(quiet, split).indices, getattr(noisy, split).indices)


# --- the single rules


def test_default_sizes_and_stratification(digits):
    task = make_task(TaskConfig(), 0, digits)
    sizes = [len(getattr(task, split).labels) for split in SPLITS]
    assert sizes == [1797 - 50 - 300 - 400, 50, 300, 400]
    assert task.name == "digits"
    share = np.bincount(digits.train.labels) / 1797
    for split, size in (("test", 400), ("validation", 300)):
        assert np.all(np.abs(counts(getattr(task, split)) - share * size) < 1.5)


def test_noise_falls_on_train_and_validation(digits):
    task = make_task(TaskConfig(noise="uniform:0.4"), 0, digits)
    for examples in (task.train, task.validation):
        deviation = 4 * np.sqrt(0.24 / len(examples.labels))
        assert examples.is_corrupted.mean() == pytest.approx(0.4, abs=deviation)
    assert task.name == "digits+uniform:0.4"


def test_imbalance_falls_on_train_and_validation_alone():
    source = numbered_source([1000] * 10)
    task = make_task(
        TaskConfig(imbalance="long_tail:100", num_clean=100, num_validation=200, num_test=500),
        0,
        source,
    )
    profile = 100.0 ** (-np.arange(10) / 9)
    np.testing.assert_array_equal(counts(task.train), np.rint(920 * profile))
    np.testing.assert_array_equal(counts(task.validation), np.maximum(np.rint(20 * profile), 1))
    assert counts(task.clean) == [10] * 10
    assert counts(task.test) == [50] * 10


def test_num_train_is_a_stratified_subsample():
    task = make_task(TaskConfig(num_train=100), 0, numbered_source([500, 250] + [125] * 8))
    assert counts(task.train)[:2] == pytest.approx([100 * 4 / 14, 100 * 2 / 14], abs=2)
    assert len(task.train.labels) == 100


def test_an_official_test_split_is_kept_whole():
    task = make_task(TaskConfig(num_test=3), 0, numbered_source([100] * 10, [7] * 10))
    np.testing.assert_array_equal(task.test.inputs[:, 0], np.arange(70) + 1_000_000)
    np.testing.assert_array_equal(task.test.indices, np.arange(70))
    assert len(task.train.labels) == 1000 - 50 - 300


def test_four_against_nine_as_in_the_paper():
    source = numbered_source([6000] * 10, [980] * 10)
    config = TaskConfig(imbalance="4v9:0.995", num_clean=10, num_validation=300)
    task = make_task(config, 0, source)
    assert task.num_classes == 2
    assert counts(task.train, 2) == [20, 4970]
    assert counts(task.clean, 2) == [5, 5]
    assert counts(task.validation, 2) == [2, 298]
    assert counts(task.test, 2) == [980, 980]
    assert task.name == "numbered+4v9:0.995"
    for split, official in zip(SPLITS, (source.train,) * 3 + (source.test,), strict=True):
        examples = getattr(task, split)
        np.testing.assert_array_equal(
            np.array([4, 9])[examples.labels], official.labels[examples.indices]
        )


def test_a_small_two_class_validation_set_has_both_classes():
    source = numbered_source([6000] * 10, [10] * 10)
    task = make_task(TaskConfig(imbalance="4v9:0.995", num_clean=10, num_validation=5), 0, source)
    assert counts(task.validation, 2) == [1, 4]


def test_classes_that_never_occur_are_left_out_of_the_clean_set():
    task = make_task(TaskConfig(num_clean=9), 0, numbered_source([0] + [200] * 9))
    assert counts(task.clean) == [0] + [1] * 9


# --- errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_clean": -1}, ValueError, "num_clean must be at least 0, got -1"),
        ({"num_validation": -1}, ValueError, "num_validation must be at least 0"),
        ({"num_test": 0}, ValueError, "num_test must be at least 1"),
        ({"num_train": 0}, ValueError, "num_train must be at least 1"),
        ({"num_clean": 2.5}, TypeError, "num_clean must be an integer, got 2.5"),
        ({"num_clean": True}, TypeError, "num_clean must be an integer"),
        ({"noise": "salt"}, ValueError, "unknown noise 'salt'"),
        ({"imbalance": "tilt"}, ValueError, "unknown imbalance 'tilt'"),
    ],
)
def test_configs_are_checked_when_made(options, error, message):
    with pytest.raises(error, match=message):
        TaskConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_test": 2000}, "num_test=2000 is too large: 1797 examples are left for it"),
        ({"num_validation": 1500}, "num_validation=1500 is too large"),
        ({"num_train": 1500}, "num_train=1500 is too large"),
        ({"num_clean": 5}, "num_clean=5 cannot cover 10 classes; take 0 or at least 10"),
        ({"num_clean": 1390, "num_validation": 0}, "num_clean is too large: class"),
        ({"num_validation": 1347}, "left with no example of class 0; lower num_clean"),
        ({"imbalance": "long_tail:1000"}, "class 7 would be left with no example"),
        ({"imbalance": "4v9:0.995"}, "25 of class 4 and 4975 of class 9; there are"),
        ({"imbalance": "4v12:0.9", "num_train": 50}, "45 of class 12; there are"),
        (
            {"imbalance": "4v9:0.9", "num_train": 100, "num_clean": 20, "num_validation": 0},
            "left with no example of class 0; lower num_clean",
        ),
        ({"imbalance": "4v9:0.9", "num_train": 100, "num_clean": 30}, "num_clean is too large"),
        (
            {"imbalance": "4v9:0.9", "num_train": 100, "num_clean": 2, "num_validation": 1},
            "num_validation=1 cannot cover 2 classes",
        ),
        (
            {"imbalance": "4v9:0.9", "num_train": 100, "num_clean": 2},
            "num_validation is too large: class 1 has",
        ),
        ({"noise": "background:0.4:10"}, r"background must lie in 0 \.\. 9"),
    ],
)
def test_impossible_splits_say_what_to_change(options, message, digits):
    with pytest.raises(ValueError, match=message):
        make_task(TaskConfig(**options), 0, digits)


def test_sources_are_checked(digits):
    train = digits.train
    short = Source(train._replace(inputs=train.inputs[:5]), None)
    with pytest.raises(ValueError, match="'digits' has 5 inputs and 1797 labels"):
        make_task(TaskConfig(), 0, short)
    other = Source(train, train._replace(inputs=train.inputs[:, :4]))
    with pytest.raises(ValueError, match="splits of 'digits' differ in"):
        make_task(TaskConfig(), 0, other)


def test_overlaps_are_named():
    check_disjoint({"train": np.arange(5, 9), "clean": np.arange(5)})
    with pytest.raises(
        ValueError, match="the clean set overlaps the test set in 3 examples: 2, 3, 4; results"
    ):
        check_disjoint({"train": [9], "clean": np.arange(5), "test": np.arange(2, 8)})
    with pytest.raises(ValueError, match=r"in 20 examples: 0, 1, .*, 9, \.\.\.;"):
        check_disjoint({"clean": np.arange(20), "test": np.arange(20)})


def test_stacking_refuses_tasks_that_differ(digits):
    task = make_task(TaskConfig(), 0, digits)
    with pytest.raises(ValueError, match=r"shape of train\.inputs: \[\[1047, 8, 8, 1\], \[100"):
        stack_tasks([task, make_task(TaskConfig(num_train=100), 0, digits)])
    with pytest.raises(ValueError, match="differ in name"):
        stack_tasks([task, make_task(TaskConfig(noise="uniform:0.1"), 0, digits)])
    with pytest.raises(ValueError, match="at least one task"):
        stack_tasks([])


# --- the record


def test_the_record_pins_the_data(digits):
    task = make_task(TaskConfig(noise="uniform:0.4"), 0, digits)
    record = describe(task)
    assert json.loads(json.dumps(record)) == record
    train = record["train"]
    assert train["size"] == len(task.train.labels)
    assert train["class_counts"] == counts(task.train, field="labels")
    assert train["true_class_counts"] == counts(task.train)
    assert train["num_corrupted"] == np.sum(task.train.labels != task.train.true_labels)
    assert train["corruption_rate"] == train["num_corrupted"] / train["size"]

    labels = task.train.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    changed = describe(task._replace(train=task.train._replace(labels=labels)))
    assert changed["train"]["sha256"]["labels"] != train["sha256"]["labels"]
    assert changed["train"]["sha256"]["indices"] == train["sha256"]["indices"]


def test_the_record_of_an_empty_split_and_of_stacked_tasks(digits):
    task = make_task(TaskConfig(num_clean=0), 0, digits)
    assert describe(task)["clean"]["corruption_rate"] == 0.0
    with pytest.raises(ValueError, match="describe\\(\\) takes one task"):
        describe(stack_tasks([task]))


# --- helpers


def test_apportioning_by_hand():
    assert apportion(10, np.array([5, 3, 2])).tolist() == [5, 3, 2]
    assert apportion(4, np.array([1, 1, 1])).tolist() == [2, 1, 1]
    assert apportion(7, np.array([60, 30, 10])).tolist() == [4, 2, 1]
    assert apportion(0, np.array([0, 0])).tolist() == [0, 0]
    assert spread_evenly(7, np.array([9, 0, 9, 9])).tolist() == [3, 0, 2, 2]


def test_apportioning_never_asks_for_more_than_there_is():
    rng = np.random.default_rng(0)
    for _ in range(200):
        available = rng.integers(0, 6, 5)
        total = int(rng.integers(0, available.sum() + 1))
        shares = apportion(total, available)
        assert shares.sum() == total
        assert np.all(shares <= available)


def test_drawing_more_than_there_is():
    with pytest.raises(ValueError, match="class 1 has 1 examples and 2 are wanted"):
        draw_per_class(np.array([0, 0, 1]), np.array([1, 2]), 0)
