r"""Convolutions that are fast on every platform, in loops as outside, in every derivative.

On CPU, XLA is fast for some forms of a convolution only (`convolution_on_cpu`), and autodiff writes
others. So here a convolution is a primitive of its own, in three directions: images and kernel to
outputs, outputs and kernel to images, images and outputs to a kernel. Each is bilinear, and its
transposes are the two others: `grad`, `jvp`, their transposes and all higher derivatives are again
these three. How each is carried out is chosen where a program is compiled, by the platform that it
is compiled for: elsewhere than on CPU a direction is what autodiff of XLA's convolution gives.

Under `vmap`, an axis of one operand joins the axis that this operand shares with the result, and
the convolution stays one convolution. Where both operands have it (networks side by side, or the
kernel gradients of single examples), CPUs take products over blocks, other platforms a grouped
convolution.

`images` are [B, H, W, C], `kernel` [kh, kw, C, O] and `outputs` [B, H', W', O], as in flax.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from experiments.networks import convolution_on_cpu
from experiments.networks.convolution_on_cpu import Geometry, plain_outputs

Convolve = Callable[[Array, Array, int, int], Array]  # (images, kernel, padding, stride)

# The axis that counts examples (B), input (C) and output channels (O).
AXES = {"images": {"B": 0, "C": 3}, "kernel": {"C": 2, "O": 3}, "outputs": {"B": 0, "O": 3}}
OPERANDS = {
    "outputs": ("images", "kernel"),
    "images": ("outputs", "kernel"),
    "kernel": ("images", "outputs"),
}
# What says of `outputs`, as of `lax.conv_general_dilated`, that it is a convolution.
_AS_IN_LAX = {
    "dimension_numbers": lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    "lhs_dilation": (1, 1),
    "rhs_dilation": (1, 1),
    "feature_group_count": 1,
    "batch_group_count": 1,
}


def convolve(images: Array, kernel: Array, padding: int, stride: int = 1) -> Array:
    """The convolution of images [B, H, W, C] with a kernel [kh, kw, C, O].

    Args:
      images: of the kernel's dtype.
      kernel: not larger than the padded images.
      padding: zeros on each side.
      stride: pixels from one output to the next.

    Returns:
      [B, (H + 2 padding - kh) // stride + 1, (W + 2 padding - kw) // stride + 1, O].

    Raises:
      TypeError: images and kernel differ in dtype.
      ValueError: their shapes do not fit.
    """
    if images.dtype != kernel.dtype:
        raise TypeError(
            f"images and kernel must have the same dtype; got {images.dtype} and {kernel.dtype}"
        )
    if images.ndim != 4 or kernel.ndim != 4 or images.shape[3] != kernel.shape[2]:
        raise ValueError(
            "images must be [B, H, W, C] and kernel [kh, kw, C, O]; got shapes "
            f"{images.shape} and {kernel.shape}"
        )
    geometry = _geometry(images, kernel, padding, stride)
    if min(geometry.output) < 1:
        raise ValueError(
            f"a window of {geometry.window} does not fit into images of {geometry.image} with "
            f"{padding} zeros on each side"
        )
    return _bind("outputs", images, kernel, geometry=geometry, is_mapped=False)


def convolve_plainly(images: Array, kernel: Array, padding: int, stride: int = 1) -> Array:
    """The same by XLA's convolution and autodiff."""
    return plain_outputs(images, kernel, _geometry(images, kernel, padding, stride))


def _geometry(images: Array, kernel: Array, padding: int, stride: int) -> Geometry:
    (height, width), (kh, kw) = images.shape[1:3], kernel.shape[:2]
    return Geometry(stride, padding, (height, width), (kh, kw))


class Convolution(nn.Module):
    """A convolution, with a bias or not; parameters as in `flax.linen.Conv`."""

    features: int
    kernel_size: tuple[int, int]
    padding: int
    stride: int = 1
    use_bias: bool = True
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Array] = nn.initializers.zeros
    convolve: Convolve = convolve

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        outputs = self.convolve(images, kernel, self.padding, self.stride)
        if not self.use_bias:
            return outputs
        bias = self.param("bias", self.bias_init, (self.features,))
        return outputs + bias[None, None, None]


# --- the primitive, in three directions -----------------------------------------------------------

_LAX_NAMES = ("window_strides", "padding", *_AS_IN_LAX)
_PRIMITIVES = {result: Primitive(f"convolution_{result}") for result in OPERANDS}


def _bind(result: str, left: Array, right: Array, *, geometry: Geometry, is_mapped: bool) -> Array:
    """One direction; with `is_mapped`, both operands and the result have a leading axis."""
    named: dict[str, Any] = {}
    if result == "outputs" and not is_mapped:
        strides = (geometry.stride, geometry.stride)
        named = {"window_strides": strides, "padding": geometry.pads, **_AS_IN_LAX}
    return _PRIMITIVES[result].bind(left, right, geometry=geometry, is_mapped=is_mapped, **named)


def _third(result: str, given: dict[str, Array], geometry: Geometry, is_mapped: bool) -> Array:
    """The direction towards `result` from the two others."""
    left, right = (given[name] for name in OPERANDS[result])
    return _bind(result, left, right, geometry=geometry, is_mapped=is_mapped)


