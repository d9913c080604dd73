r"""Bias and variance of one example's error (zhou2022, Eqs. 1-2), as `weighting` splits it.

.. math:: E_T \ell(f(x \mid T), y) = \ell(\bar f(x), y) + E_T\, d(\bar f(x), f(x \mid T))

holds exactly for the squared loss with :math:`\bar f = E_T f`, and for cross-entropy with the
normalized geometric mean of the probabilities; d is the squared distance or KL divergence.
"""

from collections import defaultdict
from collections.abc import Callable

import jax
import numpy as np
import scipy.special

from theory_checks.common.ensembles import ensemble_outputs, train_networks
from theory_checks.records import Check, Plot, Row
from weighting.difficulty.bias_variance import (
    BiasVariance,
    cross_entropy_bias_variance,
    squared_bias_variance,
)
from weighting.losses import cross_entropy

Split = Callable[..., BiasVariance]

PENALTIES = np.logspace(-6, 2, 17)
ROUND_OFF = 1e-11  # relative; sums of a few hundred terms, and logarithms, in 64 bits


def checks(preset: str) -> list[Check]:
    """The claim; fewer networks for "smoke"."""
    if preset == "smoke":
        return [decomposition(num_networks=40, num_seeds=1)]
    return [decomposition()]


def decomposition(
    *,
    squared: Split = squared_bias_variance,
    entropy: Split = cross_entropy_bias_variance,
    num_networks: int = 200,
    num_seeds: int = 3,
) -> Check:
    """Z-E2: error = bias + variance for ridge regressions and networks, by either loss.

    Args:
      squared: the split of the squared loss under test.
      entropy: that of cross-entropy.
      num_networks: random training sets, R.
      num_seeds: repetitions.
    """
    worst = defaultdict(float)
    controls = defaultdict(float)

    def record(name: str, own: BiasVariance, terms: tuple[np.ndarray, ...]) -> None:
        error = terms[0]
        total = np.abs(np.asarray(own.bias + own.variance) - error) / error
        worst[f"{name}: |bias + variance - error| / error"] = max(
            worst[f"{name}: |bias + variance - error| / error"], float(total.max())
        )
        for field, term in zip(own._fields, terms, strict=False):
            key = f"{name}: {field} against NumPy"
            gap = np.abs(np.asarray(getattr(own, field)) - term) / error
            worst[key] = max(worst[key], float(gap.max()))

    def control(name: str, gap: np.ndarray) -> None:
        controls[name] = max(controls[name], float(np.max(np.abs(gap))))

    curves = []
    with jax.enable_x64(True):
        for seed in range(num_seeds):
            rng = np.random.default_rng(seed)
            designs = ridge_designs(rng, num_networks)
            for penalty in PENALTIES:
                predictions, targets = ridge_predictions(designs, penalty)
                own = squared(predictions, targets)
                terms = squared_terms(predictions, targets)
                record("squared, ridge regression", own, terms)
                if seed == 0:
                    curves.append([float(np.mean(term)) for term in own[:3]])
            predictions, targets = ridge_predictions(designs, 1e-3)
            center = np.median(predictions, axis=0)
            error, _, _ = squared_terms(predictions, targets)
            parts = (center - targets) ** 2 + np.mean((predictions - center) ** 2, axis=0)
            control(
                "squared loss, the median as centre: |bias + variance - error| / error",
                parts / error - 1,
            )

            # Label noise is part of the bias: over labels y, mean (y - f)^2 = (mean y - f)^2 + var.
            noisy = targets[None] + rng.normal(0, 0.5, (10, len(targets)))
            bias = np.mean([squared(predictions, y).bias for y in noisy], axis=0)
            center = predictions.mean(axis=0)
            expected = (noisy.mean(axis=0) - center) ** 2 + noisy.var(axis=0)
            key = "squared, mean bias over labels less (mean label - centre)^2 + label variance"
            worst[key] = max(worst[key], float(np.max(np.abs(bias / expected - 1))))

            logits, labels, soft = classifiers(rng, num_networks, seed)
            record(
                "cross-entropy, networks", entropy(logits, labels), entropy_terms(logits, labels)
            )
            record("cross-entropy, soft labels", entropy(logits, soft), entropy_terms(logits, soft))
            q = scipy.special.softmax(logits, axis=2)
            one_hot = np.eye(logits.shape[2])[labels]
            record("squared, probabilities", squared(q, one_hot), squared_terms(q, one_hot))
            held_out = rng.random(logits.shape[:2]) < 0.4
            held_out[:2] = True
            own = entropy(logits, labels, mask=held_out)
            gap = np.abs(np.asarray((own.bias + own.variance) / own.error) - 1)
            key = "cross-entropy, held-out networks only: |bias + variance - error| / error"
            worst[key] = max(worst[key], float(gap.max()))

            error, _, _ = entropy_terms(logits, labels)
            mean = q.mean(axis=0)
            parts = -np.log(mean[np.arange(len(labels)), labels])
            parts += np.mean(scipy.special.rel_entr(mean, q).sum(axis=2), axis=0)
            control(
                "cross-entropy, mean probability as centre: |bias + variance - error| / error",
                parts / error - 1,
            )
            predicted = logits.argmax(axis=2)
            votes = np.stack([np.bincount(column, minlength=3).argmax() for column in predicted.T])
            parts = (votes != labels) + np.mean(predicted != votes, axis=0)
            control(
                "zero-one loss, the majority as centre: |bias + variance - error|",
                parts - np.mean(predicted != labels, axis=0),
            )
    names = ("error", "bias", "variance")
    plotted = {
        n: (PENALTIES.tolist(), list(c))
        for n, c in zip(names, zip(*curves, strict=True), strict=True)
    }
    mean_centre = controls[
        "cross-entropy, mean probability as centre: |bias + variance - error| / error"
    ]
    return Check(
        "Z-E2",
        f"an example's error over {num_networks} training sets is its bias plus its variance",
        "EXACT",
        tuple(Row(name, value, ROUND_OFF) for name, value in worst.items()),
        "squared loss with the mean as central prediction, cross-entropy with the normalized "
        "geometric mean of the probabilities; fixed x and y; any finite set of networks",
        tuple(Row(name, value, ROUND_OFF) for name, value in controls.items()),
        "The approximate equality of Eqs. 1-2 is left open for losses other than the squared, and "
        "the central prediction that they print, E_T f, misses cross-entropy by up to "
        f"{mean_centre:.2g} times the error. It is an exact equality for the squared loss, "
        "and for cross-entropy with the normalized geometric mean of the probabilities as "
        "centre; the bias then contains the label noise.",
        Plot("ridge penalty", "mean over examples", plotted, "xy"),
    )


