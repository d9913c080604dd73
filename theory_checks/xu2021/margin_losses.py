"""The exponential and the logistic loss in closed form, with the logarithms that do not overflow.

Written out with NumPy, so that a claim about losses is not judged by the library's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special


class MarginLoss(NamedTuple):
    """A loss l of the margin u with its derivatives, elementwise; and the v with l(-v) = value."""

    values: Callable[[np.ndarray], np.ndarray]  # l(u)
    log_values: Callable[[np.ndarray], np.ndarray]  # log l(u)
    log_slopes: Callable[[np.ndarray], np.ndarray]  # log |l'(u)|
    curvature: Callable[[np.ndarray], np.ndarray]  # l''(u)
    inverse: Callable[[float], float]


def _softplus(u: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, u)


LOSSES = {
    "exponential": MarginLoss(
        lambda u: np.exp(-u), lambda u: -u, lambda u: -u, lambda u: np.exp(-u), np.log
    ),
    "logistic": MarginLoss(
        lambda u: _softplus(-u),
        lambda u: np.where(u > 30, -u - 0.5 * np.exp(-np.abs(u)), np.log(_softplus(-u))),
        lambda u: -_softplus(u),
        lambda u: scipy.special.expit(u) * scipy.special.expit(-u),
        lambda value: value + np.log(-np.expm1(-value)),
    ),
}
