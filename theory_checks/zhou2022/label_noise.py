r"""Label noise against the error of an example (zhou2022, Prop. 2, Eq. 5).

Labels flip with probability :math:`\pi`, independently of the training set. A predictor that is
right with probability p then has the zero-one error

.. math:: (1 - p) + \pi \Big(p - \frac{1 - p}{C - 1}\Big)

under flips that are uniform over the C - 1 other classes, and for any loss and any fixed f

.. math:: E\, \ell(f, \tilde y) = (1 - \pi)\, \ell(f, y)
   + \frac{\pi}{C - 1} \sum_{y' \ne y} \ell(f, y').
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory_checks.common.ensembles import STANDARD_ERRORS, z_score
from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.binary_losses import BinaryLoss, mean_loss
from weighting import losses

CLASSES = (2, 3, 10)
RATES = (0.05, 0.2, 0.5, 0.9)  # pi
GRID = np.linspace(0, 1, 41)  # probabilities p of a correct prediction


class _ZeroOneErrors(NamedTuple):
    """Of predictors of one number of classes, along `GRID` where P is a length."""

    num_classes: int
    rate: float
    distances: np.ndarray  # [P], of the error under uniform flips from its closed form
    rises: np.ndarray  # [P], of the error by uniform flips
    other_rises: np.ndarray  # by flips to any labels, where p > 1/2
    standard_errors: float  # of drawn flips, from the closed form


def flipped_labels(*, shift: float = 0.0, num_draws: int = 20_000, seed: int = 0) -> Check:
    """Z-P2: what flipping an example's label does to its expected error.

    Args:
      shift: added to the closed form of the zero-one error, to see the check fail.
      num_draws: label flips of a Monte Carlo estimate.
      seed: of the problems.
    """
    rng = np.random.default_rng(seed)
    found = [
        _zero_one_errors(rng, num_classes, rate, num_draws, shift)
        for num_classes in CLASSES
        for rate in RATES
    ]
    with jax.enable_x64(True):
        fixed, smoothed, flips = _expected_losses(rng, num_draws)
        measured, closed = _binary_rises(rng)
        fall = -_binary_rise(losses.logistic, np.array([1.0, 1.0, -5.0]), 0.2)
    likely = [own.rises[1 / own.num_classes + 1e-9 < GRID] for own in found]
    lowest = float(max(-np.min(own.rises) for own in found))
    rows = (
        Measured(
            "zero-one error against (1 - p) + pi (p - (1 - p) / (C - 1))",
            float(max(own.distances.max() for own in found)),
            1e-12,
        ),
        Measured(
            f"the same, {num_draws} flips: standard errors off",
            max(own.standard_errors for own in found),
            STANDARD_ERRORS,
        ),
        Measured(
            "p > 1/C, uniform flips: errors that do not rise",
            int(np.sum(np.concatenate(likely) <= 0)),
            0,
        ),
        Measured(
            "p > 1/2, flips to any labels: errors that do not rise",
            int(np.sum(np.concatenate([own.other_rises for own in found]) <= 0)),
            0,
        ),
        *_loss_rows(fixed, smoothed, flips, num_draws),
        *_binary_rows(measured, closed, fall),
    )
    return Check(
        "Z-P2",
        "flipped labels raise the expected zero-one error of an example that is right with p > 1/2",
        "EXACT-CORR",
        rows,
        "zero-one error; labels flip independently of T, any fixed predictor, optimal or not",
        (
            Measured("p < 1/C: fall of the zero-one error", lowest, 0),
            Measured("logistic loss, p = 2/3 > 1/2, margins (1, 1, -5): fall", fall, 0),
        ),
        _erratum(fall),
        Plot(
            "probability p of a correct prediction",
            "rise of the zero-one error",
            {
                f"{own.num_classes} classes": curve(GRID, own.rises)
                for own in found
                if own.rate == 0.2
            },
        ),
    )


def _loss_rows(
    fixed: np.ndarray, smoothed: np.ndarray, flips: np.ndarray, num_draws: int
) -> tuple[Measured, ...]:
    return (
        Measured(
            "Eq. 5, losses summed over labels against (1 - pi) l(y) + pi mean l(y')",
            float(fixed.max()),
            1e-12,
        ),
        Measured(
            "Eq. 5, uniform flips against label smoothing by pi C / (C - 1)",
            float(np.nanmax(smoothed)),
            1e-12,
        ),
        Measured(
            f"Eq. 5, {num_draws} flips: standard errors off", float(flips.max()), STANDARD_ERRORS
        ),
    )


def _binary_rows(measured: np.ndarray, closed: np.ndarray, fall: float) -> tuple[Measured, ...]:
    return (
        Measured(
            "rise of the error: logistic - pi E u, exponential - 2 pi E sinh u",
            float(np.max(np.abs(measured - closed))),
            1e-12,
        ),
        Measured(
            "signs of these rises that are wrong",
            int(np.sum((measured > 0) != (closed > 0))),
            0,
        ),
        Measured(
            "logistic, margins (1, 1, -5), p = 2/3, pi = 0.2: change of the error", -fall, -0.1
        ),
    )


def _erratum(fall: float) -> str:
    return (
        "For the losses that define the error in Eq. 2, p > 0.5 does not suffice: with logistic "
        f"loss, margins (1, 1, -5) and a flip rate of 0.2 the error falls by {fall:.2g} "
        "though p = 2/3. It suffices for the zero-one error (p > 1/C for uniform flips); the "
        "logistic error rises if and only if the mean margin is positive, and Eq. 5 holds for "
        "every fixed f, not only at the optimum L*."
    )


def _zero_one_errors(
    rng: np.random.Generator, num_classes: int, rate: float, num_draws: int, shift: float
) -> _ZeroOneErrors:
    """Clean and noisy errors of random predictors, summed and drawn, against the closed form."""
    own, flips = np.eye(num_classes)[0], _uniform_flips(rate, num_classes)

    def closed_form(p):
        return (1 - p) + rate * (p - (1 - p) / (num_classes - 1)) + shift

    clean, noisy, other = [], [], []
    for p in GRID:
        predicted = _random_prediction(rng, p, num_classes)
        clean.append(_zero_one_error(own, predicted))
        noisy.append(_zero_one_error(flips, predicted))
        if p > 0.5:  # flips to any other labels, say to one
            wrong = np.append(0.0, rng.dirichlet(0.3 * np.ones(num_classes - 1)))
            other.append(_zero_one_error((1 - rate) * own + rate * wrong, predicted))
    clean, noisy, other = map(np.array, (clean, noisy, other))

    p = rng.uniform()
    predicted = _random_prediction(rng, p, num_classes)
    labels = rng.choice(num_classes, num_draws, p=flips)
    predictions = rng.choice(num_classes, num_draws, p=predicted)
    return _ZeroOneErrors(
        num_classes,
        rate,
        distances=np.abs(noisy - closed_form(GRID)),
        rises=noisy - clean,
        other_rises=other - clean[GRID > 0.5],
        standard_errors=z_score(1.0 * (labels != predictions), closed_form(p)),
    )


def _random_prediction(rng: np.random.Generator, p: float, num_classes: int) -> np.ndarray:
    """Probabilities of the predicted class, p for class 0 and the rest at random."""
    return np.append(p, (1 - p) * rng.dirichlet(np.ones(num_classes - 1)))


def _uniform_flips(rate: float, num_classes: int) -> np.ndarray:
    """Probabilities of the label of an example of class 0."""
    return np.append(1 - rate, np.full(num_classes - 1, rate / (num_classes - 1)))


def _zero_one_error(label: np.ndarray, predicted: np.ndarray) -> float:
    """Probability that label and prediction differ, summed over all pairs."""
    return float(np.sum(np.outer(label, predicted)[~np.eye(len(label), dtype=bool)]))


def _expected_losses(
    rng: np.random.Generator, num_draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eq. 5 for cross-entropy, by number of classes and rate: three arrays [K].

    Relative distances of the sum over labels and of the smoothed loss (NaN where a smoothing of
    more than one would be needed), and the standard errors between it and drawn flips.
    """
    found = [
        _expected_loss(rng, num_classes, rate, num_draws)
        for num_classes in CLASSES
        for rate in (0.1, 0.4, 0.8)
    ]
    fixed, smoothed, flips = map(np.array, zip(*found, strict=True))
    return fixed, smoothed, flips


