r"""Dropout of the inputs of a linear model, under importance weights (xu2021, Sec. 5).

Inverted dropout, each input kept with probability p < 1, has for the exponential loss the expected
risk (derived here, as all of the following)

.. math:: \frac{1}{n} \sum_i w_i \prod_j \big(1 - p + p\, e^{-z_{ij} \theta_j / p}\big).

Every mask must be separated, those of single features too: the norm diverges if and only if some
:math:`z_{\cdot j} \ne 0` has no two signs, that is if one feature alone separates (weakly). Then
:math:`\theta_j \approx p \log t / \min_i z_{ij}`. Otherwise there is a finite minimiser, which
depends on the weights.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

from theory_checks.common.descent import log_spaced
from theory_checks.common.reference import (
    Problems,
    curve,
    mean_interval,
    separable_points,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.regularization_linear import interval_rows, mean_angles

KEPT = 0.5  # probability that an input survives dropout
STILL = 0.02  # relative growth over a quarter decade; log t grows by 0.05 to 0.06 of itself


class DropoutPaths(NamedTuple):
    """Descents of the expected risk of K problems, with T records."""

    times: np.ndarray  # [T]
    mixed: np.ndarray  # [K, T, D] no feature separates
    single: np.ndarray  # [K, T, D] the same points, turned so that the first feature separates
    plain: np.ndarray  # [K, T, D] no dropout
    nearest: np.ndarray  # [K] min_i z_i1 of the turned points

    def median_norms(self, path: np.ndarray) -> tuple[list[float], list[float]]:
        """Over the problems, as a curve."""
        return curve(self.times, np.median(np.linalg.norm(path, axis=-1), axis=0))


def dropout(
    *,
    num_sets: int = 8,
    last: int = 100_000,
    num_cones: int = 300,
    kept: float = KEPT,
    seed: int = 0,
) -> Check:
    """X-S5b: the same points in coordinates of which none, or one, separates."""
    rng = np.random.default_rng(seed)
    problems = weighted_problems(rng, _unseparated_sets(rng, num_sets))
    paths = _dropout_paths(problems, log_spaced(last), kept)
    minima = np.stack(
        [
            dropout_minimiser(points, weights, kept)
            for points, weights in zip(problems.points, problems.weights, strict=True)
        ]
    )
    noisy = _sampled_dropout(problems.points, problems.weights, min(last, 10_000), kept)
    largest = np.linalg.norm(minima, axis=-1).max()
    return Check(
        "X-S5b dropout",
        "a linear model under dropout diverges only if one feature alone separates the data",
        "FALSE-AS-PRINTED",
        (
            *_cone_rows(rng, num_cones),
            *_bounded_rows(problems, paths.mixed, minima),
            Measured(
                "fresh masks at every step: mean norm, second half over first half",
                float(noisy[:, -1].mean() / noisy[:, 0].mean()),
            ),
            *_divergent_rows(paths, kept),
        ),
        assumptions="separable data, exponential loss, inverted dropout of inputs, expected risk",
        control=(
            Measured(
                "no dropout: growth of the norm, last quarter decade",
                float(_growths(paths.plain).max()),
                STILL,
            ),
        ),
        erratum=(
            "Dropout is said not to prohibit the divergence of the norm nor to interfere, but for "
            "a linear model on separable data of which no single feature separates, dropout of the "
            f"inputs leaves a finite minimiser (norm {largest:.1f} at most) that depends on "
            "the weights. The norm diverges if and only if some feature alone separates the data, "
            "at least weakly."
        ),
        plot=Plot(
            "steps",
            "median norm",
            {
                "no dropout": paths.median_norms(paths.plain),
                "dropout, one feature separates": paths.median_norms(paths.single),
                "dropout, none does": paths.median_norms(paths.mixed),
            },
            "x",
        ),
    )


def _unseparated_sets(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Separable sets in the plane of which no feature alone separates."""
    sets = []
    while len(sets) < count:
        points = separable_points(rng, 20, 2, gap=(0.3, 0.8))
        if not some_feature_separates(points):
            sets.append(points)
    return sets


