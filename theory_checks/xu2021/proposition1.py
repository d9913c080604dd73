r"""How gradient descent on weighted exponential loss turns to the max-margin direction (Prop. 1).

With weights of mean one, inputs of norm at most one, :math:`\eta \le 1`, a start at zero and
:math:`\omega = w / n`,

.. math:: \Big\| \frac{\theta_t}{\|\theta_t\|} - \theta^\star \Big\|^2
   \le \frac{2 [KL(p^\star \| \omega) + \eta]}{\gamma^\star \|\theta_t\|};

for other weights the bracket is :math:`\log L_0 + \eta L_0 + \log n + \sum_i p^\star_i \log
(p^\star_i / w_i)`. References: xu2021, Prop. 1, (A.2)-(A.9).
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array

from theory_checks.common.columns import concatenate
from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import (
    FLOOR,
    Problems,
    clear_points,
    curve,
    distance,
    divergence,
    log_risk,
    mean_interval,
    separable_points,
    slope,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot
from weighting import linearize_losses, weighted_risk
from weighting.losses import exponential

SHARE = 0.9  # of the data sets on which weights like the dual must win
DECADE = 4  # records of a factor of ten in time


def checks(preset: str) -> list[Check]:
    """The explicit bound, the rate and the speed; short runs for "smoke"."""
    if preset == "smoke":
        return [
            explicit(num_sets=4, num_params=200, last=1000, sizes=(3,)),
            rate(num_sets=10, count=8, last=100_000, sizes=(2,)),
            speed(num_sets=20, last=1000),
        ]
    return [explicit(), rate(), speed()]


def _single(problems: Problems) -> Iterator[tuple]:
    """Of every problem: points [N, D], weights [N], direction [D], margin and dual [N]."""
    return zip(*problems[1:], strict=True)


# --- the explicit bound -----------------------------------------------------------------------


class ExplicitBound(NamedTuple):
    """(A.6) at P random parameters, and the bound at T numbers of steps, for K problems."""

    excess: np.ndarray  # [K, P] left - right side of (A.6), relative
    identity: np.ndarray  # [K, P] difference of the two forms of its bracket
    without_divergence: np.ndarray  # [K] excess far along theta*, without log n + KL
    gradient: np.ndarray  # [G, 2] relative errors of the library's gradient and log risk
    ratios: np.ndarray  # [K, T] squared distance over its bound
    small_step: np.ndarray  # [K, T] the same with step 0.01 and without the divergence


def explicit(
    *,
    num_sets: int = 20,
    num_params: int = 1000,
    last: int = 100_000,
    sizes: tuple[int, ...] = (2, 3, 4),
    tighten: float = 1.0,
    seed: int = 0,
) -> Check:
    """X-P1: (A.6) at random parameters and the bound along descent, times `tighten`."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 30, sizes[i % len(sizes)]) for i in range(num_sets)]
    times, by_size, curves = log_spaced(last), [], {}
    for size in sizes:
        problems = _rescaled_problems(rng, [points for points in sets if points.shape[1] == size])
        by_size.append(_explicit_bound(rng, problems, num_params, times))
        if size == sizes[0]:
            median = np.median(problems.by_set(by_size[0].ratios / tighten), axis=0)
            curves = {name: curve(times, median[i]) for i, name in enumerate(problems.names)}
    found = concatenate(by_size)
    worst = float(np.max(found.ratios / tighten))
    return Check(
        "X-P1 explicit",
        "squared distance of the direction <= 2 [KL(p*, w / n) + eta] / (margin |theta_t|)",
        "EXACT-CORR",
        _explicit_rows(found, worst),
        assumptions="exponential loss, |x_i| <= 1, start at zero, step times initial risk <= 1",
        control=(
            Measured(
                "left / right side without the divergence, step 0.01",
                float(np.max(found.small_step)),
                1.0,
            ),
            Measured(
                "(A.6) without log n + KL, far along theta*",
                float(np.max(found.without_divergence)),
                1e-12,
            ),
        ),
        erratum=(
            "Eq. 2 bounds the distance by 1 / (margin log t), with log n + KL + M, but only the "
            "squared distance is proved, by 1 / (margin |theta_t|). Explicitly, with mean-one "
            "weights and p* against w / n, the square is at most 2 (KL + eta) / (margin |theta_t|) "
            f"(largest ratio {worst:.2f} of {found.ratios.size} cases): log n and M were "
            "normalization."
        ),
        plot=Plot("steps", "squared distance / its bound", curves, "xy"),
    )


