"""The noise layer by NumPy, at its extremes, and learning which class is mislabeled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS
from weighting import losses, make_train_step
from weighting.base import uniform
from weighting.train_step import Batch, ModelOutput, init_train_state, without_state
from weighting.training import noise_layer


def test_initial_transitions(float64):
    start = scipy.special.softmax(noise_layer.identity_transition(4, 0.01), axis=1)
    np.testing.assert_allclose(np.diag(start), 1.01 / 1.04, rtol=1e-12)
    np.testing.assert_allclose(start[0, 1], 0.01 / 1.04, rtol=1e-12)
    confusion = jnp.array([[6, 2, 2], [0, 5, 0], [0, 0, 0]])
    start = scipy.special.softmax(noise_layer.confusion_transition(confusion, 0.1), axis=1)
    np.testing.assert_allclose(start[0], np.array([0.7, 0.3, 0.3]) / 1.3, rtol=1e-12)
    np.testing.assert_allclose(start[1], np.array([0.1, 1.1, 0.1]) / 1.3, rtol=1e-12)
    np.testing.assert_allclose(start[2], 1 / 3, rtol=1e-12)


def test_noise_layer_by_numpy(float64):
    b = np.random.default_rng(1).normal(size=(3, 3))
    expected = scipy.special.softmax(LOGITS, axis=1) @ scipy.special.softmax(b, axis=1)
    noisy = noise_layer.transition_log_probabilities(jnp.asarray(LOGITS), jnp.asarray(b))
    np.testing.assert_allclose(np.exp(noisy), expected, rtol=1e-12)
    np.testing.assert_allclose(
        losses.cross_entropy(noisy, jnp.asarray(LABELS)),
        -np.log(expected[np.arange(4), LABELS]),
        rtol=1e-12,
    )


def test_noise_layer_is_finite_at_extremes():
    logits = 1e4 * jnp.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    transition = 1e3 * jnp.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]])

    @jax.jit
    def risk(z, b):
        noisy = noise_layer.transition_log_probabilities(z, b)
        return jnp.sum(losses.cross_entropy(noisy, jnp.array([0, 2])))

    value, gradients = jax.value_and_grad(risk, argnums=(0, 1))(logits, transition)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_the_true_noise_is_stationary(float64):
    """Over labels drawn from q T, the gradient in b vanishes at log T."""
    q = scipy.special.softmax(LOGITS, axis=1)
    transition = np.array([[0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]])

    @jax.jit
    def expected_loss(b):
        noisy = noise_layer.transition_log_probabilities(jnp.asarray(LOGITS), b)
        return -jnp.sum((q @ transition) * noisy)

    np.testing.assert_allclose(
        jax.grad(expected_loss)(jnp.log(jnp.asarray(transition))), 0, atol=1e-13
    )


def test_the_noise_layer_is_there_in_training_only():
    def apply_fn(params, model_state, inputs, *, train, key):
        features = jnp.tanh(inputs @ params)
        return ModelOutput(features, features), {"calls": model_state["calls"] + train}

    noisy_apply = noise_layer.with_noise_layer(apply_fn)
    params = {"network": jnp.eye(3), "transition": noise_layer.identity_transition(3, 0.1)}
    inputs = jnp.asarray(LOGITS, jnp.float32)
    train, state = noisy_apply(params, {"calls": 0}, inputs, train=True, key=None)
    test, _ = noisy_apply(params, state, inputs, train=False, key=None)
    assert state == {"calls": 1}
    np.testing.assert_allclose(test.logits, np.tanh(LOGITS), rtol=1e-6)
    for output in (train, test):
        np.testing.assert_allclose(output.features, np.tanh(LOGITS), rtol=1e-6)
    mixed = scipy.special.softmax(np.tanh(LOGITS), axis=1) @ (np.eye(3) + 0.1) / 1.3
    np.testing.assert_allclose(train.logits, np.log(mixed), rtol=1e-5)


def test_the_noise_layer_learns_which_class_is_mislabeled():
    """A third of class 0 is labelled 1; training on those labels finds it in the transition."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 600)
    inputs = jnp.asarray(4 * np.eye(3)[classes] + rng.normal(0, 0.5, (600, 3)), jnp.float32)
    flipped = (classes == 0) & (rng.random(600) < 1 / 3)
    labels = jnp.asarray(np.where(flipped, 1, classes))
    apply_fn = noise_layer.with_noise_layer(without_state(lambda params, x: x @ params))
    params = {
        "network": jnp.zeros((3, 3)),
        "transition": noise_layer.identity_transition(3, 0.1),
    }
    optimizer = optax.adam(0.05)
    step = make_train_step(apply_fn, losses.cross_entropy, uniform(), optimizer)
    state = init_train_state(jax.random.key(0), params, uniform(), optimizer)
    state, _ = jax.lax.scan(
        lambda state, _: (step(state, Batch(inputs, labels))[0], None), state, length=300
    )
    learned = scipy.special.softmax(state.params["transition"], axis=1)
    share = flipped.sum() / (classes == 0).sum()
    np.testing.assert_allclose(learned[0], [1 - share, share, 0], atol=0.05)
    assert learned[1, 1] > 0.95
    assert learned[2, 2] > 0.95


def test_bad_transitions_are_refused():
    with pytest.raises(ValueError, match="smoothing must be positive"):
        noise_layer.identity_transition(3, 0.0)
    with pytest.raises(ValueError, match="square matrix"):
        noise_layer.confusion_transition(jnp.asarray(LOGITS))
    with pytest.raises(ValueError, match="not negative"):
        noise_layer.confusion_transition(-jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="the noise layer needs"):
        noise_layer.transition_log_probabilities(jnp.asarray(LOGITS), jnp.eye(2))
