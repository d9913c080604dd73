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
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.records import Check, Measured, Plot
from weighting import linearize_losses, lookahead_weights
from weighting.losses import logistic

Losses = Callable[[Array, Array, Array], Array]  # theta [D], inputs [B, D], targets [B] -> [B]


class Family(NamedTuple):
    """Losses of linear models on inputs of norm at most one, with their constants."""

    losses: Losses
    smoothness: float  # L of every loss, so of G
    gradient_bound: float  # sigma

    @property
    def longest_step(self) -> float:
        """The corrected bound, 2 / (L sigma^2)."""
        return 2 / (self.smoothness * self.gradient_bound**2)


def _huber(theta: Array, inputs: Array, targets: Array) -> Array:
    distance = jnp.abs(inputs @ theta - targets)
    return jnp.where(distance <= 1, distance**2 / 2, distance - 0.5)


LOGISTIC = Family(lambda theta, x, y: logistic(x @ theta, (y > 0).astype(jnp.int32)), 0.25, 1.0)
HUBER = Family(_huber, 1.0, 1.0)


class Step(NamedTuple):
    """One step: where it ends, what it does to G, and T."""

    theta: Array
    before: Array
    after: Array
    aligned: Array  # T, the sum of squares of a_i


class Data(NamedTuple):
    """A noisy training set; its first `num_clean` examples are the clean set."""

    inputs: np.ndarray  # [N, D], of norm at most one
    targets: np.ndarray  # [N]
    num_clean: int


def checks(preset: str) -> list[Check]:
    """All claims; few problems and steps for "smoke"."""
    if preset == "smoke":
        return [
            descent(num_problems=200, num_seeds=2, num_steps=500),
            equality(num_problems=10),
            normalized(num_seeds=3, num_steps=300),
        ]
    return [descent(), equality(), normalized()]


def step(
    family: Family,
    theta: Array,
    batch: tuple[Array, Array],
    clean: tuple[Array, Array],
    step_size: float | Array,
    *,
    normalize: bool = False,
) -> Step:
    """A step by the library's weights: Eq. 30, or Algorithm 1 with `normalize` (mean one)."""

    def losses_fn(theta: Array) -> Array:
        return family.losses(theta, *batch)

    def clean_loss_fn(theta: Array) -> Array:
        return jnp.mean(family.losses(theta, *clean))

    own = lookahead_weights(losses_fn, theta, clean_loss_fn, normalize=normalize)
    size = len(batch[1])
    # Eq. 30 sums the weights a_i / n, Algorithm 1 averages weights of mean one
    direction = linearize_losses(losses_fn, theta).vjp(own / size if normalize else own)
    after = theta - step_size * direction
    aligned = jnp.sum((size * own) ** 2)  # means nothing if normalized
    return Step(after, clean_loss_fn(theta), clean_loss_fn(after), aligned)


def make_data(
    rng: np.random.Generator, size: int, num_features: int, num_clean: int, flipped: float = 0.4
) -> Data:
    """Labels of a random direction (not separable even where clean), some of them flipped."""
    inputs = rng.normal(size=(size, num_features))
    inputs /= np.maximum(np.linalg.norm(inputs, axis=1, keepdims=True), 1)
    score = inputs @ rng.normal(size=num_features) + 0.5 * rng.normal(size=size)
    targets = np.sign(score)
    wrong = (rng.uniform(size=size) < flipped) & (np.arange(size) >= num_clean)
    return Data(inputs, np.where(wrong, -targets, targets), num_clean)


@functools.partial(jax.jit, static_argnames=("family", "normalize", "num_steps", "batch_size"))
def train(
    family: Family,
    data: tuple[Array, Array],
    clean: tuple[Array, Array],
    key: Array,
    step_size: float | Array,
    *,
    num_steps: int,
    batch_size: int,
    normalize: bool = False,
) -> Step:
    """Steps from zero on batches drawn without replacement; every step's outcome, [T, ...]."""
    inputs, targets = data

    def body(theta: Array, key: Array) -> tuple[Array, Step]:
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


