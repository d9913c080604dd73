r"""The terms (I) and (II) of the weighted margin bound, of trained networks (xu2021, Sec. 4.2).

At networks of normalized margins :math:`u_i = y_i f(x_i; \theta / \|\theta\|)` and depth H, as
functions of :math:`\gamma \in (0, 2C]` (here C = 1),

.. math:: (I) = \frac1n \sum_i \eta_i 1(u_i < \gamma), \qquad
   (II) = \frac{4 (\sqrt{2 \log 2} + H^{-1/2}) \sqrt{D + 1}}
   {\gamma H^{(H-1)/2} \sqrt n},

with the chi-square divergence D; printed without the constant `_constant`.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.common import shifted_disc as disc
from theory_checks.common.columns import Number, stack
from theory_checks.common.reference import curve, mean_interval
from theory_checks.records import Check, Measured, Plot
from weighting.implicit_bias import bounds
from weighting.implicit_bias.diagnostics import normalized_margin

SHIFT = 0.1  # of both means, from the origin
NOISE = 0.1  # share of flipped labels
POWERS = (1.0, 0.0, -1.0)  # of eta, as weights of training
ALIGNED = ("eta", "1", "1 / eta")  # their names


# --- networks and the library's bound ---------------------------------------------------------


class TrainedNetworks(NamedTuple):
    """R networks, trained on as many samples with weights eta^1, eta^0 and eta^-1 in turn."""

    params: disc.Network
    sample: disc.Sample
    eta: np.ndarray  # [R, N]
    margins: np.ndarray  # [R, N] normalized


def trained_networks(
    rng: np.random.Generator,
    num_sets: int,
    count: int,
    depth: int,
    num_steps: int,
    *,
    noise: float = 0.0,
) -> TrainedNetworks:
    """From random starts."""
    sample = disc.draw(rng, -SHIFT, num_sets, count, noise=noise)
    eta = disc.density_ratio(sample.inputs, SHIFT)
    weights = eta ** np.resize(POWERS, num_sets)[:, None]
    start = disc.initial(rng, num_sets, depth)
    params = disc.train(start, *_batches(rng, sample, weights, num_steps))[-1]
    return TrainedNetworks(params, sample, eta, _normalized_margins(params, sample))


def _batches(
    rng: np.random.Generator, sample: disc.Sample, weights: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """64 examples a step, with weights [R, N] over their means."""
    return disc.minibatches(
        rng, sample, weights / weights.mean(axis=1, keepdims=True), num_steps, 64
    )


def _normalized_margins(params: disc.Network, sample: disc.Sample) -> np.ndarray:
    """y f(theta / |theta|, x); [R, N]."""
    scale = disc.norms(params)[:, None] ** len(params)
    return sample.labels * disc.outputs(params, sample.inputs) / scale


def best_bound(
    margins: np.ndarray,
    eta: np.ndarray,
    depth: int,
    form: str,
    chi_square: float,
    *,
    delta: float = 0.05,
    max_ratio: float,
) -> bounds.MarginBound:
    """The library's bound at its best gamma for margins [R, N]; [R] each."""
    with jax.enable_x64(True):
        found: Any = _best_bound(
            jnp.asarray(margins), jnp.asarray(eta), chi_square, delta, max_ratio, depth, form
        )
        return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnames=("depth", "form"))
def _best_bound(
    margins: Array,
    eta: Array,
    chi_square: Array,
    delta: Array,
    max_ratio: Array,
    depth: int,
    form: str,
    gamma: Array | None = None,
) -> bounds.MarginBound:
    def one(argument: tuple) -> bounds.MarginBound:
        *case, own_gamma = argument
        return bounds.weighted_margin_bound(
            *case,
            depth=depth,
            input_bound=1.0,
            delta=delta,
            gamma=own_gamma,
            form=form,
            divergence=chi_square,
            max_ratio=max_ratio,
        )

    return jax.lax.map(one, (margins, eta, gamma))


