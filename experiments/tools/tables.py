"""Tables as values, and as text."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table of text: cells are strings as they are shown."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""  # below it
    numbers: bool = True  # whether the columns between the first and the last stand to the right

    def __str__(self) -> str:
        table = align([self.header, *self.rows], numbers=self.numbers)
        return "\n".join(part for part in (self.title, table, self.note) if part)


def align(lines: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Columns padded to equal width, the first line a header.

    The first and the last column stand to the left; those between, which hold `numbers`, to the
    right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for i, line in enumerate(lines):
        cells = [
            cell.rjust(width) if numbers and 0 < j < len(widths) - 1 else cell.ljust(width)
            for j, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
        if i == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join(text)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of a Markdown page, the first line its header."""
    header, *rows = lines
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (header, ["---"] * len(header), *rows)
    )
