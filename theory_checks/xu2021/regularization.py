r"""Explicit regularization and importance weights (xu2021, Sec. 5): l2, early stopping, dropout.

Early stopping and a strong l2 penalty keep the norm finite, so that the weights matter; dropout is
said not to. Derived here, for linear models, the exponential loss and :math:`\|x_i\| \le 1`:

1. Two weightings' minimisers with penalty :math:`\lambda \|\theta\|^2` have directions no farther
   apart than the sum over both of :math:`\sqrt{2 \log(1 / \omega_{\min}) / (\gamma^\star
   \|\theta_\lambda\|)}`, by Prop. 3 and :math:`\gamma^\star \langle \theta, \theta^\star \rangle
   \ge \tilde\gamma(\theta)` of unit :math:`\theta`. As :math:`\lambda \to \infty`, and after one
   step of descent, the directions are those of the weighted means :math:`m = \sum_i \omega_i z_i`,
   up to :math:`2 (e^{\|\theta_\lambda\|} - 1) / \|m\|`.
2. Inverted dropout of the inputs, each kept with probability p < 1, has the expected risk

   .. math:: \frac{1}{n} \sum_i w_i \prod_j \big(1 - p + p\, e^{-z_{ij} \theta_j / p}\big).

   Every mask must be separated, those of single features too: the norm diverges if and only if
   some :math:`z_{\cdot j} \ne 0` has no two signs, that is if one feature alone separates (weakly).
   Then :math:`\theta_j \approx p \log t / \min_i z_{ij}`. Otherwise there is a finite minimiser,
   which depends on the weights.
3. Dropout of hidden ReLU units leaves room to diverge: a unit that is active on one class only is
   right under every mask.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

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
from theory_checks.records import Check, Plot, Row

LAMBDAS = 10.0 ** -np.array([-2, 1, 2, 3, 5, 7, 9])
KEPT = 0.5  # probability that an input or a unit survives dropout
HIDDEN = 5
STILL = 0.02  # relative growth over a quarter decade; log t grows by 0.05 to 0.06 of itself


def checks(preset: str) -> list[Check]:
    """All four; few sets and short runs for "smoke"."""
    if preset == "smoke":
        return [
            penalty(num_sets=2),
            stopping(num_sets=4, last=1000),
            dropout(num_sets=3, last=10_000, num_cones=40),
            networks(num_seeds=3, last=1000),
        ]
    return [penalty(), stopping(), dropout(), networks()]


# --- l2 and early stopping --------------------------------------------------------------------


def penalty(*, num_sets: int = 12, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-S5b: angles between the minimisers of five weightings along lambda."""
    rng = np.random.default_rng(seed)
    problems = weighted_problems(rng, _separable_sets(rng, num_sets))
    paths = np.stack([
        regularized_path(points, weights / weights.sum(), LAMBDAS, 2.0)
        for points, weights in zip(problems.points, problems.weights, strict=True)
    ])  # fmt: skip
    angles = _mean_angles(problems, paths)
    smallest = problems.weights.min(axis=1) / problems.weights.sum(axis=1)
    norms = np.linalg.norm(paths, axis=-1)
    reach = np.sqrt(-2 * np.log(smallest)[:, None] / (problems.margins[:, None] * norms))
    ratio = 0.0
    for paths_of, reach_of in zip(problems.by_set(paths), problems.by_set(reach), strict=True):
        for one, other in itertools.combinations(range(len(problems.names)), 2):
            bound = tighten * (reach_of[one] + reach_of[other])
            apart = _unit(paths_of[one]) - _unit(paths_of[other])
            ratio = max(ratio, float(np.max(np.linalg.norm(apart, axis=-1) / bound)))
    means = _weighted_means(problems)
    strong = distance(paths[:, 0], _unit(means))
    room = 2 * np.expm1(norms[:, 0]) / np.linalg.norm(means, axis=-1)
    margins = np.einsum("ktd,knd->ktn", paths, problems.points).min(axis=-1)
    flipped = problems._replace(points=_flip(problems.points))
    mixed = np.stack([
        regularized_path(points, weights / weights.sum(), LAMBDAS, 2.0)
        for points, weights in zip(flipped.points, flipped.weights, strict=True)
    ])  # fmt: skip
    mixed_angles = _mean_angles(flipped, mixed)
    trend = mean_interval(slope(np.log(np.log(1 / LAMBDAS[2:])), np.log(angles[:, 2:])))
    rows = [
        Row("distance of two minimisers' directions over its bound", ratio, 1.0),
        Row("lambda = 100: distance from the weighted mean over its bound",
            float(np.max(strong / room)), 1.0),
        Row("mean angle at lambda = 1e-9 over that at 0.1",
            float(angles[:, -1].mean() / angles[:, 1].mean()), 0.5),
    ]  # fmt: skip
    for index, regularization in enumerate(LAMBDAS):
        rows += _interval(f"lambda = {regularization:.0e}: mean angle in degrees", angles[:, index])
    rows += _interval("slope of log angle on log log(1/lambda), 1e-2 to 1e-9", trend=trend)
    rows.append(Row("lambda = 0.1: share of minimisers that do not separate",
                    float(np.mean(margins[:, 1] <= 0))))  # fmt: skip
    return Check(
        "X-S5b l2",
        "weights matter under a strong l2 penalty, and no longer as it vanishes",
        "TREND",
        tuple(rows),
        assumptions="linear, separable, exponential loss, global minimisers, five weightings",
        control=(
            Row("not separable: mean angle at lambda = 1e-9 over that at 0.1",
                float(mixed_angles[:, -1].mean() / mixed_angles[:, 1].mean()), 0.5),
        ),
        plot=Plot(
            "lambda",
            "mean angle between weightings, degrees",
            {
                "separable": curve(LAMBDAS, angles.mean(axis=0)),
                "not separable": curve(LAMBDAS, mixed_angles.mean(axis=0)),
            },
            "x",
        ),
    )  # fmt: skip


