"""Tables of fixed weights, and the weights that fill them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals
from weighting.schemes.per_example import jtt_weights, known_examples_weights, per_example


def update(scheme, indices, mask=None, weights=None):
    size = len(indices)
    start = jnp.ones(size) if weights is None else jnp.asarray(weights)
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(jnp.zeros(size), indices=jnp.asarray(indices), mask=mask)
    return scheme.update(start, scheme.init(None, None), signals)[0]


def test_table_is_looked_up_and_scaled_over_the_training_set_only():
    scheme = per_example(jnp.array([2.0, 0.0, 4.0, 2.0]))  # mean 2
    np.testing.assert_allclose(update(scheme, [2, 2, 0]), [2, 2, 1])
    np.testing.assert_allclose(update(scheme, [2, 1], mask=[1, 0]), [2, 0])
    np.testing.assert_allclose(update(scheme, [2, 1, 3], weights=[0.5, 3.0, 4.0]), [1, 0, 4])
    native = per_example(np.array([2, 0, 4, 2]), normalize=False)
    np.testing.assert_allclose(update(native, [2, 0]), [4, 2])
    np.testing.assert_allclose(np.mean(update(scheme, [0, 1, 2, 3])), 1)


def test_density_ratio_table_estimates_the_mean_under_the_target():
    # Source (1/2, 1/4, 1/4), target (1/4, 1/4, 1/2).
    groups = np.array([0, 0, 1, 2])
    ratio = np.array([0.5, 1.0, 2.0])[groups]
    weights = update(per_example(jnp.asarray(ratio)), [0, 1, 2, 3])
    values = np.array([3.0, -1.0, 10.0])[groups]
    np.testing.assert_allclose(np.mean(weights * values), 0.25 * 3 - 0.25 * 1 + 0.5 * 10)


def test_tables_may_be_traced():
    tables = jnp.array([[1.0, 3.0], [1.0, 1.0]])
    weights = jax.jit(jax.vmap(lambda table: update(per_example(table), [1])))(tables)
    np.testing.assert_allclose(weights, [[1.5], [1.0]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((2, 2)), r"vector \[N\]"),
        (np.array([1.0, -2.0]), r"weights\[1\] is -2"),
        (np.array([1.0, np.nan]), r"weights\[1\] is nan"),
        (np.zeros(3), "all zero"),
    ],
)
def test_bad_tables_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        per_example(jnp.asarray(table))


def test_known_examples_by_hand():
    marked = jnp.array([1, 0, 0, 1])
    np.testing.assert_allclose(known_examples_weights(marked, 5.0), np.array([5, 1, 1, 5]) / 3)
    np.testing.assert_allclose(known_examples_weights(marked, 0.0), [0, 2, 2, 0])
    np.testing.assert_array_equal(known_examples_weights(marked, 1.0), np.ones(4))
    np.testing.assert_array_equal(known_examples_weights(jnp.ones(2), 0.0), np.zeros(2))
    with pytest.raises(ValueError, match="value must lie in"):
        known_examples_weights(marked, -1.0)


def test_jtt_is_the_risk_of_the_training_set_with_repeated_errors():
    is_error = np.array([False, True, False, False, True])
    values = np.array([1.0, 7.0, -2.0, 0.5, 4.0])
    repeated = np.concatenate([values, *[values[is_error]] * 5])  # six copies of each error
    weights = jtt_weights(jnp.asarray(is_error), 6.0)
    np.testing.assert_allclose(np.mean(weights * values), np.mean(repeated), rtol=1e-6)
    np.testing.assert_array_equal(jtt_weights(jnp.asarray(is_error), 1.0), np.ones(5))
    with pytest.raises(ValueError, match="upweight must lie in"):
        jtt_weights(jnp.asarray(is_error), 0.5)
