"""Lookahead weights: fast against unrolled, finite differences, and ren2018's closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from weighting import (
    Signals,
    fast_scores,
    linearize_losses,
    lookahead_reweight,
    lookahead_weights,
    losses,
    unrolled_scores,
)

BATCH, CLEAN = 6, 4
REMEDY = "small trusted set"


class BatchNormNet(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=True):
        hidden = nn.BatchNorm(use_running_average=not train, dtype=inputs.dtype)(
            nn.Dense(7)(inputs)
        )
        return nn.Dense(3)(nn.tanh(hidden))


def problem(kind, seed=0):
    """(losses_fn, clean_loss_fn, params) of a small network in float64."""
    keys = jax.random.split(jax.random.key(seed), 6)
    inputs, clean = jax.random.normal(keys[0], (BATCH, 5)), jax.random.normal(keys[1], (CLEAN, 5))
    labels = jax.random.randint(keys[2], (BATCH,), 0, 3)
    clean_labels = jax.random.randint(keys[3], (CLEAN,), 0, 3)
    if kind == "batch_norm":
        net = BatchNormNet()
        variables = net.init(keys[4], inputs)

        def logits_fn(params, x):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            return net.apply(state, x, mutable=["batch_stats"])[0]

        params = variables["params"]
    else:
        params = {
            "first": jax.random.normal(keys[4], (5, 7)),
            "head": jax.random.normal(keys[5], (7, 3)),
        }

        def logits_fn(params, x):
            return jnp.tanh(x @ params["first"]) @ params["head"]

    return (
        lambda p: losses.cross_entropy(logits_fn(p, inputs), labels),
        lambda p: jnp.mean(losses.cross_entropy(logits_fn(p, clean), clean_labels)),
        jax.tree.map(lambda x: x.astype(jnp.float64), params),
    )


def finite_difference_scores(losses_fn, params, clean_loss_fn, optimizer, num_steps, weights):
    """-dG/d(weights) by central differences through plain virtual steps."""

    @jax.jit
    def outer(weights):
        state, virtual = optimizer.init(params), params
        for _ in range(num_steps):
            gradient = jax.grad(lambda p: jnp.mean(weights * losses_fn(p)))(virtual)
            updates, state = optimizer.update(gradient, state, virtual)
            virtual = optax.apply_updates(virtual, updates)
        return clean_loss_fn(virtual)

    step = 1e-5
    return np.array(
        [
            -(outer(weights.at[i].add(step)) - outer(weights.at[i].add(-step))) / (2 * step)
            for i in range(len(weights))
        ]
    )


@pytest.mark.parametrize("kind", ["mlp", "batch_norm"])
def test_fast_unrolled_and_finite_differences_agree(float64, kind):
    losses_fn, clean_loss_fn, params = problem(kind)
    sgd = optax.sgd(1.0)
    fast = fast_scores(linearize_losses(losses_fn, params), jax.grad(clean_loss_fn)(params))
    unrolled = unrolled_scores(losses_fn, params, clean_loss_fn, sgd)
    differences = finite_difference_scores(
        losses_fn, params, clean_loss_fn, sgd, 1, jnp.zeros(BATCH)
    )
    scale = np.max(np.abs(fast))
    np.testing.assert_allclose(fast / scale, unrolled / scale, atol=1e-12)
    np.testing.assert_allclose(differences / scale, fast / scale, atol=1e-8)  # step 1e-5, squared
    assert np.max(np.abs(fast)) > 1e-3  # zero starting weights, non-zero gradient


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize(
    "optimizer",
    [optax.sgd(0.5), optax.sgd(0.3, momentum=0.9), optax.adam(0.05, eps_root=1e-4)],
    ids=["sgd", "momentum", "adam"],
)
def test_unrolled_matches_finite_differences(float64, optimizer, start, num_steps):
    losses_fn, clean_loss_fn, params = problem("mlp")
    weights = jnp.full(BATCH, start)
    scores = unrolled_scores(
        losses_fn,
        params,
        clean_loss_fn,
        optimizer,
        num_steps=num_steps,
        initial_weights=weights,
    )
    differences = finite_difference_scores(
        losses_fn, params, clean_loss_fn, optimizer, num_steps, weights
    )
    np.testing.assert_allclose(scores, differences, atol=1e-7 * np.max(np.abs(scores)))


@pytest.mark.parametrize("num_steps", [2, 5])
def test_segments_of_steps_change_no_number(float64, num_steps):
    losses_fn, clean_loss_fn, params = problem("mlp")
    optimizer = optax.adam(0.05, eps_root=1e-4)

    def outer(weights):  # everything is kept
        state, virtual = optimizer.init(params), params
        for _ in range(num_steps):
            gradient = jax.grad(lambda p: jnp.mean(weights * losses_fn(p)))(virtual)
            updates, state = optimizer.update(gradient, state, virtual)
            virtual = optax.apply_updates(virtual, updates)
        return clean_loss_fn(virtual)

    plain = -jax.jit(jax.grad(outer))(jnp.ones(BATCH))
    scores = jax.jit(
        lambda weights: unrolled_scores(
            losses_fn,
            params,
            clean_loss_fn,
            optimizer,
            num_steps=num_steps,
            initial_weights=weights,
        )
    )(jnp.ones(BATCH))
    scale = np.max(np.abs(plain))
    np.testing.assert_allclose(scores / scale, plain / scale, atol=1e-12)  # rounding, k steps


def test_fast_scores_match_the_layer_products_of_equation_12(float64):
    """Eq. 12, sums over layers of (z_clean . z)(g_clean . g), with biases, by hand in NumPy."""
    rng = np.random.default_rng(0)
    sizes = [5, 8, 6, 3]
    weights = [rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    biases = [rng.normal(size=n) for n in sizes[1:]]
    inputs, labels = rng.normal(size=(BATCH, 5)), rng.integers(0, 3, BATCH)
    clean, clean_labels = rng.normal(size=(CLEAN, 5)), rng.integers(0, 3, CLEAN)

    def layers(x, y):
        """Inputs z of each layer and gradients g of each pre-activation, backpropagated by hand."""
        z = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            z.append(np.maximum(z[-1] @ w + b, 0))
        logits = z[-1] @ weights[-1] + biases[-1]
        p = np.exp(logits - logits.max(1, keepdims=True))
        g = [p / p.sum(1, keepdims=True) - np.eye(3)[y]]
        for w, active in zip(weights[:0:-1], z[:0:-1], strict=True):
            g.insert(0, (g[0] @ w.T) * (active > 0))
        return z, g

    (z, g), (zc, gc) = layers(inputs, labels), layers(clean, clean_labels)
    products = sum(
        ((a @ b.T) + 1) * (c @ d.T) for a, b, c, d in zip(z, zc, g, gc, strict=True)
    )  # the one is the bias
    expected = products.mean(axis=1) / BATCH

    def logits_fn(params, x):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b[None])
        return x @ params[-1][0] + params[-1][1][None]

    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(weights, biases, strict=True)]
    lin = linearize_losses(lambda p: losses.cross_entropy(logits_fn(p, inputs), labels), params)
    gradient = jax.grad(
        lambda p: jnp.mean(losses.cross_entropy(logits_fn(p, clean), clean_labels))
    )(params)
    np.testing.assert_allclose(fast_scores(lin, gradient), expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"mode": "unrolled", "optimizer": optax.sgd(0.1)}])
def test_weights_average_to_one_and_drop_harmful_examples(float64, options):
    losses_fn, clean_loss_fn, params = problem("mlp")
    weights = lookahead_weights(losses_fn, params, clean_loss_fn, **options)
    rows = jax.jacobian(losses_fn)(params)
    gradient = jax.grad(clean_loss_fn)(params)
    align = sum(
        jnp.sum(rows[k].reshape(BATCH, -1) * gradient[k].reshape(1, -1), axis=1) for k in params
    )
    expected = np.maximum(align, 0)
    np.testing.assert_allclose(weights, expected / expected.mean(), atol=1e-12)
    assert np.sum(np.asarray(weights) == 0) > 0


def test_all_zero_when_no_example_helps(float64):
    losses_fn, _, params = problem("mlp")
    first = lambda p: losses_fn(p)[:1]  # noqa: E731
    weights = lookahead_weights(first, params, lambda p: -losses_fn(p)[0])
    np.testing.assert_array_equal(weights, [0.0])


def test_padding_is_ignored(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    for options in ({}, {"mode": "unrolled", "optimizer": optax.sgd(0.1)}):
        weights = lookahead_weights(losses_fn, params, clean_loss_fn, mask=mask, **options)
        removed = lookahead_weights(lambda p: losses_fn(p)[:4], params, clean_loss_fn, **options)
        np.testing.assert_allclose(weights, np.append(removed, [0, 0]), atol=1e-12)


def update(scheme, state, losses_fn, clean_loss_fn, params):
    lin = linearize_losses(losses_fn, params)
    return scheme.update(
        jnp.ones(BATCH),
        state,
        Signals(lin.values),
        linearized=lin,
        params=params,
        losses_fn=losses_fn,
        clean_loss_fn=clean_loss_fn,
    )


def test_scheme_matches_the_plain_function(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    for options in ({}, {"mode": "unrolled", "optimizer": optax.sgd(0.1), "num_steps": 2}):
        scheme = lookahead_reweight(**options)
        weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
        expected = lookahead_weights(losses_fn, params, clean_loss_fn, **options)
        np.testing.assert_allclose(weights, expected, atol=1e-14)


def test_clean_gradient_is_kept_for_several_steps(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead_reweight(refresh_every=2)
    state = scheme.init(None, params)
    moved = jax.tree.map(lambda x: x + 0.1, params)
    gradient = {name: jax.grad(clean_loss_fn)(at) for name, at in (("old", params), ("new", moved))}
    for at, used in ((params, "old"), (moved, "old"), (moved, "new")):
        weights, state = update(scheme, state, losses_fn, clean_loss_fn, at)
        scores = np.maximum(linearize_losses(losses_fn, at).jvp(gradient[used]), 0)
        np.testing.assert_allclose(weights, scores / scores.mean(), atol=1e-12)


def test_last_layer_only(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead_reweight(select=lambda path: "head" in jax.tree_util.keystr(path))
    weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
    gradient = jax.grad(clean_loss_fn)(params)
    gradient["first"] = jnp.zeros_like(gradient["first"])
    scores = np.maximum(linearize_losses(losses_fn, params).jvp(gradient), 0)
    np.testing.assert_allclose(weights, scores / scores.mean(), atol=1e-12)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="mode must be one of 'fast', 'unrolled'"):
        lookahead_reweight(mode="slow")
    with pytest.raises(ValueError, match="needs the virtual optimizer"):
        lookahead_reweight(mode="unrolled")
    with pytest.raises(ValueError, match="belong to mode='unrolled'"):
        lookahead_reweight(num_steps=3)
    with pytest.raises(ValueError, match="approximate mode='fast'"):
        lookahead_reweight(mode="unrolled", optimizer=optax.sgd(0.1), refresh_every=2)
    with pytest.raises(ValueError, match="refresh_every must be positive"):
        lookahead_reweight(refresh_every=0)
    scheme = lookahead_reweight()
    with pytest.raises(ValueError, match=REMEDY):
        scheme.update(jnp.ones(2), (), Signals(jnp.ones(2)))
    with pytest.raises(ValueError, match="reads `linearized`"):
        scheme.update(
            jnp.ones(2), (), Signals(jnp.ones(2)), params=jnp.ones(1), clean_loss_fn=jnp.sum
        )
    with pytest.raises(ValueError, match="accepted none of the parameters"):
        lookahead_reweight(select=lambda path: False, refresh_every=2).init(
            None, {"w": jnp.ones(1)}
        )
