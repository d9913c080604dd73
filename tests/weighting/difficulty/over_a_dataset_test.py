"""Measures over a whole training set: the order, the mean over networks, bad input."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from tests.weighting.difficulty.networks import LABELS, N, rng, small_net, stacked_nets
from weighting import losses
from weighting.difficulty import over_a_dataset


def test_score_dataset_keeps_the_order_and_traces_once():
    traces = []

    def score(params, batch):
        traces.append(batch["x"].shape)
        return params * jnp.sum(batch["x"], axis=1) + batch["y"]

    x, y = rng().normal(size=(10, 3)).astype(np.float32), np.arange(10.0, dtype=np.float32)
    for batch_size in (4, 10, 64):
        traces.clear()
        for factor in (2.0, -1.0):
            got = over_a_dataset.score_dataset(
                score, factor, {"x": x, "y": y}, batch_size=batch_size
            )
            np.testing.assert_allclose(got, factor * x.sum(1) + y, rtol=1e-5, atol=1e-5)
        assert traces == [(min(batch_size, 10), 3)]


def test_score_networks_is_the_mean_of_each_network():
    nets, x = stacked_nets(3), jnp.asarray(rng().normal(size=(N, 4)), jnp.float32)
    labels = jnp.asarray(LABELS)

    sizes = set()

    def loss(params, batch):
        sizes.add(batch[0].shape[0])
        return losses.cross_entropy(small_net(params, batch[0]), batch[1])

    each = np.stack(
        [
            scipy.special.logsumexp(z, axis=1) - z[np.arange(N), LABELS]
            for z in (
                np.tanh(np.asarray(x) @ w1) @ w2
                for w1, w2 in zip(nets["hidden"], nets["out"], strict=True)
            )
        ]
    )
    np.testing.assert_allclose(
        over_a_dataset.score_each_network(loss, nets, (x, labels), batch_size=3), each, rtol=1e-4
    )
    got = over_a_dataset.score_networks(loss, nets, (x, labels), batch_size=3)
    np.testing.assert_allclose(got.mean, each.mean(0), rtol=1e-4)
    np.testing.assert_allclose(got.standard_error, scipy.stats.sem(each), rtol=1e-4)
    assert sizes == {3}


def identity(params, batch):
    return batch


def test_a_single_example_has_a_score():
    np.testing.assert_array_equal(over_a_dataset.score_dataset(identity, None, jnp.ones(1)), [1])


def test_dataset_scores_refuse_bad_input():
    with pytest.raises(ValueError, match="leading axis"):
        over_a_dataset.score_dataset(identity, None, jnp.zeros((0, 2)))
    with pytest.raises(ValueError, match="leading axis"):
        over_a_dataset.score_dataset(identity, None, (jnp.zeros(3), jnp.zeros(())))
    with pytest.raises(ValueError, match="leading axis"):
        over_a_dataset.score_dataset(identity, None, (jnp.zeros(3), jnp.zeros(4)))
    with pytest.raises(ValueError, match="one row per example"):
        over_a_dataset.score_dataset(lambda p, x: jnp.sum(x), None, jnp.zeros(3))
    with pytest.raises(ValueError, match="batch_size"):
        over_a_dataset.score_dataset(identity, None, jnp.zeros(3), batch_size=0)
