"""Step times on this machine: each weighting scheme beside plain ERM, in turn, on the same batch.

Run `python -m benchmarks.step_time`. Candidates are called once per round in a rotating order,
and a ratio is the median over rounds of the ratio within a round, so that a slow spell of the
machine touches both sides. Steps are compiled ahead of time and keep their inputs (no donation), so
every call repeats the same work.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import weighting
from benchmarks.report import (
    KEPT,
    RUNS,
    check_positive,
    describe_machine,
    run_benchmark,
    write_results,
)
from experiments.networks.convolution import convolve_plainly
from experiments.networks.models import Model, cifar_resnet, lenet5, ren2018_net
from experiments.tools.host_memory import keep_large_blocks
from experiments.tools.tables import align
from experiments.training.timing import (
    Candidate,
    StepTable,
    compile_candidate,
    interleave,
    paired_ratio,
)
from weighting import losses

HAND_WRITTEN = "value_and_grad"
UNIFORM = "uniform"
IN_SCAN = "uniform, in a scan"
PLAIN = "uniform, XLA's convolutions"
CLEAN_SIZES = (10, 32, 100)
PEER = "PyTorch: "
# Targets: how much longer PyTorch's steps take than ours, by the network's name in the table.
LEAST_OF_PLAIN = 1.0
LEAST_OF_LOOKAHEAD = {"LeNet-5": 2.0, "ren2018_net": 1.6}  # with 10 clean examples
HAS_JAXOPT = importlib.util.find_spec("jaxopt") is not None
_KNOWN_OF_A_STEP = (
    *("max_ratio", "min_ratio"),  # targets
    *("flops", "flop_ratio", "max_flop_ratio", "temp_bytes", "num_clean"),
)


def tables() -> list[StepTable]:
    """LOW's network at its batch size, lookahead's, and a ResNet, which has batch norm."""
    return [
        StepTable(
            "LeNet-5, batch 256",
            lenet5(10),
            losses.cross_entropy,
            optax.sgd(0.1, momentum=0.9),
            256,
            _candidates(256, lenet5(10, convolve=convolve_plainly)),
        ),
        StepTable(
            "ren2018_net, batch 100",
            ren2018_net(),
            losses.logistic,
            optax.sgd(1e-3),
            100,
            _candidates(100, ren2018_net(convolve=convolve_plainly)),
        ),
        StepTable(
            "ResNet-32, batch 100",
            cifar_resnet(10),
            losses.cross_entropy,
            optax.sgd(0.1, momentum=0.9),
            100,
            {
                HAND_WRITTEN: Candidate(None),
                UNIFORM: Candidate(weighting.uniform(), max_flop_ratio=1.001),
                IN_SCAN: Candidate(weighting.uniform(), num_steps=2, in_scan=True, max_ratio=1.0),
                "low:0.1": Candidate(weighting.low(0.1), max_ratio=1.03),
                "lookahead, 10 clean": Candidate(weighting.lookahead(), 10),
            },
            image_shape=(32, 32, 3),
        ),
    ]


def _candidates(batch_size: int, plain_model: Model) -> dict[str, Candidate]:
    lookahead = weighting.lookahead
    unrolled = weighting.lookahead_unrolled(optax.sgd(1e-3))
    head = lookahead(select=lambda path: "head" in jax.tree_util.keystr(path))
    by_layers = {
        f"lookahead by layers, {size} clean": Candidate(
            lookahead(), size, layerwise=True, max_ratio=1.1 * lookahead_floor(size, batch_size)
        )
        for size in CLEAN_SIZES
    }
    by_osqp = {"low:0.1, osqp": Candidate(weighting.low(0.1, solver="osqp"))} if HAS_JAXOPT else {}
    return {
        HAND_WRITTEN: Candidate(None),
        UNIFORM: Candidate(weighting.uniform(), max_flop_ratio=1.001),
        IN_SCAN: Candidate(weighting.uniform(), num_steps=5, in_scan=True, max_ratio=1.0),
        PLAIN: Candidate(weighting.uniform(), model=plain_model),
        "low:0.1": Candidate(weighting.low(0.1), max_ratio=1.03),
        **by_osqp,
        "low:0.1, all parameters by layers": Candidate(
            weighting.low(0.1, gradient="parameters"), layerwise=True
        ),
        **{f"lookahead, {size} clean": Candidate(lookahead(), size) for size in CLEAN_SIZES},
        **by_layers,
        "unrolled, 10 clean": Candidate(unrolled, 10),
        "last layer, 10 clean": Candidate(head, 10, max_ratio=1.15),
        "kept for 5 steps, 10 clean": Candidate(lookahead(refresh_every=5), 10, num_steps=5),
    }


def lookahead_floor(num_clean: int, batch_size: int) -> float:
    """Products of a lookahead step over those of a plain one, (4 + 3 m / n) / 3.

    A plain step is three passes (forward, signals, gradient); lookahead adds one with the clean
    gradient as direction, and the clean gradient itself.
    """
    return (4 + 3 * num_clean / batch_size) / 3


def time_steps(table: StepTable, *, rounds: int, warm_up: int = 3) -> list[dict]:
    """Times a table's candidates; one record each, ratios to `uniform` (its own: to hand-written).

    Times are per step. The table must have the candidates `value_and_grad` and `uniform`.
    """
    compiled = {name: compile_candidate(table, c) for name, c in table.candidates.items()}
    peers = peer_steps(table)
    calls = {name: one.call for name, one in compiled.items()}
    seconds = interleave(calls | peers, rounds=rounds, warm_up=warm_up)
    steps = {name: candidate.num_steps for name, candidate in table.candidates.items()}
    per_step = {
        name: [time / steps.get(name, 1) for time in times] for name, times in seconds.items()
    }
    records = []
    for name, candidate in table.candidates.items():
        reference = HAND_WRITTEN if name in (HAND_WRITTEN, UNIFORM) else UNIFORM
        costs = {
            "max_ratio": candidate.max_ratio,
            "flops": compiled[name].flops,
            "flop_ratio": compiled[name].flops / compiled[reference].flops,
            "max_flop_ratio": candidate.max_flop_ratio,
            "temp_bytes": compiled[name].temp_bytes,
            "num_clean": candidate.num_clean,
        }
        records.append(_record(name, reference, per_step, costs))
    for name in peers:
        best = _fastest_like(name.removeprefix(PEER), per_step)
        least = _least(name.removeprefix(PEER), table.title.partition(",")[0])
        records.append(_record(name, best, per_step, {"min_ratio": least}))
    return records


def _least(name: str, network: str) -> float | None:
    """How much longer PyTorch's step should take than ours."""
    if "lookahead" not in name:
        return LEAST_OF_PLAIN
    return LEAST_OF_LOOKAHEAD.get(network) if name == "lookahead, 10 clean" else None


