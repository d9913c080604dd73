"""Logits, labels, and every loss with its formula for one row, typed out."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from weighting import losses

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.7, 0.2], [-3.0, 1.0, 4.0], [0.1, -0.4, 0.3]])


LABELS = np.array([0, 2, 1, 1])


TEACHER = np.array([[1.0, 0.5, 0.0], [-1.0, 0.0, 2.0], [0.3, 0.2, 0.1], [5.0, -5.0, 0.0]])


COUNTS = np.array([16, 1, 81])


TRANSITION = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]])


def halved(z):
    """The probabilities at temperature 2."""
    odds = np.exp(np.asarray(z) / 2)
    return odds / odds.sum()


def teacher_of(z):
    return TEACHER[np.argmin(np.abs(LOGITS - z).sum(axis=1))]


# name -> (loss, hyperparameters, the same from one row's probabilities p, logits z and label y)
CASES = {
    "generalized": (
        losses.generalized_cross_entropy,
        dict(q=0.7),
        lambda p, z, y: (1 - p[y] ** 0.7) / 0.7,
    ),
    "truncated_generalized": (
        losses.truncated_generalized_cross_entropy,
        dict(q=0.7, threshold=0.3),
        lambda p, z, y: (1 - max(p[y], 0.3) ** 0.7) / 0.7,
    ),
    "truncated": (
        losses.truncated_cross_entropy,
        dict(cutoff=1.3),
        lambda p, z, y: -math.log(p[y]) if -math.log(p[y]) <= 1.3 else 0.0,
    ),
    "smoothed": (
        losses.smoothed_cross_entropy,
        dict(smoothing=0.3),
        lambda p, z, y: -sum(((c == y) * 0.7 + 0.1) * math.log(p[c]) for c in range(3)),
    ),
    "bootstrap_soft": (
        losses.bootstrap_soft,
        dict(beta=0.9),
        lambda p, z, y: -sum(((c == y) * 0.9 + 0.1 * p[c]) * math.log(p[c]) for c in range(3)),
    ),
    "bootstrap_hard": (
        losses.bootstrap_hard,
        dict(beta=0.6),
        lambda p, z, y: -0.6 * math.log(p[y]) - 0.4 * math.log(max(p)),
    ),
    "balanced_cross_entropy": (
        losses.balanced_cross_entropy,
        dict(class_counts=COUNTS),
        lambda p, z, y: -math.log(p[y]) * (98 / 48, 98 / 3, 98 / 243)[y],
    ),
    "logit_adjusted": (
        losses.logit_adjusted,
        dict(class_counts=COUNTS, tau=1.0),
        # tau = 1: probabilities times counts, the balanced softmax
        lambda p, z, y: -math.log(p[y] * COUNTS[y] / (p[0] * 16 + p[1] * 1 + p[2] * 81)),
    ),
    "class_dependent_temperatures": (
        losses.class_dependent_temperatures,
        dict(class_counts=COUNTS, gamma=0.5),
        lambda p, z, y: (
            math.log(math.exp(z[0] * 4 / 9) + math.exp(z[1] / 9) + math.exp(z[2]))
            - z[y] * (4 / 9, 1 / 9, 1)[y]
        ),
    ),
    "vector_scaling": (
        losses.vector_scaling,
        dict(class_counts=COUNTS, gamma=0.25, tau=2.0),
        lambda p, z, y: (
            -math.log(
                (256 * math.exp(2 / 3 * z[0]), math.exp(z[1] / 3), 6561 * math.exp(z[2]))[y]
                / (256 * math.exp(2 / 3 * z[0]) + math.exp(z[1] / 3) + 6561 * math.exp(z[2]))
            )
        ),
    ),
    "ldam": (
        losses.ldam,
        dict(class_counts=COUNTS, max_margin=0.6, scale=3.0),
        # fourth roots of the counts: 2, 1, 3
        lambda p, z, y: math.log(
            1 + sum(math.exp(3 * (z[c] - z[y] + (0.3, 0.6, 0.2)[y])) for c in range(3) if c != y)
        ),
    ),
    "polynomial_tailed": (
        losses.polynomial_tailed,
        dict(alpha=1.5, beta=0.5),
        lambda p, z, y: (
            (0.5 + math.log(p[y] / (1 - p[y]))) ** -1.5
            if math.log(p[y] / (1 - p[y])) >= 0.5
            else math.log2(1 + 8 ** (0.5 - math.log(p[y] / (1 - p[y]))))
        ),
    ),
    "polynomial_tailed_released": (
        functools.partial(losses.polynomial_tailed, smooth=False),
        dict(alpha=2.0, beta=1.0),
        # log(1 + e^-u) is -log p, and the tail is u^-2
        lambda p, z, y: (
            math.log(p[y] / (1 - p[y])) ** -2
            if math.log(p[y] / (1 - p[y])) >= 1
            else -math.log(p[y]) / math.log(1 + math.exp(-1))
        ),
    ),
    "distillation": (
        losses.distillation,
        dict(teacher_logits=TEACHER, alpha=0.3, temperature=2.0),
        lambda p, z, y: (
            -0.3 * math.log(p[y])
            + 0.7 * 4 * np.sum(scipy.special.rel_entr(halved(teacher_of(z)), halved(z)))
        ),
    ),
    "forward": (
        losses.forward_corrected_cross_entropy,
        dict(transition=TRANSITION),
        lambda p, z, y: -math.log(sum(p[i] * TRANSITION[i][y] for i in range(3))),
    ),
    "backward": (
        losses.backward_corrected_cross_entropy,
        dict(transition=TRANSITION),
        lambda p, z, y: -sum(np.linalg.inv(TRANSITION)[y, c] * math.log(p[c]) for c in range(3)),
    ),
}


def call(name, logits, labels):
    loss_fn, hyperparameters, _ = CASES[name]
    return loss_fn(logits, labels, **hyperparameters)


def values_and_gradient(loss_fn):
    """Compiles (logits, *more) -> (losses [B], gradient of each with respect to its logits)."""

    def run(logits, *more):
        values, pullback = jax.vjp(lambda z: loss_fn(z, *more), logits)
        return values, pullback(jnp.ones_like(values))[0]

    return jax.jit(run)
