"""A weight of zero is a removed example, a weight of k one that is there k times."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.weighting.conformance import BATCH, PARAMS, evidence, make, make_batch
from weighting import (
    Batch,
    Signals,
    chain,
    class_weights,
    init_train_state,
    inverse_class_frequency,
    linearize_losses,
    losses,
    make_train_step,
    masked_mean,
    metrics,
    normalize_mean,
    per_example,
    top_losses,
    uniform,
    weighted_risk,
    without_state,
)

COUNTS = np.array([2, 0, 1, 3, 0, 1])
REPEATED = np.repeat(np.arange(6), COUNTS)
SCORING = ["low", "focal", "superloss", "gradient_harmonized:10", "tilted", "active_bias"]
SELECTING = ["top_losses:0.4", "mentornet_curriculum:0.6"]
MIXING = ["mix_with_uniform:0.3", "clip:0.2:3", "warm_up:5"]


def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(6, 4)), generator.integers(0, 3, 6)


def train(rows, weighting, optimizer, num_steps=5):
    """The parameters of a linear network after steps on the batch of these rows."""
    inputs, labels = (jnp.asarray(x[rows]) for x in data())
    params = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    apply_fn = without_state(lambda params, inputs: inputs @ params)
    step = make_train_step(apply_fn, losses.cross_entropy, weighting, optimizer)
    state = init_train_state(jax.random.key(0), params, weighting, optimizer)
    batch = Batch(inputs, labels, indices=jnp.arange(len(rows)))
    for _ in range(num_steps):
        state, _ = step(state, batch)
    return np.asarray(state.params)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.5, momentum=0.9), optax.adam(0.1)])
def test_training_with_counts_is_training_on_the_repeated_set(float64, optimizer):
    weighted = train(np.arange(6), per_example(COUNTS.astype(float)), optimizer)
    repeated = train(REPEATED, uniform(), optimizer)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)
    removed = train(np.flatnonzero(COUNTS), uniform(), optimizer)
    kept = train(np.arange(6), per_example(np.minimum(COUNTS, 1.0)), optimizer)
    np.testing.assert_allclose(kept, removed, rtol=1e-9)


def test_the_risk_with_counts_is_the_mean_over_the_repeated_set():
    values = jnp.array([1.0, 50.0, -2.0, 0.5, 7.0, 3.0])
    weights = jnp.asarray(COUNTS * 6 / COUNTS.sum())  # of mean one
    expected = np.mean(np.asarray(values)[REPEATED])
    np.testing.assert_allclose(weighted_risk(values, weights), expected, rtol=1e-6)
    own, repeated = metrics.effective_sample_size(weights), np.repeat(COUNTS, COUNTS > 0)
    np.testing.assert_allclose(own, repeated.sum() ** 2 / np.sum(repeated**2), rtol=1e-6)


def weights_of_zeros(name):
    """What a scheme makes of incoming weights of zero."""
    signals, keywords = evidence(make_batch())
    scheme, incoming = make(name), jnp.ones(BATCH).at[jnp.array([0, 5])].set(0)
    state = scheme.init(jax.random.key(0), PARAMS)
    weights, _ = scheme.update(incoming, state, signals, **keywords)
    return np.asarray(weights)[[0, 5]]


@pytest.mark.parametrize("name", [*SCORING, *SELECTING, "normalize_mean", "low+temper"])
def test_a_scheme_leaves_a_zero_at_zero(name):
    np.testing.assert_array_equal(weights_of_zeros(name), 0)


@pytest.mark.parametrize("name", MIXING)
def test_parts_that_mix_or_have_a_floor_lift_a_zero(name):
    assert np.all(weights_of_zeros(name) > 0)


def test_ranks_see_an_example_of_weight_zero_and_a_mask_hides_it():
    values, given = jnp.array([5.0, 1.0, 2.0, 0.0]), jnp.array([0.0, 1.0, 1.0, 1.0])
    scheme = chain(per_example(given), top_losses(0.5))
    state = scheme.init(jax.random.key(0), None)
    signals = Signals(values, indices=jnp.arange(4))
    weights, _ = scheme.update(jnp.ones(4), state, signals)
    np.testing.assert_allclose(weights, [0, 0, 4, 0])  # the largest loss of all took a place
    masked, _ = scheme.update(given, state, signals._replace(mask=given))
    np.testing.assert_allclose(masked, [0, 1.5, 1.5, 0])


def test_class_weights_keep_their_effect_in_a_batch_of_one_class():
    counts, labels = jnp.array([90, 10]), jnp.array([1, 1, 1, 1])
    signals = Signals(jnp.ones(4), labels=labels)

    def weights_of(scheme):
        return scheme.update(jnp.ones(4), scheme.init(jax.random.key(0), None), signals)[0]

    np.testing.assert_allclose(weights_of(inverse_class_frequency(counts)), [5] * 4, rtol=1e-6)
    np.testing.assert_allclose(weights_of(class_weights(jnp.array([1.0, 3.0]))), [3] * 4)
    lost = weights_of(chain(inverse_class_frequency(counts), normalize_mean()))
    np.testing.assert_allclose(lost, [1] * 4, rtol=1e-6)  # what dividing by their sum does


def test_gradients_of_unequal_micro_batches_add_up(float64):
    inputs, labels = (jnp.asarray(x) for x in data())
    weights, mask = jnp.array([0.5, 2.0, 1.0, 3.0, 0.0, 1.0]), jnp.array([1, 1, 1, 1, 1, 0])
    params = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def sum_and_count(params, rows):
        own = losses.cross_entropy(inputs[rows] @ params, labels[rows])
        return jnp.sum(own * weights[rows] * mask[rows]), jnp.sum(mask[rows])

    def whole(params):
        return masked_mean(losses.cross_entropy(inputs @ params, labels) * weights, mask)

    parts = [jnp.arange(0, 4), jnp.arange(4, 6)]  # four examples, and one with padding
    gradients = [jax.grad(lambda p, r=r: sum_and_count(p, r)[0])(params) for r in parts]
    count = sum(sum_and_count(params, rows)[1] for rows in parts)
    expected = jax.grad(whole)(params)
    np.testing.assert_allclose(sum(gradients) / count, expected, rtol=1e-12)
    means = [g / sum_and_count(params, r)[1] for g, r in zip(gradients, parts, strict=True)]
    assert np.abs(sum(means) / 2 - expected).max() > 0.01  # the mean of means is another number
    # the linearized losses give the same pullback
    pull = [
        linearize_losses(lambda p, r=r: losses.cross_entropy(inputs[r] @ p, labels[r]), params).vjp(
            weights[r] * mask[r] / count
        )
        for r in parts
    ]
    np.testing.assert_allclose(sum(pull), expected, rtol=1e-12)
