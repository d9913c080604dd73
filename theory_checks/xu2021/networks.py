r"""Two lemmas on networks :math:`W_H \sigma(W_{H-1} \cdots \sigma(W_1 x))` (xu2021, A.7 and A.8).

A.7 bounds the Rademacher complexity with weights :math:`\eta_i`, conditionally on the inputs, by
:math:`(\sqrt{2 H \log 2} + 1) \prod_h M_h \sqrt{\sum_i \eta_i^2 \|x_i\|^2} / n`; A.8 balances the
layers' norms. The activation is ReLU.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from theory_checks.common.columns import Number, stack
from theory_checks.common.reference import curve, mean_interval, slope
from theory_checks.records import Check, Measured, Plot


def checks(preset: str) -> list[Check]:
    """Both lemmas; few examples for "smoke"."""
    if preset == "smoke":
        return [complexity(num_sets=2, count=7), second_moment(num_repeats=400), balance(20)]
    return [complexity(), second_moment(), balance()]


class ComplexitySides(NamedTuple):
    """Both sides of A.7 for one set of inputs, by depth H = 1, 2, 3; or of S sets, [S, ...]."""

    left: np.ndarray  # [H] E sup (1/n) sum eps eta f(x)
    right: np.ndarray  # [H] (sqrt(2 H log 2) + 1) prod M sqrt(sum eta^2 |x|^2) / n
    with_exp: np.ndarray  # [H] (1/lambda) log(2^H E exp(M lambda |sum eps eta x|)) / n
    without_exp: np.ndarray  # [H] the same without exp, as printed
    unweighted: Number  # depth 1: left / right side with eta = 1 on the right


def complexity(*, num_sets: int = 6, count: int = 10, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-A7: both sides exactly, over all 2^n signs, for depths 1 and 2 in the plane."""
    rng = np.random.default_rng(seed)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    of_sets = [_complexity_sides(rng, signs, heavy=index % 2 == 1) for index in range(num_sets)]
    sides = stack(of_sets)
    ratios = sides.left / sides.right / tighten  # [S, H]
    printed = float(np.max(sides.left / sides.without_exp))
    return Check(
        "X-A7 complexity",
        "E sup (1/n) sum eps eta f(x) <= (sqrt(2 H log 2) + 1) prod M sqrt(sum eta^2 |x|^2) / n",
        "EXACT-CORR",
        (
            Measured("depth 1: left / right side", float(ratios[:, 0].max()), 1.0),
            Measured("depth 2: left / right side", float(ratios[:, 1].max()), 1.0),
            Measured(
                "depth 3: left / right side, searched from below", float(ratios[:, 2].max()), 1.0
            ),
            Measured(
                "left side / the moment bound with exp",
                float(np.max(sides.left / sides.with_exp)),
                1.0,
            ),
        ),
        assumptions=f"inputs fixed; expectation over all 2^{count} signs",
        control=(
            Measured("left side / the moment bound without exp, as printed", printed, 1.0),
            Measured(
                "depth 1: left / right side without the weights",
                float(np.max(sides.unweighted)),
                1.0,
            ),
        ),
        erratum=(
            "The proof starts from (1/lambda) log(2^H E(M lambda |sum eps eta x|)), which its left "
            f"side exceeds by up to {100 * (printed - 1):.0f} %. With the exponential of M lambda "
            "|sum eps eta x| inside the expectation, as in Golowich et al., it holds."
        ),
    )


def _complexity_sides(
    rng: np.random.Generator, signs: np.ndarray, *, heavy: bool
) -> ComplexitySides:
    """For random inputs [N, 2], eta and norm bounds M_h, over the signs eps [2^N, N].

    Of eta, `heavy` draws a Pareto tail.
    """
    count = signs.shape[1]
    inputs = rng.normal(size=(count, 2))
    eta = rng.pareto(1.2, count) + 0.1 if heavy else rng.uniform(0.2, 3, count)
    limits = rng.uniform(0.5, 2, 3)
    scaled = signs * eta  # eps_i eta_i
    size = float(np.sqrt(np.sum(eta**2 * np.sum(inputs**2, axis=1))))
    norms = np.linalg.norm(scaled @ inputs, axis=1)  # |sum eps eta x|
    suprema = (
        norms,
        np.array([_supremum(inputs, row) for row in scaled]),
        _searched(rng, inputs, scaled),
    )
    sides = []
    for depth, values in enumerate(suprema, start=1):
        product = np.prod(limits[:depth])
        rate = np.sqrt(2 * depth * np.log(2)) / (product * size)  # the proof's lambda
        logarithm = depth * np.log(2)
        sides.append(
            (
                product * values.mean() / count,
                (np.sqrt(2 * depth * np.log(2)) + 1) * product * size / count,
                (logarithm + np.log(np.mean(np.exp(rate * product * norms)))) / rate / count,
                (logarithm + np.log(np.mean(rate * product * norms))) / rate / count,
            )
        )
    plain = np.sqrt(np.sum(inputs**2)) * (np.sqrt(2 * np.log(2)) + 1) / count
    return ComplexitySides(*np.array(sides).T, unweighted=norms.mean() / count / plain)


