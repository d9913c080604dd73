"""Layers that residual and dense networks share."""

import flax.linen as nn

from experiments.networks.convolution import Convolution

# He et al., "Delving deep into rectifiers", ICCV 2015: variance 2 / (kh kw O).
_he_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(channels: int, size: int, stride: int = 1, *, name: str) -> nn.Module:
    """A `size` x `size` convolution without bias that divides the sides by `stride`, rounding up.

    `size` is odd, with size // 2 zeros on each side. The kernel starts He normal with fan-out.
    """
    return Convolution(
        channels,
        (size, size),
        padding=size // 2,
        stride=stride,
        use_bias=False,
        kernel_init=_he_normal_fan_out,
        name=name,
    )


def batch_norm(train: bool, name: str) -> nn.BatchNorm:
    """Batch norm of epsilon 1e-5; its running statistics keep 0.9 of their values in a step."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
