"""Lookahead through virtual steps: finite differences, the fast form, and segments of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.weighting.schemes.clean_problem import BATCH, REMEDY, expected_weights, problem, update
from weighting import (
    Signals,
    fast_scores,
    linearize_losses,
    lookahead_unrolled,
    lookahead_unrolled_weights,
    unrolled_scores,
)

SGD = optax.sgd(0.1)


def finite_difference_scores(
    losses_fn, params, clean_loss_fn, optimizer, num_steps, weights, opt_state=None
):
    """-dG/d(weights) by central differences through plain virtual steps."""

    @jax.jit
    def outer(weights):
        state, virtual = optimizer.init(params) if opt_state is None else opt_state, params
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


@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_virtual_optimizer_starts_where_it_is_told(float64, num_steps):
    losses_fn, clean_loss_fn, params = problem("mlp")
    optimizer = optax.sgd(0.3, momentum=0.9)
    _, moving = optimizer.update(jax.tree.map(jnp.sin, params), optimizer.init(params), params)
    given = (losses_fn, params, clean_loss_fn, optimizer)
    options = {"num_steps": num_steps, "initial_weights": jnp.ones(BATCH)}
    scores = unrolled_scores(*given, opt_state=moving, **options)
    differences = finite_difference_scores(*given, num_steps, jnp.ones(BATCH), moving)
    np.testing.assert_allclose(scores, differences, atol=1e-7 * np.max(np.abs(scores)))
    fresh = unrolled_scores(*given, **options)
    assert np.max(np.abs(fresh - scores)) > 0.01 * np.max(np.abs(scores))
    weights = lookahead_unrolled_weights(*given, opt_state=moving, **options, normalize=False)
    np.testing.assert_allclose(weights, np.maximum(scores, 0), rtol=1e-12)


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


def test_one_sgd_step_from_zero_weights_is_the_closed_form(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    weights = lookahead_unrolled_weights(losses_fn, params, clean_loss_fn, SGD)
    expected = expected_weights(losses_fn, clean_loss_fn, params)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    assert np.sum(np.asarray(weights) == 0) > 0


def test_padding_is_ignored(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    weights = lookahead_unrolled_weights(losses_fn, params, clean_loss_fn, SGD, mask=mask)
    removed = lookahead_unrolled_weights(lambda p: losses_fn(p)[:4], params, clean_loss_fn, SGD)
    np.testing.assert_allclose(weights, np.append(removed, [0, 0]), atol=1e-12)


def test_padding_does_not_count_in_the_scale_of_the_scores(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    given, options = (params, clean_loss_fn, SGD), {"normalize": False}
    weights = lookahead_unrolled_weights(losses_fn, *given, mask=mask, **options)
    removed = lookahead_unrolled_weights(lambda p: losses_fn(p)[:4], *given, **options)
    np.testing.assert_allclose(weights, np.append(removed, [0, 0]), rtol=1e-12)
    assert np.max(removed) > 0


def test_scheme_matches_the_plain_function(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead_unrolled(SGD, num_steps=2)
    weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
    expected = lookahead_unrolled_weights(losses_fn, params, clean_loss_fn, SGD, num_steps=2)
    np.testing.assert_allclose(weights, expected, atol=1e-14)


def test_scheme_starts_from_the_given_weight(float64):
    losses_fn, clean_loss_fn, params = problem("mlp")
    scheme = lookahead_unrolled(SGD, initial_weight=1.0)
    weights, _ = update(scheme, scheme.init(None, params), losses_fn, clean_loss_fn, params)
    ones = jnp.ones(BATCH)
    expected = lookahead_unrolled_weights(
        losses_fn, params, clean_loss_fn, SGD, initial_weights=ones
    )
    from_zero = lookahead_unrolled_weights(losses_fn, params, clean_loss_fn, SGD)
    np.testing.assert_allclose(weights, expected, atol=1e-14)
    assert np.max(np.abs(expected - from_zero)) > 1e-3


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="num_steps must be positive"):
        lookahead_unrolled(SGD, num_steps=0)
    with pytest.raises(ValueError, match="num_steps must be positive"):
        lookahead_unrolled_weights(jnp.sin, jnp.ones(2), jnp.sum, SGD, num_steps=-1)
    signals = Signals(jnp.ones(2))
    given = {"losses_fn": jnp.sin, "params": jnp.ones(2)}
    with pytest.raises(ValueError, match=REMEDY):
        lookahead_unrolled(SGD).update(jnp.ones(2), (), signals, **given)
    with pytest.raises(ValueError, match="reads `losses_fn`"):
        lookahead_unrolled(SGD).update(jnp.ones(2), (), signals)
