"""What a paper says of a figure, put as a question to every seed of our run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.tools.tables import align


class Statement(NamedTuple):
    """What a paper reads off a figure, as a question about every seed."""

    text: str
    holds: np.ndarray  # [S] booleans, of the seeds on which it makes sense
    expected: str  # where the paper says so: "xu2021, Fig. 2a"

    @property
    def share(self) -> float:
        """The share of seeds on which it holds."""
        return float(np.mean(self.holds)) if len(self.holds) else float("nan")

    @property
    def verdict(self) -> str:
        """Yes on at least nine seeds in ten, no on at most one in two, partly in between."""
        if not len(self.holds):
            return "no seed to ask"
        return "yes" if self.share >= 0.9 else "partly" if self.share > 0.5 else "no"


def statements_table(statements: Sequence[Statement]) -> str:
    """The statements with their verdicts, aligned."""
    header = ["statement", "source", "seeds", "verdict"]
    body = [
        [s.text, s.expected, f"{int(np.sum(s.holds))} of {len(s.holds)}", s.verdict]
        for s in statements
    ]
    return align([header, *body], numbers=False)


def statements_as_json(statements: Sequence[Statement]) -> list[dict]:
    """For `summary.json`."""
    return [
        {
            "statement": s.text,
            "source": s.expected,
            "holds": int(np.sum(s.holds)),
            "seeds": len(s.holds),
            "verdict": s.verdict,
        }
        for s in statements
    ]
