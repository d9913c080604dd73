"""The checks by name. Each returns the outcomes of one or more claims at a preset."""

from collections.abc import Callable

from theory_checks import (
    descent_lemma,
    low_firstorder,
    low_proxy,
    low_qp,
    low_regularizer,
    ren_lemma1,
    ren_metagrad,
    ren_thm2,
    ren_timing,
    xu_claim1,
    xu_dual,
    xu_joint,
    xu_lemmas,
    xu_networks,
    xu_prop1,
    xu_prop2,
    xu_prop3,
    xu_regularization,
    xu_tails,
    xu_thm1,
    zhou_biasvar,
    zhou_discussion,
    zhou_imbalance,
    zhou_margin,
    zhou_noise,
    zhou_thm1,
    zhou_thm2,
    zhou_thm_a1,
    zhou_uncertainty,
)
from theory_checks.records import Check

# name -> checks of a preset, "smoke" (seconds) or "full"
CHECKS: dict[str, Callable[[str], list[Check]]] = {
    module.__name__.rpartition(".")[2]: module.checks
    for module in (
        ren_metagrad,
        ren_lemma1,
        ren_thm2,
        ren_timing,
        low_qp,
        low_firstorder,
        low_regularizer,
        low_proxy,
        xu_tails,
        xu_dual,
        xu_claim1,
        xu_prop1,
        xu_prop2,
        xu_prop3,
        xu_thm1,
        xu_lemmas,
        descent_lemma,
        xu_networks,
        xu_joint,
        xu_regularization,
        zhou_biasvar,
        zhou_noise,
        zhou_imbalance,
        zhou_margin,
        zhou_uncertainty,
        zhou_thm1,
        zhou_thm_a1,
        zhou_thm2,
        zhou_discussion,
    )
}


def run_module(name: str, preset: str) -> list[Check]:
    """The outcomes of one module, for a process of its own."""
    return CHECKS[name](preset)
