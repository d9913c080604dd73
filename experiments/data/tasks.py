"""Learning tasks: one dataset split, thinned out and corrupted, ready to train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.data.checks import check_disjoint, check_source
from experiments.data.corruption import parse_noise
from experiments.data.groups import check_groups, split_groups
from experiments.data.imbalance import parse_imbalance
from experiments.data.sets.table import load
from experiments.data.sets.types import Dataset, Source
from experiments.data.specs import Spec
from experiments.data.stratify import Seed, apportion, class_counts, draw_per_class, spread_evenly
from experiments.data.two_classes import TwoClass, two_class_imbalance

_TWO_CLASS_EXAMPLES = 5000  # ren2018, section 4.1
_SPLITS_BY = ("example", "group")


class Examples(NamedTuple):
    """One split of a task.

    `inputs` [N, ...] are the source's; `labels` int32 [N] are those given to the learner, perhaps
    wrong, and `true_labels` int32 [N] the right ones; `indices` int32 [N] are positions in the
    source's arrays. Stacked tasks have a leading seed axis.
    """

    inputs: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray
    indices: np.ndarray

    @property
    def is_corrupted(self) -> np.ndarray:
        """Where the given label is wrong: bool [N]."""
        return self.labels != self.true_labels


class Task(NamedTuple):
    """Four splits without a common example.

    `train` and `validation` share noise and imbalance; `clean`, the small trusted set, is balanced
    and correct; `test` is correct. Indices count in the source's training split, except those of
    an official test split. Where the source has groups (images of one lesion), `split_by="group"`
    keeps those of the test set out of the other splits.
    """

    train: Examples
    clean: Examples
    validation: Examples
    test: Examples
    num_classes: int
    name: str


@dataclass(frozen=True)
class TaskConfig:
    """What to learn, and how its training data are spoiled."""

    dataset: str = "digits"
    """Its name; `python -m experiments list` shows them all."""
    data_dir: str | None = None
    """Folder of prepared tfds sets; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    noise: str = "none"
    """Wrong labels, such as uniform:0.4; see `list`."""
    imbalance: str = "none"
    """Class imbalance, such as long_tail:100, or 4v9:0.995 for two classes alone; see `list`."""
    num_clean: int = 50
    """Trusted examples, class-balanced; 0 for none. Under 4v9 they are part of num_train."""
    num_validation: int = 300
    """Validation examples, before imbalance."""
    num_test: int = 400
    """Test examples to split off; ignored where the dataset has an official test split."""
    num_train: int | None = None
    """Training examples, before imbalance; by default all that are left, and 5000 under 4v9."""
    test_share: float | None = None
    """Share of the examples to split off for the test, instead of num_test."""
    split_by: str = "example"
    """How to split off the test set: by example, or by group (all images of one lesion)."""
    split_per_seed: bool = False
    """Whether every seed splits off a test set of its own; otherwise they share one."""

    def __post_init__(self):
        parse_noise(self.noise)
        parse_imbalance(self.imbalance)
        for field, minimum in (("num_clean", 0), ("num_validation", 0), ("num_test", 1)):
            _check_count(field, getattr(self, field), minimum)
        if self.num_train is not None:
            _check_count("num_train", self.num_train, 1)
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise ValueError(f"test_share must lie strictly in (0, 1), got {self.test_share}")
        if self.split_by not in _SPLITS_BY:
            raise ValueError(f"split_by must be one of {_SPLITS_BY}, got {self.split_by!r}")


class _Pool(NamedTuple):
    """Candidates for the training split: positions in the source, and the labels of all of it."""

    indices: np.ndarray
    labels: np.ndarray
    num_classes: int

    def counts(self) -> np.ndarray:
        return class_counts(self.labels[self.indices], self.num_classes)

    def draw(self, wanted: np.ndarray, seed: Seed, field: str) -> np.ndarray:
        """Draw `wanted[c]` positions of each class; an error names the config's `field`."""
        try:
            return self.indices[draw_per_class(self.labels[self.indices], wanted, seed)]
        except ValueError as error:
            raise ValueError(f"{field} is too large: {error}") from None

    def draw_stratified(self, total: int, seed: Seed, field: str) -> np.ndarray:
        """Draw `total` positions with the pool's class proportions."""
        if total > len(self.indices):
            raise ValueError(
                f"{field}={total} is too large: {len(self.indices)} examples are left for it"
            )
        return self.draw(apportion(total, self.counts()), seed, field)

    def draw_balanced(self, total: int, seed: Seed, field: str) -> np.ndarray:
        """Draw `total` positions, as many of each class as of any other."""
        counts = self.counts()
        num_present = np.count_nonzero(counts)
        if total == 0:
            return self.indices[:0]
        if total < num_present:
            raise ValueError(
                f"{field}={total} cannot cover {num_present} classes; "
                f"take 0 or at least {num_present}"
            )
        return self.draw(spread_evenly(total, counts), seed, field)

    def without(self, indices: np.ndarray) -> "_Pool":
        return self._replace(indices=np.setdiff1d(self.indices, indices))


