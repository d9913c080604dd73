"""What the paper reads off Figures 1 and 2, asked of the `difficulty_report.statistics` of sets.

_Found are, by set ("clean", "noise", "imbalance"), the statistics of every seed, [S], by name.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.reporting.claims import Claim
from experiments.zhou2022.claims import added_claim

ITEMS = {
    "Figure 1": "generalization errors of clean and noisy examples, and by category",
    "Figure 2": "generalization error against average margin and epistemic uncertainty",
}
SETS_OF_FIGURE_2 = {"clean": "no wrong labels", "noise": "10 % wrong labels"}

_Found = Mapping[str, Mapping[str, np.ndarray]]


def difficulty_claims() -> list[Claim]:
    """All claims; each needs its set."""
    return [
        *_figure_1_claims(),
        *_figure_2_claims("clean", _RIGHTLY, _WRONGLY),
        *_figure_2_claims("noise", _CLEAN, _NOISY),
    ]


def _figure_1_claims() -> list[Claim]:
    return [
        Claim(
            "10 % noise: the noisy examples' mean error is larger than the clean ones'",
            "Figure 1",
            "Fig. 1a",
            lambda found: found["noise"]["mean error, noisy"] > found["noise"]["mean error, clean"],
            needs=("noise",),
        ),
        Claim(
            "10 : 1: the rarer half of the categories holds a larger share of large errors",
            "Figure 1",
            "Fig. 1b",
            lambda found: (
                found["imbalance"]["rarer half's share"] > found["imbalance"]["larger half's share"]
            ),
            needs=("imbalance",),
        ),
        Claim(
            "10 : 1: the rarer a category, the larger its share of large errors (rank correlation "
            "> 0)",
            "Figure 1",
            "Fig. 1b",
            lambda found: found["imbalance"]["Spearman, share and rank"] > 0,
            needs=("imbalance",),
        ),
    ]


class _Part(NamedTuple):
    """A part of a set: its name among the statistics, and in a sentence."""

    name: str
    words: str


_RIGHTLY = _Part("predicted rightly", "the examples predicted rightly")
_WRONGLY = _Part("predicted wrongly", "those predicted wrongly")
_CLEAN = _Part("clean", "the clean examples")
_NOISY = _Part("noisy", "the noisy examples")


def _figure_2_claims(name: str, easy: _Part, hard: _Part) -> list[Claim]:
    """Of a set, whose easy and hard examples the uncertainty orders in opposite ways."""
    lead = SETS_OF_FIGURE_2[name]

    def says(text: str, place: str, ask: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> Claim:
        return Claim(
            f"{lead}: {text}", "Figure 2", place, lambda found: ask(found[name]), needs=(name,)
        )

    def added(text: str, ask: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> Claim:
        return added_claim(
            f"{lead}: {text}", "Figure 2", lambda found: ask(found[name]), needs=(name,)
        )

    return [
        says(
            "of two examples mostly the one with the larger average margin has the smaller error",
            "Fig. 2a",
            lambda own: own["pairs agreeing"] > 0.5,
        ),
        says(
            "average margin and error do not order the examples in the same way throughout",
            "Fig. 2a",
            lambda own: own["pairs agreeing"] < 1,
        ),
        says(
            "linear correlation of average margin and error is negative",
            "Fig. 2a",
            lambda own: own["Pearson, margin, all"] < 0,
        ),
        says(
            "rank correlation of average margin and error is negative",
            "Fig. 2a",
            lambda own: own["Spearman, margin, all"] < 0,
        ),
        says(
            f"rank correlation of uncertainty and error is positive among {easy.words}",
            "Fig. 2b",
            lambda own: own[f"Spearman, uncertainty, {easy.name}"] > 0,
        ),
        says(
            f"rank correlation of uncertainty and error is negative among {hard.words}",
            "Fig. 2b",
            lambda own: own[f"Spearman, uncertainty, {hard.name}"] < 0,
        ),
        added(
            "rank correlation of uncertainty and error is positive overall",
            lambda own: own["Spearman, uncertainty, all"] > 0,
        ),
        *(
            added(
                f"rank correlation of average margin and error is negative among those {part.name}",
                lambda own, part=part: own[f"Spearman, margin, {part.name}"] < 0,
            )
            for part in (easy, hard)
        ),
    ]
