import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from weighting import metrics

NUM_EXAMPLES, NUM_CLASSES = 200, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def problem(rng):
    """Labels [N], probabilities [N, C] of a few distinct values (many ties), predictions [N]."""
    labels = rng.integers(0, NUM_CLASSES, NUM_EXAMPLES)
    scores = rng.integers(1, 4, (NUM_EXAMPLES, NUM_CLASSES)) + 2.0 * np.eye(NUM_CLASSES)[labels]
    scores *= rng.integers(1, 3, scores.shape)
    probabilities = scores / scores.sum(1, keepdims=True)
    return labels, probabilities, probabilities.argmax(1)


def pair_counting_auc(scores, positives):
    wins = [
        (s > t) + 0.5 * (s == t)
        for s, t in itertools.product(scores[positives == 1], scores[positives == 0])
    ]
    return np.mean(wins)


# Predictions.


def test_predict_is_argmax_or_sign():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(metrics.predict(logits), [1, 0])
    scores = jnp.array([-1.0, 0.0, 0.5])
    np.testing.assert_array_equal(metrics.predict(scores), [0, 0, 1])
    np.testing.assert_array_equal(metrics.predict(scores[:, None]), [0, 0, 1])
    with pytest.raises(ValueError, match=r"\[N, C\]"):
        metrics.predict(jnp.zeros((2, 3, 4)))


