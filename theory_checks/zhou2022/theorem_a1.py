r"""Weights that change at every step keep the max-margin direction (zhou2022, Sec. 4.1, Thm A.1).

The theorem itself is in the supplement; this form and its proof are derived here. Let
:math:`\|z_i\| \le 1`, let weights :math:`w_t \in [b, B]^n`, b > 0, be chosen at every step in *any*
way (they may depend on the past), and let :math:`\theta_0 = 0`,
:math:`\theta_{t+1} = \theta_t + h_t g_t`, :math:`g_t = \sum_i q_i z_i`,
:math:`q_i \propto w_{t,i} e^{-u_i}`, :math:`u_i = z_i^\top \theta_t`. That is gradient descent on
the exponential loss with the step :math:`\eta_t = h_t / L(\theta_t; w_t)`. Then

.. math:: \tan^2 \angle(\theta_t, \theta^\star)
   \le \frac{2 S_t \log(n B / b) + \sum_{s<t} h_s^2}{\gamma^{\star 2} S_t^2},
   \qquad S_t = \sum_{s<t} h_s.

Proof. (1) With :math:`v_i = u_i - \min u` and :math:`Z = \sum_i w_i e^{-v_i} \ge \min w`, Gibbs'
identity gives :math:`\sum_i q_i v_i = \log(\sum w / Z) - KL(q \| w / \sum w) \le c := \log(\sum_i
w_i / \min w) \le \log(n B / b)`. (2) Split :math:`\theta = a \theta^\star + r`, :math:`r \perp
\theta^\star`. As :math:`g^\top \theta^\star \ge \gamma^\star`, :math:`a_t \ge \gamma^\star S_t \ge
0`. (3) :math:`\min u \le \sum_i p^\star_i u_i = \gamma^\star a`, so :math:`g^\top r = g^\top
\theta - a\, g^\top \theta^\star \le \min u + c - \gamma^\star a \le c`. (4) Hence
:math:`\|r_{t+1}\|^2 \le \|r_t\|^2 + 2 h_t c_t + h_t^2`; divide the sum by :math:`a_t^2`. So the
direction converges if :math:`S_t \to \infty` with bounded :math:`h_t`, as for :math:`h_t` constant.

For the logistic loss :math:`w_i / (1 + e^{-u_i})` takes the place of :math:`w_i` in
:math:`c_t`. Weights of zero have no finite :math:`c_t`.
"""

from typing import NamedTuple

import numpy as np

from theory_checks.common.descent import log_spaced
from theory_checks.common.reference import curve, mean_interval, slope, solve_max_margin
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.moving_weights import (
    ANY,
    ARMS,
    BOUNDS,
    CLIPPED,
    COUNT,
    DIFFICULTIES,
    UNBOUNDED,
    ArmPaths,
    SeparableSets,
    descend_arms,
    log_uniform,
    make_sets,
)
from weighting.implicit_bias.max_margin import max_margin

MOVING = range(len(DIFFICULTIES + ANY))  # arms within the bounds whose weights change
UNIFORM, RANDOM = ARMS.index("static uniform"), ARMS.index("static random")
ZERO, _, INVERSE_LOSS = (ARMS.index(name) for name in UNBOUNDED)
STEPS = ((10.0, False), (0.01, False), (1.0, True))  # rates, and whether the step is constant


class _ProofGaps(NamedTuple):
    """Largest excess at random parameters and weights of one data set, or of several."""

    gibbs: float  # (1): sum q u - min u - c
    pull: float  # (3): g . r - c
    altered: float  # (1) with the largest weight in the smallest one's place


class _BoundShares(NamedTuple):
    """Along one descent; or arrays [R, ...] of several."""

    progress: np.ndarray  # [S, T, CLIPPED], margin times S_t over the component along theta*
    used: np.ndarray  # [S, T, CLIPPED], squared component across over its bound
    blind: np.ndarray  # [S], left over right side for zero weights, as if c were finite


