r"""Convolutions as XLA's CPU backend does them fast, inside of loops as outside.

A convolution :math:`y = x \star k` is one bilinear map with three directions: from images x and
kernel k to outputs y; from outputs and kernel to images, :math:`\partial / \partial x`; from images
and outputs to a kernel, :math:`\partial / \partial k`. XLA's CPU backend has fast kernels for one
layout, NHWC x HWIO -> NHWC, and rewrites other layouts to it in a program's entry only. In the body
of a `scan` the two derivatives that autodiff writes fall to a naive loop, 3 to 150 times slower.
Here every direction is written by hand in one of these ways:

- *canonical*: as a convolution in that layout, whose operands are transposed;
- *blocks*: as one product with a larger matrix, which computes a whole block of th x tw outputs
  from the inputs that they see. Some multiplications by zero, but far fewer copies than im2col
  makes, and products of shapes that a CPU does well. Best for few channels, and under `vmap`,
  where a canonical convolution would become a grouped one, which is slow;
- *product*: where the window is one pixel.

`images` are [B, H, W, C], `kernel` [kh, kw, C, O], `outputs` [B, H', W', O].
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Tile = tuple[int, int]

LAYOUT = ("NHWC", "HWIO", "NHWC")
TILES = [(height, width) for height in (1, 2) for width in (1, 2, 4, 5)]
# Fitted: multiplications in the time of copying a number into a block, and a pixel into a patch.
COPY, PIXEL = 136, 510
# Portions of the batch that a kernel is summed over: numbers of outputs, examples, how many.
CACHED, MOST_EXAMPLES, MOST_PORTIONS = 2**18, 32, 12


class Geometry(NamedTuple):
    """What a convolution's operands do not tell."""

    stride: int
    padding: int  # zeros on each side
    image: tuple[int, int]  # H, W
    window: tuple[int, int]  # kh, kw

    @property
    def output(self) -> tuple[int, int]:
        """H', W'."""
        height, width = (
            (size + 2 * self.padding - window) // self.stride + 1
            for size, window in zip(self.image, self.window, strict=True)
        )
        return height, width

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros before and after, along height and width."""
        return (self.padding, self.padding), (self.padding, self.padding)

    @property
    def reach(self) -> list[int]:
        """From the first output to the last, in pixels, along height and width."""
        return [(n - 1) * self.stride + 1 for n in self.output]


# --- canonical ------------------------------------------------------------------------------------


def plain_outputs(images: Array, kernel: Array, geometry: Geometry) -> Array:
    """XLA's convolution, which is canonical as it stands."""
    strides = (geometry.stride, geometry.stride)
    return lax.conv_general_dilated(
        images, kernel, strides, geometry.pads, dimension_numbers=LAYOUT
    )


def canonical_images(outputs: Array, kernel: Array, geometry: Geometry) -> Array:
    """The outputs, `stride` apart, convolved with the kernel turned round."""
    turned = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    padding = [
        (window - 1 - geometry.padding, size + geometry.padding - reach)
        for window, size, reach in zip(geometry.window, geometry.image, geometry.reach, strict=True)
    ]
    return lax.conv_general_dilated(
        outputs,
        turned,
        (1, 1),
        padding,
        lhs_dilation=(geometry.stride, geometry.stride),
        dimension_numbers=LAYOUT,
    )


def canonical_kernel(images: Array, outputs: Array, geometry: Geometry) -> Array:
    """The sum over portions of the batch, so that what each is multiplied with stays cached."""
    count = images.shape[0]
    size = _portion(count, math.prod(outputs.shape[1:]))
    parts = (
        _kernel_of(images[start : start + size], outputs[start : start + size], geometry)
        for start in range(0, count, size)
    )
    return functools.reduce(jnp.add, parts)


