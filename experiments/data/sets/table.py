"""Datasets by name."""

import re

from experiments.data.sets.any_tfds import ANY_TFDS
from experiments.data.sets.cifar import CIFAR10, CIFAR100
from experiments.data.sets.digits import DIGITS
from experiments.data.sets.isic import ISIC2017, ISIC2018
from experiments.data.sets.mnist import FASHION_MNIST, KMNIST, MNIST
from experiments.data.sets.record import DatasetRecord
from experiments.data.sets.toy import MOONS, OVERLAPPING, SEPARABLE
from experiments.data.sets.types import Source
from experiments.tools.names import unknown_name

DATASETS = (
    *(DIGITS, SEPARABLE, OVERLAPPING, MOONS),
    *(MNIST, FASHION_MNIST, KMNIST, CIFAR10, CIFAR100, ISIC2017, ISIC2018, ANY_TFDS),
)


def load(name: str, *, data_dir: str | None = None) -> Source:
    """Load a dataset.

    Args:
      name: of one of `DATASETS`, such as "digits" or "mnist", with what may follow it:
        "isic2018/128", "tfds:emnist/letters".
      data_dir: folder of prepared tfds sets; None leaves it to tfds. Other sets ignore it.

    Returns:
      A `Source`; its `test` is None for digits, toy sets and ISIC 2018, which has none with labels.

    Raises:
      ValueError: unknown names.
      FileNotFoundError: a set that was not prepared; the message says how to.
    """
    record, suffix = _find(name)
    return record.load(suffix, data_dir)


def class_names(name: str) -> tuple[str, ...] | None:
    """The names of a dataset's classes in the order of its labels; None if only numbers are known.

    What follows a name does not matter, and "tfds:cifar10" is "cifar10".
    """
    known = {record.name: record.class_names for record in DATASETS}
    return known.get(name.removeprefix("tfds:").partition("/")[0])


def _find(name: str) -> tuple[DatasetRecord, str | None]:
    """The record of a set, and what was written after its name."""
    for record in DATASETS:
        if match := re.fullmatch(re.escape(record.name) + record.suffix, name):
            return record, next(iter(match.groups()), None)
    raise unknown_name(name, [record.syntax for record in DATASETS], "dataset")
