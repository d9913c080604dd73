r"""Lookahead's descent (ren2018, Lemma 1): for which steps the clean loss G cannot rise.

Without normalization (Eq. 30) the step is

.. math:: \theta_{t+1} = \theta_t - \frac{\alpha}{n} \sum_{i \in B} a_i \nabla f_i, \qquad
          a_i = \max(\nabla G^\top \nabla f_i, 0),

which is -alpha times the pullback of `lookahead_weights(..., normalize=False)`. For L-smooth G and
:math:`\|\nabla f_i\| \le \sigma`, Cauchy-Schwarz gives :math:`\|\sum_i a_i \nabla f_i\|^2 \le n
\sigma^2 T` with :math:`T = \sum_i a_i^2`, hence

.. math:: G(\theta_{t+1}) \le G(\theta_t) - \frac{\alpha}{n} (1 - L \alpha \sigma^2 / 2)\, T.

The paper has no factor n (Eq. 35), and so allows steps n times as long.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.records import Check, Measured, Plot
from theory_checks.ren2018.lookahead_step import (
    HUBER,
    LOGISTIC,
    Family,
    LookaheadStep,
    NoisySet,
    make_data,
    step,
)

ROUNDING = 1e-13  # of changes of G, which is of order ten at most: its own is of order 1e-15


class WorstStep(NamedTuple):
    """Over some steps: the largest change of G, and the largest excess over its bound."""

    rise: float
    excess: float


def checks(preset: str) -> list[Check]:
    """All claims; few problems and steps for "smoke"."""
    if preset == "smoke":
        return [
            descent(num_problems=200, num_seeds=2, num_steps=500),
            equality(num_problems=10),
            normalized(num_seeds=3, num_steps=300),
        ]
    return [descent(), equality(), normalized()]


@functools.partial(jax.jit, static_argnames=("family", "normalize", "num_steps", "batch_size"))
def _train(
    family: Family,
    data: tuple[Array, Array],
    clean: tuple[Array, Array],
    key: Array,
    step_size: float | Array,
    *,
    num_steps: int,
    batch_size: int,
    normalize: bool = False,
) -> LookaheadStep:
    """Steps from zero on batches drawn without replacement; every step's outcome, [T, ...]."""
    inputs, targets = data

    def body(theta: Array, key: Array) -> tuple[Array, LookaheadStep]:
        chosen = jax.random.permutation(key, len(targets))[:batch_size]
        done = step(
            family, theta, (inputs[chosen], targets[chosen]), clean, step_size, normalize=normalize
        )
        return done.theta, done

    return jax.lax.scan(body, jnp.zeros(inputs.shape[1]), jax.random.split(key, num_steps))[1]


_step = jax.jit(step, static_argnums=0, static_argnames="normalize")


@functools.partial(jax.jit, static_argnums=0)
def _random_steps(
    family: Family, theta: Array, inputs: Array, targets: Array, step_size: float | Array
) -> tuple[Array, Array]:
    def one(theta: Array, inputs: Array, targets: Array) -> tuple[Array, Array]:
        done = step(family, theta, (inputs, targets), (inputs[:3], targets[:3]), step_size)
        return done.after - done.before, done.aligned

    return jax.vmap(one)(theta, inputs, targets)


def identical_examples(step_size: float, *, size: int = 5) -> tuple[float, float]:
    """G before and after a step on copies of one Huber loss, also the clean one, from theta = 1."""
    inputs, targets = jnp.ones((size, 1)), jnp.zeros(size)
    done = _step(HUBER, jnp.ones(1), (inputs, targets), (inputs[:1], targets[:1]), step_size)
    return float(done.before), float(done.after)


def _worst_random_steps(
    family: Family, rng: np.random.Generator, count: int, fraction: float
) -> WorstStep:
    """The worst of single steps of `fraction` of the longest, at random points and batches.

    A third of the batches are copies of one example, where Cauchy-Schwarz is an equality.
    """
    size, num_features = 8, 3
    inputs = rng.normal(size=(count, size, num_features))
    inputs /= np.maximum(np.linalg.norm(inputs, axis=2, keepdims=True), 1)
    targets = np.sign(rng.normal(size=(count, size)))
    copies = (np.arange(count) % 3 == 0)[:, None]
    targets = np.where(copies, targets[:, :1], targets)
    inputs = np.where(copies[:, :, None], inputs[:, :1], inputs)
    theta = rng.normal(size=(count, num_features)) * 10 ** rng.uniform(-2, 1, (count, 1))
    alpha = fraction * family.longest_step

    change, aligned = map(np.asarray, _random_steps(family, theta, inputs, targets, alpha))
    return _worst(family, change, aligned, size, alpha)


