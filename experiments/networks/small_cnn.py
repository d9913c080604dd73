"""A small convolutional network that is positively homogeneous in its parameters."""

import flax.linen as nn

from experiments.networks import convolution
from experiments.networks.convolution import Convolution, Convolve
from experiments.networks.model_boundary import Model, check_images, model_from_module
from experiments.networks.pooling import max_pool
from weighting import ModelOutput

CHANNELS = (16, 32, 64, 128)


def small_cnn(num_outputs: int, *, convolve: Convolve = convolution.convolve) -> Model:
    r"""Up to four stages of 3x3 convolution, ReLU and 2x2 max-pooling; average; bias-free head.

    The stages have 16, 32, 64 and 128 channels; there are as many as leave the smaller image side
    at 4 pixels or more, odd sides rounded up: three for 28x28 and 32x32, four from 64x64. The
    average is over all pixels. There are no biases and no normalization, so with L
    stages the logits f are homogeneous of order L + 1 in the parameters,

    .. math:: f(c\,\theta, x) = c^{L + 1} f(\theta, x) \quad\text{for } c \ge 0,

    as normalized margins and their limits need. Convolutions start He normal (fan-in, variance
    2 / (9 C)), the head LeCun normal.
    """
    return model_from_module(_SmallCNN(num_outputs, convolve), "small_cnn", has_convolutions=True)


class _SmallCNN(nn.Module):
    num_outputs: int
    convolve: Convolve

    @nn.compact
    def __call__(self, inputs, train):
        check_images("small_cnn", inputs, min_size=7)  # one stage or more
        x = inputs
        for i, channels in enumerate(CHANNELS):
            if min(x.shape[1:3]) < 7:  # half of it, rounded up, is below 4
                break
            x = Convolution(
                channels,
                (3, 3),
                padding=1,
                use_bias=False,
                kernel_init=nn.initializers.he_normal(),
                convolve=self.convolve,
                name=f"Conv_{i}",
            )(x)
            x = nn.relu(max_pool(x, 2, "SAME"))  # the same as pooling after ReLU, and cheaper
        x = x.mean((1, 2))
        return ModelOutput(nn.Dense(self.num_outputs, use_bias=False, name="head")(x), x)
