"""The checks of exponential tails and of the descent lemma, and that they fail where they must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_checks.xu2021 import descent_lemma, tails


@pytest.mark.parametrize("module", [descent_lemma, tails])
def test_claims_hold(module):
    for check in module.checks("smoke"):
        assert check.passed, check.report()
        assert check.control
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_another_exponent_is_not_a_tight_tail():
    failed = tails.tails(scale=1.001).failing
    assert len(failed) == 3
    assert all("(i) slope below" in quantity for quantity in failed)


def test_measurements_of_a_known_tail():
    with jax.enable_x64(True):
        tail = tails.measure(lambda u: jnp.exp(-2 * u))
    assert tail.growth == pytest.approx(80)
    assert tail.below == pytest.approx(1, abs=1e-6)  # -l' e^u = 2 e^-u is far below one
    np.testing.assert_allclose(tail.products, 2 * tails.MARGINS, rtol=1e-12)


def test_longer_steps_break_the_descent_lemma():
    wrong = descent_lemma.descent(num_problems=2, num_steps=20, factor=1.1)
    assert "the same: largest rise of the loss" in wrong.failing


def test_regret_by_hand():
    # L = theta^2 / 2, one step of 1/2 from 1 to 1/2, z = 0:
    # 2 (1/2) (1/2 - 0) = 1/2 <= 1 - 1/4 + (1/2) / (3/4) (1/2 - 1/8) = 1
    loss = descent_lemma.Objective(descent_lemma.parabola, (1.0, 0.0))
    with jax.enable_x64(True):
        run = descent_lemma.descend(loss, [1.0], [0.5], 1.0)
        excess = descent_lemma.regret_excess(run, loss, np.zeros((1, 1)))
    assert excess == pytest.approx((0.5 - 1.0) / (1 + 1 + 0.25))
