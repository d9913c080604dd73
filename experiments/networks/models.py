"""The networks of the papers, as flax.linen modules behind one small boundary, `Model`.

Axes: B batch, H height, W width, C outputs, D features. The last dense layer is called `head` in
every network, and its input is returned as `features`.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.networks import convolution
from experiments.networks.convolution import Convolution, Convolve
from experiments.networks.dense_networks import densenet161, densenet_bc
from experiments.networks.model_boundary import Model, check_images, model_from_module, to_float
from experiments.networks.own_model import own_model
from experiments.networks.pooling import max_pool
from experiments.networks.residual_networks import cifar_resnet, wide_resnet
from experiments.networks.small_cnn import small_cnn
from experiments.tools.names import lookup
from weighting import ModelOutput

__all__ = [
    "Model",
    "cifar_resnet",
    "densenet161",
    "densenet_bc",
    "lenet5",
    "linear",
    "make_model",
    "max_pool",
    "mlp",
    "ren2018_net",
    "small_cnn",
    "to_float",
    "wide_resnet",
]


def make_model(name: str, num_outputs: int) -> Model:
    """The network called `name`.

    `linear`, `mlp` and `mlp_bn` read inputs of any shape, and hidden sizes may follow the two MLPs:
    `mlp:128`, `mlp_bn:64,64`. The others read images: `lenet5`, `ren2018_net`, `small_cnn`,
    `resnet32`, `wrn28_2`, `wrn28_10` (with dropout of rate 0.3), `densenet_bc`, `densenet161`.
    One of one's own is `FILE.py:FUNCTION[:VALUE...]`, see `own_model`.
    """
    base, colon, sizes = name.partition(":")
    own = None if base in MODELS else own_model(name, num_outputs)
    if own is not None:
        return own
    make = lookup(base, MODELS, "model")
    if not colon:
        return make(num_outputs)
    if base not in ("mlp", "mlp_bn"):
        raise ValueError(f"{base!r} has no hidden sizes to choose; got {name!r}")
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", sizes):
        raise ValueError(f"hidden sizes are written like '{base}:64,64'; got {name!r}")
    return make(num_outputs, hidden=tuple(int(size) for size in sizes.split(",")))


def linear(num_outputs: int, *, bias: bool = False) -> Model:
    """A linear map of the flattened inputs; without bias it is homogeneous of order one."""
    module = _MLP(num_outputs, hidden=(), bias=bias, batch_norm=False)
    return model_from_module(module, "linear", has_convolutions=False)


def mlp(
    num_outputs: int,
    *,
    hidden: tuple[int, ...] = (64,),
    bias: bool = False,
    batch_norm: bool = False,
) -> Model:
    """A ReLU network on flattened inputs: dense, batch norm (if asked for), ReLU, ..., dense.

    Without bias and batch norm it is homogeneous of order `len(hidden) + 1` in its parameters, as
    Xu et al., "Understanding the role of importance weighting for deep learning", ICLR 2021,
    assume; `hidden=(5,)` is their two-layer network. Kernels start as LeCun normal (flax's
    default). Batch norm shifts by itself, so the layers before it never have a bias.
    """
    base = "mlp_bn" if batch_norm else "mlp"
    name = f"{base}:{','.join(map(str, hidden))}"
    module = _MLP(num_outputs, hidden=tuple(hidden), bias=bias, batch_norm=batch_norm)
    return model_from_module(module, name, has_convolutions=False)


def lenet5(num_outputs: int, *, convolve: Convolve = convolution.convolve) -> Model:
    """LeNet-5 with ReLU and max-pooling, as in the released code of Santiago et al. (2021).

    Two 5x5 convolutions (6 and 16 channels), each followed by 2x2 max-pooling, then dense layers of
    120, 84 and `num_outputs`. 28x28 images are padded by two zeros on each side. Kernels and biases
    start uniform within 1 / sqrt(fan_in), PyTorch's default.
    """
    return model_from_module(_LeNet5(num_outputs, convolve), "lenet5", has_convolutions=True)


def ren2018_net(num_outputs: int = 1, *, convolve: Convolve = convolution.convolve) -> Model:
    """The MNIST network in the released code of Ren et al. (ICML 2018) for 4 against 9.

    Three 5x5 convolutions (16, 32, 64 channels), each followed by 3x3 max-pooling of stride 2, then
    dense layers of 100 and `num_outputs`. Kernels start normal with standard deviation 0.1, cut
    (and not rescaled) at two standard deviations as in TensorFlow; biases start at zero.
    """
    return model_from_module(
        _Ren2018Net(num_outputs, convolve), "ren2018_net", has_convolutions=True
    )


MODELS: dict[str, Callable[..., Model]] = {
    "linear": linear,
    "mlp": mlp,
    "mlp_bn": functools.partial(mlp, batch_norm=True),
    "lenet5": lenet5,
    "ren2018_net": ren2018_net,
    "small_cnn": small_cnn,
    "resnet32": cifar_resnet,
    "wrn28_2": functools.partial(wide_resnet, width=2),
    "wrn28_10": functools.partial(wide_resnet, width=10, dropout_rate=0.3),
    "densenet_bc": densenet_bc,
    "densenet161": densenet161,
}


class _MLP(nn.Module):
    num_outputs: int
    hidden: tuple[int, ...]
    bias: bool
    batch_norm: bool

    @nn.compact
    def __call__(self, inputs, train):
        x = _flatten(inputs)
        for size in self.hidden:
            x = nn.Dense(size, use_bias=self.bias and not self.batch_norm)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
        return ModelOutput(nn.Dense(self.num_outputs, use_bias=self.bias, name="head")(x), x)


class _LeNet5(nn.Module):
    num_outputs: int
    convolve: Convolve

    @nn.compact
    def __call__(self, inputs, train):
        check_images("lenet5", inputs, min_size=16)
        padding = 2 if inputs.shape[1:3] == (28, 28) else 0
        layer = functools.partial(Convolution, kernel_size=(5, 5), convolve=self.convolve)
        init = _pytorch_init(25 * inputs.shape[-1])
        x = layer(6, padding=padding, **init, name="Conv_0")(inputs)
        x = nn.relu(max_pool(x, 2, "VALID"))  # the same as pooling after ReLU, and cheaper
        x = layer(16, padding=0, **_pytorch_init(25 * 6), name="Conv_1")(x)
        x = _flatten(nn.relu(max_pool(x, 2, "VALID")))
        for size in (120, 84):
            x = nn.relu(nn.Dense(size, **_pytorch_init(x.shape[-1]))(x))
        logits = nn.Dense(self.num_outputs, **_pytorch_init(x.shape[-1]), name="head")(x)
        return ModelOutput(logits, x)


class _Ren2018Net(nn.Module):
    num_outputs: int
    convolve: Convolve

    @nn.compact
    def __call__(self, inputs, train):
        check_images("ren2018_net", inputs, min_size=1)
        kernel_init = nn.initializers.truncated_normal(0.1)
        x = inputs
        layer = functools.partial(
            Convolution,
            kernel_size=(5, 5),
            padding=2,
            kernel_init=kernel_init,
            convolve=self.convolve,
        )
        for i, channels in enumerate((16, 32, 64)):
            x = layer(channels, name=f"Conv_{i}")(x)
            x = nn.relu(max_pool(x, 3, "SAME"))
        x = nn.relu(nn.Dense(100, kernel_init=kernel_init)(_flatten(x)))
        return ModelOutput(nn.Dense(self.num_outputs, kernel_init=kernel_init, name="head")(x), x)


def _flatten(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _pytorch_init(fan_in: int) -> dict[str, Any]:
    """Initialisers of kernel and bias, both uniform within 1 / sqrt(fan_in)."""

    def uniform(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return {"kernel_init": uniform, "bias_init": uniform}
