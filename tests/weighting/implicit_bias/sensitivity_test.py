"""Whether two weightings end apart: against SciPy's minimizer, training, and the theory's cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from weighting import losses
from weighting.implicit_bias.sensitivity import weighting_sensitivity


def data(gap, seed=0, size=60):
    generator = np.random.default_rng(seed)
    labels = np.arange(size) % 2
    inputs = generator.normal(size=(size, 2)) * [1.0, 0.3]
    inputs[:, 1] += gap * (2 * labels - 1)
    return jnp.asarray(inputs), jnp.asarray(labels)


def weight_pair(labels):
    return jnp.ones(len(labels)), jnp.where(labels == 1, 8.0, 1.0)


def sensitivity(gap, loss_fn=losses.logistic, **settings):
    inputs, labels = data(gap)
    settings = {"learning_rate": 0.1, "num_steps": 1e4} | settings
    return weighting_sensitivity(inputs, labels, *weight_pair(labels), loss_fn, **settings)


@pytest.mark.parametrize(("strength", "num_steps"), [(0.05, np.inf), (0.01, 250)])
def test_solutions_are_scipys(float64, strength, num_steps):
    """In each case the effective strength is 0.05; the learning rate is 0.1."""
    inputs, labels = data(0.3)
    signed = np.asarray(inputs) * (2 * np.asarray(labels) - 1)[:, None]
    found = sensitivity(0.3, regularization=strength, num_steps=num_steps)
    np.testing.assert_allclose(found.regularization, 0.05, rtol=1e-12)
    directions = []
    for weights in weight_pair(labels):
        w = np.asarray(weights) / np.mean(weights)

        def risk(t, w=w):
            return np.mean(w * np.logaddexp(0, -signed @ t)) + 0.025 * t @ t

        directions.append(minimize(risk, np.zeros(2), tol=1e-14).x)
    cosine = directions[0] @ directions[1] / np.prod([np.linalg.norm(d) for d in directions])
    assert np.isclose(found.angle, np.arccos(cosine), rtol=1e-5)
    differ = np.sign(np.asarray(inputs) @ directions[0]) != np.sign(inputs @ directions[1])
    assert np.isclose(found.disagreement, differ.mean())
    assert found.gradient_norm < 1e-10
    # Newton's method squares the error at every step, if its Hessian is right
    soon = sensitivity(0.3, regularization=0.05, num_steps=np.inf, num_iterations=6)
    assert soon.gradient_norm < 1e-10


def test_the_gradient_norm_is_that_of_the_worse_solution(float64):
    inputs, labels = data(0.3)
    equal, unequal = weight_pair(labels)

    def after_one_step(*weightings):
        return weighting_sensitivity(
            inputs, labels, *weightings, losses.logistic, learning_rate=0.1, num_steps=1e4,
            num_iterations=1,
        ).gradient_norm  # fmt: skip

    alone = [after_one_step(weights, weights) for weights in (equal, unequal)]
    assert abs(alone[0] - alone[1]) > 1e-3
    for pair in ((equal, unequal), (unequal, equal)):
        np.testing.assert_allclose(after_one_step(*pair), max(alone), rtol=1e-12)


def test_it_predicts_what_gradient_descent_does(float64):
    inputs, labels = data(0.3)
    signed = inputs * (2 * labels - 1)[:, None]

    def train(weights, num_steps):
        weights = weights / jnp.mean(weights)

        def risk(t):
            return jnp.mean(weights * losses.logistic(signed @ t, jnp.ones(60, jnp.int32)))

        def step(t, _):
            return t - 0.1 * jax.grad(risk)(t), None

        return jax.lax.scan(step, jnp.zeros(2), None, length=num_steps)[0]

    for num_steps in (100, 10_000):
        a, b = (np.asarray(train(w, num_steps)) for w in weight_pair(labels))
        angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        predicted = sensitivity(0.3, num_steps=num_steps).angle
        assert 0.6 < predicted / angle < 1.7  # the same up to constants


def test_the_cases_of_the_theory(float64):
    far = functools.partial(sensitivity, 1.5)
    # Separable, exponential tail: the weightings meet, like one over the logarithm of the time.
    early, late = (far(num_steps=t, num_iterations=400).angle for t in (1e3, 1e100))
    assert late < 0.4 * early
    assert far().is_separated
    # A polynomial tail keeps them apart.
    tail = functools.partial(losses.polynomial_tailed, alpha=1.0)
    early, late = (far(tail, num_steps=t, num_iterations=400).angle for t in (1e3, 1e100))
    assert late > 0.99 * early
    # Overlapping classes: they stay apart.
    overlapping = sensitivity(0.2, num_steps=1e12)
    assert not overlapping.is_separated
    assert overlapping.disagreement > 0.05
    # Equal weightings never differ.
    inputs, labels = data(0.2)
    ones = jnp.ones(60)
    same = weighting_sensitivity(
        inputs, labels, ones, 3 * ones, losses.logistic, learning_rate=1.0, num_steps=10
    )
    assert same.angle < 1e-12


def test_works_under_jit_and_vmap():
    inputs, labels = data(0.3)
    pair = weight_pair(labels)

    def angle(num_steps):
        return weighting_sensitivity(
            inputs, labels, *pair, losses.logistic, learning_rate=0.1, num_steps=num_steps
        ).angle

    together = jax.jit(jax.vmap(angle))(jnp.array([10.0, 1000.0]))
    np.testing.assert_allclose(together, [angle(10.0), angle(1000.0)], rtol=1e-2)


def test_bad_input_is_refused():
    inputs, labels = data(0.3)
    ones = jnp.ones(60)
    settings = {"learning_rate": 0.1, "num_steps": 10}
    with pytest.raises(ValueError, match="both weightings"):
        weighting_sensitivity(inputs, labels, ones, ones[:3], losses.logistic, **settings)
    with pytest.raises(ValueError, match="inputs must be"):
        weighting_sensitivity(inputs[:3], labels, ones, ones, losses.logistic, **settings)
    with pytest.raises(ValueError, match="num_steps"):
        weighting_sensitivity(
            inputs, labels, ones, ones, losses.logistic, learning_rate=0.1, num_steps=0
        )
