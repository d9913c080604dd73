r"""The lemmas behind the implicit bias of weighted gradient descent (xu2021, A.1-A.3).

Everywhere :math:`z_i = y_i x_i` with :math:`\|x_i\| \le 1` unless said otherwise, and L is the
weighted risk with weights of mean one. Lemma A.1 is in `lemmas_growth`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special

from theory_checks.common.columns import Number, concatenate, stack
from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import (
    Problems,
    curve,
    separable_points,
    slope,
    weighted_problems,
)
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.lemmas_growth import loss_growth
from theory_checks.xu2021.margin_losses import LOSSES, MarginLoss

DECADE = 4  # records of a factor of ten in time
SMOOTHNESS = {"exponential": 1.0, "logistic": 0.25}  # beta: below the start's risk, everywhere
INITIAL = {"exponential": 1.0, "logistic": np.log(2)}  # L_0


def checks(preset: str) -> list[Check]:
    """Lemmas A.1 to A.4; short runs for "smoke"."""
    if preset == "smoke":
        return [
            loss_growth(num_sets=1, last=300),
            summable_gradients(num_sets=3, last=10_000, sizes=(2,)),
            one_step_decrease(num_sets=3, num_steps=200),
            strong_convexity(num_sets=3),
        ]
    return [loss_growth(), summable_gradients(), one_step_decrease(), strong_convexity()]


# --- Lemma A.2: sums of gradients -------------------------------------------------------------


class GradientSums(NamedTuple):
    """Along K descents with step 1, after T numbers of steps."""

    distances: np.ndarray  # [K, T] |theta_t|
    sum_norms: np.ndarray  # [K, T] of the gradients' norms so far
    sum_squares: np.ndarray  # [K, T] of their squares
    norms: np.ndarray  # [K, T] of the gradient
    slopes: np.ndarray  # [K] of log norm on log t, last two decades


def summable_gradients(
    *, num_sets: int = 10, last: int = 100_000, sizes: tuple[int, ...] = (2, 3), seed: int = 0
) -> Check:
    """X-A2: norms of the gradients sum like log t, their squares to a constant."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 30, sizes[i % len(sizes)]) for i in range(num_sets)]
    times = log_spaced(last)
    rows, curves, growths = [], {}, []
    for loss in LOSSES:
        by_size = {}
        for size in sizes:
            problems = weighted_problems(
                rng, [points for points in sets if points.shape[1] == size]
            )
            by_size[size] = _gradient_sums(problems, times, loss)
        sums = concatenate(by_size.values())
        rows += _gradient_rows(loss, sums, last)
        growths.append(_growth(sums.sum_norms))
        curves[f"{loss}: norms"] = curve(times, np.median(by_size[2].sum_norms, axis=0))
        curves[f"{loss}: squares"] = curve(times, np.median(by_size[2].sum_squares, axis=0))
    planar = [points for points in sets if points.shape[1] == 2]
    return Check(
        "X-A2",
        "gradients' squared norms are summable and gradients vanish; their norms sum like log t",
        "FALSE-AS-PRINTED",
        tuple(rows),
        assumptions="separable data, constant step below 2 / beta; beta = 1 for exponential loss "
        "on the sublevel set of the start, 1/4 for logistic loss everywhere",
        control=_broken_sums(rng, planar, times),
        erratum=(
            "The sum of ||grad L|| is not finite on separable data, since eta times it bounds "
            f"|theta_t|, which diverges: it still grows by at least {min(growths):.1f} in the last "
            f"decade of {last:.0e} steps, for logistic loss too, which is smooth everywhere. The "
            "squares are summable, at most L_0 / (eta (1 - beta eta / 2)), and norms are of order "
            "1 / t, not o(1 / t)."
        ),
        plot=Plot("steps", "sum over the gradients so far", curves, "xy"),
    )


def _gradient_sums(problems: Problems, times: np.ndarray, loss: str) -> GradientSums:
    path = descend(problems.points, problems.weights, 1.0, times, loss=loss)
    late = times >= times[-1] / 100
    slopes = slope(np.log(times[late]), np.log(path.norms[:, late]))
    distances = np.linalg.norm(path.params, axis=-1)
    return GradientSums(distances, path.sum_norms, path.sum_squares, path.norms, slopes)


def _gradient_rows(loss: str, sums: GradientSums, last: int) -> list[Measured]:
    bound = INITIAL[loss] / (1 - SMOOTHNESS[loss] / 2)  # L_0 / (eta (1 - beta eta / 2)), eta = 1
    return [
        Measured(
            f"{loss}: |theta_t| - eta times the sum of norms",
            float(np.max(sums.distances - sums.sum_norms)),
            1e-9,
        ),
        Measured("minus the sum's growth over the last decade", -_growth(sums.sum_norms), -1.0),
        Measured(
            "sum of squares over L_0 / (eta (1 - beta eta / 2))",
            float(sums.sum_squares.max()) / bound,
            1.0,
        ),
        Measured("gradient's norm at the end", float(np.max(sums.norms[:, -1])), 10 / last**0.5),
        Measured("slope of log norm on log t, mean", float(np.mean(sums.slopes)), -0.75),
        Measured("largest of the slopes", float(np.max(sums.slopes)), -0.5),
    ]


