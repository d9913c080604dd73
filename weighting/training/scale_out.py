"""Any train step on several devices: every batch is split over them, the state is on each.

The step itself does not change. It is compiled for arrays that are *global*: sharded over devices,
and over hosts, but of one shape for the program, whose communication the compiler inserts. So
batch-level operations (LOW's projection, normalizers, ranks, clean gradients, batch norm) see the
whole batch, and N devices compute what one does, to rounding. docs/scale_out.md shows the way from
one device to many hosts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from weighting._types import PyTree
from weighting.train_step import Batch

DATA = "data"  # the mesh's one axis


def data_mesh(num_devices: int | None = None) -> Mesh:
    """The devices that share every batch, as a mesh with one axis, `data`.

    Args:
      num_devices: how many; by default all, those of the other hosts included.

    Raises:
      ValueError: if there are not as many.
    """
    devices = jax.devices()
    count = len(devices) if num_devices is None else num_devices
    if count < 1:
        raise ValueError(f"the number of devices must be at least 1, got {count}")
    if count > len(devices):
        raise ValueError(
            f"{count} devices were asked for, but JAX finds {len(devices)} "
            f"({jax.default_backend()}). On CPU they can be simulated: set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count} before the start"
        )
    return jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,), devices=devices[:count])


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Puts a whole copy of every array on every device, for instance of a `TrainState`.

    The copies share no memory with each other or with the originals, so they may be donated. With
    several hosts each passes the same values, which is checked.
    """

    def put(leaf: Any) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(np.array(leaf), _whole(mesh))
        data = put(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

    return jax.tree.map(put, tree)


def shard_batch(mesh: Mesh, batch: Batch) -> Batch:
    """Splits every array of a batch, and of its clean batch, along the first axis.

    With several hosts each passes its own part, and the result is the batch of them all, in the
    hosts' order; all parts are equally large.

    Raises:
      ValueError: if a size is not a multiple of the number of devices (of this host).
    """
    _check_sizes(batch, len(mesh.local_devices))
    put = functools.partial(jax.make_array_from_process_local_data, _split(mesh))
    return jax.tree.map(put, batch)


def pad_batch(batch: Batch, size: int) -> Batch:
    """Repeats the last example until there are `size`, and masks the repetitions.

    Padding has weight zero and changes no result, with one exception: batch norm's statistics,
    which a mask does not reach. The clean batch stays as it is; pad it by itself.

    Args:
      batch: at most `size` examples. The result always has a mask, so that the full batches of an
        epoch and its last one share one compiled step.
      size: a multiple of the number of devices.
    """
    clean, examples = batch.clean, batch._replace(clean=None)
    count = len(batch.labels)
    if count > size:
        raise ValueError(f"a batch of {count} examples cannot be padded to {size}")
    if batch.mask is None:
        examples = examples._replace(mask=np.ones(count, np.float32))
    rows = np.minimum(np.arange(size), count - 1)
    padded = jax.tree.map(lambda leaf: leaf[rows], examples)
    kept = (np.arange(size) < count).astype(padded.mask.dtype)
    return padded._replace(mask=padded.mask * kept, clean=clean)


def parallel_step(
    train_step: Callable[[Any, Batch], tuple[Any, Any]], mesh: Mesh, *, donate: bool = False
) -> Callable[[Any, Batch], tuple[Any, Any]]:
    """Compiles a train step so that the mesh's devices share every batch.

    Args:
      train_step: what `make_train_step` returns, or any (state, batch) -> (state, metrics).
      mesh: see `data_mesh`.
      donate: whether the old state's memory is used for the new one; the old one is gone then.

    Returns:
      The same function, jitted. It takes a state from `replicate` and a batch from `shard_batch`
      (with one host, arrays that were not placed are placed); what it returns is whole on every
      device, so that any host can read it. It may be called inside `jit`, `scan` and `vmap`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from weighting import Batch, init_train_state, losses, low, make_train_step, without_state
      >>> mesh, scheme, optimizer = data_mesh(), low(0.1), optax.sgd(0.1)
      >>> apply_fn = without_state(lambda params, inputs: inputs @ params)
      >>> step = make_train_step(apply_fn, losses.logistic, scheme, optimizer)
      >>> state = init_train_state(jax.random.key(0), jnp.zeros(3), scheme, optimizer)
      >>> batch = Batch(jnp.ones((8, 3)), jnp.ones(8, int))
      >>> step, state = parallel_step(step, mesh), replicate(mesh, state)
      >>> state, metrics = step(state, shard_batch(mesh, batch))
      >>> metrics.weights.sum()
      Array(8., dtype=float32)
    """
    whole = _whole(mesh)

    def under_mesh(state: Any, batch: Batch) -> tuple[Any, Any]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # see `on_whole_batch`
            return train_step(state, batch)

    compiled = jax.jit(
        under_mesh,
        in_shardings=(whole, _split(mesh)),
        out_shardings=whole,
        donate_argnums=0 if donate else None,
    )

    def step(state: Any, batch: Batch) -> tuple[Any, Any]:
        _check_sizes(batch, mesh.size)
        return compiled(state, batch)

    return step


def _whole(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def _split(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(DATA))


def _check_sizes(batch: Batch, num_devices: int) -> None:
    for name, examples in (("batch", batch), ("clean batch", batch.clean)):
        if examples is None:
            continue
        size = len(examples.labels)
        if size % num_devices:
            multiple = -(-size // num_devices) * num_devices
            raise ValueError(
                f"a {name} of {size} examples cannot be split equally over {num_devices} devices; "
                f"take a multiple of {num_devices}, or pad it to {multiple} and mask the padding "
                "in `Batch.mask` (`pad_batch` does)"
            )
