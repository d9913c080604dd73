r"""A weighting model trained jointly with a linear classifier (xu2021, Sec. 5, Eq. 4 and Fig. 4).

The weights are :math:`g_i = 1 + \sigma(a_i)`, :math:`a_i = \psi^\top x_i + b`, and both models
descend the joint risk :math:`L = \frac{1}{n} \sum_i g_i e^{-u_i}`, :math:`u_i = z_i^\top \theta`,
:math:`z_i = y_i x_i`, :math:`\|x_i\| \le 1`, by simultaneous steps :math:`\eta_t`. The paper
conjectures that the direction still tends to the max-margin :math:`\theta^\star`, that g
concentrates to a constant, and that its correlation with the margin vanishes. Derived here, with
:math:`a_t = \eta_t L_t` and :math:`\kappa = 1.14`, the largest curvature of L over L:

1. While :math:`a_t \le 1`, :math:`\log L_t \le \log L_0 - \sum_{j<t} (1 / a_j - \kappa / 2)
   (\|\Delta\theta_j\|^2 + \|\Delta(\psi, b)_j\|^2)`. As g > 1 and the gradient in theta has norm
   :math:`\ge \gamma^\star L`, Fenchel's inequality gives from :math:`\theta_0 = 0`, as in Prop. 1,

   .. math:: \tfrac12 \Big\| \frac{\theta_t}{\|\theta_t\|} - \theta^\star \Big\|^2
      \le \frac{\log L_0 + \frac\kappa2 \sum_j \|\Delta\theta_j\|^2 + \log n
      + \sum_i p^\star_i \log p^\star_i}{\gamma^\star \|\theta_t\|}.

   For constant steps the sum is finite: the first conjecture is true.
2. When the supports carry the risk, (psi, b) moves in time log t down the gradient of
   :math:`\sum_i p^\star_i \log g_i`, up to a factor. This separates the supports' :math:`(x_i, 1)`
   from the origin: :math:`(\psi, b) \approx -v \log\log t` with v/|v|^2 the point nearest to the
   origin of their convex hull. So g tends to 1 where :math:`v^\top (x, 1) > 0` and to 2 where it is
   negative: to one constant for inputs in the unit ball, not in general, and only as
   :math:`(\log t)^{-\min_i v^\top (x_i, 1)}`.
3. From psi = 0 a step gives :math:`\mathrm{cov}(a, \ell) = -\eta \sigma'(b) \bar{\ell x}^\top
   \mathrm{cov}(x, \ell)`, which is :math:`-\eta \sigma'(b) \|\bar{\ell x}\|^2 \le 0` for centred
   inputs: weights fall with the loss. A correlation is free of scale, and does not vanish because
   the spread of g does.

Steps over the mean loss follow the same flow with log t proportional to their number, and reach
log t = 10^4; constant ones end at log t = 12.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from theory_checks.common.descent import log_spaced
from theory_checks.common.reference import curve, distance, mean_interval, slope, solve_max_margin
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.joint_training import (
    COUNT,
    CURVATURE,
    SIZE,
    WIDE,
    CentredSet,
    JointArm,
    centred_data,
    train_settings,
)
from weighting import Signals, joint_weighting

FINAL = 3.0  # degrees from the max-margin direction in the end; falls as 1 / norm
CLEAR = 0.5  # exponents of log t below which ten thousand steps need not show the limit
PARTS = ("mean", "lower end", "upper end")  # of an interval


def checks(preset: str) -> list[Check]:
    """The three conjectures on one set of runs, a tenth as long for "smoke"."""
    num_sets, last = (3, 10_000) if preset == "smoke" else (8, 100_000)
    data = [centred_data(rng) for rng in np.random.default_rng(0).spawn(num_sets)]
    times = log_spaced(last)
    arms = train_settings(data, times)
    return [
        direction(data, times, arms),
        concentration(data, times, arms),
        correlation(times, arms),
        first_step(50 if preset == "smoke" else 500),
    ]


# --- the direction ----------------------------------------------------------------------------


def direction(data: list[CentredSet], times: np.ndarray, arms: dict[str, JointArm]) -> Check:
    """X-S5a (1): the direction's bound along joint descent."""
    plain = [arms[name] for name in ("plain", "plain, normal start")]
    long = [arms[name] for name in ("long", "long, normal start")]
    unbounded = arms["no floor"].angles[:, -1]
    return Check(
        "X-S5a direction",
        "trained jointly with weights in (1, 2), the classifier tends to the max-margin direction",
        "CONJ",
        _direction_rows(data, plain, long),
        assumptions="linear, separable, exponential loss, |x| <= 1, start theta = 0, eta L <= 1",
        control=(
            Measured(
                "weights in (0, 2), not bounded from below: largest final angle",
                float(unbounded.max()),
                FINAL,
            ),
            Measured("the same: median", float(np.median(unbounded))),
        ),
        plot=Plot(
            "steps",
            "median angle in degrees",
            {name: curve(times, np.median(arm.angles, axis=0)) for name, arm in arms.items()},
            "x",
        ),
    )