class _Splits(NamedTuple):
    """Positions in the source's training split."""

    train: np.ndarray
    clean: np.ndarray
    validation: np.ndarray


def make_task(config: TaskConfig, seed: int, source: Source | None = None) -> Task:
    """Split a dataset and spoil its training data.

    Order: the test set (official, or split off, stratified and in the same way for every seed
    unless `split_per_seed`), the clean set (class-balanced), the validation set (stratified), the
    training set (the rest, or a stratified `num_train` of it); then imbalance and label noise on
    training and validation data alone. Each stage has its own random stream, so at one seed two
    noise kinds meet the same split. For one config all seeds give equal shapes.

    A test set split off by group shares no group with the other splits; a few examples of classes
    without enough small groups may then be in no split (`split_groups`). Clean, validation and
    training sets may share groups. "halving" ranks the classes by seed, in the same order for
    training and validation data.

    Under "4v9:SHARE" classes 4 and 9 alone are used, as 0 and 1: `num_train` examples hold the
    clean ones, validation has the same share of the majority (at least one example of each
    class), and the test set is every 4 and 9 of the source's.

    Args:
      config: what to build.
      seed: non-negative; chooses the examples and the wrong labels.
      source: data to use instead of loading `config.dataset`.

    Returns:
      A `Task`.
    """
    if source is None:
        source = load(config.dataset, data_dir=config.data_dir)
    check_source(source)
    noise, imbalance = parse_noise(config.noise), parse_imbalance(config.imbalance)
    split_seed, train_noise_seed, validation_noise_seed, test_seed = np.random.SeedSequence(
        seed
    ).spawn(4)

    pool_indices, test_set, test_indices = _split_test(
        config, source, test_seed if config.split_per_seed else 0
    )
    if isinstance(imbalance, TwoClass):
        labels, test_labels = map(imbalance.relabel, (source.train.labels, test_set.labels))
        pool = _Pool(pool_indices[labels[pool_indices] >= 0], labels, num_classes=2)
        test_indices = test_indices[test_labels[test_indices] >= 0]
        splits = _split_two_classes(config, imbalance, pool, source.train.labels, split_seed)
    else:
        labels, test_labels = source.train.labels, test_set.labels
        pool = _Pool(pool_indices, labels, source.train.num_classes)
        splits = _split(config, imbalance, pool, split_seed)
    _check_every_class_is_trained(pool, splits.train)
    own_test = {} if source.test is not None else {"test": test_indices}
    check_disjoint(splits._asdict() | own_test)

    train = _examples(source.train, labels, splits.train)
    validation = _examples(source.train, labels, splits.validation)
    return Task(
        train=_corrupt(train, noise, pool.num_classes, train_noise_seed),
        clean=_examples(source.train, labels, splits.clean),
        validation=_corrupt(validation, noise, pool.num_classes, validation_noise_seed),
        test=_examples(test_set, test_labels, test_indices),
        num_classes=pool.num_classes,
        name="+".join(
            [source.train.name, *(s for s in (config.imbalance, config.noise) if s != "none")]
        ),
    )


def stack_tasks(tasks: Sequence[Task]) -> Task:
    """Stack tasks of equal shapes (one config, several seeds) along a new leading axis."""
    if not tasks:
        raise ValueError("stack_tasks needs at least one task")
    first = tasks[0]
    for field in ("num_classes", "name"):
        values = [getattr(task, field) for task in tasks]
        if len(set(values)) > 1:
            raise ValueError(f"tasks differ in {field}: {values}; stack tasks of one config")
    stacked = {}
    for split in ("train", "clean", "validation", "test"):
        columns = zip(*(getattr(task, split) for task in tasks), strict=True)
        stacked[split] = Examples(
            *(_stack(f"{split}.{f}", c) for f, c in zip(Examples._fields, columns, strict=True))
        )
    return Task(**stacked, num_classes=first.num_classes, name=first.name)


def _stack(field: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = [list(array.shape) for array in arrays]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"tasks differ in the shape of {field}: {shapes}; use one config")
    return np.stack(arrays)


def _examples(dataset: Dataset, labels: np.ndarray, indices: np.ndarray) -> Examples:
    """Gather examples with the right labels; `labels` are those of the whole dataset."""
    truth = labels[indices].astype(np.int32)
    return Examples(dataset.inputs[indices], truth.copy(), truth, indices.astype(np.int32))


