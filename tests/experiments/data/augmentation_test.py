"""Augmentation against loops in numpy, its draws, and networks behind it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import binomtest, chisquare

from experiments.data.augmentation import (
    STATISTICS,
    coin_flips,
    crop_offsets,
    parse_augmentation,
)
from experiments.networks.models import Model, linear, make_model
from experiments.training.augmented import with_augmentation
from weighting import Batch, ModelOutput, init_train_state, make_train_step, uniform

KEY = jax.random.key(3)
STEP_KEY = jax.random.fold_in(KEY, 0)  # of the first step of a text
FIXED = ("shrink:2", "grey_world", "standardize:cifar10", "signed")
RANDOM = ("crop:2", "random_crop:5", "flip", "flip_both")
CHAIN = "grey_world+random_crop:6+crop:1+flip_both+shrink:2+standardize:imagenet"


def images_of(dtype=np.uint8, shape=(7, 8, 6, 3)):
    bytes_ = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return bytes_ if dtype == np.uint8 else (bytes_ / 255).astype(dtype)


def train(spec, images, key=KEY):
    return np.asarray(_compiled(spec)(key, jnp.asarray(images)))


@functools.cache
def _compiled(spec):
    return jax.jit(parse_augmentation(spec).train)


def test(spec, images):
    return np.asarray(parse_augmentation(spec).test(jnp.asarray(images)))


test.__test__ = False
parametrize_dtypes = pytest.mark.parametrize("dtype", [np.uint8, np.float32])


# --- the steps, by hand


@parametrize_dtypes
def test_crops_are_those_of_a_loop(dtype):
    images = images_of(dtype)
    offsets = np.asarray(crop_offsets(STEP_KEY, 7, (4, 4)))
    expected = []
    for image, (top, left) in zip(images, offsets, strict=True):
        padded = np.zeros((12, 10, 3), dtype)
        padded[2:10, 2:8] = image
        expected.append(padded[top : top + 8, left : left + 6])
    np.testing.assert_array_equal(train("crop:2", images), expected)
    np.testing.assert_array_equal(test("crop:2", images), images)


@parametrize_dtypes
def test_crops_without_padding(dtype):
    images = images_of(dtype)
    offsets = np.asarray(crop_offsets(STEP_KEY, 7, (3, 1)))
    expected = [
        image[top : top + 5, left : left + 5]
        for image, (top, left) in zip(images, offsets, strict=True)
    ]
    np.testing.assert_array_equal(train("random_crop:5", images), expected)
    np.testing.assert_array_equal(test("random_crop:5", images), images[:, 1:6, 0:5])


@parametrize_dtypes
def test_flips_are_those_of_a_loop(dtype):
    images = images_of(dtype)
    (coins,) = np.asarray(coin_flips(STEP_KEY, 7, 1)).T
    pairs = zip(images, coins, strict=True)
    expected = [image[:, ::-1] if coin else image for image, coin in pairs]
    np.testing.assert_array_equal(train("flip", images), expected)
    coins, expected = np.asarray(coin_flips(STEP_KEY, 7, 2)), []
    for image, (sideways, upright) in zip(images, coins, strict=True):
        turned = image[:, ::-1] if sideways else image
        expected.append(turned[::-1] if upright else turned)
    np.testing.assert_array_equal(train("flip_both", images), expected)
    for spec in ("flip", "flip_both"):
        np.testing.assert_array_equal(test(spec, images), images)


@parametrize_dtypes
def test_shrinking_averages_patches(dtype):
    images = images_of(dtype)
    expected = np.zeros((7, 4, 3, 3))
    for row in range(4):
        for column in range(3):
            patch = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected[:, row, column] = patch.mean((1, 2))
    if dtype == np.uint8:
        expected = np.rint(expected)
    np.testing.assert_allclose(test("shrink:2", images), expected, rtol=1e-6)


def test_grey_world_gives_channels_a_common_mean():
    images = images_of(np.float32) * np.array([1.0, 0.5, 0.25], np.float32)
    balanced = test("grey_world", images)
    means = balanced.mean((1, 2))
    overall = images.mean((1, 2, 3))[:, None]
    np.testing.assert_allclose(means, np.repeat(overall, 3, axis=1), rtol=1e-5)
    ratio = balanced / np.where(images > 0, images, 1)
    assert np.ptp(ratio[images.min(-1) > 0].reshape(-1, 3)[:20, 0]) < 1  # one factor an image
    one = np.array([[[[10, 0, 40]], [[30, 0, 80]]]], np.uint8)  # means 20, 0, 60
    np.testing.assert_array_equal(
        test("grey_world", one), [[[[13, 0, 18]], [[40, 0, 36]]]]
    )  # times 4 / 3, nothing, 4 / 9
    bright = np.array([[[[255, 90, 90]], [[5, 200, 200]]]], np.uint8)
    assert test("grey_world", bright)[0, 0, 0, 0] == 255  # cut off, not wrapped


def test_standardized_and_signed_ranges():
    images = images_of()
    mean, deviation = STATISTICS["cifar100"]
    expected = (images / 255 - mean) / deviation
    for dtype in (np.uint8, np.float32):
        np.testing.assert_allclose(
            test("standardize:cifar100", images_of(dtype)), expected, rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(test("signed", images_of(dtype)), images / 127.5 - 1, atol=1e-6)
    ends = np.array([[[[0], [255]]]], np.uint8)
    np.testing.assert_array_equal(test("signed", ends).ravel(), [-1, 1])


@pytest.mark.parametrize("spec", FIXED)
def test_fixed_steps_are_the_same_for_training_and_test(spec):
    """To rounding: a product and a sum are rounded once in one program and twice in the other."""
    images = images_of()
    np.testing.assert_allclose(train(spec, images), test(spec, images), rtol=0, atol=1e-6)


# --- draws


def test_every_offset_and_every_side_is_equally_likely():
    offsets = np.asarray(crop_offsets(KEY, 5000, (4, 2)))
    assert offsets.min() == 0
    table = np.bincount(offsets[:, 0] * 3 + offsets[:, 1], minlength=15)
    assert len(table) == 15
    assert chisquare(table).pvalue > 1e-3
    coins = np.asarray(coin_flips(KEY, 5000, 2))
    assert chisquare(np.bincount(coins @ [2, 1], minlength=4)).pvalue > 1e-3
    assert binomtest(int(coins[:, 0].sum()), 5000).pvalue > 1e-3


@pytest.mark.parametrize("spec", [*RANDOM, "grey_world+random_crop:6+shrink:2"])
def test_keys_decide(spec):
    images = images_of()
    np.testing.assert_array_equal(train(spec, images), train(spec, images))
    assert not np.array_equal(train(spec, images), train(spec, images, jax.random.key(4)))


def test_an_image_is_changed_in_the_same_way_in_a_shorter_batch():
    images = images_of()
    for spec in ("crop:2", "flip_both"):
        np.testing.assert_array_equal(train(spec, images)[:4], train(spec, images[:4]))


def test_steps_of_a_chain_draw_independently():
    images = images_of(shape=(400, 2, 2, 1))
    is_back = np.all(train("flip+flip", images) == images, axis=(1, 2, 3))
    assert 150 < is_back.sum() < 250


# --- shapes and transformations


@pytest.mark.parametrize("spec", ["none", *RANDOM, *FIXED, CHAIN])
@parametrize_dtypes
def test_training_and_test_images_agree_in_shape_and_dtype(spec, dtype):
    augmentation, images = parse_augmentation(spec), images_of(dtype)
    one = jax.eval_shape(augmentation.train, KEY, images)
    other = jax.eval_shape(augmentation.test, images)
    assert one.shape == other.shape
    has_new_range = spec.rpartition("+")[2].partition(":")[0] in ("standardize", "signed")
    assert one.dtype == other.dtype == (np.float32 if has_new_range else dtype)
    assert augmentation.spec == spec


def test_a_text_is_read_from_left_to_right():
    images = images_of()
    np.testing.assert_array_equal(
        test("shrink:2+signed", images), test("signed", test("shrink:2", images))
    )
    black = np.zeros((1, 4, 4, 3), np.uint8)
    raw = np.array(STATISTICS["imagenet"][0]) / np.array(STATISTICS["imagenet"][1])
    np.testing.assert_allclose(
        train("crop:4+standardize:imagenet", black), np.broadcast_to(-raw, (1, 4, 4, 3)), rtol=1e-5
    )


def test_jit_vmap_and_scan_change_nothing():
    augment = parse_augmentation("crop:1+flip+signed").train
    images = jnp.asarray(images_of())
    keys = jax.random.split(KEY, 3)
    compiled = jax.jit(augment)
    expected = np.stack([compiled(key, images) for key in keys])
    np.testing.assert_allclose(augment(keys[0], images), expected[0], rtol=1e-5, atol=1e-5)
    vmapped = jax.jit(jax.vmap(augment, (0, None)))(keys, images)
    _, scanned = jax.lax.scan(lambda carry, key: (carry, augment(key, images)), 0, keys)
    for values in (vmapped, scanned):
        np.testing.assert_allclose(np.asarray(values), expected, rtol=1e-5, atol=1e-5)


# --- texts


def test_none_is_the_identity():
    augmentation = parse_augmentation("none")
    anything = jnp.arange(3)
    assert augmentation.train(KEY, anything) is anything
    assert augmentation.test(anything) is anything


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flop", r"unknown augmentation 'flop'; known are crop, .*; did you mean 'flip'\?"),
        ("crop:4+flipp", "did you mean 'flip'"),
        ("", "unknown augmentation ''"),
        ("crop:4+", "unknown augmentation ''"),
        ("flip+none", "unknown augmentation 'none'"),
        ("crop", "'crop' lacks its value; crop is written crop:P"),
        ("random_crop:", "random_crop is written random_crop:SIZE"),
        ("flip:2", "'flip:2' has too many values; flip is written flip"),
        ("flip:", "has too many values"),
        ("crop:0", "'0' in 'crop:0' is not a positive integer"),
        ("crop:2.5", "is not a positive integer"),
        ("shrink:x", "is not a positive integer"),
        ("standardize", "standardize is written standardize:SET"),
        ("standardize:cifar", r"unknown statistics 'cifar'; .*did you mean 'cifar10"),
        ("signed+grey_world", "signed and standardize:SET come after grey_world, once"),
        ("signed+crop:1+standardize:cifar10", "come after grey_world, once"),
    ],
)
def test_bad_texts(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_augmentation(spec)


@pytest.mark.parametrize(
    ("spec", "shape", "dtype", "error", "message"),
    [
        ("flip", (2, 3), np.float32, ValueError, r"shape \[B, H, W, C\]; got \(2, 3\)"),
        ("flip", (2, 3, 3, 1), np.int32, TypeError, "uint8 or floats; got int32"),
        ("random_crop:4", (2, 5, 3, 1), np.uint8, ValueError, "at least as large"),
        ("shrink:2", (2, 4, 3, 1), np.uint8, ValueError, "must divide the images' sides"),
        ("standardize:cifar10", (2, 4, 4, 1), np.uint8, ValueError, "images of 3 channels"),
    ],
)
def test_images_that_do_not_fit(spec, shape, dtype, error, message):
    images = np.zeros(shape, dtype)
    for call in (test, train):
        with pytest.raises(error, match=message):
            call(spec, images)


# --- networks


def recorder():
    """A network without parameters that returns what it reads, flattened, and its dropout key."""

    def apply(params, model_state, inputs, *, train, key=None):
        values = inputs.reshape(len(inputs), -1).astype(jnp.float32)
        features = None if key is None else jax.random.key_data(key)
        return ModelOutput(values, features), model_state

    return Model(lambda key, inputs: (inputs, {}), apply, "recorder", 2, False)


def test_networks_read_augmented_images_in_training_alone():
    spec = "flip+random_crop:5"
    images = jnp.asarray(images_of())
    model = with_augmentation(recorder(), parse_augmentation(spec))
    calm = test(spec, images).reshape(7, -1)
    example, state = model.init(KEY, images)
    np.testing.assert_array_equal(example.reshape(7, -1), calm)
    assert example.dtype == jnp.uint8
    for options in ({"train": False}, {"train": False, "key": KEY}, {"train": True}):
        output, _ = model.apply({}, state, images, **options)
        np.testing.assert_array_equal(output.logits, calm)
    output, _ = model.apply({}, state, images, train=True, key=KEY)
    own, rest = jax.random.split(KEY)
    np.testing.assert_array_equal(output.logits, train(spec, images, own).reshape(7, -1))
    np.testing.assert_array_equal(output.features, jax.random.key_data(rest))
    again, _ = model.apply({}, state, images, train=True, key=KEY)
    np.testing.assert_array_equal(output.logits, again.logits)


def test_no_augmentation_leaves_the_network_itself():
    model = make_model("lenet5", 10)
    assert with_augmentation(model, parse_augmentation("none")) is model


def test_bytes_become_floats_once():
    images = jnp.asarray(images_of())
    plain, augmented = linear(2), with_augmentation(linear(2), parse_augmentation("crop:1+flip"))
    params, state = plain.init(KEY, images)
    expected, _ = plain.apply(params, state, images, train=False)
    found, _ = augmented.apply(params, state, images, train=False)
    np.testing.assert_array_equal(expected.logits, found.logits)
    signed = with_augmentation(linear(2), parse_augmentation("signed"))
    found, _ = signed.apply(params, state, images, train=False)
    expected, _ = plain.apply(params, state, images / jnp.float32(127.5) - 1, train=False)
    np.testing.assert_allclose(expected.logits, found.logits, atol=1e-5)


def batch_of(images):
    indices = jnp.arange(len(images))
    return Batch(jnp.asarray(images), indices % 2, indices)


@pytest.mark.parametrize("layerwise", [False, True])
def test_all_passes_of_a_step_see_the_same_images(layerwise):
    """The losses that a scheme may ask for again are those that the step weights."""
    model = with_augmentation(linear(2), parse_augmentation("crop:2"))
    images = images_of()
    params, model_state = model.init(KEY, jnp.asarray(images))

    def init(key, params):
        return jnp.zeros((2, len(images)))

    def update(weights, state, signals, *, losses_fn, params, **extra_args):
        return weights, jnp.stack([signals.losses, losses_fn(params)])

    weighting = uniform()._replace(init=init, update=update)
    optimizer = optax.sgd(0.1)

    def loss_fn(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    state = init_train_state(KEY, params, weighting, optimizer, model_state=model_state)
    step = jax.jit(make_train_step(model.apply, loss_fn, weighting, optimizer, layerwise=layerwise))
    new_state, metrics = step(state, batch_of(images))
    seen, again = np.asarray(new_state.weighting_state)
    np.testing.assert_allclose(seen, again, rtol=1e-6)
    np.testing.assert_allclose(seen, metrics.losses, rtol=1e-6)
    second, _ = step(new_state._replace(params=params), batch_of(images))
    assert not np.allclose(second.weighting_state[0], seen)  # new draws in the next step


def test_networks_are_made_for_the_size_of_the_crops():
    model = with_augmentation(linear(2), parse_augmentation("random_crop:4"))
    images = jnp.asarray(images_of())
    params, state = model.init(KEY, images)
    assert params["head"]["kernel"].shape == (4 * 4 * 3, 2)
    output, _ = model.apply(params, state, images, train=True, key=KEY)
    assert output.logits.shape == (7, 2)


def test_dropout_and_augmentation_draw_from_different_keys():
    class Dropping(nn.Module):
        @nn.compact
        def __call__(self, inputs, train):
            return nn.Dropout(0.5, deterministic=not train)(inputs)

    def apply(params, model_state, inputs, *, train, key=None):
        rngs = None if key is None else {"dropout": key}
        values = Dropping().apply({}, inputs.astype(jnp.float32), train, rngs=rngs)
        return ModelOutput(values.reshape(len(inputs), -1)), model_state

    network = Model(lambda key, inputs: ({}, {}), apply, "dropping", 2, False)
    model = with_augmentation(network, parse_augmentation("flip"))
    ones = jnp.ones((200, 1, 2, 1))
    values = model.apply({}, {}, ones, train=True, key=KEY)[0].logits
    assert binomtest(int(jnp.sum(values > 0)), 400).pvalue > 1e-3
