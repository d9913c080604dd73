"""Memory and operations of the costly computations, as XLA accounts for them after compilation.

Run `python -m benchmarks.memory`. Bytes are those of intermediate results (arguments and
results are apart) and do not depend on the machine's load; FLOP are XLA's, which counts one round
of a loop: where examples or networks go through a loop the number is marked, and no total. Only the
generalization error of a whole data set is timed.
"""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from sklearn.datasets import load_digits

import weighting
from benchmarks.report import (
    KEPT,
    RUNS,
    check_positive,
    describe_machine,
    run_benchmark,
    write_results,
)
from experiments.networks.models import Model, lenet5, make_model, ren2018_net
from experiments.tools.tables import align
from weighting import Batch, losses
from weighting.difficulty.cross_validation import cross_validated_predictions, generalization_error
from weighting.gradient_norms import jacobian_row_norms, per_example_gradient_norms

STEPS = (1, 2, 4, 9, 16, 25, 36, 64)
UNROLLED_REASON = "states at the starts of sqrt(k) segments and within one"
LOOKAHEAD_REASONS = {
    "as a whole": "tangents and cotangents of the whole network",
    "layer by layer": "one cotangent per layer, one product per map",
}


class ProgramCost(NamedTuple):
    """One compiled program."""

    part: str
    name: str
    temp_bytes: int
    flops: float
    is_loop: bool  # XLA counts one round of a loop, so that flops is no total
    reason: str
    bytes_per_example: float | None = None
    seconds_per_example_and_fold: float | None = None


class NetworkAndBatch(NamedTuple):
    """A network and a batch of random images."""

    name: str
    model: Model
    loss_fn: Callable[[Array, Array], Array]
    batch_size: int


def networks_and_batches() -> list[NetworkAndBatch]:
    """The networks whose gradient norms are measured."""
    return [
        NetworkAndBatch(
            "MLP 784-512-512-10", make_model("mlp:512,512", 10), losses.cross_entropy, 256
        ),
        NetworkAndBatch("LeNet-5", lenet5(10), losses.cross_entropy, 256),
        NetworkAndBatch("ren2018_net", ren2018_net(), losses.logistic, 100),
    ]


