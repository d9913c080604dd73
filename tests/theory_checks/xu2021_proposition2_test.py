"""Prop. 2 of xu2021 at reduced size: hand arithmetic, plain loops, and that wrong claims fail."""

import dataclasses

import numpy as np
import pytest

from theory_checks.common.descent import descend
from theory_checks.xu2021 import (
    proposition2,
    proposition2_part,
    proposition2_problem,
    proposition2_solution,
)
from theory_checks.xu2021.margin_losses import LOSSES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results():
    return {check.id: check for check in proposition2.checks("smoke")}


def test_claims_hold_and_controls_fail(results):
    assert list(results) == [
        "X-P2 separable part",
        "X-P2 solution",
        "X-P2 risk",
        "X-P2 rate",
    ]
    for check in results.values():
        assert check.passed, check.report()
        assert check.control
        assert all(type(row.value) is float for row in (*check.rows, *check.control))


def test_every_control_of_the_part_and_the_solution_fails(results):
    for name in ("X-P2 separable part", "X-P2 solution"):
        assert all(row.margin < 0 for row in results[name].control)


def test_the_control_is_what_fails(results):
    for check in results.values():
        swapped = dataclasses.replace(check, rows=check.control, control=())
        assert not swapped.passed


def three_points(gamma):
    """Inputs (gamma, 1/2), separable, and (0, 1/2) with either label: shares 1/2, 1/4, 1/4."""
    inputs = np.array([[gamma, 0.5, 0], [0, 0.5, 0], [0, 0.5, 0]])
    data = proposition2_problem.OverlappingSet(
        inputs, np.array([1.0, 1, -1]), np.array([True, False, False])
    )
    return proposition2_problem.overlapping_problem(data, np.array([1.5, 0.75, 0.75]))


