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
from experiments.data.groups import split_groups
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
    "share": TaskConfig(test_share=0.2, noise="uniform:0.2"),
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


def test_halving_ranks_the_classes_of_training_and_validation_alike():
    source = numbered_source([1200] * 10)
    config = TaskConfig(imbalance="halving", num_clean=0, num_validation=1000, num_test=1000)
    tasks = [make_task(config, seed, source) for seed in range(5)]
    for task in tasks:
        train = np.array(counts(task.train))
        validation = np.array(counts(task.validation))
        assert np.sort(train).tolist() == [2, 4, 8, 16, 31, 62, 125, 250, 500, 1000]
        np.testing.assert_array_equal(validation, np.maximum(np.rint(train / 10), 1))
        assert counts(task.test) == [100] * 10
    assert len({str(counts(task.train)) for task in tasks}) == 5
    assert stack_tasks(tasks).train.labels.shape == (5, 1998)
    assert tasks[0].name == "numbered+halving"


def test_a_share_of_the_examples_for_the_test(digits):
    task = make_task(TaskConfig(test_share=0.2, num_test=7), 0, digits)
    assert len(task.test.labels) == round(0.2 * 1797)
    same = make_task(TaskConfig(num_test=round(0.2 * 1797)), 0, digits)
    np.testing.assert_array_equal(task.test.indices, same.test.indices)


def test_a_test_set_for_every_seed(digits):
    tasks = [make_task(TaskConfig(split_per_seed=True), seed, digits) for seed in range(4)]
    assert len({tuple(task.test.indices) for task in tasks}) == 4
    assert len({str(counts(task.test)) for task in tasks}) == 1
    assert stack_tasks(tasks).test.inputs.shape == (4, 400, 8, 8, 1)
    again = make_task(TaskConfig(split_per_seed=True), 2, digits)
    np.testing.assert_array_equal(again.test.indices, tasks[2].test.indices)


# --- groups


def grouped_source(sizes_of_class):
    """A source whose class c has groups of the given sizes."""
    source = numbered_source([sum(sizes) for sizes in sizes_of_class], num_classes=3)
    sizes = np.concatenate(sizes_of_class)
    groups = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return source._replace(train=source.train._replace(groups=groups))


SIZES_OF_GROUPS = {  # the examples that are lost: none, or one less than the class's largest group
    "single images fill up": ([[1] * 20 + [2] * 10 + [3] * 5, [1] * 9 + [4] * 8, [1] * 12], 0),
    "pairs and triples": ([[2] * 20, [3] * 12, [2, 3] * 10], 1 + 2 + 2),
    "one large group": ([[1] * 3 + [9] + [2] * 5, [1] * 20, [1] * 20], 8),
}


@pytest.mark.parametrize(("sizes", "num_lost"), SIZES_OF_GROUPS.values(), ids=SIZES_OF_GROUPS)
@pytest.mark.parametrize("per_seed", [False, True])
def test_no_group_is_in_the_test_set_and_another_split(sizes, num_lost, per_seed):
    source = grouped_source(sizes)
    num_examples = len(source.train.labels)
    config = TaskConfig(
        test_share=0.25, split_by="group", split_per_seed=per_seed, num_clean=6, num_validation=9
    )
    tasks = [make_task(config, seed, source) for seed in range(20)]
    for task in tasks:
        test = set(source.train.groups[task.test.indices].tolist())
        rest = np.concatenate([getattr(task, s).indices for s in ("train", "clean", "validation")])
        assert not test & set(source.train.groups[rest].tolist())
        assert len(task.test.labels) == round(0.25 * num_examples)
        assert len(rest) == num_examples - len(task.test.labels) - num_lost
    for split in SPLITS:
        assert len({str(counts(getattr(task, split), 3)) for task in tasks}) == 1
    num_test_sets = len({tuple(task.test.indices) for task in tasks})
    assert num_test_sets > 10 if per_seed else num_test_sets == 1
    stack_tasks(tasks)


def test_every_group_may_be_drawn():
    sizes = [1] * 6 + [2] * 3
    labels, groups = np.zeros(12, np.int32), np.repeat(np.arange(9), sizes)
    drawn = np.zeros(12)
    for seed in range(300):
        test, rest = split_groups(labels, groups, np.array([4]), seed)
        assert len(test) == 4
        assert len(rest) == 8
        drawn[test] += 1
    assert drawn.min() > 50
    np.testing.assert_array_equal(drawn[6::2], drawn[7::2])  # whole groups


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d._replace(groups=None), "'numbered' has no groups: split it by example"),
        (lambda d: d._replace(groups=d.groups[:5]), r"of shape \[60\], got int32 of shape \[5\]"),
        (lambda d: d._replace(groups=d.groups * 0.5), "must be integers"),
        (
            lambda d: d._replace(groups=d.groups * 0),
            "a group must have one class; .* classes 0 and",
        ),
        (
            lambda d: d._replace(groups=d.labels.copy()),
            "class 0 has 20 examples in 1 groups: too few to draw 5 of them by whole groups",
        ),
    ],
)
def test_groups_that_do_not_fit(spoil, message):
    source = grouped_source([[1] * 20] * 3)
    source = source._replace(train=spoil(source.train))
    with pytest.raises(ValueError, match=message):
        make_task(TaskConfig(split_by="group", test_share=0.25, num_clean=0), 0, source)


@pytest.mark.parametrize(
    "options", [{"test_share": 0.2}, {"split_by": "group"}, {"split_per_seed": True}]
)
def test_an_official_test_split_is_not_split_again(options):
    (field,) = options
    with pytest.raises(
        ValueError, match=f"{field}=.* 'numbered' has an official one.*leave {field}"
    ):
        make_task(TaskConfig(**options), 0, numbered_source([100] * 10, [7] * 10))


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
        ({"test_share": 0.0}, ValueError, r"test_share must lie strictly in \(0, 1\), got 0.0"),
        ({"test_share": np.nan}, ValueError, "test_share must lie strictly"),
        ({"split_by": "lesion"}, ValueError, r"split_by must be one of \('example', 'group'\)"),
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
        ({"test_share": 1e-4}, "test_share=0.0001 of 1797 examples is not a single one"),
        ({"split_by": "group"}, "'digits' has no groups"),
        ({"imbalance": "halving"}, "would be left with no example; 10 classes need larger ones"),
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
