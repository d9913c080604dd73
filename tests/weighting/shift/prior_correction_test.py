"""Corrected logits against posteriors of a joint distribution, at the exact minimum of the risk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from weighting import losses, prior_corrected_logits

JOINT = np.array([[24, 3, 1], [10, 6, 2], [6, 1, 7], [30, 4, 6]]) / 100  # p(x, y), x in rows
PRIORS = JOINT.sum(axis=0)
OTHER = np.array([0.2, 0.5, 0.3])
X, Y = (jnp.asarray(index.ravel()) for index in np.indices(JOINT.shape))


def posterior(joint, target_priors):
    """p(y | x) where the classes have other priors."""
    moved = joint / joint.sum(axis=0) * target_priors
    return moved / moved.sum(axis=1, keepdims=True)


def minimize(risk, shape):
    """The table of scores at which Newton's steps, halved until they descend, find no gradient."""
    table = np.zeros(shape)
    for _ in range(30):
        gradient = np.asarray(jax.grad(risk)(table)).ravel()
        hessian = np.asarray(jax.hessian(risk)(table)).reshape(gradient.size, gradient.size)
        step = -np.linalg.pinv(hessian, rcond=1e-9).dot(gradient).reshape(shape)
        while risk(table + step) > risk(table) + 1e-15:
            step = step / 2
        table = table + step
    assert np.abs(jax.grad(risk)(table)).max() < 1e-14
    return table


@pytest.mark.parametrize("target_priors", [PRIORS, OTHER, np.array([0.0, 1.0, 3.0])])
def test_class_weights_are_undone_exactly(float64, target_priors):
    class_weights = np.array([0.5, 4.0, 2.0])
    probabilities = jnp.asarray(JOINT.ravel())

    def risk(table):
        own = losses.cross_entropy(jnp.asarray(table)[X], Y)
        return jnp.sum(probabilities * jnp.asarray(class_weights)[Y] * own)

    logits = minimize(risk, JOINT.shape)
    biased = special.softmax(logits, axis=1)
    assert np.abs(biased - posterior(JOINT, PRIORS)).max() > 0.1
    corrected = prior_corrected_logits(logits, class_weights * PRIORS, target_priors)
    expected = posterior(JOINT, target_priors / target_priors.sum())
    np.testing.assert_allclose(special.softmax(corrected, axis=1), expected, atol=1e-10)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjustment_is_undone_exactly(float64, tau):
    probabilities = jnp.asarray(JOINT.ravel())

    def risk(table):
        own = losses.logit_adjusted(
            jnp.asarray(table)[X], Y, class_counts=jnp.asarray(1000 * PRIORS), tau=tau
        )
        return jnp.sum(probabilities * own)

    logits = minimize(risk, JOINT.shape)
    for target_priors in (PRIORS, OTHER):
        corrected = prior_corrected_logits(logits, PRIORS ** (1 - tau), target_priors)
        expected = posterior(JOINT, target_priors)
        np.testing.assert_allclose(special.softmax(corrected, axis=1), expected, atol=1e-10)


def test_a_single_score_of_two_classes_is_corrected_likewise(float64):
    joint = np.array([[30, 2], [25, 8], [15, 20]]) / 100
    x, y = (jnp.asarray(index.ravel()) for index in np.indices(joint.shape))
    class_weights = np.array([1.0, 5.0])

    def risk(scores):
        own = losses.logistic(jnp.asarray(scores)[x], y)
        return jnp.sum(jnp.asarray(joint.ravel()) * jnp.asarray(class_weights)[y] * own)

    scores = minimize(risk, (3,))
    priors = joint.sum(axis=0)
    for target_priors in (priors, np.array([0.5, 0.5])):
        expected = posterior(joint, target_priors)[:, 1]
        corrected = prior_corrected_logits(scores, class_weights * priors, target_priors)
        np.testing.assert_allclose(special.expit(corrected), expected, atol=1e-10)
        column = prior_corrected_logits(scores[:, None], class_weights * priors, target_priors)
        np.testing.assert_array_equal(column[:, 0], corrected)


def test_priors_of_the_right_shape_are_asked_for():
    correct = jax.jit(prior_corrected_logits)
    assert correct(jnp.zeros((2, 3), jnp.bfloat16), jnp.ones(3), jnp.ones(3)).dtype == jnp.float32
    with pytest.raises(
        ValueError, match=r"priors \[C\], or a score \[B\] or \[B, 1\] and priors \[2\]"
    ):
        prior_corrected_logits(jnp.zeros((2, 3)), jnp.ones(2), jnp.ones(3))
    with pytest.raises(ValueError, match=r"fitted_priors \(1,\)"):
        prior_corrected_logits(jnp.zeros(4), jnp.ones(1), jnp.ones(2))
    with pytest.raises(ValueError, match=r"classes \[2\] occur in the target but not"):
        prior_corrected_logits(jnp.zeros((2, 3)), np.array([1, 1, 0]), np.ones(3))
