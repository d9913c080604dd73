"""The checks by name. Each returns the outcomes of one or more claims at a preset."""

from collections.abc import Callable

from theory_checks import low_qp, ren_metagrad
from theory_checks.records import Check

# name -> checks of a preset, "smoke" (seconds) or "full"
CHECKS: dict[str, Callable[[str], list[Check]]] = {
    "low_qp": low_qp.checks,
    "ren_metagrad": ren_metagrad.checks,
}
