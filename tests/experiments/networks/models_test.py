import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.networks import models

IMAGES = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)


@pytest.fixture
def key():
    return jax.random.key(0)


@functools.cache
def initialized(name):
    model = models.make_model(name, 3)
    return model, *model.init(jax.random.key(0), IMAGES)


def num_params(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def largest_size(kernel_or_bias):
    return float(jnp.max(jnp.abs(kernel_or_bias)))


# Boundary.


@pytest.mark.parametrize(
    ("name", "num_outputs", "expected", "num_features"),
    [
        ("linear", 10, 784 * 10, 784),
        ("mlp", 10, 784 * 64 + 64 * 10, 64),
        ("mlp:5", 1, 784 * 5 + 5, 5),
        ("mlp:8,6", 3, 784 * 8 + 8 * 6 + 6 * 3, 6),
        ("mlp_bn:8", 3, 784 * 8 + 2 * 8 + 8 * 3, 8),
        ("lenet5", 10, 156 + 2416 + 48120 + 10164 + 850, 84),
        ("ren2018_net", 1, 416 + 12832 + 51264 + 102500 + 101, 100),
    ],
)
def test_number_of_parameters_and_shapes(name, num_outputs, expected, num_features, key):
    model = models.make_model(name, num_outputs)
    params, state = jax.eval_shape(model.init, key, IMAGES)
    assert num_params(params) == expected
    output, state_after = jax.eval_shape(
        lambda params, state: model.apply(params, state, IMAGES, train=True),
        params,
        state,
    )
    assert output.logits.shape == (3, num_outputs)
    assert output.features.shape == (3, num_features)
    assert jax.tree.structure(state_after) == jax.tree.structure(state)
    assert set(state) == ({"batch_stats"} if name.startswith("mlp_bn") else set())
    assert model.num_outputs == num_outputs
    assert model.has_convolutions == (name in ("lenet5", "ren2018_net"))
    assert models.make_model(model.name, num_outputs).name == model.name


def test_lenet5_has_its_known_size_on_both_datasets(key):
    init = models.lenet5(10).init
    assert num_params(jax.eval_shape(init, key, jnp.zeros((1, 28, 28, 1)))[0]) == 61_706
    assert num_params(jax.eval_shape(init, key, jnp.zeros((1, 32, 32, 3)))[0]) == 62_006


@pytest.mark.parametrize("name", ["linear", "mlp:9", "mlp_bn:9", "lenet5", "ren2018_net"])
def test_features_are_the_input_of_the_head(name):
    model, params, state = initialized(name)
    output, _ = jax.jit(model.apply, static_argnames="train")(params, state, IMAGES, train=False)
    head = params["head"]
    logits = output.features @ head["kernel"] + head.get("bias", jnp.zeros(3))[None]
    np.testing.assert_allclose(output.logits, logits, rtol=1e-5, atol=1e-5)
    assert ("bias" in head) == model.has_convolutions


def test_bytes_are_read_as_fractions_of_255(key):
    pixels = (256 * IMAGES).astype(np.uint8)
    model = models.mlp(2, hidden=(4,))
    params, state = model.init(key, pixels)
    from_bytes, _ = model.apply(params, state, pixels, train=False)
    from_floats, _ = model.apply(params, state, pixels / np.float32(255), train=False, key=None)
    np.testing.assert_array_equal(from_bytes.logits, from_floats.logits)
    assert models.to_float(jnp.zeros(2, jnp.bfloat16)).dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="int32"):
        models.to_float(jnp.zeros(2, jnp.int32))


def test_init_vmaps_over_keys(key):
    keys = jax.random.split(key, 3)
    init = models.mlp(2, hidden=(4,), batch_norm=True).init
    together = jax.vmap(init, in_axes=(0, None))(keys, IMAGES)
    for seed in range(3):
        one_of_many = jax.tree.map(lambda leaf, seed=seed: leaf[seed], together)
        jax.tree.map(np.testing.assert_array_equal, one_of_many, init(keys[seed], IMAGES))


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"known are linear, mlp, .* mean 'lenet5'"):
        models.make_model("lenet", 10)
    with pytest.raises(ValueError, match="known are linear"):
        models.make_model("alexnet", 10)
    for name in ("mlp:", "mlp:0", "mlp:4,", "mlp:a", "mlp:-3"):
        with pytest.raises(ValueError, match="'mlp:64,64'"):
            models.make_model(name, 10)
    with pytest.raises(ValueError, match="no hidden sizes"):
        models.make_model("lenet5:3", 10)
    with pytest.raises(ValueError, match="at least 1"):
        models.linear(0)