class _Angles(NamedTuple):
    """Of the arms at recorded times, over data sets of all sizes."""

    to_max_margin: np.ndarray  # [S, T, A]
    constant_steps: np.ndarray  # [S, T', A], the same with constant steps
    to_smaller: np.ndarray  # [S], at the end, of zero on the support to the rest's direction
    to_mean: np.ndarray  # [S], at the end, of 1 / loss to the mean point


def checks(preset: str) -> list[Check]:
    """The bound and the limit; short runs for "smoke"."""
    if preset == "smoke":
        return [
            bound(num_sets=4, num_params=200, last=3000, losses=("exponential",), sizes=(3,)),
            limit(num_sets=4, last=3000, last_constant=3000, sizes=(3,)),
        ]
    return [bound(), limit()]


def bound(
    *,
    num_sets: int = 6,
    num_params: int = 2000,
    last: int = 3000,
    losses: tuple[str, ...] = ("exponential", "logistic"),
    sizes: tuple[int, ...] = (2, 3),
    tighten: float = 1.0,
    seed: int = 0,
) -> Check:
    """The steps of the proof at random parameters, and the bound, times `tighten`, on descent."""
    rng = np.random.default_rng(seed)
    sets, excess = [], []
    for size in sizes:
        sets.append(make_sets(rng, num_sets, size))
        excess += _proof_gaps(rng, sets[-1], num_params)
    gaps = _ProofGaps(*np.max(excess, axis=0).tolist())
    along = [
        _bound_shares(own, descend_arms(own, log_spaced(last), rate, loss=loss, constant=constant))
        for own in sets
        for loss in losses
        for rate, constant in STEPS
    ]
    found = _BoundShares(*(np.stack(column) for column in zip(*along, strict=True)))
    largest, ends = float(found.used.max()), np.median(found.used[:, :, -1], axis=(1, 2))
    rows = (
        Measured("random theta and w: sum q u - min u - log(sum w / min w)", gaps.gibbs, 1e-12),
        Measured("the pull across theta*, less that logarithm", gaps.pull, 1e-12),
        Measured(
            "margin times S over the component along theta*",
            float(found.progress.max()),
            1 + 1e-12,
        ),
        Measured("squared component across over its bound: largest", largest / tighten, 1 + 1e-12),
        Measured("its median at the end", float(np.median(ends))),
    )
    return Check(
        "Z-TA1 bound",
        "weights in [b, B] chosen anew at every step: tan^2 of the angle <= (2 S log(n B / b) + "
        "sum h^2) / (margin S)^2",
        "EXACT-CORR",
        rows,
        assumptions=f"{', '.join(losses)} loss, |z_i| <= 1, start at zero, weights in {BOUNDS} by "
        "difficulty, at random, or by an adversary; any steps",
        control=(
            Measured(
                "zero on the support: left / right side, zeros left out",
                float(found.blind.max()),
                1.0,
            ),
            Measured("sum q u - min u - log(sum w / max w)", gaps.altered, 1e-12),
        ),
        erratum=(
            "The text says that difficulty-based weights do not change the max-margin direction; "
            "for weights of zero, or not bounded, that is false. For weights in [b, B], b > 0, it "
            "holds for any choice at every step, with the explicit bound above."
        ),
    )