def second_moment(*, num_repeats: int = 2000, seed: int = 0) -> Check:
    r"""X-A7: the mean of eta^2 is chi-square + 1 up to O_p(1/sqrt n), not o(1/sqrt n)."""
    rng = np.random.default_rng(seed)
    source, target = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.2, 0.3, 0.3, 0.2])
    eta = target / source
    chi_square = float(np.sum((target / source - 1) ** 2 * source))  # Pearson's, by its definition
    sizes = np.array([100, 300, 1000, 3000, 10_000, 30_000])
    errors = np.array(
        [
            rng.multinomial(size, source, num_repeats) @ eta**2 / size - chi_square - 1
            for size in sizes
        ]
    )  # [sizes, repeats]
    biases = [abs(error.mean()) / (error.std(ddof=1) / np.sqrt(num_repeats)) for error in errors]
    root_mean_squares = np.array([np.sqrt(np.mean(error**2)) for error in errors])
    mean, low, high = mean_interval(_slopes_of_errors(sizes, errors))
    scaled = np.abs(errors) * np.sqrt(sizes)[:, None]
    shrink = float(np.median(scaled[-1]) / np.median(scaled[0]))
    limit = float(np.sqrt(np.sum(source * eta**4) - (chi_square + 1) ** 2))
    ratio = root_mean_squares[-1] * np.sqrt(sizes[-1]) / limit
    quantile = float(scipy.stats.norm.ppf(1 - 0.5e-4))
    return Check(
        "X-A7 second moment",
        "(1/n) sum eta^2 = chi-square + 1 + O_p(1 / sqrt n)",
        "EXACT-CORR",
        (
            Measured("largest |mean error| in standard errors", max(biases), quantile),
            Measured("|slope of log rms error on log n + 1/2|", abs(mean + 0.5), 0.05),
            Measured(
                "farther end of its 95 % interval", max(abs(low + 0.5), abs(high + 0.5)), 0.05
            ),
            Measured("|sqrt(n) rms error / its limit - 1| at n = 30000", abs(ratio - 1), 0.12),
        ),
        assumptions="independent inputs, density ratio with four moments",
        control=(
            Measured(
                "sqrt(n) |error|, n = 30000 over n = 100: o(1 / sqrt n), as printed", shrink, 0.5
            ),
        ),
        erratum=(
            "By the law of large numbers the remainder is printed as o(1/sqrt n), but sqrt(n) "
            f"times it does not shrink ({shrink:.2f} of its size after n grew 300-fold). It is "
            "O_p(1/sqrt n), by the central limit theorem."
        ),
        plot=Plot(
            "n",
            "root mean square error",
            {
                "measured": curve(sizes, root_mean_squares),
                "limit": curve(sizes, limit / np.sqrt(sizes)),
            },
            "xy",
        ),
    )