def stopping(*, num_sets: int = 12, last: int = 100_000, seed: int = 0) -> Check:
    """X-S5b: the same angles along gradient descent."""
    rng = np.random.default_rng(seed)
    problems = weighted_problems(rng, _separable_sets(rng, num_sets))
    times = log_spaced(last)
    paths = descend(problems.points, problems.weights, 1.0, times).params
    angles = _mean_angles(problems, paths)
    flipped = problems._replace(points=_flip(problems.points))
    mixed = _mean_angles(flipped, descend(flipped.points, flipped.weights, 0.5, times).params)
    first = float(np.max(distance(paths[:, 0], _unit(_weighted_means(problems)))))
    margins = np.einsum("ktd,knd->ktn", paths, problems.points).min(axis=-1)
    rows = [
        Row("step 1: distance from the direction of the weighted mean", first, 1e-12),
        Row("mean angle at the last step over that at the first",
            float(angles[:, -1].mean() / angles[:, 0].mean()), 0.6),
    ]  # fmt: skip
    for index in range(0, len(times), 4):
        rows += _interval(f"step {times[index]}: mean angle in degrees", angles[:, index])
    trend = mean_interval(slope(np.log(times[4:]), angles[:, 4:]))
    rows += _interval("slope of the angle on log t, from step 10", trend=trend)
    rows.append(Row("step 10: share that does not separate", float(np.mean(margins[:, 4] <= 0))))
    return Check(
        "X-S5b early stopping",
        "weights matter when descent stops early, and less the longer it runs",
        "TREND",
        tuple(rows),
        assumptions="linear, separable, exponential loss, constant step, five weightings",
        control=(
            Row("not separable: mean angle at the last step over that at the first",
                float(mixed[:, -1].mean() / mixed[:, 0].mean()), 0.6),
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
    )  # fmt: skip


def _separable_sets(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(count)]


def _flip(points: np.ndarray) -> np.ndarray:
    """Every fourth label turned: no longer separable."""
    return points * np.where(np.arange(points.shape[1]) % 4 == 0, -1.0, 1.0)[None, :, None]


def _weighted_means(problems: Problems) -> np.ndarray:
    shares = problems.weights / problems.weights.sum(axis=1, keepdims=True)
    return np.einsum("kn,knd->kd", shares, problems.points)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _mean_angles(problems: Problems, paths: np.ndarray) -> np.ndarray:
    """Mean over the pairs of arms, in degrees: paths [K, T, D] -> [S, T]."""
    units = problems.by_set(_unit(paths))
    pairs = itertools.combinations(range(len(problems.names)), 2)
    chords = [np.linalg.norm(units[:, one] - units[:, other], axis=-1) for one, other in pairs]
    return np.degrees(2 * np.arcsin(np.clip(np.mean(chords, axis=0) / 2, 0, 1)))


def _interval(
    quantity: str,
    values: np.ndarray | None = None,
    trend: tuple[float, float, float] | None = None,
) -> list[Row]:
    """Mean and 95 % interval as three rows."""
    if trend is None:
        assert values is not None
        trend = mean_interval(values)
    names = (quantity, f"{quantity}: lower end", f"{quantity}: upper end")
    return [Row(name, float(value)) for name, value in zip(names, trend, strict=True)]


# --- dropout of the inputs of a linear model --------------------------------------------------


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
    sets = []
    while len(sets) < num_sets:
        points = separable_points(rng, 20, 2, gap=(0.3, 0.8))
        if not some_feature_separates(points):
            sets.append(points)
    problems = weighted_problems(rng, sets)
    turns = [_turned(direction) for direction in problems.directions]
    aligned = np.stack([p @ turn for p, turn in zip(problems.points, turns, strict=True)])
    times = log_spaced(last)
    mixed = descend_dropout(problems.points, problems.weights, times, kept)
    single = descend_dropout(aligned, problems.weights, times, kept)
    plain = descend_dropout(problems.points, problems.weights, times, 1.0)
    minima = np.stack([
        dropout_minimiser(points, weights, kept)
        for points, weights in zip(problems.points, problems.weights, strict=True)
    ])  # fmt: skip
    sizes = np.linalg.norm(minima, axis=-1)
    off = np.linalg.norm(mixed[:, -1] - minima, axis=-1) / sizes
    margins = np.einsum("kd,knd->kn", minima, problems.points).min(axis=-1)
    rate = (single[:, -1, 0] - single[:, -5, 0]) / np.log(10) * aligned[:, :, 0].min(axis=1) / kept
    angles = _mean_angles(problems, minima[:, None])[:, 0]
    disagree, open_cones = 0, 0
    for _ in range(num_cones):
        points = rng.normal(size=(int(rng.integers(2, 6)), 3))
        cone = unbounded_direction(points)
        open_cones += cone
        disagree += cone != some_feature_separates(points)
    noisy = sampled_dropout(problems.points, problems.weights, min(last, 10_000), kept)
    sampled = float(noisy[:, -1].mean() / noisy[:, 0].mean())
    return Check(
        "X-S5b dropout",
        "a linear model under dropout diverges only if one feature alone separates the data",
        "FALSE-AS-PRINTED",
        (
            Row("random cones: criterion against linear programming, disagreements", disagree, 0),
            Row("of them open, share", open_cones / num_cones),
            Row("no separating feature: growth of the norm, last quarter decade",
                float(_growths(mixed, 1).max()), STILL),
            Row("distance of the last iterate from the minimiser, relative, largest",
                float(off.max()), 1e-2),
            Row("norm along descent over twice the minimiser's",
                float(np.max(np.linalg.norm(mixed, axis=-1) / (2 * sizes[:, None]))), 1.0),
            Row("norm of the minimisers, largest", float(sizes.max())),
            Row("minimisers that do not separate the data, share", float(np.mean(margins <= 0))),
            *_interval("mean angle of the minimisers of five weightings, degrees", angles),
            Row("fresh masks at every step: mean norm, second half over first half", sampled),
            Row("one separating feature: minus the smallest growth of the norm",
                -float(_growths(single, 1).min()), -STILL),
            Row("|growth of its parameter over p log t / min z - 1|, mean",
                float(np.mean(np.abs(rate - 1))), 0.3),
        ),
        assumptions="separable data, exponential loss, inverted dropout of inputs, expected risk",
        control=(
            Row("no dropout: growth of the norm, last quarter decade",
                float(_growths(plain, 1).max()), STILL),
        ),
        erratum=(
            "Dropout is said not to prohibit the divergence of the norm nor to interfere, but for "
            "a linear model on separable data of which no single feature separates, dropout of the "
            f"inputs leaves a finite minimiser (norm {sizes.max():.1f} at most) that depends on "
            "the weights. The norm diverges if and only if some feature alone separates the data, "
            "at least weakly."
        ),
        plot=Plot(
            "steps",
            "median norm",
            {
                name: curve(times, np.median(np.linalg.norm(path, axis=-1), axis=0))
                for name, path in (
                    ("no dropout", plain),
                    ("dropout, one feature separates", single),
                    ("dropout, none does", mixed),
                )
            },
            "x",
        ),
    )  # fmt: skip


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
        value, np.zeros(points.shape[1]), jac=True, hess=hessian, method="trust-exact",
        options={"gtol": 1e-12},
    )  # fmt: skip
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


