"""The largest separable part of a data set, by one linear program (xu2021, Prop. 2 and A.3).

It is compared with the part by construction, with A.3's own one program per point, and with
enumerations over integers, which are exact.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize

from theory_checks.common.columns import Number, stack
from theory_checks.common.reference import solve_max_margin
from theory_checks.records import Check, Measured
from theory_checks.xu2021.proposition2_problem import SHAPES, OverlappingSet, overlapping_set
from weighting.implicit_bias.max_margin import max_margin
from weighting.implicit_bias.separable_part import separable_part, split_parameters


class ConstructedPart(NamedTuple):
    """What is found in a set whose part is known; or in S sets, arrays [S]."""

    misplaced: Number  # points that the library puts elsewhere
    misplaced_each: Number  # points that one program per point puts elsewhere
    margin: Number  # smallest z_i . theta on the part, theta its unit sum of theta_i
    rest_product: Number  # largest |z_i . theta| on the rest
    disagreement: Number  # of the library's and the reference's gamma_sep, relative


class IntegerPart(NamedTuple):
    """What is found in a set of integer points; or in S sets, arrays [S]."""

    misplaced: Number  # points that the library puts elsewhere than enumeration
    is_mixed: Number  # both a part and a rest
    tried: Number = 0  # directions in the plane, every sign pattern
    violations: Number = 0  # of them right on a point of the rest and wrong on none
    moved: Number = 0  # the same with one point of the part moved to the rest
    popular: Number = 0  # points that "all that one hyperplane gets right" puts elsewhere
    popular_violations: Number = 0  # directions right on a point of its rest and wrong on none


def largest_part(*, num_sets: int = 30, num_small: int = 300, seed: int = 0) -> Check:
    """X-P2: the linear program against the construction, A.3's own, and enumeration."""
    rng = np.random.default_rng(seed)
    constructed = [
        _constructed_part(overlapping_set(rng, SHAPES[index % len(SHAPES)], clear=index % 2 == 0))
        for index in range(num_sets)
    ]
    integer = [_integer_part(rng, 2 + index % 2) for index in range(num_small)]
    planar = stack(integer)
    return Check(
        "X-P2 separable part",
        "one linear program finds the largest part that is separable at no cost elsewhere",
        "EXACT",
        (
            *_constructed_rows(stack(constructed)),
            Measured(
                f"{num_small} integer sets, by enumeration: points put elsewhere",
                float(np.sum(planar.misplaced)),
                0,
            ),
            Measured("of them with both a part and a rest", float(np.sum(planar.is_mixed))),
            Measured(
                f"of {np.sum(planar.tried)} directions in the plane, all sign patterns: right on "
                "a point of the rest and wrong on none",
                float(np.sum(planar.violations)),
                0,
            ),
        ),
        assumptions="no intercept; constructed sets in up to three dimensions",
        control=(
            Measured(
                "all points that one hyperplane gets right: points put elsewhere",
                float(np.sum(planar.popular)),
                0,
            ),
            Measured(
                "directions right on a point of its rest and wrong on none",
                float(np.sum(planar.popular_violations)),
                0,
            ),
            Measured(
                "one point of the part moved to the rest: such directions",
                float(np.sum(planar.moved)),
                0,
            ),
        ),
    )


def _constructed_rows(sets: ConstructedPart) -> tuple[Measured, ...]:
    return (
        Measured(
            f"{np.size(sets.misplaced)} constructed sets: points put elsewhere",
            float(np.sum(sets.misplaced)),
            0,
        ),
        Measured(
            "A.3, one program per point: points put elsewhere",
            float(np.sum(sets.misplaced_each)),
            0,
        ),
        Measured(
            "minus the smallest margin of its sum of theta_i on the part",
            -float(np.min(sets.margin)),
            -1e-3,
        ),
        Measured("its largest product on the rest", float(np.max(sets.rest_product)), 1e-9),
        Measured(
            "margin of the part against least squares, relative",
            float(np.max(sets.disagreement)),
            1e-9,
        ),
    )


