"""Reads the arrays in a file written by `torch.save`, without PyTorch and without running code.

Such a file holds a pickle, whose tensors refer to raw storages beside it: in a zip archive since
PyTorch 1.6, before that in one stream. A pickle can call any function. The one here may name
nothing but ordered dicts, tensors and storages of numbers, and builds them from inert tuples; what
the tuples ask for is checked against the bytes that are there.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2")  # until 0.3, and since
_STREAM_HEADER = (0x1950A86A20F9469CFC6C, 1001)  # a magic number and the version of the format
_MALFORMED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict, by name.

    Args:
      path: a file that `torch.save(module.state_dict(), path)` wrote, in either format.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is none of these, or its pickle names anything that a state dict of
        numbers does not need; nothing of it was run.
    """
    with open(path, "rb") as file:
        try:
            is_archive = file.read(2) == b"PK"
            file.seek(0)
            return _read_archive(file) if is_archive else _read_stream(file)
        except _MALFORMED as error:
            raise ValueError(f"{path} is not a state dict saved by PyTorch: {error}") from error


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module_name == "torch._utils" and global_name in _REBUILD:
            return lambda *arguments: _Tensor(*arguments[:4])
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        raise pickle.UnpicklingError(f"its pickle names {module_name}.{global_name}, refused")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            # Streams add a view of the storage, None ever since tensors have offsets.
            case ("storage", str(dtype), str(key), _, int(size), *view) if view in ([], [None]):
                return _Storage(key, dtype, size)
        raise pickle.UnpicklingError(f"unknown reference {pid!r}")


def _load(file: IO[bytes]) -> Any:
    return _Unpickler(file, encoding="utf-8").load()  # Python 2 wrote some of the older files


def _read_archive(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        folder = names[0].partition("/")[0]
        order = f"{folder}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        with archive.open(f"{folder}/data.pkl") as data:
            tensors = _tensors(_load(data))
        keys = {tensor.storage.key for tensor in tensors.values()}
        return _arrays(tensors, {key: archive.read(f"{folder}/data/{key}") for key in keys})


def _read_stream(file: IO[bytes]) -> dict[str, np.ndarray]:
    if (_load(file), _load(file)) != _STREAM_HEADER:
        raise ValueError("it does not start as one")
    if not _load(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    tensors = _tensors(_load(file))
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {}
    for key in _load(file):
        size = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(size * np.dtype(dtypes[key]).itemsize)
    return _arrays(tensors, storages)


def _tensors(state_dict: Any) -> dict[str, _Tensor]:
    if not isinstance(state_dict, dict):
        raise TypeError(f"it holds a {type(state_dict).__name__}, not a dict of tensors")
    for name, tensor in state_dict.items():
        if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
            raise TypeError(f"its entry {name!r} is not a tensor")
    return dict(state_dict)


def _arrays(tensors: Mapping[str, _Tensor], storages: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    return {name: _array(name, tensor, storages) for name, tensor in tensors.items()}


def _array(name: str, tensor: _Tensor, storages: Mapping[str, bytes]) -> np.ndarray:
    (key, dtype, size), offset, shape, strides = tensor
    numbers = np.frombuffer(storages[key], dtype)
    if numbers.size != size:
        raise ValueError(f"storage {key!r} should hold {size} numbers but holds {numbers.size}")
    steps = list(zip(shape, strides, strict=True))
    last = offset + sum((n - 1) * step for n, step in steps)
    if min(offset, *shape, *strides, 0) < 0 or (math.prod(shape) > 0 and last >= size):
        raise ValueError(f"{name!r} reaches outside of its storage of {size} numbers")
    if math.prod(shape) > size:
        raise ValueError(f"{name!r} repeats the numbers of its storage")
    itemsize = numbers.itemsize
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [step * itemsize for step in strides]
    )
    return view.copy()