def _slopes_of_errors(sizes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Slopes of log rms error on log n of ten groups of the repeats: errors [sizes, repeats]."""
    scaled = np.abs(errors) * np.sqrt(sizes)[:, None]
    slopes = []
    for group in np.array_split(np.arange(errors.shape[1]), 10):
        rms = [
            np.sqrt(np.mean(values[group] ** 2 / size))
            for values, size in zip(scaled, sizes, strict=True)
        ]
        slopes.append(slope(np.log(sizes), np.log(rms)))
    return np.array(slopes)


class Balancing(NamedTuple):
    """What balancing does to a network, or to each of N: numbers, or arrays [N]."""

    depth: Number  # H
    change: Number  # of the function, relative
    norm: Number  # largest |W_h| sqrt(H)
    unbalanced: Number  # the same before balancing
    value: Number  # max |f| / (C H^(-H/2))
    attained: Number  # max f / (C H^(-H/2))
    tanh_change: Number  # of the function with tanh, not homogeneous, for ReLU


def balance(num_nets: int = 200, *, seed: int = 0) -> Check:
    """X-A8: equal layer norms, the same function, norms and values within their bounds."""
    rng = np.random.default_rng(seed)
    of_nets = [_balancing(rng, 1 + index % 6) for index in range(num_nets)]
    nets = stack(of_nets)
    attained = float(np.max(nets.attained[nets.depth == 1]))
    return Check(
        "X-A8",
        "theta / |theta|, layers balanced: same function, norms <= 1/sqrt(H), |f| <= C H^(-H/2)",
        "EXACT",
        (
            Measured("change of the function, relative", float(np.max(nets.change)), 1e-12),
            Measured("largest layer norm times sqrt(H)", float(np.max(nets.norm)), 1 + 1e-12),
            Measured("|f| over C H^(-H/2)", float(np.max(nets.value)), 1 + 1e-12),
            Measured("depth 1: distance of |f| / C from 1, its maximum", abs(attained - 1), 1e-12),
        ),
        assumptions="ReLU, no biases, depths 1 to 6",
        control=(
            Measured(
                "before balancing: largest layer norm times sqrt(H)",
                float(np.max(nets.unbalanced)),
                1 + 1e-12,
            ),
            Measured(
                "tanh, not homogeneous: change of the function",
                float(np.max(nets.tanh_change)),
                1e-12,
            ),
        ),
    )


def _balancing(rng: np.random.Generator, depth: int) -> Balancing:
    """Of a random network, at 50 inputs with |x| = C = 3."""
    widths = [*rng.integers(1, 12, depth), 1]
    layers = [
        rng.normal(size=(after, before)) * 10 ** rng.uniform(-1, 1)
        for before, after in itertools.pairwise(widths)
    ]
    total = np.sqrt(sum(np.sum(layer**2) for layer in layers))
    unit = [layer / total for layer in layers]
    balanced = _rebalance(unit)
    inputs = rng.normal(size=(50, widths[0]))
    inputs[0] = layers[0][0]  # along the first row: tight for depth 1
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    reach = 3.0  # C
    outputs = _forward(unit, reach * inputs)
    most = reach * depth ** (-depth / 2)
    bent = _forward(unit, reach * inputs, np.tanh)
    moved = _forward(balanced, reach * inputs, np.tanh)
    change = np.abs(_forward(balanced, reach * inputs) - outputs).max()
    return Balancing(
        depth=depth,
        change=change / (np.abs(outputs).max() + 1e-300),
        norm=max(np.linalg.norm(layer) for layer in balanced) * np.sqrt(depth),
        unbalanced=max(np.linalg.norm(layer) for layer in unit) * np.sqrt(depth),
        value=np.abs(outputs).max() / most,
        attained=outputs.max() / most,
        tanh_change=np.abs(bent - moved).max() / np.abs(bent).max(),
    )


def _forward(
    layers: Sequence[np.ndarray],
    inputs: np.ndarray,
    activation: Callable[[np.ndarray], np.ndarray] = lambda x: np.maximum(x, 0),
) -> np.ndarray:
    """Outputs [N, 1] of the network without biases."""
    for layer in layers[:-1]:
        inputs = activation(inputs @ layer.T)
    return inputs @ layers[-1].T


def _rebalance(layers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Layers scaled to equal Frobenius norms with the same product."""
    norms = [np.linalg.norm(layer) for layer in layers]
    common = np.exp(np.mean(np.log(norms)))
    return [layer * (common / norm) for layer, norm in zip(layers, norms, strict=True)]


def _supremum(inputs: np.ndarray, coefficients: np.ndarray) -> float:
    """max over unit v in the plane of |sum c_i relu(v . x_i)|, exactly.

    Between the angles at which some v . x_i vanishes the sum is v . s: it is largest in size at
    the ends of the arc or along s or -s.
    """
    turns = np.arctan2(inputs[:, 1], inputs[:, 0])
    breaks = np.sort(np.mod(np.append(turns + np.pi / 2, turns - np.pi / 2), 2 * np.pi))
    ends = np.append(breaks, breaks[0] + 2 * np.pi)
    middles = (ends[1:] + ends[:-1]) / 2
    active = np.column_stack([np.cos(middles), np.sin(middles)]) @ inputs.T > 0
    sums = (active * coefficients) @ inputs
    along = np.arctan2(sums[:, 1], sums[:, 0])
    angles = np.concatenate([breaks, along, along + np.pi])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    return float(np.max(np.abs(np.maximum(vectors @ inputs.T, 0) @ coefficients)))


def _searched(rng: np.random.Generator, inputs: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """A lower estimate of the supremum for depth 3 and unit norms, from random networks."""
    best = np.zeros(len(scaled))
    for _ in range(300):
        first = rng.normal(size=(3, inputs.shape[1]))
        second = rng.normal(size=(1, 3))
        hidden = np.maximum(inputs @ (first / np.linalg.norm(first)).T, 0)
        features = np.maximum(hidden @ (second / np.linalg.norm(second)).T, 0)[:, 0]
        best = np.maximum(best, np.abs(scaled @ features))
    return best