def _constructed_part(data: OverlappingSet) -> ConstructedPart:
    part = separable_part(data.inputs, data.labels)
    members, total = one_program_each(data.points)
    products = data.points @ total / np.linalg.norm(total)
    across = split_parameters(data.points, part)[1][part.is_separable]
    found = max_margin(across, np.ones(len(across)))
    return ConstructedPart(
        misplaced=int(np.sum(part.is_separable != data.is_separable)),
        misplaced_each=int(np.sum(part.is_separable != members)),
        margin=products[members].min(),
        rest_product=np.abs(products[~members]).max(),
        disagreement=abs(float(found.margin) / solve_max_margin(across).margin - 1),
    )


def _integer_part(rng: np.random.Generator, size: int) -> IntegerPart:
    """Of a random set; directions are enumerated in the plane alone."""
    points = small_integers(rng, size)
    labels = rng.choice([-1.0, 1.0], len(points))
    found = separable_part(labels[:, None] * points, labels).is_separable
    truth = enumerated_part(points)
    misplaced, is_mixed = int(np.sum(found != truth)), bool(truth.any() and not truth.all())
    if size > 2:
        return IntegerPart(misplaced, is_mixed)
    directions = all_directions(points)
    fewer = found.copy()
    fewer[np.flatnonzero(found)[:1]] = False
    # instead: as many points as one hyperplane gets strictly right, at whatever cost
    gains = points @ directions.T
    most = gains[:, np.argmax(np.sum(gains > 0, axis=0))] > 0
    return IntegerPart(
        misplaced,
        is_mixed,
        tried=len(directions),
        violations=_broken(points, found, directions),
        moved=_broken(points, fewer, directions) if found.any() else 0,
        popular=int(np.sum(most != truth)),
        popular_violations=_broken(points, most, directions),
    )


def one_program_each(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A.3: point i joins if some theta_i gains on it and loses on none; the sum of theta_i."""
    members, total = np.zeros(len(points), bool), np.zeros(points.shape[1])
    for index, row in enumerate(points):
        result = scipy.optimize.linprog(
            -row, A_ub=-points, b_ub=np.zeros(len(points)), bounds=(-1, 1)
        )
        if -result.fun > 1e-7:
            members[index] = True
            total += result.x
    return members, total


def small_integers(rng: np.random.Generator, size: int) -> np.ndarray:
    """Up to nine integer points [N, size], some in a hyperplane and the others mostly above it."""
    while True:
        count, flat = rng.integers(4, 10), rng.integers(0, 5)
        points = rng.integers(-2, 3, (count, size))
        points[:flat, -1] = 0
        points[flat:, -1] = np.abs(points[flat:, -1])
        if rng.random() < 0.3:
            points[-1, -1] *= -1
        if size == 2 or np.linalg.matrix_rank(points) == size:
            return points


def enumerated_part(points: np.ndarray) -> np.ndarray:
    """The part of integer points by the edges of the cone of directions that lose nowhere.

    In the plane these are perpendicular to a point (or along one, if all are in line); in space,
    for points of full rank, perpendicular to two.
    """
    if points.shape[1] == 2:
        edges = np.concatenate([points @ [[0, 1], [-1, 0]], points])
    else:
        edges = np.cross(points[:, None], points[None]).reshape(-1, 3)
    gains = np.concatenate([edges, -edges]) @ points.T
    return np.any(gains[np.all(gains >= 0, axis=1)] > 0, axis=0)


def all_directions(points: np.ndarray) -> np.ndarray:
    """Integer directions in the plane with every pattern of signs that a direction can have."""
    points = points[np.any(points != 0, axis=1)]
    if not len(points):
        return np.array([[1, 0]])
    points = np.unique(points // np.gcd.reduce(points, axis=1)[:, None], axis=0)
    rays = points @ [[0, 1], [-1, 0]]
    rays = np.unique(np.concatenate([rays, -rays]), axis=0)
    rays = rays[np.argsort(np.arctan2(rays[:, 1], rays[:, 0]))]
    return np.concatenate([rays, rays + np.roll(rays, -1, axis=0), points, -points])


def _broken(points: np.ndarray, part: np.ndarray, directions: np.ndarray) -> int:
    """How many directions are right on a point of the rest, and wrong on none of them."""
    gains = directions @ points[~part].T
    return int(np.sum(np.any(gains > 0, axis=1) & ~np.any(gains < 0, axis=1)))
