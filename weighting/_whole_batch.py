"""Arithmetic on one number per example, done by every device on the whole batch.

A sort, or a chain of sums each of which needs the one before, costs messages between devices at
every link when its vectors are split over them. A batch has few numbers: gathering them once, and
then computing the same on every device, costs one message, and the result lies everywhere.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AxisType, PartitionSpec

P = ParamSpec("P")
R = TypeVar("R")


def on_whole_batch(function: Callable[P, R]) -> Callable[P, R]:
    """The same function of vectors [B] and scalars, computed whole on each device of a mesh.

    The mesh is the one that the caller is traced under: `parallel_step` sets it, and so does
    `jax.set_mesh`. Without one, inside `jax.shard_map`, or with axes that are not automatic,
    nothing changes. What is traced must be an argument, not captured; arguments may be pytrees, and
    whatever is not an array stays as it is.
    """

    @functools.wraps(function)
    def on_each_device(*args: P.args, **kwargs: P.kwargs) -> Any:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or any(kind != AxisType.Auto for kind in mesh.axis_types):
            return function(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}

        def with_arrays(arrays: dict[int, jax.Array]) -> Any:
            merged = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
            own: Any = function
            args, kwargs = jax.tree.unflatten(structure, merged)
            return own(*args, **kwargs)

        whole = PartitionSpec()
        return jax.shard_map(with_arrays, in_specs=whole, out_specs=whole)(arrays)

    return on_each_device
