"""The checks of joint weighting and of explicit regularization, and that they can fail."""

import itertools

import numpy as np
import pytest
import scipy.optimize

from theory_checks.common import reference
from theory_checks.xu2021 import (
    joint,
    joint_training,
    regularization,
    regularization_dropout,
    regularization_linear,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("module", [joint, regularization])
def test_claims_hold(module):
    results = module.checks("smoke")
    assert len({check.id for check in results}) == len(results)
    for check in results:
        assert check.passed, check.report()
        assert check.control


def test_joint_steps_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(2, 6, 3)) / 3, rng.choice([-1.0, 1.0], (2, 6))
    rates, low = np.array([0.1, 0.3]), np.array([1.0, 0.0])
    path = joint_training.train_jointly(
        inputs, labels, np.array([1, 4]), rates, np.array([0, 1]), np.zeros(2), low, 2 * rates
    )
    for k in range(2):
        theta, kernel, bias, squares, decrease = np.zeros(3), np.zeros(3), 0.0, 0.0, 0.0
        for _ in range(4):
            share = 1 / (1 + np.exp(-inputs[k] @ kernel - bias))
            losses = np.exp(-labels[k] * (inputs[k] @ theta))
            losses = losses / losses.mean() if k else losses
            weights = low[k] + (2 - low[k]) * share
            pull = (2 - low[k]) * share * (1 - share) * losses / 6
            move = rates[k] * (weights * losses * labels[k]) @ inputs[k] / 6
            turn = -2 * rates[k] * np.append(pull @ inputs[k], pull.sum())
            total = move @ move + turn @ turn
            decrease += (1 / (rates[k] * np.mean(weights * losses)) - 0.57) * total
            theta, kernel, bias = theta + move, kernel + turn[:3], bias + turn[3]
            squares += move @ move
        np.testing.assert_allclose(path.params[k, 1], theta, rtol=1e-11)
        np.testing.assert_allclose(path.kernels[k, 1], kernel, rtol=1e-11)
        np.testing.assert_allclose(path.biases[k, 1], bias, rtol=1e-11)
        np.testing.assert_allclose(path.sum_squares[k, 1], squares, rtol=1e-11)
        np.testing.assert_allclose(path.decreases[k, 1], decrease, rtol=1e-11)


def test_curvature_of_the_joint_risk():
    """Of one example with |z| <= 1 and |(x, 1)|^2 <= 2, over its loss; s' <= 1/4, g >= 1."""
    share = np.linspace(0, 1, 100_001)
    bend = np.max(np.abs(share * (1 - share) * (1 - 2 * share)))
    np.testing.assert_allclose(bend, 1 / (6 * np.sqrt(3)), rtol=1e-8)
    block = np.array([[1, np.sqrt(2) / 4], [np.sqrt(2) / 4, 2 * bend]])
    assert 1.13 < np.linalg.norm(block, 2) <= joint_training.CURVATURE


def test_exponents_of_two_supports_by_hand():
    """Supports (3, 4) and (-3, 4): nearest point (0, 4, 1), v = (0, 4, 1) / 17."""
    inputs = np.array([[3.0, 4.0], [-3.0, 4.0], [9.0, -5.0]])
    solution = reference.MarginSolution(np.array([1.0, 0.0]), 3.0, np.array([0.5, 0.5, 0.0]))
    data = joint_training.CentredSet(inputs, np.array([1.0, -1.0, 1.0]), solution)
    exponents = joint.limit_exponents(inputs, data)
    np.testing.assert_allclose(exponents, [1, 1, -19 / 17], rtol=1e-12)


def test_dropout_minimiser_against_enumerated_masks():
    points = np.array([[1.0, -0.2], [-0.1, 0.8], [0.5, 0.3]])
    weights = np.array([1.0, 2.0, 0.5])
    assert not regularization_dropout.some_feature_separates(points)

    def risk(theta):
        terms = [
            np.exp(-2 * points @ (np.array(mask) * theta)) @ weights
            for mask in itertools.product((0, 1), repeat=2)
        ]
        return np.mean(terms)

    expected = scipy.optimize.minimize(
        risk, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}
    ).x
    found = regularization_dropout.dropout_minimiser(points, weights, 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    times = np.array([3000])
    last = regularization_dropout.descend_dropout(points[None], weights[None], times, 0.5)[0, 0]
    np.testing.assert_allclose(last, found, rtol=1e-6)


def test_criterion_of_dropout_by_hand():
    cases = {
        True: [[[1.0, -1.0], [0.0, 1.0]], [[-1.0, 2.0], [-2.0, -1.0]]],
        False: [[[1.0, -1.0], [-1.0, 2.0]], [[0.0, 1.0], [0.0, -1.0]]],
    }
    for expected, sets in cases.items():
        for points in sets:
            assert regularization_dropout.some_feature_separates(np.array(points)) is expected
            assert regularization_dropout.unbounded_direction(np.array(points)) is expected


def test_too_tight_bounds_fail():
    assert regularization_linear.penalty(num_sets=2, tighten=0.01).failing
