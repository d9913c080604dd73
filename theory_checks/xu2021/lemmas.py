r"""The lemmas behind the implicit bias of weighted gradient descent (xu2021, A.1-A.3).

Everywhere :math:`z_i = y_i x_i` with :math:`\|x_i\| \le 1` unless said otherwise, and L is the
weighted risk with weights of mean one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.integrate
import scipy.special

from theory_checks.common.descent import descend, log_spaced
from theory_checks.common.reference import curve, separable_points, slope, weighted_problems
from theory_checks.records import Check, Plot, Row


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


def summable_gradients(
    *, num_sets: int = 10, last: int = 100_000, sizes: tuple[int, ...] = (2, 3), seed: int = 0
) -> Check:
    """X-A2: norms of the gradients sum like log t, their squares to a constant."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 30, sizes[i % len(sizes)]) for i in range(num_sets)]
    decade, times = 4, log_spaced(last)
    rows, curves = [], {}
    for loss, smoothness, initial in (("exponential", 1.0, 1.0), ("logistic", 0.25, np.log(2))):
        excess, growth, squares, final, rates = -np.inf, np.inf, 0.0, 0.0, []
        for size in sizes:
            of_size = [points for points in sets if points.shape[1] == size]
            problems = weighted_problems(rng, of_size)
            path = descend(problems.points, problems.weights, 1.0, times, loss=loss)
            norms = np.linalg.norm(path.params, axis=-1)
            excess = max(excess, float(np.max(norms - path.sum_norms)))
            growth = min(growth, _growth(path.sum_norms, decade))
            bound = initial / (1 - smoothness / 2)
            squares = max(squares, float(path.sum_squares.max()) / bound)
            final = max(final, float(np.max(path.norms[:, -1])))
            late = times >= last / 100
            rates += list(slope(np.log(times[late]), np.log(path.norms[:, late])))
            if size == 2:
                curves[f"{loss}: norms"] = curve(times, np.median(path.sum_norms, axis=0))
                curves[f"{loss}: squares"] = curve(times, np.median(path.sum_squares, axis=0))
        rows += [
            Row(f"{loss}: |theta_t| - eta times the sum of norms", excess, 1e-9),
            Row("minus the sum's growth over the last decade", -growth, -1.0),
            Row("sum of squares over L_0 / (eta (1 - beta eta / 2))", squares, 1.0),
            Row("gradient's norm at the end", final, 10 / last**0.5),
            Row("slope of log norm on log t, mean", float(np.mean(rates)), -0.75),
            Row("largest of the slopes", float(np.max(rates)), -0.5),
        ]
    # Strongly convex: the sum does converge. Too long steps: the squares exceed their bound.
    problems = weighted_problems(rng, [points for points in sets if points.shape[1] == 2])
    strong = descend(problems.points, problems.weights, 1.0, times, regularization=0.05)
    far = weighted_problems(rng, [8 * points for points in sets if points.shape[1] == 2])
    long = descend(far.points, far.weights, 8.0, times[:1], loss="logistic")
    squares = float(long.sum_squares.max()) * 8 * (1 - 0.25 / 2) / np.log(2)
    return Check(
        "X-A2",
        "gradients' squared norms are summable and gradients vanish; their norms sum like log t",
        "FALSE-AS-PRINTED",
        tuple(rows),
        assumptions="separable data, constant step below 2 / beta; beta = 1 for exponential loss "
        "on the sublevel set of the start, 1/4 for logistic loss everywhere",
        control=(
            Row("fixed regularization: minus the sum's growth",
                -_growth(strong.sum_norms, decade), -1.0),
            Row("|x| = 8, step 8 (beta 64 times larger): squares over the same bound",
                squares, 1.0),
        ),
        erratum=(
            "The sum of ||grad L|| is not finite on separable data, since eta times it bounds "
            f"|theta_t|, which diverges: it still grows by at least {_least(rows):.1f} in the last "
            f"decade of {last:.0e} steps, for logistic loss too, which is smooth everywhere. The "
            "squares are summable, at most L_0 / (eta (1 - beta eta / 2)), and norms are of order "
            "1 / t, not o(1 / t)."
        ),
        plot=Plot("steps", "sum over the gradients so far", curves, "xy"),
    )  # fmt: skip


