"""Measures, margins and tables answer NaN for a label that is none of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weighting as w
from weighting import metrics
from weighting._numbers import lookup, one_hot

LOGITS = jnp.array([[3.0, 0.0, 1.0], [0.0, 0.5, 2.0], [1.0, 4.0, 0.0]])
COUNTS = jnp.array([3, 1, 2])
VALUES = jnp.array([1.0, 2.0, 5.0])

# name -> function of the labels [3]; an example's row alone is NaN
BY_EXAMPLE = {
    "margins": lambda y: metrics.margins(LOGITS, y),
    "negative_margin": lambda y: w.negative_margin(LOGITS, y),
    "error_probability": lambda y: w.error_probability(LOGITS, y),
    "el2n": lambda y: w.el2n(LOGITS[None], y),
    "negative_average_margin": lambda y: w.negative_average_margin(LOGITS[None], y),
    "class_rarity": lambda y: w.class_rarity(y, COUNTS),
    "standardize_within_class": lambda y: w.standardize_within_class(VALUES, y, 3),
    "cross_entropy_bias_variance": lambda y: w.cross_entropy_bias_variance(LOGITS[None], y).error,
    "generalization_error, brier": lambda y: (
        w.generalization_error(LOGITS[None], y, loss="brier").error
    ),
    "example_sampling_probabilities": lambda y: w.example_sampling_probabilities(y, COUNTS, 0.5),
    "input_gradients": lambda y: jnp.sum(
        w.input_gradients(lambda scale, x: scale * x, jnp.ones(1), LOGITS, y)[0], axis=1
    ),
}
# name -> function of the labels [3] whose result has no row for one example: all of it is NaN
IN_SUM = {
    "confusion_matrix": lambda y: metrics.confusion_matrix(y, jnp.array([0, 1, 2]), 3),
    "confusion_matrix, predictions": lambda y: metrics.confusion_matrix(jnp.array([0, 1, 2]), y, 3),
    "balanced_accuracy": lambda y: metrics.balanced_accuracy(y, jnp.array([0, 1, 2]), 3),
    "mean_f1": lambda y: metrics.mean_f1(y, jnp.array([0, 1, 2]), 3),
    "mean_auc": lambda y: metrics.mean_auc(LOGITS, y),
    "class_margins": lambda y: w.class_margins(VALUES, y, 3).mean,
}


@pytest.mark.parametrize("label", [-100, -1, 3, 99])
@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_its_own_row_is_nan(name, label):
    known = jnp.array([0, 1, 2])
    values = np.asarray(BY_EXAMPLE[name](known.at[1].set(label)))
    expected = np.asarray(BY_EXAMPLE[name](known))
    assert np.isnan(values[1])
    if name != "standardize_within_class":  # where a class lost a member
        np.testing.assert_allclose(values[[0, 2]], expected[[0, 2]], rtol=1e-6)


@pytest.mark.parametrize("label", [-100, -1, 3, 99])
@pytest.mark.parametrize("name", IN_SUM)
def test_a_sum_over_the_classes_is_nan(name, label):
    known = jnp.array([0, 1, 2])
    assert not np.all(np.isnan(IN_SUM[name](known)))
    assert np.any(np.isnan(IN_SUM[name](known.at[1].set(label))))


def test_a_masked_example_may_have_any_label():
    labels, mask = jnp.array([0, -100, 2]), jnp.array([1, 0, 1])
    predictions = jnp.array([0, 1, 2])
    matrix = metrics.confusion_matrix(labels, predictions, 3, mask=mask)
    np.testing.assert_array_equal(matrix, np.diag([1, 0, 1]))
    assert metrics.mean_auc(LOGITS, labels, mask=mask) == 0.5  # right for class 0, wrong for 2
    margins = w.class_margins(VALUES, labels, 3, mask=mask)
    np.testing.assert_array_equal(margins.smallest, [1, np.inf, 5])


def test_labels_of_few_bits_meet_many_classes():
    labels = jnp.array([5, -1], jnp.int8)
    logits = jax.nn.one_hot(jnp.array([5, 5]), 200)
    np.testing.assert_array_equal(metrics.margins(logits, labels), [1, np.nan])


@pytest.mark.parametrize("wrong", [-1, 3])
def test_label_shift_refuses_unknown_classes(wrong):
    known, unknown = jnp.array([0, 1, 2]), jnp.array([0, 1, wrong])
    for arguments in ((known, unknown, known), (unknown, known, known), (known, known, unknown)):
        with pytest.raises(ValueError, match=r"must lie in \[0, 3\).*Number the classes from zero"):
            w.bbse_class_weights(*arguments, 3)
    traced = jax.jit(lambda labels: w.bbse_class_weights(known, labels, known, 3))
    assert np.all(np.isnan(traced(unknown)))


def test_a_table_of_integers_has_no_nan():
    rows = lookup(jnp.array([3, 5]), jnp.array([0, 1, 2, -1]))
    np.testing.assert_array_equal(rows, [3, 5, 0, 0])


def test_rows_of_one_hot_have_the_type_that_was_asked_for():
    rows = one_hot(jnp.array([1, -1, 3]), 3, jnp.bfloat16)
    assert rows.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rows.astype(float), [[0, 1, 0], [np.nan] * 3, [np.nan] * 3])