def _direction_rows(
    data: list[CentredSet], plain: list[JointArm], long: list[JointArm]
) -> tuple[Measured, ...]:
    """Constant steps, and steps over the loss."""
    excess = np.array([_decrease_excess(arm) for arm in (*plain, *long)])
    ratios, long_ratios = (
        np.array([_bound_ratios(data, arm) for arm in own]) for own in (plain, long)
    )
    early, ends = (np.concatenate([arm.angles[:, -1] for arm in own]) for own in (plain, long))
    return (
        Measured(
            "log L_t plus its decreases, largest rise between records",
            float(np.max(excess)),
            0.0,
        ),
        Measured(
            "half squared distance over its bound, constant steps", float(np.max(ratios)), 1.0
        ),
        Measured("the same, steps over the loss", float(np.max(long_ratios)), 1.0),
        Measured("median angle in degrees, last constant step", float(np.median(early))),
        Measured("median angle in degrees, last step over the loss", float(np.median(ends))),
        Measured("largest", float(ends.max()), FINAL),
        Measured("conjecture confirmed (1: yes)", float(ends.max() <= FINAL)),
    )


def _bound_ratios(data: list[CentredSet], arm: JointArm) -> np.ndarray:
    """Half the squared distance to the max-margin direction over its bound, [S, T]."""
    ratios = []
    for index, (_, _, solution) in enumerate(data):
        params = arm.path.params[index]
        support = solution.dual[solution.dual > 0]
        constant = np.log(1.5) + np.log(COUNT) + support @ np.log(support)
        if arm.path.biases[index, 0] > 0.1:  # a normal start: L_0 < 2
            constant += np.log(2 / 1.5)
        top = constant + CURVATURE / 2 * arm.path.sum_squares[index]
        reach = solution.margin * np.linalg.norm(params, axis=-1)
        ratios.append(distance(params, solution.direction) ** 2 / 2 * reach / top)
    return np.array(ratios)


def _decrease_excess(arm: JointArm) -> np.ndarray:
    """log L_t + sum of decreases, its rises between records, [S, T - 1]; the lemma says none."""
    terms = np.log(arm.gates / arm.gates.shape[-1]) - arm.margins
    largest = terms.max(axis=-1, keepdims=True)
    log_risks = largest[..., 0] + np.log(np.sum(np.exp(terms - largest), axis=-1))
    return np.diff(log_risks + arm.path.decreases, axis=1)


# --- concentration ----------------------------------------------------------------------------


def concentration(data: list[CentredSet], times: np.ndarray, arms: dict[str, JointArm]) -> Check:
    """X-S5a (2): where g goes, seen after 10^5 steps and in the limit."""
    wide = np.stack([limit_exponents(WIDE * case.inputs, case) for case in data])  # [S, N]
    limits = np.where(wide > 0, 1.0, 2.0)
    clear = np.abs(wide) > CLEAR
    final = arms["wide"].gates[:, -1]  # [S, N]
    wrong = np.abs(final - limits)[clear] > 0.5
    split = np.mean(np.ptp(limits, axis=1) > 0)
    inside = max(
        float(arms[name].gates[:, -1].max()) - 1 for name in ("long", "long, normal start")
    )
    return Check(
        "X-S5a concentration",
        "the jointly trained weights concentrate to a constant",
        "CONJ",
        (
            *_spread_rows("zeros", arms["plain"], times),
            *_spread_rows("normal", arms["plain, normal start"], times),
            *_exponent_rows(data, arms["long"], times, inside),
            Measured(
                f"|x| <= {WIDE:.0f}: share of weights not at their predicted limit, 1 or 2",
                float(wrong.mean()),
                0.05,
            ),
            Measured(f"|x| <= {WIDE:.0f}: sets with limits 1 and 2, share", float(split)),
            Measured("conjecture confirmed for |x| <= 1 (1: yes)", float(inside <= 0.05)),
            Measured("conjecture confirmed for wider inputs (1: yes)", float(split == 0)),
        ),
        assumptions="linear, separable, exponential loss; limits by steps over the loss",
        control=(
            Measured(f"|x| <= {WIDE:.0f}: largest g - 1", float(final.max()) - 1, 0.05),
            Measured(
                "the same: share wrong if all are predicted to tend to 1",
                float(np.mean(final[clear] > 1.5)),
                0.05,
            ),
        ),
        erratum=(
            "The weights are said to concentrate to one constant because the limit of the "
            "classifier does not depend on them, but that leaves them free: with inputs of norm up "
            f"to {WIDE:.0f} they tend to 1 for some examples and to 2 for others in "
            f"{100 * split:.0f} % of the data sets. They tend to one constant, the lower bound 1, "
            "if all inputs lie in the unit ball, as a negative power of log t."
        ),
        plot=Plot(
            "steps",
            "median standard deviation of g",
            {
                name: curve(times[4:], np.median(arms[name].spreads[:, 4:], axis=0))
                for name in ("plain", "plain, normal start", "long", "wide")
            },
            "xy",
        ),
    )


