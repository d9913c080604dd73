r"""The margin of weakly regularized networks (xu2021, Prop. 3).

The gap :math:`\gamma^\star - \tilde\gamma(\theta_\lambda) \le \log(1 / \omega_{\min}) /
\|\theta_\lambda\|^2` of `proposition3`, for networks :math:`\sum_j a_j \max(v_j^\top x, 0)` and the
penalty :math:`\lambda \|\theta\|^2`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import Array

from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot

WIDTH = 5  # hidden units
COUNT = 12  # training points
LAMBDAS = 10.0 ** -np.arange(2, 13, 2)


class TwoLayerNetworks(NamedTuple):
    """Two-layer ReLU networks without biases."""

    output: Any  # [..., H]
    hidden: Any  # [..., H, 2]


class NetworkProblems(NamedTuple):
    """K problems: the data sets, each with uniform and with random weights, side by side."""

    inputs: np.ndarray  # [K, N, 2]
    labels: np.ndarray  # [K, N]
    shares: np.ndarray  # [K, N] omega, of sum one
    brackets: np.ndarray  # [K, 2] around gamma*


class NetworkGaps(NamedTuple):
    """Margins of the R restarts of K problems at L values of lambda."""

    gap: np.ndarray  # [K, R, L] upper end of gamma* less the margin
    relative: np.ndarray  # [K, R, L] over the upper end
    bound: np.ndarray  # [K, R, L] log(1 / w_min) / |theta|^2
    excess: np.ndarray  # [K, L] 1 - (lower bound of all risks) / (best risk)
    log_risks: np.ndarray  # [K, R, L]

    def best(self, values: np.ndarray) -> np.ndarray:
        """Values [K, R, L] of the restart with the least risk, [K, L]."""
        index = np.argmin(self.log_risks, axis=1)[:, None]
        return np.take_along_axis(values, index, axis=1)[:, 0]


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
    problems = _network_problems(np.random.default_rng(seed), num_sets)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), num_restarts)
        outputs = _network_path(*problems[:3], LAMBDAS, keys)
        networks, log_risks = jax.tree.map(np.asarray, outputs)
    found = _network_gaps(problems, networks, log_risks)
    gaps = found.best(found.relative)
    ratio = float(np.max(found.best(found.gap / found.bound)))
    return Check(
        "X-P3 network",
        "a network's weakly regularized minimiser has the largest margin, whatever the weights",
        "TREND",
        (*_certificate_rows(problems, found, ratio), *_network_rows(gaps, log_risks)),
        assumptions=f"{COUNT} points in the plane that a ReLU network of three units labels, "
        f"{WIDTH} hidden units, exponential loss, r = 2, the best of {num_restarts} restarts",
        control=(
            Measured(
                "every restart, also local minima: gap over its bound",
                float(np.max(found.gap / found.bound)),
                1.0,
            ),
            Measured("gap over a fifth of its bound", 5 * ratio, 1.0),
        ),
        plot=Plot(
            "1 / lambda",
            "gap / margin*",
            {
                "uniform weights": curve(1 / LAMBDAS, gaps[::2].mean(axis=0)),
                "random weights": curve(1 / LAMBDAS, gaps[1::2].mean(axis=0)),
            },
            "xy",
        ),
    )


def _certificate_rows(
    problems: NetworkProblems, found: NetworkGaps, ratio: float
) -> tuple[Measured, ...]:
    """How near the best restart is to the minimum, the bracket to gamma*, and the gap's bound."""
    width = float(np.max(problems.brackets[:, 1] / problems.brackets[:, 0] - 1))
    return (
        Measured("best risk over its lower bound by duality, less 1", float(np.max(found.excess))),
        Measured("bracket of margin*, relative", width),
        Measured(
            "any restart's margin above margin*, relative", float(np.max(-found.relative)), 1e-9
        ),
        Measured("gap over log(1 / w_min) / |theta|^2, lambda 1e-2..1e-12", ratio, 1.0),
    )


def _network_rows(gaps: np.ndarray, log_risks: np.ndarray) -> tuple[Measured, ...]:
    """The best restarts' gaps over gamma*, [K, L]."""
    between = np.abs(gaps[::2] - gaps[1::2])  # of the two weightings
    near = np.mean(log_risks[:, :, -1] < log_risks.min(axis=1)[:, None, -1] + 1e-2)
    return (
        Measured("mean gap over margin* at lambda 1e-2", float(gaps[:, 0].mean())),
        Measured("mean gap over margin* at lambda 1e-12", float(gaps[:, -1].mean())),
        Measured("largest gap over margin* at lambda 1e-12", float(gaps[:, -1].max())),
        Measured(
            "mean gap at lambda 1e-12 over mean gap at 1e-6",
            float(gaps[:, -1].mean() / gaps[:, 2].mean()),
            0.8,
        ),
        Measured(
            "uniform and random weights: largest difference of gap / margin* at 1e-2",
            float(between[:, 0].max()),
        ),
        Measured("the same at 1e-12", float(between[:, -1].max())),
        Measured("share of restarts within 1 % of the best risk at 1e-12", float(near)),
    )


