"""The claims by the module that checks them, found by name, and one module's run."""

import difflib
import importlib
import shlex
from collections.abc import Callable, Sequence

from theory_checks.records import Check

# Module -> the IDs of its claims, in the order of the pages.
CLAIMS: dict[str, tuple[str, ...]] = {
    "ren2018.metagradient": ("R-E12", "R-E9"),
    "ren2018.lemma1": ("R-L1", "R-L1 equality", "R-L1 normalized"),
    "ren2018.theorem2": ("R-T2", "R-T2 exponent"),
    "ren2018.timing": ("R-3x",),
    "santiago2021.quadratic_program": (
        "S-E7",
        "S-E9",
        "S-E9 float32",
        "S-E9 consequences",
        "S-E9 gradient scale",
    ),
    "santiago2021.first_order": ("S-E46", "S-E46 batch", "S-E46 ranking"),
    "santiago2021.regularizer": ("S-E11", "S-E11 self-paced"),
    "santiago2021.proxy": ("S-proxy",),
    "xu2021.tails": ("X-C", "X-C multi-class"),
    "xu2021.dual": ("X-D duality", "X-D conjugate"),
    "xu2021.claim1": ("X-C1 descent", "X-C1 path"),
    "xu2021.proposition1": ("X-P1 explicit", "X-P1 rate", "X-P1 speed"),
    "xu2021.proposition2": (
        "X-P2 separable part",
        "X-P2 solution",
        "X-P2 risk",
        "X-P2 rate",
    ),
    "xu2021.proposition3": ("X-P3 asymptotic", "X-P3 finite", "X-P3 network"),
    "xu2021.theorem1": (
        "X-T1 bound",
        "X-T1 printed",
        "X-T1 structure",
        "X-T1 alignment",
        "X-T1 divergence",
        "X-A6",
    ),
    "xu2021.lemmas": ("X-A1", "X-A2", "X-A3", "X-A4"),
    "xu2021.descent_lemma": ("X-A5", "X-A5 regret"),
    "xu2021.networks": ("X-A7 complexity", "X-A7 second moment", "X-A8"),
    "xu2021.joint": (
        "X-S5a direction",
        "X-S5a concentration",
        "X-S5a correlation",
        "X-S5a first step",
    ),
    "xu2021.regularization": (
        "X-S5b l2",
        "X-S5b early stopping",
        "X-S5b dropout",
        "X-S5b networks",
    ),
    "zhou2022.bias_variance": ("Z-E2",),
    "zhou2022.noise": ("Z-P1", "Z-P2"),
    "zhou2022.imbalance": ("Z-P3", "Z-P3k", "Z-PA1"),
    "zhou2022.margin": ("Z-P4", "Z-P5", "Z-P5-descent"),
    "zhou2022.uncertainty": ("Z-E7", "Z-E8", "Z-E78"),
    "zhou2022.theorem1": ("Z-T1",),
    "zhou2022.theorem_a1": ("Z-TA1 bound", "Z-TA1"),
    "zhou2022.theorem2": (
        "Z-T2",
        "Z-T2 corrected",
        "Z-P6",
        "Z-T2 trade-off",
        "Z-P6 order",
        "Z-T2 divergence",
    ),
    "zhou2022.discussion": ("Z-S5 noise", "Z-S5 imbalance", "Z-S5 absent"),
}


def all_claims() -> list[str]:
    """Every claim's ID, in the order of the pages."""
    return [claim for claims in CLAIMS.values() for claim in claims]


def select(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The modules to run for some names, each with the claims asked for, in the pages' order.

    A name is a claim's ID ("X-T1 bound"), the first word of several ("X-T1"), a module
    ("xu2021.theorem1") or a paper ("xu2021"). No name at all is everything.

    Raises:
      ValueError: a name is unknown.
    """
    if not names:
        return dict(CLAIMS)
    asked = {claim for name in names for claim in _claims_of(name)}
    chosen = {
        module: tuple(claim for claim in claims if claim in asked)
        for module, claims in CLAIMS.items()
    }
    return {module: claims for module, claims in chosen.items() if claims}


def run_module(module: str, preset: str) -> list[Check]:
    """The outcomes of one module's claims; "smoke" takes seconds, "full" up to some minutes.

    Only this module is imported, by its name.

    Raises:
      RuntimeError: its claims are not those that the catalogue lists.
    """
    checks: Callable[[str], list[Check]] = importlib.import_module(f"theory_checks.{module}").checks
    outcomes = checks(preset)
    made = tuple(check.id for check in outcomes)
    if made != CLAIMS[module]:
        raise RuntimeError(
            f"theory_checks.{module} makes the claims {made}; theory_checks/catalogue.py lists "
            f"{CLAIMS[module]}: correct CLAIMS there"
        )
    return outcomes


def _claims_of(name: str) -> list[str]:
    """The claims a name stands for."""
    pairs = [(module, claim) for module, claims in CLAIMS.items() for claim in claims]
    if any(name == claim for _, claim in pairs):
        return [name]
    found = [claim for module, claim in pairs if name in _other_names(module, claim)]
    if found:
        return found
    known = sorted({n for module, claim in pairs for n in (claim, *_other_names(module, claim))})
    lower = {k.lower(): k for k in known}
    close = [lower[k] for k in difflib.get_close_matches(name.lower(), lower, n=3)]
    close = close or [k for k in known if name in k.split(" ")]
    hint = f"; did you mean {' or '.join(map(shlex.quote, close))}?" if close else ""
    raise ValueError(f"unknown name {name!r}{hint} (--list shows every claim and its module)")


def _other_names(module: str, claim: str) -> tuple[str, str, str]:
    """What a claim is also run by: its first word, its module, its paper."""
    return claim.partition(" ")[0], module, module.partition(".")[0]
