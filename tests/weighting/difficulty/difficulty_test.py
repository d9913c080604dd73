"""Difficulty measures against NumPy loops, SciPy and scikit-learn; exact splits of the error."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.neighbors import KNeighborsClassifier

from weighting import losses
from weighting.difficulty import bias_variance, one_network, over_a_dataset
from weighting.difficulty import several_networks as ensemble

R, N, C = 5, 7, 3


def rng():
    return np.random.default_rng(0)


def network_logits(scale=2.0):
    return rng().normal(size=(R, N, C)) * scale


LABELS = np.array([0, 1, 2, 2, 1, 0, 2])
MASK = rng().random((R, N)) < 0.6
MASK[:, 0] = [1, 1, 0, 1, 0]
MASK[:, 5] = 0  # counts for no network
MASK[:, 6] = [0, 0, 1, 0, 0]  # for one


def counted(values, i):
    """What the networks that count say of example i."""
    return values[MASK[:, i], i]


# --- one network ------------------------------------------------------------------------------


def test_error_probability_by_hand_and_its_precision(float64):
    logits = jnp.array([[math.log(2), 0.0, 0.0], [0.0, math.log(6), 0.0], [40.0, 0.0, -50.0]])
    np.testing.assert_allclose(
        one_network.error_probability(logits, jnp.array([0, 0, 0])),
        [1 / 2, 7 / 8, math.exp(-40)],
        rtol=1e-12,
    )
    score = jnp.array([math.log(3), -math.log(3)])
    np.testing.assert_allclose(
        one_network.error_probability(score, jnp.array([1, 1])), [1 / 4, 3 / 4], rtol=1e-14
    )


def test_negative_margin_by_hand():
    logits = jnp.array([[2.0, -1.0, 0.5], [2.0, -1.0, 0.5], [1.0, 1.0, -3.0]])
    labels = jnp.array([0, 1, 1])
    np.testing.assert_array_equal(one_network.negative_margin(logits, labels), [-1.5, 3.0, 0.0])
    scores = jnp.array([1.5, -0.5])
    for shaped in (scores, scores[:, None]):
        np.testing.assert_array_equal(
            one_network.negative_margin(shaped, jnp.array([1, 1])), [-1.5, 0.5]
        )
    with pytest.raises(ValueError, match="margins need logits"):
        one_network.negative_margin(logits, labels[:2])


def test_gradient_norms_against_closed_forms_and_vmap(float64):
    z = jnp.asarray(network_logits()[0])
    p = scipy.special.softmax(np.asarray(z), axis=1)
    error = p - np.eye(C)[LABELS]
    expected = [math.sqrt(sum(e * e for e in row)) for row in error]
    got = one_network.logit_gradient_norm(losses.cross_entropy, z, jnp.asarray(LABELS))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(
        ensemble.el2n(z[None], jnp.asarray(LABELS)), expected, rtol=1e-12
    )  # the same thing, for one network

    features = jnp.asarray(rng().normal(size=(N, 4)))
    outer = [np.outer(h, g) for h, g in zip(features, error, strict=True)]
    for bias in (True, False):
        flat = [np.append(o.ravel(), g if bias else []) for o, g in zip(outer, error, strict=True)]
        np.testing.assert_allclose(
            one_network.last_layer_gradient_norm(
                losses.cross_entropy, z, jnp.asarray(LABELS), features, bias=bias
            ),
            [np.linalg.norm(row) for row in flat],
            rtol=1e-12,
        )


def test_a_norm_of_zero_has_gradient_zero():
    logits = jnp.array([[200.0, 0.0], [1.0, 0.0]])

    def total(z):
        return jnp.sum(one_network.logit_gradient_norm(losses.cross_entropy, z, jnp.zeros(2, int)))

    gradient = jax.grad(total)(logits)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[0], 0)


def test_class_rarity():
    np.testing.assert_allclose(
        one_network.class_rarity(jnp.array([0, 1, 1, 2]), np.array([10, 4, 1])),
        [0.1, 0.25, 0.25, 1.0],
        rtol=1e-7,
    )
    with pytest.raises(ValueError, match="vector"):
        one_network.class_rarity(jnp.array([0]), np.ones((2, 1)))


def test_standardize_within_class_is_the_z_score_of_each_class(float64):
    values = rng().normal(size=N) * 3 + 7
    got = one_network.standardize_within_class(jnp.asarray(values), jnp.asarray(LABELS), 4)
    for c in range(C):
        np.testing.assert_allclose(
            np.asarray(got)[c == LABELS], scipy.stats.zscore(values[c == LABELS]), rtol=1e-10
        )
    equal = one_network.standardize_within_class(jnp.full(3, 0.1), jnp.zeros(3, int), 1)
    np.testing.assert_array_equal(equal, 0)


# --- prediction depth -------------------------------------------------------------------------


def reference_depth(support, support_labels, queries, predictions, k, own=None):
    """Walks back from the last layer, with scikit-learn's neighbours."""
    depths = []
    for i, prediction in enumerate(predictions):
        keep = np.ones(len(support_labels), bool)
        if own is not None:
            keep[own[i]] = False
        depth = len(support)
        for layer in reversed(range(len(support))):
            train = support[layer].reshape(len(keep), -1)[keep]
            knn = KNeighborsClassifier(k).fit(train, support_labels[keep])
            if knn.predict(queries[layer][i].reshape(1, -1))[0] != prediction:
                break
            depth = layer
        depths.append(depth)
    return depths


