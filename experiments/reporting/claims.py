"""What a paper says of its figures and tables, as questions to a finished run.

A claim is written down once: where what it needs was measured it becomes a statement about every
seed, and where it was not the ledger lists it as not run, in the same words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.ledger import Entry, of_statements
from experiments.reporting.statements import Statement, statements_as_json


class Claim(NamedTuple):
    """A statement, where a paper makes it ("Fig. 2"), and how to ask it."""

    text: str
    place: str
    needs: tuple[str, ...]  # names of what must have been found
    ask: Callable[[Mapping[str, Any]], np.ndarray]  # all that was found, by name -> [S] booleans
    is_control: bool = False  # the paper does not say it


def statements_of(paper: str, claims: Sequence[Claim], found: Mapping[str, Any]) -> list[Statement]:
    """The claims that can be asked, asked of every seed."""
    return [
        Statement(claim.text, np.asarray(claim.ask(found), bool), _source(paper, claim))
        for claim in claims
        if set(claim.needs) <= set(found)
    ]


def not_run(
    paper: str, claims: Sequence[Claim], items: Mapping[str, str], cause: str
) -> tuple[Entry, ...]:
    """The paper's claims as entries that were not run."""
    nobody = np.zeros(0, bool)
    unasked = [Statement(claim.text, nobody, _source(paper, claim)) for claim in claims]
    entries = of_statements(statements_as_json(unasked), paper, items)
    return tuple(entry._replace(ours="", cause=cause) for entry in entries)


def _source(paper: str, claim: Claim) -> str:
    return f"control, {claim.place}" if claim.is_control else f"{paper}, {claim.place}"
