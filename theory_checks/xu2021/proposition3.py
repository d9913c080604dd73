r"""The margin of weakly regularized minimisers (xu2021, Prop. 3 and A.1).

For :math:`L_\lambda = \sum_i \omega_i e^{-z_i^\top \theta} + \lambda \|\theta\|^r` with
:math:`\sum_i \omega_i = 1`, global minimiser :math:`\theta_\lambda` and normalized margin
:math:`\tilde\gamma`:

.. math:: 0 \le \gamma^\star - \tilde\gamma(\theta_\lambda)
   \le \frac{\log(1 / \omega_{\min})}{\|\theta_\lambda\|}, \qquad
   \tilde\gamma(\theta') \ge \frac{-\log(A / \omega_{\min})}{(A / \lambda)^{1/r}}
   \text{ if } L_\lambda(\theta') \le \tau L_\lambda(\theta_\lambda),

with :math:`A = (\lambda \tau / \gamma^{\star r}) (1 + R^r)`, :math:`R = \log(\gamma^{\star r} /
\lambda) > 0`, where the numerator is positive. These are for linear predictors; the first is
measured for networks :math:`\sum_j a_j \max(v_j^\top x, 0)` too, with :math:`\|\theta\|^2` below.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import Array

from theory_checks.common.reference import (
    curve,
    log_risk,
    regularized_path,
    regularized_risk,
    separable_points,
    weighted_problems,
)
from theory_checks.records import Check, Plot, Row

FACTORS = (1.1, 1.5, 2.0)  # tau
POWERS = (2.0, 3.0)  # r


def checks(preset: str) -> list[Check]:
    """All parts; few data sets for "smoke"."""
    num_sets = 2 if preset == "smoke" else 8
    small = {"num_sets": 2, "num_restarts": 16} if preset == "smoke" else {}
    return [asymptotic(num_sets=num_sets), finite(num_sets=num_sets), network(**small)]


def asymptotic(*, num_sets: int = 8, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-P3 (a): the gap of the margin along lambda; its bound is multiplied by `tighten`."""
    rng = np.random.default_rng(seed)
    lambdas = 10.0 ** -np.arange(1, 11)
    below, ratio, far, gaps, spread = -np.inf, 0.0, 0.0, [], []
    maxima, vacuous, curves = [], -np.inf, {}
    for power in POWERS:
        for index in range(num_sets):
            points = separable_points(rng, 20, 2 + index % 2, gap=(0.3, 0.8))
            problems = weighted_problems(rng, [points])
            margin, direction = problems.margins[0], problems.directions[0]
            ends = []
            for weights in problems.weights:
                shares = weights / weights.sum()
                thetas = regularized_path(points, shares, lambdas, power)
                norms = np.linalg.norm(thetas, axis=1)
                gap = margin - np.min(thetas @ points.T, axis=1) / norms
                bound = tighten * np.log(1 / shares.min()) / norms
                below = max(below, float(-gap.min()))
                ratio = max(ratio, float(np.max(gap / bound)))
                far = max(far, float(gap[-1] / margin))
                gaps.append(gap / margin)
                ends.append(gap[-1])
                # (A.13) with the largest margin, as printed: fails for its own use, A theta*.
                true = regularized_risk(points, shares, norms[:, None] * direction, 0.0, power)
                printed = np.exp(-norms * np.max(points @ direction))
                maxima.append(np.max(true / printed))
                vacuous = max(vacuous, float(np.max(shares.min() * np.exp(-norms * gap))))
            spread.append(max(ends) - min(ends))
            curves[f"r = {power:.0f}"] = curve(1 / lambdas, np.mean(gaps[-5:], axis=0))
    paths = np.array(gaps)
    shrink = paths[:, -1].mean() / paths[:, 4].mean()
    larger = np.mean(paths[:, -1] > paths[:, 0])
    return Check(
        "X-P3 asymptotic",
        "0 <= margin* - margin(theta_lambda) <= log(1 / w_min) / |theta_lambda|",
        "EXACT-CORR",
        (
            Row("margin of theta_lambda - margin*", below, 1e-12),
            Row("gap over its bound, lambda 1e-1..1e-10", ratio, 1.0),
            Row("mean gap at lambda 1e-10 over mean gap at 1e-5", float(shrink), 0.8),
            Row("share of paths with a larger gap at 1e-10 than at 1e-1", float(larger)),
            Row("largest gap at 1e-10 over margin*", far, 0.25),
            Row("mean gap at 1e-10 over margin*", float(paths[:, -1].mean()), 0.1),
            Row("largest difference of margins between weightings at 1e-10", float(max(spread))),
            Row("the line printed with a minus sign: its left side, always below 1", vacuous, 1.0),
        ),
        assumptions="separable, exponential loss, weights of sum one, global minimiser",
        control=(
            Row("(A.13) with max for min, as printed: left / right side", float(max(maxima)), 1.0),
            Row("gap over a fifth of its bound", 5 * ratio, 1.0),
        ),
        erratum=(
            "A.4 defines margins by max_i, with which (A.13) fails by factors up to "
            f"{max(maxima):.1e}, and prints exp(-|theta|(gamma* - gamma_lambda)) where the line "
            "before gives a plus, which makes the inequality empty. With min_i and the plus the "
            "gap is at most log(1 / w_min) / |theta_lambda|^alpha."
        ),
        plot=Plot("1 / lambda", "gap / margin*", curves, "xy"),
    )