def _worst(
    family: Family, change: np.ndarray, aligned: np.ndarray, size: int, alpha: float
) -> WorstStep:
    kappa = alpha / size * (1 - alpha / family.longest_step)
    return WorstStep(float(np.max(change)), float(np.max(change + kappa * aligned)))


def descent(
    *,
    num_problems: int = 2000,
    num_seeds: int = 5,
    num_steps: int = 10_000,
    step_factor: float = 1.0,
    seed: int = 0,
) -> Check:
    """R-L1: monotone descent, with its amount, up to a step of 2 / (L sigma^2).

    Args:
      num_problems: random single steps for each family and step size.
      num_seeds: runs of logistic regression.
      num_steps: in each run.
      step_factor: multiplies every step (1 in the claim; more to see the check fail).
      seed: of all problems.
    """
    rng = np.random.default_rng(seed)
    size, printed = 5, 2 * 5 / (HUBER.smoothness * HUBER.gradient_bound**2)
    grid = np.linspace(0, size, 41)
    with jax.enable_x64(True):
        rows = [
            row
            for name, family in {"logistic": LOGISTIC, "Huber": HUBER}.items()
            for row in _random_step_rows(name, family, rng, num_problems, step_factor)
        ]
        rows += _training_rows(rng, num_seeds, num_steps, step_factor)
        before, after = identical_examples(printed, size=size)
        just_above = identical_examples(2.02, size=size)
        too_long = _worst_random_steps(HUBER, rng, num_problems, 8 / 2)
        ratios = [identical_examples(2 * x, size=size)[1] / before for x in grid]
    rows.append(
        Measured(
            "counterexample at 2n / (L sigma^2): |G - 17 G_0|", abs(after - 17 * before), 1e-12
        )
    )
    rises = {
        "step 2n / (L sigma^2), five copies of a Huber loss: rise of G": after - before,
        "step 2.02 / (L sigma^2), the same: rise of G": just_above[1] - just_above[0],
        "step n / (L sigma^2), random Huber steps: rise of G": too_long.rise,
    }
    curves = {
        "five copies of a Huber loss": (grid.tolist(), ratios),
        "no change": ([0, size], [1, 1]),
    }
    return Check(
        "R-L1",
        "the unnormalized step (Eq. 30) never raises G: by at least "
        "(alpha / n)(1 - L alpha sigma^2 / 2) T, for alpha <= 2 / (L sigma^2)",
        "FALSE-AS-PRINTED",
        tuple(rows),
        assumptions="G is L-smooth, the losses' gradients are at most sigma; any batch of any size",
        control=tuple(Measured(name, rise, ROUNDING) for name, rise in rises.items()),
        erratum="With steps up to 2n / (L sigma^2) the clean loss can rise: five copies of one "
        f"Huber loss (L = sigma = 1, from theta = 1, alpha = 10) take G from {before:.3g} to "
        f"{after:.3g}, because Eq. 35 lacks a factor n. It holds up to 2 / (L sigma^2), whatever "
        "the batch size, and no further.",
        plot=Plot("step, in units of 2 / (L sigma^2)", "G after / G before", curves),
    )


def _random_step_rows(
    name: str, family: Family, rng: np.random.Generator, num_problems: int, step_factor: float
) -> tuple[Measured, ...]:
    """Single steps, of five fractions of the longest one."""
    worst = [
        _worst_random_steps(family, rng, num_problems, step_factor * fraction)
        for fraction in (0.01, 0.25, 0.5, 0.9, 1.0)
    ]
    rise, excess = np.max(worst, axis=0).tolist()
    return (
        Measured(f"{name}, {5 * num_problems} random steps: rise of G", rise, ROUNDING),
        Measured(f"{name}: G beyond its bound (Cauchy-Schwarz)", excess, ROUNDING),
    )


