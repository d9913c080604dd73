"""The arithmetic that schemes share, against NumPy, SciPy and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import rankdata

from weighting import Signals, _arrays


def test_ranks_are_scipys():
    values = np.array([3.0, -1.0, 3.0, 7.0, 0.0, 3.0])
    keep = np.array([True, True, True, True, False, True])
    np.testing.assert_array_equal(_arrays.mid_ranks(values), rankdata(values) - 1)
    ranks = np.asarray(_arrays.mid_ranks(jnp.asarray(values), jnp.asarray(keep)))
    np.testing.assert_array_equal(ranks[keep], rankdata(values[keep]) - 1)
    ranks = np.asarray(_arrays.descending_rank(jnp.asarray(values), jnp.asarray(keep)))
    np.testing.assert_array_equal(ranks[keep], rankdata(-values[keep], method="ordinal") - 1)
    assert ranks[4] == 5  # behind all others


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_quantiles_are_the_smallest_value_that_covers_the_fraction(fraction):
    values, valid = np.array([5.0, 1, 4, 1, 9, -2, 7]), np.array([1.0, 1, 1, 1, 1, 0, 1])
    kept = np.sort(values[valid > 0])
    expected = next(v for v in kept if np.mean(kept <= v) >= fraction)
    assert _arrays.masked_quantile(jnp.asarray(values), jnp.asarray(valid), fraction) == expected
    assert _arrays.masked_quantile(jnp.asarray(values), jnp.zeros(7), fraction) == 0


def test_whole_counts_round_up_but_not_for_rounding():
    pairs = [(0.7, 10, 7), (0.1, 30, 3), (0.31, 10, 4), (0.0, 5, 0), (1.0, 5, 5), (1 / 3, 9, 3)]
    for fraction, count, expected in pairs:
        assert _arrays.whole_count(fraction, count) == expected


def test_tables_keep_the_last_valid_row_of_an_index():
    indices, valid = np.array([2, 0, 2, 5, 0, 2]), np.array([1.0, 1, 1, 1, 0, 0])
    rows = np.arange(12.0).reshape(6, 2)
    last = {i: k for k, i in enumerate(indices) if valid[k]}
    expected = np.isin(np.arange(6), list(last.values()))
    found = _arrays.last_occurrence(jnp.asarray(indices), jnp.asarray(valid))
    np.testing.assert_array_equal(found, expected)
    halves = _arrays.last_occurrence(jnp.asarray(indices), jnp.asarray(valid) / 2)
    np.testing.assert_array_equal(halves, expected)  # a mask of weights is a mask
    table = np.full((6, 2), -1.0)
    new = _arrays.write(jnp.asarray(table), jnp.asarray(indices), found, jnp.asarray(rows))
    for index, k in last.items():
        table[index] = rows[k]
    np.testing.assert_array_equal(new, table)


def test_moments_are_numpys(float64):
    values = np.random.default_rng(0).normal(size=9) + 100
    state = (jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
    for value in values:
        state = _arrays.running_moments(*state, value)
    np.testing.assert_allclose(state, [9, values.mean(), values.var()], rtol=1e-12)


def test_averages_are_the_usual_ones_without_their_start(float64):
    values, decay = [4.0, -2.0, 7.0, 1.0], 0.9
    state, raw = _arrays.init_average(), 0.0
    for t, value in enumerate(values, start=1):
        average, state = _arrays.update_average(state, value, decay, jnp.asarray(True))
        raw = decay * raw + (1 - decay) * value
        np.testing.assert_allclose(average, raw / (1 - decay**t), rtol=1e-12)
    same, after = _arrays.update_average(state, 1e9, decay, jnp.asarray(False))
    assert same == average
    assert after.count == 4
    last, _ = _arrays.update_average(
        _arrays.init_average((2,)), jnp.ones(2), 0.5, jnp.asarray(True)
    )
    np.testing.assert_array_equal(last, [1, 1])


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.5, 1.5), (0.2, np.inf), (0.0, 2.0)])
def test_bounded_weights_are_the_root_that_scipy_finds(float64, low, high):
    scores = np.random.default_rng(1).normal(size=12) * 2
    keep = np.arange(12) != 3

    def excess(shift):
        return np.mean(np.clip(np.exp(scores[keep] + shift), low, high)) - 1

    shift = brentq(excess, -50, 50, xtol=1e-14)
    expected = np.where(keep, np.clip(np.exp(scores + shift), low, high), 0)
    weights = _arrays.bounded_mean_one(jnp.asarray(scores), low, high, jnp.asarray(keep))
    np.testing.assert_allclose(weights, expected, rtol=1e-11)
    assert low == 0 or np.any(expected[keep] == low)  # the bound is met

    def total(scores):
        w = _arrays.bounded_mean_one(scores, low, high, jnp.asarray(keep))
        return jnp.arange(12.0) @ w

    gradient, step = jax.grad(total)(jnp.asarray(scores)), 1e-6
    for i in range(12):
        move = step * np.eye(12)[i]
        change = (total(scores + move) - total(scores - move)) / (2 * step)
        np.testing.assert_allclose(gradient[i], change, atol=1e-7)


def test_a_bounded_weight_far_beyond_the_others_has_no_derivative(float64):
    """The first stays at two; the others share two in proportion to their exponentials."""
    scores = np.array([1000.0, 0.0, 1.0, -0.5])
    others = 2 * np.append(0, np.exp(scores[1:]) / np.exp(scores[1:]).sum())
    jacobian = jax.jacobian(lambda s: _arrays.bounded_mean_one(s, 0.0, 2.0))(jnp.asarray(scores))
    expected = np.diag(others) - np.outer(others, others) / 2
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)


def test_a_square_root_has_no_infinite_slope():
    np.testing.assert_array_equal(
        jax.vmap(jax.grad(_arrays.safe_sqrt))(jnp.array([0.0, 4])), [0, 0.25]
    )
    np.testing.assert_array_equal(_arrays.safe_sqrt(jnp.array([0.0, 4.0])), [0, 2])


def test_what_is_missing_is_named():
    signals = Signals(jnp.ones(2))
    for read, name in [
        (_arrays.read_indices, "indices"),
        (_arrays.read_labels, "labels"),
        (_arrays.read_logits, "logits"),
        (_arrays.read_features, "features"),
    ]:
        with pytest.raises(ValueError, match=rf"mine.*signals\.{name}"):
            read("mine", signals)


def test_weights_are_finished_in_the_losses_type():
    signals = Signals(jnp.ones(3, jnp.bfloat16), mask=jnp.array([1.0, 1, 0]))
    weights = jnp.array([1.0, 3, 5])
    for normalize, expected in [(True, [0.5, 1.5, 0]), (False, [1, 3, 0])]:
        own = _arrays.finish(weights, signals, normalize)
        assert own.dtype == jnp.bfloat16
        np.testing.assert_array_equal(own, expected)
