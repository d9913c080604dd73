r"""The point of a convex hull nearest to the origin, to full precision, on the host.

.. math:: \min_p \tfrac12 \Big\| \sum_i p_i z_i \Big\|^2, \qquad p \ge 0, \quad
   \sum_{i \in g} p_i = 1 \text{ for every group } g

One group is the minimum-norm point of a hull; two groups, one with its points turned around, the
shortest segment between two hulls. Wolfe's active-set method ("Finding the nearest point in a
polytope", Mathematical Programming 11, 1976) keeps a set of affinely independent members and
solves for their weights exactly, so that the answer is not limited by a step size. Two additions
make it fast and precise: only the members and the points that violate optimality most are priced
until these are settled; and the point itself is carried along and its residuals are taken from it,
not from a Gram matrix, so that a small optimum is not lost to cancellation.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

ROUNDING = 4e-15  # of a product of two vectors of norm one, where the terms do not cancel
DEPENDENT = 1e-13  # squared distance from the members' affine hull that counts as none
PROGRESS = 1e-13  # relative decrease of the norm that is more than rounding
MIN_BATCH = 64
RIDGE = 0.1  # of the squared norm, in guesses
MAX_GUESSES = 30
MIN_GUESSED = 0.1  # new points per member for which a guess is cheaper than single steps

# Matrices meet vectors in np.vecdot and np.einsum: a threaded BLAS can take a hundred times longer
# for so little work when the machine's cores are busy.


@functools.cache
def posdef_solver() -> Callable[..., Any]:
    """LAPACK's posv, which has less overhead than `cho_solve`; SciPy is imported when needed."""
    from scipy.linalg import get_lapack_funcs

    (solve,) = get_lapack_funcs(("posv",), dtype=np.float64)
    return solve


class HullPoints(NamedTuple):
    """Points z_1, ..., z_n of norm at most one, known by what can be done with them."""

    groups: Array  # [n] integers in 0..K-1, each of which occurs
    rows: Callable[[Array], Array]  # indices [c] -> rows, where products = rows @ x
    products: Callable[[Array], Array]  # x -> all z_i . x, [n]
    combine: Callable[[Array, Array, Array], Array]  # indices, their rows, p [c] -> x
    gram: Callable[[Array, Array, Array, Array], Array]  # two pairs (indices, rows) -> their Gram
    norm: Callable[[Array], float]  # of x
    origin: float  # a norm that is zero but for rounding
    cancellation: float  # the norm below which products lose relative precision


class NearestPoint(NamedTuple):
    """The nearest point x and its weights; `gap` is what remains, relative to the norm."""

    point: Array
    dual: Array  # [n], a simplex for every group
    products: Array  # [n]
    norm: float
    gap: float
    num_iterations: int


def row_points(rows: Array, groups: Array) -> HullPoints:
    """Points given as the rows of a matrix [n, D]."""
    return HullPoints(
        groups=groups,
        rows=lambda indices: rows[indices],
        products=lambda x: np.vecdot(rows, x),
        combine=lambda indices, some, p: np.einsum("i,ij->j", p, some),
        gram=lambda i, some, j, others: (
            np.vecdot(some, others[0])[:, None] if len(j) == 1 else some @ others.T
        ),
        norm=lambda x: float(np.sqrt(x @ x)),
        origin=1e-13,
        cancellation=0.0,
    )


def gram_points(gram: Array, groups: Array) -> HullPoints:
    """Points known by their inner products [n, n]; x is held as its coefficients [n]."""

    def combine(indices, some, p):
        x = np.zeros(len(gram))
        x[indices] = p
        return x

    return HullPoints(
        groups=groups,
        rows=lambda indices: gram[indices],
        products=lambda x: np.vecdot(gram, x),
        combine=combine,
        gram=lambda i, some, j, others: gram[np.ix_(i, j)],
        norm=lambda x: float(np.sqrt(max(x @ np.vecdot(gram, x), 0.0))),
        origin=1e-7,
        cancellation=0.05,
    )


def nearest_point(
    points: HullPoints, start: Array, tol: float, max_iterations: int
) -> NearestPoint:
    """Solves the problem of the module from one starting index per group, [K].

    It stops at a relative gap of `tol`, at the origin, after `max_iterations` changes of the
    members, or when rounding forbids further progress; `gap` says which accuracy was reached.
    """
    groups, num_groups = points.groups, len(start)
    members = _Members(points, start)
    rounds_without_progress, last_norm = 0, np.inf
    while True:
        norm = points.norm(members.x)
        products = points.products(members.x)
        levels = members.levels(products[members.indices])
        gap = _relative_gap(products, groups, num_groups, norm)
        progress = norm < (1 - PROGRESS) * last_norm
        rounds_without_progress = 0 if progress else rounds_without_progress + 1
        last_norm = min(norm, last_norm)
        finished = gap <= 0.5 * tol or norm <= points.origin or rounds_without_progress > 1
        if finished or members.num_changes >= max_iterations:
            break
        violations = levels[groups] - products
        violations[members.indices] = 0
        batch = max(MIN_BATCH, len(members.indices))
        worst = _largest(violations, batch)
        members.settle_among(worst[violations[worst] > 0], tol, max_iterations)

    dual = np.zeros(len(groups))
    dual[members.indices] = members.p
    return NearestPoint(members.x, dual, products, norm, gap, members.num_changes)


