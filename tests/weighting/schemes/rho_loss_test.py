"""RHO-LOSS by hand and at its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals, top_losses
from weighting.schemes.rho_loss import rho_loss

IRREDUCIBLE = np.array([0.1, 2.0, 0.5, 3.0, 0.0])


def update(scheme, values, indices, mask=None):
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(jnp.asarray(values), indices=jnp.asarray(indices), mask=mask)
    return scheme.update(signals.valid, scheme.init(None, None), signals)[0]


def test_by_hand():
    # reducible: 2.5 - 0 = 2.5, 3.1 - 3 = 0.1, 0.4 - 0.1 = 0.3, 0.5 - 2 = -1.5
    values, indices = [2.5, 3.1, 0.4, 0.5], [4, 3, 0, 1]
    np.testing.assert_allclose(update(rho_loss(IRREDUCIBLE, 0.5), values, indices), [2, 0, 2, 0])
    np.testing.assert_allclose(update(rho_loss(IRREDUCIBLE), values, indices), [4, 0, 0, 0])
    native = rho_loss(IRREDUCIBLE, 0.75, normalize=False)
    np.testing.assert_allclose(update(native, values, indices), [1, 1, 1, 0])
    padded = update(rho_loss(IRREDUCIBLE, 0.5), values, indices, mask=[0, 1, 1, 1])
    np.testing.assert_allclose(padded, [0, 1.5, 1.5, 0])  # 2 of the 3 examples
    np.testing.assert_allclose(update(rho_loss(IRREDUCIBLE, 1.0), values, indices), np.ones(4))
    empty = update(rho_loss(IRREDUCIBLE), values, indices, mask=np.zeros(4))
    np.testing.assert_array_equal(empty, np.zeros(4))


def test_equal_irreducible_losses_give_the_largest_losses():
    rng = np.random.default_rng(0)
    values, indices = rng.exponential(size=20), rng.permutation(30)[:20]
    scheme = rho_loss(np.full(30, 0.7), 0.3)
    np.testing.assert_array_equal(
        update(scheme, values, indices), update(top_losses(0.3), values, indices)
    )


def test_against_a_sort_in_numpy():
    rng = np.random.default_rng(1)
    table, values, indices = rng.normal(size=50), rng.normal(size=32), rng.permutation(50)[:32]
    order = np.argsort(table[indices] - values)
    expected = np.zeros(32)
    expected[order[:10]] = 3.2  # ceil(0.3 * 32)
    np.testing.assert_allclose(update(rho_loss(table, 0.3), values, indices), expected, rtol=1e-6)


def test_the_table_may_be_traced_and_bad_ones_are_refused():
    tables = jnp.stack([jnp.zeros(2), jnp.array([5.0, 0.0])])
    weights = jax.jit(jax.vmap(lambda t: update(rho_loss(t, 0.5), [2.0, 1.0], [0, 1])))(tables)
    np.testing.assert_allclose(weights, [[2, 0], [0, 2]])
    with pytest.raises(ValueError, match=r"vector \[N\]"):
        rho_loss(np.ones((2, 2)))
    with pytest.raises(ValueError, match="entry 1 is not"):
        rho_loss(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="fraction must lie in"):
        rho_loss(IRREDUCIBLE, 0.0)
    scheme = rho_loss(IRREDUCIBLE)
    with pytest.raises(ValueError, match=r"reads `signals.indices`"):
        scheme.update(jnp.ones(2), scheme.init(None, None), Signals(jnp.ones(2)))