def _record(name: str, reference: str, per_step: dict[str, list[float]], known: dict) -> dict:
    """A record of a step's times, with what else is known of it; None for what is not."""
    ratio, low, high = paired_ratio(per_step[name], per_step[reference])
    record = {
        "name": name,
        "reference": reference,
        "median_ms": 1e3 * float(np.median(per_step[name])),
        "ratio": ratio,
        "ratio_quartiles": [low, high],
    }
    return record | {key: known.get(key) for key in _KNOWN_OF_A_STEP}


def peer_steps(table: StepTable) -> dict[str, Callable[[], Any]]:
    """PyTorch's steps for a table, if PyTorch is installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from benchmarks.pytorch_peers import peers

    steps = peers(table.title, table.batch_size, CLEAN_SIZES)
    return {PEER + name: step for name, step in steps.items() if name in table.candidates}


def _fastest_like(name: str, seconds: dict[str, list[float]]) -> str:
    """Of our exact steps that do what `name` does, the one with the least median."""
    like = {name, name.replace("lookahead,", "lookahead by layers,")} & seconds.keys()
    return min(like, key=lambda one: float(np.median(seconds[one])))


def format_records(records: list[dict]) -> str:
    """An aligned text table."""
    header: tuple[str, ...] = (
        "step",
        "ms",
        "ratio",
        "quartiles",
        "to",
        "MFLOP",
        "FLOP ratio",
        "temp MiB",
        "target",
    )
    rows: list[tuple[str, ...]] = [header]
    for record in records:
        low, high = record["ratio_quartiles"]
        temp = record["temp_bytes"]
        rows.append(
            (
                record["name"],
                f"{record['median_ms']:.2f}",
                f"{record['ratio']:.2f}",
                f"{low:.2f}-{high:.2f}",
                record["reference"],
                "-" if record["flops"] is None else f"{record['flops'] / 1e6:.1f}",
                "-" if record["flops"] is None else f"{record['flop_ratio']:.4f}",
                "-" if temp is None else f"{temp / 2**20:.1f}",
                _target(record),
            )
        )
    return align(rows, numbers=False)


def main(
    rounds: int = 30, quick: bool = False, out: Path = RUNS / "step_time.json", keep: bool = False
) -> None:
    """Times train steps, prints ratios beside their targets and writes everything as JSON.

    Args:
      rounds: how often each step is timed.
      quick: two rounds, to see that it runs.
      out: the JSON file.
      keep: write results/benchmarks.json, too, which is under version control.
    """
    check_positive("rounds", rounds)
    keep_large_blocks()
    rounds = 2 if quick else rounds
    machine = describe_machine()
    print(f"{machine['processor']}, {machine['cpu_count']} cores; {machine['device']}; ", end="")
    print(f"jax {machine['packages']['jax']}; {rounds} rounds")
    print(
        "Ratios are medians over rounds, with quartiles. FLOP are XLA's: a conditional counts its"
    )
    print("dearest branch, a loop (osqp, norms of all parameters) one iteration.")
    results = []
    for table in tables():
        records = time_steps(table, rounds=rounds)
        print(f"\n{table.title}\n{format_records(records)}", flush=True)
        results.append({"title": table.title, "batch_size": table.batch_size, "records": records})
    write_results(
        out,
        {"machine": machine, "rounds": rounds, "tables": results},
        KEPT / "benchmarks.json" if keep else None,
    )


def _target(record: dict) -> str:
    """What was aimed at, and whether it was met."""
    parts = []
    for label, value, bound in (
        ("time", record["ratio"], record["max_ratio"]),
        ("FLOP", record["flop_ratio"], record["max_flop_ratio"]),
    ):
        if bound is not None:
            parts.append(f"{label} <= {bound:.3g}: {'met' if value <= bound else 'missed'}")
    least = record["min_ratio"]
    if least is not None:
        parts.append(f"time >= {least:.3g}: {'met' if record['ratio'] >= least else 'missed'}")
    return ", ".join(parts)


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "step_time", None))
