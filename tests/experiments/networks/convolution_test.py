import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from experiments.networks.convolution import (
    Convolution,
    best_tile,
    convolve_blocks,
    convolve_plainly,
)
from weighting import linearize_layers, linearize_losses

# (image height, width, channels), (kernel height, width, outputs), padding
SHAPES = [
    ((8, 8, 1), (5, 5, 3), 2),
    ((9, 7, 2), (5, 5, 4), 0),
    ((7, 7, 3), (3, 3, 2), 1),
    ((6, 5, 2), (1, 1, 3), 0),
    ((6, 8, 2), (2, 3, 3), 1),
]


def draw(shape, kernel_shape, size=2):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, *shape))
    kernel = rng.normal(size=(*kernel_shape[:2], shape[2], kernel_shape[2]))
    return jnp.asarray(images, jnp.float32), jnp.asarray(kernel, jnp.float32)


def by_scipy(images, kernel, padding):
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(np.asarray(images, np.float64), pads)
    outputs = [
        [correlate(one, np.asarray(kernel[..., o], np.float64), "valid")[..., 0] for one in padded]
        for o in range(kernel.shape[-1])
    ]
    return np.moveaxis(np.asarray(outputs), 0, -1)


@pytest.mark.parametrize("tile", [None, (1, 1), (2, 2), (1, 4), (2, 5)])
@pytest.mark.parametrize(("shape", "kernel_shape", "padding"), SHAPES)
def test_blocks_equal_scipy_correlation(shape, kernel_shape, padding, tile):
    images, kernel = draw(shape, kernel_shape)
    outputs = convolve_blocks(images, kernel, padding, tile=tile)
    # sums of at most 75 products of order one in 32 bits
    np.testing.assert_allclose(outputs, by_scipy(images, kernel, padding), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("shape", "kernel_shape", "padding"), SHAPES)
def test_gradients_equal_those_of_the_plain_convolution(shape, kernel_shape, padding):
    images, kernel = draw(shape, kernel_shape)

    def score(convolve):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(convolve(x, k, padding))), (0, 1))

    ours, plain = (score(f)(images, kernel) for f in (convolve_blocks, convolve_plainly))
    for mine, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-4)


def test_scan_and_vmap_over_kernels_give_what_single_calls_give():
    images, kernel = draw((8, 8, 2), (5, 5, 3))
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])
    single = [convolve_blocks(images, k, 2) for k in kernels]
    mapped = jax.vmap(convolve_blocks, (None, 0, None))(images, kernels, 2)
    _, scanned = jax.lax.scan(lambda c, k: (c, convolve_blocks(images, k, 2)), None, kernels)
    np.testing.assert_allclose(mapped, single, rtol=0, atol=2e-5)
    np.testing.assert_allclose(scanned, single, rtol=0, atol=2e-5)


def test_the_best_tile_balances_copies_against_multiplications():
    assert best_tile(28, 28, (5, 5, 1, 6)) == (2, 4)  # few outputs: large blocks
    assert best_tile(7, 7, (5, 5, 32, 64))[0] == 1  # odd height: no row is wasted
    assert best_tile(8, 8, (1, 1, 3, 4)) == (1, 1)  # nothing to share


def test_the_module_has_flax_parameters_and_values():
    images, _ = draw((8, 8, 2), (5, 5, 3))
    ours, theirs = Convolution(3, (5, 5), 2), nn.Conv(3, (5, 5), padding=2)
    variables = theirs.init(jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), images)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, images), theirs.apply(variables, images), rtol=0, atol=2e-5
    )


def test_layers_and_norms_are_found_behind_blocks():
    images, kernel = draw((6, 6, 2), (3, 3, 4), size=5)

    def losses_fn(params, batch):
        return jnp.sum(jnp.tanh(convolve_blocks(batch, params, 1)), axis=(1, 2, 3))

    layers = linearize_layers(losses_fn, kernel, images)
    whole = linearize_losses(lambda k: losses_fn(k, images), kernel)
    np.testing.assert_allclose(layers.jvp(2 * kernel), whole.jvp(2 * kernel), rtol=1e-4)
    rows = jax.vmap(lambda x: jax.grad(lambda k: losses_fn(k, x[None])[0])(kernel))(images)
    np.testing.assert_allclose(
        layers.squared_row_norms(), jnp.sum(rows**2, axis=(1, 2, 3, 4)), rtol=1e-4
    )
