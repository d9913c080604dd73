"""K-fold generalization error: nothing leaks, and scikit-learn's loops predict the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import NearestCentroid

from weighting.difficulty import cross_validation
from weighting.difficulty.cross_validation import cross_validated_predictions, kfold_assignments

KEY = jax.random.key(0)


def data(num_examples=23, num_inputs=3, num_classes=3):
    g = np.random.default_rng(1)
    labels = g.integers(num_classes, size=num_examples)
    inputs = g.normal(size=(num_examples, num_inputs)) + labels[:, None]
    return inputs, labels


def random_assignments(num_examples, num_folds, num_repeats):
    keys = jax.random.split(KEY, num_repeats)
    return np.stack([np.asarray(kfold_assignments(k, num_examples, num_folds)) for k in keys])


# --- folds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_examples", "num_folds"), [(20, 5), (23, 5), (7, 7), (9, 2)])
def test_folds_are_random_and_equal_up_to_one(num_examples, num_folds):
    folds = random_assignments(num_examples, num_folds, 3)
    for row in folds:
        sizes = np.bincount(row, minlength=num_folds)
        assert sizes.shape == (num_folds,)
        assert sizes.max() - sizes.min() == (num_examples % num_folds > 0)
    assert not np.array_equal(folds[0], folds[1])


def test_stratified_folds_spread_every_class():
    labels = np.array([0] * 31 + [1] * 9 + [2] * 5)
    folds = np.asarray(kfold_assignments(KEY, 45, 5, stratify=labels))
    assert set(np.bincount(folds)) == {9}
    for c in range(3):
        sizes = np.bincount(folds[labels == c], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    other = np.asarray(kfold_assignments(jax.random.key(1), 45, 5, stratify=labels))
    assert not np.array_equal(folds, other)


def test_networks_are_trained_on_stratified_folds():
    labels = jnp.array([0] * 20 + [1] * 5)

    def count_rare(key, inputs, labels, mask):
        return jnp.sum(labels * mask)

    def predict(count, queries):
        return jnp.full(len(queries), count)

    out = cross_validated_predictions(
        count_rare, predict, KEY, jnp.zeros((25, 1)), labels, num_repeats=8, stratify=True
    )
    np.testing.assert_array_equal(out, 4)  # of the rare class, one in each of five folds


# --- no leakage -------------------------------------------------------------------------------


@pytest.mark.parametrize("heeds_mask", [True, False])
@pytest.mark.parametrize("num_examples", [20, 23])
def test_no_network_sees_what_it_predicts_and_each_sees_all_else(num_examples, heeds_mask):
    def memorize(key, inputs, labels, mask):
        return inputs, mask if heeds_mask else jnp.ones_like(mask)

    def look_up(params, queries):
        seen, mask = params
        own = jnp.sum((seen[None, :] == queries[:, None]) * mask[None, :], axis=1)
        members = jnp.arange(num_examples)[:, None] == seen[None, :]
        trained_on = jnp.any(members & (mask[None, :] > 0), axis=1)
        return jnp.concatenate(
            [own[:, None], jnp.broadcast_to(trained_on, (len(queries), num_examples))], axis=1
        )

    labels = jnp.zeros(num_examples, int)
    out = cross_validated_predictions(
        memorize, look_up, KEY, jnp.arange(num_examples), labels, num_folds=5, num_repeats=4
    )
    assert out.shape == (4, num_examples, 1 + num_examples)
    own, trained_on = np.asarray(out[..., 0]), np.asarray(out[..., 1:])
    np.testing.assert_array_equal(own, 0)
    for r in range(4):
        np.testing.assert_array_equal(np.diagonal(trained_on[r]), 0)
        np.testing.assert_array_equal(trained_on[r], trained_on[r].T)
        left_out = num_examples - trained_on[r].sum(1)  # the size of each example's own fold
        fold = {4, 5} if num_examples == 23 else {4}
        assert set(left_out) == fold
    assert not np.array_equal(trained_on[0], trained_on[1])  # fresh folds


def test_a_nearest_neighbour_is_never_the_example_itself():
    inputs, _ = data()
    own_label = np.arange(len(inputs))  # every example its own class: only leakage could be right

    def nearest(params, queries):
        seen, labels = params
        distance = jnp.sum((queries[:, None, :] - seen[None, :, :]) ** 2, axis=2)
        return labels[jnp.argmin(distance, axis=1)]

    out = cross_validated_predictions(
        lambda key, x, y, mask: (x, y), nearest, KEY, inputs, own_label, num_repeats=3
    )
    assert np.all(np.asarray(out) != own_label)


def test_every_network_has_its_own_key():
    def draw(key, inputs, labels, mask):
        return jax.random.normal(key)

    def predict(params, queries):
        return jnp.full(len(queries), params)

    x = jnp.arange(12.0)
    out = cross_validated_predictions(draw, predict, KEY, x, x, num_folds=3, num_repeats=2)
    assert len(np.unique(np.asarray(out))) == 6


# --- against scikit-learn ---------------------------------------------------------------------


def ridge_fn(penalty):
    def train(key, inputs, labels, mask):
        count = jnp.sum(mask)
        x_mean = mask @ inputs / count
        y_mean = mask @ labels / count
        x = (inputs - x_mean[None, :]) * mask[:, None]
        slope = jnp.linalg.solve(
            x.T @ x + penalty * jnp.eye(x.shape[1]), x.T @ ((labels - y_mean) * mask)
        )
        return slope, y_mean - x_mean @ slope

    return train


def linear(params, inputs):
    return inputs @ params[0] + params[1]


@pytest.mark.parametrize("models_at_once", [None, 4])
def test_ridge_predicts_as_scikit_learn_does_fold_by_fold(float64, models_at_once):
    inputs, labels = data()
    targets = labels + 0.3 * inputs[:, 0] ** 2
    folds = random_assignments(len(inputs), 5, 3)
    expected = np.zeros(folds.shape)
    for row, assignment in zip(expected, folds, strict=True):
        for train, held_out in PredefinedSplit(assignment).split():
            model = Ridge(alpha=0.7).fit(inputs[train], targets[train])
            row[held_out] = model.predict(inputs[held_out])
    out = cross_validated_predictions(
        ridge_fn(0.7),
        linear,
        KEY,
        jnp.asarray(inputs),
        jnp.asarray(targets),
        assignments=folds,
        models_at_once=models_at_once,
    )
    np.testing.assert_allclose(out, expected, rtol=1e-10)

    err = cross_validation.generalization_error(out, jnp.asarray(targets), loss="squared")
    square = (expected - targets) ** 2
    np.testing.assert_allclose(err.error, square.mean(0), rtol=1e-9)
    np.testing.assert_allclose(err.standard_error, scipy.stats.sem(square), rtol=1e-8)
    np.testing.assert_allclose(err.bias, (expected.mean(0) - targets) ** 2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(err.variance, expected.var(0), rtol=1e-7)


def test_nearest_centroid_classifies_as_scikit_learn_does_in_uneven_folds():
    inputs, labels = data(40)
    g = np.random.default_rng(2)
    folds = np.stack([g.permutation([0] * 5 + [1] * 14 + [2] * 21) for _ in range(2)])
    expected = np.zeros(folds.shape)
    for row, assignment in zip(expected, folds, strict=True):
        for train, held_out in PredefinedSplit(assignment).split():
            row[held_out] = (
                NearestCentroid().fit(inputs[train], labels[train]).predict(inputs[held_out])
            )

    def centroids(key, x, y, mask):
        members = jax.nn.one_hot(y, 3) * mask[:, None]
        return members.T @ x / jnp.sum(members, axis=0)[:, None]

    def logits(centers, x):
        return -jnp.sum((x[:, None, :] - centers[None, :, :]) ** 2, axis=2)

    out = cross_validated_predictions(
        centroids, logits, KEY, inputs.astype(np.float32), labels, assignments=folds
    )
    assert out.shape == (2, 40, 3)
    np.testing.assert_array_equal(jnp.argmax(out, axis=2), expected)


def test_it_runs_under_jit_with_traced_hyperparameters_and_on_pytrees():
    inputs, labels = data(20)
    x, y = jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.float32)

    def train_on(penalty):
        def train(key, batch, labels, mask):
            return ridge_fn(penalty)(key, batch["x"], labels, mask)

        return train

    def run(penalty):
        return cross_validated_predictions(
            train_on(penalty), lambda p, b: linear(p, b["x"]), KEY, {"x": x}, y, num_repeats=2
        )

    together = jax.jit(jax.vmap(run))(jnp.array([0.1, 10.0]))
    np.testing.assert_allclose(together, jnp.stack([run(0.1), run(10.0)]), rtol=1e-4, atol=1e-5)


# --- the error --------------------------------------------------------------------------------


def test_generalization_error_of_cross_entropy_and_brier(float64):
    g = np.random.default_rng(3)
    z, labels = g.normal(size=(4, 6, 3)), g.integers(3, size=6)
    log_q = scipy.special.log_softmax(z, axis=2)
    held_out = -log_q[:, np.arange(6), labels]
    err = cross_validation.generalization_error(jnp.asarray(z), jnp.asarray(labels))
    np.testing.assert_allclose(err.error, held_out.mean(0), rtol=1e-12)
    np.testing.assert_allclose(err.standard_error, scipy.stats.sem(held_out), rtol=1e-12)
    np.testing.assert_allclose(err.bias + err.variance, err.error, rtol=1e-12)
    brier = ((np.exp(log_q) - np.eye(3)[labels]) ** 2).sum(2)
    err = cross_validation.generalization_error(jnp.asarray(z), jnp.asarray(labels), loss="brier")
    np.testing.assert_allclose(err.error, brier.mean(0), rtol=1e-12)
    np.testing.assert_allclose(err.bias + err.variance, err.error, rtol=1e-12)


@pytest.mark.parametrize("loss", cross_validation.LOSSES)
def test_only_networks_that_did_not_train_on_an_example_count_for_it(float64, loss):
    g = np.random.default_rng(5)
    z, labels = g.normal(size=(4, 6, 3)), g.integers(3, size=6)
    targets = g.normal(size=(6, 3)) if loss == "squared" else labels
    mask = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1])
    mask = mask.reshape(4, 6)
    err = cross_validation.generalization_error(
        jnp.asarray(z), jnp.asarray(targets), loss=loss, mask=jnp.asarray(mask)
    )
    for i in range(6):
        kept = z[mask[:, i] == 1, i]
        log_q = scipy.special.log_softmax(kept, axis=1)
        error = {
            "cross_entropy": -log_q[:, labels[i]],
            "brier": np.sum((np.exp(log_q) - np.eye(3)[labels[i]]) ** 2, axis=1),
            "squared": np.sum((kept - targets[i]) ** 2, axis=1),
        }[loss]
        np.testing.assert_allclose(err.error[i], error.mean(), rtol=1e-12)
        np.testing.assert_allclose(err.standard_error[i], scipy.stats.sem(error), rtol=1e-12)
        np.testing.assert_allclose(err.bias[i] + err.variance[i], error.mean(), rtol=1e-12)


def test_wrong_labels_have_large_errors_by_their_bias():
    g = np.random.default_rng(4)
    true = np.arange(60) % 2
    inputs = (g.normal(size=(60, 2)) + 4 * (2 * true[:, None] - 1)).astype(np.float32)
    labels = np.where(np.arange(60) < 6, 1 - true, true)

    def train(key, x, y, mask):
        signs = (2 * y - 1) * mask

        def step(w, _):
            return w + 0.01 * (signs * jax.nn.sigmoid(-signs * (x @ w))) @ x, None

        return jax.lax.scan(step, jnp.zeros(2), length=50)[0]

    def logits(w, x):
        return jnp.stack([jnp.zeros(len(x)), x @ w], axis=1)

    out = cross_validated_predictions(train, logits, KEY, inputs, labels, stratify=True)
    err = cross_validation.generalization_error(out, jnp.asarray(labels))
    assert np.min(err.error[:6]) > np.max(err.error[6:])
    assert np.min(err.bias[:6]) > np.max(err.bias[6:])


def test_bad_input_is_refused():
    x = jnp.arange(6.0)

    def run(**options):
        return cross_validated_predictions(
            lambda key, x, y, mask: 0.0, lambda p, x: x, KEY, x, x, **options
        )

    with pytest.raises(ValueError, match=r"num_folds must lie in \[2, 6\]"):
        run(num_folds=7)
    with pytest.raises(ValueError, match="at least 1"):
        run(num_repeats=0)
    with pytest.raises(ValueError, match="at least 1"):
        run(num_folds=2, models_at_once=0)
    with pytest.raises(ValueError, match=r"shape \[R, 6\]"):
        run(assignments=np.zeros((6,), int))
    with pytest.raises(ValueError, match="every fold needs an example"):
        run(assignments=np.array([[0, 0, 2, 2, 2, 2]]))
    with pytest.raises(ValueError, match="integers from 0"):
        run(assignments=np.array([[0.0, 1, 0, 1, 0, 1]]))
    with pytest.raises(TypeError, match="concrete"):
        jax.jit(lambda folds: run(assignments=folds))(jnp.array([[0, 1, 0, 1, 0, 1]]))
    with pytest.raises(ValueError, match="leading axis, 6"):
        cross_validated_predictions(lambda *_: 0.0, lambda p, x: x, KEY, jnp.arange(5.0), x)
    with pytest.raises(ValueError, match="loss must be one of"):
        cross_validation.generalization_error(jnp.zeros((1, 2, 3)), jnp.zeros(2), loss="huber")
