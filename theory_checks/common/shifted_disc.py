r"""Covariate shift on an annulus of the unit disc with an exact density ratio, and small networks.

Inputs follow :math:`N((\mp m, 0), \sigma^2 I)` (source and target), restricted to
:math:`1/2 \le \|x\| \le 1` and to angles away from the first axis. The set is symmetric, so
:math:`\eta(x) = e^{2 m x_1 / \sigma^2}`. The label is the sign of :math:`x_2`, flipped with a
probability that is the same everywhere. Networks have ReLUs and no biases: the sign of an output
depends on the angle alone.
"""

import itertools
from typing import NamedTuple

import numpy as np
import scipy.special

SIGMA = 0.5
INNER = 0.5  # smallest norm
GAP = 0.25  # smallest angle to the first axis
WIDTH = 8
RADIUS_NODES, RADIUS_WEIGHTS = np.polynomial.legendre.leggauss(40)

Network = tuple[np.ndarray, ...]  # H layers [R, inputs, outputs] of R networks


class Sample(NamedTuple):
    """R training sets."""

    inputs: np.ndarray  # [R, N, 2]
    labels: np.ndarray  # [R, N] in {-1, 1}


def draw(
    rng: np.random.Generator, shift: float, num_sets: int, count: int, *, noise: float = 0.0
) -> Sample:
    """Inputs around (shift, 0): minus m for the source, m for the target."""
    total, kept = num_sets * count, np.zeros((0, 2))
    while len(kept) < total:
        x = np.array([shift, 0.0]) + SIGMA * rng.normal(size=(2 * total, 2))
        norms = np.linalg.norm(x, axis=1)
        inside = (norms >= INNER) & (norms <= 1) & (np.abs(x[:, 1]) >= norms * np.sin(GAP))
        kept = np.concatenate([kept, x[inside]])
    inputs = kept[:total].reshape(num_sets, count, 2)
    flips = np.where(rng.random((num_sets, count)) < noise, -1.0, 1.0)
    return Sample(inputs, flips * np.sign(inputs[..., 1]))


def density_ratio(inputs: np.ndarray, shift: float) -> np.ndarray:
    """eta of [..., 2] -> [...]."""
    return np.exp(2 * shift / SIGMA**2 * inputs[..., 0])


def largest_ratio(shift: float) -> float:
    """Its supremum, at the end of the outer arc."""
    return float(np.exp(2 * shift / SIGMA**2 * np.cos(GAP)))


class Angles(NamedTuple):
    """A midpoint rule over the angles, with the densities of target and source."""

    directions: np.ndarray  # [K, 2]
    target: np.ndarray  # [K] masses, of sum one
    divergence: float  # chi-square of target and source


def angles(shift: float, count: int = 4000) -> Angles:
    """Exact but for the rule's error: 1e-7 of smooth functions, 1e-3 of a jump."""
    half = GAP + (np.pi - 2 * GAP) * (np.arange(count // 2) + 0.5) / (count // 2)
    phi = np.concatenate([half, half + np.pi])
    directions = np.stack([np.cos(phi), np.sin(phi)], axis=1)
    radius = (1 + INNER) / 2 + (1 - INNER) / 2 * RADIUS_NODES
    first = radius * directions[:, :1]
    weights = RADIUS_WEIGHTS * radius
    source = weights * np.exp(-(radius**2 + 2 * shift * first) / (2 * SIGMA**2))
    source /= source.sum()
    eta = np.exp(2 * shift / SIGMA**2 * first)
    target = np.sum(source * eta, axis=1)
    return Angles(directions, target, float(np.sum(source * eta**2) - 1))


def target_errors(params: Network, rule: Angles, noise: float) -> np.ndarray:
    """P_t(y f(x) <= 0) of R networks; an output of zero is an error under either label."""
    margins = outputs(params, rule.directions[None]) * np.sign(rule.directions[:, 1])
    wrong = (1 - noise) * (margins <= 0) + noise * (margins >= 0)
    return wrong @ rule.target


def outputs(params: Network, inputs: np.ndarray) -> np.ndarray:
    """Of R networks, at [R or 1, N, 2] -> [R, N]."""
    hidden = inputs
    for layer in params[:-1]:
        hidden = np.maximum(hidden @ layer, 0)
    return (hidden @ params[-1])[..., 0]


def norms(params: Network) -> np.ndarray:
    """Of all parameters together; [R]."""
    return np.sqrt(sum(np.sum(layer**2, axis=(1, 2)) for layer in params))


def initial(rng: np.random.Generator, num_networks: int, depth: int) -> Network:
    """Normal layers, of variance 2 / inputs."""
    sizes = [2] + [WIDTH] * (depth - 1) + [1]
    return tuple(
        rng.normal(size=(num_networks, a, b)) * np.sqrt(2 / a) for a, b in itertools.pairwise(sizes)
    )


def minibatches(
    rng: np.random.Generator, sample: Sample, weights: np.ndarray, num_steps: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels [T, R, B, 3], and weights [T, R, B]."""
    num_sets, count = sample.labels.shape
    chosen = rng.integers(0, count, (num_steps, num_sets, batch_size))
    rows = np.arange(num_sets)[:, None]
    data = np.concatenate([sample.inputs, sample.labels[..., None], weights[..., None]], axis=-1)
    batches = data[rows, chosen]
    return batches[..., :3], batches[..., 3]


def train(
    params: Network,
    data: np.ndarray,
    weights: np.ndarray,
    *,
    learning_rate: float = 0.2,
    records: tuple[int, ...] = (),
) -> list[Network]:
    """R networks after each of the numbers of steps in `records` (default: all steps).

    Args:
      params: at the start.
      data: [T, R, B, 3] inputs and labels, a batch per step.
      weights: [T, R, B].
      learning_rate: of gradient descent on the mean weighted logistic loss.
      records: increasing.
    """
    found = []
    for step, (batch, share) in enumerate(zip(data, weights, strict=True), start=1):
        slopes = gradient(params, batch, share)
        params = tuple(p - learning_rate * g for p, g in zip(params, slopes, strict=True))
        if step in (records or (len(data),)):
            found.append(params)
    return found


def gradient(params: Network, data: np.ndarray, weights: np.ndarray) -> Network:
    """Of mean w log(1 + e^-margin) over data [R, B, 3] with weights [R, B], by layer."""
    hidden = [data[..., :2]]
    for layer in params[:-1]:
        hidden.append(np.maximum(hidden[-1] @ layer, 0))
    labels = data[..., 2]
    margins = labels * (hidden[-1] @ params[-1])[..., 0]
    back = -(weights * labels * scipy.special.expit(-margins) / labels.shape[1])[..., None]
    slopes = []
    for layer, below in zip(params[::-1], hidden[::-1], strict=True):
        slopes.append(np.swapaxes(below, 1, 2) @ back)
        back = (back @ np.swapaxes(layer, 1, 2)) * (below > 0)
    return tuple(slopes[::-1])
