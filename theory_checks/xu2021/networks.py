r"""Two lemmas on networks :math:`W_H \sigma(W_{H-1} \cdots \sigma(W_1 x))` (xu2021, A.7 and A.8).

A.7 bounds the Rademacher complexity with weights :math:`\eta_i`, conditionally on the inputs, by
:math:`(\sqrt{2 H \log 2} + 1) \prod_h M_h \sqrt{\sum_i \eta_i^2 \|x_i\|^2} / n`; A.8 balances the
layers' norms. The activation is ReLU.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from theory_checks.common.reference import curve, mean_interval, slope
from theory_checks.records import Check, Plot, Row


def checks(preset: str) -> list[Check]:
    """Both lemmas; few examples for "smoke"."""
    if preset == "smoke":
        return [complexity(num_sets=2, count=7), second_moment(num_repeats=400), balance(20)]
    return [complexity(), second_moment(), balance()]


def complexity(*, num_sets: int = 6, count: int = 10, tighten: float = 1.0, seed: int = 0) -> Check:
    """X-A7: both sides exactly, over all 2^n signs, for depths 1 and 2 in the plane."""
    rng = np.random.default_rng(seed)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    ratios: dict[int, list[float]] = {1: [], 2: [], 3: []}
    moment, printed, unweighted = -np.inf, -np.inf, -np.inf
    for index in range(num_sets):
        inputs = rng.normal(size=(count, 2))
        etas = rng.pareto(1.2, count) + 0.1 if index % 2 else rng.uniform(0.2, 3, count)
        limits = rng.uniform(0.5, 2, 3)
        scaled = signs * etas
        size = float(np.sqrt(np.sum(etas**2 * np.sum(inputs**2, axis=1))))
        norms = np.linalg.norm(scaled @ inputs, axis=1)
        suprema = {1: norms, 2: np.array([_supremum(inputs, row) for row in scaled])}
        suprema[3] = _searched(rng, inputs, scaled)  # from below
        for depth, values in suprema.items():
            product = np.prod(limits[:depth])
            left = product * values.mean() / count
            right = (np.sqrt(2 * depth * np.log(2)) + 1) * product * size / count
            ratios[depth].append(left / right / tighten)
            # The proof's first line: with the exponential it bounds the left side.
            rate = np.sqrt(2 * depth * np.log(2)) / (product * size)
            logarithm = depth * np.log(2)
            with_exp = (logarithm + np.log(np.mean(np.exp(rate * product * norms)))) / rate / count
            without = (logarithm + np.log(np.mean(rate * product * norms))) / rate / count
            moment = max(moment, left / with_exp)
            printed = max(printed, left / without)
        plain = np.sqrt(np.sum(inputs**2)) * (np.sqrt(2 * np.log(2)) + 1) / count
        unweighted = max(unweighted, norms.mean() / count / plain)
    rows = [Row(f"depth {depth}: left / right side{', searched from below' * (depth == 3)}",
                max(values), 1.0) for depth, values in ratios.items()]  # fmt: skip
    return Check(
        "X-A7 complexity",
        "E sup (1/n) sum eps eta f(x) <= (sqrt(2 H log 2) + 1) prod M sqrt(sum eta^2 |x|^2) / n",
        "EXACT-CORR",
        (*rows, Row("left side / the moment bound with exp", moment, 1.0)),
        assumptions=f"inputs fixed; expectation over all 2^{count} signs",
        control=(
            Row("left side / the moment bound without exp, as printed", printed, 1.0),
            Row("depth 1: left / right side without the weights", unweighted, 1.0),
        ),
        erratum=(
            "The proof starts from (1/lambda) log(2^H E(M lambda |sum eps eta x|)), which its left "
            f"side exceeds by up to {100 * (printed - 1):.0f} %. With the exponential of M lambda "
            "|sum eps eta x| inside the expectation, as in Golowich et al., it holds."
        ),
    )


def second_moment(*, num_repeats: int = 2000, seed: int = 0) -> Check:
    r"""X-A7: the mean of eta^2 is chi-square + 1 up to O_p(1/sqrt n), not o(1/sqrt n)."""
    rng = np.random.default_rng(seed)
    source, target = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.2, 0.3, 0.3, 0.2])
    eta = target / source
    divergence = float(np.sum((target / source - 1) ** 2 * source))  # Pearson's, by its definition
    sizes = np.array([100, 300, 1000, 3000, 10_000, 30_000])
    errors, biases, scaled = [], [], []
    for size in sizes:
        means = rng.multinomial(size, source, num_repeats) @ eta**2 / size
        error = means - divergence - 1
        errors.append(np.sqrt(np.mean(error**2)))
        biases.append(abs(error.mean()) / (error.std(ddof=1) / np.sqrt(num_repeats)))
        scaled.append(np.abs(error) * np.sqrt(size))
    groups = np.array_split(np.arange(num_repeats), 10)
    slopes = []
    for group in groups:
        rms = [np.sqrt(np.mean(values[group] ** 2 / n))
               for values, n in zip(scaled, sizes, strict=True)]  # fmt: skip
        slopes.append(slope(np.log(sizes), np.log(rms)))
    mean, low, high = mean_interval(np.array(slopes))
    shrink = float(np.median(scaled[-1]) / np.median(scaled[0]))
    expected = float(np.sqrt(np.sum(source * eta**4) - (divergence + 1) ** 2))
    ratio = errors[-1] * np.sqrt(sizes[-1]) / expected
    quantile = float(scipy.stats.norm.ppf(1 - 0.5e-4))
    return Check(
        "X-A7 second moment",
        "(1/n) sum eta^2 = chi-square + 1 + O_p(1 / sqrt n)",
        "EXACT-CORR",
        (
            Row("largest |mean error| in standard errors", max(biases), quantile),
            Row("|slope of log rms error on log n + 1/2|", abs(mean + 0.5), 0.05),
            Row("farther end of its 95 % interval", max(abs(low + 0.5), abs(high + 0.5)), 0.05),
            Row("|sqrt(n) rms error / its limit - 1| at n = 30000", abs(ratio - 1), 0.12),
        ),
        assumptions="independent inputs, density ratio with four moments",
        control=(
            Row("sqrt(n) |error|, n = 30000 over n = 100: o(1 / sqrt n), as printed", shrink, 0.5),
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
                "measured": curve(sizes, np.array(errors)),
                "limit": curve(sizes, expected / np.sqrt(sizes)),
            },
            "xy",
        ),
    )


def balance(num_nets: int = 200, *, seed: int = 0) -> Check:
    """X-A8: equal layer norms, the same function, norms and values within their bounds."""
    rng = np.random.default_rng(seed)
    change, norm, value, attained, broken, biased = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(num_nets):
        depth = 1 + index % 6
        widths = [*rng.integers(1, 12, depth), 1]
        layers = [
            rng.normal(size=(after, before)) * 10 ** rng.uniform(-1, 1)
            for before, after in itertools.pairwise(widths)
        ]
        total = np.sqrt(sum(np.sum(layer**2) for layer in layers))
        unit = [layer / total for layer in layers]
        balanced = rebalance(unit)
        inputs = rng.normal(size=(50, widths[0]))
        inputs[0] = layers[0][0]  # along the first row: tight for depth 1
        inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
        reach = 3.0
        outputs = forward(unit, reach * inputs)
        scale = np.abs(outputs).max() + 1e-300
        change = max(change, float(np.abs(forward(balanced, reach * inputs) - outputs).max()
                                   / scale))  # fmt: skip
        norms = [np.linalg.norm(layer) for layer in balanced]
        norm = max(norm, float(max(norms)) * np.sqrt(depth))
        most = reach * depth ** (-depth / 2)
        value = max(value, float(np.abs(outputs).max() / most))
        if depth == 1:
            attained = max(attained, float(outputs.max() / most))
        unbalanced = max(np.linalg.norm(layer) for layer in unit)
        broken = max(broken, float(unbalanced) * np.sqrt(depth))
        if depth > 1:
            bent = forward(unit, reach * inputs, np.tanh)
            moved = forward(balanced, reach * inputs, np.tanh)
            biased = max(biased, float(np.abs(bent - moved).max() / np.abs(bent).max()))
    return Check(
        "X-A8",
        "theta / |theta|, layers balanced: same function, norms <= 1/sqrt(H), |f| <= C H^(-H/2)",
        "EXACT",
        (
            Row("change of the function, relative", change, 1e-12),
            Row("largest layer norm times sqrt(H)", norm, 1 + 1e-12),
            Row("|f| over C H^(-H/2)", value, 1 + 1e-12),
            Row("depth 1: distance of |f| / C from 1, its maximum", abs(attained - 1), 1e-12),
        ),
        assumptions="ReLU, no biases, depths 1 to 6",
        control=(
            Row("before balancing: largest layer norm times sqrt(H)", broken, 1 + 1e-12),
            Row("tanh, not homogeneous: change of the function", biased, 1e-12),
        ),
    )


Layers = Sequence[np.ndarray]


def forward(
    layers: Layers,
    inputs: np.ndarray,
    activation: Callable[[np.ndarray], np.ndarray] = lambda x: np.maximum(x, 0),
) -> np.ndarray:
    """Outputs [N, 1] of the network without biases."""
    for layer in layers[:-1]:
        inputs = activation(inputs @ layer.T)
    return inputs @ layers[-1].T


def rebalance(layers: Layers) -> list[np.ndarray]:
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