def _training_rows(
    rng: np.random.Generator, num_seeds: int, num_steps: int, step_factor: float
) -> tuple[Measured, ...]:
    """Whole runs of logistic regression, at half of the longest step and at all of it."""
    batch_size, rises, excesses = 5, [], []
    for run in range(num_seeds):
        data = make_data(rng, 60, 4, 8)
        clean = (data.inputs[:8], data.targets[:8])
        for fraction in (0.5, 1.0):
            alpha = step_factor * fraction * LOGISTIC.longest_step
            done = _train(
                LOGISTIC,
                data[:2],
                clean,
                jax.random.key(run),
                alpha,
                num_steps=num_steps,
                batch_size=batch_size,
            )
            change = np.asarray(done.after) - np.asarray(done.before)
            worst = _worst(LOGISTIC, change, np.asarray(done.aligned), batch_size, alpha)
            rises.append(np.sum(change > ROUNDING))
            excesses.append(worst.excess)
    total = 2 * num_seeds * num_steps
    return (
        Measured(f"logistic regression: steps of {total} that raise G", int(np.sum(rises)), 0),
        Measured("logistic regression: G beyond its bound", max(excesses), ROUNDING),
    )


# The claim in expectation: batches of two of eight training examples, of which three are clean.
SIZE, NUM_CLEAN, BATCH_SIZE = 8, 3, 2
PROBABILITY = BATCH_SIZE / SIZE  # p, of an example in a batch
BATCHES = np.array(list(itertools.combinations(range(SIZE), BATCH_SIZE)))
ALPHA = 0.5 * LOGISTIC.longest_step
KAPPA = ALPHA / BATCH_SIZE * 0.5


class Expectation(NamedTuple):
    """Means over all batches at one theta."""

    aligned: Any  # E[T]
    change: Any  # E[change of G]
    least: Any  # p M |grad G|^4, the lower bound of E[T]
    move: Any  # the largest over batches, of a parameter


@jax.jit
def _expectation(
    theta: Array, data: tuple[Array, Array], clean: tuple[Array, Array]
) -> Expectation:
    inputs, targets = data
    done = jax.vmap(
        lambda chosen: step(LOGISTIC, theta, (inputs[chosen], targets[chosen]), clean, ALPHA)
    )(jnp.asarray(BATCHES))
    gradient = jax.grad(lambda t: jnp.mean(LOGISTIC.losses(t, *clean)))(theta)
    least = PROBABILITY * NUM_CLEAN * jnp.sum(gradient**2) ** 2
    change = jnp.mean(done.after - done.before)
    move = jnp.max(jnp.abs(done.theta - theta[None]))
    return Expectation(jnp.mean(done.aligned), change, least, move)