def random_steps(
    family: Family, rng: np.random.Generator, count: int, fraction: float
) -> dict[str, float]:
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
) -> dict[str, float]:
    kappa = alpha / size * (1 - alpha / family.longest_step)
    return {"rise of G": float(np.max(change)), "excess": float(np.max(change + kappa * aligned))}


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
    families = {"logistic": LOGISTIC, "Huber": HUBER}
    # G is of order ten at most here, and its rounding of order 1e-15
    bound = 1e-13
    rows = []
    with jax.enable_x64(True):
        for name, family in families.items():
            worst = {"rise of G": -np.inf, "excess": -np.inf}
            for fraction in (0.01, 0.25, 0.5, 0.9, 1.0):
                found = random_steps(family, rng, num_problems, step_factor * fraction)
                worst = {key: max(worst[key], found[key]) for key in worst}
            rows += [
                Measured(
                    f"{name}, {5 * num_problems} random steps: rise of G",
                    worst["rise of G"],
                    bound,
                ),
                Measured(f"{name}: G beyond its bound (Cauchy-Schwarz)", worst["excess"], bound),
            ]

        batch_size, rises, excess = 5, 0, -np.inf
        for run in range(num_seeds):
            data = make_data(rng, 60, 4, 8)
            clean = (data.inputs[:8], data.targets[:8])
            for fraction in (0.5, 1.0):
                alpha = step_factor * fraction * LOGISTIC.longest_step
                done = train(
                    LOGISTIC,
                    data[:2],
                    clean,
                    jax.random.key(run),
                    alpha,
                    num_steps=num_steps,
                    batch_size=batch_size,
                )
                change = np.asarray(done.after) - np.asarray(done.before)
                rises += int(np.sum(change > bound))
                worst = _worst(LOGISTIC, change, np.asarray(done.aligned), batch_size, alpha)
                excess = max(excess, worst["excess"])
        total = 2 * num_seeds * num_steps
        rows += [
            Measured(f"logistic regression: steps of {total} that raise G", rises, 0),
            Measured("logistic regression: G beyond its bound", excess, bound),
        ]

        size = 5
        printed = 2 * size / (HUBER.smoothness * HUBER.gradient_bound**2)
        before, after = identical_examples(printed, size=size)
        rows.append(
            Measured(
                "counterexample at 2n / (L sigma^2): |G - 17 G_0|", abs(after - 17 * before), 1e-12
            )
        )
        just_above = identical_examples(2.02, size=size)
        control = [
            Measured(
                "step 2n / (L sigma^2), five copies of a Huber loss: rise of G",
                after - before,
                bound,
            ),
            Measured(
                "step 2.02 / (L sigma^2), the same: rise of G", just_above[1] - just_above[0], bound
            ),
            Measured(
                "step n / (L sigma^2), random Huber steps: rise of G",
                random_steps(HUBER, rng, num_problems, 8 / 2)["rise of G"],
                bound,
            ),
        ]
        grid = np.linspace(0, size, 41)
        ratios = [identical_examples(2 * x, size=size)[1] / before for x in grid]
    return Check(
        "R-L1",
        "the unnormalized step (Eq. 30) never raises G: by at least "
        "(alpha / n)(1 - L alpha sigma^2 / 2) T, for alpha <= 2 / (L sigma^2)",
        "FALSE-AS-PRINTED",
        tuple(rows),
        assumptions="G is L-smooth, the losses' gradients are at most sigma; any batch of any size",
        control=tuple(control),
        erratum="With steps up to 2n / (L sigma^2) the clean loss can rise: five copies of one "
        f"Huber loss (L = sigma = 1, from theta = 1, alpha = 10) take G from {before:.3g} to "
        f"{after:.3g}, because Eq. 35 lacks a factor n. It holds up to 2 / (L sigma^2), whatever "
        "the batch size, and no further.",
        plot=Plot(
            "step, in units of 2 / (L sigma^2)",
            "G after / G before",
            {
                "five copies of a Huber loss": (grid.tolist(), ratios),
                "no change": ([0, size], [1, 1]),
            },
        ),
    )


