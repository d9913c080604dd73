"""The checks by name. Each returns the outcomes of one or more claims at a preset."""

from collections.abc import Callable

from theory_checks.records import Check
from theory_checks.ren2018 import lemma1, metagradient, theorem2, timing
from theory_checks.santiago2021 import first_order, proxy, quadratic_program, regularizer
from theory_checks.xu2021 import (
    claim1,
    descent_lemma,
    dual,
    joint,
    lemmas,
    networks,
    proposition1,
    proposition2,
    proposition3,
    regularization,
    tails,
)
from theory_checks.xu2021 import theorem1 as xu_theorem1
from theory_checks.zhou2022 import (
    bias_variance,
    discussion,
    imbalance,
    margin,
    noise,
    theorem_a1,
    uncertainty,
)
from theory_checks.zhou2022 import theorem1 as zhou_theorem1
from theory_checks.zhou2022 import (
    theorem2 as zhou_theorem2,
)

# "ren2018.lemma1" -> checks of a preset, "smoke" (seconds) or "full"
CHECKS: dict[str, Callable[[str], list[Check]]] = {
    module.__name__.partition(".")[2]: module.checks
    for module in (
        metagradient,
        lemma1,
        theorem2,
        timing,
        quadratic_program,
        first_order,
        regularizer,
        proxy,
        tails,
        dual,
        claim1,
        proposition1,
        proposition2,
        proposition3,
        xu_theorem1,
        lemmas,
        descent_lemma,
        networks,
        joint,
        regularization,
        bias_variance,
        noise,
        imbalance,
        margin,
        uncertainty,
        zhou_theorem1,
        theorem_a1,
        zhou_theorem2,
        discussion,
    )
}


def run_module(name: str, preset: str) -> list[Check]:
    """The outcomes of one module, for a process of its own."""
    return CHECKS[name](preset)