@pytest.mark.parametrize("name", ["lenet5", "ren2018_net"])
def test_convolutions_refuse_what_is_not_an_image(name, key):
    model = models.make_model(name, 1)
    with pytest.raises(ValueError, match=r"\[B, H, W, C\].*\(3, 784\)"):
        jax.eval_shape(model.init, key, jnp.zeros((3, 784)))


def test_lenet5_refuses_small_images(key):
    model = models.lenet5(1)
    jax.eval_shape(model.init, key, jnp.zeros((1, 16, 16, 1)))
    with pytest.raises(ValueError, match="H, W >= 16"):
        jax.eval_shape(model.init, key, jnp.zeros((1, 15, 16, 1)))


# Networks.


@pytest.mark.parametrize("hidden", [(), (5,), (6, 5)])
def test_mlp_without_bias_is_homogeneous(hidden, key):
    inputs = jax.random.normal(key, (4, 3))
    model = models.mlp(2, hidden=hidden)
    params, state = model.init(key, inputs)
    scaled = jax.tree.map(lambda leaf: 3.0 * leaf, params)
    output, _ = model.apply(params, state, inputs, train=True)
    scaled_output, _ = model.apply(scaled, state, inputs, train=True)
    order = len(hidden) + 1
    np.testing.assert_allclose(scaled_output.logits, 3.0**order * output.logits, rtol=1e-4)


def test_bias_is_optional(key):
    inputs = jnp.zeros((1, 3))
    assert num_params(models.linear(2, bias=True).init(key, inputs)[0]) == 3 * 2 + 2
    params, _ = models.mlp(2, hidden=(5,), bias=True).init(key, inputs)
    assert num_params(params) == 3 * 5 + 5 + 5 * 2 + 2
    params, _ = models.mlp(2, hidden=(5,), bias=True, batch_norm=True).init(key, inputs)
    assert set(params["Dense_0"]) == {"kernel"}


def test_batch_norm_moves_running_statistics_in_training_only(key):
    inputs = 2.0 + jax.random.normal(key, (50, 3))
    model = models.mlp(2, hidden=(4,), batch_norm=True)
    params, state = model.init(key, inputs)
    evaluated, unchanged = model.apply(params, state, inputs, train=False)
    jax.tree.map(np.testing.assert_array_equal, unchanged, state)

    trained, moved = model.apply(params, state, inputs, train=True)
    hidden = inputs @ params["Dense_0"]["kernel"]
    statistics = moved["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * hidden.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * hidden.var(0), rtol=1e-4)
    normalized = (hidden - hidden.mean(0)[None]) / jnp.sqrt(hidden.var(0) + 1e-5)[None]
    np.testing.assert_allclose(trained.features, nn.relu(normalized), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(evaluated.features, nn.relu(hidden), rtol=1e-4, atol=1e-4)


def test_lenet5_starts_like_pytorch():
    _, params, _ = initialized("lenet5")
    fan_ins = {"Conv_0": 25, "Conv_1": 150, "Dense_0": 400, "Dense_1": 120, "head": 84}
    assert set(params) == set(fan_ins)
    for layer, fan_in in fan_ins.items():
        bound = fan_in**-0.5
        assert 0.9 * bound < largest_size(params[layer]["kernel"]) <= bound
        assert 0.5 * bound < largest_size(params[layer]["bias"]) <= bound


def test_ren2018_net_starts_like_tensorflow():
    _, params, _ = initialized("ren2018_net")
    kernel = params["Dense_0"]["kernel"]
    assert 0.19 < largest_size(kernel) <= 0.2
    # A standard normal cut at two standard deviations has standard deviation 0.8796.
    np.testing.assert_allclose(jnp.std(kernel), 0.08796, rtol=0.01)
    assert all(largest_size(layer["bias"]) == 0 for layer in params.values())


# Pooling.


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(28, 28), (7, 4)])
def test_max_pool_equals_that_of_flax(size, window, padding):
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)  # no ties

    @functools.partial(jax.jit, static_argnums=0)
    def pool_and_gradient(pool):
        pooled, pullback = jax.vjp(pool, images)
        return pooled, pullback(jnp.cos(jnp.arange(pooled.size)).reshape(pooled.shape))[0]

    pooled, gradient = pool_and_gradient(lambda x: models.max_pool(x, window, padding))
    expected, expected_gradient = pool_and_gradient(
        lambda x: nn.max_pool(x, (window, window), strides=(2, 2), padding=padding)
    )
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)
