"""Step times on this machine: each weighting scheme beside plain ERM, in turn, on the same batch.

Run `python -m experiments.benchmarks`. Candidates are called once per round in a rotating order,
and a ratio is the median over rounds of the ratio within a round, so that a slow spell of the
machine touches both sides. Steps are compiled ahead of time and keep their inputs (no donation), so
every call repeats the same work.
"""

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array

import weighting
from experiments.convolution import convolve_plainly
from experiments.files import write_json
from experiments.host_memory import keep_large_blocks
from experiments.models import Model, lenet5, ren2018_net
from weighting import Batch, TrainState, Weighting, losses

HAND_WRITTEN = "value_and_grad"
UNIFORM = "uniform"
PLAIN = "uniform, XLA's convolutions"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "jaxopt", "numpy")
IMAGE_SHAPE = (28, 28, 1)
CLEAN_SIZES = (10, 32, 100)
PEER = "PyTorch: "


class Candidate(NamedTuple):
    """A train step to time; without a scheme it is the hand-written step."""

    scheme: Weighting | None
    num_clean: int = 0
    num_steps: int = 1  # consecutive steps per call, where steps differ in cost
    layerwise: bool = False
    model: Model | None = None  # instead of the table's
    max_ratio: float | None = None  # targets: of the time,
    max_flop_ratio: float | None = None  # and of the operation count


class Table(NamedTuple):
    """Candidates on one model and batch size."""

    title: str
    model: Model
    loss_fn: Callable[[Array, Array], Array]
    optimizer: optax.GradientTransformation
    batch_size: int
    candidates: dict[str, Candidate]


class Compiled(NamedTuple):
    """A candidate ready to call, with XLA's account of one call."""

    call: Callable[[], Any]
    flops: float  # conditionals count their dearest branch, `while` loops one iteration
    temp_bytes: int | None


def tables() -> list[Table]:
    """The two tables: LOW's network at its batch size, and lookahead's."""
    return [
        Table(
            "LeNet-5, batch 256",
            lenet5(10),
            losses.cross_entropy,
            optax.sgd(0.1, momentum=0.9),
            256,
            _candidates(256, lenet5(10, convolve=convolve_plainly)),
        ),
        Table(
            "ren2018_net, batch 100",
            ren2018_net(),
            losses.logistic,
            optax.sgd(1e-3),
            100,
            _candidates(100, ren2018_net(convolve=convolve_plainly)),
        ),
    ]