def _explicit_rows(found: ExplicitBound, worst: float) -> tuple[Measured, ...]:
    return (
        Measured(
            "(A.6) at random theta: left - right side, relative",
            float(np.max(found.excess)),
            1e-12,
        ),
        Measured("two forms of its bracket, difference", float(np.max(found.identity)), 1e-12),
        Measured(
            f"left / right side after 10^0..10^5 steps ({found.ratios.size} cases)", worst, 1.0
        ),
        Measured(
            "library's gradient of the weighted risk, relative error",
            float(np.max(found.gradient)),
            1e-12,
        ),
    )


def _rescaled_problems(rng: np.random.Generator, sets: list[np.ndarray]) -> Problems:
    """With weights of any mean, which they may have: the step makes up for it."""
    problems = weighted_problems(rng, sets)
    factors = np.where(np.arange(len(problems.points)) % 2, 1.0, 10 ** rng.uniform(-1, 1))
    return problems._replace(weights=problems.weights * factors[:, None])


def _explicit_bound(
    rng: np.random.Generator, problems: Problems, num_params: int, times: np.ndarray
) -> ExplicitBound:
    anywhere, unweighted = [], []
    for points, weights, direction, margin, dual in _single(problems):
        anywhere.append(_anywhere(rng, points, weights, direction, margin, dual, num_params))
        log_loss = log_risk(points, weights / weights.mean(), 1e3 * direction)
        unweighted.append(-(1 + log_loss / (margin * 1e3)))
    excess, identity = map(np.stack, zip(*anywhere, strict=True))
    gradient = [
        _library_errors(rng, points, weights)
        for points, weights in zip(problems.points[:10], problems.weights[:10], strict=True)
    ]
    initial = problems.weights.mean(axis=1)  # L_0
    params = descend(problems.points, problems.weights, 1 / initial, times).params
    # The same bracket without the divergence: small steps leave almost nothing of it.
    small = descend(problems.points, problems.weights, 0.01 / initial, times).params
    return ExplicitBound(
        excess,
        identity,
        np.array(unweighted),
        np.array(gradient),
        _ratios(problems, params, 1 / initial),
        _ratios(problems, small, 0.01 / initial, divergences=False),
    )