@pytest.mark.parametrize("num_neighbors", [1, 4])
def test_prediction_depth_against_scikit_learn(float64, num_neighbors):
    g = rng()
    m, q = 25, 18
    support_labels = g.integers(C, size=m)
    predictions = g.integers(C, size=q)
    shapes, signals = [(2, 2), (3,), (5,)], [0.3, 0.7, 1.0]
    support, queries = (
        [
            g.normal(size=(len(labels), *shape)) + signal * labels.reshape(-1, *[1] * len(shape))
            for shape, signal in zip(shapes, signals, strict=True)
        ]
        for labels in (support_labels, predictions)
    )
    got = one_network.prediction_depth(
        support, support_labels, queries, predictions, C, num_neighbors=num_neighbors, chunk_size=5
    )
    expected = reference_depth(support, support_labels, queries, predictions, num_neighbors)
    assert set(expected) == {0, 1, 2, 3}  # every depth occurs
    np.testing.assert_array_equal(got, expected)

    own = np.arange(m)
    got = one_network.prediction_depth(
        support,
        support_labels,
        support,
        support_labels,
        C,
        num_neighbors=num_neighbors,
        own_index=own,
    )
    expected = reference_depth(support, support_labels, support, support_labels, num_neighbors, own)
    np.testing.assert_array_equal(got, expected)


def test_prediction_depth_refuses_bad_input():
    layer, labels = jnp.zeros((4, 2)), jnp.zeros(4, int)
    with pytest.raises(ValueError, match="same layers"):
        one_network.prediction_depth([layer], labels, [layer, layer], labels, 2, num_neighbors=1)
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        one_network.prediction_depth(
            [layer], labels, [layer], labels, 2, num_neighbors=4, own_index=jnp.arange(4)
        )


# --- several networks -------------------------------------------------------------------------


