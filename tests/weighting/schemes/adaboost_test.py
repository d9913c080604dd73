"""AdaBoost's rounds: by hand, scikit-learn, and their limits."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_gaussian_quantiles
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier

from weighting.schemes.adaboost import adaboost_weights


def test_adaboost_round_by_hand_in_the_form_of_the_margins():
    weights = np.array([1.0, 2.0, 1.0, 4.0])
    labels, predictions = np.array([1, 1, -1, -1]), np.array([1, -1, -1, -1])
    half_vote = 0.5 * math.log(0.75 / 0.25)  # e = 2 / 8
    expected = weights * np.exp(-half_vote * labels * predictions)
    new, vote = adaboost_weights(jnp.asarray(weights), jnp.asarray(labels != predictions))
    np.testing.assert_allclose(new, expected / expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(vote, 2 * half_vote, rtol=1e-6)
    np.testing.assert_allclose(new[1], 2.0, rtol=1e-6)  # half the sum is on the error


@pytest.mark.parametrize("num_classes", [2, 3])
def test_adaboost_follows_scikit_learn(float64, num_classes):
    inputs, labels = make_gaussian_quantiles(
        n_samples=200, n_features=3, n_classes=num_classes, random_state=0
    )
    boosted = AdaBoostClassifier(
        DecisionTreeClassifier(max_depth=1), n_estimators=8, random_state=0
    ).fit(inputs, labels)
    weights = jnp.ones(len(labels))
    for learner, error, vote in zip(
        boosted.estimators_, boosted.estimator_errors_, boosted.estimator_weights_, strict=True
    ):
        again = DecisionTreeClassifier(max_depth=1, random_state=learner.random_state)
        again.fit(inputs, labels, sample_weight=np.asarray(weights))
        predictions = learner.predict(inputs)
        np.testing.assert_array_equal(again.predict(inputs), predictions)
        is_error = predictions != labels
        np.testing.assert_allclose(np.average(is_error, weights=weights), error, rtol=1e-9)
        weights, own_vote = adaboost_weights(weights, jnp.asarray(is_error), num_classes)
        np.testing.assert_allclose(own_vote, vote, rtol=1e-9)


def test_adaboost_limits():
    for is_error in (np.zeros(3, bool), np.ones(3, bool)):
        new, vote = adaboost_weights(jnp.array([1.0, 2.0, 3.0]), jnp.asarray(is_error))
        np.testing.assert_allclose(new, [0.5, 1.0, 1.5], rtol=1e-6)
        assert np.isfinite(vote)
        assert (vote > 10) != is_error[0]
    chance, vote = adaboost_weights(jnp.ones(4), jnp.array([1, 0, 0, 0]), num_classes=4)
    np.testing.assert_allclose(vote, 2 * math.log(3), rtol=1e-6)
    _, vote = adaboost_weights(jnp.ones(4), jnp.array([1, 1, 1, 0]), num_classes=4)
    np.testing.assert_allclose(vote, 0, atol=1e-6)
    assert chance[0] == pytest.approx(9 / 3, rel=1e-5)  # 9 : 1 : 1 : 1, mean 3
    with pytest.raises(ValueError, match="at least 2"):
        adaboost_weights(jnp.ones(2), jnp.zeros(2), 1)
    with pytest.raises(ValueError, match=r"both be vectors"):
        adaboost_weights(jnp.ones(2), jnp.zeros(3))