def one_step_decrease(
    *, num_sets: int = 15, num_steps: int = 2000, radius: float = 1.0, seed: int = 0
) -> Check:
    """X-A3 at every step of descents with constant, vanishing and random a_t = eta_t L_t <= 1."""
    rng = np.random.default_rng(seed)
    sets = [radius * separable_points(rng, 30, 2 + index % 4) for index in range(num_sets)]
    worst: dict[str, float] = {}
    steps = 0
    for loss in LOSSES:
        for points in sets:
            problems = weighted_problems(rng, [points])
            for index, weights in enumerate(problems.weights):
                schedule = SCHEDULES[index % len(SCHEDULES)]
                track = _track(rng, points, weights, LOSSES[loss], schedule, num_steps)
                steps += num_steps
                for name, value in _violations(track, problems.margins[0], loss).items():
                    worst[name] = max(worst.get(name, -np.inf), value)
    far = separable_points(rng, 30, 2)
    control = _violations(
        _track(rng, 5 * far, np.ones(30), LOSSES["exponential"], _constant, 200), 0.0, ""
    )
    first = worst.pop("printed")
    logistic = worst.pop("logistic: margin - b_t, though |l'| < l")
    rows = tuple(Row(name, value, 1e-13 if "step" in name else 1e-11)
                 for name, value in worst.items())  # fmt: skip
    return Check(
        "X-A3",
        f"one-step decrease, path length and b_t >= margin, on {steps} steps",
        "EXACT-CORR",
        rows,
        assumptions="linear predictor, |x_i| <= 1, |l'| <= l, l'' <= l, eta_t L_t <= 1",
        control=(
            Row("|x_i| = 5: one step's excess", control["one step, relative"], 1e-13),
            Row("sum over j < t for |theta_{t+1} - theta_0|, as printed", first, 1e-11),
            Row("logistic: margin - b_t, though |l'| < l", logistic, 1e-11),
        ),
        erratum=(
            "The path-length bound sums over j < t for |theta_{t+1}|, which fails at the first "
            f"step, where the empty sum should bound a step of up to {first:.2f}. With j <= t, "
            "|l'| <= l, |x_i| <= 1 and the distance from theta_0 it holds at every step; b_t >= "
            "margin is for exponential loss alone."
        ),
    )


