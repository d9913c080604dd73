"""Derivatives of formulas by central differences in decimal arithmetic, right to a double.

Formulas take and return NumPy arrays of `Decimal`, of dtype object. With a step of 1e-40 a central
difference is off by about 1e-80 of the argument's size, squared, and by the 160th digit over the
step; what is left after rounding to a double is the right double. Differences of differences, and
of those, work as well. Nothing here knows the closed form of any gradient.
"""

from decimal import Decimal

import numpy as np

PRECISION = 160
STEP = Decimal("1e-40")


def exact(values):
    """Numbers, or nested lists of them, as decimals that equal the doubles exactly."""
    array = np.asarray(values, dtype=float)
    return np.vectorize(Decimal, otypes=[object])(array) if array.ndim else Decimal(float(array))


def jacobian(formula, point):
    """The derivative of a formula by its argument, of the value's shape times the argument's."""
    point = np.asarray(point, dtype=object)
    columns = []
    for position in np.ndindex(point.shape):
        ends = []
        for step in (STEP, -STEP):
            moved = point.copy()
            moved[position] += step
            ends.append(np.asarray(formula(moved if point.ndim else moved[()]), dtype=object))
        columns.append((ends[0] - ends[1]) / (2 * STEP))
    table = np.array(columns, dtype=object)
    return np.moveaxis(table, 0, -1).reshape(table.shape[1:] + point.shape)


exp = np.frompyfunc(Decimal.exp, 1, 1)
log = np.frompyfunc(Decimal.ln, 1, 1)
root = np.frompyfunc(Decimal.sqrt, 1, 1)


def softmax(scores):
    """Probabilities along the last axis."""
    factors = exp(scores)
    return factors / factors.sum(axis=-1, keepdims=True)
