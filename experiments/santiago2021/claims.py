"""What the paper says of its figures, as questions about the finished arms of an experiment.

A claim is written down once: where its arms are finished it is asked of every seed, and where they
are not the ledger lists it as not run. Axes: H settings, S seeds, E epochs, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.ledger import Entry, of_statements
from experiments.result import Result
from experiments.results import choose
from experiments.statements import Statement, statements_as_json

PAPER = "santiago2021"
Found = Mapping[str, Result]  # the finished arms by name
_ENDS = ("loss", "accuracy")
GPU = "a GPU: python -m experiments run {name} --preset paper"
# How the setting to compare is chosen. The paper has no validation set: it takes the best by test.
CHOICES = {"chosen on validation": "validation", "chosen by test error, as in the paper": "test"}


class Claim(NamedTuple):
    """A statement, where the paper makes it ("Fig. 2"), and how to ask it."""

    text: str
    place: str
    needs: tuple[str, ...]  # arms
    ask: Callable[[Found], np.ndarray]  # -> [S] booleans
    source: str = PAPER  # "control" for what the paper does not say


def statements_of(claims: Sequence[Claim], found: Found) -> list[Statement]:
    """The claims whose arms are finished, asked of every seed."""
    return [
        Statement(claim.text, np.asarray(claim.ask(found), bool), f"{claim.source}, {claim.place}")
        for claim in claims
        if set(claim.needs) <= set(found)
    ]


def printed_of(claims: Sequence[Claim], items: Mapping[str, str], cause: str) -> tuple[Entry, ...]:
    """The claims as entries that were not run, worded as `of_statements` words them."""
    unasked = [
        Statement(claim.text, np.zeros(0, bool), f"{claim.source}, {claim.place}")
        for claim in claims
    ]
    entries = of_statements(statements_as_json(unasked), PAPER, items)
    return tuple(entry._replace(ours="", cause=cause) for entry in entries)


def setting(result: Result, value: float) -> int:
    """The index of the setting whose scheme has this first value."""
    values = [config.scheme.values[0] for config in result.configs]
    return values.index(value)


def best(result: Result, measure: str, split: str = "validation") -> int:
    """The setting with the best mean of a measure at the end, on validation or on test data.

    By test data is the paper's way, for claims about its choice alone; nothing is chosen by it.
    """
    if split == "validation":
        return choose(result, measure)
    scores = result.history[f"{split}_{measure}"][:, :, -1].mean(axis=1)
    return 0 if np.all(np.isnan(scores)) else int(np.nanargmax(scores))


def error(result: Result, h: int, split: str = "test", measure: str = "accuracy") -> np.ndarray:
    """100 (1 - measure) along the epochs; [S, E]."""
    return 100 * (1 - result.history[f"{split}_{measure}"][h].astype(float))


def final_error(result: Result, h: int, measure: str = "accuracy") -> np.ndarray:
    """Of the test set, at the end; [S]."""
    return error(result, h, measure=measure)[:, -1]


def mean_early(curves: np.ndarray, share: float) -> np.ndarray:
    """Mean of curves [S, E] over the first part of the epochs; [S]."""
    count = max(1, round(share * curves.shape[1]))
    return curves[:, :count].mean(axis=1)


def class_weights(result: Result, h: int) -> np.ndarray:
    """Mean weights of the classes in every epoch; [S, E, C]."""
    return result.history["class_weights"][h].astype(float)


def spread(weights: np.ndarray) -> np.ndarray:
    """The largest less the smallest class weight of every epoch; [S, E]."""
    return np.nanmax(weights, axis=2) - np.nanmin(weights, axis=2)