def strong_convexity(*, num_sets: int = 12, level: float = 1.5, seed: int = 0) -> Check:
    r"""X-A4 on non-separable points: explicit radius and curvature of a sublevel set.

    With :math:`\rho = \min_{\|v\|=1} \max_i -z_i^\top v > 0`, :math:`L \le c` implies
    :math:`\|\theta\| \le R = \log(n c / w_{\min}) / \rho` (logistic: with :math:`e^{nc / w} - 1` in
    place of :math:`n c / w`), and the Hessian is at least :math:`\ell''(R) \frac{w_{\min}}{n}
    \lambda_{\min}(Z^\top Z)` there.
    """
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 721)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    worst = {(loss, name): 0.0 for loss in LOSSES for name in ("radius", "curvature")}
    flattest = dict.fromkeys(LOSSES, np.inf)
    away, along, curves = [], [], {}
    for _ in range(num_sets):
        points = _overlapping(rng, 30)
        weights = 4.0 ** rng.uniform(-1, 1, len(points))
        weights /= weights.mean()
        # The grid misses at most half its spacing.
        rho = np.min(np.max(-circle @ points.T, axis=1)) - (angles[1] - angles[0]) / 2
        least = weights.min() / len(points)
        smallest = np.linalg.eigvalsh(points.T @ points)[0]
        for loss, functions in LOSSES.items():
            height = level * functions.values(np.zeros(1))[0]
            radius = functions.inverse(height / least) / rho
            lengths = radius * np.append(0, np.geomspace(1e-4, 1.05, 60))
            for direction in circle[::10]:
                params = lengths[:, None] * direction
                risks = functions.values(params @ points.T) @ weights / len(points)
                inside = params[risks <= height]
                worst[loss, "radius"] = max(
                    worst[loss, "radius"], float(np.linalg.norm(inside, axis=1).max() / radius)
                )
                lower = functions.curvature(np.array([radius]))[0] * least * smallest
                smallest_inside = _curvatures(points, weights, inside, functions).min()
                ratio = float(lower / smallest_inside)
                worst[loss, "curvature"] = max(worst[loss, "curvature"], ratio)
                flattest[loss] = min(flattest[loss], float(smallest_inside))
        distances = 10.0 ** np.linspace(0, 3, 13)
        rays = distances[:, None] * circle[0]
        far = _curvatures(points, weights, rays, LOSSES["logistic"])
        away.append(float(far[-1] / far[0]))
        # Points that can be separated by a third coordinate, along which nothing curves.
        lifted = np.column_stack([np.append(np.zeros(len(points)), [0.5, 0.8]),
                                  np.vstack([points, 0.1 * circle[:2]])])  # fmt: skip
        rays = distances[:, None] * np.array([1.0, 0.0, 0.0])
        hessian = _curvatures(lifted, np.ones(len(lifted)), rays, LOSSES["exponential"])
        along.append(float(hessian[-1] / hessian[0]))
        curves = {
            "logistic, far away in S": curve(distances[:9], far[:9]),
            "exponential, along separable points": curve(distances[:9], hessian[:9]),
        }
    rows = [
        Row(f"{loss}: {text}", worst[loss, name], 1 + 1e-9)
        for loss in LOSSES
        for name, text in (
            ("radius", "largest norm in the sublevel set / R"),
            ("curvature", "explicit curvature / smallest eigenvalue"),
        )
    ]
    rows += [
        Row(f"{loss}: minus the smallest eigenvalue in a sublevel set", -flattest[loss], -1e-6)
        for loss in LOSSES
    ]
    rows.append(Row("logistic: curvature at |theta| = 1000 / at 1", max(away), 1e-3))
    return Check(
        "X-A4",
        "on the span of the non-separable points the risk is strongly convex on sublevel sets",
        "EXACT-CORR",
        tuple(rows),
        assumptions="l'' > 0, l -> 0, every direction of the span has a point on its wrong side",
        control=(
            Row("logistic, no sublevel set: 1 - curvature at 1000 / at 1", 1 - min(away), 0.5),
            Row("along separable points: 1 - curvature at 1000 / at 1", 1 - min(along), 0.5),
        ),
        erratum=(
            "Strong convexity on the whole of the non-separable subspace fails for logistic loss, "
            f"whose curvature falls to {max(away):.0e} of itself between norms 1 and 1000. It "
            "holds on every sublevel set of the risk on that subspace, with explicit constants."
        ),
        plot=Plot("norm", "smallest eigenvalue of the Hessian", curves, "xy"),
    )


class Loss(NamedTuple):
    """A loss of the margin with its derivatives, and the v with l(-v) = value."""

    values: Callable[[np.ndarray], np.ndarray]
    log_values: Callable[[np.ndarray], np.ndarray]
    log_slopes: Callable[[np.ndarray], np.ndarray]  # of |l'|
    curvature: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[float], float]


def _softplus(u: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, u)


LOSSES = {
    "exponential": Loss(
        lambda u: np.exp(-u), lambda u: -u, lambda u: -u, lambda u: np.exp(-u), np.log
    ),
    "logistic": Loss(
        lambda u: _softplus(-u),
        lambda u: np.where(u > 30, -u - 0.5 * np.exp(-np.abs(u)), np.log(_softplus(-u))),
        lambda u: -_softplus(u),
        lambda u: scipy.special.expit(u) * scipy.special.expit(-u),
        lambda value: value + np.log(-np.expm1(-value)),
    ),
}

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


def _track(
    rng: np.random.Generator,
    points: np.ndarray,
    weights: np.ndarray,
    loss: Loss,
    schedule: Schedule,
    num_steps: int,
) -> Track:
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