def _terms(
    margins: np.ndarray, eta: np.ndarray, depth: int, form: str, chi_square: float, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(I) and (II) at the values of gamma in grid [R, G]; [R, G] each."""
    with jax.enable_x64(True):
        margins_, eta_, gamma = (jnp.asarray(array) for array in (margins, eta, grid))
        found = _best_bound(margins_, eta_, chi_square, 0.05, 1.0, depth, form, gamma)
        return np.asarray(found.empirical), np.asarray(found.complexity)


def _least_sum(
    margins: np.ndarray, eta: np.ndarray, depth: int, form: str, chi_square: float
) -> bounds.MarginBound:
    """The same for (I) + (II) alone: (III) vanishes with eta_max.

    The printed (II) is the explicit one over `_constant(depth)`, which the divergence can absorb.
    """
    if form == "printed":
        chi_square = (chi_square + 1) / _constant(depth) ** 2 - 1
    return best_bound(margins, eta, depth, "explicit", chi_square, max_ratio=0.0)


def _constant(depth: int) -> float:
    """Explicit over printed (II)."""
    return 4 * (math.sqrt(2 * math.log(2)) + depth**-0.5)


# --- the terms along gamma --------------------------------------------------------------------


class GammaTerms(NamedTuple):
    """Both terms of a network that separates its sample, along G gamma; or of K, [K, ...].

    F forms: explicit and printed.
    """

    grid: np.ndarray  # [G] gamma
    first: np.ndarray  # [G] (I)
    second: np.ndarray  # [G] (II), explicit
    sums: np.ndarray  # [G] (I) by cumulated sums of eta along the margins
    at_margin: Number  # (I) at the smallest margin
    inclusive: Number  # the same with <= for <
    distance: np.ndarray  # [F] least (I) + (II), library over all candidates, less 1
    is_above: np.ndarray  # [F] minimiser above the smallest margin
    is_at_end: np.ndarray  # [F] minimiser at 2C
    above_limit: Number  # explicit: all of (0, 2C] exceeds the limit mean(eta)


class DepthTerms(NamedTuple):
    """The networks of one depth."""

    networks: list[GammaTerms]  # those that separate
    constants: np.ndarray  # [R, G] explicit (II) over printed (II) over `_constant`, less 1
    margin_gap: list[float]  # smallest margin against the library's, less 1; of a few
    conditional: list[float]  # 4 (bound of A.7 at the inputs) / gamma over (II); of a few


def structure(
    *,
    depths: tuple[int, ...] = (2, 3),
    num_sets: int = 30,
    count: int = 10_000,
    num_steps: int = 300,
    seed: int = 1,
) -> Check:
    """X-T1 (2): the two terms as functions of gamma, for networks that separate the data."""
    rng = np.random.default_rng(seed)
    chi_square = disc.angles(SHIFT).divergence
    of_depths = [
        _depth_terms(trained_networks(rng, num_sets, count, depth, num_steps), depth, chi_square)
        for depth in depths
    ]
    networks = [own for terms in of_depths for own in terms.networks]
    found = stack(networks)
    first = networks[0]
    return Check(
        "X-T1 structure",
        "(II) falls with gamma, (I) rises in steps and is 0 at the smallest margin",
        "EXACT-CORR",
        (
            *_gamma_rows(found, of_depths),
            Measured(
                "networks that do not separate (left out)", len(depths) * num_sets - len(networks)
            ),
            *_minimiser_rows(found),
        ),
        assumptions=f"separable data, n = {count}, networks of depth {depths}, gamma <= 2C",
        control=(
            Measured(
                "(I) at the smallest margin with <= for <, least",
                float(np.min(found.inclusive)),
                0,
            ),
        ),
        erratum=(
            "Sec. 4.2 says that some gamma must minimise (I) + (II), yet for any positive gamma "
            f"the infimum need not be attained: in {np.sum(found.above_limit)} of {len(networks)} "
            "networks the explicit sum exceeds its limit mean(eta) as gamma grows, everywhere on "
            "(0, 2C]. On (0, 2C] a minimiser exists, at a margin or at 2C."
        ),
        plot=Plot(
            "gamma",
            "term",
            {
                f"depth {depths[0]}, n = {count}: (I)": curve(first.grid, first.first),
                "(II)": curve(first.grid, first.second),
                "(I) + (II)": curve(first.grid, first.first + first.second),
            },
            "xy",
        ),
    )


def _gamma_rows(found: GammaTerms, of_depths: list[DepthTerms]) -> list[Measured]:
    constants = max(float(np.max(np.abs(terms.constants))) for terms in of_depths)
    margin_gap = max(abs(gap) for terms in of_depths for gap in terms.margin_gap)
    conditional = max(ratio for terms in of_depths for ratio in terms.conditional)
    return [
        Measured(
            "(I) against cumulated sums", float(np.max(np.abs(found.first - found.sums))), 1e-12
        ),
        Measured(
            "steps of the grid at which (II) does not fall",
            int(np.sum(np.diff(found.second) >= 0)),
            0,
        ),
        Measured("steps at which (I) falls", int(np.sum(np.diff(found.first) < 0)), 0),
        Measured("(I) at the smallest margin", float(np.max(found.at_margin)), 0),
        Measured(
            "the smallest margin against the margin over |theta|^H, relative", margin_gap, 1e-12
        ),
        Measured(
            "explicit (II) over printed (II) / 4 (sqrt(2 log 2) + H^(-1/2)): relative distance",
            constants,
            1e-12,
        ),
        Measured(
            "minimum of (I) + (II) on (0, 2C] against all candidates, relative",
            float(np.max(np.abs(found.distance))),
            1e-12,
        ),
        Measured("4 (bound of A.7 at the inputs) / gamma, over (II)", conditional),
    ]


def _minimiser_rows(found: GammaTerms) -> list[Measured]:
    return [
        Measured(f"{form}: share of minimisers {where}", float(np.mean(values[:, index])))
        for index, form in enumerate(bounds.FORMS)
        for where, values in (
            ("above the smallest margin", found.is_above),
            ("at the end, 2C", found.is_at_end),
        )
    ]


def _depth_terms(trained: TrainedNetworks, depth: int, chi_square: float) -> DepthTerms:
    """On a grid around the smallest margin and up to 2C."""
    margins, eta = trained.margins, trained.eta
    smallest = margins.min(axis=1)
    low = np.where(smallest > 0, smallest, 0.01)[:, None]
    grid = np.sort(np.append(low * np.geomspace(0.1, 1, 10)[:-1], low, axis=1), axis=1)
    grid = np.append(grid, low * (2 / low) ** (np.arange(1, 51) / 50), axis=1)
    first, second = _terms(margins, eta, depth, "explicit", chi_square, grid)
    printed = _terms(margins, eta, depth, "printed", chi_square, grid)[1]
    minima = [_least_sum(margins, eta, depth, form, chi_square) for form in bounds.FORMS]
    networks, margin_gap, conditional = [], [], []
    for r in np.flatnonzero(smallest > 0).tolist():
        own = [bounds.MarginBound(*(part[r] for part in best)) for best in minima]
        networks.append(_gamma_terms(margins[r], eta[r], depth, grid[r], first[r], second[r], own))
        if r < 3:
            margin, bound = _library_values(trained, r, depth)
            margin_gap.append(margin / float(smallest[r]) - 1)
            conditional.append(bound / float(second[r, 0] * grid[r, 0]))
    constants = second / printed / _constant(depth) - 1
    return DepthTerms(networks, constants, margin_gap, conditional)


def _gamma_terms(
    margins: np.ndarray,
    eta: np.ndarray,
    depth: int,
    grid: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    minima: list[bounds.MarginBound],
) -> GammaTerms:
    """Of one network [N], with the library's minimum of every form."""
    smallest, order = margins.min(), np.argsort(margins)
    sums = np.append(0.0, np.cumsum(eta[order])) / len(margins)
    # (I) jumps just above a margin, so that (I) + (II) has its minima at margins, or at 2C
    candidates = np.append(margins[(margins > 0) & (margins < 2)], 2.0)
    below = sums[np.searchsorted(margins[order], candidates, side="left")]
    distance, least = [], []
    for form, best in zip(bounds.FORMS, minima, strict=True):
        scale = second[0] * grid[0] / (1 if form == "explicit" else _constant(depth))
        least.append(float((below + scale / candidates).min()))
        distance.append(float(best.empirical + best.complexity) / least[-1] - 1)
    return GammaTerms(
        grid=grid,
        first=first,
        second=second,
        sums=sums[np.searchsorted(margins[order], grid, side="left")],
        at_margin=float(first[grid == smallest].max()),
        inclusive=float(np.mean(eta * (margins <= smallest))),
        distance=np.array(distance),
        is_above=np.array([best.gamma > smallest for best in minima]),
        is_at_end=np.array([best.gamma >= 2 for best in minima]),
        above_limit=bool(least[bounds.FORMS.index("explicit")] > sums[-1]),
    )


def _library_values(trained: TrainedNetworks, index: int, depth: int) -> tuple[float, float]:
    """The smallest margin of a network over |theta|^H, and 4 (bound of A.7 at its inputs)."""
    outputs = disc.outputs(trained.params, trained.sample.inputs)[index]
    with jax.enable_x64(True):
        layers = [jnp.asarray(layer[index]) for layer in trained.params]
        raw = jnp.asarray(trained.sample.labels[index] * outputs)
        conditional = 4 * bounds.rademacher_bound(
            jnp.asarray(trained.sample.inputs[index]),
            jnp.asarray(trained.eta[index]),
            depth=depth,
            norm_bound=depth ** (-depth / 2),
        )
        return float(normalized_margin(raw, layers, depth)), float(conditional)


# --- weights aligned to eta -------------------------------------------------------------------


class AlignedBound(NamedTuple):
    """Of R networks trained with one weighting for a number of steps."""

    least: np.ndarray  # [R] least (I) + (II), printed constants
    at_end: float  # share of minima at 2C
    errors: np.ndarray  # [R] under the target


def alignment(
    *,
    depths: tuple[int, ...] = (2, 3),
    num_sets: int = 40,
    count: int = 4000,
    num_steps: int = 400,
    shift: float = 0.2,
    seed: int = 2,
) -> Check:
    """X-T1 (3): the least (I) + (II), printed constants, after training with weights eta^power."""
    rng = np.random.default_rng(seed)
    rule = disc.angles(shift)
    records = (num_steps // 4, num_steps)
    rows, control, curves = [], [], {}
    for depth, noise in itertools.product(depths, (0.0, NOISE)):
        sample = disc.draw(rng, -shift, num_sets, count, noise=noise)
        eta = disc.density_ratio(sample.inputs, shift)
        arms = _train_aligned(rng, sample, eta, depth, rule, noise, records)
        case = f"H = {depth}, noise {noise:g}"
        for steps in records:
            own = {name: arms[name, steps] for name in (*ALIGNED, "shuffled eta")}
            rows += _alignment_rows(f"{case}, {steps} steps", own)
            _, low, _ = mean_interval(own["1"].least - own["shuffled eta"].least)
            control.append(
                Measured(
                    f"{case}, {steps} steps: minus the interval's low end for shuffled eta", -low, 0
                )
            )
        means = [float(arms[name, num_steps].least.mean()) for name in ALIGNED]
        curves[case] = (list(map(float, POWERS)), means)
    return Check(
        "X-T1 alignment",
        "training with weights aligned to eta makes the least (I) + (II) smaller",
        "TREND",
        tuple(rows),
        assumptions=(
            f"{num_sets} paired data sets, n = {count}, the same start, batches and number of "
            "steps; printed constants (with the explicit ones the sum is vacuous at this n)"
        ),
        control=tuple(control),
        plot=Plot("power of eta in the weights", "least (I) + (II)", curves),
    )


def _train_aligned(
    rng: np.random.Generator,
    sample: disc.Sample,
    eta: np.ndarray,
    depth: int,
    rule: disc.Angles,
    noise: float,
    records: tuple[int, ...],
) -> dict[tuple[str, int], AlignedBound]:
    """By weighting and number of steps, on the same examples in every arm."""
    arms = {
        "eta": eta,
        "1": np.ones_like(eta),
        "1 / eta": 1 / eta,
        "shuffled eta": rng.permuted(eta, axis=1),
    }
    start = disc.initial(rng, len(eta), depth)
    seed_of_batches = int(rng.integers(2**31))
    found = {}
    for name, weights in arms.items():
        data = _batches(np.random.default_rng(seed_of_batches), sample, weights, records[-1])
        trained = disc.train(start, *data, records=records)
        for steps, params in zip(records, trained, strict=True):
            margins = _normalized_margins(params, sample)
            bound = _least_sum(margins, eta, depth, "printed", rule.divergence)
            found[name, steps] = AlignedBound(
                np.asarray(bound.empirical + bound.complexity),
                float(np.mean(bound.gamma >= 2)),
                disc.target_errors(params, rule, noise),
            )
    return found


def _alignment_rows(label: str, own: dict[str, AlignedBound]) -> list[Measured]:
    """The weightings with the weights eta, of paired networks."""
    rows = [
        Measured(f"{label}: mean least (I) + (II), w = {name}", float(own[name].least.mean()))
        for name in ALIGNED
    ]
    ends = [own[name].at_end for name in ALIGNED]
    rows.append(Measured(f"{label}: share of minima at 2C (vacuous)", float(np.mean(ends))))
    for name in ("1", "1 / eta"):
        rows += _advantage_rows(
            f"{label}, w = {name} less w = eta", own[name].least - own["eta"].least
        )
    gained = float(np.mean(own["1"].errors - own["eta"].errors))
    return [*rows, Measured(f"{label}: target error, w = 1 less w = eta, mean", gained)]


def _advantage_rows(label: str, differences: np.ndarray) -> list[Measured]:
    """Effect size (mean over standard deviation), mean and 95 % interval of paired differences."""
    mean, low, high = mean_interval(differences)
    spread = float(differences.std(ddof=1))
    return [
        Measured(f"{label}: mean", mean),
        Measured(f"{label}: 95 % interval, low", low),
        Measured(f"{label}: 95 % interval, high", high),
        Measured(f"{label}: effect size", mean / spread if spread > 0 else 0.0),
    ]