def _candidates(batch_size: int, plain_model: Model) -> dict[str, Candidate]:
    lookahead = weighting.lookahead_reweight
    unrolled = lookahead(mode="unrolled", optimizer=optax.sgd(1e-3))
    head = lookahead(select=lambda path: "head" in jax.tree_util.keystr(path))
    by_layers = {
        f"lookahead by layers, {size} clean": Candidate(
            lookahead(), size, layerwise=True, max_ratio=1.1 * lookahead_floor(size, batch_size)
        )
        for size in CLEAN_SIZES
    }
    return {
        HAND_WRITTEN: Candidate(None),
        UNIFORM: Candidate(weighting.uniform(), max_flop_ratio=1.0),
        PLAIN: Candidate(weighting.uniform(), model=plain_model),
        "low:0.1": Candidate(weighting.low(0.1), max_ratio=1.03),
        "low:0.1, osqp": Candidate(weighting.low(0.1, solver="osqp")),
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


def compile_candidate(table: Table, candidate: Candidate) -> Compiled:
    """Compiles a candidate's step for random images and labels."""
    num_labels = max(table.model.num_outputs, 2)

    def random_batch(seed: int, size: int, clean: Batch | None = None) -> Batch:
        image_key, label_key = jax.random.split(jax.random.key(seed))
        images = jax.random.uniform(image_key, (size, *IMAGE_SHAPE))
        return Batch(images, jax.random.randint(label_key, (size,), 0, num_labels), clean=clean)

    clean = random_batch(1, candidate.num_clean) if candidate.num_clean else None
    batch = random_batch(2, table.batch_size, clean)
    model = candidate.model or table.model
    params, model_state = model.init(jax.random.key(3), batch.inputs)
    scheme = candidate.scheme or weighting.uniform()
    state = weighting.init_train_state(
        jax.random.key(4), params, scheme, table.optimizer, model_state=model_state
    )
    if candidate.scheme is None:
        step = _hand_written_step(table)
    else:
        step = weighting.make_train_step(
            model.apply,
            table.loss_fn,
            scheme,
            table.optimizer,
            layerwise=candidate.layerwise,
        )

    @jax.jit
    def kept_outputs(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        state, metrics = step(state, batch)
        return state, metrics.loss

    compiled = kept_outputs.lower(state, batch).compile()

    def call() -> TrainState:
        current = state
        for _ in range(candidate.num_steps):
            current, _ = compiled(current, batch)
        return current

    memory = compiled.memory_analysis()
    return Compiled(
        call,
        flops=float((compiled.cost_analysis() or {}).get("flops", float("nan"))),
        temp_bytes=None if memory is None else int(memory.temp_size_in_bytes),
    )


def interleave(
    functions: dict[str, Callable[[], Any]], *, rounds: int, warm_up: int
) -> dict[str, list[float]]:
    """Calls every function once per round, in an order that rotates; seconds per call.

    The first `warm_up` rounds are not recorded.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(warm_up + rounds):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            jax.block_until_ready(functions[name]())
            elapsed = time.perf_counter() - begin
            if index >= warm_up:
                seconds[name].append(elapsed)
    return seconds


def paired_ratio(seconds: list[float], reference: list[float]) -> tuple[float, float, float]:
    """Median and quartiles (25 %, 75 %) over rounds of the ratio within a round."""
    low, median, high = np.percentile(np.divide(seconds, reference), [25, 50, 75])
    return float(median), float(low), float(high)


def measure(table: Table, *, rounds: int, warm_up: int = 3) -> list[dict]:
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
        ratio, low, high = paired_ratio(per_step[name], per_step[reference])
        records.append(
            {
                "name": name,
                "reference": reference,
                "median_ms": 1e3 * float(np.median(per_step[name])),
                "ratio": ratio,
                "ratio_quartiles": [low, high],
                "max_ratio": candidate.max_ratio,
                "min_ratio": None,
                "flops": compiled[name].flops,
                "flop_ratio": compiled[name].flops / compiled[reference].flops,
                "max_flop_ratio": candidate.max_flop_ratio,
                "temp_bytes": compiled[name].temp_bytes,
                "num_clean": candidate.num_clean,
            }
        )
    for name in peers:
        best = _fastest_like(name.removeprefix(PEER), per_step)
        ratio, low, high = paired_ratio(per_step[name], per_step[best])
        records.append(
            {
                "name": name,
                "reference": best,
                "median_ms": 1e3 * float(np.median(per_step[name])),
                "ratio": ratio,
                "ratio_quartiles": [low, high],
                "max_ratio": None,
                "min_ratio": 3.0 if "lookahead" in name else 1.0,
                "flops": None,
                "flop_ratio": None,
                "max_flop_ratio": None,
                "temp_bytes": None,
                "num_clean": None,
            }
        )
    return records


def peer_steps(table: Table) -> dict[str, Callable[[], Any]]:
    """PyTorch's steps for a table, if PyTorch is installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from experiments.torch_peers import peers

    steps = peers(table.title, table.batch_size, CLEAN_SIZES)
    return {PEER + name: step for name, step in steps.items()}


def _fastest_like(name: str, seconds: dict[str, list[float]]) -> str:
    """Of our exact steps that do what `name` does, the one with the least median."""
    like = [name, name.replace("lookahead,", "lookahead by layers,")]
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def describe_machine() -> dict[str, Any]:
    """What the numbers depend on: processor, system, device and package versions."""
    return {
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "system": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def main(
    rounds: int = 30, quick: bool = False, out: Path = Path("results/benchmarks.json")
) -> None:
    """Times train steps, prints ratios beside their targets and writes everything as JSON.

    Args:
      rounds: how often each step is timed.
      quick: two rounds, to see that it runs.
      out: the JSON file.
    """
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
        records = measure(table, rounds=rounds)
        print(f"\n{table.title}\n{format_records(records)}", flush=True)
        results.append({"title": table.title, "batch_size": table.batch_size, "records": records})
    write_json(out, {"machine": machine, "rounds": rounds, "tables": results})
    print(f"\nWritten to {out}")


class _Loss(NamedTuple):
    loss: Array


def _hand_written_step(table: Table) -> Callable[[TrainState, Batch], tuple[TrainState, _Loss]]:
    """`jax.value_and_grad` of the mean loss, then optax."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, _Loss]:
        def mean_loss(params: Any) -> tuple[Array, Any]:
            output, model_state = table.model.apply(
                params, state.model_state, batch.inputs, train=True
            )
            return jnp.mean(table.loss_fn(output.logits, batch.labels)), model_state

        (loss, model_state), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = table.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_state = state._replace(
            step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state
        )
        return new_state, _Loss(loss)

    return step


def _target(record: dict) -> str:
    """What was aimed at, and whether it was met."""
    parts = []
    for label, value, bound in (
        ("time", record["ratio"], record["max_ratio"]),
        ("FLOP", record["flop_ratio"], record["max_flop_ratio"]),
    ):
        if bound is not None:
            parts.append(f"{label} <= {bound:.2f}: {'met' if value <= bound else 'missed'}")
    least = record["min_ratio"]
    if least is not None:
        parts.append(f"time >= {least:.2f}: {'met' if record['ratio'] >= least else 'missed'}")
    return ", ".join(parts)


def _processor() -> str:
    """The processor's model name where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    tyro.cli(main)