def limit(
    *,
    num_sets: int = 8,
    last: int = 10_000,
    last_constant: int = 30_000,
    sizes: tuple[int, ...] = (2, 3),
    bounds: tuple[float, float] = BOUNDS,
    seed: int = 1,
) -> Check:
    """Z-TA1: angles to the max-margin direction along descent, weights recomputed at each step."""
    rng = np.random.default_rng(seed)
    sets = [make_sets(rng, num_sets, size, clear=True) for size in sizes]
    times = log_spaced(last)
    each = [_angles(own, times, log_spaced(last_constant), bounds) for own in sets]
    found = _Angles(*(np.concatenate(column) for column in zip(*each, strict=True)))
    angles, half = found.to_max_margin, len(times) // 2
    slopes = slope(np.log(times[half:]), np.moveaxis(np.log(angles[:, half:]), 1, -1))  # [S, A]
    solver = max(_solver_distance(own) for own in sets)
    rows = (
        Measured("max-margin direction, library against SciPy", solver, 1e-8),
        *(row for arm in MOVING for row in _arm_rows(arm, angles[:, -1], slopes, last)),
        Measured(
            "static uniform weights: largest angle", float(angles[:, -1, UNIFORM].max()), 0.02
        ),
        Measured("static random weights: largest angle", float(angles[:, -1, RANDOM].max()), 0.02),
        *(row for arm in MOVING for row in _ratio_rows(arm, angles[:, -1])),
        *_constant_step_rows(found.constant_steps, last_constant),
        Measured(
            "zero on the support: largest angle to the smaller problem's direction",
            float(found.to_smaller.max()),
            0.02,
        ),
        Measured(
            "1 / loss, not clipped: largest angle to the mean point",
            float(found.to_mean.max()),
            1e-9,
        ),
    )
    control = (
        *(
            Measured(f"{name}: smallest angle", float(angles[:, -1, ARMS.index(name)].min()), 0.02)
            for name in UNBOUNDED
        ),
        Measured(
            "zero on the support: slope of log angle, smallest",
            float(slopes[:, ZERO].min()),
            -0.5,
        ),
    )
    return Check(
        "Z-TA1",
        "weights by difficulty, clipped to [b, B], leave the limit direction at max-margin",
        "LIMIT",
        rows,
        assumptions="separable points in the unit ball, exponential loss; weights recomputed at "
        f"each step, scaled to mean one and then clipped to {bounds}",
        control=control,
        plot=_plot(times, angles),
    )


