"""Lookahead weights: ren2018's closed form, by hand, and what a scheme of them keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weighting.schemes.clean_problem import (
    BATCH,
    CLEAN,
    REMEDY,
    expected_weights,
    problem,
    update,
)
from weighting import (
    Signals,
    fast_scores,
    linearize_losses,
    lookahead,
    lookahead_weights,
    losses,
)


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


def test_weights_average_to_one_and_drop_harmful_examples(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    weights = lookahead_weights(losses_fn, params, clean_loss_fn)
    expected = expected_weights(losses_fn, clean_loss_fn, params)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    assert np.sum(np.asarray(weights) == 0) > 0


def test_all_zero_when_no_example_helps(float64):
    losses_fn, _, params = problem("mlp")
    first = lambda p: losses_fn(p)[:1]  # noqa: E731
    weights = lookahead_weights(first, params, lambda p: -losses_fn(p)[0])
    np.testing.assert_array_equal(weights, [0.0])


def test_padding_is_ignored(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    weights = lookahead_weights(losses_fn, params, clean_loss_fn, mask=mask)
    removed = lookahead_weights(lambda p: losses_fn(p)[:4], params, clean_loss_fn)
    np.testing.assert_allclose(weights, np.append(removed, [0, 0]), atol=1e-12)


def test_padding_does_not_count_in_the_scale_of_the_scores(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    products = linearize_losses(losses_fn, params).jvp(jax.grad(clean_loss_fn)(params))
    assert np.max(products[4:]) > 0  # so that padding would get a weight
    scores = fast_scores(linearize_losses(losses_fn, params), jax.grad(clean_loss_fn)(params))
    np.testing.assert_allclose(scores, products / 6, rtol=1e-13)
    weights = lookahead_weights(losses_fn, params, clean_loss_fn, mask=mask, normalize=False)
    expected = np.append(np.maximum(products[:4], 0), [0, 0]) / 4
    np.testing.assert_allclose(weights, expected, rtol=1e-13)


def test_scheme_matches_the_plain_function(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead()
    weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
    expected = lookahead_weights(losses_fn, params, clean_loss_fn)
    np.testing.assert_allclose(weights, expected, atol=1e-14)


def test_clean_gradient_is_kept_for_several_steps(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead(refresh_every=2)
    state = scheme.init(None, params)
    moved = jax.tree.map(lambda x: x + 0.1, params)
    gradient = {name: jax.grad(clean_loss_fn)(at) for name, at in (("old", params), ("new", moved))}
    for at, used in ((params, "old"), (moved, "old"), (moved, "new")):
        weights, state = update(scheme, state, losses_fn, clean_loss_fn, at)
        scores = np.maximum(linearize_losses(losses_fn, at).jvp(gradient[used]), 0)
        np.testing.assert_allclose(weights, scores / scores.mean(), atol=1e-12)


def test_last_layer_only(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead(select=lambda path: "head" in jax.tree_util.keystr(path))
    weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
    gradient = jax.grad(clean_loss_fn)(params)
    gradient["first"] = jnp.zeros_like(gradient["first"])
    scores = np.maximum(linearize_losses(losses_fn, params).jvp(gradient), 0)
    np.testing.assert_allclose(weights, scores / scores.mean(), atol=1e-12)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="refresh_every must be positive"):
        lookahead(refresh_every=0)
    scheme = lookahead()
    with pytest.raises(ValueError, match=REMEDY):
        scheme.update(jnp.ones(2), (), Signals(jnp.ones(2)))
    with pytest.raises(ValueError, match="reads `params`"):
        scheme.update(jnp.ones(2), (), Signals(jnp.ones(2)), clean_loss_fn=jnp.sum)
    given = {"params": jnp.ones(1), "clean_loss_fn": jnp.sum}
    with pytest.raises(ValueError, match="reads `linearized`"):
        scheme.update(jnp.ones(2), (), Signals(jnp.ones(2)), **given)
    with pytest.raises(ValueError, match="reads `losses_fn`"):
        lookahead(select=lambda path: True).update(jnp.ones(2), (), Signals(jnp.ones(2)), **given)
    with pytest.raises(ValueError, match="accepted none of the parameters"):
        lookahead(select=lambda path: False, refresh_every=2).init(None, {"w": jnp.ones(1)})
