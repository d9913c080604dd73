"""Residual networks for small images: CIFAR ResNets and wide ResNets.

Both have three stages of blocks of two 3x3 convolutions; the second and third stage start by
halving the sides. Batch norm has momentum 0.9 (kept part) and epsilon 1e-5. Convolutions have no
bias and start He normal with fan-out, variance 2 / (kh kw O), as in the authors' code; the head
starts LeCun normal with bias zero. Features are the averages over all pixels.
"""

import flax.linen as nn
import jax.numpy as jnp

from experiments.networks.layers import batch_norm, conv
from experiments.networks.model_boundary import Model, check_images, model_from_module
from weighting import ModelOutput


def cifar_resnet(num_outputs: int, *, depth: int = 32) -> Model:
    """The ResNet for CIFAR of `depth` 6n + 2: n blocks a stage of 16, 32 and 64 channels.

    A block maps x to relu(s(x) + norm(conv(relu(norm(conv(x)))))). The shortcut s is the identity,
    or every second pixel with zeros for the new channels (option A): it has no parameters. Depth 32
    has 464,154 parameters for CIFAR-10.

    References:
      He et al., "Deep residual learning for image recognition", CVPR 2016, arXiv:1512.03385,
      section 4.2.
    """
    num_blocks = _blocks_per_stage("resnet", depth, other_layers=2)
    return model_from_module(
        _ResNet(num_outputs, num_blocks), f"resnet{depth}", has_convolutions=True
    )


def wide_resnet(
    num_outputs: int, *, depth: int = 28, width: int, dropout_rate: float = 0.0
) -> Model:
    """WRN-`depth`-`width`: (depth - 4) / 6 blocks a stage of 16, 32, 64 times `width` channels.

    With h(x) = relu(norm(x)), a block maps x to s + conv(dropout(h(conv(h(x))))), where s is x, or
    a 1x1 convolution of h(x) where the shape changes. A last h precedes the average. WRN-28-2 has
    1,467,610 and WRN-28-10 36,479,194 parameters for CIFAR-10. Ren et al. (ICML 2018) train
    WRN-28-10 with `dropout_rate` 0.3.

    References:
      Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016, arXiv:1605.07146.
    """
    if width < 1 or not 0 <= dropout_rate < 1:
        raise ValueError(f"needs width >= 1 and 0 <= dropout_rate < 1; got {width}, {dropout_rate}")
    num_blocks = _blocks_per_stage("wrn", depth, other_layers=4)
    module = _WideResNet(num_outputs, num_blocks, width, dropout_rate)
    return model_from_module(module, f"wrn{depth}_{width}", has_convolutions=True)


class _ResNet(nn.Module):
    num_outputs: int
    num_blocks: int

    @nn.compact
    def __call__(self, inputs, train):
        check_images("resnet", inputs, min_size=1)
        x = nn.relu(batch_norm(train, "norm0")(conv(16, 3, name="conv0")(inputs)))
        for name, channels, stride in _blocks(self.num_blocks):
            x = _BasicBlock(channels, stride, name=name)(x, train)
        x = x.mean((1, 2))
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(x), x)


class _BasicBlock(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        y = conv(self.channels, 3, self.stride, name="conv1")(x)
        y = nn.relu(batch_norm(train, "norm1")(y))
        y = batch_norm(train, "norm2")(conv(self.channels, 3, name="conv2")(y))
        shortcut = x[:, :: self.stride, :: self.stride]
        new = self.channels - x.shape[-1]
        return nn.relu(y + jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, new))))


class _WideResNet(nn.Module):
    num_outputs: int
    num_blocks: int
    width: int
    dropout_rate: float

    @nn.compact
    def __call__(self, inputs, train):
        check_images("wrn", inputs, min_size=1)
        x = conv(16, 3, name="conv0")(inputs)
        for name, channels, stride in _blocks(self.num_blocks):
            x = _WideBlock(channels * self.width, stride, self.dropout_rate, name=name)(x, train)
        x = nn.relu(batch_norm(train, "norm0")(x)).mean((1, 2))
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(x), x)


class _WideBlock(nn.Module):
    channels: int
    stride: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x, train):
        y = nn.relu(batch_norm(train, "norm1")(x))
        if (x.shape[-1], self.stride) != (self.channels, 1):
            seen = y[:, :: self.stride, :: self.stride]
            x = conv(self.channels, 1, name="shortcut")(seen)
        y = conv(self.channels, 3, self.stride, name="conv1")(y)
        y = nn.relu(batch_norm(train, "norm2")(y))
        y = nn.Dropout(self.dropout_rate, deterministic=not train)(y)
        return x + conv(self.channels, 3, name="conv2")(y)


def _blocks_per_stage(name: str, depth: int, *, other_layers: int) -> int:
    num_blocks, rest = divmod(depth - other_layers, 6)
    if num_blocks < 1 or rest:
        raise ValueError(f"the depth of {name} is 6n + {other_layers} with n >= 1; got {depth}")
    return num_blocks


def _blocks(num_blocks: int):
    """Yields (name, channels, stride) of the blocks in order."""
    for stage, channels in enumerate((16, 32, 64), start=1):
        for block in range(1, num_blocks + 1):
            yield f"stage{stage}_block{block}", channels, 2 if stage > 1 and block == 1 else 1
