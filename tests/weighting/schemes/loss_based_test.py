"""Small and large losses by hand, at their bounds."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.weighting.schemes.one_batch import signals, update
from weighting.schemes import loss_based


def test_small_losses_by_hand():
    batch = signals([3.0, 1.0, 9.0, 1.0, 2.0], mask=jnp.array([1, 1, 1, 1, 0]))
    native = loss_based.small_losses(0.5, normalize=False)
    np.testing.assert_array_equal(update(native, batch), [0, 1, 0, 1, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(0.5), batch), [0, 2, 0, 2, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(0.01), batch), [0, 4, 0, 0, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(1.0), batch), [1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match="keep_fraction must lie in"):
        loss_based.small_losses(0.0)


def test_small_losses_counts_in_spite_of_rounding():
    batch = signals(np.arange(1000.0))
    for tenths in range(1, 11):
        kept = update(loss_based.small_losses(tenths / 10, normalize=False), batch).sum()
        assert kept == 100 * tenths


def test_hard_mining_keeps_at_least_one():
    batch = signals([3.0, 1.0, 9.0, 10.0], labels=jnp.zeros(4, int), mask=jnp.array([1, 1, 1, 0]))
    native = loss_based.hard_mining(0, normalize=False)
    np.testing.assert_array_equal(update(native, batch), [0, 0, 1, 0])
    others = signals([3.0, 1.0, 9.0, 10.0], labels=jnp.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(update(native, others), [1, 1, 1, 1])
    one_other = signals([3.0, 1.0, 9.0, 4.0], labels=jnp.array([0, 1, 0, 0]))
    np.testing.assert_array_equal(update(native, one_other), [0, 1, 1, 0])
    masked = one_other._replace(mask=jnp.array([1, 0, 1, 1]))  # the other one is padding
    np.testing.assert_array_equal(update(native, masked), [0, 0, 1, 0])


def test_top_losses_keep_at_least_one():
    batch = signals([3.0, 1.0, 9.0, 10.0], mask=jnp.array([1, 1, 1, 0]))
    native = loss_based.top_losses(0.01, normalize=False)
    np.testing.assert_array_equal(update(native, batch), [0, 0, 1, 0])
    two_thirds = loss_based.top_losses(2 / 3)
    np.testing.assert_allclose(update(two_thirds, batch), [1.5, 0, 1.5, 0])


def test_self_paced_drops_a_loss_at_the_threshold():
    batch = signals([3.0, 1.0, 2.0, 0.5])
    np.testing.assert_array_equal(
        update(loss_based.self_paced(2.0, normalize=False), batch), [0, 1, 0, 1]
    )
