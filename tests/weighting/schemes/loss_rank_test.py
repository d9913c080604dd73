"""Ranks of the latest losses: by hand, and among the examples seen."""

import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals
from weighting.schemes.loss_rank import loss_rank, loss_rank_probabilities


def test_loss_rank_probabilities_by_hand():
    ratio = 8 ** (1 / 4)
    expected = np.array([ratio**0, ratio**3, ratio**1, ratio**2])
    probabilities = loss_rank_probabilities(jnp.array([0.1, jnp.inf, 0.2, 3.0]), 8.0)
    np.testing.assert_allclose(probabilities, expected / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(loss_rank_probabilities(jnp.arange(5.0), 1.0), np.full(5, 0.2))
    tied = loss_rank_probabilities(jnp.array([1.0, 1.0, 0.0]), 27.0)  # ranks 1/2, 1/2, 2
    np.testing.assert_allclose(tied[0], tied[1])
    np.testing.assert_allclose(tied[0] / tied[2], 27 ** (1.5 / 3), rtol=1e-5)
    masked = loss_rank_probabilities(
        jnp.array([5.0, 0.1, jnp.inf, 7.0]), 9.0, mask=jnp.array([1, 1, 0, 0])
    )
    np.testing.assert_allclose(masked, [0.75, 0.25, 0, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="pressure must lie in"):
        loss_rank_probabilities(jnp.ones(2), 0.5)


def test_loss_rank_ranks_among_those_seen():
    scheme = loss_rank(6, 16.0, normalize=False)
    state = scheme.init(None, None)

    def update(state, losses, indices):
        signals = Signals(jnp.array(losses), indices=jnp.array(indices))
        return scheme.update(jnp.ones(len(losses)), state, signals)

    weights, state = update(state, [2.0, 1.0], [0, 3])  # ratio 16 ** (1/2), sum 2
    np.testing.assert_allclose(weights, [1.6, 0.4], rtol=1e-6)
    weights, state = update(state, [0.5, 9.0], [0, 5])  # losses 0.5, 1, 9 of examples 0, 3, 5
    by_rank = 16 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(weights, 3 * by_rank[[2, 0]] / by_rank.sum(), rtol=1e-5)
    np.testing.assert_array_equal(state.seen, [True, False, False, True, False, True])