def finite(*, num_sets: int = 8, num_rays: int = 200, seed: int = 1) -> Check:
    """X-P3 (b): margins of points within a factor tau of the optimum."""
    rng = np.random.default_rng(seed)
    lambdas = 10.0 ** -np.arange(1, 11)
    worst, worst_descent, outside, counts, control = -np.inf, -np.inf, 0, 0, -np.inf
    tenth = -np.inf
    for power in POWERS:
        for index in range(num_sets):
            points = separable_points(rng, 20, 2 + index % 2, gap=(0.3, 0.8))
            problems = weighted_problems(rng, [points])
            margin = float(problems.margins[0])
            weights = problems.weights[index % len(problems.weights)]
            shares = weights / weights.sum()
            thetas = regularized_path(points, shares, lambdas, power)
            for regularization, theta in zip(lambdas, thetas, strict=True):
                least = float(regularized_risk(points, shares, theta, regularization, power))
                for factor in FACTORS:
                    bound = lower_bound(margin, regularization, factor, power, shares.min())
                    if bound <= 0:
                        continue
                    case = points, shares, regularization, power
                    rays = _sublevel(rng, case, theta, factor * least, num_rays)
                    risks = regularized_risk(points, shares, rays, regularization, power)
                    outside += int(np.sum(risks > factor * least * (1 + 1e-9)))
                    margins = np.min(rays @ points.T, axis=1) / np.linalg.norm(rays, axis=1)
                    worst = max(worst, float(np.max(bound / margins)))
                    counts += num_rays
                    if regularization == lambdas[-1]:
                        target = margin / factor ** (1 / power)
                        tenth = max(tenth, float(np.max(0.1 * target / margins)))
                        # Within a much larger factor the bound of tau no longer holds.
                        loose = _sublevel(rng, case, theta, 1e6 * least, num_rays)
                        margins = np.min(loose @ points.T, axis=1)
                        margins = margins / np.linalg.norm(loose, axis=1)
                        control = max(control, float(np.max(bound - margins)) / bound)
                        if factor == FACTORS[-1]:
                            passing = _descent(case, factor * least)
                            own = np.min(points @ passing) / np.linalg.norm(passing)
                            worst_descent = max(worst_descent, bound / own)
    asymptote = [
        lower_bound(0.3, 10.0**-exponent, 1.5, 2.0, 0.01) * 1.5**0.5 / 0.3
        for exponent in (10, 30, 100, 300)
    ]
    return Check(
        "X-P3 finite",
        "within a factor tau of the optimum: margin >= an explicit bound -> margin* / tau^(1/r)",
        "EXACT-CORR",
        (
            Row(f"bound / margin on the sublevel sets' edge ({counts} points)", worst, 1.0),
            Row("bound / margin of the first descent iterate inside", worst_descent, 1.0),
            Row("points outside their sublevel set", outside, 0),
            Row("margin* / (10 tau^(1/r)) over margin at lambda 1e-10", tenth, 1.0),
            Row("bound / its limit at lambda 1e-10", asymptote[0]),
            Row("1 - bound / its limit at lambda 1e-300", 1 - asymptote[-1], 0.05),
            Row("largest decrease of bound / limit from 1e-10 to 1e-300",
                -float(np.min(np.diff(asymptote))), 0),
        ),
        assumptions="as for the minimiser; 1 < tau <= 2; lambda small enough for a positive bound",
        control=(Row("points within a factor 1e6: (bound - margin) / bound", control, 0.0),),
    )  # fmt: skip