def _dropout_paths(problems: Problems, times: np.ndarray, kept: float) -> DropoutPaths:
    turns = [_turned(direction) for direction in problems.directions]
    aligned = np.stack([p @ turn for p, turn in zip(problems.points, turns, strict=True)])
    return DropoutPaths(
        times,
        mixed=descend_dropout(problems.points, problems.weights, times, kept),
        single=descend_dropout(aligned, problems.weights, times, kept),
        plain=descend_dropout(problems.points, problems.weights, times, 1.0),
        nearest=aligned[:, :, 0].min(axis=1),
    )


def _cone_rows(rng: np.random.Generator, count: int) -> list[Measured]:
    """The criterion, against a linear program on random points of three features."""
    criterion, is_open = [], []
    for _ in range(count):
        points = rng.normal(size=(int(rng.integers(2, 6)), 3))
        criterion.append(some_feature_separates(points))
        is_open.append(unbounded_direction(points))
    disagreements = int(np.sum(np.array(criterion) != np.array(is_open)))
    return [
        Measured(
            "random cones: criterion against linear programming, disagreements", disagreements, 0
        ),
        Measured("of them open, share", sum(is_open) / count),
    ]


def _bounded_rows(problems: Problems, mixed: np.ndarray, minima: np.ndarray) -> list[Measured]:
    """No feature separates: descent [K, T, D] ends at finite minimisers [K, D], of the weights."""
    sizes = np.linalg.norm(minima, axis=-1)
    off = np.linalg.norm(mixed[:, -1] - minima, axis=-1) / sizes
    reach = np.linalg.norm(mixed, axis=-1) / (2 * sizes[:, None])
    margins = np.einsum("kd,knd->kn", minima, problems.points).min(axis=-1)
    angles = mean_angles(problems, minima[:, None])[:, 0]
    return [
        Measured(
            "no separating feature: growth of the norm, last quarter decade",
            float(_growths(mixed).max()),
            STILL,
        ),
        Measured(
            "distance of the last iterate from the minimiser, relative, largest",
            float(off.max()),
            1e-2,
        ),
        Measured("norm along descent over twice the minimiser's", float(np.max(reach)), 1.0),
        Measured("norm of the minimisers, largest", float(sizes.max())),
        Measured("minimisers that do not separate the data, share", float(np.mean(margins <= 0))),
        *interval_rows(
            "mean angle of the minimisers of five weightings, degrees", mean_interval(angles)
        ),
    ]


def _divergent_rows(paths: DropoutPaths, kept: float) -> list[Measured]:
    """One feature separates: its parameter grows like p log t / min_i z_i1."""
    first = paths.single[:, :, 0]
    rate = (first[:, -1] - first[:, -5]) / np.log(10) * paths.nearest / kept
    return [
        Measured(
            "one separating feature: minus the smallest growth of the norm",
            -float(_growths(paths.single).min()),
            -STILL,
        ),
        Measured(
            "|growth of its parameter over p log t / min z - 1|, mean",
            float(np.mean(np.abs(rate - 1))),
            0.3,
        ),
    ]


def some_feature_separates(points: np.ndarray) -> bool:
    """Whether some column is not zero and without two signs."""
    one_sign = np.all(points >= 0, axis=0) | np.all(points <= 0, axis=0)
    return bool(np.any(one_sign & np.any(points != 0, axis=0)))


def unbounded_direction(points: np.ndarray) -> bool:
    """Whether some direction hurts under no mask and helps under one, by a linear program."""
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=points.shape[1])))
    products = (masks[:, None] * points[None]).reshape(-1, points.shape[1])
    bounds = [(-1, 1)] * points.shape[1]
    result = scipy.optimize.linprog(
        -products.sum(axis=0), -products, np.zeros(len(products)), bounds=bounds
    )
    return bool(-result.fun > 1e-9)


