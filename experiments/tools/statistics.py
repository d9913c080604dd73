"""Means over seeds, and how sure they are."""

import numpy as np


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
