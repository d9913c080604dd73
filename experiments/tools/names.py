"""Names that a user types: looked up, or refused with a guess at the one that was meant."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def quoting(text: str) -> Iterator[None]:
    """What is refused inside is a part of `text`: the error says so."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}, in {text!r}") from None


def lookup(name: str, known: Mapping[str, T], kind: str) -> T:
    """`known[name]`; ValueError if there is none (`unknown_name`)."""
    if name not in known:
        raise unknown_name(name, known, kind)
    return known[name]


def unknown_name(name: str, known: Iterable[str], kind: str) -> ValueError:
    """The error that lists the known names and guesses the one that was meant."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"unknown {kind} {name!r}; known are {', '.join(known)}{hint}")
