"""Two classes alone, most examples from one of them: "4v9:0.995" is one four to 199 nines."""

import re
from dataclasses import dataclass

import numpy as np

from experiments.data.checks import check_labels
from experiments.data.specs import SpecKind, SpecValue, read_value
from experiments.data.stratify import Seed, class_counts, draw_per_class
from experiments.tools.names import quoting


@dataclass(frozen=True)
class TwoClass:
    """Two classes alone, relabelled 0 (minority) and 1; see `two_class_imbalance`."""

    minority: int
    majority: int
    majority_share: float

    def __post_init__(self):
        _check_classes(self.minority, self.majority)
        _check_share(self.majority_share)

    def relabel(self, labels: np.ndarray) -> np.ndarray:
        """Return int32 [N]: 0 for the minority class, 1 for the majority, -1 for any other."""
        relabelled = np.full(len(labels), -1, np.int32)
        relabelled[labels == self.minority] = 0
        relabelled[labels == self.majority] = 1
        return relabelled


def two_class_imbalance(
    labels: np.ndarray,
    seed: Seed,
    *,
    minority: int = 4,
    majority: int = 9,
    num_examples: int = 5000,
    majority_share: float,
) -> np.ndarray:
    """Choose `num_examples` of two classes, a given share of them from `majority`.

    Ren et al., 2018, section 4.1: MNIST's 4 against 9; a share of 0.995 is 25 fours, 4975 nines.
    """
    _check_classes(minority, majority)
    num_classes = max(int(np.max(labels, initial=0)), minority, majority) + 1
    labels = check_labels(labels, num_classes)
    wanted = np.zeros(num_classes, np.int64)
    wanted[[minority, majority]] = two_class_counts(num_examples, majority_share)
    available = class_counts(labels, num_classes)
    if np.any(wanted > available):
        raise ValueError(
            f"{num_examples} examples at a majority share of {majority_share} take "
            f"{wanted[minority]} of class {minority} and {wanted[majority]} of class {majority}; "
            f"there are {available[minority]} and {available[majority]}: ask for fewer examples"
        )
    return draw_per_class(labels, wanted, seed)


def two_class_counts(num_examples: int, majority_share: float) -> tuple[int, int]:
    """Return how many of `num_examples` fall to the minority and to the majority class."""
    _check_share(majority_share)
    num_majority = round(num_examples * majority_share)
    if not 0 < num_majority < num_examples:
        raise ValueError(
            f"{num_examples} examples at a majority share of {majority_share} leave one class with "
            "no example; ask for more examples or a share nearer to one half"
        )
    return num_examples - num_majority, num_majority


TWO_CLASSES = SpecKind(
    "4v9",
    (SpecValue("majority_share", label="share"),),
    two_class_imbalance,
    "two classes alone, here 4 and 9; SHARE is that of the second",
)


def read_two_classes(imbalance: str) -> TwoClass | None:
    """The two classes of an imbalance such as "4v9:0.995" (4 the minority); None for any other."""
    match = re.fullmatch(r"(\d+)v(\d+):([^:]*)", imbalance)
    if match is None:
        return None
    (share,) = TWO_CLASSES.values
    number = read_value(share, match[3], imbalance)
    with quoting(imbalance):
        return TwoClass(int(match[1]), int(match[2]), number)


def _check_classes(minority: int, majority: int) -> None:
    if minority == majority or min(minority, majority) < 0:
        raise ValueError(f"two different classes are needed, got {minority} and {majority}")


def _check_share(majority_share: float) -> None:
    if not 0 < majority_share < 1:  # also refuses NaN
        raise ValueError(f"the majority share must lie strictly in (0, 1), got {majority_share}")