def lower_bound(
    margin: float, regularization: float, factor: float, power: float, smallest: float
) -> float:
    """The bound on the margin for tau = `factor`; not positive if it says nothing."""
    depth = np.log(margin**power / regularization)
    if depth <= 0:
        return 0.0
    scaled = factor / margin**power * (1 + depth**power)  # A / lambda
    return float(-(np.log(scaled) + np.log(regularization / smallest)) / scaled ** (1 / power))


Case = tuple[np.ndarray, np.ndarray, float, float]  # points, shares, lambda, power


def _sublevel(
    rng: np.random.Generator, case: Case, center: np.ndarray, level: float, count: int
) -> np.ndarray:
    """The points [count, D] where random rays from the minimiser leave L_lambda <= level."""
    points, shares, regularization, power = case
    rays = rng.normal(size=(count, len(center)))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    low, high = np.zeros(count), np.full(count, (level / regularization) ** (1 / power) * 3)
    for _ in range(80):
        middle = (low + high) / 2
        with np.errstate(over="ignore"):
            trial = center + middle[:, None] * rays
            inside = regularized_risk(points, shares, trial, regularization, power) <= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return center + low[:, None] * rays


def _descent(case: Case, level: float) -> np.ndarray:
    """The first iterate with L_lambda <= level of descent from zero, steps 1 / (L + curvature)."""
    points, shares, regularization, power = case
    theta = 1e-3 * points.mean(axis=0)
    for _ in range(200_000):
        total = np.exp(log_risk(points, shares * len(shares), theta))
        norm = np.linalg.norm(theta)
        if total + regularization * norm**power <= level:
            return theta
        pull = regularization * power * norm ** (power - 2)
        slope = pull * theta - (shares * np.exp(-points @ theta)) @ points
        theta = theta - slope / (total + pull * (power - 1))
    raise RuntimeError("descent did not reach the sublevel set in 200,000 steps")


WIDTH = 5  # hidden units
COUNT = 12  # training points


class Networks(NamedTuple):
    """Two-layer ReLU networks without biases."""

    output: Any  # [..., H]
    hidden: Any  # [..., H, 2]