def _violations(track: Track, margin: float, loss: str) -> dict[str, float]:
    """By how much the lemma's inequalities fail; at most rounding where it holds."""
    a, b = track.a, track.b
    factor = 1 - a * (1 - a / 2) * b**2
    ratio = np.exp(np.diff(track.log_risks))
    total = np.cumsum(a * (1 - a / 2) * b**2)
    path = np.cumsum(a * b)
    moved = np.linalg.norm(track.params - track.params[0], axis=1)
    violations = {
        "one step, relative": np.max(ratio - factor),
        "all steps, in log L, relative": np.max(
            (track.log_risks[1:] - track.log_risks[0] + total) / (1 + total)
        ),
        "|theta_{t+1} - theta_0| over the path length - 1": np.max(moved[1:] / path - 1),
        "b_t - 1": np.max(b - 1),
        "printed": moved[1],
    }
    if loss == "exponential":
        violations["exponential: margin - b_t"] = np.max(margin - b)
    elif loss == "logistic":
        name = "logistic: margin - b_t"
        violations[f"{name} / (sum w |l'| / sum w l)"] = np.max(margin - b / track.slope_share)
        violations[f"{name}, though |l'| < l"] = np.max(margin - b)
    return {name: float(value) for name, value in violations.items()}


def _growth(sums: np.ndarray, decade: int) -> float:
    """The least growth of running sums [K, T] over the last decade."""
    return float(np.min(sums[:, -1] - sums[:, -1 - decade]))


def _least(rows: list[Row]) -> float:
    return min(-row.value for row in rows if "growth" in row.quantity)


