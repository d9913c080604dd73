"""The mentor network against loops in NumPy, how well it learns, and what its scheme remembers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from weighting import Signals, mentornet_curriculum
from weighting.schemes.mentornet import (
    MentorFeatures,
    init_mentor,
    lstm,
    mentor_scores,
    mentor_targets,
    mentornet,
    sample_mentor_features,
    train_mentor,
)

NUM_EXAMPLES = 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(cell, inputs):
    """One example at a time, gate by gate; inputs [L, I]."""
    size = cell.state_kernel.shape[0]
    w, u, b = (np.asarray(array) for array in cell)
    hidden, memory = np.zeros(size), np.zeros(size)
    for x in inputs:
        gate = [
            np.array([x @ w[:, k * size + j] + hidden @ u[:, k * size + j] for j in range(size)])
            + b[k * size : (k + 1) * size]
            for k in range(4)
        ]
        memory = sigmoid(gate[1]) * memory + sigmoid(gate[0]) * np.tanh(gate[2])
        hidden = sigmoid(gate[3]) * np.tanh(memory)
    return hidden


def shaken(mentor):
    """The mentor with biases that are not zero."""
    leaves, structure = jax.tree.flatten(mentor)
    rng = np.random.default_rng(0)
    return structure.unflatten([leaf + 0.3 * rng.normal(size=leaf.shape) for leaf in leaves])


def test_network_equals_a_loop(float64):
    mentor = shaken(init_mentor(jax.random.key(0), num_classes=3, lstm_size=2, hidden_size=4))
    features = sample_mentor_features(jax.random.key(1), 5, 4, num_classes=3)
    scores = mentor_scores(mentor, features)
    for i in range(5):
        history = np.stack([features.losses[i], features.differences[i]], axis=1)
        forward = numpy_lstm(mentor.forward, history)
        alone = lstm(mentor.forward, jnp.asarray(history)[:, None])[0]
        np.testing.assert_allclose(alone, forward, rtol=1e-12)
        joined = np.concatenate(
            [
                forward,
                numpy_lstm(mentor.backward, history[::-1]),
                mentor.label_embedding[features.labels[i]],
                mentor.stage_embedding[features.stages[i]],
            ]
        )
        hidden = np.tanh(joined @ mentor.hidden_kernel + mentor.hidden_bias)
        expected = hidden @ mentor.output_kernel + mentor.output_bias
        np.testing.assert_allclose(scores[i], expected, rtol=1e-11)


def test_sampled_features_are_uniform_and_independent():
    features = sample_mentor_features(jax.random.key(3), 3000, 2, num_classes=4)
    assert features.losses.shape == features.differences.shape == (3000, 2)
    for values, low in ((features.losses, 0), (features.differences, -5)):
        for visit in np.asarray(values).T:  # p-values of a fixed draw
            assert scipy.stats.kstest(visit, "uniform", (low, 10)).pvalue > 0.01
    for values, count in ((features.labels, 4), (features.stages, 100)):
        assert scipy.stats.chisquare(np.bincount(values, minlength=count)).pvalue > 0.01
        assert values.max() == count - 1
    columns = [*features.losses.T, *features.differences.T, features.labels, features.stages]
    correlations = np.corrcoef(np.stack(columns)) - np.eye(6)
    assert np.abs(correlations).max() < 4 / np.sqrt(3000)


def test_targets_by_hand():
    differences = jnp.array([[9.0, -1.0], [9.0, 0.0], [9.0, 0.5], [-9.0, 3.0]])
    features = MentorFeatures(differences, differences, jnp.zeros(4, int), jnp.zeros(4, int))
    np.testing.assert_array_equal(mentor_targets(features), [1, 1, 0, 0])
    np.testing.assert_allclose(mentor_targets(features, 2.0), [1, 1, 0.75, 0])
    with pytest.raises(ValueError, match="ramp must lie in"):
        mentor_targets(features, -1.0)


@pytest.fixture(scope="module")
def mentors():
    """Mentors of the threshold and of a ramp of two, trained on 5,000 random examples."""
    features = sample_mentor_features(jax.random.key(0), 5000)
    ramps = jnp.array([0.0, 2.0])
    train = jax.jit(
        jax.vmap(
            lambda key, ramp: train_mentor(key, features, mentor_targets(features, ramp)),
        )
    )
    both = train(jax.random.split(jax.random.key(1), 2), ramps)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in range(2)]


@pytest.mark.parametrize("ramp", [0.0, 2.0])
def test_trained_mentor_mimics_the_curriculum_on_new_features(mentors, ramp):
    mentor = mentors[int(ramp > 0)]
    held_out = sample_mentor_features(jax.random.key(2), 4000)
    weights = jax.nn.sigmoid(mentor_scores(mentor, held_out))
    error = np.abs(np.asarray(weights - mentor_targets(held_out, ramp)))
    assert error.mean() < 0.03
    far = np.abs(np.asarray(held_out.differences[:, -1])) > 0.3
    if ramp == 0:  # away from the threshold it is sharp
        assert error[far].max() < 0.15


def test_scheme_with_a_trained_mentor_is_the_predefined_curriculum(mentors):
    rng = np.random.default_rng(0)
    learned = mentornet(mentors[1], 200, 100, burn_in=0.0, normalize=False)
    predefined = mentornet_curriculum(0.75, 2.0, normalize=False)
    states = learned.init(jax.random.key(0), None), predefined.init(jax.random.key(0), None)

    @jax.jit
    def both(states, values, indices):
        signals = Signals(values, indices=indices)
        return [
            scheme.update(jnp.ones(50), state, signals)
            for scheme, state in zip((learned, predefined), states, strict=True)
        ]

    for _ in range(5):
        values = jnp.asarray(rng.exponential(2.0, size=50), jnp.float32)
        results = both(states, values, jnp.asarray(rng.permutation(200)[:50]))
        states = tuple(state for _, state in results)
        difference = np.abs(np.asarray(results[0][0] - results[1][0]))
        assert difference.mean() < 0.03
        assert np.ptp(results[1][0]) == 1


def test_a_step_of_training_is_that_of_the_mean_cross_entropy(float64):
    """All examples are the same one, so that the drawn batch does not matter."""
    one = sample_mentor_features(jax.random.key(6), 1, 2)
    features, target = jax.tree.map(lambda rows: jnp.repeat(rows, 5, axis=0), one), 0.3

    @jax.jit
    def trained(rate):
        return train_mentor(
            jax.random.key(7),
            features,
            jnp.full(5, target),
            num_steps=1,
            batch_size=3,
            optimizer=optax.sgd(rate),
        )

    def cross_entropy(mentor):
        probability = jax.nn.sigmoid(mentor_scores(mentor, one))[0]
        return -target * jnp.log(probability) - (1 - target) * jnp.log(1 - probability)

    start, end = trained(0.0), trained(0.5)
    gradient = jax.jit(jax.grad(cross_entropy))(start)
    for before, after, slope in zip(*map(jax.tree.leaves, (start, end, gradient)), strict=True):
        np.testing.assert_allclose(after, before - 0.5 * slope, atol=1e-13)
    assert max(np.max(np.abs(slope)) for slope in jax.tree.leaves(gradient)) > 0.1


def test_mentor_learns_from_labels_known_to_be_right_or_wrong():
    """Right in class 0 if the loss is small, in class 1 always: it must tell classes apart."""
    features = sample_mentor_features(jax.random.key(3), 3000, 2, num_classes=2)
    right = (features.labels == 1) | (features.losses[:, -1] < 4)
    targets = right.astype(jnp.float32)
    mentor = jax.jit(
        lambda: train_mentor(
            jax.random.key(4), features, targets, num_classes=2, lstm_size=2, num_steps=1500
        )
    )()
    held_out = sample_mentor_features(jax.random.key(5), 2000, 2, num_classes=2)
    truth = (held_out.labels == 1) | (held_out.losses[:, -1] < 4)
    agrees = (mentor_scores(mentor, held_out) > 0) == truth
    assert np.mean(agrees) > 0.93


def update(scheme, state, values, indices, mask=None, **signals):
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(jnp.asarray(values), indices=jnp.asarray(indices), mask=mask, **signals)
    return scheme.update(signals.valid, state, signals)


def test_state_by_hand(float64):
    mentor = shaken(init_mentor(jax.random.key(0), lstm_size=2))
    scheme = mentornet(
        mentor,
        NUM_EXAMPLES,
        10,
        history_length=3,
        quantile=0.5,
        decay=0.5,
        burn_in=0.0,
        normalize=False,
    )
    state = scheme.init(jax.random.key(0), None)

    # Median 2 (the second of three); the first average is the value itself.
    _, state = update(scheme, state, [2.0, 1.0, 9.0], [0, 4, 2])
    np.testing.assert_allclose(state.losses[4], [1, 1, 1])  # the first visit stands in
    np.testing.assert_allclose(state.differences[2], [7, 7, 7])
    np.testing.assert_array_equal(state.seen, [1, 0, 1, 0, 1, 0])

    # Median 4; the average of 2 and 4 with weights 1/3 and 2/3 is 10/3. Padding is dropped.
    weights, state = update(scheme, state, [4.0, 5.0, 99.0], [4, 1, 0], mask=[1, 1, 0])
    np.testing.assert_allclose(state.losses[4], [1, 1, 4])
    np.testing.assert_allclose(state.differences[4], [-1, -1, 4 - 10 / 3])
    np.testing.assert_allclose(state.losses[1], [5, 5, 5])
    np.testing.assert_allclose(state.losses[0], [2, 2, 2])
    features = MentorFeatures(
        jnp.array([[1.0, 1, 4], [5, 5, 5]]),
        jnp.array([[-1, -1, 4 - 10 / 3], [5 - 10 / 3] * 3]),
        jnp.zeros(2, int),
        jnp.array([10, 10]),  # the second of ten steps
    )
    expected = sigmoid(np.asarray(mentor_scores(mentor, features)))
    np.testing.assert_allclose(weights, [*expected, 0], rtol=1e-12)

    _, state = update(scheme, state, [7.0], [4])
    np.testing.assert_allclose(state.losses[4], [1, 4, 7])
    before = state
    weights, state = update(scheme, state, [7.0], [4], mask=[0.0])
    np.testing.assert_array_equal(weights, [0])
    assert state.count == 4
    jax.tree.map(np.testing.assert_array_equal, before[:4], state[:4])


def test_labels_and_stages_reach_the_mentor(float64):
    mentor = shaken(init_mentor(jax.random.key(0), num_classes=3))
    scheme = mentornet(mentor, NUM_EXAMPLES, 3, burn_in=0.0, normalize=False)
    state = scheme.init(jax.random.key(0), None)
    labels = jnp.array([2, 0])
    for stage in (0, 33, 66, 99, 99):  # the run may go on beyond its end
        weights, new_state = update(scheme, state, [1.0, 1.0], [0, 1], labels=labels)
        one = jnp.ones((2, 1))
        features = MentorFeatures(one, 0 * one, labels, jnp.full(2, stage))
        expected = sigmoid(np.asarray(mentor_scores(mentor, features)))
        np.testing.assert_allclose(weights, expected, rtol=1e-12)
        state = new_state
    assert abs(expected[0] - expected[1]) > 1e-3
    with pytest.raises(ValueError, match=r"reads `signals.labels`"):
        update(scheme, state, [1.0], [0])


def test_burn_in_is_uniform_and_its_dropout_random():
    mentor = shaken(init_mentor(jax.random.key(0)))
    scheme = mentornet(mentor, NUM_EXAMPLES, 10, normalize=False)
    state = scheme.init(jax.random.key(0), None)
    for step in range(3):
        weights, state = update(scheme, state, [1.0, 3.0], [0, 1])
        assert (weights[0] == weights[1] == 1) == (step < 2)  # a fifth of ten steps

    size, rounds, rate = 50, 40, 0.3
    dropping = mentornet(mentor, size, rounds, burn_in=1.0, burn_in_dropout=rate, normalize=False)
    step = jax.jit(lambda s: update(dropping, s, jnp.ones(size), jnp.arange(size))[::-1])
    start = dropping.init(jax.random.key(1), None)
    _, drawn = jax.lax.scan(lambda s, _: step(s), start, length=rounds)
    assert set(np.unique(drawn)) == {0, 1}
    tolerance = 4 * np.sqrt(rate * (1 - rate) / (size * rounds))
    assert abs(np.mean(drawn) - (1 - rate)) < tolerance
    assert np.ptp(np.mean(drawn, axis=0)) > 0
    np.testing.assert_array_equal(step(start)[1], drawn[0])  # a resumed run repeats the draw


def test_bad_arguments_are_refused():
    mentor = init_mentor(jax.random.key(0))
    for options, message in (
        ({"quantile": 1.5}, "quantile must lie in"),
        ({"decay": 1.0}, "decay must lie in"),
        ({"burn_in": -0.1}, "burn_in must lie in"),
        ({"burn_in_dropout": 1.0}, "burn_in_dropout must lie in"),
        ({"history_length": 0}, "history_length must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            mentornet(mentor, 5, 10, **options)
    features = sample_mentor_features(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"targets \[M\]"):
        train_mentor(jax.random.key(0), features, jnp.ones(3))
    scheme = mentornet(mentor, 5, 10)
    with pytest.raises(ValueError, match=r"reads `signals.indices`"):
        scheme.update(jnp.ones(2), scheme.init(jax.random.key(0), None), Signals(jnp.ones(2)))
