"""Convolutions in three directions: SciPy, XLA's own, and derivatives of every order."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from experiments.networks import convolution_on_cpu as on_cpu
from experiments.networks.convolution import Convolution, convolve, convolve_plainly
from weighting import linearize_layers, linearize_losses

# (image height, width, channels), (kernel height, width, outputs), padding, stride
SHAPES = [
    ((8, 8, 1), (5, 5, 3), 2, 1),
    ((9, 7, 2), (5, 5, 4), 0, 1),
    ((7, 7, 9), (3, 3, 2), 1, 2),  # many channels: the canonical way
    ((8, 6, 9), (3, 3, 3), 1, 2),  # a row and a column that no window reaches
    ((6, 5, 2), (1, 1, 3), 0, 2),
    ((6, 8, 9), (2, 3, 3), 1, 1),
    ((9, 9, 2), (3, 3, 4), 1, 3),
]
TILES = [(1, 1), (2, 2), (1, 4), (2, 5)]


def draw(shape, kernel_shape, size=2, dtype=jnp.float64):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, *shape))
    kernel = rng.normal(size=(*kernel_shape[:2], shape[2], kernel_shape[2]))
    return jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)


def geometry_of(images, kernel, padding, stride):
    return on_cpu.Geometry(stride, padding, images.shape[1:3], kernel.shape[:2])


def by_scipy(images, kernel, padding, stride):
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(np.asarray(images, np.float64), pads)
    outputs = [
        [correlate(one, np.asarray(kernel[..., o], np.float64), "valid")[..., 0] for one in padded]
        for o in range(kernel.shape[-1])
    ]
    return np.moveaxis(np.asarray(outputs), 0, -1)[:, ::stride, ::stride]


@pytest.mark.parametrize("tile", [None, *TILES])
@pytest.mark.parametrize(("shape", "kernel_shape", "padding", "stride"), SHAPES)
def test_blocks_equal_scipy_correlation(float64, shape, kernel_shape, padding, stride, tile):
    images, kernel = draw(shape, kernel_shape)
    geometry = geometry_of(images, kernel, padding, stride)
    outputs = on_cpu.blocks_outputs(images, kernel, geometry, tile=tile)
    np.testing.assert_allclose(outputs, by_scipy(images, kernel, padding, stride), atol=1e-12)


@pytest.mark.parametrize(("shape", "kernel_shape", "padding", "stride"), SHAPES)
def test_every_way_and_direction_is_the_same_trilinear_form(
    float64, shape, kernel_shape, padding, stride
):
    """<y, x * k> = <x, images(y, k)> = <k, kernel(x, y)>, with x * k by SciPy."""
    images, kernel = draw(shape, kernel_shape)
    geometry = geometry_of(images, kernel, padding, stride)
    plain = by_scipy(images, kernel, padding, stride)
    outputs = jnp.asarray(np.random.default_rng(1).normal(size=plain.shape))
    expected = np.sum(plain * np.asarray(outputs))
    assert geometry.output == plain.shape[1:3]
    for way, functions in on_cpu.WAYS.items():
        if way == "product" and kernel.shape[:2] != (1, 1):
            continue
        to_outputs = functions["outputs"](images, kernel, geometry)
        to_images = functions["images"](outputs, kernel, geometry)
        to_kernel = functions["kernel"](images, outputs, geometry)
        for a, b in [(to_outputs, outputs), (to_images, images), (to_kernel, kernel)]:
            assert a.shape == b.shape
            np.testing.assert_allclose(jnp.vdot(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [5, 32, 33, 70, 500])
def test_portions_of_a_batch_sum_to_its_kernel(float64, count):
    """Against a sum over examples and pixels, for whole portions and for a rest."""
    images, kernel = draw((4, 5, 2), (3, 3, 2), size=count)
    outputs = jnp.cos(jnp.arange(count * 40.0)).reshape(count, 4, 5, 2)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros(kernel.shape)
    for row, column in np.ndindex(3, 3):
        seen = padded[:, row : row + 4, column : column + 5]
        expected[row, column] = np.einsum("bhwc,bhwo->co", seen, outputs)
    geometry = geometry_of(images, kernel, 1, 1)
    found = on_cpu.canonical_kernel(images, outputs, geometry)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def derivatives(function, images, kernel):
    """Of every order and mode, single and mapped over either operand, over both and over nests."""

    def score(x, k):
        return jnp.sum(jnp.sin(function(x, k)))

    gradient = jax.grad(score, (0, 1))

    def second(x, k):
        return jax.grad(lambda x, k: sum(jnp.sum(jnp.cos(g)) for g in gradient(x, k)), (0, 1))(x, k)

    many_images = jnp.stack([images, 2 * images, -images])
    many_kernels = jnp.stack([kernel, kernel**2, -kernel])
    of_example = jax.vmap(jax.grad(lambda k, x: score(x[None], k)), (None, 0))
    return {
        "values": function(images, kernel),
        "gradient": gradient(images, kernel),
        "second": second(images, kernel),
        "forward": jax.jvp(gradient, (images, kernel), (jnp.cos(images), jnp.cos(kernel))),
        "Jacobian, forward": jax.jacfwd(lambda k: function(images, k))(kernel),
        "Jacobian, reverse": jax.jacrev(lambda x: function(x, kernel))(images),
        "mapped over both": jax.vmap(gradient)(many_images, many_kernels),
        "mapped over images": jax.vmap(gradient, (0, None))(many_images, kernel),
        "mapped over kernels": jax.vmap(gradient, (None, 0))(images, many_kernels),
        "second, mapped": jax.jit(jax.vmap(second))(many_images, many_kernels),
        "nested": jax.vmap(jax.vmap(gradient, (0, None)), (None, 0))(many_images, many_kernels),
        "of examples": jax.vmap(of_example, (0, None))(many_kernels, images),
        "in a loop": jax.lax.map(lambda pair: gradient(*pair), (many_images, many_kernels)),
        "last axis": jax.vmap(gradient, (4, 4), 4)(
            jnp.moveaxis(many_images, 0, 4), jnp.moveaxis(many_kernels, 0, 4)
        ),
    }


@pytest.mark.parametrize(
    ("shape", "kernel_shape", "padding", "stride"),
    [SHAPES[0], *(pytest.param(*s, marks=pytest.mark.slow) for s in SHAPES[1:])],
)
def test_derivatives_of_every_order_are_xlas(float64, shape, kernel_shape, padding, stride):
    images, kernel = draw(shape, kernel_shape)
    ours, plain = (
        derivatives(functools.partial(f, padding=padding, stride=stride), images, kernel)
        for f in (convolve, convolve_plainly)
    )
    assert ours.keys() == plain.keys()
    for name in ours:
        for own, other in zip(
            jax.tree.leaves(ours[name]), jax.tree.leaves(plain[name]), strict=True
        ):
            np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-10, err_msg=name)


def test_the_way_is_chosen_where_a_program_is_compiled_for():
    images, kernel = draw((8, 8, 16), (3, 3, 32), dtype=jnp.float32)

    def layouts(function, platform):
        gradient = jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k, 1, 1))), (0, 1))
        lowered = jax.jit(gradient).trace(images, kernel).lower(lowering_platforms=(platform,))
        lines = lowered.as_text().splitlines()
        return [
            line.split("dim_numbers = ")[1].split(",  ")[0].split(", window")[0]
            for line in lines
            if "stablehlo.convolution" in line
        ]

    canonical = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
    assert layouts(convolve, "cpu") == [canonical] * 3
    for platform in ("tpu", "cuda"):
        own = layouts(convolve, platform)
        assert sorted(own) == sorted(layouts(convolve_plainly, platform))
        assert own != [canonical] * 3


def test_mapped_networks_stay_free_of_grouped_convolutions():
    images, kernel = draw((8, 8, 9), (3, 3, 4), dtype=jnp.float32)
    kernels = jnp.stack([kernel, -kernel])
    gradient = jax.grad(lambda k, x: jnp.sum(jnp.sin(convolve(x, k, 1))), (0, 1))
    text = jax.jit(jax.vmap(gradient, (0, None))).lower(kernels, images).as_text()
    groups = [line for line in text.splitlines() if "feature_group_count" in line]
    assert groups
    assert all("feature_group_count = 1 " in line for line in groups)
    assert all("batch_group_count = 1 " in line for line in groups)


def same_geometry(size, window, stride=1):
    return on_cpu.Geometry(stride, window // 2, (size, size), (window, window))


def test_the_best_tile_balances_copies_against_multiplications():
    assert on_cpu.best_tile(same_geometry(28, 5), (1, 6)) == (2, 4)  # few outputs: large blocks
    assert on_cpu.best_tile(same_geometry(7, 5), (32, 64))[0] == 1  # odd height: no row is wasted
    assert on_cpu.best_tile(same_geometry(8, 1), (3, 4)) == (1, 1)  # nothing to share


def test_blocks_are_for_thin_layers():
    """As `benchmarks.convolutions` measured them, where the ways differ by a quarter at least."""
    ways = {
        ("outputs", 28, 5, (1, 6)): "blocks",
        ("outputs", 32, 3, (3, 16)): "blocks",
        ("images", 14, 5, (6, 16)): "blocks",
        ("outputs", 14, 5, (16, 32)): "canonical",
        ("images", 14, 5, (16, 32)): "canonical",
        ("outputs", 32, 3, (16, 16)): "canonical",
        ("kernel", 28, 5, (1, 16)): "canonical",
        ("kernel", 7, 5, (32, 64)): "canonical",
        ("images", 16, 1, (32, 32)): "product",
    }
    for (result, size, window, channels), way in ways.items():
        assert on_cpu.choose_way(result, same_geometry(size, window), channels) == way


@pytest.mark.parametrize("stride", [1, 2])
def test_the_module_has_flax_parameters_and_values(stride):
    images, _ = draw((8, 8, 2), (5, 5, 3), dtype=jnp.float32)
    ours = Convolution(3, (5, 5), 2, stride)
    theirs = nn.Conv(3, (5, 5), padding=2, strides=stride)
    variables = theirs.init(jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), images)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, images), theirs.apply(variables, images), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_layers_and_norms_are_found(stride):
    images, kernel = draw((6, 6, 2), (3, 3, 4), size=5, dtype=jnp.float32)

    def losses_fn(params, batch):
        return jnp.sum(jnp.tanh(convolve(batch, params, 1, stride)), axis=(1, 2, 3))

    layers = linearize_layers(losses_fn, kernel, images)
    whole = linearize_losses(lambda k: losses_fn(k, images), kernel)
    np.testing.assert_allclose(layers.jvp(2 * kernel), whole.jvp(2 * kernel), rtol=1e-4)
    rows = jax.vmap(lambda x: jax.grad(lambda k: losses_fn(k, x[None])[0])(kernel))(images)
    norms = layers.squared_row_norms()
    np.testing.assert_allclose(norms, jnp.sum(rows**2, axis=(1, 2, 3, 4)), rtol=1e-4)
    # by the formula for convolutions, not by a backward pass over the batch for every example
    text = str(jax.make_jaxpr(layers.squared_row_norms)())
    assert "convolution_kernel" not in text


def test_what_does_not_fit_is_refused():
    images, kernel = draw((4, 4, 2), (5, 5, 3), dtype=jnp.float32)
    with pytest.raises(
        ValueError, match=r"window of \(5, 5\) does not fit into images of \(4, 4\)"
    ):
        convolve(images, kernel, 0)
    with pytest.raises(ValueError, match=r"got shapes \(2, 4, 4, 1\) and \(5, 5, 2, 3\)"):
        convolve(images[..., :1], kernel, 2)
    with pytest.raises(TypeError, match="same dtype; got float16 and float32"):
        convolve(images.astype(jnp.float16), kernel, 2)
