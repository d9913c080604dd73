"""Label shift: exact recovery from population quantities, SciPy, and simulated data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from weighting.shift.label_shift import bbse_class_weights, em_class_weights, em_target_priors

SOURCE = np.array([0.5, 0.3, 0.2])
TARGET = np.array([0.1, 0.2, 0.7])
CONDITIONAL = np.array([[7, 2, 1], [1, 8, 1], [3, 1, 6]])  # P(predicted | true) in tenths, row true


def population(priors):
    """Predictions and labels whose frequencies are exactly the joint distribution."""
    counts = np.round(100 * priors[:, None] * CONDITIONAL).astype(int)
    labels = np.repeat(np.arange(3), counts.sum(axis=1))
    predictions = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
    return jnp.asarray(predictions), jnp.asarray(labels)


def simulate(priors, size, seed):
    """Three Gaussian classes on a line, and the source's posterior probabilities."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size, p=priors)
    x = rng.normal(size=size) + 1.5 * labels
    likelihoods = np.exp(-0.5 * (x[:, None] - 1.5 * np.arange(3)) ** 2)
    posterior = likelihoods * SOURCE
    return labels, posterior / posterior.sum(axis=1, keepdims=True)


def test_bbse_is_exact_on_the_population(float64):
    predictions, labels = population(SOURCE)
    target, _ = population(TARGET)
    weights = jax.jit(lambda p, y, t: bbse_class_weights(p, y, t, 3))(predictions, labels, target)
    np.testing.assert_allclose(weights, TARGET / SOURCE, rtol=1e-12)
    one_hot = np.eye(3)
    soft = bbse_class_weights(
        jnp.asarray(one_hot[predictions]), labels, jnp.asarray(one_hot[target]), 3
    )
    np.testing.assert_allclose(soft, TARGET / SOURCE, rtol=1e-12)
    same = bbse_class_weights(predictions, labels, predictions, 3)
    np.testing.assert_allclose(same, np.ones(3), rtol=1e-12)


def test_bbse_on_a_sample_is_the_solution_of_the_linear_system(float64):
    source_labels, source_probabilities = simulate(SOURCE, 20_000, 0)
    _, target_probabilities = simulate(TARGET, 20_000, 1)
    predictions, target = source_probabilities.argmax(axis=1), target_probabilities.argmax(axis=1)
    confusion = np.array(
        [[np.mean((predictions == i) & (source_labels == j)) for j in range(3)] for i in range(3)]
    )
    expected = np.linalg.solve(confusion, [np.mean(target == i) for i in range(3)])
    own = bbse_class_weights(jnp.asarray(predictions), jnp.asarray(source_labels), target, 3)
    np.testing.assert_allclose(own, expected, rtol=1e-9)
    np.testing.assert_allclose(own, TARGET / SOURCE, rtol=0.1)
    frequencies = np.bincount(source_labels) / 20_000
    assert abs(float(own @ frequencies) - 1) < 1e-12


def test_bbse_regularization_and_its_limits(float64):
    predictions, labels = population(SOURCE)
    target, _ = population(TARGET)

    def fit(regularization):
        return np.asarray(
            bbse_class_weights(predictions, labels, target, 3, regularization=regularization)
        )

    confusion = (SOURCE[:, None] * CONDITIONAL / 10).T
    regularization = 0.01
    residual = confusion @ (TARGET / SOURCE) - confusion.sum(axis=1)
    theta = np.linalg.solve(
        confusion.T @ confusion + regularization * np.eye(3), confusion.T @ residual
    )
    expected = 1 + theta
    np.testing.assert_allclose(fit(regularization), expected / (expected @ SOURCE), rtol=1e-9)
    np.testing.assert_allclose(fit(1e8), np.ones(3), atol=1e-6)
    many = jax.vmap(lambda r: bbse_class_weights(predictions, labels, target, 3, regularization=r))(
        jnp.array([0.0, 0.01])
    )
    np.testing.assert_allclose(many, [fit(0.0), fit(0.01)], rtol=1e-9)
    with pytest.raises(ValueError, match="regularization must lie in"):
        fit(-1.0)


def test_bbse_cuts_negative_weights():
    labels = jnp.array([0, 0, 1, 1])
    predictions = jnp.array([0, 1, 1, 1])  # C = [[1/4, 0], [1/4, 1/2]]
    # mu = (1, 0) gives w = (4, -2): cut to (4, 0), and scaled to E_s[w] = 1
    weights = bbse_class_weights(predictions, labels, jnp.zeros(4, int), 2)
    np.testing.assert_allclose(weights, [2, 0], atol=1e-5)
    with pytest.raises(ValueError, match="integer classes"):
        bbse_class_weights(jnp.ones((4, 3)), labels, jnp.zeros(4, int), 2)