def _shape(result: str, left: Any, right: Any, geometry: Geometry) -> tuple[int, ...]:
    """Of the result of operands of these shapes, without a mapped axis."""
    operands = dict(zip(OPERANDS[result], (left, right), strict=True))
    count = {
        letter: operands[name][axis] for name in operands for letter, axis in AXES[name].items()
    }
    match result:
        case "images":
            return count["B"], *geometry.image, count["C"]
        case "kernel":
            return *geometry.window, count["C"], count["O"]
        case _:
            return count["B"], *geometry.output, count["O"]


def xlas_own(result: str, left: Array, right: Array, geometry: Geometry) -> Array:
    """What autodiff of XLA's convolution gives."""
    if result == "outputs":
        return plain_outputs(left, right, geometry)
    shape = jax.ShapeDtypeStruct(_shape(result, left.shape, right.shape, geometry), left.dtype)
    if result == "images":
        transpose = jax.linear_transpose(lambda x: plain_outputs(x, right, geometry), shape)
        return transpose(left)[0]
    return jax.linear_transpose(lambda k: plain_outputs(left, k, geometry), shape)(right)[0]


def _define(result: str) -> None:
    """Gives a direction's primitive its shape, derivatives, `vmap` and programs by platform."""
    primitive, operands = _PRIMITIVES[result], OPERANDS[result]

    def abstract(left: Any, right: Any, *, geometry: Geometry, is_mapped: bool, **_: Any) -> Any:
        leading = left.shape[:1] if is_mapped else ()
        first, second = (x.shape[1:] if is_mapped else x.shape for x in (left, right))
        return ShapedArray((*leading, *_shape(result, first, second, geometry)), left.dtype)

    def lower(carry_out: Callable[..., Array], carry_out_mapped: Callable[..., Array]) -> Any:
        def rule(
            left: Array, right: Array, *, geometry: Geometry, is_mapped: bool, **_: Any
        ) -> Array:
            if not is_mapped:
                return carry_out(left, right, geometry)
            return jax.vmap(lambda a, b: carry_out_mapped(a, b, geometry))(left, right)

        return mlir.lower_fun(rule, multiple_results=False)

    def transposed(wanted: str) -> Callable[..., Array]:
        (kept,) = (name for name in operands if name != wanted)

        def rule(
            cotangent: Array,
            left: Any,
            right: Any,
            *,
            geometry: Geometry,
            is_mapped: bool,
            **_: Any,
        ) -> Array:
            value = left if kept == operands[0] else right
            return _third(wanted, {result: cotangent, kept: value}, geometry, is_mapped)

        return rule

    primitive.def_impl(
        jax.jit(primitive.bind, static_argnames=("geometry", "is_mapped", *_LAX_NAMES))
    )
    primitive.def_abstract_eval(abstract)
    ad.defbilinear(primitive, transposed(operands[0]), transposed(operands[1]))
    batching.primitive_batchers[primitive] = functools.partial(_batch, result)
    anywhere = functools.partial(xlas_own, result)
    mlir.register_lowering(primitive, lower(anywhere, anywhere))
    on_cpu = functools.partial(convolution_on_cpu.carry_out, result)
    blocks = functools.partial(convolution_on_cpu.by_blocks, result)
    mlir.register_lowering(primitive, lower(on_cpu, blocks), platform="cpu")


def _batch(
    result: str,
    values: tuple[Array, Array],
    dims: tuple[Any, Any],
    *,
    geometry: Geometry,
    is_mapped: bool,
    **_: Any,
) -> tuple[Array, int]:
    """The rule of `vmap`, see the module."""
    operands = OPERANDS[result]
    mapped = [i for i, dim in enumerate(dims) if dim is not None]
    if len(mapped) == 1 and not is_mapped:
        i = mapped[0]
        (letter,) = AXES[operands[i]].keys() & AXES[result].keys()
        folded, length = _fold(values[i], dims[i], AXES[operands[i]][letter])
        given = dict(zip(operands, values, strict=True)) | {operands[i]: folded}
        out = _third(result, given, geometry, False)
        axis = AXES[result][letter]
        shape = (*out.shape[:axis], length, -1, *out.shape[axis + 1 :])
        return out.reshape(shape), axis
    length = next(v.shape[d] for v, d in zip(values, dims, strict=True) if d is not None)
    full = [
        jnp.broadcast_to(v[None], (length, *v.shape)) if d is None else jnp.moveaxis(v, d, 0)
        for v, d in zip(values, dims, strict=True)
    ]
    if is_mapped:  # one leading axis for both
        full = [v.reshape(-1, *v.shape[2:]) for v in full]
    out = _bind(result, *full, geometry=geometry, is_mapped=True)
    return (out.reshape(length, -1, *out.shape[1:]) if is_mapped else out), 0


def _fold(value: Array, dim: int, axis: int) -> tuple[Array, int]:
    """A mapped axis, moved before another and joined with it; and its length."""
    value = jnp.moveaxis(value, dim, axis)
    length = value.shape[axis]
    return value.reshape(*value.shape[:axis], -1, *value.shape[axis + 2 :]), length


for _result in OPERANDS:
    _define(_result)