def network(*, num_sets: int = 6, num_restarts: int = 32, seed: int = 2) -> Check:
    r"""X-P3 for networks: the best of many restarts, certified by duality, along lambda.

    As :math:`\|\theta\|^2 \ge 2 \sum_j |a_j| \|v_j\|`, a network's risk is at least the convex
    :math:`\sum_i \omega_i e^{-u_i} + 2 \lambda \|c\|_1` over measures c of unit directions, and so
    at least :math:`\sum_i q_i - q_i \log(q_i / \omega_i)` for any q that no direction correlates
    with beyond :math:`2 \lambda`. Likewise :math:`\gamma^\star` is a linear program (derived here).

    Args:
      num_sets: data sets, each with uniform and with random weights.
      num_restarts: random initializations.
      seed: of data, weights and initializations.
    """
    rng = np.random.default_rng(seed)
    lambdas = 10.0 ** -np.arange(2, 13, 2)
    sets = [taught_points(rng) for _ in range(num_sets)]
    brackets = np.repeat([network_margin(*data) for data in sets], 2, axis=0)
    drawn = [weights for _ in sets for weights in (np.ones(COUNT), 10 ** rng.uniform(-1, 1, COUNT))]
    shares = np.stack([weights / weights.sum() for weights in drawn])
    inputs, labels = (np.repeat(column, 2, axis=0) for column in zip(*sets, strict=True))
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), num_restarts)
        outputs = _network_path(inputs, labels, shares, lambdas, keys)
        networks, log_risks = jax.tree.map(np.asarray, outputs)
    best = np.argmin(log_risks, axis=1)  # [K, L]
    excess, above, ratio, gaps, missed = 0.0, -np.inf, 0.0, np.empty(best.shape), 0.0
    for problem, at in np.ndindex(*best.shape):
        data = inputs[problem], labels[problem]
        upper = brackets[problem, 1]
        for restart in range(num_restarts):
            one = Networks(*(part[problem, restart, at] for part in networks))
            margins, square = data[1] * _outputs(one, data[0]), _square(one)
            bound = np.log(1 / shares[problem].min()) / square
            gap = upper - margins.min() / square
            above = max(above, -gap / upper)
            missed = max(missed, gap / bound)
            if restart == best[problem, at]:
                ratio, gaps[problem, at] = max(ratio, gap / bound), gap / upper
                dual = _dual_bound(*data, shares[problem], margins, float(lambdas[at]))
                risk = np.exp(log_risks[problem, restart, at])
                excess = max(excess, float(1 - dual / risk))
    between = np.abs(gaps[::2] - gaps[1::2])  # of the two weightings
    found = np.mean(log_risks[:, :, -1] < log_risks.min(axis=1)[:, None, -1] + 1e-2)
    width = float(np.max(brackets[:, 1] / brackets[:, 0] - 1))
    return Check(
        "X-P3 network",
        "a network's weakly regularized minimiser has the largest margin, whatever the weights",
        "TREND",
        (
            Row("best risk over its lower bound by duality, less 1", float(excess)),
            Row("bracket of margin*, relative", width),
            Row("any restart's margin above margin*, relative", float(above), 1e-9),
            Row("gap over log(1 / w_min) / |theta|^2, lambda 1e-2..1e-12", float(ratio), 1.0),
            Row("mean gap over margin* at lambda 1e-2", float(gaps[:, 0].mean())),
            Row("mean gap over margin* at lambda 1e-12", float(gaps[:, -1].mean())),
            Row("largest gap over margin* at lambda 1e-12", float(gaps[:, -1].max())),
            Row("mean gap at lambda 1e-12 over mean gap at 1e-6",
                float(gaps[:, -1].mean() / gaps[:, 2].mean()), 0.8),
            Row("uniform and random weights: largest difference of gap / margin* at 1e-2",
                float(between[:, 0].max())),
            Row("the same at 1e-12", float(between[:, -1].max())),
            Row("share of restarts within 1 % of the best risk at 1e-12", float(found)),
        ),
        assumptions=f"{COUNT} points in the plane that a ReLU network of three units labels, "
        f"{WIDTH} hidden units, exponential loss, r = 2, the best of {num_restarts} restarts",
        control=(
            Row("every restart, also local minima: gap over its bound", float(missed), 1.0),
            Row("gap over a fifth of its bound", 5 * float(ratio), 1.0),
        ),
        plot=Plot(
            "1 / lambda",
            "gap / margin*",
            {
                "uniform weights": curve(1 / lambdas, gaps[::2].mean(axis=0)),
                "random weights": curve(1 / lambdas, gaps[1::2].mean(axis=0)),
            },
            "xy",
        ),
    )  # fmt: skip


def taught_points(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 2] of the unit disc and the signs of a random network's outputs, not near zero."""
    while True:
        hidden, signs = rng.normal(size=(3, 2)), rng.choice([-1.0, 1.0], 3)
        points = rng.normal(size=(20 * COUNT, 2))
        points *= rng.uniform(0.5, 1, (len(points), 1)) / np.linalg.norm(points, axis=1)[:, None]
        outputs = np.maximum(points @ hidden.T, 0) @ signs
        clear = np.flatnonzero(np.abs(outputs) > 0.3)[:COUNT]
        if len(clear) == COUNT and 3 <= np.sum(outputs[clear] > 0) <= COUNT - 3:
            return points[clear], np.sign(outputs[clear])


