"""Means over seeds, and how sure they are."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t


def finite_mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0).sum(axis=axis, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def standard_error(values: np.ndarray, axis: int) -> np.ndarray:
    """Standard error of the mean of what is finite; NaN for fewer than two values."""
    count = np.isfinite(values).sum(axis=axis)
    squares = (values - np.expand_dims(finite_mean(values, axis), axis)) ** 2
    variance = finite_mean(squares, axis) * count / np.maximum(count - 1, 1)
    return np.where(count > 1, np.sqrt(variance / np.maximum(count, 1)), np.nan)


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    r"""Mean of independent values [n] and the half width of its 95 % interval, by Student's t.

    .. math:: \bar x \pm t_{0.975, n - 1} \, s / \sqrt{n}, \qquad
        s^2 = \tfrac{1}{n - 1} \sum_i (x_i - \bar x)^2

    The half width is NaN for fewer than two values, the mean for none.
    """
    values = np.asarray(values, float)
    count = len(values)
    if count < 2:
        return (float(values[0]) if count else math.nan), math.nan
    error = values.std(ddof=1) / math.sqrt(count)
    return float(values.mean()), float(student_t.ppf(0.975, count - 1) * error)