def _overlapping(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points in the unit disk with no halfplane free of them: random labels."""
    points = rng.normal(size=(count, 2))
    return points / np.linalg.norm(points, axis=1).max()


def _curvatures(
    points: np.ndarray, weights: np.ndarray, params: np.ndarray, loss: Loss
) -> np.ndarray:
    """The smallest eigenvalue of the risk's Hessian at params [P, D]."""
    shares = weights / len(points) * loss.curvature(params @ points.T)
    return np.linalg.eigvalsh(np.einsum("pn,nd,ne->pde", shares, points, points))[:, 0]


def loss_growth(*, num_sets: int = 4, last: int = 1000, seed: int = 0) -> Check:
    """X-A1 for homogeneous predictors of degree 1, 2 and 3; see `_homogeneous_run`."""
    rng = np.random.default_rng(seed)
    worst: dict[str, float] = {}
    smallest_slack: dict[int, float] = {}
    key_step, smoothed = -np.inf, -np.inf
    for degree in (1, 2, 3):
        for _ in range(num_sets):
            points = separable_points(rng, 20, 2, gap=(0.8, 1.5))
            problems = weighted_problems(rng, [points])
            weights = problems.weights[rng.integers(len(problems.weights))]
            run = _homogeneous_run(rng, points, weights / weights.min(), degree, last)
            for name, value in _growth_violations(run, degree).items():
                worst[name] = max(worst.get(name, -np.inf), value)
            smallest_slack[degree] = min(smallest_slack.get(degree, np.inf), run.slack)
            margins = points @ (3 * problems.directions[0])
            losses = weights / len(points) * np.exp(-margins)
            total = losses.sum()
            key_step = max(key_step, total * np.log(1 / total) - losses @ margins)
            smoothed = max(smoothed, (np.log(1 / total) - margins.min()) / 3)
    rows = [Row(name, value, 1e-9) for name, value in worst.items()]
    rows += [
        Row(f"degree {degree}: smallest left / right side", slack)
        for degree, slack in smallest_slack.items()
    ]
    return Check(
        "X-A1",
        "integral of dx / (x^2 log(1/x)^(2-2/a)) >= (a^2 / 2) smoothed margin^(2/a) sum of steps",
        "EXACT-CORR",
        tuple(rows),
        assumptions="homogeneous and smooth predictor, L = sum c exp(-u) with all c >= 1, small "
        "steps, from the first step with L <= exp(-2)",
        control=(
            Row("coefficients w / n: L log(1/L) - sum c u exp(-u)", float(key_step), 1e-9),
            Row("coefficients w / n: smoothed - normalized margin", float(smoothed), 1e-9),
        ),
        erratum=(
            "The left side is printed as the integrand at L(t) instead of its integral from L(t) "
            "to L(t_0), and the paper's margin stands where the smoothed margin log(1/L) / "
            "|theta|^a must. With coefficients w / n below one the step L log(1/L) <= sum c u "
            f"exp(-u) fails by {key_step:.2g}; with c = w / min w the lemma holds."
        ),
    )


class HomogeneousRun(NamedTuple):
    """From the first step with L <= exp(-2)."""

    log_risks: np.ndarray
    sum_steps: np.ndarray
    margins: np.ndarray  # normalized
    smoothed: np.ndarray  # log(1/L) / |theta|^degree
    key: np.ndarray  # sum c u exp(-u) / (L log(1/L)) - 1
    euler: float
    slack: float  # smallest left over right side


def _homogeneous_run(
    rng: np.random.Generator, points: np.ndarray, coefficients: np.ndarray, degree: int, last: int
) -> HomogeneousRun:
    """Descends sum c exp(-f) for f = a . (V z)^(degree - 1), or z . theta for degree 1.

    Steps grow as the loss falls, 0.05 / (L log(1/L)^(3 - 2/degree)) at most, as the lemma allows.
    """
    size = points.shape[1]
    width = 4
    theta = rng.normal(size=size if degree == 1 else width * (1 + size)) * 0.3
    records, started = [], False
    euler, total_steps, since = 0.0, 0.0, 0
    while since < last:
        values, jacobian = _predict(points, theta, degree, width)
        euler = max(euler, float(np.max(np.abs(jacobian @ theta - degree * values))))
        terms = np.log(coefficients) - values
        log_risk = float(np.asarray(scipy.special.logsumexp(terms)))
        shares = np.exp(terms - log_risk)
        level = max(-log_risk, 1.0)
        rate = 0.05 / (np.exp(log_risk) * level ** (3 - 2 / degree))
        if not started and log_risk <= -2:
            started, total_steps = True, 0.0
        if started:
            norm = np.linalg.norm(theta) ** degree
            records.append((log_risk, total_steps, values.min() / norm, -log_risk / norm,
                            shares @ values / -log_risk - 1))  # fmt: skip
            since += 1
        theta = theta + rate * np.exp(log_risk) * (shares @ jacobian)
        total_steps += rate
    log_risks, sum_steps, margins, smoothed, key = np.array(records).T
    integral = np.array([_integral(-log_risks[0], -end, degree) for end in log_risks[1::50]])
    right = 0.5 * degree**2 * smoothed[0] ** (2 / degree) * sum_steps[1::50]
    return HomogeneousRun(
        log_risks, sum_steps, margins, smoothed, key, euler, float(np.min(integral / right))
    )


def _predict(
    points: np.ndarray, theta: np.ndarray, degree: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values [N] and their Jacobian [N, P]; labels are folded in, for the net with odd parts."""
    if degree == 1:
        return points @ theta, points
    outer, inner = theta[:width], theta[width:].reshape(width, -1)
    hidden = points @ inner.T
    power = degree - 1
    features = np.sign(hidden) * np.abs(hidden) ** power
    slopes = power * np.abs(hidden) ** (power - 1)
    by_inner = (slopes * outer)[:, :, None] * points[:, None, :]
    return features @ outer, np.hstack([features, by_inner.reshape(len(points), -1)])


def _integral(start: float, end: float, degree: int) -> float:
    """The integral with v = log(1/x), of exp(v) / v^(2 - 2 / degree)."""
    if degree == 1:
        return float(np.exp(end) - np.exp(start))
    result = scipy.integrate.quad(
        lambda v: np.exp(v) / v ** (2 - 2 / degree), start, end, epsrel=1e-11, limit=200
    )
    return float(result[0])


def _growth_violations(run: HomogeneousRun, degree: int) -> dict[str, float]:
    return {
        f"degree {degree}: 1 - left / right side": 1 - run.slack,
        "Euler's identity, error": run.euler,
        "1 - sum c u exp(-u) / (L log(1/L))": float(np.max(-run.key)),
        "smoothed - normalized margin": float(np.max(run.smoothed - run.margins)),
        "decrease of the smoothed margin in a step": float(np.max(-np.diff(run.smoothed))),
    }
