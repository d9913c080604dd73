"""Difficulty measures of one network: by hand, against vmapped gradients and scikit-learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.neighbors import KNeighborsClassifier

from tests.weighting.difficulty.networks import LABELS, C, N, network_logits, rng
from weighting import losses
from weighting.difficulty import one_network
from weighting.difficulty import several_networks as ensemble


def test_error_probability_by_hand_and_its_precision(float64):
    logits = jnp.array([[math.log(2), 0.0, 0.0], [0.0, math.log(6), 0.0], [40.0, 0.0, -50.0]])
    np.testing.assert_allclose(
        one_network.error_probability(logits, jnp.array([0, 0, 0])),
        [1 / 2, 7 / 8, math.exp(-40)],
        rtol=1e-12,
    )
    for bad in (logits[:2], jnp.zeros((3, 1, 3))):
        with pytest.raises(ValueError, match="expected logits"):
            one_network.error_probability(bad, jnp.array([0, 0, 0]))
    score = jnp.array([math.log(3), -math.log(3)])
    np.testing.assert_allclose(
        one_network.error_probability(score, jnp.array([1, 1])), [1 / 4, 3 / 4], rtol=1e-14
    )


def test_negative_margin_by_hand():
    logits = jnp.array([[2.0, -1.0, 0.5], [2.0, -1.0, 0.5], [1.0, 1.0, -3.0]])
    labels = jnp.array([0, 1, 1])
    np.testing.assert_array_equal(one_network.negative_margin(logits, labels), [-1.5, 3.0, 0.0])
    scores = jnp.array([1.5, -0.5])
    for shaped in (scores, scores[:, None]):
        np.testing.assert_array_equal(
            one_network.negative_margin(shaped, jnp.array([1, 1])), [-1.5, 0.5]
        )
    with pytest.raises(ValueError, match="margins need logits"):
        one_network.negative_margin(logits, labels[:2])


def test_gradient_norms_against_closed_forms_and_vmap(float64):
    z = jnp.asarray(network_logits()[0])
    p = scipy.special.softmax(np.asarray(z), axis=1)
    error = p - np.eye(C)[LABELS]
    expected = [math.sqrt(sum(e * e for e in row)) for row in error]
    got = one_network.logit_gradient_norm(losses.cross_entropy, z, jnp.asarray(LABELS))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(
        ensemble.el2n(z[None], jnp.asarray(LABELS)), expected, rtol=1e-12
    )  # the same thing, for one network

    features = jnp.asarray(rng().normal(size=(N, 4)))
    outer = [np.outer(h, g) for h, g in zip(features, error, strict=True)]
    for bias in (True, False):
        flat = [np.append(o.ravel(), g if bias else []) for o, g in zip(outer, error, strict=True)]
        np.testing.assert_allclose(
            one_network.last_layer_gradient_norm(
                losses.cross_entropy, z, jnp.asarray(LABELS), features, bias=bias
            ),
            [np.linalg.norm(row) for row in flat],
            rtol=1e-12,
        )


def test_a_norm_of_zero_has_gradient_zero():
    logits = jnp.array([[200.0, 0.0], [1.0, 0.0]])

    def total(z):
        return jnp.sum(one_network.logit_gradient_norm(losses.cross_entropy, z, jnp.zeros(2, int)))

    gradient = jax.grad(total)(logits)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[0], 0)


def test_class_rarity():
    np.testing.assert_allclose(
        one_network.class_rarity(jnp.array([0, 1, 1, 2]), np.array([10, 4, 1])),
        [0.1, 0.25, 0.25, 1.0],
        rtol=1e-7,
    )
    with pytest.raises(ValueError, match="vector"):
        one_network.class_rarity(jnp.array([0]), np.ones((2, 1)))


def test_standardize_within_class_is_the_z_score_of_each_class(float64):
    values = rng().normal(size=N) * 3 + 7
    got = one_network.standardize_within_class(jnp.asarray(values), jnp.asarray(LABELS), 4)
    for c in range(C):
        np.testing.assert_allclose(
            np.asarray(got)[c == LABELS], scipy.stats.zscore(values[c == LABELS]), rtol=1e-10
        )
    labels = jnp.array([0, 0, 2])
    with jax.debug_nans(True):  # a class of one, and one of none
        single = one_network.standardize_within_class(jnp.array([3.0, 5.0, 2.0]), labels, 4)
    np.testing.assert_allclose(single, [-1, 1, 0], rtol=1e-12)
    # the sum of seven equal numbers over seven is not always the number
    equal, classes = np.repeat(rng().normal(size=20), 7), np.repeat(np.arange(20), 7)
    np.testing.assert_array_equal(
        one_network.standardize_within_class(jnp.asarray(equal), classes, 20), 0
    )


def reference_depth(support, support_labels, queries, predictions, k, own=None):
    """Walks back from the last layer, with scikit-learn's neighbours."""
    depths = []
    for i, prediction in enumerate(predictions):
        keep = np.ones(len(support_labels), bool)
        if own is not None:
            keep[own[i]] = False
        depth = len(support)
        for layer in reversed(range(len(support))):
            train = support[layer].reshape(len(keep), -1)[keep]
            knn = KNeighborsClassifier(k).fit(train, support_labels[keep])
            if knn.predict(queries[layer][i].reshape(1, -1))[0] != prediction:
                break
            depth = layer
        depths.append(depth)
    return depths


@pytest.mark.parametrize("num_neighbors", [1, 4])
def test_prediction_depth_against_scikit_learn(float64, num_neighbors):
    g = rng()
    m, q = 25, 18
    support_labels = g.integers(C, size=m)
    predictions = g.integers(C, size=q)
    shapes, signals = [(2, 2), (3,), (5,)], [0.3, 0.7, 1.0]
    support, queries = (
        [
            g.normal(size=(len(labels), *shape)) + signal * labels.reshape(-1, *[1] * len(shape))
            for shape, signal in zip(shapes, signals, strict=True)
        ]
        for labels in (support_labels, predictions)
    )
    got = one_network.prediction_depth(
        support, support_labels, queries, predictions, C, num_neighbors=num_neighbors, chunk_size=5
    )
    expected = reference_depth(support, support_labels, queries, predictions, num_neighbors)
    assert set(expected) == {0, 1, 2, 3}  # every depth occurs
    np.testing.assert_array_equal(got, expected)

    own = np.arange(m)
    got = one_network.prediction_depth(
        support,
        support_labels,
        support,
        support_labels,
        C,
        num_neighbors=num_neighbors,
        own_index=own,
    )
    expected = reference_depth(support, support_labels, support, support_labels, num_neighbors, own)
    np.testing.assert_array_equal(got, expected)


def test_prediction_depth_refuses_bad_input():
    layer, labels = jnp.zeros((4, 2)), jnp.zeros(4, int)
    with pytest.raises(ValueError, match="same layers"):
        one_network.prediction_depth([layer], labels, [layer, layer], labels, 2, num_neighbors=1)
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        one_network.prediction_depth(
            [layer], labels, [layer], labels, 2, num_neighbors=4, own_index=jnp.arange(4)
        )
    everyone = one_network.prediction_depth([layer], labels, [layer], labels, 2, num_neighbors=4)
    np.testing.assert_array_equal(everyone, 0)
