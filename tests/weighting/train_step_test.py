"""The train step against value_and_grad, batch norm, masks, scan, and its operation count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import weighting
from weighting import Batch, init_train_state, linearize_losses, losses, make_train_step
from weighting.linearize import masked_mean

DIM, CLASSES, BATCH = 5, 3, 8


class BatchNormNet(nn.Module):
    @nn.compact
    def __call__(self, inputs, train):
        hidden = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(6)(inputs))
        return nn.Dense(CLASSES)(nn.relu(hidden))


NET = BatchNormNet()


def batch_norm_apply(params, model_state, inputs, *, train, key):
    variables = {"params": params, **model_state}
    return NET.apply(variables, inputs, train=train, mutable=["batch_stats"])


def bare_apply(params, inputs):
    return jnp.tanh(inputs @ params["w"]) @ params["v"]


def bare_params():
    keys = jax.random.split(jax.random.key(0))
    return {
        "w": jax.random.normal(keys[0], (DIM, 7)),
        "v": jax.random.normal(keys[1], (7, CLASSES)),
    }


def make_batch(seed, size=BATCH, clean=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    return Batch(
        jax.random.normal(keys[0], (size, DIM)),
        jax.random.randint(keys[1], (size,), 0, CLASSES),
        indices=jnp.arange(size),
        clean=make_batch(seed + 100, clean) if clean else None,
    )


def reference_step(params, opt_state, batch, optimizer, weights=None):
    def loss(params):
        values = losses.cross_entropy(bare_apply(params, batch.inputs), batch.labels)
        return jnp.mean(values if weights is None else values * weights)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


def bare_step(scheme, optimizer):
    apply_fn = weighting.without_state(bare_apply)
    return make_train_step(apply_fn, losses.cross_entropy, scheme, optimizer)


def test_linearized_losses_match_the_jacobian(float64):
    params = jax.tree.map(lambda x: x.astype(jnp.float64), bare_params())
    batch = make_batch(0)

    def losses_fn(params):
        return losses.cross_entropy(bare_apply(params, batch.inputs), batch.labels)

    lin = linearize_losses(losses_fn, params)
    rows = jax.jacrev(losses_fn)(params)
    tangent = jax.tree.map(jnp.cos, params)
    weights = jnp.arange(BATCH, dtype=jnp.float64)
    expected = sum(
        jnp.sum(rows[k].reshape(BATCH, -1) * tangent[k].reshape(1, -1), axis=1) for k in params
    )
    np.testing.assert_allclose(lin.jvp(tangent), expected, rtol=1e-12)
    for name, gradient in lin.vjp(weights).items():
        np.testing.assert_allclose(
            gradient, np.tensordot(weights, rows[name], 1), rtol=1e-12, atol=1e-14
        )
    with pytest.raises(ValueError, match="must not be reduced"):
        linearize_losses(lambda p: jnp.mean(losses_fn(p)), params)


def test_linearization_accepts_custom_backward_passes():
    @jax.custom_vjp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defvjp(lambda x: (jnp.maximum(x, 0), x > 0), lambda active, g: (g * active,))
    params, batch = bare_params(), make_batch(0)

    def losses_fn(activation, params):
        hidden = activation(batch.inputs @ params["w"])
        return losses.cross_entropy(hidden @ params["v"], batch.labels)

    own = linearize_losses(functools.partial(losses_fn, relu), params)
    plain = linearize_losses(functools.partial(losses_fn, jax.nn.relu), params)
    np.testing.assert_allclose(own.jvp(params), plain.jvp(params), rtol=1e-6, atol=1e-6)


def test_padding_is_emptied_of_what_could_spread():
    inputs = {"x": jnp.array([[1, jnp.nan], [jnp.nan, 2], [jnp.inf, 3]]), "n": jnp.array([4, 5, 6])}
    mask = jnp.array([1.0, 0.0, 1.0])
    clean = Batch(inputs, jnp.array([-100, -100, 2]), jnp.array([-1, -1, 7]), mask)
    found = weighting.without_padding(clean._replace(clean=clean))
    for batch in (found, found.clean):
        np.testing.assert_array_equal(batch.inputs["x"], [[1, np.nan], [0, 2], [np.inf, 3]])
        np.testing.assert_array_equal(batch.inputs["n"], [4, 5, 6])
        np.testing.assert_array_equal(batch.labels, [-100, 0, 2])
        np.testing.assert_array_equal(batch.indices, [-1, 0, 7])
    assert weighting.without_padding(clean._replace(indices=None)).indices is None
    whole = clean._replace(mask=None)
    assert weighting.without_padding(whole) is whole


@pytest.mark.parametrize(
    ("mask", "mean"), [([0, 0, 0], 0), ([0, 1, 0], 5), ([1, 0, 2], 4), (None, 13 / 3)]
)
def test_the_mean_over_a_mask(mask, mean):
    mask = None if mask is None else jnp.array(mask)
    values = jnp.array([1.0, 5.0, 7.0])
    np.testing.assert_allclose(masked_mean(values, mask), mean, rtol=1e-6)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(0.1, momentum=0.9), optax.adam(1e-2)], ids=["sgd", "adam"]
)
def test_uniform_step_equals_value_and_grad_bit_for_bit(optimizer):
    step = jax.jit(bare_step(weighting.uniform(), optimizer))
    reference = jax.jit(functools.partial(reference_step, optimizer=optimizer))
    params = bare_params()
    state = init_train_state(jax.random.key(1), params, weighting.uniform(), optimizer)
    opt_state = optimizer.init(params)
    for i in range(3):
        state, metrics = step(state, make_batch(i))
        params, opt_state, loss = reference(params, opt_state, make_batch(i))
        np.testing.assert_array_equal(metrics.weighted_loss, loss)
        jax.tree.map(np.testing.assert_array_equal, state.params, params)
    assert state.step == 3


def test_plain_step_has_the_operation_count_of_value_and_grad():
    """One linearization per step: XLA counts the same matrix products, and almost the same FLOP."""
    optimizer = optax.sgd(0.1, momentum=0.9)
    big = {"w": jnp.ones((DIM, 256)), "v": jnp.ones((256, CLASSES))}
    state = init_train_state(jax.random.key(1), big, weighting.uniform(), optimizer)

    def own(state, batch):
        return bare_step(weighting.uniform(), optimizer)(state, batch)[0]

    def reference(state, batch):
        params, opt_state, _ = reference_step(state.params, state.opt_state, batch, optimizer)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1)

    batch = make_batch(0)
    counts = [
        jax.jit(fn).lower(state, batch).compile().cost_analysis()["flops"]
        for fn in (own, reference)
    ]
    # applying the weights, and looking for NaN in losses and logits: not a product more
    assert abs(counts[0] - counts[1]) <= 16 * BATCH * CLASSES < DIM * BATCH * 256
    texts = [jax.jit(fn).lower(state, batch).as_text() for fn in (own, reference)]
    assert texts[0].count("dot_general") == texts[1].count("dot_general")


def test_weights_multiply_the_losses():
    optimizer, batch, params = optax.sgd(0.1), make_batch(0), bare_params()
    scheme = weighting.low(0.1)
    state = init_train_state(jax.random.key(1), params, scheme, optimizer)
    new_state, metrics = jax.jit(bare_step(scheme, optimizer))(state, batch)
    expected, _, loss = reference_step(
        params, optimizer.init(params), batch, optimizer, metrics.weights
    )
    np.testing.assert_allclose(metrics.weighted_loss, loss, rtol=1e-6)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        new_state.params,
        expected,
    )
    assert np.std(metrics.weights) > 0.1


def test_padding_changes_nothing():
    optimizer, scheme = optax.sgd(0.1), weighting.low(0.1)
    state = init_train_state(jax.random.key(1), bare_params(), scheme, optimizer)
    small, large = make_batch(0, 6), make_batch(1, 8)
    padded = Batch(
        large.inputs.at[:6].set(small.inputs),
        large.labels.at[:6].set(small.labels),
        mask=jnp.array([1, 1, 1, 1, 1, 1, 0, 0]),
    )
    step = bare_step(scheme, optimizer)
    a, metrics_a = step(state, small)
    b, metrics_b = step(state, padded)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a.params, b.params
    )
    for name in ("loss", "weighted_loss", "accuracy", "effective_sample_size"):
        np.testing.assert_allclose(getattr(metrics_a, name), getattr(metrics_b, name), rtol=1e-5)


def test_scan_and_vmap_over_seeds_equal_a_loop():
    optimizer, scheme = optax.sgd(0.1, momentum=0.9), weighting.lookahead()
    step = bare_step(scheme, optimizer)
    batches = jax.tree.map(lambda *x: jnp.stack(x), *(make_batch(i, clean=4) for i in range(5)))
    states = jax.vmap(lambda key: init_train_state(key, bare_params(), scheme, optimizer))(
        jax.random.split(jax.random.key(0), 2)
    )
    together, metrics = jax.jit(jax.vmap(lambda s: jax.lax.scan(step, s, batches)))(states)
    assert metrics.weights.shape == (2, 5, BATCH)
    state = jax.tree.map(lambda x: x[1], states)
    for i in range(5):
        state, _ = step(state, jax.tree.map(lambda x, i=i: x[i], batches))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5),
        together.params,
        state.params,
    )


def test_batch_norm_moves_only_with_the_real_update():
    optimizer, scheme = optax.sgd(0.1), weighting.lookahead()
    batch = make_batch(0, clean=4)
    variables = NET.init(jax.random.key(0), batch.inputs, train=False)
    params, stats = variables["params"], {"batch_stats": variables["batch_stats"]}
    step = make_train_step(batch_norm_apply, losses.cross_entropy, scheme, optimizer)
    state = init_train_state(jax.random.key(1), params, scheme, optimizer, model_state=stats)
    new_state, metrics = jax.jit(step)(state, batch)
    hidden = batch.inputs @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]
    mean = new_state.model_state["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.5 * hidden.mean(axis=0), rtol=1e-5, atol=1e-6)

    def clean_loss(params):  # batch statistics of the clean batch itself
        logits, _ = batch_norm_apply(params, stats, batch.clean.inputs, train=True, key=None)
        return jnp.mean(losses.cross_entropy(logits, batch.clean.labels))

    def losses_fn(params):
        logits, _ = batch_norm_apply(params, stats, batch.inputs, train=True, key=None)
        return losses.cross_entropy(logits, batch.labels)

    expected = weighting.lookahead_unrolled_weights(losses_fn, params, clean_loss, optax.sgd(1.0))
    np.testing.assert_allclose(metrics.weights, expected, rtol=1e-4, atol=1e-4)


def test_exact_gradient_norms_see_batch_norm_and_independent_examples():
    """low(gradient='parameters') through the step equals the rows of the Jacobian either way."""
    optimizer, scheme = optax.sgd(0.1), weighting.low(5.0, gradient="parameters")
    batch = make_batch(0)
    variables = NET.init(jax.random.key(0), batch.inputs, train=False)
    cases = [
        (batch_norm_apply, variables["params"], {"batch_stats": variables["batch_stats"]}),
        (weighting.without_state(bare_apply), bare_params(), {}),
    ]
    for apply_fn, params, model_state in cases:
        state = init_train_state(
            jax.random.key(1), params, scheme, optimizer, model_state=model_state
        )
        step = make_train_step(apply_fn, losses.cross_entropy, scheme, optimizer)

        def losses_fn(params, apply_fn=apply_fn, model_state=model_state):
            logits, _ = apply_fn(params, model_state, batch.inputs, train=True, key=None)
            return losses.cross_entropy(logits, batch.labels)

        rows = jax.tree.leaves(jax.jacrev(losses_fn)(params))
        norms = sum(jnp.sum(row.reshape(BATCH, -1) ** 2, axis=1) for row in rows)
        _, metrics = jax.jit(step)(state, batch)
        np.testing.assert_allclose(
            metrics.weights, weighting.low_weights(norms, 5.0), rtol=1e-3, atol=1e-4
        )


def test_derivative_through_the_step_reaches_hyperparameters(float64):
    """The update's gradient takes the weights as constants; differentiating the step does not."""
    params = jax.tree.map(lambda x: x.astype(jnp.float64), bare_params())
    batch, test = make_batch(0), make_batch(7)

    def loss_after(regularization):
        scheme, optimizer = weighting.low(regularization), optax.sgd(0.5)
        state = init_train_state(jax.random.key(1), params, scheme, optimizer)
        state, _ = bare_step(scheme, optimizer)(state, batch)
        return jnp.mean(losses.cross_entropy(bare_apply(state.params, test.inputs), test.labels))

    derivative = jax.grad(loss_after)(0.3)
    difference = (loss_after(0.3 + 1e-6) - loss_after(0.3 - 1e-6)) / 2e-6
    assert abs(derivative) > 1e-4
    np.testing.assert_allclose(derivative, difference, rtol=1e-6)


def test_a_clean_batch_is_asked_for_by_name():
    scheme, optimizer = weighting.lookahead(), optax.sgd(0.1)
    state = init_train_state(jax.random.key(1), bare_params(), scheme, optimizer)
    with pytest.raises(ValueError, match=r"Batch\(..., clean=Batch"):
        bare_step(scheme, optimizer)(state, make_batch(0))


def test_the_weighted_risk_by_hand():
    values, weights = jnp.array([1.0, 2.0, 4.0]), jnp.array([2.0, 0.5, 1.0])
    assert weighting.weighted_risk(values, weights) == pytest.approx(7 / 3, rel=1e-6)
    assert weighting.weighted_risk(values, weights, jnp.array([1, 1, 0])) == 3 / 2
    assert weighting.weighted_risk(values, weights, jnp.zeros(3)) == 0
    with pytest.raises(ValueError, match="must have equal shapes"):
        weighting.weighted_risk(values, jnp.ones(1))
    with pytest.raises(ValueError, match="losses must be a vector"):
        weighting.weighted_risk(jnp.ones(()), jnp.ones(()))
