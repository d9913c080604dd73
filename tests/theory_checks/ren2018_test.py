"""The checks of lookahead's descent and rate, and that they fail where they must."""

import numpy as np
import pytest

from theory_checks.ren2018 import lemma1, theorem2


@pytest.mark.parametrize("module", [lemma1, theorem2])
def test_claims_hold(module):
    for check in module.checks("smoke"):
        assert check.passed, check.report()
        assert check.control
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_longer_steps_break_the_descent():
    check = lemma1.descent(num_problems=60, num_seeds=1, num_steps=50, step_factor=4.0)
    failed = check.failing
    assert "Huber, 300 random steps: rise of G" in failed
    assert "logistic: G beyond its bound (Cauchy-Schwarz)" not in failed  # a loose bound
    assert "Huber: G beyond its bound (Cauchy-Schwarz)" not in failed  # true of any step


def test_counterexample_by_hand():
    # theta = 1 has gradient 1; a step of 10 leads to -9, where the Huber loss is 9 - 1/2
    assert lemma1.identical_examples(10.0) == pytest.approx((0.5, 8.5))
    # and one of 2 to -1, where it is 1/2 again
    assert lemma1.identical_examples(2.0) == pytest.approx((0.5, 0.5))
    assert lemma1.identical_examples(2.4)[1] == pytest.approx(0.9)


def test_shorter_steps_than_claimed_break_the_rate():
    check = theorem2.rate(num_runs=2, num_steps=300, step_factor=1e-5)
    failed = check.failing
    assert "n = 24 of 24, alpha = 4: the same, bound / sqrt(M)" in failed
    assert "n = 24 of 24, alpha = 4: decay exponent + 4 s.e." in failed


def test_slope_recovers_a_power():
    times = np.arange(1, 2001)
    fitted, error = theorem2.slope(3 * times**-0.7, 10)
    assert fitted == pytest.approx(-0.7, abs=1e-12)
    assert error < 1e-10