def equality(*, num_problems: int = 100, seed: int = 0) -> Check:
    r"""R-L1: in expectation G falls unless its gradient is zero; all batches enumerated.

    With M clean examples in the training set, each in a batch with probability p or more,
    E[T] >= p M |grad G|^4: the mean over clean examples of grad G . grad f_i is |grad G|^2.
    """
    rng = np.random.default_rng(seed)
    size, num_clean, batch_size = 8, 3, 2
    probability = batch_size / size
    batches = np.array(list(itertools.combinations(range(size), batch_size)))
    alpha = 0.5 * LOGISTIC.longest_step
    kappa = alpha / batch_size * 0.5

    @jax.jit
    def expected(
        theta: Array, data: tuple[Array, Array], clean: tuple[Array, Array]
    ) -> tuple[Array, Array, Array, Array]:
        """E[T], E[change of G], the lower bound of E[T], and the largest move."""
        inputs, targets = data
        done = jax.vmap(
            lambda chosen: step(LOGISTIC, theta, (inputs[chosen], targets[chosen]), clean, alpha)
        )(jnp.asarray(batches))
        gradient = jax.grad(lambda t: jnp.mean(LOGISTIC.losses(t, *clean)))(theta)
        least = probability * num_clean * jnp.sum(gradient**2) ** 2
        change = jnp.mean(done.after - done.before)
        return jnp.mean(done.aligned), change, least, jnp.max(jnp.abs(done.theta - theta[None]))

    with jax.enable_x64(True):
        shortfall, excess, least_ratio = -np.inf, -np.inf, np.inf
        for _ in range(num_problems):
            data = make_data(rng, size, 3, num_clean)
            theta = rng.normal(size=3) * 10 ** rng.uniform(-1, 1)
            clean = (data.inputs[:num_clean], data.targets[:num_clean])
            aligned, change, least, _ = map(float, expected(theta, data[:2], clean))
            shortfall = max(shortfall, (least - aligned) / least)
            excess = max(excess, change / (kappa * least) + 1)
            least_ratio = min(least_ratio, aligned / least)

        # at a critical point of G: the clean set holds both labels of one input, and theta = 0
        balanced = (np.array([[0.6, 0.0, 0.8]] * 2), np.array([1.0, -1.0]))
        data = make_data(rng, size, 3, num_clean)
        *_, moved = map(float, expected(np.zeros(3), data[:2], balanced))

        # clean examples outside the training set, whose labels are all the opposite
        inputs = np.repeat(np.array([[0.6, 0.0, 0.8]]), size, axis=0)
        outside = (inputs[:num_clean], np.ones(num_clean))
        aligned, change, least, _ = map(
            float, expected(np.zeros(3), (inputs, -np.ones(size)), outside)
        )
        before, after = identical_examples(HUBER.longest_step)
    rows = (
        Measured("p M |grad G|^4 above E[T], relative", shortfall, 1e-12),
        Measured("E[G] falls by less than kappa p M |grad G|^4, relative", excess, 1e-9),
        Measured("smallest E[T] / (p M |grad G|^4)", least_ratio),
        Measured("zero clean gradient: largest move", moved, 0),
        Measured(
            "step of exactly 2 / (L sigma^2), clean gradient 1: |change of G|",
            abs(after - before),
            1e-15,
        ),
    )
    control = (
        Measured(
            "clean set not in the training set: the same, E[T]", (least - aligned) / least, 1e-12
        ),
        Measured(
            "clean set not in the training set: the same, E[G]",
            change / (kappa * least) + 1,
            1e-9,
        ),
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


def normalized(*, num_seeds: int = 10, num_steps: int = 2000, seed: int = 0) -> Check:
    """R-L1: Algorithm 1 itself, whose weights are normalized, does raise G."""
    rng = np.random.default_rng(seed)
    shares: dict[str, list[float]] = {}
    with jax.enable_x64(True):
        for run in range(num_seeds):
            data = make_data(rng, 60, 4, 8)
            clean = (data.inputs[:8], data.targets[:8])
            for normalize in (True, False):
                for alpha in (1.0, LOGISTIC.longest_step):
                    done = train(
                        LOGISTIC,
                        data[:2],
                        clean,
                        jax.random.key(run),
                        alpha,
                        num_steps=num_steps,
                        batch_size=5,
                        normalize=normalize,
                    )
                    share = float(np.mean(np.asarray(done.after - done.before) > 1e-13))
                    name = f"{'Algorithm 1' if normalize else 'Eq. 30'}, step {alpha:g}"
                    shares.setdefault(name, []).append(share)

    def rows_of(start: str) -> tuple[Measured, ...]:
        rows = []
        for name, values in shares.items():
            if name.startswith(start):
                error = np.std(values, ddof=1) / np.sqrt(len(values))
                rows += [
                    Measured(f"{name}: share of steps that raise G", float(np.mean(values))),
                    Measured(f"{name}: standard error", float(error)),
                    Measured(f"{name}: minus the smallest share of a seed", -min(values), -0.01),
                ]
        return tuple(rows)

    return Check(
        "R-L1 normalized",
        "with weights of mean one (Algorithm 1) the same step does raise G, in every run",
        "TREND",
        rows_of("Algorithm 1"),
        assumptions="logistic regression, 60 examples with 40 % flipped, 8 of them clean, n = 5",
        control=rows_of("Eq. 30"),
        erratum="Lemma 1 and Theorem 2 name Algorithm 1 but prove the unnormalized Eq. 30. "
        "Normalized weights do not shrink with the clean gradient, and "
        f"{100 * float(np.mean(shares[f'Algorithm 1, step {LOGISTIC.longest_step:g}'])):.0f} % of "
        "the steps of 2 / (L sigma^2) raise G.",
    )
