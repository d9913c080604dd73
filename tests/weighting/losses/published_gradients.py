"""Gradients of the losses by the logits, as closed forms in double precision: a row at a time.

p is the softmax of the row z, e the one-hot label y; for a single score z the margin is u = s z
with s = 2 y - 1, and p its sigmoid.
"""

import functools
import math

import numpy as np
import scipy.special

from tests.weighting.losses.cases import COUNTS, TEACHER, TRANSITION, teacher_of
from weighting import losses

INVERSE = np.linalg.inv(TRANSITION)


def softmax(z):
    odds = np.exp(np.asarray(z) - np.max(z))
    return odds / odds.sum()


def one_hot(y, num_classes=3):
    return np.eye(num_classes)[y]


def cross_entropy(z, y):
    """Of log-likelihood: p - e."""
    return softmax(z) - one_hot(y, len(z))


def focal_factor(p, gamma):
    """Lin et al. (2017), Appendix B: (1 - p)^gamma (gamma p log p + p - 1), by u over y."""
    return (1 - p) ** gamma * (gamma * p * math.log(p) + p - 1)


def focal(z, y, gamma, alpha):
    """The binary form's factor, with e - p over 1 - p_y in the place of the sign y."""
    p = softmax(z)
    return alpha * focal_factor(p[y], gamma) * (one_hot(y, len(z)) - p) / (1 - p[y])


def entropy(z):
    """Of H = -sum p log p: -p_k (log p_k + H)."""
    p = softmax(z)
    return -p * (np.log(p) - np.sum(p * np.log(p)))


def tail_slope(u, alpha, beta):
    """Of the smooth polynomial tail: both pieces have slope -alpha at beta."""
    if u >= beta:
        return -alpha * (1 + u - beta) ** (-alpha - 1)
    return -2 * alpha * scipy.special.expit(2 * alpha * math.log(2) * (beta - u))


def released_tail_slope(u, alpha, beta):
    if u >= beta:
        return -alpha * (1 + u - beta) ** (-alpha - 1)
    return -scipy.special.expit(-u) / math.log1p(math.exp(-beta))


def polynomial(z, y, alpha, beta, slope):
    """By way of the log-odds of the label, whose gradient is (e - p) / (1 - p_y)."""
    p = softmax(z)
    u = math.log(p[y] / (1 - p[y]))
    return slope(u, alpha, beta) * (one_hot(y, len(z)) - p) / (1 - p[y])


def scaled(z, y, scales, shifts):
    """Of cross-entropy at a z + b."""
    return scales * (softmax(scales * z + shifts) - one_hot(y))


def distillation(z, y, alpha, temperature):
    apart = softmax(z / temperature) - softmax(teacher_of(z) / temperature)
    return alpha * cross_entropy(z, y) + (1 - alpha) * temperature * apart


def forward(z, y):
    """Prediction less posterior: p - P(true class | noisy label y)."""
    joint = softmax(z) * TRANSITION[:, y]
    return softmax(z) - joint / joint.sum()


RELATIVE = COUNTS / 81  # over the largest count
LOG_PRIORS = np.log(COUNTS / 98)
MARGINS = 0.6 / np.array([2.0, 1.0, 3.0])  # 0.6 (n / 1)^(-1/4)
BALANCE = np.array([98 / 48, 98 / 3, 98 / 243])

