"""The boundary between networks and everything else: two pure functions, `Model`.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting import ModelOutput


class Model(NamedTuple):
    """A network as two pure functions.

    `model_state` holds what is neither parameter nor input: `{}`, or `{"batch_stats": ...}` with
    batch norm. With `train` (a Python bool) batch norm uses the statistics of the batch and moves
    the running ones; without, it uses the running ones and `model_state` returns unchanged. Inputs
    are uint8, read as inputs / 255, or floats, read as they are. `key` is for dropout alone.
    """

    # (key, example_inputs [B, ...]) -> (params, model_state)
    init: Callable[..., tuple[Any, dict]]
    # (params, model_state, inputs [B, ...], *, train, key=None) -> (ModelOutput, model_state)
    apply: Callable[..., tuple[ModelOutput, dict]]
    name: str
    num_outputs: int
    has_convolutions: bool  # vmapped over runs they are slow on CPU: the driver avoids that


def model_from_module(module: Any, name: str, *, has_convolutions: bool) -> Model:
    """Puts a linen module, called as `module(inputs, train)`, behind the boundary."""
    if module.num_outputs < 1:
        raise ValueError(f"{name} needs `num_outputs` of at least 1; got {module.num_outputs}")

    @jax.jit  # compiled, the unused forward pass falls away
    def init(key, example_inputs):
        variables = dict(module.init(key, to_float(example_inputs), train=False))
        return variables.pop("params"), variables

    def apply(params, model_state, inputs, *, train, key=None):
        output, updates = module.apply(
            {"params": params, **model_state},
            to_float(inputs),
            train=train,
            mutable=list(model_state) if train else [],
            rngs=None if key is None else {"dropout": key},
        )
        return output, {**model_state, **updates}

    return Model(init, apply, name, module.num_outputs, has_convolutions)


def to_float(inputs: Array) -> Array:
    """Bytes become float32 in [0, 1]; floats pass unchanged."""
    if inputs.dtype == jnp.uint8:
        return inputs.astype(jnp.float32) / 255
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(f"model inputs are uint8 or floats; got {inputs.dtype}")
    return inputs


def check_images(name: str, inputs: Array, *, min_size: int) -> None:
    """Refuses inputs that are not images [B, H, W, C] with sides of at least `min_size`."""
    if inputs.ndim != 4 or min(inputs.shape[1:3]) < min_size:
        raise ValueError(
            f"{name} reads images of shape [B, H, W, C] with H, W >= {min_size}; got {inputs.shape}"
        )
