"""Small losses by hand."""

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
