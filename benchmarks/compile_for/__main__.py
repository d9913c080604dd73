"""Compiles train steps for machines that are not here: will they fit, what will they cost?

After `pip install -r requirements-compile.txt`, for instance

    python -m benchmarks.compile_for tpu:v5e:2x4 gpu:h100 --network wrn28_10 --dtype bfloat16

XLA compiles the step that `parallel_step` runs for the devices named, without having one. All but
the estimate is read from the compiled program.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import jax
import tyro

from benchmarks.compile_for.program import Workload, network_named
from benchmarks.compile_for.rows import compile_row, key_of, read_rows, table_of
from benchmarks.compile_for.targets import check_installed, compilers, parse_target
from benchmarks.report import KEPT, RUNS, check_positive, run_benchmark, write_results
from experiments.methods.specifications import parse_scheme
from experiments.tools.files import write_json
from experiments.tools.progress import follow

NETWORKS = ("resnet32", "wrn28_10", "transformer")
WEIGHTINGS = (
    *("uniform", "low:0.1", "lookahead", "lookahead:select=head", "lookahead:refresh_every=5"),
    *("meta_weight_net", "group_dro", "focal"),
)
TARGETS = ("gpu:h100", "gpu:h100:4x8", "tpu:v5e:2x4", "tpu:v5e:16x16")
Dtype = Literal["float32", "bfloat16"]


def main(
    targets: Annotated[tuple[str, ...], tyro.conf.Positional] = TARGETS,
    network: tuple[str, ...] = NETWORKS,
    weighting: tuple[str, ...] = WEIGHTINGS,
    dtype: tuple[Dtype, ...] = get_args(Dtype),
    batch_size: int = 128,
    clean_size: int = 16,
    split: bool = False,
    out: Path = RUNS / "compile" / "steps.json",
    again: bool = False,
    keep: bool = False,
) -> None:
    """Prints a table and writes it as JSON; interrupted, it goes on where it was.

    Args:
      targets: `tpu:v5e:2x4` is eight v5e chips, `gpu:h100:4x8` four hosts of eight H100.
      network: `transformer` (small, 128 tokens), or one of the laboratory's or your own.
      weighting: as on the laboratory's command line.
      dtype: of the forward and backward passes; parameters and weights are float32.
      batch_size: examples per device.
      clean_size: clean examples per device, for weightings that read them.
      split: leave sorts and projections of the batch split over the devices, for comparison.
      out: the JSON file; rows that it has already, by the same compilers, are not compiled again,
        and stay in it.
      again: compile them all.
      keep: write the file of that name in results/compile, too, which is under version control.
    """
    jax.config.update("jax_platforms", "cpu")
    check_positive("batch_size", batch_size)
    check_positive("clean_size", clean_size)
    check(targets, network, weighting)
    workloads = [
        Workload(name, scheme, batch_size, clean_size, own, split)
        for name, own, scheme in itertools.product(network, dtype, weighting)
    ]
    known = {} if again else read_rows(out)
    rows = []
    jobs = [
        (target, *workload[:2], workload.dtype, workload)
        for workload, target in itertools.product(workloads, targets)
    ]
    for target, *_, workload in follow(jobs, "compiling", "program"):
        key = key_of({"target": target, **workload._asdict()})
        known[key] = known.get(key) or compile_row(workload, target)
        rows.append(known[key])
        write_json(out, {"compilers": compilers(), "rows": list(known.values())})
    print(table_of(rows))
    kept = KEPT / "compile" / out.name if keep else None
    write_results(out, {"compilers": compilers(), "rows": list(known.values())}, kept)


def check(targets: Sequence[str], networks: Sequence[str], weightings: Sequence[str]) -> None:
    """Refuses what is unknown, and targets whose compiler is not installed, before any work."""
    for name in networks:
        network_named(name)
    for text in weightings:
        parse_scheme(text)
    for name in targets:
        check_installed(parse_target(name))


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "compile_for", __doc__))
