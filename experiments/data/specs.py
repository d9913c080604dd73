"""Ways to spoil data as the command line writes them, such as "uniform:0.4".

A way is one record, a `SpecKind`; how it is written, read, listed and refused follows from it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.data.stratify import Seed
from experiments.tools.names import quoting, unknown_name


class SpecValue(NamedTuple):
    """A number that follows the name of a kind."""

    name: str  # of the function's argument
    check: Callable[[float], None] | None = None  # raises for a bad value
    default: float | None = None  # None where it must be given
    type: Callable[[str], float] = float
    label: str = ""  # how the user is shown it; by default its name

    @property
    def syntax(self) -> str:
        """How it is written, with the colon."""
        text = ":" + (self.label or self.name).upper()
        return text if self.default is None else f"[{text}]"


class SpecKind(NamedTuple):
    """A way to spoil data: its name, the values that may follow it, and what it does."""

    name: str
    values: tuple[SpecValue, ...]
    function: Callable[..., Any]  # (labels, num_classes, seed=, **values)
    summary: str

    @property
    def syntax(self) -> str:
        """How it is written."""
        return self.name + "".join(value.syntax for value in self.values)


class Spec(NamedTuple):
    """A text that was read: call it with labels [N] in place of the kind's function."""

    kind: SpecKind
    values: Mapping[str, float]

    def __call__(self, labels: np.ndarray, num_classes: int, seed: Seed, **options: Any) -> Any:
        """What the kind's function returns."""
        return self.kind.function(labels, num_classes, seed=seed, **self.values, **options)


def read_spec(spec: str, kinds: Mapping[str, SpecKind], what: str) -> Spec:
    """Reads "NAME[:VALUE...]"; ValueError for unknown names, missing, surplus and bad values."""
    name, *texts = spec.split(":")
    kind = kinds.get(name)
    if kind is None or not _num_needed(kind) <= len(texts) <= len(kind.values):
        raise unknown_name(spec, [kind.syntax for kind in kinds.values()], what)
    given = {v.name: read_value(v, text, spec) for v, text in zip(kind.values, texts, strict=False)}
    defaults = {v.name: v.default for v in kind.values if v.default is not None}
    return Spec(kind, defaults | given)


def read_value(value: SpecValue, text: str, spec: str) -> float:
    """The number that `text`, a part of `spec`, stands for."""
    try:
        number = value.type(text)
    except ValueError:
        wanted = "an integer" if value.type is int else "a number"
        raise ValueError(f"{text!r} in {spec!r} is not {wanted}") from None
    if value.check is not None:
        with quoting(spec):
            value.check(number)
    return number


def _num_needed(kind: SpecKind) -> int:
    return sum(value.default is None for value in kind.values)
