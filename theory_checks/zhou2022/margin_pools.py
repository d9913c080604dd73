"""Pools of points with their held-out errors, and the margins of networks trained on them.

For the checks of zhou2022, Theorem 2 and Proposition 6: a pool is the whole distribution, so that
errors, divergences and means over it are sums.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

LEVELS = (0.1, 0.3)  # quantiles of an ensemble's margins
RATES = (1.0, 4.0)  # learning rates of an ensemble


class Pool(NamedTuple):
    """Points as a finite population, and the networks trained on it."""

    inputs: np.ndarray  # [N, 3], within the unit ball, the last coordinate constant
    signs: np.ndarray  # [N]
    errors: np.ndarray  # [N], mean loss of networks that did not see the point
    margins: np.ndarray  # [V, N], normalized, of networks that saw all


def ensemble_gamma(pool: Pool, level: float = LEVELS[-1]) -> float:
    """A positive margin: that quantile of the ensemble's, or of their magnitudes."""
    margin = float(np.quantile(pool.margins, level))
    return margin if margin > 0 else float(np.quantile(np.abs(pool.margins), level))


def make_pools(
    *,
    num_pools: int = 16,
    count: int = 100,
    num_halves: int = 40,
    num_seeds: int = 12,
    num_steps: int = 400,
    seed: int = 0,
) -> list[Pool]:
    """Overlapping classes on the plane, held-out errors and ensembles of trained networks."""
    rng = np.random.default_rng(seed)
    inputs, signs, seen = [], [], []
    for _ in range(num_pools):
        own = rng.choice([-1.0, 1.0], count)
        spread = rng.uniform(0.4, 1.2, (count, 1))
        drawn = own[:, None] * rng.normal(1.0, 0.2, 2) + spread * rng.normal(size=(count, 2))
        drawn = np.column_stack([drawn, np.ones(count)])
        inputs.append(drawn / np.linalg.norm(drawn, axis=1).max())
        signs.append(own)
        halves = rng.random((num_halves, count)) < 0.5
        seen.append(np.concatenate([halves, np.ones((num_seeds * len(RATES), count), bool)]))
    rates = np.concatenate([np.resize(RATES, num_halves), np.repeat(RATES, num_seeds)])
    outputs, norms = descend_networks(
        rng, np.stack(inputs), np.stack(signs), np.stack(seen), rates, num_steps=num_steps
    )
    pools = []
    for points, own, members, scores, norm in zip(inputs, signs, seen, outputs, norms, strict=True):
        unseen = ~members[:num_halves]
        losses = np.logaddexp(0, -own * scores[:num_halves]) * unseen
        errors = losses.sum(axis=0) / unseen.sum(axis=0)
        margins = own * scores[num_halves:] / norm[num_halves:, None] ** 2
        pools.append(Pool(points, own, errors, margins))
    return pools


def descend_networks(
    rng: np.random.Generator,
    inputs: np.ndarray,
    signs: np.ndarray,
    weights: np.ndarray,
    learning_rates: np.ndarray,
    *,
    width: int = 8,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Two-layer bias-free ReLU networks by descent on the weighted logistic loss.

    Args:
      rng: of the initial parameters.
      inputs: [P, N, D].
      signs: [P, N].
      weights: [P, R, N], of R networks on each of P sets.
      learning_rates: [R].
      width: hidden units.
      num_steps: of the descent.

    Returns:
      Outputs [P, R, N], and the norms [P, R] of all parameters together.
    """
    shape = weights.shape[:2]
    inner = rng.normal(size=(*shape, inputs.shape[2], width))
    outer = rng.normal(size=(*shape, width, 1)) / width**0.5
    x, y = inputs[:, None], signs[:, None, :, None]
    rates = learning_rates[:, None, None]
    shares = (weights / weights.sum(axis=2, keepdims=True))[..., None] * y
    for _ in range(num_steps):
        hidden = np.maximum(x @ inner, 0)
        pulls = shares * scipy.special.expit(-y * (hidden @ outer))
        back = (pulls * (hidden > 0)) * np.swapaxes(outer, 2, 3)
        outer = outer + rates * (np.swapaxes(hidden, 2, 3) @ pulls)
        inner = inner + rates * (np.swapaxes(x, 2, 3) @ back)
    squares = np.sum(inner**2, axis=(2, 3)) + np.sum(outer**2, axis=(2, 3))
    return (np.maximum(x @ inner, 0) @ outer)[..., 0], np.sqrt(squares)
