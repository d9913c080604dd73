"""Layer by layer and as a whole, the same Jacobian; norms against rows and against hand sums."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.networks.models import make_model
from weighting import (
    Batch,
    Signals,
    init_train_state,
    linearize_layers,
    linearize_losses,
    lookahead,
    losses,
    low,
    low_weights,
    make_train_step,
    uniform,
    without_state,
)
from weighting.gradient_norms import jacobian_row_norms

BATCH = 6


class Convolutions(nn.Module):
    """Strides, dilation, groups, same and valid padding, a scale, and one kernel used twice."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, padding="SAME")(x))
        x = nn.relu(nn.Conv(4, (2, 2), kernel_dilation=2, feature_group_count=2)(x))
        x = nn.GroupNorm(2)(x)
        twice = nn.Conv(4, (1, 1), use_bias=False)
        x = nn.tanh(twice(nn.relu(twice(x))))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class Sequences(nn.Module):
    """An embedding, dense layers along a sequence, weight normalization, layer norm."""

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(5, 4)((10 * x[..., 0, 0]).astype(int) % 5)  # [B, 8, 4]
        x = nn.LayerNorm()(nn.gelu(nn.Dense(6)(x)))
        x = nn.WeightNorm(nn.Dense(3))(x)
        return jnp.mean(nn.Dense(3, use_bias=False)(x), axis=1)


def networks():
    model = make_model("mlp:16,8", 3)
    yield "mlp", lambda key, x: model.init(key, x)[0], logits_of(model)
    for module in (Convolutions(), Sequences()):
        yield type(module).__name__, module.init, module.apply


def logits_of(model):
    return lambda params, inputs: model.apply(params, {}, inputs, train=True)[0].logits


def problem(init, apply, dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.uniform(keys[0], (BATCH, 8, 8, 1), dtype)
    labels = jnp.arange(BATCH) % 3
    params = jax.tree.map(lambda x: x.astype(dtype), init(keys[1], inputs[:1]))

    def losses_fn(params, batch):
        logits = apply(params, batch[0])
        return losses.cross_entropy(logits, batch[1]), logits

    direction = optax.tree.random_like(keys[2], params)
    return losses_fn, params, (inputs, labels), direction


LONG = ("Convolutions", "Sequences")  # to compile; convolution_test has convolutions by blocks


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, id=network[0], marks=pytest.mark.slow if network[0] in LONG else ())
        for network in networks()
    ],
)
def test_the_maps_and_norms_are_those_of_the_whole_network(network, float64):
    losses_fn, params, batch, direction = problem(*network[1:])
    whole = linearize_losses(lambda p: losses_fn(p, batch), params, has_aux=True)
    weights = jnp.linspace(-1.0, 2.0, BATCH)

    @jax.jit
    def by_layers(params, batch):
        found = linearize_layers(losses_fn, params, batch, has_aux=True)
        maps = found.jvp(direction), found.vjp(weights), found.squared_row_norms()
        return found.values, found.aux, *maps

    values, logits, pushed, pulled, norms = by_layers(params, batch)
    close = {"rtol": 1e-10, "atol": 1e-12}  # sums in another order, in float64
    np.testing.assert_allclose(values, whole.values, **close)
    np.testing.assert_allclose(logits, whole.aux, **close)
    np.testing.assert_allclose(pushed, whole.jvp(direction), **close)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), pulled, whole.vjp(weights))
    np.testing.assert_allclose(norms, jacobian_row_norms(whole), **close)