def test_bbse_refuses_a_confusion_that_determines_no_weights():
    labels, blind = jnp.array([0, 0, 1, 1]), jnp.zeros(4, int)
    fit = functools.partial(bbse_class_weights, num_classes=2)
    with pytest.raises(
        ValueError, match=r"singular \(condition number inf\): the predictions do not"
    ):
        fit(blind, labels, blind)
    with pytest.raises(ValueError, match=r"no example of classes \[1\].*Give a regularization > 0"):
        fit(labels, blind, labels)
    alike = jnp.tile(jnp.array([[0.3, 0.7]]), (4, 1))  # soft predictions, singular up to rounding
    with pytest.raises(ValueError, match="confusion matrix is singular"):
        fit(alike, labels, alike)
    assert np.all(np.isnan(jax.jit(fit)(blind, labels, blind)))
    for run in (fit, jax.jit(fit)):
        np.testing.assert_allclose(
            run(blind, labels, blind, regularization=1e-3), [1, 1], rtol=1e-5
        )
    # barely conditioned is not singular: C = [[1/4, 1/4 - 1e-3], [1/4, 1/4 + 1e-3]]
    soft = jnp.array([[0.5, 0.5], [0.5, 0.5], [0.498, 0.502], [0.498, 0.502]])
    np.testing.assert_allclose(fit(soft, labels, soft), [1, 1], atol=1e-3)


def test_whole_numbers_are_computed_as_floats():
    predictions, labels = population(SOURCE)
    target, _ = population(TARGET)
    one_hot = np.eye(3, dtype=int)
    soft = bbse_class_weights(
        jnp.asarray(one_hot[predictions]), labels, jnp.asarray(one_hot[target]), 3
    )
    np.testing.assert_array_equal(soft, bbse_class_weights(predictions, labels, target, 3))
    whole = em_target_priors(jnp.asarray(one_hot[target]), jnp.array([5, 3, 2]))
    np.testing.assert_allclose(whole, np.bincount(target) / len(target), rtol=1e-5)


def log_likelihood(priors, probabilities):
    return np.mean(np.log((probabilities / SOURCE) @ priors))


def test_em_climbs_to_the_maximum_of_the_mixture_likelihood(float64):
    _, probabilities = simulate(TARGET, 300, 2)
    values = [
        log_likelihood(
            np.asarray(em_target_priors(jnp.asarray(probabilities), SOURCE, num_iterations=k)),
            probabilities,
        )
        for k in (1, 2, 5, 20, 500)
    ]
    assert values[0] > log_likelihood(SOURCE, probabilities)
    assert np.all(np.diff(values) > 0)
    best = minimize(
        lambda q: -log_likelihood(q, probabilities),
        SOURCE,
        bounds=[(1e-9, 1)] * 3,
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert abs(values[-1] + best.fun) < 1e-10
    own = em_target_priors(jnp.asarray(probabilities), SOURCE, num_iterations=2000)
    np.testing.assert_allclose(own, best.x, atol=1e-5)
    assert abs(float(own.sum()) - 1) < 1e-12


def test_one_em_step_by_hand(float64):
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    # at the source's priors the posteriors are the probabilities themselves
    own = em_target_priors(jnp.asarray(probabilities), SOURCE, num_iterations=1)
    np.testing.assert_allclose(own, [0.4, 0.25, 0.35], rtol=1e-12)
    two = em_target_priors(jnp.asarray(probabilities), SOURCE, num_iterations=2)
    adjusted = probabilities * np.array([0.4, 0.25, 0.35]) / SOURCE
    expected = (adjusted / adjusted.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(two, expected, rtol=1e-12)


def test_em_recovers_the_priors_and_the_weights():
    _, probabilities = simulate(TARGET, 20_000, 3)
    own = em_class_weights(jnp.asarray(probabilities), 1000 * SOURCE)
    np.testing.assert_allclose(own, TARGET / SOURCE, rtol=0.1)
    assert abs(float(own @ SOURCE) - 1) < 1e-5


def test_a_class_that_the_source_never_had_stays_at_zero():
    probabilities = jnp.array([[0.7, 0.3, 0.0], [0.1, 0.9, 0.0]])
    priors = jnp.array([0.5, 0.5, 0.0])
    own = em_target_priors(probabilities, priors)
    assert own[2] == 0
    assert abs(float(own.sum()) - 1) < 1e-6
    assert em_class_weights(probabilities, priors)[2] == 0
    with pytest.raises(ValueError, match="expected target_probabilities"):
        em_target_priors(probabilities, jnp.ones(2))