def _spread_rows(start: str, arm: JointArm, times: np.ndarray) -> list[Measured]:
    """The standard deviation of g with constant steps."""
    late = times >= times[-1] / 100
    fall = mean_interval(slope(np.log(times[late]), arm.spreads[:, late]))
    peak = np.median(arm.spreads.max(axis=1))
    return [
        Measured(f"{start}: slope of std of g on log t, last two decades", fall[0]),
        Measured(f"{start}: lower end of its 95 % interval", fall[1]),
        Measured(f"{start}: upper end", fall[2]),
        Measured(f"{start}: median largest std", float(peak)),
        Measured(f"{start}: median final std", float(np.median(arm.spreads[:, -1]))),
    ]


def _exponent_rows(
    data: list[CentredSet], long: JointArm, times: np.ndarray, inside: float
) -> list[Measured]:
    """In the unit ball g - 1 falls as (log t)^-min_i v . (x_i, 1); steps over the loss."""
    exponents = np.stack([limit_exponents(case.inputs, case) for case in data])  # [S, N]
    half = times >= times[-1] / 10
    measured = slope(np.log(times[half]), np.log(long.spreads[:, half]))
    off = mean_interval(measured + exponents.min(axis=1))
    return [
        Measured(
            "|x| <= 1: smallest exponent of (log t)^-1, must be positive",
            -float(exponents.min()),
            0.0,
        ),
        Measured("|x| <= 1: largest g - 1 in the limit of the flow", inside, 0.05),
        Measured("slope of log std on log log t plus the exponent, mean", off[0]),
        Measured("lower end of its 95 % interval", off[1]),
        Measured("upper end", off[2]),
    ]


def limit_exponents(inputs: np.ndarray, data: CentredSet) -> np.ndarray:
    """v . (x, 1) of every example: g - 1, or 2 - g, falls as log t to minus its size."""
    extended = np.column_stack([inputs, np.ones(len(inputs))])
    nearest = solve_max_margin(extended[data.solution.dual > 1e-9])
    return extended @ nearest.direction / nearest.margin


# --- correlation ------------------------------------------------------------------------------


def correlation(times: np.ndarray, arms: dict[str, JointArm]) -> Check:
    """X-S5a (3): correlation of g with the margin along the runs."""
    early = int(np.searchsorted(times, 10))
    measured = ("plain", "plain, normal start", "long", "wide")
    positive = np.mean(arms["plain"].correlations[:, early] > 0)
    left = float(np.mean(np.abs(arms["long"].correlations[:, -1])))
    return Check(
        "X-S5a correlation",
        "the weights' correlation with the margin: negative early (text), vanishing late",
        "CONJ",
        (
            *(row for name in measured for row in _correlation_rows(name, arms[name], early)),
            Measured("negative early from psi = 0, as in the text (1: yes)", float(positive < 0.5)),
            Measured("rises early from psi = 0, as in the caption (1: yes)", float(positive > 0.5)),
            Measured(
                "falls below a tenth of its largest size (1: yes)",
                float(_kept(arms["long"], early) < 0.1),
            ),
        ),
        assumptions="linear, separable, centred inputs, exponential loss; joint minimisation",
        control=(
            Measured(
                "psi ascending: minus the mean correlation at step 10",
                -float(arms["ascent"].correlations[:, early].mean()),
                0.0,
            ),
        ),
        erratum=(
            "Learned weights are said to correlate negatively with the margin at first, and not at "
            "all once they converge to a constant. Joint minimisation lowers weights where the "
            f"loss is high, a positive correlation at step 10 in {100 * positive:.0f} % of the "
            "runs from psi = 0; and being free of scale it survives their concentration "
            f"(size {left:.2f} on average near the limit)."
        ),
        plot=Plot(
            "steps",
            "mean correlation of g with the margin",
            {
                name: curve(times[early:], arm.correlations[:, early:].mean(axis=0))
                for name, arm in arms.items()
            },
            "x",
        ),
    )


