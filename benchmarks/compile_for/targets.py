"""Machines that XLA can compile for without having them, and what their data sheets say.

`tpu:v5e:2x4` is eight v5e chips in a 2 x 4 slice, `gpu:h100` one H100, `gpu:h100:4x8` four hosts of
eight. Numbers are per chip and from the makers' data sheets: memory, its bandwidth, the peak of
dense products, and one direction of the links to other chips.
"""

import importlib.metadata
import importlib.util
import os
from typing import Any, NamedTuple

import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from weighting.training.scale_out import DATA

INSTALL = "pip install -r requirements-compile.txt"


class Chip(NamedTuple):
    """One device."""

    memory_bytes: float
    bandwidth: float  # bytes per second, of its memory
    flops: dict[str, float]  # per second and type of the operands, in dense products
    link: float  # bytes per second to other chips, one direction, all links together


# float32: TPUs multiply it as bfloat16 by default, GPUs as TF32.
CHIPS = {
    "v4": Chip(32 * 2**30, 1228e9, {"float32": 275e12, "bfloat16": 275e12}, 300e9),
    "v5e": Chip(16 * 2**30, 819e9, {"float32": 197e12, "bfloat16": 197e12}, 200e9),
    "v5p": Chip(95 * 2**30, 2765e9, {"float32": 459e12, "bfloat16": 459e12}, 600e9),
    "v6e": Chip(32 * 2**30, 1640e9, {"float32": 918e12, "bfloat16": 918e12}, 448e9),
    "h100": Chip(84_942_979_072, 3.35e12, {"float32": 495e12, "bfloat16": 989e12}, 450e9),
}
SMALLEST = {"v4": "2x2x1", "v5e": "1x1", "v5p": "2x2x1", "v6e": "1x1"}
BETWEEN_HOSTS = 50e9  # bytes per second and GPU: one 400 Gbit/s adapter each
GPUS_PER_HOST = 8

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3350000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Target(NamedTuple):
    """Chips to compile for."""

    name: str
    platform: str  # "tpu" or "cuda"
    chip: Chip
    topology: str

    @property
    def compiler_options(self) -> dict[str, str | bool]:
        """Without a GPU nothing can be timed, so XLA must choose its kernels without."""
        return {"xla_gpu_autotune_level": "0"} if self.platform == "cuda" else {}

    def mesh(self) -> Mesh:
        """All its chips along one axis, `data`."""
        devices = np.array(_describe(self).devices).reshape(-1)
        return Mesh(devices, (DATA,), axis_types=(AxisType.Auto,))

    def link(self, num_devices: int) -> float:
        """Bytes per second at which one chip exchanges with the others."""
        if self.platform == "cuda" and num_devices > GPUS_PER_HOST:
            return BETWEEN_HOSTS
        return self.chip.link


def parse_target(name: str) -> Target:
    """Reads `tpu:CHIP[:SHAPE]` or `gpu:CHIP[:[HOSTSx]GPUS]`; refuses what it does not know."""
    kind, _, rest = name.partition(":")
    chip, _, shape = rest.partition(":")
    kinds = {"tpu": sorted(SMALLEST), "gpu": sorted(set(CHIPS) - set(SMALLEST))}
    if chip not in kinds.get(kind, ()):
        known = ", ".join(f"{kind}:{chip}" for kind, chips in kinds.items() for chip in chips)
        raise ValueError(f"unknown target {name!r}; known: {known}, each with a shape if you like")
    sizes = shape.split("x") if shape else []
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(f"the shape of target {name!r} must be like 2x4, got {shape!r}")
    if kind == "tpu":
        return Target(name, "tpu", CHIPS[chip], f"{chip}:{shape or SMALLEST[chip]}")
    if len(sizes) > 2:
        raise ValueError(f"the shape of target {name!r} must be HOSTSxGPUS, got {shape!r}")
    topology = "x".join(["1"] * (3 - len(sizes)) + sizes)  # slices x hosts x GPUs
    return Target(name, "cuda", CHIPS[chip], topology)


def compilers() -> dict[str, str]:
    """The installed versions of what compiles."""
    found = {}
    for name in ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_installed(target: Target) -> None:
    """Refuses a target whose compiler is not installed."""
    packages = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
    if not any(importlib.util.find_spec(package) for package in packages[target.platform]):
        raise ValueError(
            f"compiling for {target.name} needs {packages[target.platform][0]}, which is not "
            f"installed; try: {INSTALL}"
        )


def _describe(target: Target) -> Any:
    check_installed(target)
    if target.platform == "cuda":
        return topologies.get_topology_desc(
            "compile_for", "cuda", target_config=H100, topology=target.topology
        )
    # libtpu asks the cloud what machine it is on, and waits for an answer, unless told not to.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is held
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=target.topology)
    except Exception as error:  # libtpu's own kinds
        raise ValueError(f"libtpu knows no topology {target.topology!r}: {error}") from error