def _network_problems(rng: np.random.Generator, num_sets: int) -> NetworkProblems:
    sets = [_taught_points(rng) for _ in range(num_sets)]
    brackets = np.repeat([_network_margin(*data) for data in sets], 2, axis=0)
    drawn = [weights for _ in sets for weights in (np.ones(COUNT), 10 ** rng.uniform(-1, 1, COUNT))]
    shares = np.stack([weights / weights.sum() for weights in drawn])
    inputs, labels = (np.repeat(column, 2, axis=0) for column in zip(*sets, strict=True))
    return NetworkProblems(inputs, labels, shares, brackets)


def _network_gaps(
    problems: NetworkProblems, networks: TwoLayerNetworks, log_risks: np.ndarray
) -> NetworkGaps:
    """Of networks [K, R, L]."""
    best = np.argmin(log_risks, axis=1)  # [K, L]
    gap, bound, excess = np.empty(log_risks.shape), np.empty(log_risks.shape), np.empty(best.shape)
    for problem, restart, at in np.ndindex(*log_risks.shape):
        inputs, labels, shares, (_, upper) = (part[problem] for part in problems)
        one = TwoLayerNetworks(*(part[problem, restart, at] for part in networks))
        margins, square = labels * _outputs(one, inputs), _square(one)
        bound[problem, restart, at] = np.log(1 / shares.min()) / square
        gap[problem, restart, at] = upper - margins.min() / square
        if restart == best[problem, at]:
            lower = _dual_bound(inputs, labels, shares, margins, float(LAMBDAS[at]))
            excess[problem, at] = 1 - lower / np.exp(log_risks[problem, restart, at])
    relative = gap / problems.brackets[:, 1, None, None]
    return NetworkGaps(gap, relative, bound, excess, log_risks)


def _taught_points(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 2] of the unit disc and the signs of a random network's outputs, not near zero."""
    while True:
        hidden, signs = rng.normal(size=(3, 2)), rng.choice([-1.0, 1.0], 3)
        points = rng.normal(size=(20 * COUNT, 2))
        points *= rng.uniform(0.5, 1, (len(points), 1)) / np.linalg.norm(points, axis=1)[:, None]
        outputs = np.maximum(points @ hidden.T, 0) @ signs
        clear = np.flatnonzero(np.abs(outputs) > 0.3)[:COUNT]
        if len(clear) == COUNT and 3 <= np.sum(outputs[clear] > 0) <= COUNT - 3:
            return points[clear], np.sign(outputs[clear])


def _network_margin(points: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
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


def _outputs(network: TwoLayerNetworks, inputs: np.ndarray) -> np.ndarray:
    return np.maximum(inputs @ network.hidden.T, 0) @ network.output


def _square(network: TwoLayerNetworks) -> float:
    return float(np.sum(network.output**2) + np.sum(network.hidden**2))


@functools.partial(jax.jit, static_argnames=("num_steps",))
def _network_path(
    inputs: Any, labels: Any, shares: Any, lambdas: Any, keys: Array, *, num_steps: int = 1000
) -> tuple[TwoLayerNetworks, Array]:
    """Networks [K, R, L] and their log risks after Adam at each lambda, from the one before."""

    def log_risk_of(
        network: TwoLayerNetworks, x: Array, y: Array, share: Array, regularization: Array
    ) -> Array:
        margins = y * (jax.nn.relu(x @ network.hidden.T) @ network.output)
        square = jnp.sum(network.output**2) + jnp.sum(network.hidden**2)
        penalty = jnp.log(regularization * square)
        return jax.nn.logsumexp(jnp.append(jnp.log(share) - margins, penalty))

    def path(x: Array, y: Array, share: Array, key: Array) -> tuple[TwoLayerNetworks, Array]:
        first, second = jax.random.split(key)
        start = TwoLayerNetworks(
            jax.random.normal(first, (WIDTH,)), jax.random.normal(second, (WIDTH, 2))
        )
        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, num_steps))

        def minimise(
            network: TwoLayerNetworks, regularization: Array
        ) -> tuple[TwoLayerNetworks, Any]:
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
