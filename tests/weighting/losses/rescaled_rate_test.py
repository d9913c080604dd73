"""A loss whose gradients are all c times cross-entropy's is plain training at c times the rate."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from tests.weighting.losses.cases import COUNTS, LABELS, TEACHER, TRANSITION, values_and_gradient
from weighting import losses

REQUIRED = {
    "class_counts": COUNTS,
    "transition": TRANSITION,
    "teacher_logits": TEACHER,
    "cutoff": 1.3,
}
MULTICLASS = [
    name
    for name in losses.__all__
    if name
    not in ("binary_margins", "exponential", "log_label_probabilities", "logistic", "soft_margins")
]


def with_defaults(name):
    """The loss with its default hyperparameters, and values for those that have none."""
    loss_fn = getattr(losses, name)
    needed = inspect.signature(loss_fn).parameters.keys() & REQUIRED.keys()
    return functools.partial(loss_fn, **{key: REQUIRED[key] for key in needed})


def common_rate(loss_fn, logits, labels):
    """The multiple of the plain gradients that is nearest to the loss's, and the distance left."""
    plain_fn = losses.cross_entropy if logits.ndim == 2 else losses.logistic
    _, plain = values_and_gradient(plain_fn)(logits, labels)
    _, gradient = values_and_gradient(loss_fn)(logits, labels)
    rate = jnp.sum(gradient * plain) / jnp.sum(plain**2)
    return float(rate), float(jnp.linalg.norm(gradient - rate * plain) / jnp.linalg.norm(gradient))


@pytest.mark.parametrize("name", MULTICLASS)
def test_a_loss_is_more_than_a_learning_rate(name, float64):
    logits = 3 * jax.random.normal(jax.random.key(2), (4, 3), float)
    rate, distance = common_rate(with_defaults(name), logits, LABELS)
    if name == "cross_entropy":
        assert (rate, distance) == pytest.approx((1, 0), abs=1e-15)
    else:
        assert distance > 5e-3  # beta = 0.95 leaves bootstrap_soft 9e-3


@pytest.mark.parametrize(
    "name",
    [
        "exponential",
        "focal",
        "generalized_cross_entropy",
        "polynomial_tailed",
        "truncated_cross_entropy",
        "truncated_generalized_cross_entropy",
    ],
)
def test_a_loss_of_a_single_score_is_more_than_a_learning_rate(name, float64):
    _, distance = common_rate(with_defaults(name), jnp.linspace(-3, 3, 9), jnp.ones(9, int))
    assert distance > 0.1


@pytest.mark.parametrize("beta", [0.0, 0.6, 0.95])
def test_bootstrapping_to_a_constant_target_is_a_learning_rate(beta, float64):
    """The second term's gradient is q sum(q) - q = 0; the differentiated target's is not."""
    logits = 3 * jax.random.normal(jax.random.key(2), (4, 3), float)
    expected = beta * (scipy.special.softmax(logits, axis=1) - np.eye(3)[LABELS])
    held = functools.partial(losses.bootstrap_soft, beta=beta, target="constant")
    published = functools.partial(losses.bootstrap_soft, beta=beta)
    values, gradient = values_and_gradient(held)(logits, LABELS)
    np.testing.assert_allclose(gradient, expected, atol=1e-15)
    same, other = values_and_gradient(published)(logits, LABELS)
    np.testing.assert_allclose(values, same, rtol=1e-14)
    assert np.abs(other - expected).max() > 0.2 * (1 - beta)


def test_training_with_a_constant_target_ends_where_cross_entropy_does(float64):
    """A linear model after 300 steps of SGD, beta = 0.6: at rate 0.5 as plainly at 0.3."""
    inputs = jax.random.normal(jax.random.key(0), (30, 5), float)
    labels = jax.random.randint(jax.random.key(1), (30,), 0, 3)

    def trained(loss_fn, learning_rate):
        optimizer = optax.sgd(learning_rate, momentum=0.9)

        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda w: jnp.mean(loss_fn(inputs @ w, labels)))(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        start = jnp.zeros((5, 3))
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=300)
        return params

    plain = trained(losses.cross_entropy, 0.3)
    soft = functools.partial(losses.bootstrap_soft, beta=0.6)
    held = trained(functools.partial(soft, target="constant"), 0.5)
    np.testing.assert_allclose(held, plain, rtol=1e-12, atol=1e-12)
    assert np.abs(trained(soft, 0.5) - plain).max() > 0.5