def squared_terms(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Error, bias and variance by their definitions, in NumPy."""
    squares = (predictions - targets) ** 2
    bias, variance = (predictions.mean(axis=0) - targets) ** 2, predictions.var(axis=0)
    if predictions.ndim == 3:
        return squares.sum(axis=2).mean(axis=0), bias.sum(axis=1), variance.sum(axis=1)
    return squares.mean(axis=0), bias, variance


def entropy_terms(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean KL to the networks, KL to their geometric mean, and the mean KL from it."""
    q = scipy.special.softmax(logits, axis=2)
    y = np.eye(logits.shape[2])[labels] if labels.ndim == 1 else labels
    center = scipy.special.softmax(np.log(q).mean(axis=0), axis=1)
    error = scipy.special.rel_entr(y, q).sum(axis=2).mean(axis=0)
    bias = scipy.special.rel_entr(y, center).sum(axis=1)
    return error, bias, scipy.special.rel_entr(center, q).sum(axis=2).mean(axis=0)


def ridge_designs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [R, n, 8] and targets [R, n] of random training sets, sin(pi x) plus noise."""
    x = rng.uniform(-1, 1, (count, 20))
    return np.polynomial.legendre.legvander(x, 7), np.sin(np.pi * x) + rng.normal(0, 0.3, x.shape)


def ridge_predictions(
    designs: tuple[np.ndarray, np.ndarray], penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """What each ridge regression predicts at 25 points, [R, 25], and noisy targets there."""
    features, targets = designs
    gram = np.einsum("rnp,rnq->rpq", features, features) + penalty * np.eye(features.shape[2])
    moment = np.einsum("rnp,rn->rp", features, targets)
    coefficients = np.linalg.solve(gram, moment[:, :, None])[:, :, 0]
    x = np.linspace(-1, 1, 25)
    noise = 0.3 * np.random.default_rng(0).normal(size=len(x))
    return coefficients @ np.polynomial.legendre.legvander(x, 7).T, np.sin(np.pi * x) + noise


def classifiers(
    rng: np.random.Generator, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits [R, 40, 3] of trained networks at fresh points, hard labels and random soft ones."""
    means = 1.5 * np.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]])
    labels = rng.integers(0, 3, (count, 30))
    inputs = means[labels] + rng.normal(size=(count, 30, 2))
    networks = train_networks(cross_entropy, inputs, labels, seed, num_outputs=3)
    points = rng.integers(0, 3, 40)
    logits = ensemble_outputs(networks, means[points] + rng.normal(size=(40, 2)))
    return np.asarray(logits), points, rng.dirichlet(np.ones(3), 40)
