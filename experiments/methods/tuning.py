"""What a budget of tuning tries of a method, written as on the command line."""

import itertools
from collections.abc import Iterator, Mapping

from experiments.methods.records import Record
from experiments.tools.grammar import write_method


def tried_by(record: Record, choices: Mapping[str, str] | None = None) -> list[str]:
    """The method with every combination of the numbers that a budget tries.

    Example:
      >>> from experiments.methods.registry import SCHEMES
      >>> tried_by(SCHEMES["self_paced"])
      ['self_paced:2.5:1.05', 'self_paced:4:1.05']
    """
    tried = [parameter for parameter in record.parameters if parameter.tried]
    return [
        write_method(
            record.name,
            record,
            dict(zip([p.name for p in tried], numbers, strict=True)),
            choices or {},
        )
        for numbers in itertools.product(*(parameter.tried for parameter in tried))
    ]


def variants_of(record: Record) -> Iterator[tuple[str, dict[str, str]]]:
    """What is compared of a method: itself, or every choice of the options that are compared."""
    options = [option for option in record.options if option.is_compared]
    for chosen in itertools.product(*(option.choices for option in options)):
        choices = {option.name: choice for option, choice in zip(options, chosen, strict=True)}
        yield write_method(record.name, record, {}, choices), choices