def _expected_loss(
    rng: np.random.Generator, num_classes: int, rate: float, num_draws: int
) -> tuple[float, float, float]:
    """At random logits: see `_expected_losses`."""
    logits = rng.normal(0, 3, num_classes)
    every = np.asarray(
        losses.cross_entropy(
            jnp.tile(jnp.asarray(logits)[None], (num_classes, 1)), jnp.arange(num_classes)
        )
    )
    expected = (1 - rate) * every[0] + rate * every[1:].mean()
    total = float(_uniform_flips(rate, num_classes) @ (np.log(np.sum(np.exp(logits))) - logits))
    smoothing, smoothed = rate * num_classes / (num_classes - 1), np.nan
    if smoothing <= 1:
        one = losses.smoothed_cross_entropy(
            jnp.asarray(logits)[None], jnp.zeros(1, int), smoothing=smoothing
        )
        smoothed = abs(float(one[0]) / expected - 1)
    labels = rng.choice(num_classes, num_draws, p=_uniform_flips(rate, num_classes))
    return abs(total / expected - 1), smoothed, z_score(every[labels], expected)


def _binary_rises(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rise of the logistic and the exponential error, and pi E u and 2 pi E sinh u; [50, 2]."""
    cases = [(rng.normal(rng.normal(), 1, 30), rng.uniform(0.01, 0.9)) for _ in range(50)]
    measured = [
        [_binary_rise(loss_fn, u, rate) for loss_fn in (losses.logistic, losses.exponential)]
        for u, rate in cases
    ]
    closed = [[rate * u.mean(), 2 * rate * np.sinh(u).mean()] for u, rate in cases]
    return np.array(measured), np.array(closed)


def _binary_rise(loss_fn: BinaryLoss, u: np.ndarray, rate: float) -> float:
    """(1 - pi) E l(u) + pi E l(-u) - E l(u), over margins u of several models."""
    own, flipped = (float(mean_loss(loss_fn, u[None], np.array([y]))[0]) for y in (1, 0))
    return (1 - rate) * own + rate * flipped - own
