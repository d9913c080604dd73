"""Every way of a convolution in a loop on this machine, and the way that the cost model chooses.

Run `python -m benchmarks.convolutions`. Each direction of each layer is computed in the body of a
`scan`, where XLA's own derivatives are slow on CPU; the other ways are timed in turn. The numbers
of the model (`experiments.networks.convolution_on_cpu`) were fitted on the layers called fitted;
the others check it. "chosen / best" is the price of the choice: 1 where the model is right.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

from benchmarks.report import (
    KEPT,
    RUNS,
    check_positive,
    describe_machine,
    run_benchmark,
    write_results,
)
from experiments.networks.convolution import xlas_own
from experiments.networks.convolution_on_cpu import WAYS, Geometry, choose_way
from experiments.tools.host_memory import keep_large_blocks
from experiments.tools.tables import align
from experiments.training.timing import interleave

STEPS = 4  # of a loop
XLA = "XLA's"


class TimedLayer(NamedTuple):
    """A convolution of square images with a square window."""

    name: str
    batch_size: int
    side: int
    channels: tuple[int, int]
    window: int
    stride: int = 1
    padding: int = 0
    is_fitted: bool = True

    @property
    def geometry(self) -> Geometry:
        """As the convolution's rules take it."""
        sides = (self.side, self.side), (self.window, self.window)
        return Geometry(self.stride, self.padding, *sides)


LAYERS = [
    TimedLayer("LeNet-5, first", 100, 28, (1, 6), 5, padding=2),
    TimedLayer("LeNet-5, second", 100, 14, (6, 16), 5),
    TimedLayer("ren2018_net, first", 100, 28, (1, 16), 5, padding=2),
    TimedLayer("ren2018_net, second", 100, 14, (16, 32), 5, padding=2),
    TimedLayer("ren2018_net, third", 100, 7, (32, 64), 5, padding=2, is_fitted=False),
    TimedLayer("ResNet-32, first", 100, 32, (3, 16), 3, padding=1),
    TimedLayer("ResNet-32, 16 channels", 100, 32, (16, 16), 3, padding=1),
    TimedLayer("ResNet-32, 16 to 32", 100, 32, (16, 32), 3, 2, 1, is_fitted=False),
    TimedLayer("ResNet-32, 32 channels", 100, 16, (32, 32), 3, padding=1, is_fitted=False),
    TimedLayer("ResNet-32, 64 channels", 100, 8, (64, 64), 3, padding=1, is_fitted=False),
    TimedLayer("4 to 8 channels", 100, 14, (4, 8), 3, padding=1, is_fitted=False),
    TimedLayer("12 channels", 100, 14, (12, 12), 5, padding=2),
    TimedLayer("one pixel, stride 2", 100, 32, (16, 32), 1, 2),
    TimedLayer("one pixel", 100, 16, (32, 32), 1),
    TimedLayer("WRN-28-10, 160 channels", 10, 32, (160, 160), 3, padding=1, is_fitted=False),
]


def time_layer(layer: TimedLayer, *, rounds: int) -> list[dict[str, Any]]:
    """A record for each direction: milliseconds of every way, and the chosen one."""
    random = np.random.default_rng(0)
    geometry, channels = layer.geometry, layer.channels
    shapes = {
        "images": (layer.batch_size, *geometry.image, channels[0]),
        "kernel": (*geometry.window, *channels),
        "outputs": (layer.batch_size, *geometry.output, channels[1]),
    }
    arrays = {name: random.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    records = []
    for result in shapes:
        left, right = (arrays[name] for name in ("images", "outputs", "kernel") if name != result)
        ways = {XLA: functools.partial(xlas_own, result, geometry=geometry)}
        for name, directions in WAYS.items():
            if name != "product" or layer.window == 1:
                ways[name] = functools.partial(directions[result], geometry=geometry)
        calls = {name: _in_a_loop(way, left, right) for name, way in ways.items()}
        slow = interleave({XLA: calls.pop(XLA)}, rounds=3, warm_up=1)  # seconds, for large layers
        seconds = interleave(calls, rounds=rounds, warm_up=2) | slow
        times = {name: 1e3 * float(np.median(s)) / STEPS for name, s in seconds.items()}
        chosen, best = choose_way(result, geometry, channels), min(times, key=lambda n: times[n])
        records.append(
            {
                "layer": layer.name,
                "fitted": layer.is_fitted,
                "towards": result,
                "ms": times,
                "chosen": chosen,
                "best": best,
                "chosen_to_best": times[chosen] / times[best],
            }
        )
    return records


def _in_a_loop(way: Callable[[Array, Array], Array], left: Any, right: Any) -> Callable[[], Array]:
    """A call of `STEPS` computations, each of which waits for the one before."""

    def step(scale: Array, _: None) -> tuple[Array, Array]:
        result = way(left * scale, right)
        return 1 + 0 * result[(-1,) * result.ndim], result

    compiled = jax.jit(lambda scale: lax.scan(step, scale, None, length=STEPS)[1])
    return functools.partial(compiled, np.float32(1))


def main(
    rounds: int = 15,
    quick: bool = False,
    out: Path = RUNS / "convolutions.json",
    keep: bool = False,
) -> None:
    """Times convolutions in loops, prints the ways beside the chosen one and writes them as JSON.

    Args:
      rounds: how often each way is timed.
      quick: the first layer alone, to see that it runs.
      out: the JSON file.
      keep: write results/convolutions.json, too, which is under version control.
    """
    check_positive("rounds", rounds)
    keep_large_blocks()
    machine = describe_machine()
    print(f"{machine['processor']}, {machine['cpu_count']} cores; jax {machine['packages']['jax']}")
    columns = [XLA, *WAYS]
    rows: list[tuple[str, ...]] = [("layer", "towards", *columns, "chosen", "chosen / best")]
    records = []
    for layer in LAYERS[:1] if quick else LAYERS:
        for record in time_layer(layer, rounds=2 if quick else rounds):
            records.append(record)
            times = (f"{record['ms'][n]:.2f}" if n in record["ms"] else "-" for n in columns)
            name = layer.name if layer.is_fitted else f"{layer.name} (check)"
            price = f"{record['chosen_to_best']:.2f}"
            rows.append((name, record["towards"], *times, record["chosen"], price))
    print("Milliseconds in a loop, medians.\n")
    print(align(rows, numbers=False))
    write_results(
        out,
        {"machine": machine, "rounds": rounds, "records": records},
        KEPT / "convolutions.json" if keep else None,
    )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "convolutions", None))