def _growth(sums: np.ndarray) -> float:
    """The least growth of running sums [K, T] over the last decade."""
    return float(np.min(sums[:, -1] - sums[:, -1 - DECADE]))


def _broken_sums(
    rng: np.random.Generator, sets: list[np.ndarray], times: np.ndarray
) -> tuple[Measured, Measured]:
    """Strongly convex: the sum does converge. Too long steps: the squares exceed their bound."""
    problems = weighted_problems(rng, sets)
    strong = descend(problems.points, problems.weights, 1.0, times, regularization=0.05)
    far = weighted_problems(rng, [8 * points for points in sets])
    long = descend(far.points, far.weights, 8.0, times[:1], loss="logistic")
    return (
        Measured(
            "fixed regularization: minus the sum's growth",
            -_growth(strong.sum_norms),
            -1.0,
        ),
        Measured(
            "|x| = 8, step 8 (beta 64 times larger): squares over the same bound",
            float(long.sum_squares.max()) * 8 * (1 - 0.25 / 2) / np.log(2),
            1.0,
        ),
    )


# --- Lemma A.3: the decrease of one step ------------------------------------------------------

Schedule = Callable[[np.random.Generator, int], float]  # (generator, step) -> a_t of at most one


def _constant(rng: np.random.Generator, step: int) -> float:
    return 1.0


SCHEDULES: tuple[Schedule, ...] = (
    _constant,
    lambda rng, step: (step + 1) ** -0.5,
    lambda rng, step: float(rng.uniform()),
)


class Track(NamedTuple):
    """A descent in the log domain: T steps, T + 1 points."""

    log_risks: np.ndarray  # [T + 1]
    a: np.ndarray  # [T], step times risk
    b: np.ndarray  # [T], gradient's norm over risk
    slope_share: np.ndarray  # [T], sum of w |l'| over sum of w l
    params: np.ndarray  # [T + 1, D]


class StepExcess(NamedTuple):
    """By how much the lemma's inequalities fail on a track, at most; or on each of R, [R]."""

    one_step: Number  # L_{t+1} / L_t - (1 - a (1 - a/2) b^2)
    all_steps: Number  # log L_t - log L_0 + sum a (1 - a/2) b^2, relative
    path_length: Number  # |theta_{t+1} - theta_0| / sum_{j <= t} a_j b_j - 1
    first_step: Number  # |theta_1 - theta_0|, for which the print sums over j < 0
    norm: Number  # b_t - 1
    margin: Number  # gamma* - b_t
    scaled_margin: Number  # gamma* - b_t / (sum w |l'| / sum w l)


def one_step_decrease(
    *, num_sets: int = 15, num_steps: int = 2000, radius: float = 1.0, seed: int = 0
) -> Check:
    """X-A3 at every step of descents with constant, vanishing and random a_t = eta_t L_t <= 1."""
    rng = np.random.default_rng(seed)
    sets = [radius * separable_points(rng, 30, 2 + index % 4) for index in range(num_sets)]
    by_loss: dict[str, StepExcess] = {}
    for loss, functions in LOSSES.items():
        cases = []
        for points in sets:
            problems = weighted_problems(rng, [points])
            for index, weights in enumerate(problems.weights):
                schedule = SCHEDULES[index % len(SCHEDULES)]
                track = _track(rng, points, weights, functions, schedule, num_steps)
                cases.append(_step_excess(track, problems.margins[0]))
        by_loss[loss] = stack(cases)
    every = concatenate(by_loss.values())
    far = 5 * separable_points(rng, 30, 2)
    outside = _track(rng, far, np.ones(30), LOSSES["exponential"], _constant, 200)
    first = float(np.max(every.first_step))
    logistic = float(np.max(by_loss["logistic"].margin))
    return Check(
        "X-A3",
        "one-step decrease, path length and b_t >= margin, on "
        f"{num_steps * np.size(every.norm)} steps",
        "EXACT-CORR",
        _step_rows(every, by_loss),
        assumptions="linear predictor, |x_i| <= 1, |l'| <= l, l'' <= l, eta_t L_t <= 1",
        control=(
            Measured(
                "|x_i| = 5: one step's excess", float(_step_excess(outside, 0.0).one_step), 1e-13
            ),
            Measured("sum over j < t for |theta_{t+1} - theta_0|, as printed", first, 1e-11),
            Measured("logistic: margin - b_t, though |l'| < l", logistic, 1e-11),
        ),
        erratum=(
            "The path-length bound sums over j < t for |theta_{t+1}|, which fails at the first "
            f"step, where the empty sum should bound a step of up to {first:.2f}. With j <= t, "
            "|l'| <= l, |x_i| <= 1 and the distance from theta_0 it holds at every step; b_t >= "
            "margin is for exponential loss alone."
        ),
    )