def _anywhere(
    rng: np.random.Generator,
    points: np.ndarray,
    weights: np.ndarray,
    direction: np.ndarray,
    margin: float,
    dual: np.ndarray,
    num_params: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The excess of (A.6) at random parameters, relative, and the error of its other form; [P]."""
    count, size = points.shape
    params = rng.normal(size=(num_params, size)) + 3 * rng.uniform(-1, 1, (num_params, 1)) * (
        direction
    )
    params *= 10 ** rng.uniform(-2, 3, (num_params, 1))
    norms = np.linalg.norm(params, axis=1)
    bracket = log_risk(points, weights, params) + np.log(count) + divergence(dual, weights)
    other = divergence(dual, weights / weights.sum())
    other = other + log_risk(points, weights / weights.mean(), params)
    right = 1 + bracket / (margin * norms)
    excess = 0.5 * distance(params, direction) ** 2 - right
    return excess / (1 + np.abs(right)), np.abs(bracket - other) / (1 + np.abs(bracket))


def _library_errors(
    rng: np.random.Generator, points: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Relative errors of its gradient against -L sum q z, and of its risk, by logarithms."""
    theta = rng.normal(size=points.shape[1])
    terms = np.log(weights / len(weights)) - points @ theta
    total = log_risk(points, weights, theta)
    expected = -np.exp(total) * np.exp(terms - total) @ points
    with jax.enable_x64(True):
        labels, inputs = jnp.ones(len(points), int), jnp.asarray(points)

        def losses_fn(params: Array) -> Array:
            return exponential(inputs @ params, labels)

        losses = linearize_losses(losses_fn, jnp.asarray(theta))
        gradient = np.asarray(losses.vjp(jnp.asarray(weights / len(weights))))
        risk = float(weighted_risk(losses.values, jnp.asarray(weights)))
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    return float(error), abs(np.log(risk) - total)


def _ratios(
    problems: Problems, params: np.ndarray, learning_rate: np.ndarray, *, divergences: bool = True
) -> np.ndarray:
    """Squared distance over the explicit bound, [K, T]."""
    initial = problems.weights.mean(axis=1)
    bracket = learning_rate * initial + divergences * _divergences(problems)
    norms = np.linalg.norm(params, axis=-1)
    squares = distance(params, problems.directions[:, None]) ** 2
    return squares * (problems.margins / (2 * bracket))[:, None] * norms


def _divergences(problems: Problems) -> np.ndarray:
    """KL(p*, w / sum w) of every problem, [K]."""
    pairs = zip(problems.duals, problems.weights, strict=True)
    return np.array([divergence(dual, weights / weights.sum()) for dual, weights in pairs])


# --- the rate ---------------------------------------------------------------------------------


class DirectionRates(NamedTuple):
    """How descents of K problems approach theta* with T records; G of them are generic."""

    errors: np.ndarray  # [K, T] |theta_t - theta* log t / gamma* - limit|
    growth: np.ndarray  # [K] gamma* d|theta_t - theta* log t / gamma*| / d log t, last decade
    printed: np.ndarray  # [K] gamma* d|theta_t - theta* log t| / d log t
    slopes: np.ndarray  # [G] of log distance on log norm, steps 1 / (L sqrt t)
    raw_slopes: np.ndarray  # [G] of log distance on log log t, constant steps
    angle_ratios: np.ndarray  # [S] largest angle between arms, over that two decades earlier
    distances: np.ndarray  # [S, A, T] |theta_t / |theta_t| - theta*|


def rate(
    *,
    num_sets: int = 24,
    count: int = 12,
    last: int = 1_000_000,
    sizes: tuple[int, ...] = (2, 3),
    seed: int = 1,
) -> Check:
    r"""X-P1: distance like 1 / log t, and theta_t - theta* log t / margin converging (I-4).

    The limit solves :math:`e^{-z_i^\top \rho} w_i / n = p^\star_i / (\eta \gamma^{\star 2})` on the
    support vectors, which is what constant shares of the gradient require.
    """
    rng = np.random.default_rng(seed)
    times, by_size = log_spaced(last), {}
    for size in sizes:
        sets = [clear_points(rng, count, size) for _ in range(num_sets // len(sizes))]
        by_size[size] = _direction_rates(weighted_problems(rng, sets), times, last)
    found = concatenate(by_size.values())
    unit = float(np.max(found.printed))
    return Check(
        "X-P1 rate",
        "the direction converges like 1 / log t; theta_t - theta* log t / margin converges",
        "CONST",
        (*_slope_rows(found), *_limit_rows(found)),
        assumptions="exponential loss, constant step, dual weights of at least 0.15",
        control=(
            Measured(
                "margin times the growth of |theta_t - theta* log t| per log t, as printed",
                unit,
                0.25,
            ),
        ),
        erratum=(
            "(A.2) calls theta_t - theta* log t bounded with the unit vector theta*, but its norm "
            f"still grows by up to {unit:.2f} / margin per unit of log t after {last:.0e} steps. "
            "With theta* / margin, the support vector machine's vector, it converges to a limit "
            "that solves linear equations on the support vectors."
        ),
        plot=Plot(
            "log t",
            "distance of the direction",
            {
                f"{size} dimensions": curve(
                    np.log(times[1:]), np.median(own.distances, axis=(0, 1))[1:]
                )
                for size, own in by_size.items()
            },
            "xy",
        ),
    )


def _slope_rows(found: DirectionRates) -> list[Measured]:
    """|theta_t / |theta_t| - theta*| is of order 1 / |theta_t|, and 1 / log t in the end."""
    mean, low, high = mean_interval(found.slopes)
    raw, raw_low, raw_high = mean_interval(found.raw_slopes)
    return [
        Measured(
            "steps 1 / (L sqrt t): |slope of log distance on log norm + 1|", abs(mean + 1), 0.02
        ),
        Measured("farther end of its 95 % interval", max(abs(low + 1), abs(high + 1)), 0.02),
        Measured("constant steps: slope on log log t (steeper: the norm starts late)", raw),
        Measured("its interval's lower end", raw_low),
        Measured("its interval's upper end", raw_high),
    ]


def _limit_rows(found: DirectionRates) -> list[Measured]:
    """theta_t - theta* log t / gamma* converges, to a limit that the weights choose."""
    error = np.max(found.errors, axis=0)  # [T]
    angle, _, angle_high = mean_interval(np.log(found.angle_ratios))
    return [
        Measured("largest distance of theta_t - theta* log t / margin from its limit", error[-1]),
        Measured("the same over a decade earlier", error[-1] / error[-1 - DECADE], 0.6),
        Measured(
            "margin times the growth of |theta_t - theta* log t / margin| per log t",
            float(np.max(found.growth)),
            0.25,
        ),
        Measured("largest angle between arms over two decades, geometric mean", np.exp(angle)),
        Measured("upper end of its 95 % interval", float(np.exp(angle_high)), 0.8),
    ]


def _direction_rates(problems: Problems, times: np.ndarray, last: int) -> DirectionRates:
    params = descend(problems.points, problems.weights, 1.0, times).params
    faster = descend(problems.points, problems.weights, 1.0, times, normalized=True).params
    limits = np.stack([_limit(*case) for case in _single(problems)])
    svm = (problems.directions / problems.margins[:, None])[:, None]
    residuals = params - svm * np.log(times)[:, None]
    # Where the limit lies along theta* the direction arrives sooner: leave it out of the fits.
    along = np.sum(limits * problems.directions, axis=1, keepdims=True) * problems.directions
    generic = np.flatnonzero(np.linalg.norm(limits - along, axis=1) > 1)
    late, slopes, raw_slopes = times >= last / 100, [], []
    for problem in generic:
        direction = problems.directions[problem]
        norms = np.linalg.norm(faster[problem, late], axis=1)
        arrivals = distance(faster[problem, late], direction)
        slopes.append(slope(np.log(norms), np.log(arrivals)))
        arrivals = distance(params[problem, late], direction)
        raw_slopes.append(slope(np.log(np.log(times[late])), np.log(arrivals)))
    return DirectionRates(
        errors=np.linalg.norm(residuals - limits[:, None], axis=-1),
        growth=_growth_beyond(problems, params, svm, times),
        printed=_growth_beyond(problems, params, problems.directions[:, None], times),
        slopes=np.array(slopes),
        raw_slopes=np.array(raw_slopes),
        angle_ratios=_angles(problems, params[:, -1])
        / _angles(problems, params[:, -1 - 2 * DECADE]),
        distances=problems.by_set(distance(params, problems.directions[:, None])),
    )


def _growth_beyond(
    problems: Problems, params: np.ndarray, vector: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """gamma* d|theta_t - vector log t| / d log t over the last decade, [K]."""
    norms = np.linalg.norm(params - vector * np.log(times)[:, None], axis=-1)
    return problems.margins * ((norms[:, -1] - norms[:, -1 - DECADE]) / np.log(10))


def _limit(
    points: np.ndarray, weights: np.ndarray, direction: np.ndarray, margin: float, dual: np.ndarray
) -> np.ndarray:
    """The limit of theta_t - theta* log t / margin for step 1, with D independent supports."""
    support = dual > 1e-9
    shares = np.log(weights[support] * margin**2 / (len(points) * dual[support]))
    return np.linalg.solve(points[support], shares)


def _angles(problems: Problems, params: np.ndarray) -> np.ndarray:
    """The largest angle between two arms of every data set."""
    units = problems.by_set(params / np.linalg.norm(params, axis=-1, keepdims=True))
    gaps = np.linalg.norm(units[:, :, None] - units[:, None], axis=-1)
    return 2 * np.arcsin(gaps.max(axis=(1, 2)) / 2)


# --- the speed --------------------------------------------------------------------------------


def speed(*, num_sets: int = 60, last: int = 10_000, seed: int = 2) -> Check:
    """X-P1, speed: on which share of data sets an arm is nearer to theta* than uniform weights."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 40, 2) for _ in range(num_sets)]
    problems = weighted_problems(rng, sets)
    times = np.array([time for time in (100, 1000, 10_000) if time <= last])
    weights = _with_opposite(problems)
    params = descend(problems.points, weights, 1.0, times).params
    distances = problems.by_set(distance(params, problems.directions[:, None]))  # [S, A, T]
    arms = dict(zip(problems.names, np.moveaxis(distances, 1, 0), strict=True))
    slower = {name: own >= arms["uniform"] for name, own in arms.items()}  # [S, T]
    rows, control = [], []
    for index, time in enumerate(times):
        ratio = np.log(arms["like p*"][:, index] / arms["uniform"][:, index])
        rows += _matched_rows(slower["like p*"][:, index], ratio, time)
        inverse = slower["inverse margin"][:, index].mean()
        against = slower["random"][:, index].mean()
        rows.append(Measured("inverse margin: share not nearer", inverse))
        control += [
            Measured(f"away from p*: share not nearer, t = {time}", against, 1 - SHARE),
            Measured("inverse margin: share not nearer", inverse, 1 - SHARE),
        ]
    share = np.mean(arms["inverse margin"] < arms["uniform"])
    return Check(
        "X-P1 speed",
        f"weights like p* ({1 - FLOOR:.1f} n p* + {FLOOR}) are nearer than uniform ones on 90 %",
        "TREND",
        (*rows, *_order_rows(problems, distances[:, :, -1])),
        assumptions="40 points in the plane, step 1, equal sums of weights",
        control=tuple(control),
        erratum=(
            "The advice to match weights with the inverse margin helps on "
            f"{100 * share:.0f} % of random data sets only. Matching the dual p* helped on all but "
            f"{100 * np.mean(slower['like p*']):.0f} %."
        ),
        plot=Plot(
            "steps",
            "median distance of the direction",
            {
                name: curve(times, np.median(arms[name], axis=0))
                for name in ("uniform", "inverse margin", "like p*")
            },
            "xy",
        ),
    )


def _with_opposite(problems: Problems) -> np.ndarray:
    """The weights, with a control for the random arm: heavy where the dual is zero; [K, N]."""
    weights = problems.by_set(problems.weights.copy())
    opposite = 1 + FLOOR - FLOOR * weights[:, -1]
    opposite = np.maximum(opposite, FLOOR)
    opposite /= opposite.mean(axis=1, keepdims=True)
    weights[:, problems.names.index("random")] = opposite
    return weights.reshape(problems.weights.shape)


def _matched_rows(slower: np.ndarray, log_ratio: np.ndarray, time: int) -> list[Measured]:
    """Weights like p* against uniform ones on S data sets, after `time` steps."""
    upper = scipy.stats.binomtest(int(slower.sum()), len(slower)).proportion_ci(method="exact").high
    mean, _, high = mean_interval(log_ratio)
    return [
        Measured(f"like p*: share not nearer, t = {time}", slower.mean(), 1 - SHARE),
        Measured("upper end of its 95 % interval", float(upper)),
        Measured("ratio of distances, geometric mean", np.exp(mean)),
        Measured("upper end of its 95 % interval", float(np.exp(high)), 0.5),
    ]


def _order_rows(problems: Problems, distances: np.ndarray) -> list[Measured]:
    """Whether the arms with the smaller KL(p*, w) are nearer: distances [S, A]."""
    order = [
        np.corrcoef(scipy.stats.rankdata(k), scipy.stats.rankdata(d))[0, 1]
        for k, d in zip(problems.by_set(_divergences(problems)), distances, strict=True)
    ]
    mean, low, _ = mean_interval(np.array(order))
    return [
        Measured("minus the arms' rank correlation of KL and distance, mean", -mean),
        Measured("its interval's far end", -low, 0.0),
    ]
