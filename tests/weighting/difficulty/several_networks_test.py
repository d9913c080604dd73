"""Difficulty measures of several networks: NumPy loops, SciPy, and their limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from tests.weighting.difficulty.networks import (
    LABELS,
    MASK,
    C,
    N,
    R,
    counted,
    network_logits,
    rng,
    small_net,
    stacked_nets,
)
from weighting.difficulty import one_network
from weighting.difficulty import several_networks as ensemble


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
