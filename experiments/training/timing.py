"""Times train steps: compiled ahead of time, called in turn, compared within a round.

A ratio is the median over rounds of the ratio within a round, so that a slow spell of the machine
touches both sides. Steps keep their inputs (no donation), so every call repeats the same work.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import weighting
from experiments.networks.models import Model
from weighting import Batch, TrainState, Weighting

IMAGE_SHAPE = (28, 28, 1)


class Candidate(NamedTuple):
    """A train step to time; without a scheme it is the hand-written step."""

    scheme: Weighting | None
    num_clean: int = 0
    num_steps: int = 1  # consecutive steps per call, where steps differ in cost
    in_scan: bool = False  # the steps of a call as one program, a `lax.scan`
    layerwise: bool = False
    model: Model | None = None  # instead of the table's
    max_ratio: float | None = None  # targets: of the time,
    max_flop_ratio: float | None = None  # and of the operation count


class StepTable(NamedTuple):
    """Candidates on one model and batch size."""

    title: str
    model: Model
    loss_fn: Callable[[Array, Array], Array]
    optimizer: optax.GradientTransformation
    batch_size: int
    candidates: dict[str, Candidate]
    image_shape: tuple[int, ...] = IMAGE_SHAPE


class Compiled(NamedTuple):
    """A candidate ready to call, with XLA's account of one call."""

    call: Callable[[], Any]
    flops: float  # conditionals count their dearest branch, `while` loops one iteration
    temp_bytes: int | None


def compile_candidate(table: StepTable, candidate: Candidate) -> Compiled:
    """Compiles a candidate's step for random images and labels."""
    num_labels = max(table.model.num_outputs, 2)

    def random_batch(seed: int, size: int, clean: Batch | None = None) -> Batch:
        image_key, label_key = jax.random.split(jax.random.key(seed))
        images = jax.random.uniform(image_key, (size, *table.image_shape))
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
        if candidate.in_scan:
            state, metrics = jax.lax.scan(
                lambda state, _: step(state, batch), state, length=candidate.num_steps
            )
        else:
            state, metrics = step(state, batch)
        return state, metrics.loss

    compiled = kept_outputs.lower(state, batch).compile()

    def call() -> TrainState:
        current = state
        for _ in range(1 if candidate.in_scan else candidate.num_steps):
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


class _Loss(NamedTuple):
    loss: Array


def _hand_written_step(table: StepTable) -> Callable[[TrainState, Batch], tuple[TrainState, _Loss]]:
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
