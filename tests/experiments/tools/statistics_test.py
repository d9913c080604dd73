import math

import numpy as np
import pytest
from scipy import stats

from experiments.tools.statistics import mean_interval


def test_intervals_are_those_of_scipy():
    values = [1.0, 2.5, 2.0, 4.0]
    mean, half_width = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


def test_one_value_has_a_mean_only_and_none_has_neither():
    mean, half_width = mean_interval([0.7])
    assert mean == 0.7
    assert math.isnan(half_width)
    assert np.isnan(mean_interval([])).all()
