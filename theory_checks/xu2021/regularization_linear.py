r"""Weights under an l2 penalty and under early stopping, linear models (xu2021, Sec. 5).

For the exponential loss and :math:`\|x_i\| \le 1` two weightings' minimisers with penalty
:math:`\lambda \|\theta\|^2` have directions no farther apart than the sum over both of
:math:`\sqrt{2 \log(1 / \omega_{\min}) / (\gamma^\star \|\theta_\lambda\|)}`, by Prop. 3 and
:math:`\gamma^\star \langle \theta, \theta^\star \rangle \ge \tilde\gamma(\theta)` of unit
:math:`\theta` (derived here). As :math:`\lambda \to \infty`, and after one step of descent, the
directions are those of the weighted means :math:`m = \sum_i \omega_i z_i`, up to
:math:`2 (e^{\|\theta_\lambda\|} - 1) / \|m\|`.
"""

import itertools

import numpy as np

from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import (
    Problems,
    curve,
    distance,
    mean_interval,
    regularized_path,
    separable_points,
    slope,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot

LAMBDAS = 10.0 ** -np.array([-2, 1, 2, 3, 5, 7, 9])


def penalty(*, num_sets: int = 12, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-S5b: angles between the minimisers of five weightings along lambda."""
    problems = _separable_problems(np.random.default_rng(seed), num_sets)
    flipped = problems._replace(points=_flip(problems.points))
    paths, mixed_paths = _minimisers(problems), _minimisers(flipped)
    angles, mixed = mean_angles(problems, paths), mean_angles(flipped, mixed_paths)  # [S, L]
    return Check(
        "X-S5b l2",
        "weights matter under a strong l2 penalty, and no longer as it vanishes",
        "TREND",
        (*_bound_rows(problems, paths, tighten), *_lambda_rows(problems, paths, angles)),
        assumptions="linear, separable, exponential loss, global minimisers, five weightings",
        control=(
            Measured(
                "not separable: mean angle at lambda = 1e-9 over that at 0.1",
                float(mixed[:, -1].mean() / mixed[:, 1].mean()),
                0.5,
            ),
        ),
        plot=Plot(
            "lambda",
            "mean angle between weightings, degrees",
            {
                "separable": curve(LAMBDAS, angles.mean(axis=0)),
                "not separable": curve(LAMBDAS, mixed.mean(axis=0)),
            },
            "x",
        ),
    )


def _bound_rows(problems: Problems, paths: np.ndarray, tighten: float) -> list[Measured]:
    """The two derived bounds on minimisers [K, L, D]: of all lambda, and of the largest."""
    norms = np.linalg.norm(paths, axis=-1)
    smallest = problems.weights.min(axis=1) / problems.weights.sum(axis=1)  # omega_min
    reach = np.sqrt(-2 * np.log(smallest)[:, None] / (problems.margins[:, None] * norms))
    bounds = np.stack([tighten * (one + other) for one, other in _pairs(problems, reach)])
    means = _weighted_means(problems)
    strong = distance(paths[:, 0], unit(means))
    room = 2 * np.expm1(norms[:, 0]) / np.linalg.norm(means, axis=-1)
    return [
        Measured(
            "distance of two minimisers' directions over its bound",
            float(np.max(_pairs_apart(problems, paths) / bounds)),
            1.0,
        ),
        Measured(
            "lambda = 100: distance from the weighted mean over its bound",
            float(np.max(strong / room)),
            1.0,
        ),
    ]


def _lambda_rows(problems: Problems, paths: np.ndarray, angles: np.ndarray) -> list[Measured]:
    margins = np.einsum("ktd,knd->ktn", paths, problems.points).min(axis=-1)
    trend = mean_interval(slope(np.log(np.log(1 / LAMBDAS[2:])), np.log(angles[:, 2:])))
    rows = [
        Measured(
            "mean angle at lambda = 1e-9 over that at 0.1",
            float(angles[:, -1].mean() / angles[:, 1].mean()),
            0.5,
        )
    ]
    for regularization, values in zip(LAMBDAS, angles.T, strict=True):
        name = f"lambda = {regularization:.0e}: mean angle in degrees"
        rows += interval_rows(name, mean_interval(values))
    rows += interval_rows("slope of log angle on log log(1/lambda), 1e-2 to 1e-9", trend)
    not_separating = float(np.mean(margins[:, 1] <= 0))
    rows.append(Measured("lambda = 0.1: share of minimisers that do not separate", not_separating))
    return rows


def stopping(*, num_sets: int = 12, last: int = 100_000, seed: int = 0) -> Check:
    """X-S5b: the same angles along gradient descent."""
    problems = _separable_problems(np.random.default_rng(seed), num_sets)
    flipped = problems._replace(points=_flip(problems.points))
    times = log_spaced(last)
    paths = descend(problems.points, problems.weights, 1.0, times).params
    angles = mean_angles(problems, paths)
    mixed = mean_angles(flipped, descend(flipped.points, flipped.weights, 0.5, times).params)
    return Check(
        "X-S5b early stopping",
        "weights matter when descent stops early, and less the longer it runs",
        "TREND",
        _stopping_rows(problems, paths, angles, times),
        assumptions="linear, separable, exponential loss, constant step, five weightings",
        control=(
            Measured(
                "not separable: mean angle at the last step over that at the first",
                float(mixed[:, -1].mean() / mixed[:, 0].mean()),
                0.6,
            ),
        ),
        plot=Plot(
            "steps",
            "mean angle between weightings, degrees",
            {
                "separable": curve(times, angles.mean(axis=0)),
                "not separable": curve(times, mixed.mean(axis=0)),
            },
            "x",
        ),
    )


def _stopping_rows(
    problems: Problems, paths: np.ndarray, angles: np.ndarray, times: np.ndarray
) -> tuple[Measured, ...]:
    """Four records are a factor of ten in time."""
    first = float(np.max(distance(paths[:, 0], unit(_weighted_means(problems)))))
    margins = np.einsum("ktd,knd->ktn", paths, problems.points).min(axis=-1)
    rows = [
        Measured("step 1: distance from the direction of the weighted mean", first, 1e-12),
        Measured(
            "mean angle at the last step over that at the first",
            float(angles[:, -1].mean() / angles[:, 0].mean()),
            0.6,
        ),
    ]
    for time, values in zip(times[::4], angles.T[::4], strict=True):
        rows += interval_rows(f"step {time}: mean angle in degrees", mean_interval(values))
    trend = mean_interval(slope(np.log(times[4:]), angles[:, 4:]))
    return (
        *rows,
        *interval_rows("slope of the angle on log t, from step 10", trend),
        Measured("step 10: share that does not separate", float(np.mean(margins[:, 4] <= 0))),
    )


def _separable_problems(rng: np.random.Generator, count: int) -> Problems:
    """The five weightings of separable sets in the plane."""
    sets = [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(count)]
    return weighted_problems(rng, sets)


def _minimisers(problems: Problems) -> np.ndarray:
    """Along lambda, [K, L, D]."""
    return np.stack(
        [
            regularized_path(points, weights / weights.sum(), LAMBDAS, 2.0)
            for points, weights in zip(problems.points, problems.weights, strict=True)
        ]
    )


def _flip(points: np.ndarray) -> np.ndarray:
    """Every fourth label turned: no longer separable."""
    return points * np.where(np.arange(points.shape[1]) % 4 == 0, -1.0, 1.0)[None, :, None]


def _weighted_means(problems: Problems) -> np.ndarray:
    """m = sum omega_i z_i, [K, D]."""
    shares = problems.weights / problems.weights.sum(axis=1, keepdims=True)
    return np.einsum("kn,knd->kd", shares, problems.points)


def _pairs(problems: Problems, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values [K, ...] of the two arms of every pair, each [S, ...]."""
    of_arms = np.moveaxis(problems.by_set(values), 1, 0)
    return list(itertools.combinations(of_arms, 2))


def _pairs_apart(problems: Problems, paths: np.ndarray) -> np.ndarray:
    """Distances of the directions of two arms: paths [K, T, D] -> [P, S, T]."""
    pairs = _pairs(problems, unit(paths))
    return np.stack([np.linalg.norm(one - other, axis=-1) for one, other in pairs])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Over their norms, along the last axis."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def mean_angles(problems: Problems, paths: np.ndarray) -> np.ndarray:
    """Mean over the pairs of arms, in degrees: paths [K, T, D] -> [S, T]."""
    return degrees_of_chords(np.mean(_pairs_apart(problems, paths), axis=0))


def degrees_of_chords(chords: np.ndarray) -> np.ndarray:
    """Angles between unit vectors at these distances."""
    return np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1)))


def interval_rows(quantity: str, interval: tuple[float, float, float]) -> list[Measured]:
    """A mean and the ends of its 95 % interval."""
    names = (quantity, f"{quantity}: lower end", f"{quantity}: upper end")
    return [Measured(name, float(value)) for name, value in zip(names, interval, strict=True)]
