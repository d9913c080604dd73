"""Samplers: exact counts, imbalanced-learn, and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler

from weighting.training.sampling import (
    class_balanced_indices,
    class_sampling_probabilities,
    example_sampling_probabilities,
    group_by_class,
    weighted_indices,
)

LABELS = np.array([1, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0, 0])  # 8, 2, 0, 2


def within_standard_errors(frequencies, expected, num_draws, bound=4.0):
    error = np.sqrt(np.maximum(expected * (1 - expected), 1e-12) / num_draws)
    assert np.all(np.abs(frequencies - expected) <= bound * error)


@pytest.mark.parametrize("replace", [False, True])
def test_every_class_gets_its_share_of_every_batch(replace):
    groups = group_by_class(LABELS, 4)
    draw = jax.jit(
        lambda key: class_balanced_indices(key, groups, 13, replace=replace)
    )  # 13 = 3 * 4 + 1: the remainder goes to a random class
    batches = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 3000)))
    counts = np.stack([(LABELS[batches] == c).sum(axis=1) for c in range(4)], axis=1)
    assert np.all(counts[:, 2] == 0)
    assert np.all(np.sort(counts, axis=1) == [0, 4, 4, 5])
    within_standard_errors((counts[:, [0, 1, 3]] == 5).mean(axis=0), np.full(3, 1 / 3), 3000)
    # every member of a class is equally likely in each of its slots
    for c in (0, 1, 3):
        members = np.flatnonzero(c == LABELS)
        drawn = batches[LABELS[batches] == c]
        shares = np.array([(drawn == m).mean() for m in members])
        within_standard_errors(shares, np.full(len(members), 1 / len(members)), len(drawn))
    majority = [batch[LABELS[batch] == 0] for batch in batches]
    distinct = [len(set(m)) == len(m) for m in majority]
    assert np.all(distinct) == (not replace)


def test_a_class_that_fills_its_share_is_drawn_without_replacement():
    labels = np.repeat([0, 1, 2], [4, 5, 5])
    groups = group_by_class(labels, 3)
    draw = jax.jit(jax.vmap(lambda key: class_balanced_indices(key, groups, 14)))
    repeated = 0
    for batch in np.asarray(draw(jax.random.split(jax.random.key(4), 200))):
        slots = np.bincount(labels[batch], minlength=3)
        assert sorted(slots) == [4, 5, 5]
        for c in (1, 2):
            assert len(set(batch[labels[batch] == c])) == slots[c]
        distinct = len(set(batch[labels[batch] == 0]))
        if slots[0] == 4:
            assert distinct == 4
        else:  # five draws from four members, each anew
            repeated += distinct < 4
    assert repeated > 10


def test_oversampling_to_the_largest_class_has_the_counts_of_imbalanced_learn():
    """Three classes at the majority's size: it occurs as it is, the others are drawn again."""
    labels = LABELS[LABELS != 3]
    _, reference = RandomOverSampler(random_state=0).fit_resample(np.zeros((10, 1)), labels)
    indices = class_balanced_indices(jax.random.key(3), group_by_class(labels, 2), 16)
    np.testing.assert_array_equal(np.bincount(labels[indices]), np.bincount(reference))
    majority = np.sort(indices[labels[indices] == 0])
    np.testing.assert_array_equal(majority, np.flatnonzero(labels == 0))


def test_a_batch_smaller_than_the_number_of_classes():
    groups = group_by_class(LABELS, 4)
    draw = jax.jit(jax.vmap(lambda key: class_balanced_indices(key, groups, 2)))
    batches = np.asarray(draw(jax.random.split(jax.random.key(1), 200)))
    drawn = LABELS[batches]
    assert np.all(drawn[:, 0] != drawn[:, 1])
    assert set(drawn.ravel()) == {0, 1, 3}


def test_grouping_by_hand_and_bad_labels():
    groups = group_by_class(np.array([2, 0, 2, 1]), 3)
    np.testing.assert_array_equal(groups.order, [1, 3, 0, 2])
    np.testing.assert_array_equal(groups.starts, [0, 1, 2])
    np.testing.assert_array_equal(groups.counts, [1, 1, 2])
    for bad in ([0, 2], [-1, 0], []):
        with pytest.raises(ValueError, match="integers from 0 to 1"):
            group_by_class(np.array(bad, int), 2)
    np.testing.assert_array_equal(group_by_class(np.array([1]), 2).counts, [0, 1])
    with pytest.raises(ValueError, match="batch_size must be positive"):
        class_balanced_indices(jax.random.key(0), groups, 0)


def test_class_sampling_probabilities_by_hand_and_at_the_limits():
    counts = np.array([16, 4, 0])
    for power, expected in [
        (1.0, [0.8, 0.2, 0]),
        (0.0, [0.5, 0.5, 0]),
        (0.5, [4 / 6, 2 / 6, 0]),
        (-1.0, [0.2, 0.8, 0]),
    ]:
        own = class_sampling_probabilities(counts, power)
        np.testing.assert_allclose(own, expected, rtol=1e-6)
    many = jax.vmap(lambda power: class_sampling_probabilities(counts, power))(jnp.array([0.0, 1]))
    np.testing.assert_allclose(many, [[0.5, 0.5, 0], [0.8, 0.2, 0]], rtol=1e-6)
    with pytest.raises(ValueError, match="power must lie in"):
        class_sampling_probabilities(counts, jnp.nan)


def test_class_probabilities_reach_the_examples_and_the_draws():
    counts, num_draws = np.bincount(LABELS, minlength=4), 40_000
    probabilities = example_sampling_probabilities(LABELS, counts, 0.5)
    assert abs(float(probabilities.sum()) - 1) < 1e-6
    roots = np.sqrt([8, 2, 0, 2])
    np.testing.assert_allclose(
        np.bincount(LABELS, probabilities, minlength=4), roots / roots.sum(), rtol=1e-6
    )
    drawn = np.asarray(weighted_indices(jax.random.key(2), probabilities, num_draws))
    frequencies = np.bincount(drawn, minlength=12) / num_draws
    within_standard_errors(frequencies, np.asarray(probabilities, float), num_draws)


def test_distinct_draws_and_their_limit():
    probabilities = np.array([3.0, 1.0, 0.0, 0.0, 4.0])
    drawn = weighted_indices(jax.random.key(0), probabilities, 3, replace=False)
    assert sorted(np.asarray(drawn).tolist()) == [0, 1, 4]
    with pytest.raises(ValueError, match="6 distinct positions out of 5"):
        weighted_indices(jax.random.key(0), probabilities, 6, replace=False)