class _Members:
    """The active set: its weights, its point, and the inverse of its optimality system.

    The system is [[0, E], [E^T, G]] with E the members' groups and G their Gram matrix. The
    inverse is updated by borders as members come and go; as every step starts from fresh
    residuals, its rounding slows convergence but does not move the answer.
    """

    def __init__(self, points: HullPoints, start: Array) -> None:
        self.points = points
        self.num_groups = len(start)
        self.indices = np.array(start)
        self.p = np.ones(len(start))
        rows = points.rows(self.indices)
        self.x = points.combine(self.indices, rows, self.p)
        self.num_changes = 0
        self.buffer = np.zeros((0, 0))
        one = np.eye(len(start))
        self.inverse = np.block([[-points.gram(start, rows, start, rows), one], [one, 0 * one]])

    @property
    def inverse(self) -> Array:
        """A view of the buffer; the groups come first, then the members."""
        size = self.num_groups + len(self.indices)
        return self.buffer[:size, :size]

    @inverse.setter
    def inverse(self, value: Array) -> None:
        self.reserve(len(value))
        self.inverse[...] = value

    def levels(self, products: Array) -> Array:
        """The mean product of each group's members, equal for all of them once settled."""
        groups = self.points.groups[self.indices]
        return np.bincount(groups, self.p * products) / np.bincount(groups, self.p)

    def settle_among(self, others: Array, tol: float, max_iterations: int) -> None:
        """Solves the problem for the members and some other points."""
        self.pool = np.concatenate([self.indices, others])
        self.pool_rows = self.points.rows(self.pool)
        self.place = np.arange(len(self.indices))  # of the members in the pool
        groups = self.points.groups[self.pool]
        if len(others) > MIN_GUESSED * len(self.indices):
            self.leap()
        best, stalled = np.inf, 0
        while self.num_changes < max_iterations and stalled < 10:
            products = self.settle(tol)
            norm = self.points.norm(self.x)
            stalled = 0 if norm < (1 - PROGRESS) * best else stalled + 1
            best = min(norm, best)
            violations = self.levels(products[self.place])[groups] - products
            violations[self.place] = 0
            worst = int(np.argmax(violations))
            if violations[worst] <= self.threshold(0.1 * tol, norm) or norm <= self.points.origin:
                return
            self.add(worst)

    def leap(self) -> None:
        """Guesses many members at once: leaves out all negative weights until none is left.

        A ridge, dropped at the end, keeps the guesses apart where the points are dependent. The
        result is taken only if it is a better point with a regular system: it saves steps, and
        decides nothing.
        """
        groups = self.points.groups[self.pool]
        gram = self.points.gram(self.pool, self.pool_rows, self.pool, self.pool_rows)
        scale = np.mean(np.diagonal(gram))
        # Over the simplices this term is constant; with it only affine dependence is singular.
        shifted = gram + scale * (groups[:, None] == groups)
        in_group = (groups[:, None] == np.arange(self.num_groups)).astype(float)
        kept, ridge = np.arange(len(self.pool)), RIDGE * scale
        for _ in range(MAX_GUESSES):
            system, sums = shifted.take(kept, 0).take(kept, 1), in_group.take(kept, 0)
            system.flat[:: len(kept) + 1] += ridge
            solved, info = posdef_solver()(system, sums)[1:]
            if info != 0:
                return
            p = solved @ posdef_solver()(sums.T @ solved, np.ones(self.num_groups))[1]
            if p.min() <= 0:
                kept = kept[p > 0]
                if in_group.take(kept, 0).sum(axis=0).min() == 0:
                    return
            elif ridge > 0:
                ridge = 0.0
            else:
                break
        else:
            return
        x = self.points.combine(self.pool[kept], self.pool_rows[kept], p)
        if self.points.norm(x) >= self.points.norm(self.x):
            return
        inverse = _inverse(self.system(groups[kept], gram[np.ix_(kept, kept)]))
        if inverse is not None:
            self.num_changes += len(kept)
            self.indices, self.place, self.p, self.x = self.pool[kept], kept, p, x
            self.inverse = inverse

    def settle(self, tol: float) -> Array:
        """Moves to the optimum over the members, dropping those that reach zero on the way.

        Returns the products of the pool with the point.
        """
        num_full_steps = 0
        while True:
            products = np.vecdot(self.pool_rows, self.x)
            own = products[self.place]
            norm = self.points.norm(self.x)
            spread = np.max(np.abs(own - self.levels(own)[self.points.groups[self.indices]]))
            settled = spread <= self.threshold(0.01 * tol, norm) or norm <= self.points.origin
            if settled or num_full_steps == 5:
                return products
            if num_full_steps == 3:
                self.invert(self.pool_rows[self.place])
            inverse = self.inverse[self.num_groups :, self.num_groups :]
            step = -np.vecdot(inverse, own)
            falling = np.flatnonzero(self.p + step <= 0)
            if falling.size:
                ratios = self.p[falling] / -step[falling]
                first = falling[np.argmin(ratios)]
                self.move(min(ratios.min(), 1.0) * step)
                self.remove(first)
            else:
                self.move(step)
                num_full_steps += 1

    def threshold(self, tol: float, norm: float) -> float:
        return max(tol * norm**2, ROUNDING * max(norm, self.points.cancellation))

    def move(self, step: Array) -> None:
        full = np.zeros(len(self.pool))
        full[self.place] = step
        self.p = np.maximum(self.p + step, 0)
        self.x = self.x + self.points.combine(self.pool, self.pool_rows, full)

    def add(self, place: int) -> None:
        """Takes in a point of the pool with weight zero."""
        self.num_changes += 1
        index, row = self.pool[[place]], self.pool_rows[[place]]
        gram = self.points.gram(self.pool, self.pool_rows, index, row)[:, 0]
        border = np.concatenate(
            [np.arange(self.num_groups) == self.points.groups[index], gram[self.place]]
        )
        solved = np.vecdot(self.inverse, border)
        distance = gram[place] - border @ solved
        if distance <= DEPENDENT:
            self.exchange(place, solved[self.num_groups :])
            return
        size = len(border)
        self.reserve(size + 1)
        self.inverse[...] += np.outer(solved / distance, solved)
        self.buffer[size, :size] = self.buffer[:size, size] = -solved / distance
        self.buffer[size, size] = 1 / distance
        self.append(place)

    def append(self, place: int) -> None:
        self.indices = np.append(self.indices, self.pool[place])
        self.place = np.append(self.place, place)
        self.p = np.append(self.p, 0.0)

    def exchange(self, place: int, coefficients: Array) -> None:
        """Takes in an affine combination of the members for the first of them to reach zero."""
        giving = np.flatnonzero(coefficients > 0)
        ratios = self.p[giving] / coefficients[giving]
        out = giving[np.argmin(ratios)]
        self.append(place)
        self.move(ratios.min() * np.append(-coefficients, 1.0))
        keep = np.arange(len(self.indices)) != out
        self.indices, self.place, self.p = self.indices[keep], self.place[keep], self.p[keep]
        self.invert(self.pool_rows[self.place])

    def remove(self, member: int) -> None:
        """Leaves out a member of weight zero; the last one takes its place."""
        self.num_changes += 1
        inverse, at = self.inverse, self.num_groups + member
        column = inverse[:, at].copy()
        column[[at, -1]] = column[[-1, at]]
        inverse[at, :] = inverse[-1, :]
        inverse[:, at] = inverse[:, -1]
        inverse[:-1, :-1] -= np.outer(column[:-1] / column[-1], column[:-1])
        for array in (self.indices, self.place, self.p):
            array[member] = array[-1]
        self.indices, self.place, self.p = self.indices[:-1], self.place[:-1], self.p[:-1]

    def invert(self, rows: Array) -> None:
        """Computes the inverse afresh."""
        gram = self.points.gram(self.indices, rows, self.indices, rows)
        system = self.system(self.points.groups[self.indices], gram)
        inverse = _inverse(system)
        self.inverse = np.linalg.pinv(system, hermitian=True) if inverse is None else inverse

    def system(self, groups: Array, gram: Array) -> Array:
        k = self.num_groups
        system = np.zeros((k + len(gram), k + len(gram)))
        system[:k, k:] = np.arange(k)[:, None] == groups
        system[k:, :k] = system[:k, k:].T
        system[k:, k:] = gram
        return system

    def reserve(self, size: int) -> None:
        if size > len(self.buffer):
            larger = np.zeros((2 * size, 2 * size))
            larger[: len(self.buffer), : len(self.buffer)] = self.buffer
            self.buffer = larger


def _relative_gap(products: Array, groups: Array, num_groups: int, norm: float) -> float:
    smallest = np.full(num_groups, np.inf)
    np.minimum.at(smallest, groups, products)
    return float(1 - smallest.sum() / norm**2) if norm > 0 else np.inf


def _inverse(system: Array) -> Array | None:
    """The inverse, or None if rounding leaves nothing of it."""
    try:
        inverse = np.linalg.inv(system)
    except np.linalg.LinAlgError:
        return None
    error = system @ inverse
    error[range(len(error)), range(len(error))] -= 1
    return inverse if np.max(np.abs(error)) < 1e-6 else None


def _largest(values: Array, count: int) -> Array:
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    return np.argpartition(-values, count)[:count]
