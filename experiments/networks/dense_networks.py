r"""Densely connected networks (DenseNet-BC): each layer reads the outputs of all before it.

With h(x) = relu(norm(x)), a layer appends g channels (the growth) to its input x,

.. math:: x \mapsto [x,\ \mathrm{conv}_{3 \times 3}(h(\mathrm{conv}_{1 \times 1}(h(x))))],

with 4 g channels in between. Between two blocks of such layers a transition halves channels and
sides: a 1x1 convolution of h(x), then 2x2 average-pooling. A last h and the average over all pixels
give the features.

Batch norm has momentum 0.9 (kept part) and epsilon 1e-5. Convolutions have no bias and start He
normal with fan-out, variance 2 / (kh kw O), as in the authors' code; the head starts LeCun normal
with bias zero. Parameters are named as in torchvision, whose weights
`experiments.networks.torchvision_weights` reads.

References:
  Huang et al., "Densely connected convolutional networks", CVPR 2017, arXiv:1608.06993.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from experiments.networks.layers import batch_norm, conv
from experiments.networks.model_boundary import Model, check_images, model_from_module
from experiments.networks.pooling import max_pool
from weighting import ModelOutput


def densenet_bc(
    num_outputs: int, *, growth: int = 12, blocks: Sequence[int] = (16, 16, 16)
) -> Model:
    """DenseNet-BC for small images: a 3x3 convolution to 2 g channels, then dense blocks.

    `blocks` are the numbers of layers: (L - 4) / 6 in each of three for the paper's depth L. The
    default has L = 100 and g = 12: 769,162 parameters for CIFAR-10. No dropout.
    """
    module = _DenseNet(num_outputs, growth, tuple(blocks), large_images=False)
    return model_from_module(module, "densenet_bc", has_convolutions=True)


def densenet161(
    num_outputs: int, *, growth: int = 48, blocks: Sequence[int] = (6, 12, 36, 24)
) -> Model:
    """DenseNet-BC for large images; 28,681,000 parameters for the 1000 classes of ImageNet.

    It starts with a 7x7 convolution to 2 g channels and 3x3 max-pooling, both of stride 2. For the
    weights that torchvision publishes, inputs are to be normalized as they were in its training.
    """
    module = _DenseNet(num_outputs, growth, tuple(blocks), large_images=True)
    return model_from_module(module, "densenet161", has_convolutions=True)


class _DenseNet(nn.Module):
    num_outputs: int
    growth: int
    blocks: tuple[int, ...]
    large_images: bool

    @nn.compact
    def __call__(self, inputs, train):
        halvings = len(self.blocks) - 1 + 2 * self.large_images
        check_images("densenet", inputs, min_size=2**halvings)
        stem = self._large_stem if self.large_images else self._small_stem
        x = stem(inputs, train)
        for i, num_layers in enumerate(self.blocks, start=1):
            x = _DenseBlock(self.growth, num_layers, name=f"denseblock{i}")(x, train)
            if i < len(self.blocks):
                x = _Transition(name=f"transition{i}")(x, train)
        x = nn.relu(batch_norm(train, "norm5")(x)).mean((1, 2))
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(x), x)

    def _small_stem(self, inputs, train):
        return conv(2 * self.growth, 3, name="conv0")(inputs)

    def _large_stem(self, inputs, train):
        x = conv(2 * self.growth, 7, 2, name="conv0")(inputs)
        x = nn.relu(batch_norm(train, "norm0")(x))
        return max_pool(x, 3, padding=[(1, 1), (1, 1)])


class _DenseBlock(nn.Module):
    growth: int
    num_layers: int

    @nn.compact
    def __call__(self, x, train):
        for i in range(1, self.num_layers + 1):
            new = _DenseLayer(self.growth, name=f"denselayer{i}")(x, train)
            x = jnp.concatenate([x, new], axis=-1)
        return x


class _DenseLayer(nn.Module):
    growth: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(batch_norm(train, "norm1")(x))
        x = conv(4 * self.growth, 1, name="conv1")(x)
        x = nn.relu(batch_norm(train, "norm2")(x))
        return conv(self.growth, 3, name="conv2")(x)


class _Transition(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(batch_norm(train, "norm")(x))
        x = conv(x.shape[-1] // 2, 1, name="conv")(x)
        return nn.avg_pool(x, (2, 2), strides=(2, 2))
