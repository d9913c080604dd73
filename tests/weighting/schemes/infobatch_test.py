"""Dynamic pruning: unbiased by Monte Carlo, its draws, and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals
from weighting.schemes.infobatch import infobatch


def pruning_state(scheme, key):
    """Examples 0..5 seen with losses 1..6, mean 3.5; example 6 not seen."""
    state = scheme.init(key, None)
    first = Signals(jnp.arange(1.0, 7.0), indices=jnp.arange(6))
    return scheme.update(jnp.ones(6), state, first)[1]


def test_infobatch_is_unbiased():
    num_draws, prune = 4000, 0.6
    scheme = infobatch(7, 1000, prune=prune)
    signals = Signals(jnp.ones(7), indices=jnp.arange(7))

    @jax.jit
    def draw(key):
        return scheme.update(jnp.ones(7), pruning_state(scheme, key), signals)[0]

    weights = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(1), num_draws)))
    np.testing.assert_array_equal(weights[:, 3:], 1)  # 4, 5, 6 are above the mean, 7 is new
    assert set(np.unique(weights[:, :3])) == {np.float32(0), np.float32(1 / (1 - prune))}
    # the mean gradient, for arbitrary per-example gradients
    gradients = np.random.default_rng(0).normal(size=(7, 5))
    estimates = weights @ gradients / 7
    error = estimates.std(axis=0) / np.sqrt(num_draws)
    assert np.all(np.abs(estimates.mean(axis=0) - gradients.mean(axis=0)) < 4 * error)
    # drops are independent between examples
    correlations = np.corrcoef(weights[:, :3], rowvar=False)
    assert np.all(np.abs(correlations[np.triu_indices(3, 1)]) < 4 / np.sqrt(num_draws))


def test_infobatch_draws_differ_between_steps_and_repeat_on_resume():
    scheme = infobatch(7, 1000)
    update = jax.jit(scheme.update)
    state = pruning_state(scheme, jax.random.key(2))
    signals = Signals(jnp.arange(1.0, 8.0), indices=jnp.arange(7))
    rows = []
    for _ in range(8):
        weights, state = update(jnp.ones(7), state, signals)
        rows.append(np.asarray(weights))
        if len(rows) == 4:
            saved = state
    assert len({tuple(row) for row in rows}) > 1
    for row in rows[4:]:
        weights, saved = update(jnp.ones(7), saved, signals)
        np.testing.assert_array_equal(weights, row)


def test_infobatch_keeps_the_loss_of_the_dropped_and_stops_pruning():
    scheme = infobatch(7, 10, prune=0.9, anneal=0.3)
    update = jax.jit(scheme.update)
    state = pruning_state(scheme, jax.random.key(4))
    for step in range(1, 10):
        before = np.asarray(state.losses)
        signals = Signals(jnp.arange(1.0, 8.0) + 0.01 * step, indices=jnp.arange(7))
        weights, state = update(jnp.ones(7), state, signals)
        dropped = np.asarray(weights) == 0
        np.testing.assert_array_equal(state.losses[dropped], before[dropped])
        np.testing.assert_array_equal(state.losses[~dropped], signals.losses[~dropped])
        if step < 7:
            assert dropped.any()
        else:  # the last three of ten steps
            np.testing.assert_array_equal(weights, np.ones(7))


def test_infobatch_limits():
    signals = Signals(jnp.ones(6), indices=jnp.arange(6))
    for scheme in (infobatch(7, 100, prune=0.0), infobatch(7, 100, anneal=1.0)):
        state = pruning_state(scheme, jax.random.key(0))
        weights, _ = scheme.update(jnp.ones(6), state, signals)
        np.testing.assert_array_equal(weights, np.ones(6))
    with pytest.raises(ValueError, match=r"prune must lie in \[0, 1\)"):
        infobatch(7, 100, prune=1.0)
    with pytest.raises(ValueError, match="num_steps must be positive"):
        infobatch(7, 0)
    with pytest.raises(ValueError, match=r"infobatch\(\) reads `signals.indices`"):
        infobatch(7, 10).update(
            jnp.ones(1), pruning_state(infobatch(7, 10), jax.random.key(0)), Signals(jnp.ones(1))
        )
