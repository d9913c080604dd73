"""Draws with a fixed number of examples per class, so that every seed gives the same shapes."""

import numpy as np

Seed = int | np.random.SeedSequence | np.random.Generator


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how many examples each class has: int [C]."""
    return np.bincount(labels, minlength=num_classes)


def apportion(total: int, counts: np.ndarray) -> np.ndarray:
    """Divide `total` examples among classes in proportion to `counts` [C] (largest remainder).

    Ties go to the lower class. No class is given more than it has if `total <= sum(counts)`.
    """
    shares, remainders = np.divmod(total * counts, max(counts.sum(), 1))
    most_wanting = np.argsort(-remainders, kind="stable")
    shares[most_wanting[: total - shares.sum()]] += 1
    return shares


def spread_evenly(total: int, counts: np.ndarray) -> np.ndarray:
    """Divide `total` equally among the classes present in `counts` [C]; lower ones get the rest."""
    present = np.flatnonzero(counts)
    shares = np.zeros_like(counts)
    shares[present] = total // len(present)
    shares[present[: total % len(present)]] += 1
    return shares


def draw_per_class(labels: np.ndarray, wanted: np.ndarray, seed: Seed) -> np.ndarray:
    """Draw `wanted[c]` examples of each class c without replacement; return sorted positions."""
    available = class_counts(labels, len(wanted))
    short = np.flatnonzero(wanted > available)
    if short.size:
        c = short[0]
        raise ValueError(f"class {c} has {available[c]} examples and {wanted[c]} are wanted")
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(labels == c), n, replace=False) for c, n in enumerate(wanted)
    ]
    return np.sort(np.concatenate(drawn))