def test_two_dense_layers_by_hand(float64):
    x, v, u = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[2.0, 0.0], [1.0, -1.0]]), [1.0, 3.0]
    lin = linearize_layers(
        lambda p, x: jnp.tanh(x @ p[0]) @ p[1], [jnp.array(v), jnp.array(u)], jnp.array(x)
    )
    hidden = np.tanh(x @ v)
    signal = np.array(u) * (1 - hidden**2)  # of each example at the first layer's output
    np.testing.assert_allclose(lin.values, hidden @ u, rtol=1e-14)
    norms = np.sum(x**2, 1) * np.sum(signal**2, 1) + np.sum(hidden**2, 1)
    np.testing.assert_allclose(lin.squared_row_norms(), norms, rtol=1e-13)
    pulled = lin.vjp(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(pulled[0], x.T @ (signal * [[1.0], [-2.0]]), rtol=1e-13)
    np.testing.assert_allclose(pulled[1], hidden.T @ [1.0, -2.0], rtol=1e-13)


def norms_by_layers_and_by_rows(losses_fn, params, inputs):
    """Of the gradients of losses_fn(params, inputs); and whether a loop was needed."""
    rows = jax.jit(jax.jacobian(losses_fn))(params, inputs)
    expected = sum(np.sum(np.square(x).reshape(len(x), -1), axis=1) for x in jax.tree.leaves(rows))

    @jax.jit
    def norms(params, inputs):
        return linearize_layers(losses_fn, params, inputs).squared_row_norms()

    np.testing.assert_allclose(norms(params, inputs), expected, rtol=1e-11)
    return "scan" in str(jax.make_jaxpr(norms)(params, inputs))


def test_biases_and_scales_have_formulas(float64):
    rng = np.random.default_rng(0)
    params = {"w": jnp.array(rng.normal(size=(3, 4)))}
    params |= {name: jnp.array(rng.normal(size=4)) for name in ("bias", "scale", "shift")}

    def affine(p, x):
        return (x @ p["w"] + p["bias"][None]) * p["scale"][None] - p["shift"][None]

    def twice(p, x):
        return affine(p, x) + p["bias"][None]

    inputs = jnp.array(rng.normal(size=(18, 3)))  # rows are formed for 16 examples at a time
    for outputs_fn, needs_rows in ((affine, False), (twice, True)):
        losses_fn = functools.partial(lambda f, p, x: jnp.sum(jnp.sin(f(p, x)), axis=1), outputs_fn)
        assert norms_by_layers_and_by_rows(losses_fn, params, inputs) == needs_rows
    one = jnp.ones(())  # spread over a row before it enters a layer
    assert norms_by_layers_and_by_rows(
        lambda one, x: jnp.sum(jnp.sin(x + jax.lax.broadcast(one, (1, 3))), axis=1), one, inputs
    )
    images = jnp.array(rng.normal(size=(18, 2, 4, 3)))
    bias = jnp.array(rng.normal(size=(1, 2, 1, 3)))  # shared along one axis
    assert not norms_by_layers_and_by_rows(
        lambda bias, x: jnp.sum(jnp.sin(x + bias), axis=(1, 2, 3)), bias, images
    )


@pytest.mark.parametrize("sizes", [(2, 8, 8), (9, 2, 3)], ids=["Gram matrices", "gradients"])
def test_norms_of_a_product_at_several_positions(sizes, float64):
    (num_positions, num_inputs, num_outputs), rng = sizes, np.random.default_rng(0)
    inputs = jnp.array(rng.normal(size=(18, num_positions, num_inputs)))  # a chunk has 16
    params = jnp.array(rng.normal(size=(num_inputs, num_outputs)))
    norms_by_layers_and_by_rows(lambda w, x: jnp.sum(jnp.sin(x @ w), axis=(1, 2)), params, inputs)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 1), "padding": ((1, 0), (2, 1))},
        {"padding": "VALID", "rhs_dilation": (1, 2), "window_strides": (1, 1)},
        {"padding": ((1, 1), (0, 2)), "window_strides": (1, 1), "lhs_dilation": (2, 1)},
        {"padding": "VALID", "window_strides": (1, 1), "feature_group_count": 2},
    ],
    ids=["strides", "dilated kernel", "dilated inputs", "groups"],
)
def test_norms_of_a_convolution(options, float64):
    rng, groups = np.random.default_rng(0), options.get("feature_group_count", 1)
    kernel = jnp.array(rng.normal(size=(2, 3, 2 // groups, 4)))

    def losses_fn(kernel, x):
        outputs = jax.lax.conv_general_dilated(
            x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
        )
        return jnp.sum(jnp.sin(outputs), axis=(1, 2, 3))

    inputs = jnp.array(rng.normal(size=(3, 4, 6, 2)))
    norms_by_layers_and_by_rows(losses_fn, kernel, inputs)
    norms = jax.make_jaxpr(lambda k, x: linearize_layers(losses_fn, k, x).squared_row_norms())
    has_formula = str(norms(kernel, inputs)).count("conv_general_dilated[") == 1  # forward only
    assert has_formula == (groups == 1)


def test_norms_of_a_convolution_by_groups_of_the_batch(float64):
    """Of which every example has two: its inputs, and the same turned around."""
    rng = np.random.default_rng(0)
    kernel, inputs = jnp.array(rng.normal(size=(3, 1, 4))), jnp.array(rng.normal(size=(5, 6, 1)))

    def losses_fn(kernel, x):
        outputs = jax.lax.conv_general_dilated(
            jnp.concatenate([x, x[:, ::-1]]), kernel, (1,), "VALID",
            dimension_numbers=("NHC", "HIO", "NHC"), batch_group_count=2,
        )  # fmt: skip
        return jnp.sum(jnp.sin(outputs), axis=(1, 2))

    norms_by_layers_and_by_rows(losses_fn, kernel, inputs)


@pytest.mark.parametrize(
    "scheme", [uniform(), lookahead(), low(0.1)], ids=["uniform", "lookahead", "low"]
)
def test_a_step_by_layers_is_the_step(scheme):
    model = make_model("mlp:16", 3)
    keys = jax.random.split(jax.random.key(1), 4)
    inputs = jax.random.normal(keys[0], (20, 8))
    params, _ = model.init(keys[1], inputs[:1])
    clean = Batch(inputs[15:], jnp.arange(5) % 3)
    batch = Batch(inputs[:15], jnp.arange(15) % 3, mask=jnp.arange(15) < 12, clean=clean)
    states = []
    for layerwise in (False, True):
        optimizer = optax.sgd(0.5, momentum=0.9)
        step = jax.jit(
            make_train_step(
                model.apply, losses.cross_entropy, scheme, optimizer, layerwise=layerwise
            )
        )
        state = init_train_state(keys[2], params, scheme, optimizer)
        for _ in range(3):
            state, metrics = step(state, batch)
        states.append((state.params, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), *states)


def test_exact_gradient_norms_are_used_by_low(float64):
    losses_fn, params, batch, _ = problem(*next(networks())[1:])
    lin = linearize_layers(lambda p, b: losses_fn(p, b)[0], params, batch)
    scheme = low(0.1, gradient="parameters")
    weights, _ = scheme.update(
        jnp.ones(BATCH), scheme.init(jax.random.key(0), params), Signals(lin.values), linearized=lin
    )
    rows = jacobian_row_norms(linearize_losses(lambda p: losses_fn(p, batch)[0], params))
    np.testing.assert_allclose(weights, low_weights(rows, 0.1), rtol=1e-10, atol=1e-12)


def test_lookahead_by_layers_counts_a_pass_less():
    model = make_model("mlp:256,256", 10)
    inputs = jnp.zeros((64, 256))
    params, _ = model.init(jax.random.key(0), inputs[:1])
    batch = Batch(inputs, jnp.zeros(64, int), clean=Batch(inputs[:8], jnp.zeros(8, int)))

    def flops(scheme, layerwise):
        optimizer = optax.sgd(0.1)
        step = make_train_step(
            model.apply, losses.cross_entropy, scheme, optimizer, layerwise=layerwise
        )
        state = init_train_state(jax.random.key(0), params, scheme, optimizer)
        lowered = jax.jit(lambda s, b: step(s, b)[0].params).lower(state, batch)
        return lowered.compile().cost_analysis()["flops"]

    plain = flops(uniform(), False)
    shares = np.array([256**2, 256**2, 2560]) / (2 * 256**2 + 2560)
    passes = 3 - shares[0]  # a plain step's, whose first layer needs no gradient of its inputs
    clean = passes * 8 / 64
    # forward, signals (not of the inputs), products with the clean gradient, gradient
    expected = (1 + (1 - shares[0]) + 1 + 1 + clean) / passes
    np.testing.assert_allclose(flops(lookahead(), True) / plain, expected, rtol=0.03)
    whole = (passes + 2 - shares[0] + clean) / passes
    np.testing.assert_allclose(flops(lookahead(), False) / plain, whole, rtol=0.03)
    np.testing.assert_allclose(flops(uniform(), True) / plain, 1, rtol=0.03)


def test_what_is_not_layers_of_a_batch_is_refused():
    inputs, params = jnp.ones((4, 3)), jnp.ones((2, 3, 3))

    def looped(params, x):
        return jnp.sum(jax.lax.scan(lambda x, w: (x @ w, None), x, params)[0], 1)

    with pytest.raises(ValueError, match="parameters enter 'scan'"):
        linearize_layers(looped, params, inputs)
    with pytest.raises(ValueError, match=r"shape \(3, 4\): its first axis is not the batch of 4"):
        linearize_layers(lambda w, x: jnp.sum(w @ x.T, 0), params[0], inputs)
    with pytest.raises(ValueError, match="losses"):
        linearize_layers(lambda w, x: jnp.sum(x @ w), params[0], inputs)
    step = make_train_step(
        without_state(lambda p, x: x @ p), losses.cross_entropy, uniform(), optax.sgd(0.1),
        layerwise=True,
    )  # fmt: skip
    state = init_train_state(
        jax.random.key(0), params[0], uniform(), optax.sgd(0.1), model_state={"mean": jnp.ones(3)}
    )
    with pytest.raises(ValueError, match="this model has state"):
        step(state, Batch(inputs, jnp.zeros(4, int)))
