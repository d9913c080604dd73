"""How methods are named on the command line: `name[:value[:value]]`, chained by `+`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from experiments.tools.names import lookup


class Parameter(NamedTuple):
    """A hyperparameter. Numbers that are not static may differ between runs of one program."""

    name: str
    default: float
    is_static: bool = False


class Entry(Protocol):
    """What a registry holds under a name."""

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...


class Parsed(NamedTuple):
    """A parsed text: which entries are chained, and their values."""

    names: tuple[str, ...]
    static: tuple[tuple[float | None, ...], ...]  # per entry and parameter; None where it varies
    values: tuple[float, ...]  # those that may vary between runs, in order

    def arguments(self, values: Sequence[Any]) -> list[list[Any]]:
        """The values of every entry, with `values` (possibly traced) in the place of its own."""
        remaining = iter(values)
        return [[next(remaining) if v is None else v for v in static] for static in self.static]


def parse(text: str, registry: Mapping[str, Entry], kind: str) -> Parsed:
    """Reads a text against a registry; refuses unknown names and surplus values."""
    names, static, varying = [], [], []
    for part in text.split("+"):
        name, *texts = part.split(":")
        parameters = lookup(name, registry, kind).parameters
        if len(texts) > len(parameters):
            known = ":".join([name, *(p.name.upper() for p in parameters)])
            raise ValueError(f"{part!r} has too many values; {name} is written {known}")
        numbers = [_number(value, part) for value in texts]
        numbers += [p.default for p in parameters[len(texts) :]]
        pairs = list(zip(parameters, numbers, strict=True))
        names.append(name)
        static.append(tuple(n if p.is_static else None for p, n in pairs))
        varying += [n for p, n in pairs if not p.is_static]
    return Parsed(tuple(names), tuple(static), tuple(varying))


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {spec!r} is not a number") from None
