"""What a paper says of its figures and tables, as questions that a finished run answers.

A claim is written down once: where what it needs was measured it is asked of every seed, and where
it was not the ledger lists it as not run, in the same words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

YES, PARTLY, NO, NOBODY = "yes", "partly", "no", "no seed to ask"


class Claim(NamedTuple):
    """A statement of a paper about one of its figures or tables.

    A control is a statement of ours: it is asked and shown, but it is no entry of the ledger.
    """

    text: str
    item: str  # the figure or table that it belongs to: "Figure 2"
    place: str  # where the paper makes it: "Fig. 2a", "Sec. 4.3"
    ask: Callable[[Mapping[str, Any]], np.ndarray]  # all that was found, by name -> [S] booleans
    cause: str = ""  # why we do not find it, where we do not
    needs: tuple[str, ...] = ()  # names of what must have been found
    is_control: bool = False
    role: str = "control"  # of a statement of ours, where it is something else: "ablation"


class Answer(NamedTuple):
    """A claim, and on which seeds it holds."""

    claim: Claim
    holds: np.ndarray  # [S] booleans, of the seeds on which the question makes sense

    @property
    def count(self) -> int:
        """The number of seeds on which it holds."""
        return int(np.sum(self.holds))

    @property
    def verdict(self) -> str:
        """Yes on at least nine seeds in ten, no on at most one in two, partly in between."""
        if not len(self.holds):
            return NOBODY
        share = float(np.mean(self.holds))
        return YES if share >= 0.9 else PARTLY if share > 0.5 else NO


def answers(claims: Sequence[Claim], found: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The claims that can be asked, asked of every seed."""
    return tuple(
        Answer(claim, np.asarray(claim.ask(found), bool))
        for claim in claims
        if set(claim.needs) <= set(found)
    )


def source(claim: Claim, paper: str) -> str:
    """Who says it, and where: "xu2021, Fig. 2a" or "control"."""
    says = claim.role if claim.is_control else paper
    return f"{says}, {claim.place}" if claim.place else says


def answers_as_json(found: Sequence[Answer], paper: str) -> list[dict]:
    """For `summary.json`."""
    return [
        {
            "statement": answer.claim.text,
            "source": source(answer.claim, paper),
            "holds": answer.count,
            "seeds": len(answer.holds),
            "verdict": answer.verdict,
        }
        for answer in found
    ]