def _correlation_rows(name: str, arm: JointArm, early: int) -> list[Measured]:
    """At step 10, record `early`, and at the last step."""
    values = arm.correlations
    first, end = mean_interval(values[:, early]), mean_interval(values[:, -1])
    return [
        Measured(f"{name}: share positive at step 10", float(np.mean(values[:, early] > 0))),
        *(
            Measured(f"{name}: at step 10, {part}", value)
            for part, value in zip(PARTS, first, strict=True)
        ),
        *(
            Measured(f"{name}: at the last step, {part}", value)
            for part, value in zip(PARTS, end, strict=True)
        ),
        Measured(f"{name}: final size over largest, mean", _kept(arm, early)),
    ]


def _kept(arm: JointArm, early: int) -> float:
    """The final size of the correlation over its largest since step 10, mean over the sets."""
    size = np.abs(arm.correlations[:, early:])
    return float(np.mean(size[:, -1] / size.max(axis=1)))


def first_step(num_cases: int = 500, *, seed: int = 0) -> Check:
    """X-S5a (3): the sign that one step from psi = 0 gives, for any losses."""
    rng = np.random.default_rng(seed)
    shape = num_cases, COUNT, SIZE
    inputs = rng.normal(size=shape) * 10 ** rng.uniform(-1, 1, (num_cases, 1, 1))
    shifted = inputs + 3 * rng.normal(size=(num_cases, 1, SIZE))
    inputs = inputs - inputs.mean(axis=1, keepdims=True)
    labels = rng.choice([-1.0, 1.0], (num_cases, COUNT))
    products = np.einsum("knd,kd->kn", inputs, rng.normal(size=(num_cases, SIZE)))
    losses = np.exp(-labels * products / np.abs(inputs).max(axis=(1, 2))[:, None])
    scale = 0.1 / 4 * np.sum(np.mean(losses[:, :, None] * inputs, axis=1) ** 2, axis=1)
    gained = _first_covariances(inputs, losses, 0.1) / scale
    ascending = _first_covariances(inputs, losses, -0.1) / scale
    not_centred = _first_covariances(shifted, losses, 0.1)
    return Check(
        "X-S5a first step",
        "from psi = 0 and on centred inputs the first step lowers the weights of large losses",
        "EXACT-CORR",
        (
            Measured(
                "cov(psi . x, loss) over -lr |mean loss x|^2 / 4, plus 1",
                float(np.abs(gained + 1).max()),
                1e-9,
            ),
            Measured(
                "the covariance over lr |mean loss x|^2 / 4, largest", float(gained.max()), 0.0
            ),
        ),
        assumptions="centred inputs, psi = 0, b = 0, joint minimisation; any losses",
        control=(
            Measured("joint maximisation: the largest", float(ascending.max()), 0.0),
            Measured("inputs not centred: the largest covariance", float(not_centred.max()), 0.0),
            Measured("share of them that are positive", float(np.mean(not_centred > 0))),
        ),
        erratum=(
            "Weights trained jointly are expected to be large on small margins, which is what "
            "maximisation would give. A step of minimisation from psi = 0 lowers the covariance of "
            "their logit with the loss by lr |mean loss x|^2 / 4 on centred inputs; on others it "
            "can have either sign."
        ),
    )


def _first_covariances(inputs: np.ndarray, losses: np.ndarray, learning_rate: float) -> np.ndarray:
    """Of psi . x with the losses [K, N], after the library's one step from zero on [K, N, D]."""

    def kernel(inputs: Array, losses: Array) -> Array:
        scheme = joint_weighting(SIZE, optimizer=optax.sgd(learning_rate))
        state = scheme.init(jax.random.key(0), None)
        weights = jnp.ones(len(losses))
        return scheme.update(weights, state, Signals(losses), examples=(inputs, None))[1].model[0]

    with jax.enable_x64(True):
        kernels = np.asarray(jax.jit(jax.vmap(kernel))(jnp.asarray(inputs), jnp.asarray(losses)))
    logits = np.einsum("knd,kd->kn", inputs, kernels)
    centred = losses - losses.mean(axis=1, keepdims=True)
    return np.mean((logits - logits.mean(axis=1, keepdims=True)) * centred, axis=1)