def _portion(count: int, numbers: int) -> int:
    """Examples of a portion, for so many in all and numbers in the outputs of each."""
    size = min(max(CACHED // numbers, 1), MOST_EXAMPLES)
    size = max(size, -(-count // MOST_PORTIONS))
    return -(-size // 4) * 4  # examples lie side by side, as channels


def _kernel_of(images: Array, outputs: Array, geometry: Geometry) -> Array:
    """Channels as the batch, the batch as channels, and the outputs, `stride` apart, the window."""
    padding = [
        (geometry.padding, window - 1 + reach - size - geometry.padding)
        for window, size, reach in zip(geometry.window, geometry.image, geometry.reach, strict=True)
    ]
    kernel = lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        outputs.transpose(1, 2, 0, 3),
        (1, 1),
        padding,
        rhs_dilation=(geometry.stride, geometry.stride),
        dimension_numbers=LAYOUT,
    )
    return kernel.transpose(1, 2, 0, 3)


# --- blocks ---------------------------------------------------------------------------------------


def blocks_outputs(
    images: Array, kernel: Array, geometry: Geometry, *, tile: Tile | None = None
) -> Array:
    """One matrix product; `tile` (th, tw) is the block of outputs, by default the best.

    Cost: the multiplications of a convolution times the inputs that a block sees over kh kw, block
    edges rounded up.
    """
    th, tw = tile or best_tile(geometry, kernel.shape[2:])
    grid = _grid(geometry, (th, tw))
    size, (height, width) = images.shape[0], geometry.output
    pieces = _pieces(images, geometry, (th, tw), grid)
    seen = jnp.concatenate(
        [
            pieces[:, i : i + grid.rows, j : j + grid.columns]
            for i in range(grid.reach_height)
            for j in range(grid.reach_width)
        ],
        axis=-1,
    )
    outputs = seen.reshape(size, grid.rows * grid.columns, -1) @ _block_matrix(
        kernel, geometry.stride, (th, tw), grid
    )
    outputs = outputs.reshape(size, grid.rows, grid.columns, th, tw, -1)
    outputs = outputs.transpose(0, 1, 3, 2, 4, 5)
    return outputs.reshape(size, grid.rows * th, grid.columns * tw, -1)[:, :height, :width]


def blocks_images(
    outputs: Array, kernel: Array, geometry: Geometry, *, tile: Tile | None = None
) -> Array:
    """The transpose of `blocks_outputs` in the images: products and sums of overlapping blocks."""
    shape = (outputs.shape[0], *geometry.image, kernel.shape[2])
    images = jax.ShapeDtypeStruct(shape, outputs.dtype)
    return jax.linear_transpose(lambda x: blocks_outputs(x, kernel, geometry, tile=tile), images)(
        outputs
    )[0]


def blocks_kernel(
    images: Array, outputs: Array, geometry: Geometry, *, tile: Tile | None = None
) -> Array:
    """The transpose of `blocks_outputs` in the kernel."""
    shape = (*geometry.window, images.shape[-1], outputs.shape[-1])
    kernel = jax.ShapeDtypeStruct(shape, outputs.dtype)
    return jax.linear_transpose(lambda k: blocks_outputs(images, k, geometry, tile=tile), kernel)(
        outputs
    )[0]


class _Grid(NamedTuple):
    """Blocks along height and width, and how many pieces of the inputs one block reaches over."""

    rows: int
    columns: int
    reach_height: int
    reach_width: int


@functools.cache
def best_tile(geometry: Geometry, channels: tuple[int, int]) -> Tile:
    """The block with the least time for channels (C, O)."""
    return min(TILES, key=lambda tile: _time_of_blocks(geometry, channels, tile))


def _time_of_blocks(geometry: Geometry, channels: tuple[int, int], tile: Tile) -> int:
    """Per image, in multiplications: copies and products."""
    grid, area = _grid(geometry, tile), tile[0] * tile[1]
    pieces = grid.rows * grid.columns * grid.reach_height * grid.reach_width
    copied = pieces * area * geometry.stride**2 * channels[0]
    return copied * (COPY + area * channels[1])


def _grid(geometry: Geometry, tile: Tile) -> _Grid:
    """A block of t outputs sees (t - 1) s + window inputs, in pieces of t s."""
    counts = [-(-size // t) for size, t in zip(geometry.output, tile, strict=True)]
    reaches = [
        -(-((t - 1) * geometry.stride + window) // (t * geometry.stride))
        for t, window in zip(tile, geometry.window, strict=True)
    ]
    return _Grid(*counts, *reaches)


def _pieces(images: Array, geometry: Geometry, tile: Tile, grid: _Grid) -> Array:
    """Padded images cut into pieces of t s x t s, [B, rows, columns, th tw s s C]."""
    size, height, width, channels = images.shape
    th, tw = (t * geometry.stride for t in tile)
    rows, columns = grid.rows + grid.reach_height - 1, grid.columns + grid.reach_width - 1
    before = geometry.padding
    config = [
        (0, 0, 0),
        (before, rows * th - before - height, 0),
        (before, columns * tw - before - width, 0),
        (0, 0, 0),
    ]
    padded = lax.pad(images, jnp.zeros((), images.dtype), config)
    padded = padded.reshape(size, rows, th, columns, tw, channels)
    return padded.transpose(0, 1, 3, 2, 4, 5).reshape(size, rows, columns, -1)


def _block_matrix(kernel: Array, stride: int, tile: Tile, grid: _Grid) -> Array:
    """[inputs that a block sees, th tw O]: the kernel, moved to each of the block's outputs."""
    channels = kernel.shape[2]
    piece_height, piece_width = (t * stride for t in tile)

    def moved(array: Array, axis: int, by: int, length: int) -> Array:
        pads = [(0, 0)] * array.ndim
        pads[axis] = (by, length - by - array.shape[axis])
        return jnp.pad(array, pads)

    height, width = grid.reach_height * piece_height, grid.reach_width * piece_width
    kernel = jnp.stack([moved(kernel, 0, i * stride, height) for i in range(tile[0])], axis=3)
    kernel = jnp.stack([moved(kernel, 1, j * stride, width) for j in range(tile[1])], axis=4)
    kernel = kernel.reshape(
        grid.reach_height, piece_height, grid.reach_width, piece_width, channels, -1
    )
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(height * width * channels, -1)


# --- the choice -----------------------------------------------------------------------------------


def product_outputs(images: Array, kernel: Array, geometry: Geometry) -> Array:
    """For windows of one pixel, without padding: every `stride`-th pixel times a matrix."""
    return images[:, :: geometry.stride, :: geometry.stride] @ kernel[0, 0]


def product_images(outputs: Array, kernel: Array, geometry: Geometry) -> Array:
    """The pixels that were left out get zero."""
    images = outputs @ kernel[0, 0].T
    gaps = [
        (0, size - reach, geometry.stride - 1)
        for size, reach in zip(geometry.image, geometry.reach, strict=True)
    ]
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])


def product_kernel(images: Array, outputs: Array, geometry: Geometry) -> Array:
    """A sum over all pixels."""
    seen = images[:, :: geometry.stride, :: geometry.stride]
    return jnp.tensordot(seen, outputs, ((0, 1, 2), (0, 1, 2)))[None, None]


WAYS = {
    "canonical": {"outputs": plain_outputs, "images": canonical_images, "kernel": canonical_kernel},
    "blocks": {"outputs": blocks_outputs, "images": blocks_images, "kernel": blocks_kernel},
    "product": {"outputs": product_outputs, "images": product_images, "kernel": product_kernel},
}


def carry_out(result: str, left: Array, right: Array, geometry: Geometry) -> Array:
    """The direction towards `result`, in the way that should take the least time."""
    channels = {"kernel": (left.shape[3], right.shape[3])}.get(result, right.shape[2:])
    return WAYS[choose_way(result, geometry, channels)][result](left, right, geometry)


def by_blocks(result: str, left: Array, right: Array, geometry: Geometry) -> Array:
    """The direction towards `result`, as products over blocks."""
    return WAYS["blocks"][result](left, right, geometry)


@functools.cache
def choose_way(result: str, geometry: Geometry, channels: tuple[int, int]) -> str:
    """The way that should take the least time, for channels (C, O); see `benchmarks.convolutions`.

    A canonical convolution copies patches and multiplies; blocks copy less, or cheaper, and
    multiply more. Towards a kernel the canonical one wins in nearly every layer that was timed.
    """
    if geometry.window == (1, 1) and geometry.padding == 0:
        return "product"
    if result == "kernel":
        return "canonical"
    blocks = _time_of_blocks(geometry, channels, best_tile(geometry, channels))
    into, out = channels[::-1] if result == "images" else channels
    height, width = geometry.image if result == "images" else geometry.output
    num_pixels = height * width * geometry.window[0] * geometry.window[1]
    return "canonical" if num_pixels * (PIXEL + into * out) < blocks else "blocks"