def equality(*, num_problems: int = 100, seed: int = 0) -> Check:
    r"""R-L1: in expectation G falls unless its gradient is zero; all batches enumerated.

    With M clean examples in the training set, each in a batch with probability p or more,
    E[T] >= p M |grad G|^4: the mean over clean examples of grad G . grad f_i is |grad G|^2.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        found = _random_expectations(rng, num_problems)
        # at a critical point of G: the clean set holds both labels of one input, and theta = 0
        balanced = (np.array([[0.6, 0.0, 0.8]] * 2), np.array([1.0, -1.0]))
        data = make_data(rng, SIZE, 3, NUM_CLEAN)
        critical = _expectation(np.zeros(3), data[:2], balanced)
        # clean examples outside the training set, whose labels are all the opposite
        inputs = np.repeat(np.array([[0.6, 0.0, 0.8]]), SIZE, axis=0)
        clean = (inputs[:NUM_CLEAN], np.ones(NUM_CLEAN))
        outside = Expectation(
            *map(float, _expectation(np.zeros(3), (inputs, -np.ones(SIZE)), clean))
        )
        before, after = identical_examples(HUBER.longest_step)
    shortfall, excess = _shortfall_and_excess(found)
    rows = (
        Measured("p M |grad G|^4 above E[T], relative", float(np.max(shortfall)), 1e-12),
        Measured(
            "E[G] falls by less than kappa p M |grad G|^4, relative", float(np.max(excess)), 1e-9
        ),
        Measured("smallest E[T] / (p M |grad G|^4)", float(np.min(found.aligned / found.least))),
        Measured("zero clean gradient: largest move", float(critical.move), 0),
        Measured(
            "step of exactly 2 / (L sigma^2), clean gradient 1: |change of G|",
            abs(after - before),
            1e-15,
        ),
    )
    shortfall, excess = _shortfall_and_excess(outside)
    control = (
        Measured("clean set not in the training set: the same, E[T]", shortfall, 1e-12),
        Measured("clean set not in the training set: the same, E[G]", excess, 1e-9),
    )
    return Check(
        "R-L1 equality",
        "in expectation G falls, unless its gradient is zero: E[T] >= p M |grad G|^4",
        "EXACT-CORR",
        rows,
        assumptions="clean examples are training examples, each drawn with probability p > 0; "
        "alpha < 2 / (L sigma^2)",
        control=control,
        erratum="The equivalence needs a strict alpha < 2 / (L sigma^2) (at equality, identical "
        "Huber losses keep G with a gradient of norm one), and the clean set in the training set: "
        "where every training label opposes the clean ones all weights are zero and G keeps "
        f"{np.log(2):.3g} forever. With both, E[G] falls by at least "
        "(alpha / n)(1 - L alpha sigma^2 / 2) p M |grad G|^4.",
    )


def _random_expectations(rng: np.random.Generator, count: int) -> Expectation:
    """At random parameters and data, the clean set in the training set; [P] each."""
    found = []
    for _ in range(count):
        data = make_data(rng, SIZE, 3, NUM_CLEAN)
        theta = rng.normal(size=3) * 10 ** rng.uniform(-1, 1)
        clean = (data.inputs[:NUM_CLEAN], data.targets[:NUM_CLEAN])
        found.append(np.array(_expectation(theta, data[:2], clean)))
    return Expectation(*np.transpose(found))


def _shortfall_and_excess(found: Expectation) -> tuple[Any, Any]:
    """How far E[T] is below its bound, and E[change of G] above minus kappa times it; relative."""
    shortfall = (found.least - found.aligned) / found.least
    return shortfall, found.change / (KAPPA * found.least) + 1


def normalized(*, num_seeds: int = 10, num_steps: int = 2000, seed: int = 0) -> Check:
    """R-L1: Algorithm 1 itself, whose weights are normalized, does raise G."""
    rng = np.random.default_rng(seed)
    data = [make_data(rng, 60, 4, 8) for _ in range(num_seeds)]
    alphas = (1.0, LOGISTIC.longest_step)
    with jax.enable_x64(True):
        algorithm = [_rising_shares(data, alpha, num_steps, normalize=True) for alpha in alphas]
        unnormalized = [_rising_shares(data, alpha, num_steps, normalize=False) for alpha in alphas]
    return Check(
        "R-L1 normalized",
        "with weights of mean one (Algorithm 1) the same step does raise G, in every run",
        "TREND",
        _rising_rows("Algorithm 1", alphas, algorithm),
        assumptions="logistic regression, 60 examples with 40 % flipped, 8 of them clean, n = 5",
        control=_rising_rows("Eq. 30", alphas, unnormalized),
        erratum="Lemma 1 and Theorem 2 name Algorithm 1 but prove the unnormalized Eq. 30. "
        "Normalized weights do not shrink with the clean gradient, and "
        f"{100 * float(np.mean(algorithm[-1])):.0f} % of "
        "the steps of 2 / (L sigma^2) raise G.",
    )


def _rising_shares(
    sets: list[NoisySet], alpha: float, num_steps: int, *, normalize: bool
) -> list[float]:
    """The share of steps that raise G, for one run on each training set."""
    shares = []
    for run, data in enumerate(sets):
        done = _train(
            LOGISTIC,
            data[:2],
            (data.inputs[:8], data.targets[:8]),
            jax.random.key(run),
            alpha,
            num_steps=num_steps,
            batch_size=5,
            normalize=normalize,
        )
        shares.append(float(np.mean(np.asarray(done.after - done.before) > ROUNDING)))
    return shares


def _rising_rows(
    name: str, alphas: tuple[float, ...], shares: list[list[float]]
) -> tuple[Measured, ...]:
    rows = []
    for alpha, values in zip(alphas, shares, strict=True):
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        label = f"{name}, step {alpha:g}"
        rows += [
            Measured(f"{label}: share of steps that raise G", float(np.mean(values))),
            Measured(f"{label}: standard error", float(error)),
            Measured(f"{label}: minus the smallest share of a seed", -min(values), -0.01),
        ]
    return tuple(rows)