def angle(params: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Angles between params [..., D] and unit vectors, accurate also where they are small."""
    units = params / np.linalg.norm(params, axis=-1, keepdims=True)
    apart = np.linalg.norm(units - direction, axis=-1)
    return 2 * np.arctan2(apart, np.linalg.norm(units + direction, axis=-1))


def _proof_gaps(rng: np.random.Generator, sets: SeparableSets, num_params: int) -> list[_ProofGaps]:
    return [
        _proof_gaps_of_one(rng, points, direction, num_params)
        for points, direction in zip(sets.points, sets.direction, strict=True)
    ]


def _proof_gaps_of_one(
    rng: np.random.Generator, points: np.ndarray, direction: np.ndarray, num_params: int
) -> _ProofGaps:
    """Steps (1) and (3) of the proof at random parameters and weights of one data set."""
    params = rng.normal(size=(num_params, points.shape[1]))
    params = params * 10 ** rng.uniform(-2, 3, (num_params, 1))
    params *= np.sign(params @ direction)[:, None]
    weights = log_uniform(rng, (num_params, len(points)))
    u = params @ points.T
    above = u - u.min(axis=1, keepdims=True)
    q = weights * np.exp(-above)
    q /= q.sum(axis=1, keepdims=True)
    mean = np.sum(q * above, axis=1)
    total = np.log(weights.sum(axis=1))
    across = params - (params @ direction)[:, None] * direction
    pull = np.sum((q @ points) * across, axis=1)
    c = total - np.log(weights.min(axis=1))
    scale = 1 + np.abs(u).max(axis=1)
    return _ProofGaps(
        gibbs=float(np.max((mean - c) / scale)),
        pull=float(np.max((pull - c) / scale)),
        altered=float(np.max((mean - total + np.log(weights.max(axis=1))) / scale)),
    )


def _bound_shares(sets: SeparableSets, run: ArmPaths) -> _BoundShares:
    """Steps (2) and (4) of the proof along descent."""
    along, across = _components(run.params, sets.direction)
    reach = sets.margin[:, None, None] * run.path
    used = across**2 / (2 * run.cost + run.squares)
    # Zero weights left out of the minimum, as if c were finite.
    budget = 2 * np.log(COUNT) * run.path + run.squares
    blind = (across / along) ** 2 * reach**2 / budget
    return _BoundShares((reach / along)[..., :CLIPPED], used[..., :CLIPPED], blind[:, -1, ZERO])


def _components(params: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component of params [S, ..., D] along a unit vector [S, D], and the norm of the rest."""
    unit = direction[:, None, None]
    along = np.sum(params * unit, axis=-1)
    return along, np.linalg.norm(params - along[..., None] * unit, axis=-1)


def _angles(
    sets: SeparableSets,
    times: np.ndarray,
    constant_times: np.ndarray,
    bounds: tuple[float, float],
) -> _Angles:
    """Descent on data sets of one size, with steps 1 / L and with constant steps."""
    run = descend_arms(sets, times, 1.0, bounds=bounds)
    slow = descend_arms(sets, constant_times, 1.0, constant=True, bounds=bounds)
    best = sets.direction[:, None, None]
    rest, means = _other_directions(sets)
    return _Angles(
        to_max_margin=angle(run.params, best),
        constant_steps=angle(slow.params, best),
        to_smaller=angle(run.params[:, -1, ZERO], rest),
        to_mean=angle(run.params[:, -1, INVERSE_LOSS], means),
    )


def _other_directions(sets: SeparableSets) -> tuple[np.ndarray, np.ndarray]:
    """Directions [S, D]: max-margin without the support vectors, and the mean point."""
    rest = [
        solve_max_margin(points[~support]).direction
        for points, support in zip(sets.points, sets.support, strict=True)
    ]
    means = sets.points.mean(axis=1)
    return np.stack(rest), means / np.linalg.norm(means, axis=1, keepdims=True)


def _solver_distance(sets: SeparableSets) -> float:
    """Between the library's max-margin directions and SciPy's, largest."""
    own = [max_margin(points, np.ones(len(points))).direction for points in sets.points]
    return float(
        np.max(
            [np.linalg.norm(np.asarray(u) - v) for u, v in zip(own, sets.direction, strict=True)]
        )
    )


def _arm_rows(arm: int, ends: np.ndarray, slopes: np.ndarray, last: int) -> list[Measured]:
    """Angles at the end [S, A] and slopes of log angle on log t [S, A]."""
    mean, low, high = mean_interval(slopes[:, arm])
    return [
        Measured(
            f"{ARMS[arm]}: largest angle after {last} steps 1 / L",
            float(ends[:, arm].max()),
            0.02,
        ),
        Measured("slope of log angle on log t, mean", mean),
        Measured("its 95 % interval over data sets, low", low),
        Measured("high", high, -0.5),
    ]


def _ratio_rows(arm: int, ends: np.ndarray) -> list[Measured]:
    """Angles at the end [S, A] over those of uniform weights."""
    ratio, low, high = np.exp(mean_interval(np.log(ends[:, arm] / ends[:, UNIFORM]))).tolist()
    return [
        Measured(f"{ARMS[arm]}: angle over static uniform's, geometric mean", ratio),
        Measured("95 % interval, low", low),
        Measured("95 % interval, high", high),
    ]


def _constant_step_rows(angles: np.ndarray, last: int) -> list[Measured]:
    """Angles [S, T, A] at the end, and against those a decade (four records) earlier."""
    end, earlier = angles[:, -1, :CLIPPED], angles[:, -5, :CLIPPED]
    ratios = end[:, : len(DIFFICULTIES)] / earlier[:, : len(DIFFICULTIES)]
    return [
        Measured(f"constant step, {last} steps: largest angle", float(end.max())),
        Measured(
            "largest angle over that a decade earlier, difficulties, mean",
            float(np.mean(ratios)),
            1.0,
        ),
    ]


def _plot(times: np.ndarray, angles: np.ndarray) -> Plot:
    shown = ("loss", "margin", "random", "static uniform", "zero on the support")
    medians = np.median(angles, axis=0)  # [T, A]
    return Plot(
        "steps 1 / L",
        "median angle to the max-margin direction",
        {name: curve(times, medians[:, ARMS.index(name)]) for name in shown},
        "xy",
    )