def dropout_minimiser(points: np.ndarray, weights: np.ndarray, kept: float) -> np.ndarray:
    """The minimiser of the expected risk, by SciPy's trust region on its logarithm's masks."""
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=points.shape[1])))
    chance = np.prod(np.where(masks > 0, kept, 1 - kept), axis=1)
    products = (masks[:, None] * points[None]).reshape(-1, points.shape[1]) / kept
    shares = np.outer(chance, weights / weights.sum()).ravel()

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        terms = shares * np.exp(-products @ theta)
        return float(terms.sum()), -terms @ products

    def hessian(theta: np.ndarray) -> np.ndarray:
        return (products.T * (shares * np.exp(-products @ theta))) @ products

    result = scipy.optimize.minimize(
        value,
        np.zeros(points.shape[1]),
        jac=True,
        hess=hessian,
        method="trust-exact",
        options={"gtol": 1e-12},
    )
    return result.x


def descend_dropout(
    points: np.ndarray, weights: np.ndarray, times: np.ndarray, kept: float
) -> np.ndarray:
    """Descent of the expected risk from zero, steps p / max(1, L): [K, T, D]."""
    with jax.enable_x64(True):
        lengths = jnp.asarray(np.diff(np.append(0, times)))
        shares = weights / weights.sum(axis=1, keepdims=True)
        arrays = (jnp.asarray(points), jnp.asarray(shares), lengths, jnp.asarray(kept, float))
        return np.asarray(_descend_dropout(*arrays))


@jax.jit
def _descend_dropout(points: Array, shares: Array, lengths: Array, kept: Array) -> Array:
    def slope_of(params: Array) -> tuple[Array, Array]:
        survives = kept * jnp.exp(-points * params[:, None] / kept)
        factors = 1 - kept + survives
        terms = shares * jnp.prod(factors, axis=-1)
        pulls = jnp.sum(terms[:, :, None] * survives / factors * points, axis=1) / kept
        return jnp.sum(terms, axis=1), -pulls

    def step(_: Array, params: Array) -> Array:
        risks, slopes = slope_of(params)
        return params - (kept / jnp.maximum(1, risks))[:, None] * slopes

    def segment(params: Array, length: Array) -> tuple[Array, Array]:
        params = jax.lax.fori_loop(0, length, step, params)
        return params, params

    paths = jax.lax.scan(segment, jnp.zeros(points.shape[::2]), lengths)[1]
    return jnp.swapaxes(paths, 0, 1)


def _sampled_dropout(
    points: np.ndarray, weights: np.ndarray, last: int, kept: float, *, seed: int = 0
) -> np.ndarray:
    """Mean norms [K, 2] in the second and in the fourth quarter of steps with fresh masks."""
    with jax.enable_x64(True):
        shares = jnp.asarray(weights / weights.sum(axis=1, keepdims=True))
        return np.asarray(_sampled(jnp.asarray(points), shares, jax.random.key(seed), last, kept))


@functools.partial(jax.jit, static_argnames=("last", "kept"))
def _sampled(points: Array, shares: Array, key: Array, last: int, kept: float) -> Array:
    def step(params: Array, index: Array) -> tuple[Array, Array]:
        masks = jax.random.bernoulli(jax.random.fold_in(key, index), kept, points.shape)
        inputs = masks * points / kept
        terms = shares * jnp.exp(-jnp.sum(inputs * params[:, None], axis=-1))
        pulls = jnp.sum(terms[:, :, None] * inputs, axis=1)
        rates = 0.1 / jnp.maximum(1, jnp.sum(terms, axis=1))
        params = params + rates[:, None] * pulls
        return params, jnp.linalg.norm(params, axis=-1)

    norms = jax.lax.scan(step, jnp.zeros(points.shape[::2]), jnp.arange(last))[1]
    quarters = norms.reshape(4, last // 4, -1).mean(axis=1)
    return quarters[1::2].T


def _turned(direction: np.ndarray) -> np.ndarray:
    """A rotation of the plane whose first axis is the direction."""
    x, y = direction
    return np.array([[x, -y], [y, x]])


def _growths(path: np.ndarray) -> np.ndarray:
    """Growth of the norm over the last quarter decade, relative: [K, T, D] -> [K]."""
    norms = np.linalg.norm(path, axis=-1)
    return 1 - norms[:, -2] / norms[:, -1]
