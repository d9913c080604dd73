r"""Bias and variance of one example's error (zhou2022, Eqs. 1-2), as `weighting` splits it.

.. math:: E_T \ell(f(x \mid T), y) = \ell(\bar f(x), y) + E_T\, d(\bar f(x), f(x \mid T))

holds exactly for the squared loss with :math:`\bar f = E_T f`, and for cross-entropy with the
normalized geometric mean of the probabilities; d is the squared distance or KL divergence.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
import scipy.special

from theory_checks.common.ensembles import ensemble_outputs, train_networks
from theory_checks.common.reference import curve
from theory_checks.records import Check, Measured, Plot
from weighting.difficulty.bias_variance import (
    BiasVariance,
    cross_entropy_bias_variance,
    squared_bias_variance,
)
from weighting.losses import cross_entropy

Split = Callable[..., BiasVariance]
Gaps = dict[str, np.ndarray]  # what is compared -> relative distances, any shape

PENALTIES = np.logspace(-6, 2, 17)
ROUND_OFF = 1e-11  # relative; sums of a few hundred terms, and logarithms, in 64 bits
MEAN_AS_CENTRE = "cross-entropy, mean probability as centre: |bias + variance - error| / error"


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
    with jax.enable_x64(True):
        found = [_measure(seed, num_networks, squared, entropy) for seed in range(num_seeds)]
        terms = _along_penalties(np.random.default_rng(0), num_networks, squared)
    gaps, controls = (_largest(dictionaries) for dictionaries in zip(*found, strict=True))
    return Check(
        "Z-E2",
        f"an example's error over {num_networks} training sets is its bias plus its variance",
        "EXACT",
        tuple(Measured(name, value, ROUND_OFF) for name, value in gaps.items()),
        "squared loss with the mean as central prediction, cross-entropy with the normalized "
        "geometric mean of the probabilities; fixed x and y; any finite set of networks",
        tuple(Measured(name, value, ROUND_OFF) for name, value in controls.items()),
        "The approximate equality of Eqs. 1-2 is left open for losses other than the squared, and "
        "the central prediction that they print, E_T f, misses cross-entropy by up to "
        f"{controls[MEAN_AS_CENTRE]:.2g} times the error. It is an exact equality for the squared "
        "loss, and for cross-entropy with the normalized geometric mean of the probabilities as "
        "centre; the bias then contains the label noise.",
        Plot(
            "ridge penalty",
            "mean over examples",
            {name: curve(PENALTIES, np.array(term)) for name, term in terms.items()},
            "xy",
        ),
    )


def _measure(seed: int, num_networks: int, squared: Split, entropy: Split) -> tuple[Gaps, Gaps]:
    """Of one repetition: the distances that must vanish, and those with other centres."""
    rng = np.random.default_rng(seed)
    designs = _ridge_designs(rng, num_networks)
    regressions = [_ridge_predictions(designs, penalty) for penalty in PENALTIES]
    predictions, targets = _ridge_predictions(designs, 1e-3)
    noisy_targets = targets[None] + rng.normal(0, 0.5, (10, len(targets)))
    logits, labels, soft = _classifiers(rng, num_networks, seed)
    held_out = rng.random(logits.shape[:2]) < 0.4
    held_out[:2] = True
    probabilities, one_hot = scipy.special.softmax(logits, axis=2), np.eye(logits.shape[2])[labels]

    along = [
        _split_gaps("squared, ridge regression", squared(f, y), _squared_terms(f, y))
        for f, y in regressions
    ]
    gaps = (
        {name: np.stack([own[name] for own in along]) for name in along[0]}
        | _label_noise_gap(squared, predictions, noisy_targets)
        | _split_gaps(
            "cross-entropy, networks", entropy(logits, labels), _entropy_terms(logits, labels)
        )
        | _split_gaps(
            "cross-entropy, soft labels", entropy(logits, soft), _entropy_terms(logits, soft)
        )
        | _split_gaps(
            "squared, probabilities",
            squared(probabilities, one_hot),
            _squared_terms(probabilities, one_hot),
        )
        | _held_out_gap(entropy(logits, labels, mask=held_out))
    )
    controls = (
        _median_gap(predictions, targets)
        | _mean_probability_gap(logits, labels)
        | _majority_gap(logits.argmax(axis=2), labels)
    )
    return gaps, controls


def _largest(found: Sequence[Gaps]) -> dict[str, float]:
    """Over repetitions and examples."""
    return {name: max(float(np.max(own[name])) for own in found) for name in found[0]}


def _along_penalties(
    rng: np.random.Generator, num_networks: int, squared: Split
) -> dict[str, list[float]]:
    """Error, bias and variance of ridge regressions, mean over examples, by penalty."""
    designs = _ridge_designs(rng, num_networks)
    splits = [squared(*_ridge_predictions(designs, penalty)) for penalty in PENALTIES]
    return {
        name: [float(np.mean(getattr(split, name))) for split in splits]
        for name in ("error", "bias", "variance")
    }


def _split_gaps(name: str, own: BiasVariance, terms: tuple[np.ndarray, ...]) -> Gaps:
    """bias + variance against the error, and every term against its definition; relative."""
    error = terms[0]
    total = np.abs(np.asarray(own.bias + own.variance) - error) / error
    return {f"{name}: |bias + variance - error| / error": total} | {
        f"{name}: {field} against NumPy": np.abs(np.asarray(getattr(own, field)) - term) / error
        for field, term in zip(own._fields, terms, strict=False)
    }


def _label_noise_gap(squared: Split, predictions: np.ndarray, labels: np.ndarray) -> Gaps:
    """Label noise is part of the bias: over y [L, N], mean (y - f)^2 = (mean y - f)^2 + var y."""
    bias = np.mean([squared(predictions, y).bias for y in labels], axis=0)
    expected = (labels.mean(axis=0) - predictions.mean(axis=0)) ** 2 + labels.var(axis=0)
    name = "squared, mean bias over labels less (mean label - centre)^2 + label variance"
    return {name: np.abs(bias / expected - 1)}


def _held_out_gap(own: BiasVariance) -> Gaps:
    """The sum of a split over the networks that did not see the example."""
    name = "cross-entropy, held-out networks only: |bias + variance - error| / error"
    return {name: np.abs(np.asarray((own.bias + own.variance) / own.error) - 1)}


def _median_gap(predictions: np.ndarray, targets: np.ndarray) -> Gaps:
    """Squared loss around the median: not a split."""
    error, _, _ = _squared_terms(predictions, targets)
    center = np.median(predictions, axis=0)
    parts = (center - targets) ** 2 + np.mean((predictions - center) ** 2, axis=0)
    name = "squared loss, the median as centre: |bias + variance - error| / error"
    return {name: np.abs(parts / error - 1)}


def _mean_probability_gap(logits: np.ndarray, labels: np.ndarray) -> Gaps:
    """Cross-entropy around E_T f, as printed: not a split."""
    error, _, _ = _entropy_terms(logits, labels)
    q = scipy.special.softmax(logits, axis=2)
    mean = q.mean(axis=0)
    parts = -np.log(mean[np.arange(len(labels)), labels])
    parts += np.mean(scipy.special.rel_entr(mean, q).sum(axis=2), axis=0)
    return {MEAN_AS_CENTRE: np.abs(parts / error - 1)}


def _majority_gap(predicted: np.ndarray, labels: np.ndarray) -> Gaps:
    """Zero-one loss around the majority of the predicted classes [R, N]: not a split."""
    votes = np.stack([np.bincount(column, minlength=3).argmax() for column in predicted.T])
    parts = (votes != labels) + np.mean(predicted != votes, axis=0)
    name = "zero-one loss, the majority as centre: |bias + variance - error|"
    return {name: np.abs(parts - np.mean(predicted != labels, axis=0))}


def _squared_terms(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Error, bias and variance by their definitions, in NumPy."""
    squares = (predictions - targets) ** 2
    bias, variance = (predictions.mean(axis=0) - targets) ** 2, predictions.var(axis=0)
    if predictions.ndim == 3:
        return squares.sum(axis=2).mean(axis=0), bias.sum(axis=1), variance.sum(axis=1)
    return squares.mean(axis=0), bias, variance


def _entropy_terms(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean KL to the networks, KL to their geometric mean, and the mean KL from it."""
    q = scipy.special.softmax(logits, axis=2)
    y = np.eye(logits.shape[2])[labels] if labels.ndim == 1 else labels
    center = scipy.special.softmax(np.log(q).mean(axis=0), axis=1)
    error = scipy.special.rel_entr(y, q).sum(axis=2).mean(axis=0)
    bias = scipy.special.rel_entr(y, center).sum(axis=1)
    return error, bias, scipy.special.rel_entr(center, q).sum(axis=2).mean(axis=0)


def _ridge_designs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [R, n, 8] and targets [R, n] of random training sets, sin(pi x) plus noise."""
    x = rng.uniform(-1, 1, (count, 20))
    return np.polynomial.legendre.legvander(x, 7), np.sin(np.pi * x) + rng.normal(0, 0.3, x.shape)


def _ridge_predictions(
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


def _classifiers(
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