def test_margins_by_hand():
    logits = jnp.array([[2.0, 0.0, -1.0], [0.5, 0.0, 0.5], [-3.0, 1.0, 4.0], [1.0, 0.0, 9.0]])
    labels = jnp.array([0, 2, 1, 2])
    np.testing.assert_allclose(metrics.margins(logits, labels), [2, 0, -3, 8])
    scores, signs = jnp.array([1.5, -0.5]), jnp.array([0, 0])
    np.testing.assert_allclose(metrics.margins(scores, signs), [-1.5, 0.5])
    np.testing.assert_allclose(metrics.margins(scores[:, None], signs), [-1.5, 0.5])
    extreme = metrics.margins(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    np.testing.assert_allclose(extreme, [-2e4])
    with pytest.raises(ValueError, match=r"logits \[N, C\]"):
        metrics.margins(logits, labels[:2])


# Counts of a confusion matrix.


def test_counts_agree_with_scikit_learn(problem):
    labels, probabilities, predictions = problem
    del probabilities
    np.testing.assert_array_equal(
        metrics.confusion_matrix(labels, predictions, NUM_CLASSES),
        sklearn.metrics.confusion_matrix(labels, predictions),
    )
    np.testing.assert_allclose(
        metrics.accuracy(labels, predictions),
        sklearn.metrics.accuracy_score(labels, predictions),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        metrics.per_class_accuracy(labels, predictions, NUM_CLASSES),
        sklearn.metrics.recall_score(labels, predictions, average=None),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        metrics.balanced_accuracy(labels, predictions, NUM_CLASSES),
        sklearn.metrics.balanced_accuracy_score(labels, predictions),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        metrics.mean_f1(labels, predictions, NUM_CLASSES),
        sklearn.metrics.f1_score(labels, predictions, average="macro"),
        rtol=1e-6,
    )


def test_counts_by_hand():
    # Class 0: 2 of 3 right. Class 1: 1 of 1. Class 2: absent, predicted once. Class 3: neither.
    labels = jnp.array([0, 0, 0, 1])
    predictions = jnp.array([0, 0, 2, 1])
    expected = [[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    counts = metrics.confusion_matrix(labels, predictions, 4)
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == jnp.float32
    assert metrics.accuracy(labels, predictions) == 0.75
    np.testing.assert_allclose(
        metrics.per_class_accuracy(labels, predictions, 4), [2 / 3, 1, np.nan, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(
        metrics.balanced_accuracy(labels, predictions, 4), (2 / 3 + 1) / 2, rtol=1e-6
    )
    # F1: 4 / (4 + 1 + 0), 2 / 2 and 0 / (0 + 0 + 1); class 3 is left out.
    np.testing.assert_allclose(metrics.mean_f1(labels, predictions, 4), (0.8 + 1 + 0) / 3, 1e-6)


# Area under the ROC curve.


def test_auc_agrees_with_pair_counting_and_scikit_learn(rng):
    positives = rng.integers(0, 2, 60)
    for scores in (rng.normal(size=60), rng.integers(0, 4, 60), np.zeros(60)):
        auc = metrics.area_under_roc(jnp.asarray(scores, jnp.float32), positives)
        np.testing.assert_allclose(auc, pair_counting_auc(scores, positives), rtol=1e-6)
        np.testing.assert_allclose(auc, sklearn.metrics.roc_auc_score(positives, scores), rtol=1e-6)


def test_auc_by_hand():
    scores = jnp.array([0.1, 0.4, 0.4, 0.8])
    # Pairs (0.4, 0.1), (0.4, 0.4), (0.8, 0.1), (0.8, 0.4): 1 + 1/2 + 1 + 1 of four.
    assert metrics.area_under_roc(scores, jnp.array([0, 1, 0, 1])) == 3.5 / 4
    assert metrics.area_under_roc(scores, jnp.array([False, False, False, True])) == 1


def test_auc_orders_infinities():
    scores = jnp.array([jnp.inf, jnp.inf, -jnp.inf, 0.0])
    # Positives inf and 0 against negatives inf and -inf: 1/2 + 1 + 0 + 1 of four.
    assert metrics.area_under_roc(scores, jnp.array([1, 0, 0, 1])) == 2.5 / 4


def test_auc_is_nan_where_undefined():
    scores = jnp.array([0.0, 1.0, 2.0])
    assert jnp.isnan(metrics.area_under_roc(scores, jnp.array([0, 0, 0])))
    assert jnp.isnan(metrics.area_under_roc(scores, jnp.array([1, 1, 1])))
    assert jnp.isnan(metrics.area_under_roc(scores.at[1].set(jnp.nan), jnp.array([0, 1, 1])))


def test_mean_auc_agrees_with_scikit_learn(problem):
    labels, probabilities, _ = problem
    np.testing.assert_allclose(
        metrics.mean_auc(jnp.asarray(probabilities, jnp.float32), labels),
        sklearn.metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        rtol=1e-6,
    )


def test_mean_auc_of_a_binary_score(rng):
    scores = jnp.asarray(rng.normal(size=50), jnp.float32)
    labels = rng.integers(0, 2, 50)
    np.testing.assert_allclose(
        metrics.mean_auc(jnp.stack([-scores, scores], axis=1), labels),
        metrics.area_under_roc(scores, labels),
        rtol=1e-6,
    )


def test_mean_auc_leaves_out_absent_classes(problem):
    labels, probabilities, _ = problem
    with_absent = np.concatenate([probabilities, probabilities[:, :1]], axis=1)
    np.testing.assert_allclose(
        metrics.mean_auc(with_absent, labels), metrics.mean_auc(probabilities, labels), rtol=1e-6
    )
    assert jnp.isnan(metrics.mean_auc(probabilities, np.zeros_like(labels)))
    mask = labels != NUM_CLASSES - 1  # a class of masked examples alone is absent, too
    np.testing.assert_allclose(
        metrics.mean_auc(probabilities, labels, mask=mask),
        metrics.mean_auc(probabilities[mask], labels[mask]),
        rtol=1e-6,
    )
    assert not jnp.isnan(metrics.mean_auc(probabilities, labels, mask=mask))
    broken = probabilities.copy()
    broken[0, 0] = np.nan  # must show, not be left out as if its class were absent
    assert jnp.isnan(metrics.mean_auc(broken, labels))


# Measures of weights.


def test_effective_sample_size():
    np.testing.assert_allclose(metrics.effective_sample_size(jnp.full(7, 3.0)), 7, rtol=1e-6)
    assert metrics.effective_sample_size(jnp.array([0.0, 5.0, 0.0])) == 1
    assert metrics.effective_sample_size(jnp.zeros(3)) == 0
    weights = jnp.array([1.0, 2.0, 3.0])
    for scale in (1.0, 1e-30, 1e30):
        np.testing.assert_allclose(
            metrics.effective_sample_size(scale * weights), 36 / 14, rtol=1e-6
        )
    assert jnp.isnan(metrics.effective_sample_size(jnp.array([1.0, jnp.nan])))


def test_corruption_auc_is_high_for_low_weights():
    is_corrupted = jnp.array([True, False, True, False])
    assert metrics.corruption_auc(jnp.array([0.0, 1.0, 0.5, 2.0]), is_corrupted) == 1
    assert metrics.corruption_auc(jnp.array([1.0, 0.0, 2.0, 0.5]), is_corrupted) == 0
    assert metrics.corruption_auc(jnp.ones(4), is_corrupted) == 0.5


# Properties of all.

MEASURES = {
    "confusion_matrix": lambda y, p, **kw: metrics.confusion_matrix(
        y, metrics.predict(p), NUM_CLASSES, **kw
    ),
    "accuracy": lambda y, p, **kw: metrics.accuracy(y, metrics.predict(p), **kw),
    "per_class_accuracy": lambda y, p, **kw: metrics.per_class_accuracy(
        y, metrics.predict(p), NUM_CLASSES, **kw
    ),
    "balanced_accuracy": lambda y, p, **kw: metrics.balanced_accuracy(
        y, metrics.predict(p), NUM_CLASSES, **kw
    ),
    "mean_f1": lambda y, p, **kw: metrics.mean_f1(y, metrics.predict(p), NUM_CLASSES, **kw),
    "area_under_roc": lambda y, p, **kw: metrics.area_under_roc(p[:, 0], y == 0, **kw),
    "mean_auc": lambda y, p, **kw: metrics.mean_auc(p, y, **kw),
    "effective_sample_size": lambda y, p, **kw: metrics.effective_sample_size(p[:, 0], **kw),
    "corruption_auc": lambda y, p, **kw: metrics.corruption_auc(p[:, 0], y == 0, **kw),
}
MEASURES = {name: jax.jit(measure) for name, measure in MEASURES.items()}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_masking_equals_removing(measure, problem, rng):
    labels, probabilities, _ = problem
    probabilities = probabilities.astype(np.float32)
    mask = rng.integers(0, 2, NUM_EXAMPLES)
    kept = measure(labels[mask == 1], probabilities[mask == 1])
    probabilities[mask == 0] = np.nan  # what is ignored may hold anything
    np.testing.assert_allclose(measure(labels, probabilities, mask=mask), kept, rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_all_masked_is_empty(measure, problem):
    labels, probabilities, _ = problem
    value = measure(labels, probabilities.astype(np.float32), mask=np.zeros(NUM_EXAMPLES, int))
    assert jnp.all(jnp.isnan(value) | (value == 0))


@pytest.mark.parametrize("dtype", [bool, np.float32, np.uint8])
def test_masks_of_any_type(dtype):
    mask = np.array([1, 0, 1], dtype)
    assert metrics.accuracy(jnp.array([0, 1, 2]), jnp.array([0, 0, 0]), mask=mask) == 0.5


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_vmap_equals_a_loop(measure, problem, rng):
    labels, probabilities, _ = problem
    labels = labels.reshape(4, -1)
    probabilities = probabilities.astype(np.float32).reshape(4, -1, NUM_CLASSES)
    masks = rng.integers(0, 2, labels.shape)
    together = jax.vmap(lambda y, p, m: measure(y, p, mask=m))(labels, probabilities, masks)
    one_by_one = [measure(labels[i], probabilities[i], mask=masks[i]) for i in range(4)]
    np.testing.assert_allclose(together, np.stack(one_by_one), rtol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"one shape \[N\].*'predictions': \(3, 1\)"):
        metrics.accuracy(jnp.zeros(3, int), jnp.zeros((3, 1), int))
    with pytest.raises(ValueError, match="'predictions': "):
        metrics.confusion_matrix(jnp.zeros(3, int), jnp.zeros((3, 1), int), 2)
    with pytest.raises(ValueError, match="'mask': "):
        metrics.area_under_roc(jnp.zeros(3), jnp.zeros(3), mask=jnp.ones(1))
    with pytest.raises(ValueError, match=r"\[N, C\]"):
        metrics.mean_auc(jnp.zeros(3), jnp.zeros(3, int))
