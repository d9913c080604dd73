"""What a check reports: a claim, its status, and measured numbers beside their bounds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

STATUSES = {
    "EXACT": "an identity or inequality with explicit constants, asserted to round-off",
    "EXACT-CORR": "not true or not defined as printed; the corrected form is asserted",
    "CONST": "an order of magnitude; only its rate can be tested",
    "LIMIT": "asymptotic; approach and a loose final tolerance",
    "TREND": "an empirical tendency; reported",
    "CONJ": "called a conjecture by the paper; reported",
    "FALSE-AS-PRINTED": "a counterexample, and the corrected statement",
}


class Measured(NamedTuple):
    """A measured number, with the bound it must not exceed (None: reported only)."""

    quantity: str
    value: float
    bound: float | None = None

    @property
    def margin(self) -> float:
        """Room left below the bound, as a share of it; negative is a failure, as is NaN.

        A count that must be zero has no room: infinite or, failed, minus infinite.
        """
        if self.bound is None:
            return math.inf
        if math.isnan(self.value):
            return -math.inf
        if self.bound == 0:
            return math.inf if self.value <= 0 else -math.inf
        return (self.bound - self.value) / abs(self.bound)


class Plot(NamedTuple):
    """One figure of a check: curves by name, each (x values, y values)."""

    xlabel: str
    ylabel: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: str = ""  # which axes are logarithmic: "", "x", "y" or "xy"
    joined: bool = True  # points by lines


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of checking one claim.

    `control` is measured by the same code where an assumption is broken or the statement altered:
    at least one of its rows must leave its bound, or the check cannot tell right from wrong.
    """

    id: str
    statement: str
    status: str
    rows: tuple[Measured, ...]
    assumptions: str = ""
    control: tuple[Measured, ...] = ()
    erratum: str = ""  # what is wrong as printed, and what holds instead, in two sentences
    plot: Plot | None = None

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}; got {self.status!r}")

    @property
    def labelled_rows(self) -> list[tuple[str, Measured]]:
        """What is measured, those of the control marked as such, with its row."""
        own = [(row.quantity, row) for row in self.rows]
        return own + [(f"control: {row.quantity}", row) for row in self.control]

    @property
    def worst_margin(self) -> float:
        """The smallest margin of all rows; infinite if nothing is asserted."""
        return min((row.margin for row in self.rows), default=math.inf)

    @property
    def failing(self) -> list[str]:
        """What is measured by the rows that leave their bounds."""
        return [row.quantity for row in self.rows if row.margin < 0]

    @property
    def control_is_negative(self) -> bool:
        """Whether the control fails, as it must; true of a check without one."""
        return not self.control or bool(min(row.margin for row in self.control) < 0)

    @property
    def passed(self) -> bool:
        """Whether every number is within its bound, and the control's are not."""
        return bool(self.worst_margin >= 0 and self.control_is_negative)

    @property
    def verdict(self) -> str:
        """In a word or two; a tendency of which nothing is asserted is reported, not confirmed."""
        if self.worst_margin < 0:
            return "fails"
        if self.status in ("TREND", "CONJ"):
            if self.erratum:
                return "not as printed"
            if all(row.bound is None for row in self.rows):
                return "reported"
        return "holds"

    def report(self) -> str:
        """The numbers as an aligned table, then a verdict in one line."""
        cells = [
            (name, f"{row.value + 0.0:.3g}", "" if row.bound is None else f"<= {row.bound:.3g}")
            for name, row in self.labelled_rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            f"  {quantity:<{widths[0]}}  {value:>{widths[1]}}  {bound}".rstrip()
            for quantity, value, bound in cells
        ]
        verdict = f"{'passed' if self.passed else 'FAILED'}  {self.id}  {self.status}"
        if math.isfinite(self.worst_margin):
            verdict += f"  (worst margin: {100 * self.worst_margin:.3g} % of its bound)"
        if self.control:
            verdict += "; control negative" if self.control_is_negative else "; CONTROL PASSED"
        return "\n".join([f"{self.id}: {self.statement}", *lines, verdict])