def unrolled(
    steps: tuple[int, ...], optimizer: Any, name: str, width: int = 256
) -> Iterator[ProgramCost]:
    """Lookahead by k virtual steps on an MLP whose parameters outweigh its batch of eight."""
    model = make_model(f"mlp:{width},{width}", 10)
    inputs, labels = jax.random.normal(jax.random.key(0), (8, width // 2)), jnp.arange(8) % 10
    params, _ = model.init(jax.random.key(1), inputs)

    def losses_fn(params: Any, inputs: Array, labels: Array) -> Array:
        return losses.cross_entropy(_logits(model, params, inputs), labels)

    def scores(params: Any, inputs: Array, labels: Array, num_steps: int) -> Array:
        return weighting.unrolled_scores(
            lambda p: losses_fn(p, inputs, labels),
            params,
            lambda p: jnp.mean(losses_fn(p, inputs[:4], labels[::2])),
            optimizer,
            num_steps=num_steps,
            initial_weights=jnp.ones(len(labels)),
        )

    for k in steps:
        compiled = _compile(functools.partial(scores, num_steps=k), params, inputs, labels)
        reason = UNROLLED_REASON if k > 1 else "nothing is repeated"
        yield _row("unrolled lookahead", f"{name}, k = {k}", compiled, reason)


def gradient_norms(problem: NetworkAndBatch) -> Iterator[ProgramCost]:
    """Exact squared gradient norms of every example, in four ways that agree."""
    model, batch = problem.model, _images(problem)
    params, _ = model.init(jax.random.key(1), batch[0])

    def losses_fn(params: Any, batch: tuple[Array, Array]) -> Array:
        return problem.loss_fn(_logits(model, params, batch[0]), batch[1])

    def one_loss(params: Any, example: tuple[Array, Array]) -> Array:
        return losses_fn(params, jax.tree.map(lambda x: x[None], example))[0]

    def all_at_once(params: Any, batch: tuple[Array, Array]) -> Array:
        rows = jax.vmap(jax.grad(one_loss), (None, 0))(params, batch)
        return jax.vmap(lambda row: optax.tree.norm(row, squared=True))(rows)

    def in_chunks(params: Any, batch: tuple[Array, Array]) -> Array:
        return per_example_gradient_norms(one_loss, params, batch)

    def by_rows(params: Any, batch: tuple[Array, Array]) -> Array:
        return jacobian_row_norms(weighting.linearize_losses(lambda p: losses_fn(p, batch), params))

    def by_layers(params: Any, batch: tuple[Array, Array]) -> Array:
        norms_fn = weighting.linearize_layers(losses_fn, params, batch).squared_row_norms
        assert norms_fn is not None  # linearize_layers gives it
        return norms_fn()

    ways = (
        ("all at once", all_at_once, "every example's gradient at the same time, B x P"),
        ("in chunks of 32", in_chunks, "the gradients of 32 examples at a time"),
        ("Jacobian rows", by_rows, "8 backward passes of the whole batch at a time"),
        ("layer by layer", by_layers, "signals of all layers; no gradient of a dense layer"),
    )
    for name, norms_fn, reason in ways:
        compiled = _compile(norms_fn, params, batch)
        name = f"{problem.name}, B = {problem.batch_size}, {name}"
        yield _row("exact gradient norms", name, compiled, reason)


def lookahead(problem: NetworkAndBatch) -> Iterator[ProgramCost]:
    """A train step that looks ahead with a tenth as many clean examples."""
    inputs, labels = _images(problem)
    num_clean = max(problem.batch_size // 10, 1)
    batch = Batch(inputs, labels, clean=Batch(inputs[:num_clean], labels[:num_clean]))
    params, _ = problem.model.init(jax.random.key(1), inputs)
    optimizer, scheme = optax.sgd(0.1), weighting.lookahead()
    state = weighting.init_train_state(jax.random.key(2), params, scheme, optimizer)
    for name, reason in LOOKAHEAD_REASONS.items():
        step = weighting.make_train_step(
            problem.model.apply,
            problem.loss_fn,
            scheme,
            optimizer,
            layerwise=name == "layer by layer",
        )
        compiled = _compile(lambda s, b, step=step: step(s, b)[0], state, batch)
        name = f"{problem.name}, B = {problem.batch_size}, {name}"
        yield _row("lookahead", name, compiled, reason)


def cross_validation(
    num_examples: int = 1797, num_steps: int = 300, num_folds: int = 5, num_repeats: int = 1
) -> Iterator[ProgramCost]:
    """Generalization error of handwritten digits by small networks, side by side and in turn."""
    images, classes = load_digits(return_X_y=True)
    inputs = jnp.asarray(images[:num_examples] / 16, jnp.float32)
    labels = jnp.asarray(classes[:num_examples])
    model = make_model("mlp:64", 10)

    def train_fn(key: Array, inputs: Array, labels: Array, mask: Array) -> Any:
        init_key, batch_key = jax.random.split(key)

        def risk(params: Any, rows: Array) -> Array:
            values = losses.cross_entropy(_logits(model, params, inputs[rows]), labels[rows])
            return weighting.masked_mean(values, mask[rows])

        def step(params: Any, rows: Array) -> tuple[Any, None]:
            gradient = jax.grad(risk)(params, rows)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), None

        batches = jax.random.randint(batch_key, (num_steps, 32), 0, len(labels))
        return jax.lax.scan(step, model.init(init_key, inputs[:1])[0], batches)[0]

    def errors(inputs: Array, labels: Array, models_at_once: int | None) -> Array:
        predictions = cross_validated_predictions(
            train_fn,
            lambda params, inputs: _logits(model, params, inputs),
            jax.random.key(0),
            inputs,
            labels,
            num_folds=num_folds,
            num_repeats=num_repeats,
            models_at_once=models_at_once,
        )
        return generalization_error(predictions, labels).error

    count = num_folds * num_repeats
    for name, at_once, reason in (
        (f"{count} networks side by side", None, "as many copies of the training set as networks"),
        ("one network at a time", 1, "one copy of the training set"),
    ):
        compiled = _compile(functools.partial(errors, models_at_once=at_once), inputs, labels)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(compiled(inputs, labels))
            seconds.append(time.perf_counter() - begin)
        row = _row("generalization error", f"digits, N = {len(labels)}, {name}", compiled, reason)
        yield row._replace(
            bytes_per_example=row.temp_bytes / len(labels),
            seconds_per_example_and_fold=float(np.median(seconds)) / (len(labels) * count),
        )


class Growth(NamedTuple):
    """Memory as a straight line in the root of the number of steps."""

    mib_per_root: float  # MiB for each unit of sqrt(k)
    largest_deviation: float  # from the line, as a share of the memory


def growth(rows: list[ProgramCost], steps: tuple[int, ...]) -> Growth:
    """The line through the rows of k >= 9 steps, of which there must be two."""
    chosen = [(k, row.temp_bytes / 2**20) for k, row in zip(steps, rows, strict=True) if k >= 9]
    roots, mib = np.sqrt([k for k, _ in chosen]), np.array([m for _, m in chosen])
    slope, offset = np.polyfit(roots, mib, 1)
    deviation = np.max(np.abs(offset + slope * roots - mib) / mib)
    return Growth(float(slope), float(deviation))


def format_rows(rows: list[ProgramCost]) -> str:
    """An aligned text table."""
    table = [["computation", "temp MiB", "MFLOP", "B/example", "us/(example fold)", "reason"]]
    for row in rows:
        per_example, seconds = row.bytes_per_example, row.seconds_per_example_and_fold
        table.append(
            [
                row.name,
                f"{row.temp_bytes / 2**20:.2f}",
                f"{row.flops / 1e6:.1f}{' (loop)' if row.is_loop else ''}",
                "-" if per_example is None else f"{per_example:.0f}",
                "-" if seconds is None else f"{1e6 * seconds:.2f}",
                row.reason,
            ]
        )
    return align(table)


def main(
    steps: tuple[int, ...] = STEPS, out: Path = RUNS / "memory.json", keep: bool = False
) -> None:
    """Prints bytes and operations of each computation and writes them as JSON.

    Args:
      steps: numbers of virtual steps of unrolled lookahead.
      out: the JSON file.
      keep: write results/memory.json, too, which is under version control.
    """
    check_positive("steps", *steps)
    rows: list[ProgramCost] = []
    lines: dict[str, Growth] = {}
    for name, optimizer in (("SGD", optax.sgd(0.1)), ("momentum", optax.sgd(0.1, momentum=0.9))):
        own = list(unrolled(steps, optimizer, name))
        rows += own
        print(format_rows(own))
        if sum(k >= 9 for k in steps) > 1:
            lines[name] = growth(own, steps)
            slope, deviation = lines[name]
            print(f"From k = 9: {slope:.2f} MiB per sqrt(k), a line within {deviation:.1%}")
        print()
    for part in (gradient_norms, lookahead):
        own = [row for problem in networks_and_batches() for row in part(problem)]
        rows += own
        print(f"{format_rows(own)}\n", flush=True)
    own = list(cross_validation())
    rows += own
    print(format_rows(own))
    records = [row._asdict() for row in rows]
    growths = {name: line._asdict() for name, line in lines.items()}
    write_results(
        out,
        {"machine": describe_machine(), "growth": growths, "records": records},
        KEPT / "memory.json" if keep else None,
    )


def _logits(model: Model, params: Any, inputs: Array) -> Array:
    return model.apply(params, {}, inputs, train=True)[0].logits


def _images(problem: NetworkAndBatch) -> tuple[Array, Array]:
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.uniform(keys[0], (problem.batch_size, 28, 28, 1))
    num_classes = max(problem.model.num_outputs, 2)
    return images, jax.random.randint(keys[1], (problem.batch_size,), 0, num_classes)


def _compile(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile()


def _row(part: str, name: str, compiled: Any, reason: str) -> ProgramCost:
    flops = float((compiled.cost_analysis() or {}).get("flops", float("nan")))
    temp_bytes = int(compiled.memory_analysis().temp_size_in_bytes)
    return ProgramCost(part, name, temp_bytes, flops, " while(" in compiled.as_text(), reason)


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "memory", __doc__))
