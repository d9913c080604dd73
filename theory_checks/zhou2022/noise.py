r"""Feature noise and label noise against the error of an example (zhou2022, Props. 1-2, Eq. 5).

With margins :math:`u = y f(x \mid T)` the error :math:`E_T \ell(u)` moves along a small step by

.. math:: E_T[\ell'(u)\, y\, f'(x \mid T) \cdot \Delta x] + O(\|\Delta x\|^2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array

from theory_checks.common.ensembles import (
    STANDARD_ERRORS,
    Network,
    ensemble_outputs,
    outputs,
    power_law,
    train_networks,
    z_score,
)
from theory_checks.records import Check, Plot, Row
from weighting import losses

LOSSES = {"logistic": losses.logistic, "exponential": losses.exponential}
CLASSES = (2, 3, 10)
STEP = 1e-6  # its square is far below the band, round-off farther
BAND = 1e-9  # predicted changes that are too small to have a sign


class Probes(NamedTuple):
    """What an ensemble says of P points and directions, and how its error changes along them."""

    margins: np.ndarray  # [P, R]
    slopes: np.ndarray  # [P, R], f'(x) . direction, unit length
    signs: np.ndarray  # [P], y


Rule = Callable[[Probes, str], np.ndarray]  # what each error should change by, per unit; [P]


def checks(preset: str) -> list[Check]:
    """Both claims; a smaller ensemble for "smoke"."""
    if preset == "smoke":
        return [feature_noise(num_networks=20, num_pairs=60), label_noise(num_draws=2000)]
    return [feature_noise(), label_noise()]


def corrected_rule(probes: Probes, loss: str) -> np.ndarray:
    """E[l'(u) y f' . direction], with the slope of the loss typed out."""
    u = probes.margins
    slope = -np.exp(-u) if loss == "exponential" else -scipy.special.expit(-u)
    return np.mean(slope * probes.signs[:, None] * probes.slopes, axis=1)


def printed_rule(probes: Probes, loss: str) -> np.ndarray:
    """-E[f' . direction]: Proposition 1 to the letter, f being the score."""
    return -np.mean(probes.slopes, axis=1)


def true_class_rule(probes: Probes, loss: str) -> np.ndarray:
    """-E[y f' . direction]: Proposition 1, f being the score of the true class."""
    return -np.mean(probes.signs[:, None] * probes.slopes, axis=1)


def feature_noise(
    *,
    rule: Rule = corrected_rule,
    num_networks: int = 100,
    num_pairs: int = 200,
    num_seeds: int = 2,
) -> Check:
    """Z-P1: the sign of the directional derivative of the error, and what is printed for it.

    Args:
      rule: the first-order change under test.
      num_networks: random training sets, R.
      num_pairs: points and directions.
      num_seeds: ensembles.
    """
    wrong = dict.fromkeys(("corrected", "linear", "steepest"), 0)
    printed = {"+1": 0, "-1": 0, "true class": 0}
    total, outside = 0, 0
    distance, order = 0.0, 0.0
    with jax.enable_x64(True):
        for seed in range(num_seeds):
            rng = np.random.default_rng(seed)
            networks = classifiers(rng, num_networks, seed)
            points = rng.normal(0, 1.5, (num_pairs, 2))
            directions = rng.normal(size=(num_pairs, 2))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            labels = rng.integers(0, 2, num_pairs)
            scores, gradients = map(np.asarray, scores_and_gradients(networks, points))
            signs = 2.0 * labels - 1
            slopes = np.einsum("prd,pd->pr", gradients, directions)
            probes = Probes(signs[:, None] * scores, slopes, signs)
            for name, loss_fn in LOSSES.items():

                def change(
                    step: float,
                    directions=directions,
                    loss_fn=loss_fn,
                    scores=scores,
                    networks=networks,
                    points=points,
                    labels=labels,
                ) -> np.ndarray:
                    moved = ensemble_outputs(networks, points + step * directions)[:, :, 0].T
                    return mean_loss(loss_fn, moved, labels) - mean_loss(loss_fn, scores, labels)

                rises = change(STEP)
                slope = rule(probes, name)
                wrong["corrected"] += wrong_signs(rises, slope)
                total += num_pairs
                outside += int(np.sum(np.abs(STEP * slope) > BAND))
                scale = np.abs(slope) + np.abs(slope).mean()
                distance = max(distance, float(np.max(np.abs(rises / STEP - slope) / scale)))
                by_sign = {"+1": signs > 0, "-1": signs < 0}
                for sign, chosen in by_sign.items():
                    literal = printed_rule(probes, name)[chosen]
                    printed[sign] += wrong_signs(rises[chosen], literal)
                printed["true class"] += wrong_signs(rises, true_class_rule(probes, name))

                # The direction of steepest rise of the error, and its opposite.
                weights = np.exp(-probes.margins)
                if name == "logistic":
                    weights = weights / (1 + weights)
                ascent = -np.einsum("pr,prd->pd", weights * signs[:, None], gradients)
                ascent /= np.linalg.norm(ascent, axis=1, keepdims=True)
                wrong["steepest"] += int(np.sum(change(1e-4, directions=ascent) <= 0))
                wrong["steepest"] += int(np.sum(change(1e-4, directions=-ascent) >= 0))

                steps = np.logspace(-3.5, -2, 7)
                remainders = [np.mean(np.abs(change(h) - h * slope)) for h in steps]
                power, half = power_law(steps, remainders)
                order = max(order, abs(power - 2) + half)
            moved = ensemble_outputs(networks, points + STEP * directions)[:, :, 0].T
            rises = -np.mean(signs[:, None] * (np.asarray(moved) - scores), axis=1)
            wrong["linear"] += wrong_signs(rises, true_class_rule(probes, ""))

        # Two models with margins 5 and -3, whose scores grow by 1 and -0.5 along the noise.
        steps = np.linspace(0, 0.2, 21)
        two = np.array([5.0, -3.0])[None] + steps[:, None] * np.array([1.0, -0.5])[None]
        errors = mean_loss(losses.exponential, two, np.ones(len(steps), int))
        at = np.array([[5.0, -3.0], [5.001, -3.0005]])
        rise = float(np.diff(mean_loss(losses.exponential, at, np.ones(2, int)))[0])
    rows = (
        Row(f"corrected rule: wrong signs outside the band, of {outside}", wrong["corrected"], 0),
        Row("share of pairs within the band", 1 - outside / total, 0.02),
        Row("corrected rule: relative distance from the finite difference", distance, 1e-3),
        Row(
            "remainder of the first order: |power of the step - 2|, with half its 95 % interval",
            order,
            0.1,
        ),
        Row("steps that do not raise (or, reversed, lower) the error", wrong["steepest"], 0),
        Row("printed rule, loss of constant slope (-u): wrong signs", wrong["linear"], 0),
        Row("two models, E f'.dx = 0.00025 > 0: minus the rise of the error", -rise, -4e-3),
    )
    control = (
        Row(f"printed rule, y = +1: wrong signs, about half of {total}", printed["+1"], 0),
        Row(f"printed rule, y = -1: wrong signs, about half of {total}", printed["-1"], 0),
        Row(f"printed rule, true-class score: wrong signs of {total}", printed["true class"], 0),
    )
    return Check(
        "Z-P1",
        "small feature noise raises an example's error where E_T[l'(u) y f'.dx] > 0",
        "EXACT-CORR",
        rows,
        "f differentiable in x; networks of tanh units on random training sets, logistic and "
        "exponential loss",
        control,
        "The sign of E_T[f'.dx] does not decide: with exponential loss, margins (5, -3) and "
        f"f'.dx = (0.001, -0.0005) its mean is positive and the error still rises, by {rise:.3g} "
        "(and with y = -1 the printed sign is reversed). What decides is the sign of "
        "E_T[l'(y f) y f'.dx]; the printed rule is the case where f is the true class's score "
        "and the loss has the same slope on every training set.",
        Plot(
            "noise along the direction",
            "change of the error",
            {
                "two models, E f'.dx > 0": (steps.tolist(), (errors - errors[0]).tolist()),
                "printed rule predicts a fall": (steps.tolist(), (-0.25 * steps).tolist()),
            },
        ),
    )


def label_noise(*, shift: float = 0.0, num_draws: int = 20_000, seed: int = 0) -> Check:
    """Z-P2: what flipping an example's label does to its expected error.

    Args:
      shift: added to the closed form of the zero-one error, to see the check fail.
      num_draws: label flips of a Monte Carlo estimate.
      seed: of the problems.
    """
    rng = np.random.default_rng(seed)
    closed, monte_carlo, not_risen, fallen, any_transition = 0.0, 0.0, 0, 0.0, 0
    grid = np.linspace(0, 1, 41)
    curves = {}
    for num_classes in CLASSES:
        for rate in (0.05, 0.2, 0.5, 0.9):
            rises = []
            for p in grid:
                predicted = random_prediction(rng, p, num_classes)
                label = uniform_flips(rate, num_classes)
                noisy = zero_one_error(label, predicted)
                formula = (1 - p) + rate * (p - (1 - p) / (num_classes - 1)) + shift
                closed = max(closed, abs(noisy - formula))
                rises.append(noisy - zero_one_error(np.eye(num_classes)[0], predicted))
                if p > 0.5:  # flips to any other labels, say to one
                    other = np.append(0.0, rng.dirichlet(0.3 * np.ones(num_classes - 1)))
                    pair = (1 - rate) * np.eye(num_classes)[0] + rate * other
                    clean = zero_one_error(np.eye(num_classes)[0], predicted)
                    any_transition += int(zero_one_error(pair, predicted) <= clean)
            rises = np.array(rises)
            not_risen += int(np.sum(rises[grid > 1 / num_classes + 1e-9] <= 0))
            fallen = max(fallen, float(-np.min(rises)))
            if rate == 0.2:
                curves[f"{num_classes} classes"] = (grid.tolist(), rises.tolist())
            p = rng.uniform()
            predicted = random_prediction(rng, p, num_classes)
            labels = rng.choice(num_classes, num_draws, p=uniform_flips(rate, num_classes))
            predictions = rng.choice(num_classes, num_draws, p=predicted)
            expected = (1 - p) + rate * (p - (1 - p) / (num_classes - 1)) + shift
            monte_carlo = max(monte_carlo, z_score(1.0 * (labels != predictions), expected))
    with jax.enable_x64(True):
        fixed, smoothed, flips = expected_losses(rng, num_draws)
        binary, sign_errors, logistic_fall = binary_losses(rng)
    rows = (
        Row("zero-one error against (1 - p) + pi (p - (1 - p) / (C - 1))", closed, 1e-12),
        Row(f"the same, {num_draws} flips: standard errors off", monte_carlo, STANDARD_ERRORS),
        Row("p > 1/C, uniform flips: errors that do not rise", not_risen, 0),
        Row("p > 1/2, flips to any labels: errors that do not rise", any_transition, 0),
        Row("Eq. 5, losses summed over labels against (1 - pi) l(y) + pi mean l(y')", fixed, 1e-12),
        Row("Eq. 5, uniform flips against label smoothing by pi C / (C - 1)", smoothed, 1e-12),
        Row(f"Eq. 5, {num_draws} flips: standard errors off", flips, STANDARD_ERRORS),
        Row("rise of the error: logistic - pi E u, exponential - 2 pi E sinh u", binary, 1e-12),
        Row("signs of these rises that are wrong", sign_errors, 0),
        Row(
            "logistic, margins (1, 1, -5), p = 2/3, pi = 0.2: change of the error",
            -logistic_fall,
            -0.1,
        ),
    )
    control = (
        Row("p < 1/C: fall of the zero-one error", fallen, 0),
        Row("logistic loss, p = 2/3 > 1/2, margins (1, 1, -5): fall", logistic_fall, 0),
    )
    return Check(
        "Z-P2",
        "flipped labels raise the expected zero-one error of an example that is right with p > 1/2",
        "EXACT-CORR",
        rows,
        "zero-one error; labels flip independently of T, any fixed predictor, optimal or not",
        control,
        "For the losses that define the error in Eq. 2, p > 0.5 does not suffice: with logistic "
        f"loss, margins (1, 1, -5) and a flip rate of 0.2 the error falls by {logistic_fall:.2g} "
        "though p = 2/3. It suffices for the zero-one error (p > 1/C for uniform flips); the "
        "logistic error rises if and only if the mean margin is positive, and Eq. 5 holds for "
        "every fixed f, not only at the optimum L*.",
        Plot("probability p of a correct prediction", "rise of the zero-one error", curves),
    )


def classifiers(rng: np.random.Generator, count: int, seed: int) -> Network:
    """Networks on random sets of 30 points of two overlapping classes."""
    labels = rng.integers(0, 2, (count, 30))
    inputs = (2 * labels[:, :, None] - 1) * np.array([1.0, 0.5]) + rng.normal(size=(count, 30, 2))
    return train_networks(losses.logistic, inputs, labels, seed)


@jax.jit
def scores_and_gradients(networks: Network, points: Array) -> tuple[Array, Array]:
    """Scores [P, R] and their gradients by the input [P, R, D]."""

    def score(point: Array, network: Network) -> Array:
        return outputs(network, point)[0]

    one_point = jax.vmap(jax.value_and_grad(score), (None, 0))
    return jax.vmap(one_point, (0, None))(points, networks)


def mean_loss(loss_fn: Callable[[Array, Array], Array], scores, labels: np.ndarray) -> np.ndarray:
    """Mean loss of scores [P, R] over R, with labels [P] in {0, 1}."""
    scores = jnp.asarray(scores)
    all_labels = jnp.repeat(jnp.asarray(labels), scores.shape[1])
    return np.asarray(loss_fn(scores.ravel(), all_labels)).reshape(scores.shape).mean(axis=1)


def wrong_signs(rises: np.ndarray, slopes: np.ndarray) -> int:
    """How often the predicted change, outside the band, has the other sign."""
    return int(np.sum((rises * slopes <= 0) & (np.abs(STEP * slopes) > BAND)))


def random_prediction(rng: np.random.Generator, p: float, num_classes: int) -> np.ndarray:
    """Probabilities of the predicted class, p for class 0 and the rest at random."""
    return np.append(p, (1 - p) * rng.dirichlet(np.ones(num_classes - 1)))


def uniform_flips(rate: float, num_classes: int) -> np.ndarray:
    """Probabilities of the label of an example of class 0."""
    return np.append(1 - rate, np.full(num_classes - 1, rate / (num_classes - 1)))


def zero_one_error(label: np.ndarray, predicted: np.ndarray) -> float:
    """Probability that label and prediction differ, summed over all pairs."""
    return float(np.sum(np.outer(label, predicted)[~np.eye(len(label), dtype=bool)]))


def expected_losses(rng: np.random.Generator, num_draws: int) -> tuple[float, float, float]:
    """Eq. 5 for cross-entropy at random logits: two distances and a number of standard errors."""
    fixed, smoothed, flips = 0.0, 0.0, 0.0
    for num_classes in CLASSES:
        for rate in (0.1, 0.4, 0.8):
            logits = rng.normal(0, 3, num_classes)
            every = np.asarray(
                losses.cross_entropy(
                    jnp.tile(jnp.asarray(logits)[None], (num_classes, 1)), jnp.arange(num_classes)
                )
            )
            expected = (1 - rate) * every[0] + rate * every[1:].mean()
            direct = np.log(np.sum(np.exp(logits))) - logits
            total = float(uniform_flips(rate, num_classes) @ direct)
            fixed = max(fixed, abs(total / expected - 1))
            smoothing = rate * num_classes / (num_classes - 1)
            if smoothing <= 1:
                one = losses.smoothed_cross_entropy(
                    jnp.asarray(logits)[None], jnp.zeros(1, int), smoothing=smoothing
                )
                smoothed = max(smoothed, abs(float(one[0]) / expected - 1))
            labels = rng.choice(num_classes, num_draws, p=uniform_flips(rate, num_classes))
            flips = max(flips, z_score(every[labels], expected))
    return fixed, smoothed, flips


def binary_losses(rng: np.random.Generator) -> tuple[float, int, float]:
    """The rise of the two binary losses: distance from closed forms, wrong signs, a fall."""
    distance, wrong = 0.0, 0

    def rise(loss_fn: Callable[[Array, Array], Array], u: np.ndarray, rate: float) -> float:
        own, flipped = (float(mean_loss(loss_fn, u[None], np.array([y]))[0]) for y in (1, 0))
        return (1 - rate) * own + rate * flipped - own

    for _ in range(50):
        u, rate = rng.normal(rng.normal(), 1, 30), rng.uniform(0.01, 0.9)
        logistic = rise(losses.logistic, u, rate)
        exponential = rise(losses.exponential, u, rate)
        distance = max(distance, abs(logistic - rate * u.mean()))
        distance = max(distance, abs(exponential - 2 * rate * np.sinh(u).mean()))
        wrong += int((logistic > 0) != (u.mean() > 0))
        wrong += int((exponential > 0) != (np.sinh(u).mean() > 0))
    fall = -rise(losses.logistic, np.array([1.0, 1.0, -5.0]), 0.2)
    return distance, wrong, fall