def _step_rows(every: StepExcess, by_loss: dict[str, StepExcess]) -> tuple[Measured, ...]:
    scaled = by_loss["logistic"].scaled_margin
    return tuple(
        Measured(quantity, float(np.max(values)), bound)
        for quantity, values, bound in (
            ("one step, relative", every.one_step, 1e-13),
            ("all steps, in log L, relative", every.all_steps, 1e-13),
            ("|theta_{t+1} - theta_0| over the path length - 1", every.path_length, 1e-11),
            ("b_t - 1", every.norm, 1e-11),
            ("exponential: margin - b_t", by_loss["exponential"].margin, 1e-11),
            ("logistic: margin - b_t / (sum w |l'| / sum w l)", scaled, 1e-11),
        )
    )


def _step_excess(track: Track, margin: float) -> StepExcess:
    """At most rounding where the lemma holds."""
    a, b = track.a, track.b
    ratio = np.exp(np.diff(track.log_risks))
    total = np.cumsum(a * (1 - a / 2) * b**2)
    moved = np.linalg.norm(track.params - track.params[0], axis=1)
    return StepExcess(
        one_step=np.max(ratio - (1 - a * (1 - a / 2) * b**2)),
        all_steps=np.max((track.log_risks[1:] - track.log_risks[0] + total) / (1 + total)),
        path_length=np.max(moved[1:] / np.cumsum(a * b) - 1),
        first_step=moved[1],
        norm=np.max(b - 1),
        margin=np.max(margin - b),
        scaled_margin=np.max(margin - b / track.slope_share),
    )


def _track(
    rng: np.random.Generator,
    points: np.ndarray,
    weights: np.ndarray,
    loss: MarginLoss,
    schedule: Schedule,
    num_steps: int,
) -> Track:
    """Descent from zero with eta_t = a_t / L_t."""
    log_shares = np.log(weights / len(points))
    theta = np.zeros(points.shape[1])
    log_risks, a, b, shares, params = [], [], [], [], [theta]
    for step in range(num_steps + 1):
        margins = points @ theta
        log_risk = scipy.special.logsumexp(log_shares + loss.log_values(margins))
        log_risks.append(log_risk)
        if step == num_steps:
            break
        q = np.exp(log_shares + loss.log_slopes(margins) - log_risk)
        pull = q @ points
        a.append(schedule(rng, step))
        b.append(np.linalg.norm(pull))
        shares.append(q.sum())
        theta = theta + a[-1] * pull  # eta_t = a_t / L_t
        params.append(theta)
    return Track(*(np.array(column) for column in (log_risks, a, b, shares, params)))


# --- Lemma A.4: strong convexity --------------------------------------------------------------

ANGLES = np.linspace(0, 2 * np.pi, 721)
CIRCLE = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
DISTANCES = 10.0 ** np.linspace(0, 3, 13)  # along a ray


class Sublevel(NamedTuple):
    """A sublevel set seen along P directions against its explicit bounds; or S sets, [S, P]."""

    radius: np.ndarray  # [P] largest |theta| / R
    curvature: np.ndarray  # [P] explicit curvature / smallest eigenvalue
    smallest: np.ndarray  # [P] smallest eigenvalue of the Hessian


