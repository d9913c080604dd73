"""Progress: a bar that moves on a terminal, a line per finished part in a file or a pipe."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def follow(items: Iterable[T], label: str, unit: str) -> Iterator[T]:
    """The items, one after another, while it is shown how many are done.

    Without a terminal, `[2/5] LABEL ITEM: 1.3 s` is printed when an item is done; of a tuple, its
    names and whole numbers.
    """
    items = list(items)
    bar = tqdm(items, desc=label, unit=unit, disable=None)
    if not bar.disable:
        yield from bar
        return
    for number, item in enumerate(items, start=1):
        start = time.monotonic()
        yield item
        say(f"[{number}/{len(items)}] {label} {_name(item)}: {time.monotonic() - start:.1f} s")


def _name(item: object) -> str:
    parts = item if isinstance(item, tuple) else (item,)
    return " ".join(str(part) for part in parts if isinstance(part, str | int))


def say(line: str) -> None:
    """Prints a line where progress is shown, at once."""
    print(line, file=sys.stderr, flush=True)
