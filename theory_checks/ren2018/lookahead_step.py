"""Lookahead's step (ren2018, Eq. 30) on linear models whose constants are known, and noisy data."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from weighting import linearize_losses, lookahead_weights
from weighting.losses import logistic

Losses = Callable[[Array, Array, Array], Array]  # theta [D], inputs [B, D], targets [B] -> [B]


class Family(NamedTuple):
    """Losses of linear models on inputs of norm at most one, with their constants."""

    losses: Losses
    smoothness: float  # L of every loss, so of G
    gradient_bound: float  # sigma

    @property
    def longest_step(self) -> float:
        """The corrected bound, 2 / (L sigma^2)."""
        return 2 / (self.smoothness * self.gradient_bound**2)


def _huber(theta: Array, inputs: Array, targets: Array) -> Array:
    distance = jnp.abs(inputs @ theta - targets)
    return jnp.where(distance <= 1, distance**2 / 2, distance - 0.5)


LOGISTIC = Family(lambda theta, x, y: logistic(x @ theta, (y > 0).astype(jnp.int32)), 0.25, 1.0)
HUBER = Family(_huber, 1.0, 1.0)


class LookaheadStep(NamedTuple):
    """One step: where it ends, what it does to G, and T."""

    theta: Array
    before: Array
    after: Array
    aligned: Array  # T, the sum of squares of a_i


class NoisySet(NamedTuple):
    """A noisy training set; its first `num_clean` examples are the clean set."""

    inputs: np.ndarray  # [N, D], of norm at most one
    targets: np.ndarray  # [N]
    num_clean: int


def step(
    family: Family,
    theta: Array,
    batch: tuple[Array, Array],
    clean: tuple[Array, Array],
    step_size: float | Array,
    *,
    normalize: bool = False,
) -> LookaheadStep:
    """A step by the library's weights: Eq. 30, or Algorithm 1 with `normalize` (mean one)."""

    def losses_fn(theta: Array) -> Array:
        return family.losses(theta, *batch)

    def clean_loss_fn(theta: Array) -> Array:
        return jnp.mean(family.losses(theta, *clean))

    own = lookahead_weights(losses_fn, theta, clean_loss_fn, normalize=normalize)
    size = len(batch[1])
    # Eq. 30 sums the weights a_i / n, Algorithm 1 averages weights of mean one
    direction = linearize_losses(losses_fn, theta).vjp(own / size if normalize else own)
    after = theta - step_size * direction
    aligned = jnp.sum((size * own) ** 2)  # means nothing if normalized
    return LookaheadStep(after, clean_loss_fn(theta), clean_loss_fn(after), aligned)


def make_data(
    rng: np.random.Generator, size: int, num_features: int, num_clean: int, flipped: float = 0.4
) -> NoisySet:
    """Labels of a random direction (not separable even where clean), some of them flipped."""
    inputs = rng.normal(size=(size, num_features))
    inputs /= np.maximum(np.linalg.norm(inputs, axis=1, keepdims=True), 1)
    score = inputs @ rng.normal(size=num_features) + 0.5 * rng.normal(size=size)
    targets = np.sign(score)
    wrong = (rng.uniform(size=size) < flipped) & (np.arange(size) >= num_clean)
    return NoisySet(inputs, np.where(wrong, -targets, targets), num_clean)
