"""Many records of one kind as one record of arrays, so that what was measured is kept as arrays."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

Number = Any  # a number of one record, and an array [S] of them in the record of S stacked ones
Record = TypeVar("Record", bound=tuple)  # a NamedTuple of numbers and arrays


def stack(records: Iterable[Record]) -> Record:
    """One record whose fields are those of S records along a new first axis."""
    return _join(np.stack, records)


def concatenate(records: Iterable[Record]) -> Record:
    """One record whose fields are those of several records along their first axis."""
    return _join(np.concatenate, records)


def _join(join: Any, records: Iterable[Record]) -> Record:
    records = list(records)
    return type(records[0])(*(join(column) for column in zip(*records, strict=True)))