def network_margin(points: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Bounds on the largest normalized margin, over networks of any width.

    A linear program over a grid of directions gives a network; its dual weights, with the largest
    correlation over a finer grid, bound every other.
    """
    features = labels[:, None] * _features(points, 1000)
    features = np.hstack([features, -features])
    count, size = features.shape
    result = scipy.optimize.linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.vstack(
            [np.column_stack([-features, np.ones(count)]), np.append(np.ones(size), 0.0)]
        ),
        b_ub=np.append(np.zeros(count), 1.0),
        bounds=[(0, None)] * size + [(None, None)],
    )
    dual = -result.ineqlin.marginals[:count]
    return -result.fun / 2, _correlation(points, labels * dual / dual.sum()) / 2


def _features(points: np.ndarray, count: int) -> np.ndarray:
    """max(d . x, 0) for directions d on a grid and those orthogonal to a point; [N, K]."""
    turns = np.arctan2(points[:, 1], points[:, 0])
    grid = np.linspace(0, 2 * np.pi, count, endpoint=False)
    angles = np.concatenate([grid, turns + np.pi / 2, turns - np.pi / 2])
    return np.maximum(points @ np.stack([np.cos(angles), np.sin(angles)]), 0)


def _correlation(points: np.ndarray, coefficients: np.ndarray) -> float:
    """max over unit d of |sum c_i max(d . x_i, 0)|; kinks are on the grid, maxima 1e-8 near."""
    return float(np.max(np.abs(coefficients @ _features(points, 20_000))))


def _dual_bound(
    points: np.ndarray,
    labels: np.ndarray,
    shares: np.ndarray,
    margins: np.ndarray,
    regularization: float,
) -> float:
    """The lower bound on all risks from the losses at some network."""
    dual = shares * np.exp(-margins)
    dual = dual * min(1.0, 2 * regularization / _correlation(points, labels * dual))
    return float(np.sum(dual - dual * np.log(dual / shares)))


def _outputs(network: Networks, inputs: np.ndarray) -> np.ndarray:
    return np.maximum(inputs @ network.hidden.T, 0) @ network.output


def _square(network: Networks) -> float:
    return float(np.sum(network.output**2) + np.sum(network.hidden**2))


@functools.partial(jax.jit, static_argnames=("num_steps",))
def _network_path(
    inputs: Any, labels: Any, shares: Any, lambdas: Any, keys: Array, *, num_steps: int = 1000
) -> tuple[Networks, Array]:
    """Networks [K, R, L] and their log risks after Adam at each lambda, from the one before."""

    def log_risk_of(
        network: Networks, x: Array, y: Array, share: Array, regularization: Array
    ) -> Array:
        margins = y * (jax.nn.relu(x @ network.hidden.T) @ network.output)
        square = jnp.sum(network.output**2) + jnp.sum(network.hidden**2)
        penalty = jnp.log(regularization * square)
        return jax.nn.logsumexp(jnp.append(jnp.log(share) - margins, penalty))

    def path(x: Array, y: Array, share: Array, key: Array) -> tuple[Networks, Array]:
        first, second = jax.random.split(key)
        start = Networks(jax.random.normal(first, (WIDTH,)), jax.random.normal(second, (WIDTH, 2)))
        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, num_steps))

        def minimise(network: Networks, regularization: Array) -> tuple[Networks, Any]:
            def step(carry: Any, _: None) -> tuple[Any, None]:
                network, state = carry
                gradient = jax.grad(log_risk_of)(network, x, y, share, regularization)
                updates, state = optimizer.update(gradient, state)
                return (optax.apply_updates(network, updates), state), None

            (network, _), _ = jax.lax.scan(
                step, (network, optimizer.init(network)), None, length=num_steps
            )
            return network, (network, log_risk_of(network, x, y, share, regularization))

        return jax.lax.scan(minimise, start, lambdas)[1]

    over_restarts = jax.vmap(path, (None, None, None, 0))
    return jax.vmap(over_restarts, (0, 0, 0, None))(inputs, labels, shares, keys)
