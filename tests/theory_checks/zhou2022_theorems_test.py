"""Bounds and limit direction of zhou2022 at reduced size, and that the checks see wrong claims."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory_checks.common.descent import log_spaced
from theory_checks.zhou2022 import (
    corrected_bound,
    margin_pools,
    moving_weights,
    proposition6,
    theorem2,
    theorem_a1,
    trade_off,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pools():
    return margin_pools.make_pools(num_pools=5, count=50, num_halves=12, num_seeds=5, num_steps=150)


@pytest.mark.parametrize("module", [theorem2, theorem_a1])
def test_claims_hold(module):
    outcomes = module.checks("smoke")
    for check in outcomes:
        assert check.passed, check.report()
        assert check.control, check.id
    assert len({check.id for check in outcomes}) == len(outcomes)


def test_two_points_by_hand():
    # 5/18 + (5/3) / (0.1 sqrt 2 1000) + (sqrt(log log_2 40) + sqrt(log 100)) / 1000
    printed = 0.2777778 + 0.0117851 + 0.0012930 + 0.0021460
    # (II) times 4 (sqrt(4 log 2) + 1) / sqrt 2; (III) times 5, with the half of log 100
    explicit = 0.2777778 + 0.0888370 + 5 * (0.0012930 + 0.0015174)
    rows = {row.quantity: row.value for row in theorem2.counterexample(num_draws=10).rows}
    np.testing.assert_allclose(rows["printed right side"], printed, atol=2e-6)
    np.testing.assert_allclose(rows["with all constants"], explicit, atol=2e-6)


def test_terms_along_the_weights_by_hand():
    # errors 1 and 4, beta 1: mean weight 5/2, so 1 / w is 5/2 and 5/8
    errors, share = np.array([1.0, 4.0]), np.array([0.2, 0.6])
    first, moment = trade_off.printed_terms(errors, share, np.array([0.0, 1.0]))
    np.testing.assert_allclose(first, [0.4, (2.5 * 0.2 + 0.625 * 0.6) / 2], rtol=1e-14)
    np.testing.assert_allclose(moment, [1, 3.125 / 2], rtol=1e-14)


def test_random_networks_have_norm_one():
    rng = np.random.default_rng(0)
    inputs = np.array([[1.0, 0.0], [0.6, 0.8]])
    outputs = corrected_bound.random_networks(rng, inputs, 1, 2, width=1)
    # one unit: layers of norm 1 / sqrt 2 each, so f = +-relu(v x) / 2 with a unit vector v
    v = np.random.default_rng(0).normal(size=2)
    v /= np.linalg.norm(v)
    np.testing.assert_allclose(np.abs(outputs[0]), np.maximum(inputs @ v, 0) / 2, rtol=1e-13)


def test_descent_of_networks_follows_automatic_differentiation():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(5, 3)), np.array([1.0, -1, 1, 1, -1]), np.array([1.0, 0, 1, 1, 1])
    weights, rates = np.stack([w, np.ones(5)])[None], np.array([0.5, 2.0])
    run = margin_pools.descend_networks(
        np.random.default_rng(1), x[None], y[None], weights, rates, width=4, num_steps=3
    )
    start = np.random.default_rng(1)
    inner, outer = start.normal(size=(2, 3, 4)), start.normal(size=(2, 4)) / 2
    with jax.enable_x64(True):
        for network in range(2):
            params = jnp.asarray(inner[network]), jnp.asarray(outer[network])
            share = jnp.asarray(weights[0, network] / weights[0, network].sum())

            def risk(params, share=share):
                outputs = jax.nn.relu(x @ params[0]) @ params[1]
                return jnp.sum(share * jax.nn.softplus(-y * outputs))

            for _ in range(3):
                slope = jax.grad(risk)(params)
                params = tuple(p - rates[network] * g for p, g in zip(params, slope, strict=True))
            outputs = jax.nn.relu(x @ params[0]) @ params[1]
            np.testing.assert_allclose(run[0][0, network], outputs, rtol=1e-11, atol=1e-13)
            norm = jnp.sqrt(sum(jnp.sum(p**2) for p in params))
            np.testing.assert_allclose(run[1][0, network], norm, rtol=1e-13)


def test_terms_divided_by_a_thousand_fails():
    wrong = corrected_bound.corrected(num_problems=2, num_draws=50, num_networks=50, tighten=1000.0)
    assert len(wrong.failing) >= 3


def test_errors_of_other_points_fail(pools):
    rng = np.random.default_rng(0)
    shuffled = [pool._replace(errors=rng.permutation(pool.errors)) for pool in pools]
    assert proposition6.order(shuffled).failing
    easy = [pool._replace(errors=1 / pool.errors) for pool in pools]
    assert "its largest value" in trade_off.trade_off(easy).failing


def test_recomputed_weights_follow_a_plain_loop():
    sets = moving_weights.make_sets(np.random.default_rng(0), 4, 3)
    times = log_spaced(3000)  # as at smoke, so that nothing is compiled anew
    run = moving_weights.descend_arms(sets, times, 0.5)
    points = sets.points[0]
    theta, path, cost = np.zeros(3), 0.0, 0.0
    for _ in range(times[3]):
        losses = np.exp(-points @ theta)
        weights = np.clip(losses / losses.mean(), *moving_weights.BOUNDS)
        gradient = -(weights * losses) @ points / len(points)
        theta = theta - 0.5 / np.mean(weights * losses) * gradient
        path += 0.5
        cost += 0.5 * math.log(weights.sum() / weights.min())
    np.testing.assert_allclose(run.params[0, 3, 0], theta, rtol=1e-12)
    np.testing.assert_allclose(run.path[0, 3, 0], path, rtol=1e-14)
    np.testing.assert_allclose(run.cost[0, 3, 0], cost, rtol=1e-12)


def test_angles_by_hand():
    params, direction = np.array([[3.0, 3.0], [1e9, 1.0]]), np.array([1.0, 0.0])
    np.testing.assert_allclose(theorem_a1.angle(params, direction), [math.pi / 4, 1e-9], rtol=1e-14)


def test_a_tighter_bound_fails():
    options = {"num_sets": 4, "last": 3000, "losses": ("exponential",), "sizes": (3,)}
    wrong = theorem_a1.bound(num_params=50, tighten=0.01, **options)
    assert wrong.failing == ["squared component across over its bound: largest"]
