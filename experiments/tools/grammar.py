"""How methods are named on the command line.

A method is written `NAME[:VALUE...][:KEY=VALUE...]`, several joined by `+` to a chain: numbers in
the order of the method's parameters, or by name, and choices by name: `low:0.1:solver=osqp`. A
function of one's own is named by its file, `my_file.py:my_scheme:0.5`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from experiments.tools.names import lookup

_TINIEST, _LARGEST = 1.1755e-38, 3.4028e38  # normal numbers in single precision


class Parameter(NamedTuple):
    """A number of a method. Those that are not static may differ between runs of one program."""

    name: str
    default: float | None  # None: it must be given
    tried: tuple[float, ...] = ()  # by a budget of tuning; if empty, the default alone
    is_count: bool = False  # a whole number, static
    is_static: bool = False


class Option(NamedTuple):
    """A choice of a method; the first is the default."""

    name: str
    choices: tuple[str, ...]
    is_compared: bool = False  # whether every choice is compared, or the default alone


class Settable(Protocol):
    """What a name stands for."""

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...

    @property
    def options(self) -> tuple[Option, ...]: ...


class Term(NamedTuple):
    """A method of a chain, with its settings."""

    name: str
    numbers: tuple[tuple[str, float | None], ...]  # None where it may vary between runs
    choices: tuple[tuple[str, str], ...]


class Parsed(NamedTuple):
    """A parsed text: the methods that are chained, and their values."""

    terms: tuple[Term, ...]
    values: tuple[float, ...]  # those that may vary between runs, in order

    @property
    def names(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(term.name for term in self.terms)

    def settings(self, values: Sequence[Any]) -> list[dict[str, Any]]:
        """The settings of every method, with `values` (possibly traced) in the place of its own."""
        remaining = iter(values)
        return [
            {name: next(remaining) if n is None else n for name, n in term.numbers}
            | dict(term.choices)
            for term in self.terms
        ]


def parse_methods(text: str, find: Callable[[str], Settable]) -> Parsed:
    """Reads a text; `find` knows the names. Refuses unknown names, settings and choices."""
    terms, varying = [], []
    for part in split_chain(text):
        name, settings = split_settings(part)
        if not name:
            raise ValueError(f"a name is missing in {text!r}; write NAME[:VALUE...][+NAME...]")
        entry = find(name)
        given = _given(part, name, settings, entry)
        numbers = [(p, _value(p, given, part, name, entry)) for p in entry.parameters]
        fixed = tuple((p.name, n if _is_static(p) else None) for p, n in numbers)
        choices = tuple((o.name, given.get(o.name, o.choices[0])) for o in entry.options)
        terms.append(Term(name, fixed, choices))
        varying += [n for p, n in numbers if not _is_static(p)]
    return Parsed(tuple(terms), tuple(varying))


def write_method(
    name: str, entry: Settable, numbers: Mapping[str, float], choices: Mapping[str, str]
) -> str:
    """The text of a method with these settings, as short as it can be; `parse_methods` reads it."""
    last = max((i + 1 for i, p in enumerate(entry.parameters) if p.name in numbers), default=0)
    values = [_written_number(numbers.get(p.name, p.default), p) for p in entry.parameters[:last]]
    others = {o.name: choices.get(o.name, o.choices[0]) for o in entry.options}
    chosen = [f"{o.name}={others[o.name]}" for o in entry.options if others[o.name] != o.choices[0]]
    return ":".join([name, *values, *chosen])


def _written_number(value: float | None, parameter: Parameter) -> str:
    """As short as it can be without becoming another number."""
    if value is None:
        raise ValueError(f"{parameter.name} has no default: give it")
    short = f"{value:g}"
    written = short if float(short) == value else repr(value)
    return written.replace("e+0", "e").replace("e+", "e")


def split_chain(text: str) -> list[str]:
    """The parts that `+` joins; that of a number such as 1e+6 joins nothing."""
    return re.split(r"\+(?!\d)|(?<![\d.][eE])\+", text)


def split_settings(part: str) -> tuple[str, list[str]]:
    """A method's name and its settings; the name of a function in a file has two parts."""
    name, *settings = part.split(":")
    if name.endswith(".py") and settings:
        return f"{name}:{settings[0]}", settings[1:]
    return name, settings


def _given(part: str, name: str, settings: list[str], entry: Settable) -> dict[str, str]:
    """What was written for the parameters and options, by name."""
    known = {setting.name: setting for setting in (*entry.parameters, *entry.options)}
    given: dict[str, str] = {}
    for position, text in enumerate(settings):
        key, equals, value = text.partition("=")
        if not equals:
            if position >= len(entry.parameters):
                raise ValueError(f"{part!r} has too many values; {_written(name, entry)}")
            if position and "=" in settings[position - 1]:
                raise ValueError(f"{part!r}: {text!r} follows a name; {_written(name, entry)}")
            key, value = entry.parameters[position].name, text
        elif not known:
            raise ValueError(f"{part!r}: {name} has no settings; got {key!r}")
        setting = lookup(key, known, f"setting of {name}")
        if key in given:
            raise ValueError(f"{part!r} gives {key!r} twice; {_written(name, entry)}")
        if isinstance(setting, Option):
            lookup(value, dict.fromkeys(setting.choices), f"{key} of {name}")
        given[key] = value
    return given


def _value(
    parameter: Parameter, given: Mapping[str, str], part: str, name: str, entry: Settable
) -> float:
    """The parameter's number as given, or its default."""
    text = given.get(parameter.name)
    if text is not None:
        return _number(text, part, parameter)
    if parameter.default is None:
        raise ValueError(f"{part!r} lacks {parameter.name!r}; {_written(name, entry)}")
    return parameter.default


def _number(text: str, part: str, parameter: Parameter) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {part!r} is not a number") from None
    if parameter.is_count and not number.is_integer():
        raise ValueError(f"{parameter.name} must be a whole number; got {text!r} in {part!r}")
    if number and math.isfinite(number) and not _TINIEST <= abs(number) <= _LARGEST:
        raise ValueError(
            f"{text!r} in {part!r} is beyond single precision: its size must lie in "
            f"[{_TINIEST:g}, {_LARGEST:g}], or be 0"
        )
    return int(number) if _is_static(parameter) and number.is_integer() else number


def _is_static(parameter: Parameter) -> bool:
    return parameter.is_static or parameter.is_count


def _written(name: str, entry: Settable) -> str:
    parameters = (p.name.upper() for p in entry.parameters)
    options = (f"{o.name}={'|'.join(o.choices)}" for o in entry.options)
    return f"{name} is written {':'.join([name, *parameters, *options])}"
