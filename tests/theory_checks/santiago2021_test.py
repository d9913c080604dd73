"""The checks of LOW's first order, regularizer and proxy, and that they fail where they must."""

import numpy as np
import pytest

from theory_checks.santiago2021 import first_order, proxy, regularizer
from weighting import low_weights


@pytest.mark.parametrize(
    "module", [first_order, regularizer, pytest.param(proxy, marks=pytest.mark.slow)]
)
def test_claims_hold(module):
    for check in module.checks("smoke"):
        assert check.passed, check.report()
        assert check.control
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_a_perturbed_first_order_fails():
    wrong = first_order.single(num_problems=2, perturb=lambda first: 1.01 * first)
    assert "|slope - 2| of the remainder, 1e-3 .. 1e-5" in wrong.failing


def test_slope_recovers_a_power():
    rates = first_order.RATES
    residuals = rates[:, None] ** 1.5 * np.array([[-5.0, 2.0]])
    assert first_order.fitted_slope(residuals) == pytest.approx(1.5)


@pytest.mark.slow
def test_perturbed_weights_and_thresholds_fail():
    wrong = regularizer.regularizer(count=3, solve=lambda norms, at: low_weights(norms, 1.01 * at))
    assert "3 programs: LOW's distance from the minimizer of G" in wrong.failing
    assert len(regularizer.threshold(count=5, factor=0.8).failing) == 2


def test_regularizer_by_hand():
    # -w.g + lambda |w - 1|^2 with w = (0, 2), g = (1, 3), lambda = 0.5
    value = regularizer.objective(np.array([0.0, 2.0]), np.array([1.0, 3.0]), 0.5)
    assert value == -6 + 0.5 * 2
