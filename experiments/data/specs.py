"""Label noise and class imbalance written as short texts, such as "uniform:0.4"."""

import re
from dataclasses import dataclass

import numpy as np

from experiments.data import corruption, imbalance
from experiments.data.checks import check_labels, check_rate, check_ratio
from experiments.data.corruption import Corrupted
from experiments.data.stratify import Seed


@dataclass(frozen=True)
class NoNoise:
    """Labels stay as they are."""

    def __call__(self, labels: np.ndarray, num_classes: int, seed: Seed) -> Corrupted:
        """Return the labels, none corrupted."""
        labels = check_labels(labels, num_classes)
        return Corrupted(labels, np.zeros(len(labels), bool))


@dataclass(frozen=True)
class UniformNoise:
    """See `uniform_flip`."""

    rate: float

    def __post_init__(self):
        check_rate(self.rate)

    def __call__(self, labels: np.ndarray, num_classes: int, seed: Seed) -> Corrupted:
        """Corrupt `labels` [N]."""
        return corruption.uniform_flip(labels, num_classes, self.rate, seed)


@dataclass(frozen=True)
class BackgroundNoise:
    """See `background_flip`."""

    rate: float
    background: int = 0

    def __post_init__(self):
        check_rate(self.rate)

    def __call__(self, labels: np.ndarray, num_classes: int, seed: Seed) -> Corrupted:
        """Corrupt `labels` [N]."""
        return corruption.background_flip(
            labels, num_classes, self.rate, seed, background=self.background
        )


@dataclass(frozen=True)
class PairwiseNoise:
    """See `pairwise_flip`."""

    rate: float

    def __post_init__(self):
        check_rate(self.rate)

    def __call__(self, labels: np.ndarray, num_classes: int, seed: Seed) -> Corrupted:
        """Corrupt `labels` [N]."""
        return corruption.pairwise_flip(labels, num_classes, self.rate, seed)


@dataclass(frozen=True)
class NoImbalance:
    """Every example is kept."""

    def __call__(
        self,
        labels: np.ndarray,
        num_classes: int,
        seed: Seed,
        *,
        order_seed: Seed | None = None,
        keep_one: bool = False,
    ) -> np.ndarray:
        """Return all positions."""
        return np.arange(len(labels))


@dataclass(frozen=True)
class LongTail:
    """See `long_tail`."""

    ratio: float

    def __post_init__(self):
        check_ratio(self.ratio)

    def __call__(
        self,
        labels: np.ndarray,
        num_classes: int,
        seed: Seed,
        *,
        order_seed: Seed | None = None,
        keep_one: bool = False,
    ) -> np.ndarray:
        """Return the sorted positions to keep."""
        return imbalance.long_tail(labels, num_classes, self.ratio, seed, keep_one=keep_one)


@dataclass(frozen=True)
class Step:
    """See `step_imbalance`."""

    ratio: float

    def __post_init__(self):
        check_ratio(self.ratio)

    def __call__(
        self,
        labels: np.ndarray,
        num_classes: int,
        seed: Seed,
        *,
        order_seed: Seed | None = None,
        keep_one: bool = False,
    ) -> np.ndarray:
        """Return the sorted positions to keep."""
        return imbalance.step_imbalance(labels, num_classes, self.ratio, seed, keep_one=keep_one)


@dataclass(frozen=True)
class Halving:
    """See `halving`. Profiles that rank the classes by index ignore `order_seed`."""

    def __call__(
        self,
        labels: np.ndarray,
        num_classes: int,
        seed: Seed,
        *,
        order_seed: Seed | None = None,
        keep_one: bool = False,
    ) -> np.ndarray:
        """Return the sorted positions to keep."""
        return imbalance.halving(
            labels, num_classes, seed, order_seed=order_seed, keep_one=keep_one
        )


@dataclass(frozen=True)
class TwoClass:
    """Two classes alone, relabelled 0 (minority) and 1; see `two_class_imbalance`."""

    minority: int
    majority: int
    majority_share: float

    def __post_init__(self):
        if self.minority == self.majority:
            raise ValueError(f"two different classes are needed, got {self.minority} twice")
        if not 0 < self.majority_share < 1:
            raise ValueError(
                f"the majority share must lie strictly in (0, 1), got {self.majority_share}"
            )

    def relabel(self, labels: np.ndarray) -> np.ndarray:
        """Return int32 [N]: 0 for the minority class, 1 for the majority, -1 for any other."""
        relabelled = np.full(len(labels), -1, np.int32)
        relabelled[labels == self.minority] = 0
        relabelled[labels == self.majority] = 1
        return relabelled


Noise = NoNoise | UniformNoise | BackgroundNoise | PairwiseNoise
ClassProfile = NoImbalance | LongTail | Step | Halving


def parse_noise(spec: str) -> Noise:
    """Read "none", "uniform:RATE", "background:RATE[:CLASS]" or "pairwise:RATE"."""
    match spec.split(":"):
        case ["none"]:
            return NoNoise()
        case ["uniform", rate]:
            return UniformNoise(_number(rate, spec))
        case ["background", rate]:
            return BackgroundNoise(_number(rate, spec))
        case ["background", rate, background]:
            return BackgroundNoise(_number(rate, spec), _number(background, spec, int))
        case ["pairwise", rate]:
            return PairwiseNoise(_number(rate, spec))
    raise ValueError(
        f"unknown noise {spec!r}; known: none, uniform:RATE, background:RATE, "
        "background:RATE:CLASS, pairwise:RATE (for example uniform:0.4)"
    )


def parse_imbalance(spec: str) -> ClassProfile | TwoClass:
    """Read "none", "long_tail:RATIO", "step:RATIO", "halving" or "4v9:SHARE" (4 the minority)."""
    match spec.split(":"):
        case ["none"]:
            return NoImbalance()
        case ["long_tail", ratio]:
            return LongTail(_number(ratio, spec))
        case ["step", ratio]:
            return Step(_number(ratio, spec))
        case ["halving"]:
            return Halving()
        case [pair, share] if classes := re.fullmatch(r"(\d+)v(\d+)", pair):
            minority, majority = map(int, classes.groups())
            return TwoClass(minority, majority, _number(share, spec))
    raise ValueError(
        f"unknown imbalance {spec!r}; known: none, long_tail:RATIO, step:RATIO, halving, "
        "4v9:SHARE (any two classes; SHARE is that of the second)"
    )


def _number(text: str, spec: str, kind: type = float):
    try:
        return kind(text)
    except ValueError:
        wanted = "an integer" if kind is int else "a number"
        raise ValueError(f"{text!r} in {spec!r} is not {wanted}") from None
