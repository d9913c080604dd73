"""What is said of a dataset, once."""

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.data.sets.image_sets import load_tfds
from experiments.data.sets.types import Source

Load = Callable[[str | None, str | None], Source]
"""Loads a set, given what the user wrote after its name (`DatasetRecord.suffix`) and the tfds
folder, each None by default."""


class DatasetRecord(NamedTuple):
    """A dataset that a configuration may name."""

    name: str
    load: Load
    summary: str
    source: str  # who made it
    access: str  # where its files come from
    num_classes: int | None = None  # None if it differs, as for any tfds set
    input_shape: tuple[int, ...] | None = None  # of one example
    class_names: tuple[str, ...] | None = None
    suffix: str = ""  # regular expression of what may follow the name; its one group goes to `load`
    suffix_text: str = ""  # the same as shown to the user, such as "[/SIZE]"

    @property
    def syntax(self) -> str:
        """How the set is written."""
        return self.name + self.suffix_text


FROM_TFDS = "prepared once by tensorflow_datasets"
EMBEDDED = "no files needed"


def tfds_record(name: str, summary: str, source: str, **known: Any) -> DatasetRecord:
    """The record of the tfds set of that name; `known` are further fields."""
    return DatasetRecord(
        name, lambda _, data_dir: load_tfds(name, data_dir), summary, source, FROM_TFDS, **known
    )