def strong_convexity(*, num_sets: int = 12, level: float = 1.5, seed: int = 0) -> Check:
    r"""X-A4 on non-separable points: explicit radius and curvature of a sublevel set.

    With :math:`\rho = \min_{\|v\|=1} \max_i -z_i^\top v > 0`, :math:`L \le c` implies
    :math:`\|\theta\| \le R = \log(n c / w_{\min}) / \rho` (logistic: with :math:`e^{nc / w} - 1` in
    place of :math:`n c / w`), and the Hessian is at least :math:`\ell''(R) \frac{w_{\min}}{n}
    \lambda_{\min}(Z^\top Z)` there.
    """
    rng = np.random.default_rng(seed)
    sublevels: dict[str, list[Sublevel]] = {loss: [] for loss in LOSSES}
    away, along = [], []
    for _ in range(num_sets):
        points = _overlapping(rng, 30)
        weights = 4.0 ** rng.uniform(-1, 1, len(points))
        weights /= weights.mean()
        for loss, functions in LOSSES.items():
            sublevels[loss].append(_sublevel(points, weights, functions, level))
        away.append(_curvatures_away(points, weights))
        along.append(_curvatures_along(points))
    by_loss = {loss: stack(own) for loss, own in sublevels.items()}
    lost = np.array([far[-1] / far[0] for far in away])  # curvature at |theta| = 1000 / at 1
    gone = np.array([far[-1] / far[0] for far in along])
    return Check(
        "X-A4",
        "on the span of the non-separable points the risk is strongly convex on sublevel sets",
        "EXACT-CORR",
        (
            *_sublevel_rows(by_loss),
            Measured("logistic: curvature at |theta| = 1000 / at 1", float(lost.max()), 1e-3),
        ),
        assumptions="l'' > 0, l -> 0, every direction of the span has a point on its wrong side",
        control=(
            Measured(
                "logistic, no sublevel set: 1 - curvature at 1000 / at 1",
                1 - float(lost.min()),
                0.5,
            ),
            Measured(
                "along separable points: 1 - curvature at 1000 / at 1", 1 - float(gone.min()), 0.5
            ),
        ),
        erratum=(
            "Strong convexity on the whole of the non-separable subspace fails for logistic loss, "
            f"whose curvature falls to {lost.max():.0e} of itself between norms 1 and 1000. It "
            "holds on every sublevel set of the risk on that subspace, with explicit constants."
        ),
        plot=Plot(
            "norm",
            "smallest eigenvalue of the Hessian",
            {
                "logistic, far away in S": curve(DISTANCES[:9], away[-1][:9]),
                "exponential, along separable points": curve(DISTANCES[:9], along[-1][:9]),
            },
            "xy",
        ),
    )


def _sublevel(points: np.ndarray, weights: np.ndarray, loss: MarginLoss, level: float) -> Sublevel:
    """Where L <= c = level times the risk at zero, along every tenth direction of the circle."""
    # The grid misses at most half its spacing.
    rho = np.min(np.max(-CIRCLE @ points.T, axis=1)) - (ANGLES[1] - ANGLES[0]) / 2
    least = weights.min() / len(points)  # w_min / n
    height = level * loss.values(np.zeros(1))[0]  # c
    radius = loss.inverse(height / least) / rho  # R
    lower = loss.curvature(np.array([radius]))[0] * least
    lower *= np.linalg.eigvalsh(points.T @ points)[0]
    lengths = radius * np.append(0, np.geomspace(1e-4, 1.05, 60))
    reached, smallest = [], []
    for direction in CIRCLE[::10]:
        params = lengths[:, None] * direction
        inside = params[loss.values(params @ points.T) @ weights / len(points) <= height]
        reached.append(np.linalg.norm(inside, axis=1).max())
        smallest.append(_curvatures(points, weights, inside, loss).min())
    return Sublevel(np.array(reached) / radius, lower / np.array(smallest), np.array(smallest))


def _sublevel_rows(by_loss: dict[str, Sublevel]) -> list[Measured]:
    rows = []
    for loss, sets in by_loss.items():
        largest, least = float(sets.radius.max()), float(sets.curvature.max())
        rows += [
            Measured(f"{loss}: largest norm in the sublevel set / R", largest, 1 + 1e-9),
            Measured(f"{loss}: explicit curvature / smallest eigenvalue", least, 1 + 1e-9),
        ]
    return rows + [
        Measured(
            f"{loss}: minus the smallest eigenvalue in a sublevel set",
            -float(sets.smallest.min()),
            -1e-6,
        )
        for loss, sets in by_loss.items()
    ]


def _overlapping(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points in the unit disk with no halfplane free of them: random labels."""
    points = rng.normal(size=(count, 2))
    return points / np.linalg.norm(points, axis=1).max()


def _curvatures_away(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the logistic risk far away in the span, beyond every sublevel set; [13]."""
    return _curvatures(points, weights, DISTANCES[:, None] * CIRCLE[0], LOSSES["logistic"])


def _curvatures_along(points: np.ndarray) -> np.ndarray:
    """Along a third coordinate that separates two more points, where nothing curves; [13]."""
    third = np.append(np.zeros(len(points)), [0.5, 0.8])
    lifted = np.column_stack([third, np.vstack([points, 0.1 * CIRCLE[:2]])])
    rays = DISTANCES[:, None] * np.array([1.0, 0.0, 0.0])
    return _curvatures(lifted, np.ones(len(lifted)), rays, LOSSES["exponential"])


def _curvatures(
    points: np.ndarray, weights: np.ndarray, params: np.ndarray, loss: MarginLoss
) -> np.ndarray:
    """The smallest eigenvalue of the risk's Hessian at params [P, D]."""
    shares = weights / len(points) * loss.curvature(params @ points.T)
    return np.linalg.eigvalsh(np.einsum("pn,nd,ne->pde", shares, points, points))[:, 0]