def test_means_variances_and_standard_errors(float64):
    values = rng().normal(size=(R, N))
    plain = ensemble.mean_over_networks(jnp.asarray(values))
    np.testing.assert_allclose(plain.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(plain.standard_error, scipy.stats.sem(values), rtol=1e-12)
    for ddof in (0, 1):
        np.testing.assert_allclose(
            ensemble.variance_over_networks(jnp.asarray(values), ddof=ddof),
            values.var(axis=0, ddof=ddof),
            rtol=1e-12,
        )
    poisoned = np.where(MASK, values, np.nan)  # what does not count may be anything
    masked = ensemble.mean_over_networks(jnp.asarray(poisoned), mask=jnp.asarray(MASK))
    for i in range(N):
        own = counted(values, i)
        if len(own) == 0:
            assert np.isnan(masked.mean[i])
        else:
            np.testing.assert_allclose(masked.mean[i], own.mean(), rtol=1e-12)
        if len(own) < 2:
            assert np.isnan(masked.standard_error[i])
        else:
            np.testing.assert_allclose(masked.standard_error[i], scipy.stats.sem(own), rtol=1e-12)
    counts = ensemble.mean_over_networks(jnp.array([[True], [False], [True], [True]]))
    np.testing.assert_allclose(counts.mean, [0.75])
    np.testing.assert_allclose(counts.standard_error, [0.25], rtol=1e-12)
    with pytest.raises(ValueError, match="mask must have shape"):
        ensemble.mean_over_networks(jnp.asarray(values), mask=jnp.ones(N))


def test_el2n_and_margins_against_loops(float64):
    z = network_logits()
    el2n, margins = np.zeros((R, N)), np.zeros((R, N))
    for r in range(R):
        for i in range(N):
            y = LABELS[i]
            p = scipy.special.softmax(z[r, i])
            el2n[r, i] = np.linalg.norm(p - np.eye(C)[y])
            margins[r, i] = z[r, i, y] - max(z[r, i, j] for j in range(C) if j != y)
    logits, labels, mask = jnp.asarray(z), jnp.asarray(LABELS), jnp.asarray(MASK)
    np.testing.assert_allclose(ensemble.el2n(logits, labels), el2n.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        ensemble.negative_average_margin(logits, labels), -margins.mean(0), rtol=1e-12, atol=1e-14
    )
    for ddof in (0, 1):
        np.testing.assert_allclose(
            ensemble.margin_variance(logits, labels, ddof=ddof),
            margins.var(0, ddof=ddof),
            rtol=1e-12,
        )
    own = [counted(el2n, i).mean() if MASK[:, i].any() else np.nan for i in range(N)]
    np.testing.assert_allclose(ensemble.el2n(logits, labels, mask=mask), own, rtol=1e-12)
    own = [-counted(margins, i).mean() if MASK[:, i].any() else np.nan for i in range(N)]
    np.testing.assert_allclose(
        ensemble.negative_average_margin(logits, labels, mask=mask), own, rtol=1e-12
    )


def test_entropies_and_mutual_information_against_scipy(float64):
    z = network_logits()
    p = scipy.special.softmax(z, axis=2)
    logits, mask = jnp.asarray(z), jnp.asarray(MASK)
    total, expected = ensemble.predictive_entropy(logits), ensemble.expected_entropy(logits)
    np.testing.assert_allclose(total, scipy.stats.entropy(p.mean(0), axis=1), rtol=1e-12)
    np.testing.assert_allclose(expected, scipy.stats.entropy(p, axis=2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(ensemble.mutual_information(logits), total - expected, rtol=1e-10)
    for i in range(N):
        if not MASK[:, i].any():
            assert np.isnan(ensemble.mutual_information(logits, mask=mask)[i])
            continue
        q = counted(p, i)
        parts = scipy.stats.entropy(q.mean(0)), scipy.stats.entropy(q, axis=1).mean()
        np.testing.assert_allclose(
            ensemble.predictive_entropy(logits, mask=mask)[i], parts[0], rtol=1e-12
        )
        np.testing.assert_allclose(
            ensemble.expected_entropy(logits, mask=mask)[i], parts[1], rtol=1e-12
        )
        np.testing.assert_allclose(
            ensemble.mutual_information(logits, mask=mask)[i],
            parts[0] - parts[1],
            rtol=1e-9,
            atol=1e-15,
        )


def test_uncertainty_at_its_limits():
    sure = jnp.array([[[1e4, 0.0]], [[0.0, 1e4]]])  # two networks that contradict each other
    np.testing.assert_allclose(ensemble.mutual_information(sure), [math.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(ensemble.expected_entropy(sure), [0.0])
    scores = jnp.array([[1e4], [-1e4]])  # the same as single scores
    np.testing.assert_allclose(ensemble.predictive_entropy(scores), [math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(
        ensemble.predictive_entropy(scores[..., None]), [math.log(2)], rtol=1e-6
    )
    same = jnp.broadcast_to(jnp.array([[[0.3, -1.2, 2.0]]]), (4, 1, 3))
    np.testing.assert_allclose(ensemble.mutual_information(same), [0.0], atol=1e-6)
    with pytest.raises(ValueError, match=r"logits\[None\]"):
        ensemble.el2n(jnp.zeros(3), jnp.zeros(3, int))


def test_predictive_variance_is_equation_7(float64):
    p = scipy.special.softmax(network_logits(), axis=2)
    moments = (p**2).sum(2).mean(0) - (p.mean(0) ** 2).sum(1)
    np.testing.assert_allclose(
        ensemble.predictive_variance(jnp.asarray(p), inverse_precision=0.25),
        0.25 + moments,
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        ensemble.predictive_variance(jnp.asarray(p[:, :, 0]), ddof=1),
        p[:, :, 0].var(0, ddof=1),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="inverse_precision"):
        ensemble.predictive_variance(jnp.asarray(p), inverse_precision=-1.0)


def test_forgetting_events_count_falls_and_rank_the_never_learned_hardest():
    history = ["0000", "0111", "1111", "1010", "0101", "1100", "0001"]
    falls = [row.count("10") if "1" in row else len(row) for row in history]
    assert falls == [4, 0, 0, 2, 1, 1, 0]
    correct = jnp.array([[int(s) for s in row] for row in history]).T
    np.testing.assert_array_equal(ensemble.forgetting_events(correct), falls)
    np.testing.assert_array_equal(ensemble.forgetting_events(correct > 0), falls)
    with pytest.raises(ValueError, match=r"\[T, N\]"):
        ensemble.forgetting_events(correct[0])


# --- gradients of networks --------------------------------------------------------------------


def small_net(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


def stacked_nets(num_networks, num_inputs=4):
    g = rng()
    return {
        "hidden": jnp.asarray(g.normal(size=(num_networks, num_inputs, 5))),
        "out": jnp.asarray(g.normal(size=(num_networks, 5, C))),
    }


def test_grand_against_vmapped_gradients(float64):
    nets, x = stacked_nets(3), jnp.asarray(rng().normal(size=(N, 4)))

    def loss(params, example):
        logits = small_net(params, example[0])
        return jax.nn.logsumexp(logits) - logits[example[1]]

    examples = (x, jnp.asarray(LABELS))
    gradients = jax.vmap(jax.vmap(jax.grad(loss), (None, 0)), (0, None))(nets, examples)
    rows = np.concatenate([np.reshape(g, (3, N, -1)) for g in gradients.values()], axis=2)
    norms = np.linalg.norm(rows, axis=2)
    grand = ensemble.grand(loss, nets, examples, chunk_size=2)
    np.testing.assert_allclose(grand.mean, norms.mean(0), rtol=1e-12)
    np.testing.assert_allclose(grand.standard_error, scipy.stats.sem(norms), rtol=1e-12)
    first = jax.tree.map(lambda leaf: leaf[0], nets)
    np.testing.assert_allclose(
        one_network.gradient_norm(loss, first, examples, chunk_size=3), norms[0], rtol=1e-12
    )


def test_variance_of_gradients_against_loops(float64):
    nets, x = stacked_nets(4), rng().normal(size=(N, 4))
    g = ensemble.input_gradients(small_net, nets, jnp.asarray(x), jnp.asarray(LABELS))
    for t in range(4):  # d z_y / d x = W1 diag(1 - tanh^2) W2[:, y]
        w1, w2 = np.asarray(nets["hidden"][t]), np.asarray(nets["out"][t])
        for i in range(N):
            slope = 1 - np.tanh(x[i] @ w1) ** 2
            np.testing.assert_allclose(g[t, i], w1 @ (slope * w2[:, LABELS[i]]), rtol=1e-12)
    raw = np.array([np.mean([np.std(np.asarray(g)[:, i, d]) for d in range(4)]) for i in range(N)])
    images = g.reshape(4, N, 2, 2)
    np.testing.assert_allclose(ensemble.gradient_variation(images), raw, rtol=1e-12)
    vog = np.asarray(ensemble.variance_of_gradients(images, jnp.asarray(LABELS), C))
    for c in range(C):
        np.testing.assert_allclose(vog[c == LABELS], scipy.stats.zscore(raw[c == LABELS]))


# --- bias and variance ------------------------------------------------------------------------


def test_squared_error_splits_exactly(float64):
    f, y = rng().normal(size=(R, N, 2)), rng().normal(size=(N, 2))
    for predictions, targets in ((f, y), (f[..., 0], y[:, 0])):
        for mask in (None, MASK):
            got = bias_variance.squared_bias_variance(
                jnp.asarray(predictions),
                jnp.asarray(targets),
                mask=None if mask is None else jnp.asarray(mask),
            )
            np.testing.assert_allclose(got.error, got.bias + got.variance, rtol=1e-12, atol=1e-12)
            for i in range(N):
                own = predictions[:, i] if mask is None else counted(predictions, i)
                if len(own) == 0:
                    assert np.isnan(got.error[i])
                    assert np.isnan(got.bias[i])
                    continue
                square = [np.sum((row - targets[i]) ** 2) for row in own]
                np.testing.assert_allclose(got.error[i], np.mean(square), rtol=1e-12)
                np.testing.assert_allclose(
                    got.bias[i], np.sum((own.mean(0) - targets[i]) ** 2), rtol=1e-12
                )
                if len(own) > 1:
                    np.testing.assert_allclose(
                        got.standard_error[i], scipy.stats.sem(square), rtol=1e-12
                    )
    probabilities = scipy.special.softmax(network_logits(), axis=2)
    got = bias_variance.squared_bias_variance(
        jnp.asarray(probabilities), jnp.asarray(np.eye(C)[LABELS])
    )
    np.testing.assert_allclose(
        got.variance, ensemble.predictive_variance(jnp.asarray(probabilities)), rtol=1e-12
    )  # Eq. 7 without its constant is the variance term of Eq. 2


@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_splits_exactly(float64, soft):
    z = network_logits(scale=3.0)
    q = scipy.special.softmax(z, axis=2)
    y = scipy.special.softmax(rng().normal(size=(N, C)), axis=1) if soft else np.eye(C)[LABELS]
    targets = jnp.asarray(y if soft else LABELS)
    for mask in (None, MASK):
        got = bias_variance.cross_entropy_bias_variance(
            jnp.asarray(z), targets, mask=None if mask is None else jnp.asarray(mask)
        )
        np.testing.assert_allclose(got.error, got.bias + got.variance, rtol=1e-12, atol=1e-12)
        for i in range(N):
            own = q[:, i] if mask is None else counted(q, i)
            if len(own) == 0:
                assert np.isnan(got.error[i])
                continue
            center = scipy.stats.gmean(own, axis=0)
            center = center / center.sum()
            divergences = [scipy.stats.entropy(y[i], row) for row in own]  # KL(y || q)
            parts = (
                np.mean(divergences),
                scipy.stats.entropy(y[i], center),
                np.mean([scipy.stats.entropy(center, row) for row in own]),
            )
            np.testing.assert_allclose(
                [got.error[i], got.bias[i], got.variance[i]], parts, rtol=1e-10, atol=1e-13
            )
            if len(own) > 1:
                np.testing.assert_allclose(
                    got.standard_error[i], scipy.stats.sem(divergences), rtol=1e-10
                )


def test_cross_entropy_split_is_stable_and_refuses_bad_shapes():
    z = jnp.array([[[1e4, -1e4]], [[1e4, 0.0]]])
    got = bias_variance.cross_entropy_bias_variance(z, jnp.array([1]))
    np.testing.assert_allclose(got.error, [15_000.0], rtol=1e-6)
    np.testing.assert_allclose(got.bias, [15_000.0], rtol=1e-6)
    np.testing.assert_allclose(got.variance, [0.0], atol=1e-6)
    with pytest.raises(ValueError, match="single score"):
        bias_variance.cross_entropy_bias_variance(z[..., 0], jnp.array([1]))
    with pytest.raises(ValueError, match="targets' shape"):
        bias_variance.squared_bias_variance(z, jnp.array([1.0]))


# --- whole data sets --------------------------------------------------------------------------


def test_score_dataset_keeps_the_order_and_traces_once():
    traces = []

    def score(params, batch):
        traces.append(batch["x"].shape)
        return params * jnp.sum(batch["x"], axis=1) + batch["y"]

    x, y = rng().normal(size=(10, 3)).astype(np.float32), np.arange(10.0, dtype=np.float32)
    for batch_size in (4, 10, 64):
        traces.clear()
        for factor in (2.0, -1.0):
            got = over_a_dataset.score_dataset(
                score, factor, {"x": x, "y": y}, batch_size=batch_size
            )
            np.testing.assert_allclose(got, factor * x.sum(1) + y, rtol=1e-5, atol=1e-5)
        assert traces == [(min(batch_size, 10), 3)]


def test_score_networks_is_the_mean_of_each_network():
    nets, x = stacked_nets(3), jnp.asarray(rng().normal(size=(N, 4)), jnp.float32)
    labels = jnp.asarray(LABELS)

    def loss(params, batch):
        return losses.cross_entropy(small_net(params, batch[0]), batch[1])

    each = np.stack(
        [
            scipy.special.logsumexp(z, axis=1) - z[np.arange(N), LABELS]
            for z in (
                np.tanh(np.asarray(x) @ w1) @ w2
                for w1, w2 in zip(nets["hidden"], nets["out"], strict=True)
            )
        ]
    )
    np.testing.assert_allclose(
        over_a_dataset.score_each_network(loss, nets, (x, labels), batch_size=3), each, rtol=1e-4
    )
    got = over_a_dataset.score_networks(loss, nets, (x, labels), batch_size=3)
    np.testing.assert_allclose(got.mean, each.mean(0), rtol=1e-4)
    np.testing.assert_allclose(got.standard_error, scipy.stats.sem(each), rtol=1e-4)


def test_dataset_scores_refuse_bad_input():
    def identity(params, batch):
        return batch

    with pytest.raises(ValueError, match="leading axis"):
        over_a_dataset.score_dataset(identity, None, (jnp.zeros(3), jnp.zeros(4)))
    with pytest.raises(ValueError, match="one row per example"):
        over_a_dataset.score_dataset(lambda p, x: jnp.sum(x), None, jnp.zeros(3))
    with pytest.raises(ValueError, match="batch_size"):
        over_a_dataset.score_dataset(identity, None, jnp.zeros(3), batch_size=0)
