"""Pretrained DenseNets: torchvision's state dicts as parameters of `dense_networks`.

Kernels change their layout from [O, I, h, w] to [h, w, I, O], the classifier's from [C, D] to
[D, C]. Running variances are as PyTorch estimates them.
"""

import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from experiments.networks.dense_networks import densenet161
from experiments.networks.model_boundary import Model
from experiments.networks.torch_files import read_state_dict

# What published weights expect: (inputs / 255 - mean) / standard deviation, channels R, G, B.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STANDARD_DEVIATION = (0.229, 0.224, 0.225)

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load_densenet161(path: str | Path, num_classes: int, key: Array) -> tuple[Any, dict]:
    """Parameters and state of `densenet161(num_classes)`, pretrained on ImageNet.

    The head is ImageNet's classifier for 1000 classes, and otherwise starts afresh from `key`.
    Inputs are to be normalized by `IMAGENET_MEAN` and `IMAGENET_STANDARD_DEVIATION`.

    Args:
      path: torchvision's weights `DenseNet161_Weights.IMAGENET1K_V1`, the published file or one
        saved by `torch.save(model.state_dict(), path)`; it is read without PyTorch.
    Raises:
      FileNotFoundError: there is no such file; the message says where to get it.
      ValueError: the file is not a state dict, or not one of DenseNet-161.
    """
    return load_densenet(path, densenet161(num_classes), key, keep_head=num_classes == 1000)


def load_densenet(
    path: str | Path, model: Model, key: Array, *, keep_head: bool
) -> tuple[Any, dict]:
    """The same for any `model` made by `densenet161`, with the file's head or a fresh one."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there are no weights at {path}: they are torchvision's for densenet161, "
            "IMAGENET1K_V1, a file named densenet161-*.pth; torchvision's page on DenseNet-161 "
            "links to it, and torchvision.models.densenet161(weights='IMAGENET1K_V1') downloads it"
        )
    arrays = {_current_name(name): array for name, array in read_state_dict(path).items()}
    params, model_state = jax.eval_shape(model.init, key, jnp.zeros((1, 64, 64, 3)))
    head = {} if keep_head else {"head": _fresh_head(params.pop("head"), key)}
    unused = ("num_batches_tracked",) if keep_head else ("num_batches_tracked", "classifier.")
    arrays = {n: a for n, a in arrays.items() if not any(part in n for part in unused)}

    expected: dict[Any, Any] = flatten_dict({"params": params, **model_state})
    names = {leaf: _torch_name(leaf) for leaf in expected}
    _check(path, arrays, {name: _torch_shape(expected[leaf].shape) for leaf, name in names.items()})
    leaves = {leaf: _to_jax(arrays[name]) for leaf, name in names.items()}
    variables: Any = unflatten_dict(leaves)
    return variables.pop("params") | head, variables


def _fresh_head(shapes: dict, key: Array) -> Any:
    num_features, num_outputs = shapes["kernel"].shape
    return nn.Dense(num_outputs).init(key, jnp.zeros((1, num_features)))["params"]


def _current_name(name: str) -> str:
    """The published file still has `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`."""
    return re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)


def _torch_name(leaf: tuple[str, ...]) -> str:
    _, *modules, last = leaf  # the first is the collection
    module = "classifier" if modules == ["head"] else ".".join(["features", *modules])
    return f"{module}.{_LEAVES[last]}"


def _to_jax(array: np.ndarray) -> Array:
    axes = (2, 3, 1, 0) if array.ndim == 4 else None
    return jnp.asarray(np.transpose(array, axes), jnp.float32)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in (3, 2, 0, 1)) if len(shape) == 4 else shape[::-1]


def _check(path: str | Path, arrays: dict[str, np.ndarray], shapes: dict[str, tuple]) -> None:
    """Refuses arrays that do not have just these names and shapes."""
    problems = [
        f"{name!r} has shape {arrays[name].shape}, not {shapes[name]}"
        for name in shapes
        if name in arrays and arrays[name].shape != shapes[name]
    ]
    problems += [f"{name!r} is missing" for name in shapes if name not in arrays]
    problems += [f"{name!r} is unexpected" for name in arrays if name not in shapes]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{path} does not fit the network: {'; '.join(problems[:3])}{more}")
