r"""Convolutions as matrix products over blocks of pixels, for XLA's CPU backend.

A convolution with a small kernel and few channels spends its time there on moving data, not on
arithmetic, above all inside a loop or `vmap`. Here a product with a larger
matrix computes a whole block of th x tw outputs from the (th + kh - 1) x (tw + kw - 1) inputs that
they see: some multiplications by zero, but far fewer copies than im2col makes (every input is
copied about (1 + (kh - 1) / th)(1 + (kw - 1) / tw) times, not kh kw), and products of shapes that a
CPU does well. It is the same sum in another order, and as differentiable, batchable and scannable
as any product. On other platforms a convolution stays a convolution.

`kernel` is always [kh, kw, C, O] and `images` [B, H, W, C], as in flax.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

Tile = tuple[int, int]

TILES = [(height, width) for height in (1, 2) for width in (1, 2, 4, 5)]
COPY = 136  # multiplications in the time of copying one number, fitted on two cores

Convolve = Callable[[Array, Array, int], Array]  # (images, kernel, padding) -> outputs


def convolve(images: Array, kernel: Array, padding: int) -> Array:
    """Stride-one convolution, by the way that suits the platform of the computation."""
    if jax.default_backend() == "cpu":
        return convolve_blocks(images, kernel, padding)
    return convolve_plainly(images, kernel, padding)


def convolve_plainly(images: Array, kernel: Array, padding: int) -> Array:
    """XLA's convolution; `padding` zeros on each side."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(1, 1),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def convolve_blocks(
    images: Array, kernel: Array, padding: int, *, tile: Tile | None = None
) -> Array:
    """The same as one matrix product; `tile` (th, tw) is the block of outputs, by default the best.

    Cost: th tw (th + kh - 1)(tw + kw - 1) / (th tw kh kw) times the multiplications, block edges
    rounded up.
    """
    (kh, kw, _, num_outputs), (size, height, width, _) = kernel.shape, images.shape
    height, width = height + 2 * padding - kh + 1, width + 2 * padding - kw + 1
    th, tw = tile or best_tile(height, width, kernel.shape)
    rows, columns, reach_h, reach_w = _grid(height, width, kernel.shape, (th, tw))
    blocks = _blocks(images, padding, (th, tw), (rows + reach_h - 1, columns + reach_w - 1))
    seen = jnp.concatenate(
        [blocks[:, i : i + rows, j : j + columns] for i in range(reach_h) for j in range(reach_w)],
        axis=-1,
    )
    outputs = seen.reshape(size, rows * columns, -1) @ _block_matrix(kernel, th, tw)
    outputs = outputs.reshape(size, rows, columns, th, tw, num_outputs)
    outputs = outputs.transpose(0, 1, 3, 2, 4, 5)
    return outputs.reshape(size, rows * th, columns * tw, num_outputs)[:, :height, :width]


class Convolution(nn.Module):
    """A convolution of stride one, with a bias or not; parameters as in `flax.linen.Conv`."""

    features: int
    kernel_size: tuple[int, int]
    padding: int
    use_bias: bool = True
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Array] = nn.initializers.zeros
    convolve: Convolve = convolve

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        outputs = self.convolve(images, kernel, self.padding)
        if not self.use_bias:
            return outputs
        bias = self.param("bias", self.bias_init, (self.features,))
        return outputs + bias[None, None, None]


@functools.cache
def best_tile(height: int, width: int, kernel_shape: Sequence[int]) -> Tile:
    """The block with the least time for outputs [height, width]: copies and multiplications."""

    def time(tile: Tile) -> int:
        rows, columns, reach_h, reach_w = _grid(height, width, kernel_shape, tile)
        area = tile[0] * tile[1]
        copied = rows * columns * reach_h * reach_w * area * kernel_shape[2]
        return copied * (COPY + area * kernel_shape[3])

    return min(TILES, key=time)


def _grid(height: int, width: int, kernel_shape: Sequence[int], tile: Tile) -> tuple[int, ...]:
    """Blocks along height and width, and how many of them the inputs of one block reach over."""
    return (
        -(-height // tile[0]),
        -(-width // tile[1]),
        -(-(kernel_shape[0] - 1) // tile[0]) + 1,
        -(-(kernel_shape[1] - 1) // tile[1]) + 1,
    )


def _blocks(images: Array, padding: int, tile: Tile, counts: tuple[int, int]) -> Array:
    """Padded images cut into blocks, [B, rows, columns, th tw C]."""
    size, channels = images.shape[0], images.shape[-1]
    ends = [
        n * t - padding - have for n, t, have in zip(counts, tile, images.shape[1:3], strict=True)
    ]
    zero = jnp.zeros((), images.dtype)
    config = [(0, 0, 0), (padding, ends[0], 0), (padding, ends[1], 0), (0, 0, 0)]
    padded = lax.pad(images, zero, config)
    padded = padded.reshape(size, counts[0], tile[0], counts[1], tile[1], channels)
    return padded.transpose(0, 1, 3, 2, 4, 5).reshape(size, *counts, -1)


def _block_matrix(kernel: Array, th: int, tw: int) -> Array:
    """[inputs of a block, th tw O]: the kernel, moved to each of the block's outputs."""
    kh, kw, channels, _ = kernel.shape
    reach_h, reach_w = -(-(kh - 1) // th) + 1, -(-(kw - 1) // tw) + 1

    def moved(array: Array, axis: int, by: int, length: int) -> Array:
        pads = [(0, 0)] * array.ndim
        pads[axis] = (by, length - by - array.shape[axis])
        return jnp.pad(array, pads)

    kernel = jnp.stack([moved(kernel, 0, i, reach_h * th) for i in range(th)], axis=3)
    kernel = jnp.stack([moved(kernel, 1, j, reach_w * tw) for j in range(tw)], axis=4)
    kernel = kernel.reshape(reach_h, th, reach_w, tw, channels, -1)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(reach_h * th * reach_w * tw * channels, -1)
