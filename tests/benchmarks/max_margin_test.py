"""The comparison of `max_margin` with SVC."""

import math

import numpy as np

from benchmarks.max_margin import compare_with_svc, two_clouds


def test_two_points_are_compared():
    inputs, labels = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([1, -1])
    row = compare_with_svc(inputs, labels, num_rounds=1)
    assert row.status == "certified"
    assert row.num_support == 2
    assert max(row.gap, abs(row.svc_gap), row.angle) < 1e-7
    assert row.ratio == row.seconds / row.svc_seconds


def test_what_is_not_separable_is_not_given_to_svc():
    inputs, labels = two_clouds(20, 2)
    labels[0] = -labels[0]
    row = compare_with_svc(inputs, labels)
    assert row.status == "not separable"
    assert math.isnan(row.svc_seconds)
