import io
import itertools
import pickle
import struct
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict

from experiments.networks import models
from experiments.networks.layers import conv as conv_layer
from experiments.networks.pretrained import start_from_pretrained
from experiments.networks.torch_files import read_state_dict
from experiments.networks.torchvision_weights import load_densenet, load_densenet161
from experiments.training.config import RunConfig
from weighting import TrainState

TINY = {
    "resnet": lambda: models.cifar_resnet(3, depth=8),
    "wrn": lambda: models.wide_resnet(3, depth=10, width=1, dropout_rate=0.5),
    "densenet": lambda: models.densenet161(3, growth=2, blocks=(2, 1)),
}
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)


@pytest.fixture(scope="module", params=TINY)
def tiny(request):
    model = TINY[request.param]()
    params, state = drawn(*jax.eval_shape(model.init, KEY, IMAGES))
    return model, params, state, jax.jit(model.apply, static_argnames="train")


def drawn(*trees):
    """Random leaves of these shapes: as weights, running means or (all positive) variances."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.3, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, trees)


def num_params(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# Sizes.


def resnet_count(n, num_classes):
    count = 9 * 3 * 16 + 2 * 16
    channels_in = 16
    for channels in (16, 32, 64):
        count += 9 * channels_in * channels + (2 * n - 1) * 9 * channels**2 + 2 * n * 2 * channels
        channels_in = channels
    return count + 64 * num_classes + num_classes


def wide_resnet_count(n, width, num_classes):
    count = 9 * 3 * 16
    channels_in = 16
    for channels in (16 * width, 32 * width, 64 * width):
        count += channels_in * channels  # the projection
        count += 9 * channels_in * channels + (2 * n - 1) * 9 * channels**2
        count += 2 * channels_in + (2 * n - 1) * 2 * channels  # a norm before each convolution
        channels_in = channels
    return count + 2 * channels_in + channels_in * num_classes + num_classes


def densenet_count(stem, growth, blocks, num_classes):
    count, channels = stem, 2 * growth
    for block, num_layers in enumerate(blocks):
        if block:
            count += 2 * channels + channels * (channels // 2)
            channels //= 2
        for _ in range(num_layers):
            count += 2 * channels + channels * 4 * growth + 2 * 4 * growth + 9 * 4 * growth * growth
            channels += growth
    return count + 2 * channels + channels * num_classes + num_classes


@pytest.mark.parametrize(
    ("name", "num_classes", "published", "by_hand", "num_features"),
    [
        ("resnet32", 10, 464_154, resnet_count(5, 10), 64),
        ("wrn28_2", 10, 1_467_610, wide_resnet_count(4, 2, 10), 128),
        ("wrn28_10", 10, 36_479_194, wide_resnet_count(4, 10, 10), 640),
        # 24 + 16 * 12 = 216 channels, then 108 + 192 = 300, then 150 + 192 = 342
        ("densenet_bc", 10, 769_162, densenet_count(9 * 3 * 24, 12, (16,) * 3, 10), 342),
        (
            "densenet161",
            1000,
            28_681_000,
            densenet_count(49 * 3 * 96 + 2 * 96, 48, (6, 12, 36, 24), 1000),
            2208,
        ),
    ],
)
def test_published_sizes(name, num_classes, published, by_hand, num_features):
    model = models.make_model(name, num_classes)
    params, state = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3), jnp.uint8))
    assert by_hand == published
    assert num_params(params) == published
    assert params["head"]["kernel"].shape == (num_features, num_classes)
    assert set(state) == {"batch_stats"}
    assert model.name == name
    assert model.has_convolutions


def test_wrn28_10_needs_a_key_for_dropout_in_training_only():
    for name, train, fails in (("wrn28_10", True, True), ("wrn28_2", True, False)):
        model = models.make_model(name, 10)

        def run(key, model=model, train=train):
            return model.apply(*model.init(key, IMAGES), IMAGES, train=train)

        if fails:
            with pytest.raises(InvalidRngError, match="dropout"):
                jax.eval_shape(run, KEY)
        else:
            output, _ = jax.eval_shape(run, KEY)
            assert output.logits.shape == (4, 10)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_start_he_normal_with_fan_out(stride):
    kernel = conv_layer(64, 3, stride, name="conv").init(KEY, IMAGES)["params"]["kernel"]
    # of 1728 values: 7% is two standard deviations of the mean square
    np.testing.assert_allclose(np.mean(kernel**2), 2 / (9 * 64), rtol=0.07)


def test_impossible_depths_and_rates_are_refused():
    with pytest.raises(ValueError, match=r"6n \+ 2 .* got 30"):
        models.cifar_resnet(10, depth=30)
    with pytest.raises(ValueError, match=r"6n \+ 4 .* got 4"):
        models.wide_resnet(10, depth=4, width=1)
    with pytest.raises(ValueError, match="dropout_rate"):
        models.wide_resnet(10, width=1, dropout_rate=1.0)
    model = TINY["densenet"]()
    with pytest.raises(ValueError, match="H, W >= 8"):
        jax.eval_shape(model.init, KEY, IMAGES[:, :7])


# Values, from formulas written channels first with loops over pixels of the kernel.


def conv(x, kernel, stride=1):
    """Sums over the shifts of the kernel; x [B, I, H, W]."""
    size = kernel.shape[0]
    pad = size // 2
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = 0.0
    for i in range(size):
        for j in range(size):
            seen = x[:, :, i::stride, j::stride][:, :, :height, :width]
            total = total + np.einsum("bihw,io->bohw", seen, kernel[i, j])
    return total


class Forward:
    """The evaluation mode of one network, with batch norm from the running statistics."""

    def __init__(self, params, state):
        self.leaves = {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}
        stats = flatten_dict(state["batch_stats"])
        self.leaves |= {"/".join(path): leaf for path, leaf in stats.items()}

    def norm(self, x, name):
        scale, bias, mean, var = (
            self.leaves[f"{name}/{leaf}"][:, None, None]
            for leaf in ("scale", "bias", "mean", "var")
        )
        return (x - mean[None]) / np.sqrt(var + 1e-5)[None] * scale[None] + bias[None]

    def relu_norm(self, x, name):
        return np.maximum(self.norm(x, name), 0)

    def conv(self, x, name, stride=1):
        return conv(x, self.leaves[f"{name}/kernel"], stride)

    def resnet(self, x):
        x = self.relu_norm(self.conv(x, "conv0"), "norm0")
        for stage, stride in ((1, 1), (2, 2), (3, 2)):
            name = f"stage{stage}_block1"
            y = self.relu_norm(self.conv(x, f"{name}/conv1", stride), f"{name}/norm1")
            y = self.norm(self.conv(y, f"{name}/conv2"), f"{name}/norm2")
            y[:, : x.shape[1]] += x[:, :, ::stride, ::stride]
            x = np.maximum(y, 0)
        return x.mean((2, 3))

    def wrn(self, x):
        x = self.conv(x, "conv0")
        for stage, stride in ((1, 1), (2, 2), (3, 2)):
            name = f"stage{stage}_block1"
            h = self.relu_norm(x, f"{name}/norm1")
            shortcut = self.conv(h, f"{name}/shortcut", stride) if stage > 1 else x
            h = self.relu_norm(self.conv(h, f"{name}/conv1", stride), f"{name}/norm2")
            x = shortcut + self.conv(h, f"{name}/conv2")
        return self.relu_norm(x, "norm0").mean((2, 3))

    def densenet(self, x):
        x = self.relu_norm(self.conv(x, "conv0", 2), "norm0")
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))  # zeros are no maxima after ReLU
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        x = windows[:, :, ::2, ::2].max((4, 5))
        for layer in ("denseblock1/denselayer1", "denseblock1/denselayer2", "transition1"):
            if layer == "transition1":
                x = self.conv(self.relu_norm(x, f"{layer}/norm"), f"{layer}/conv")
                size, channels, height, width = x.shape
                x = x.reshape(size, channels, height // 2, 2, width // 2, 2).mean((3, 5))
                layer = "denseblock2/denselayer1"
            h = self.conv(self.relu_norm(x, f"{layer}/norm1"), f"{layer}/conv1")
            h = self.conv(self.relu_norm(h, f"{layer}/norm2"), f"{layer}/conv2")
            x = np.concatenate([x, h], 1)
        return self.relu_norm(x, "norm5").mean((2, 3))


def test_evaluation_equals_formulas_in_numpy(tiny):
    model, params, state, apply = tiny
    output, unchanged = apply(params, state, IMAGES, train=False)
    forward = Forward(params, state)
    formula = {"resnet8": forward.resnet, "wrn10_1": forward.wrn, "densenet161": forward.densenet}
    features = formula[model.name](np.moveaxis(IMAGES, -1, 1))
    scale = np.abs(features).max()
    np.testing.assert_allclose(output.features, features, rtol=1e-4, atol=1e-5 * scale)
    head = params["head"]
    np.testing.assert_allclose(
        output.logits, features @ head["kernel"] + head["bias"][None], rtol=1e-4, atol=1e-4 * scale
    )
    jax.tree.map(np.testing.assert_array_equal, unchanged, state)


def test_training_moves_statistics_and_only_dropout_reads_the_key(tiny):
    model, params, state, apply = tiny
    keys = jax.random.split(KEY)
    (first, moved), (second, _) = (apply(params, state, IMAGES, train=True, key=k) for k in keys)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        assert np.all(np.isfinite(after))
        assert np.any(before != after)
    assert np.any(first.logits != second.logits) == model.name.startswith("wrn")
    evaluated = [apply(params, state, IMAGES, train=False, key=k)[0].logits for k in keys]
    np.testing.assert_array_equal(*evaluated)


# The homogeneous network.


@pytest.mark.parametrize(
    ("shape", "num_stages"), [((28, 28, 1), 3), ((32, 32, 3), 3), ((64, 64, 3), 4), ((7, 9, 1), 1)]
)
def test_small_cnn_is_homogeneous(shape, num_stages):
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    model = models.make_model("small_cnn", 5)
    params, state = drawn(*jax.eval_shape(model.init, KEY, images))
    channels = (shape[-1], 16, 32, 64, 128)[: num_stages + 1]
    by_hand = sum(9 * a * b for a, b in itertools.pairwise(channels))
    assert num_params(params) == by_hand + 5 * channels[-1]
    assert not state

    apply = jax.jit(lambda params: model.apply(params, state, images, train=True)[0])
    output = apply(params)
    scaled = apply(jax.tree.map(lambda leaf: 1.5 * leaf, params))
    assert output.features.shape == (2, channels[-1])
    largest = np.abs(output.logits).max()
    assert largest > 0.01
    factor = 1.5 ** (num_stages + 1)
    np.testing.assert_allclose(scaled.logits, factor * output.logits, atol=1e-5 * factor * largest)


def test_small_cnn_equals_flax_layers():
    model = models.small_cnn(5)
    params, state = drawn(*jax.eval_shape(model.init, KEY, IMAGES))

    @jax.jit
    def ours_and_flax(params, x):
        output, _ = model.apply(params, state, x, train=False)
        for name, channels in (("Conv_0", 16), ("Conv_1", 32)):  # 16 pixels, 8, 4
            layer = nn.Conv(channels, (3, 3), use_bias=False)
            x = nn.relu(layer.apply({"params": params[name]}, x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return output.features, x.mean((1, 2))

    ours, theirs = ours_and_flax(params, jnp.asarray(IMAGES))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="H, W >= 7"):
        jax.eval_shape(model.init, KEY, IMAGES[:, :6])


# Files of PyTorch. Their pickles are written here opcode by opcode.

FLOAT, LONG, ORDERED_DICT = (
    b"ctorch\nFloatStorage\n",
    b"ctorch\nLongStorage\n",
    b"ccollections\nOrderedDict\n",
)


def text(string):
    encoded = string.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def tensor(key, array, *, view=b"", offset=0, strides=None, shape=None):
    """A call of `_rebuild_tensor_v2` on a persistent id."""
    storage = FLOAT if array.dtype == np.float32 else LONG
    size = b"J" + struct.pack("<i", array.size)
    strides = [s // array.itemsize for s in array.strides] if strides is None else strides
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    persistent_id = b"(" + text("storage") + storage + text(key) + text("cpu") + size + view + b"tQ"
    layout = b"J" + struct.pack("<i", offset) + integers(shape or array.shape) + integers(strides)
    return rebuild + persistent_id + layout + b"\x89" + ORDERED_DICT + b")RtR"


def state_dict_pickle(arrays, **settings):
    """An ordered dict of tensors with an attribute, as state dicts have."""
    entries = (text(n) + tensor(str(i), a, **settings) for i, (n, a) in enumerate(arrays.items()))
    metadata = b"}" + text("_metadata") + ORDERED_DICT + b")Rsb"
    return b"\x80\x02" + ORDERED_DICT + b")R(" + b"".join(entries) + b"u" + metadata + b"."


def write_archive(path, pickled, arrays, byteorder="little"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickled)
        archive.writestr("weights/byteorder", byteorder)
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"weights/data/{i}", array.tobytes())
    return path


def write_stream(path, arrays):
    """The format before archives."""
    keys = [str(i) for i in range(len(arrays))]
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)]
    parts += [pickle.dumps({"little_endian": True}, 2), state_dict_pickle(arrays, view=b"N")]
    parts += [pickle.dumps(keys, 2)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    path.write_bytes(b"".join(parts))
    return path


def torchvision_densenet(growth, blocks, num_classes):
    """Random arrays under torchvision's names, from the structure of the network alone."""
    rng = np.random.default_rng(3)
    arrays = {}

    def add_conv(name, out, channels, size):
        arrays[f"{name}.weight"] = rng.normal(size=(out, channels, size, size))

    def add_norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{leaf}"] = rng.random(channels)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    channels = 2 * growth
    add_conv("features.conv0", channels, 3, 7)
    add_norm("features.norm0", channels)
    for block, num_layers in enumerate(blocks, start=1):
        for i in range(1, num_layers + 1):
            layer = f"features.denseblock{block}.denselayer{i}"
            add_norm(f"{layer}.norm1", channels)
            add_conv(f"{layer}.conv1", 4 * growth, channels, 1)
            add_norm(f"{layer}.norm2", 4 * growth)
            add_conv(f"{layer}.conv2", growth, 4 * growth, 3)
            channels += growth
        if block < len(blocks):
            add_norm(f"features.transition{block}.norm", channels)
            add_conv(f"features.transition{block}.conv", channels // 2, channels, 1)
            channels //= 2
    add_norm("features.norm5", channels)
    arrays["classifier.weight"] = rng.normal(size=(num_classes, channels))
    arrays["classifier.bias"] = rng.normal(size=num_classes)
    is_int = {name: array.dtype == np.int64 for name, array in arrays.items()}
    return {n: a if is_int[n] else a.astype(np.float32) for n, a in arrays.items()}


def as_published(arrays):
    """The names of 2017, when the counts of batches did not exist either."""
    old = {}
    for name, array in arrays.items():
        for layer in ("norm", "conv"):
            for i in "12":
                name = name.replace(f".{layer}{i}.", f".{layer}.{i}.")
        if not name.endswith("num_batches_tracked"):
            old[name] = array
    return old


ARRAYS = torchvision_densenet(2, (2, 1), 3)


def load_tiny(path, *, keep_head=True, num_classes=3):
    model = models.densenet161(num_classes, growth=2, blocks=(2, 1))
    return load_densenet(path, model, KEY, keep_head=keep_head)


def test_training_starts_from_the_file_in_every_run(tmp_path):
    path = write_archive(tmp_path / "weights.pth", state_dict_pickle(ARRAYS), ARRAYS)
    model = models.densenet161(2, growth=2, blocks=(2, 1))
    shapes = jax.eval_shape(model.init, KEY, IMAGES)
    params, model_state = jax.tree.map(lambda leaf: jnp.zeros((2, 3, *leaf.shape)), shapes)
    before = TrainState(jnp.zeros((2, 3)), params, model_state, (), (), KEY)
    state = start_from_pretrained(before, str(path), model, range(3))
    loaded, loaded_state = load_tiny(path, keep_head=False, num_classes=2)
    heads = state.params.pop("head")
    del loaded["head"]
    for own, expected in ((state.params, loaded), (state.model_state, loaded_state)):
        for leaf, one in zip(*map(jax.tree.leaves, (own, expected)), strict=True):
            np.testing.assert_array_equal(leaf, np.broadcast_to(one, (2, 3, *one.shape)))
    kernels = heads["kernel"]
    np.testing.assert_array_equal(kernels[0], kernels[1])  # a seed's configurations start alike
    assert np.all(kernels[0, 0] != kernels[0, 1])
    with pytest.raises(ValueError, match="are for model densenet161"):
        RunConfig(model="lenet5", pretrained="weights.pth")


def check_leaf(path, leaf):
    """`leaf` is the array of the same module, its axes compared one by one."""
    *modules, last = path
    module = "classifier" if modules == ["head"] else "features." + ".".join(modules)
    words = {"mean": "running_mean", "var": "running_var", "bias": "bias"}
    theirs = ARRAYS[f"{module}.{words.get(last, 'weight')}"]
    assert leaf.size == theirs.size
    for index in np.ndindex(theirs.shape):
        if theirs.ndim == 4:
            out, channel, row, column = index
            assert leaf[row, column, channel, out] == theirs[index]
        elif theirs.ndim == 2:
            assert leaf[index[1], index[0]] == theirs[index]
        else:
            assert leaf[index] == theirs[index]


@pytest.mark.parametrize("format", ["archive", "archive, old names", "stream, old names"])
def test_every_leaf_of_a_torch_file_is_found(format, tmp_path):
    arrays = as_published(ARRAYS) if "old" in format else ARRAYS
    if "stream" in format:
        path = write_stream(tmp_path / "weights.pth", arrays)
    else:
        path = write_archive(tmp_path / "weights.pth", state_dict_pickle(arrays), arrays)
    params, state = load_tiny(path)
    model = models.densenet161(3, growth=2, blocks=(2, 1))
    expected = jax.eval_shape(model.init, KEY, IMAGES)
    assert jax.tree.structure((params, state)) == jax.tree.structure(expected)
    leaves = {**flatten_dict(params), **flatten_dict(state["batch_stats"])}
    for leaf_path, leaf in leaves.items():
        assert leaf.dtype == jnp.float32
        check_leaf(leaf_path, np.asarray(leaf))


def test_another_number_of_classes_starts_a_fresh_head(tmp_path):
    path = write_archive(tmp_path / "weights.pth", state_dict_pickle(ARRAYS), ARRAYS)
    params, _ = load_tiny(path, keep_head=False, num_classes=2)
    num_features = ARRAYS["features.norm5.weight"].size
    assert params["head"]["kernel"].shape == (num_features, 2)
    assert 0 < np.abs(params["head"]["kernel"]).max() < 3 / num_features**0.5
    np.testing.assert_array_equal(params["head"]["bias"], np.zeros(2))
    with pytest.raises(ValueError, match=r"'classifier.weight' has shape \(3, 6\), not \(2, 6\)"):
        load_tiny(path, num_classes=2)


def test_networks_of_other_shapes_are_refused(tmp_path):
    path = tmp_path / "weights.pth"

    def message(arrays):
        write_archive(path, state_dict_pickle(arrays), arrays)
        with pytest.raises(ValueError, match="does not fit the network") as caught:
            load_tiny(path)
        return str(caught.value)

    name = "features.denseblock1.denselayer1.norm1.weight"
    said = message({n: a for n, a in ARRAYS.items() if n != name})
    assert f"'{name}' is missing" in said
    said = message({**ARRAYS, "features.more.weight": np.zeros(2, np.float32)})
    assert "'features.more.weight' is unexpected" in said
    said = message({**ARRAYS, name: np.zeros(5, np.float32)})
    assert f"'{name}' has shape (5,), not (4,)" in said
    assert "and 2 more" in message(dict(list(ARRAYS.items())[5:]))
    write_archive(path, state_dict_pickle(ARRAYS), ARRAYS)
    with pytest.raises(ValueError, match="does not fit the network"):
        load_densenet161(path, 10, KEY)


def test_an_absent_file_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*torchvision.*IMAGENET1K_V1"):
        load_densenet161(tmp_path / "absent.pth", 1000, KEY)


MARKER = "this-directory-must-not-appear"
MALICIOUS = {
    "posix.mkdir": b"\x80\x02cposix\nmkdir\n" + text(MARKER) + b"\x85R.",
    "os.system": b"\x80\x02cos\nsystem\n" + text(f"mkdir {MARKER}") + b"\x85R.",
    "builtins.eval": pickle.dumps(eval),
    "torch._utils._rebuild_parameter": b"\x80\x02ctorch._utils\n_rebuild_parameter\n.",
    "collections.OrderedDict.fromkeys": b"\x80\x04"
    + text("collections")
    + text("OrderedDict.fromkeys")
    + b"\x93.",
}


@pytest.mark.parametrize("format", ["archive", "stream"])
@pytest.mark.parametrize("name", MALICIOUS)
def test_pickles_that_name_anything_else_are_refused(name, format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if format == "archive":
        write_archive(path, MALICIOUS[name], {})
    else:
        path.write_bytes(MALICIOUS[name])
    with pytest.raises(ValueError, match=rf"not a state dict .* names {name}, refused"):
        read_state_dict(path)
    assert not (tmp_path / MARKER).exists()


ARRAY = {"a": np.arange(6, dtype=np.float32)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"offset": 1, "shape": (2, 2), "strides": (1, 3)}, [[1, 4], [2, 5]]),
        ({"offset": 2, "shape": (2, 2), "strides": (1, 3)}, "outside of its storage"),
        ({"offset": -1}, "outside of its storage"),
        ({"shape": (3,), "strides": (-1,)}, "outside of its storage"),
        ({"shape": (1000, 1000), "strides": (0, 0)}, "repeats the numbers"),
        ({"view": text("a view")}, "unknown reference"),
    ],
)
def test_tensors_lie_within_their_storage(settings, expected, tmp_path):
    path = write_archive(tmp_path / "weights.pth", state_dict_pickle(ARRAY, **settings), ARRAY)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            read_state_dict(path)
    else:
        np.testing.assert_array_equal(read_state_dict(path)["a"], expected)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "weights.pth"

    def message():
        with pytest.raises(ValueError, match="is not a state dict saved by PyTorch") as caught:
            read_state_dict(path)
        return str(caught.value)

    pickled = state_dict_pickle(ARRAY)
    write_archive(path, pickled, ARRAY, byteorder="big")
    assert "big-endian" in message()
    write_archive(path, pickled, {"a": ARRAY["a"][:4]})
    assert "storage '0' should hold 6 numbers but holds 4" in message()
    write_archive(path, pickled, {})
    assert "weights/data/0" in message()
    write_archive(path, pickle.dumps([1, 2], 2), {})
    assert "holds a list, not a dict" in message()
    write_archive(path, pickle.dumps({"state_dict": {}}, 2), {})
    assert "its entry 'state_dict' is not a tensor" in message()
    for contents in (b"", b"PK\x03\x04 but no archive", b"text", pickle.dumps(5, 2) * 2):
        path.write_bytes(contents)
        message()
    whole = write_stream(path, ARRAY).read_bytes()
    path.write_bytes(whole[:-4])
    assert "should hold 6 numbers but holds 5" in message()
    buffer = io.BytesIO()
    np.savez(buffer, a=ARRAY["a"])
    path.write_bytes(buffer.getvalue())
    message()