def test_a_case_by_hand():
    case = three_points(0.1)
    np.testing.assert_array_equal(case.part.is_separable, [True, False, False])
    np.testing.assert_allclose(case.theta, 0, atol=1e-13)
    np.testing.assert_allclose(case.direction, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(case.margin, 0.1, rtol=1e-12)
    np.testing.assert_allclose(case.curvature, 0.5 * 0.5**2, rtol=1e-12)
    np.testing.assert_allclose(proposition2_problem.tail(case), 0.5, rtol=1e-12)
    # H^-1 / gamma^2 times the dual's mean second coordinate
    expected = [0, 8 * 0.5 / 0.1**2, 0]
    np.testing.assert_allclose(proposition2.limit_on_span(case), expected, rtol=1e-10, atol=1e-9)
    # exp(-gamma a) / 2 = 1 / gamma^2 t, at a = log t / gamma + rho
    rho = np.log(0.5 * 0.1**2) / 0.1
    np.testing.assert_allclose(proposition2.limit(case), [rho, 0, 0], rtol=1e-10, atol=1e-9)
    bound = proposition2_problem.risk_bound(case, np.array([np.e]), 0.25)
    np.testing.assert_allclose(bound, (0.5 + 100 / (2 * 0.25)) / np.e, rtol=1e-12)


def root(function, high):
    """By bisection on [0, high]."""
    low = 0.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


def test_the_limits_hold_far_along_the_curve_of_best_responses():
    """At a steps' sum t the gradient's part across S is 1 / (gamma t); solve both by bisection."""
    gamma, time = 0.3, 1e9
    case = three_points(gamma)

    def solve_second(first):  # given the first coordinate, the second balances the rest's pull
        pull = 0.5 * np.exp(-gamma * first)
        return root(lambda b: 0.5 * pull * np.exp(-0.5 * b) - 0.25 * np.sinh(0.5 * b), 5)

    def excess(first):
        pull = 0.5 * np.exp(-gamma * first - 0.5 * solve_second(first))
        return gamma * pull - 1 / (gamma * time)

    first = root(excess, 200)
    second = solve_second(first)
    np.testing.assert_allclose(time * second, proposition2.limit_on_span(case)[1], rtol=1e-5)
    expected = np.log(time) / gamma + proposition2.limit(case)[0]
    np.testing.assert_allclose(first, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_excess_risk_is_the_difference_of_risks(loss):
    rng = np.random.default_rng(0)
    for shape in proposition2_problem.SHAPES:
        data = proposition2_problem.overlapping_set(rng, shape)
        case = proposition2_problem.overlapping_problem(
            data, proposition2_problem.class_weight_arms(rng, data.labels)["random"], loss
        )
        inside = case.part.span_basis @ rng.normal(size=shape[0])
        rest = ~data.is_separable

        def risk(theta, case=case, rest=rest):
            return case.weights[rest] @ LOSSES[loss].values(case.points[rest] @ theta) / 20

        gap = proposition2_problem.rest_gap(case, inside[None], loss)[0]
        np.testing.assert_allclose(gap, risk(inside) - risk(case.theta), rtol=1e-9)
        directions = case.part.span_basis @ rng.normal(size=(shape[0], 200))
        directions /= np.linalg.norm(directions, axis=0)
        step = 1e-4  # the second difference is off by step^2 / 12 and by 1e-16 / step^2
        curvatures = [
            (risk(case.theta + step * v) - 2 * risk(case.theta) + risk(case.theta - step * v))
            / step**2
            for v in directions.T
        ]
        assert min(curvatures) > case.curvature - 1e-6
        np.testing.assert_allclose(min(curvatures), case.curvature, rtol=1e-2)


def test_enumeration_of_sign_patterns_by_hand():
    # (1, 0) and (-1, 0) hold each other; (0, 1) is free, and (1, 1) with it
    points = np.array([[1, 0], [-1, 0], [0, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(proposition2_part.enumerated_part(points), [0, 0, 1, 1, 0])
    members, total = proposition2_part.one_program_each(points.astype(float))
    np.testing.assert_array_equal(members, [0, 0, 1, 1, 0])
    assert total[1] > 0
    np.testing.assert_allclose(total[0], 0, atol=1e-12)
    # three lines cut the plane into six sectors and six rays
    patterns = np.sign(proposition2_part.all_directions(points) @ points.T)
    assert len(np.unique(patterns, axis=0)) == 12


def test_sign_patterns_are_complete():
    rng = np.random.default_rng(1)
    for _ in range(20):
        points = proposition2_part.small_integers(rng, 2)
        found = {tuple(row) for row in np.sign(proposition2_part.all_directions(points) @ points.T)}
        sampled = np.sign(rng.normal(size=(2000, 2)) @ points.T)
        assert {tuple(row) for row in sampled} <= found


def test_depth_by_a_fine_grid():
    rng = np.random.default_rng(2)
    angles = np.linspace(0, 2 * np.pi, 20_001)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(5):
        points = rng.normal(size=(6, 2))
        points = np.vstack([points, -points.sum(axis=0)])
        grid = np.min(np.max(-circle @ points.T, axis=1))
        # the grid misses by at most half its spacing times the largest point
        assert grid - 1e-3 < proposition2_solution.depth(points) <= grid + 1e-12
    assert proposition2_solution.depth(np.array([[0.4], [-0.7], [0.2]])) == 0.4


def test_the_margin_to_the_first_power_fails_by_a_plain_loop():
    """1 / gamma = 30: t distance beats C + log^2 t / gamma, and stays below it with gamma^2."""
    gamma, points = 1 / 30, np.array([[1 / 30, 0.5], [0, 0.5], [0, -0.5]])
    shares, theta = np.array([0.5, 0.25, 0.25]), np.zeros(2)
    for step in range(1, 2001):
        theta = theta + (shares * np.exp(-points @ theta)) @ points
        if step == 1000:
            ratio = step * theta[1] / (0.5 + np.log(step) ** 2 / gamma**2)
            assert ratio < 0.1
    path = descend(
        proposition2.narrow_set(gamma).points[None], np.ones((1, 20)), 1.0, np.array([2000, 30_000])
    )
    np.testing.assert_allclose(path.params[0, 0, :2], theta, rtol=1e-10)
    apart = 30_000 * path.params[0, 1, 1]
    assert apart > 0.5 + np.log(30_000) ** 2 / gamma
    assert apart < 0.1 * (0.5 + np.log(30_000) ** 2 / gamma**2)