# name -> (loss with its hyperparameters, gradient by a row's logits z [C] and label y)
GRADIENTS = {
    "cross_entropy": (losses.cross_entropy, cross_entropy),
    "focal": (losses.focal, lambda z, y: focal(z, y, 2.0, 1.0)),
    "focal, alpha per class": (
        functools.partial(losses.focal, gamma=0.5, alpha=np.array([0.25, 2.0, 3.0])),
        lambda z, y: focal(z, y, 0.5, (0.25, 2.0, 3.0)[y]),
    ),
    "generalized": (
        functools.partial(losses.generalized_cross_entropy, q=0.7),
        lambda z, y: softmax(z)[y] ** 0.7 * cross_entropy(z, y),
    ),
    "truncated_generalized": (
        functools.partial(losses.truncated_generalized_cross_entropy, q=0.7, threshold=0.3),
        lambda z, y: (softmax(z)[y] > 0.3) * softmax(z)[y] ** 0.7 * cross_entropy(z, y),
    ),
    "truncated": (
        functools.partial(losses.truncated_cross_entropy, cutoff=1.3),
        lambda z, y: (-math.log(softmax(z)[y]) <= 1.3) * cross_entropy(z, y),
    ),
    "smoothed": (
        functools.partial(losses.smoothed_cross_entropy, smoothing=0.3),
        lambda z, y: softmax(z) - (0.7 * one_hot(y) + 0.1),
    ),
    "bootstrap_soft": (
        functools.partial(losses.bootstrap_soft, beta=0.6),
        lambda z, y: 0.6 * cross_entropy(z, y) + 0.4 * entropy(z),
    ),
    "bootstrap_soft, constant": (
        functools.partial(losses.bootstrap_soft, beta=0.6, target="constant"),
        lambda z, y: 0.6 * cross_entropy(z, y),
    ),
    "bootstrap_hard": (
        functools.partial(losses.bootstrap_hard, beta=0.6),
        lambda z, y: 0.6 * cross_entropy(z, y) + 0.4 * cross_entropy(z, int(np.argmax(z))),
    ),
    "distillation": (
        functools.partial(losses.distillation, teacher_logits=TEACHER, alpha=0.3, temperature=2.0),
        lambda z, y: distillation(z, y, 0.3, 2.0),
    ),
    "balanced_cross_entropy": (
        functools.partial(losses.balanced_cross_entropy, class_counts=COUNTS),
        lambda z, y: BALANCE[y] * cross_entropy(z, y),
    ),
    "logit_adjusted": (
        functools.partial(losses.logit_adjusted, class_counts=COUNTS, tau=1.5),
        lambda z, y: scaled(z, y, np.ones(3), 1.5 * LOG_PRIORS),
    ),
    "class_dependent_temperatures": (
        functools.partial(losses.class_dependent_temperatures, class_counts=COUNTS, gamma=0.3),
        lambda z, y: scaled(z, y, RELATIVE**0.3, np.zeros(3)),
    ),
    "vector_scaling": (
        functools.partial(losses.vector_scaling, class_counts=COUNTS, gamma=0.3, tau=1.0),
        lambda z, y: scaled(z, y, RELATIVE**0.3, LOG_PRIORS),
    ),
    "ldam": (
        functools.partial(losses.ldam, class_counts=COUNTS, max_margin=0.6, scale=3.0),
        lambda z, y: 3 * cross_entropy(3 * (z - MARGINS[y] * one_hot(y)), y),
    ),
    "polynomial_tailed": (
        functools.partial(losses.polynomial_tailed, alpha=1.5, beta=0.5),
        lambda z, y: polynomial(z, y, 1.5, 0.5, tail_slope),
    ),
    "polynomial_tailed_released": (
        functools.partial(losses.polynomial_tailed, smooth=False),
        lambda z, y: polynomial(z, y, 2.0, 1.0, released_tail_slope),
    ),
    "forward": (
        functools.partial(losses.forward_corrected_cross_entropy, transition=TRANSITION),
        forward,
    ),
    "backward": (
        functools.partial(losses.backward_corrected_cross_entropy, transition=TRANSITION),
        # the rows of the inverse sum to one
        lambda z, y: softmax(z) - INVERSE[y],
    ),
}

# name -> (loss, slope by the margin u)
SLOPES = {
    "logistic": (losses.logistic, lambda u: -scipy.special.expit(-u)),
    "exponential": (losses.exponential, lambda u: -math.exp(-u)),
    "focal": (losses.focal, lambda u: focal_factor(scipy.special.expit(u), 2.0)),
    "generalized": (
        functools.partial(losses.generalized_cross_entropy, q=0.7),
        lambda u: -(scipy.special.expit(u) ** 0.7) * scipy.special.expit(-u),
    ),
    "truncated_generalized": (
        functools.partial(losses.truncated_generalized_cross_entropy, q=0.7, threshold=0.3),
        lambda u: (
            -scipy.special.expit(-u) * scipy.special.expit(u) ** 0.7
            if scipy.special.expit(u) > 0.3
            else 0.0
        ),
    ),
    "truncated": (
        functools.partial(losses.truncated_cross_entropy, cutoff=1.3),
        lambda u: -scipy.special.expit(-u) if math.log1p(math.exp(-u)) <= 1.3 else 0.0,
    ),
    "polynomial_tailed": (
        functools.partial(losses.polynomial_tailed, alpha=1.5, beta=0.5),
        lambda u: tail_slope(u, 1.5, 0.5),
    ),
    "polynomial_tailed_released": (
        functools.partial(losses.polynomial_tailed, smooth=False),
        lambda u: released_tail_slope(u, 2.0, 1.0),
    ),
}