def sampled_dropout(
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


def _growths(path: np.ndarray, records: int) -> np.ndarray:
    """Growth of the norm over the last records, relative to its end: [K, T, D] -> [K]."""
    norms = np.linalg.norm(path, axis=-1)
    return 1 - norms[:, -1 - records] / norms[:, -1]


# --- networks ---------------------------------------------------------------------------------


class Networks(NamedTuple):
    """Recorded two-layer networks of K problems."""

    inner: np.ndarray  # [K, T, H, D]
    outer: np.ndarray  # [K, T, H]


def networks(*, num_seeds: int = 6, last: int = 100_000, seed: int = 0) -> Check:
    """X-S5b: two-layer ReLU networks under l2 and under dropout of hidden units; reported."""
    rng = np.random.default_rng(seed)
    lambdas = np.array([1e-1, 1e-2, 1e-3, 1e-5, 0.0])
    sets = [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(num_seeds)]
    signs = np.where(np.arange(20) % 2, 1.0, -1.0)
    arms = np.stack([
        np.ones(20),
        np.where(signs > 0, 10.0, 1.0) / 5.5,
        np.where(signs > 0, 1.0, 10.0) / 5.5,
    ])  # fmt: skip
    starts = [(rng.normal(size=(HIDDEN, 2)), rng.normal(size=HIDDEN)) for _ in sets]
    cases = list(itertools.product(range(num_seeds), range(len(arms)), range(len(lambdas) + 1)))
    kept = np.array([KEPT if case[2] == len(lambdas) else 1.0 for case in cases])
    penalties = np.array([np.append(lambdas, 0.0)[case[2]] for case in cases])
    times = log_spaced(last, per_decade=1)
    trained = train_networks(
        np.stack([signs[:, None] * sets[case[0]] for case in cases]),
        signs,
        np.stack([arms[case[1]] for case in cases]),
        (np.stack([starts[case[0]][0] for case in cases]),
         np.stack([starts[case[0]][1] for case in cases])),
        times, penalties, kept,
    )  # fmt: skip
    shape = (num_seeds, len(arms), len(lambdas) + 1, len(times))
    squares = np.sum(trained.inner**2, axis=(2, 3)) + np.sum(trained.outer**2, axis=2)
    squares = squares.reshape(shape)
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    hidden = np.maximum(np.einsum("khd,gd->kgh", trained.inner[:, -1], circle), 0)
    outputs = np.einsum("kgh,kh->kg", hidden, trained.outer[:, -1]).reshape(*shape[:3], -1)
    collapsed = squares[..., -1] < 1e-6  # zero is a stationary point, and a minimum if l2 is strong
    directions = np.where(collapsed[..., None], 0.0, outputs)
    directions[~collapsed] = _unit(directions[~collapsed])
    pairs = list(itertools.combinations(range(len(arms)), 2))
    chords = [np.linalg.norm(directions[:, i] - directions[:, j], axis=-1) for i, j in pairs]
    angles = np.degrees(2 * np.arcsin(np.clip(np.mean(chords, axis=0) / 2, 0, 1)))
    growth = (squares[..., -1] - squares[..., -2]) / np.log(10)
    rows = []
    for index, regularization in enumerate(lambdas):
        name = f"lambda = {regularization:.0e}"
        rows.append(Row(f"{name}: share that ends at zero", float(collapsed[:, :, index].mean())))
        if not collapsed[:, :, index].any():
            rows += _interval(f"{name}: angle of the functions, degrees", angles[:, index])
        rows.append(Row(f"{name}: median growth of |theta|^2 per log t, last decade",
                        float(np.median(growth[:, :, index]))))  # fmt: skip
    dropped = growth[:, :, -1]
    rows += _interval("hidden dropout: angle of the functions, degrees", angles[:, -1])
    rows += [
        Row("hidden dropout: median growth of |theta|^2 per log t, last decade",
            float(np.median(dropped))),
        Row("hidden dropout: share that grows by more than 0.1", float(np.mean(dropped > 0.1))),
        Row("hidden dropout: share with a unit active on its own class only",
            float(np.mean([
                has_pure_unit(trained, k, signs[:, None] * sets[case[0]], signs)
                for k, case in enumerate(cases) if case[2] == len(lambdas)
            ]))),
    ]  # fmt: skip
    rows += _interval("angle at lambda = 0.01 less that at 1e-5", angles[:, 1] - angles[:, 3])
    return Check(
        "X-S5b networks",
        "in networks l2 makes weights matter; dropout of hidden units need not stop the norm",
        "TREND",
        tuple(rows),
        assumptions=f"{HIDDEN} ReLU units, separable data, class weights 1:1, 1:10 and 10:1",
        control=(
            Row("lambda = 0.1: minus the median growth of |theta|^2 per log t",
                -float(np.median(growth[:, :, 0])), -0.1),
        ),
        plot=Plot(
            "steps",
            "median |theta|^2",
            {name: curve(times, np.median(squares[:, :, index], axis=(0, 1)))
             for name, index in (("lambda = 0.1", 0), ("lambda = 1e-3", 2), ("lambda = 0", 4),
                                 ("hidden dropout", 5))},
            "x",
        ),
    )  # fmt: skip


def train_networks(
    inputs: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
    times: np.ndarray,
    penalties: np.ndarray,
    kept: np.ndarray,
) -> Networks:
    """Descent of the risk expected over masks of the hidden units, steps 0.1 / max(1, L)."""
    with jax.enable_x64(True):
        lengths = jnp.asarray(np.diff(np.append(0, times)))
        arrays = (inputs, weights, *start, penalties, kept)
        inner, outer = _train_networks(
            *(jnp.asarray(array, float) for array in arrays), jnp.asarray(labels), lengths
        )
        return Networks(*(np.swapaxes(np.asarray(part), 0, 1) for part in (inner, outer)))


@jax.jit
def _train_networks(inputs, weights, inner, outer, penalties, kept, labels, lengths):
    count = inputs.shape[1]

    def risk(params, inputs, weights, penalty, kept):
        inner, outer = params
        pulls = labels[:, None] * jnp.maximum(inputs @ inner.T, 0) * outer[None]  # [N, H]
        # Units are dropped independently, so that the expectation is a product.
        factors = 1 - kept + kept * jnp.exp(-pulls / kept)
        loss = jnp.sum(weights * jnp.prod(factors, axis=1)) / count
        return loss + penalty * (jnp.sum(inner**2) + jnp.sum(outer**2))

    slopes_of = jax.vmap(jax.value_and_grad(risk))

    def step(_, params):
        values, slopes = slopes_of(params, inputs, weights, penalties, kept)
        rates = 0.1 / jnp.maximum(1, values)
        return jax.tree.map(
            lambda p, s: p - rates.reshape(-1, *[1] * (p.ndim - 1)) * s, params, slopes
        )

    def segment(params, length):
        params = jax.lax.fori_loop(0, length, step, params)
        return params, params

    return jax.lax.scan(segment, (inner, outer), lengths)[1]


def has_pure_unit(trained: Networks, index: int, inputs: np.ndarray, labels: np.ndarray) -> bool:
    """Whether some unit of the last network is active, and only where its sign is the label."""
    active = inputs @ trained.inner[index, -1].T > 0
    right = labels[:, None] * np.sign(trained.outer[index, -1]) > 0
    return bool(np.any(np.any(active, axis=0) & np.all(~active | right, axis=0)))
