"""What a train step costs per device as devices are added: operations, and bytes they exchange.

Run `python -m benchmarks.scaling`. Nothing is timed: the numbers are read from the
programs that XLA compiles for 1, 2, 4 and 8 simulated devices, which share a batch of 256 on
LeNet-5 with XLA's convolutions, as GPUs have them (with products over blocks, as on CPU, the
gradients of the larger matrices would be exchanged). A collective counts with the bytes of its
result on one device; a ring sends up to twice as many. Other backends fuse collectives differently,
but must move the same sums.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import weighting
from benchmarks.compile_for.hlo import Collective, collectives
from benchmarks.report import KEPT, RUNS, run_benchmark, write_results
from experiments.networks.convolution import convolve_plainly
from experiments.networks.models import lenet5
from experiments.tools.tables import align
from weighting import Batch, Weighting, losses
from weighting.training.scale_out import data_mesh, parallel_step, replicate, shard_batch

NUM_DEVICES = (1, 2, 4, 8)
BATCH_SIZE, NUM_CLEAN = 256, 32
IMAGE_SHAPE = (28, 28, 1)
SCHEMES: dict[str, tuple[Callable[[], Weighting], int]] = {
    "uniform": (weighting.uniform, 0),
    "low:0.1": (lambda: weighting.low(0.1), 0),
    f"lookahead, {NUM_CLEAN} clean": (weighting.lookahead, NUM_CLEAN),
}


class DeviceCost(NamedTuple):
    """What one step costs each device."""

    flops: float
    collectives: list[Collective]
    param_bytes: int  # of the network

    @property
    def num_bytes(self) -> int:
        """Bytes of all collectives."""
        return sum(collective.num_bytes for collective in self.collectives)


def cost_of_step(scheme: Weighting, num_clean: int, num_devices: int) -> DeviceCost:
    """Compiles a step on LeNet-5 for that many devices and reads its cost."""

    def zeros(size: int, clean: Batch | None = None) -> Batch:
        return Batch(jnp.zeros((size, *IMAGE_SHAPE)), jnp.zeros(size, jnp.int32), clean=clean)

    model, optimizer, mesh = (
        lenet5(10, convolve=convolve_plainly),
        optax.sgd(0.1, momentum=0.9),
        data_mesh(num_devices),
    )
    batch = zeros(BATCH_SIZE, zeros(num_clean) if num_clean else None)
    params, _ = model.init(jax.random.key(0), batch.inputs[:1])
    state = weighting.init_train_state(jax.random.key(1), params, scheme, optimizer)
    step = weighting.make_train_step(model.apply, losses.cross_entropy, scheme, optimizer)
    step = jax.jit(parallel_step(step, mesh))
    compiled = step.lower(replicate(mesh, state), shard_batch(mesh, batch)).compile()
    analysis: Any = compiled.cost_analysis()
    exchanged = collectives(compiled.as_text() or "")
    param_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return DeviceCost(float(analysis["flops"]), exchanged, param_bytes)


def main(out: Path = RUNS / "scaling.json", keep: bool = False) -> None:
    """Prints the table and writes it as JSON.

    Args:
      out: the JSON file.
      keep: write results/scaling.json, too, which is under version control.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(NUM_DEVICES))
    header = ["scheme", "devices", "MFLOP each", "of one", "collectives", "kB each"]
    table = [[*header, "of the parameters"]]
    records = []
    for name, (factory, num_clean) in SCHEMES.items():
        alone = 0.0
        for num_devices in NUM_DEVICES:
            cost = cost_of_step(factory(), num_clean, num_devices)
            alone = alone or cost.flops
            cells = [f"{cost.flops / 1e6:.1f}", f"{cost.flops / alone:.3f}"]
            cells += [str(len(cost.collectives)), f"{cost.num_bytes / 1e3:.1f}"]
            cells.append(f"{cost.num_bytes / cost.param_bytes:.3f}")
            table.append([name, str(num_devices), *cells])
            records.append(
                {
                    "scheme": name,
                    "devices": num_devices,
                    "flops": cost.flops,
                    "num_bytes": cost.num_bytes,
                    "param_bytes": cost.param_bytes,
                    "collectives": [collective._asdict() for collective in cost.collectives],
                }
            )
    print(align(table))
    settings = {"model": "lenet5", "batch_size": BATCH_SIZE, "jax": jax.__version__}
    write_results(out, {**settings, "steps": records}, KEPT / "scaling.json" if keep else None)


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "scaling", __doc__))