def _corrupt(examples: Examples, noise: Spec, num_classes: int, seed: Seed) -> Examples:
    return examples._replace(labels=noise(examples.true_labels, num_classes, seed).labels)


def _split_test(
    config: TaskConfig, source: Source, seed: Seed
) -> tuple[np.ndarray, Dataset, np.ndarray]:
    """Return positions left for training, the dataset that holds the test set, its positions."""
    labels = source.train.labels
    everything = np.arange(len(labels))
    if source.test is not None:
        _check_split_is_official(config, source.train.name)
        return everything, source.test, np.arange(len(source.test.labels))
    pool = _Pool(everything, labels, source.train.num_classes)
    num_test, field = config.num_test, "num_test"
    if config.test_share is not None:
        num_test, field = round(config.test_share * len(labels)), "test_share"
        if num_test == 0:
            raise ValueError(
                f"test_share={config.test_share} of {len(labels)} examples is not a single one"
            )
    if num_test == len(labels):
        raise ValueError(
            f"{field} takes all {num_test} examples for the test; leave some to train on"
        )
    if config.split_by == "group" and num_test < len(labels):
        groups = check_groups(source.train)
        test, rest = split_groups(labels, groups, apportion(num_test, pool.counts()), seed)
        return rest, source.train, test
    test = pool.draw_stratified(num_test, seed, field)
    return pool.without(test).indices, source.train, test


def _check_split_is_official(config: TaskConfig, name: str) -> None:
    for field in ("test_share", "split_by", "split_per_seed"):
        value = getattr(config, field)
        if value != getattr(TaskConfig, field):
            raise ValueError(
                f"{field}={value!r} would split off a test set, but {name!r} has an official one, "
                f"which is kept whole; leave {field} at {getattr(TaskConfig, field)!r}"
            )


def _split(
    config: TaskConfig, imbalance: Spec, pool: _Pool, seed: np.random.SeedSequence
) -> _Splits:
    seeds = seed.spawn(6)
    clean = pool.draw_balanced(config.num_clean, seeds[0], "num_clean")
    rest = pool.without(clean)
    validation = rest.draw_stratified(config.num_validation, seeds[1], "num_validation")
    rest = rest.without(validation)
    train = rest.indices
    if config.num_train is not None:
        train = rest.draw_stratified(config.num_train, seeds[2], "num_train")
    keep = imbalance(pool.labels[train], pool.num_classes, seeds[3], order_seed=seeds[5])
    keep_validation = imbalance(
        pool.labels[validation], pool.num_classes, seeds[4], order_seed=seeds[5], keep_one=True
    )
    return _Splits(train[keep], clean, validation[keep_validation])


def _split_two_classes(
    config: TaskConfig,
    imbalance: TwoClass,
    pool: _Pool,
    source_labels: np.ndarray,
    seed: np.random.SeedSequence,
) -> _Splits:
    seeds = seed.spawn(3)
    chosen = pool.indices[
        two_class_imbalance(
            source_labels[pool.indices],
            seeds[0],
            minority=imbalance.minority,
            majority=imbalance.majority,
            num_examples=config.num_train or _TWO_CLASS_EXAMPLES,
            majority_share=imbalance.majority_share,
        )
    ]
    chosen_pool = pool._replace(indices=chosen)
    clean = chosen_pool.draw_balanced(config.num_clean, seeds[1], "num_clean")
    rest = pool.without(chosen)
    validation = rest.draw(
        _two_class_validation(config.num_validation, imbalance), seeds[2], "num_validation"
    )
    return _Splits(chosen_pool.without(clean).indices, clean, validation)


def _two_class_validation(total: int, imbalance: TwoClass) -> np.ndarray:
    """Return the class counts [2] of a validation set in which neither class is missing."""
    if total == 0:
        return np.zeros(2, np.int64)
    if total == 1:
        raise ValueError("num_validation=1 cannot cover 2 classes; take 0 or at least 2")
    num_majority = np.clip(round(total * imbalance.majority_share), 1, total - 1)
    return np.array([total - num_majority, num_majority])


def _check_every_class_is_trained(pool: _Pool, train: np.ndarray) -> None:
    counts = class_counts(pool.labels[train], pool.num_classes)
    missing = np.flatnonzero((counts == 0) & (pool.counts() > 0))
    if missing.size:
        raise ValueError(
            f"the training set would be left with no example of class {missing[0]}; "
            "lower num_clean or num_validation, or raise num_train"
        )


def _check_count(field: str, value: int, minimum: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{field} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{field} must be at least {minimum}, got {value}")
