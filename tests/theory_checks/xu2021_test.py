"""The checks of xu2021 at reduced size, and that they fail when what they check is wrong."""

from typing import NamedTuple

import numpy as np
import pytest

from theory_checks.common import columns, descent, reference
from theory_checks.xu2021 import claim1, dual, lemmas, networks, proposition1, proposition3


@pytest.mark.parametrize(
    "module",
    [
        claim1,
        dual,
        lemmas,
        networks,
        pytest.param(proposition1, marks=pytest.mark.slow),
        proposition3,
    ],
)
def test_claims_hold(module):
    results = module.checks("smoke")
    assert len({check.id for check in results}) == len(results)
    for check in results:
        assert check.passed, check.report()
        assert check.control


def test_dual_of_two_points_by_hand():
    direction, margin, dual = reference.solve_max_margin(np.array([[3.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_allclose(margin, 2.4, rtol=1e-12)
    np.testing.assert_allclose(direction, [0.8, 0.6], rtol=1e-12)
    np.testing.assert_allclose(dual, [0.64, 0.36], rtol=1e-12)


def test_descent_takes_the_steps_of_a_plain_loop():
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(2, 6, 3)) / 3, rng.uniform(0.5, 2, (2, 6))
    path = descent.descend(
        points, weights, 0.3, np.array([1, 5]), loss="logistic", regularization=0.1
    )
    for problem in range(2):
        theta, total = np.zeros(3), 0.0
        for _ in range(5):
            slopes = -1 / (1 + np.exp(points[problem] @ theta))
            gradient = (weights[problem] * slopes) @ points[problem] / 6 + 0.2 * theta
            theta, total = theta - 0.3 * gradient, total + np.linalg.norm(gradient)
        np.testing.assert_allclose(path.params[problem, 1], theta, rtol=1e-12)
        np.testing.assert_allclose(path.sum_norms[problem, 1], total, rtol=1e-12)


def test_regularized_path_is_stationary():
    points = reference.separable_points(np.random.default_rng(0), 10, 2)
    shares = np.full(10, 0.1)
    for power in (2.0, 3.0):
        theta = reference.regularized_path(points, shares, np.array([1e-1, 1e-4]), power)[-1]
        slope = 1e-4 * power * np.linalg.norm(theta) ** (power - 2) * theta
        np.testing.assert_allclose((shares * np.exp(-points @ theta)) @ points, slope, rtol=1e-6)


def test_a_perturbed_margin_fails():
    wrong = dual.duality(num_sets=4, scale=1 + 1e-8)
    assert len(wrong.failing) == 3
    assert dual.conjugate(count=20, offset=-1e-9).failing


def test_too_tight_bounds_fail():
    wrong = proposition1.explicit(num_sets=3, num_params=10, last=100, sizes=(3,), tighten=0.01)
    assert wrong.failing == [wrong.rows[2].quantity]
    wrong = proposition3.asymptotic(num_sets=1, tighten=0.1)
    assert wrong.failing == [wrong.rows[1].quantity]
    assert networks.complexity(num_sets=2, count=6, tighten=0.3).failing


def test_inputs_outside_the_unit_ball_fail():
    wrong = lemmas.one_step_decrease(num_sets=2, num_steps=30, radius=5.0)
    assert "one step, relative" in wrong.failing
    assert claim1.path(num_sets=1, overstate=1.5).failing


class Pair(NamedTuple):
    number: columns.Number
    values: np.ndarray


def test_records_become_a_record_of_arrays():
    pairs = Pair(1.5, np.array([1, 2])), Pair(2.5, np.array([3, 4]))
    both = columns.stack(iter(pairs))
    assert type(both) is Pair
    np.testing.assert_array_equal(both.number, [1.5, 2.5])
    np.testing.assert_array_equal(both.values, [[1, 2], [3, 4]])
    twice = columns.concatenate([both, both])
    np.testing.assert_array_equal(twice.number, [1.5, 2.5, 1.5, 2.5])
    np.testing.assert_array_equal(twice.values, [[1, 2], [3, 4], [1, 2], [3, 4]])
