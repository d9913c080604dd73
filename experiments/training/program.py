"""The compiled part of a run: many seeds and hyperparameters advance together by a few steps.

Axes: H configurations that differ in numbers only, S seeds, T steps, N training examples. One
program advances all H x S runs, each by `lax.scan` over its steps: so many at once (`vmap`), the
rest after them (`lax.map`), which bounds memory. Small networks gain most from many at once;
convolutions on CPU, whose products are large enough by themselves, lose.

Several devices share every batch, clean ones included: the data lie on each of them, and each
computes its part. So do states, which stay there from interval to interval; whatever else handles
them (evaluation, checkpoints) sees the copy on the first device (`Program.on_first`), which moves
nothing.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.data import Task
from experiments.methods.context import Context
from experiments.methods.procedures import Procedure
from experiments.methods.specifications import LossSpec, ProcedureSpec, SchemeSpec
from experiments.networks.models import Model
from experiments.training.config import RunConfig
from experiments.training.schedule import Schedule, parse_schedule
from weighting import Batch, StepMetrics, TrainState, Weighting
from weighting import uniform as uniform_weighting
from weighting.training.scale_out import data_mesh, parallel_step, replicate

PyTree = Any


class Hyperparameters(NamedTuple):
    """The numbers that may differ between runs of one program; each [H] when stacked."""

    learning_rate: Array
    weight_decay: Array
    fine_tune_learning_rate: Array
    scheme: Array  # [H, K] values of the weighting scheme
    loss: Array  # [H, L] values of the loss


def stack_hyperparameters(configs: Sequence[RunConfig]) -> Hyperparameters:
    """The configurations' numbers as arrays with a leading axis H."""
    fine_tune = [c.fine_tune_learning_rate for c in configs]
    rates = [c.learning_rate for c in configs]
    tuned = [rate if ft is None else ft for rate, ft in zip(rates, fine_tune, strict=True)]
    return Hyperparameters(
        learning_rate=jnp.asarray(rates, jnp.float32),
        weight_decay=jnp.asarray([c.weight_decay for c in configs], jnp.float32),
        fine_tune_learning_rate=jnp.asarray(tuned, jnp.float32),
        scheme=jnp.asarray([c.scheme.values for c in configs], jnp.float32),
        loss=jnp.asarray([c.loss_spec.values for c in configs], jnp.float32),
    )


class SeedData(NamedTuple):
    """One seed's data on the device; leading axis S when stacked."""

    seed: Array  # [], its number
    inputs: Array  # [N, ...]
    labels: Array  # [N]
    clean_inputs: Array  # [m, ...]
    clean_labels: Array  # [m]
    class_counts: Array  # [C]
    references: dict[str, Any]  # what was found out before training, see `context.REFERENCES`


def seed_data(tasks: Sequence[Task], seeds: Sequence[int]) -> SeedData:
    """Puts the training and clean sets of all seeds on the device, once; no references yet."""

    def stack(pick: Callable[[Task], np.ndarray]) -> Array:
        return jnp.asarray(np.stack([pick(task) for task in tasks]))

    return SeedData(
        seed=jnp.asarray(seeds),
        inputs=stack(lambda t: t.train.inputs),
        labels=stack(lambda t: t.train.labels),
        clean_inputs=stack(lambda t: t.clean.inputs),
        clean_labels=stack(lambda t: t.clean.labels),
        class_counts=stack(lambda t: np.bincount(t.train.labels, minlength=t.num_classes)),
        references={},
    )


class WeightSums(NamedTuple):
    """Sums over the steps since the last evaluation, per training example."""

    weights: Array  # [N]
    count: Array  # [N]


class Progress(NamedTuple):
    """What one step reports."""

    loss: Array
    weighted_loss: Array
    accuracy: Array
    effective_sample_size: Array


class Program(NamedTuple):
    """The functions of a run; every state has leading axes [H, S]."""

    init: Callable[[Hyperparameters, SeedData], TrainState]  # on the first device
    place: Callable[[PyTree], PyTree]  # puts states, data and numbers where `advance` wants them
    advance: Callable[..., tuple[TrainState, WeightSums, Progress]]
    fine_tune: Callable[..., tuple[TrainState, WeightSums, Progress]]
    on_first: Callable[[PyTree], PyTree]  # of what is placed, the copy on the first device
    network: Callable[[TrainState], tuple[PyTree, PyTree]]  # parameters and model state, [H, S]


class _Key(NamedTuple):
    """All that decides what is compiled; numbers that vary between runs are left out."""

    scheme: SchemeSpec
    loss: LossSpec
    procedure: ProcedureSpec
    schedule: Schedule
    momentum: float
    nesterov: bool
    batch_size: int
    num_train: int
    num_steps: int
    input_size: int
    num_devices: int
    at_once: int | None


def make_program(
    config: RunConfig,
    model: Model,
    task: Task,
    *,
    num_devices: int = 1,
    at_once: int | None = None,
) -> Program:
    """The functions that train the configuration, and those that differ in numbers only.

    Equal settings get the same functions again, so that nothing is compiled twice. `at_once` is how
    many runs advance together at most; by default all, of networks with convolutions on CPU one.
    """
    inputs = task.train.inputs
    key = _Key(
        scheme=SchemeSpec(config.scheme.parsed._replace(values=())),
        loss=LossSpec(config.loss_spec.parsed._replace(values=())),
        procedure=config.procedure_spec,
        schedule=parse_schedule(config.schedule),
        momentum=config.momentum,
        nesterov=config.nesterov,
        batch_size=config.batch_size,
        num_train=len(inputs),
        num_steps=config.num_steps,
        input_size=int(np.prod(inputs.shape[1:])),
        num_devices=num_devices,
        at_once=at_once,
    )
    return _program(key, model)


@functools.lru_cache(maxsize=256)
def _program(key: _Key, model: Model) -> Program:
    procedure = key.procedure.build(model)
    mesh = data_mesh(key.num_devices) if key.num_devices > 1 else None
    at_once = key.at_once
    if at_once is None and model.has_convolutions and jax.default_backend() == "cpu":
        at_once = 1

    def compiled(step: Callable) -> Callable:
        return _drive(step, key.num_train, mesh, at_once)

    return Program(
        init=_make_init(key, procedure),
        place=_unchanged if mesh is None else functools.partial(replicate, mesh),
        advance=compiled(_make_step(key, procedure, mesh)),
        fine_tune=compiled(_make_fine_tune_step(key, procedure, mesh)),
        on_first=_unchanged if mesh is None else _first_copy,
        network=procedure.network,
    )


def _make_init(key: _Key, procedure: Procedure) -> Callable[[Hyperparameters, SeedData], PyTree]:
    """Returns (hyperparameters [H], data [S]) -> states [H, S] before the first step."""

    def init_one(hyper: Hyperparameters, data: SeedData) -> TrainState:
        network_key, run_key = jax.random.split(jax.random.key(data.seed))
        return procedure.init(
            network_key,
            run_key,
            data.inputs[:1],
            data.references,
            _scheme(key, hyper, data),
            _optimizer(key, hyper),
        )

    @jax.jit
    def init(hyper: Hyperparameters, data: SeedData) -> TrainState:
        over_seeds = jax.vmap(init_one, (None, 0))
        return jax.vmap(over_seeds, (0, None))(hyper, data)

    return init


def _make_step(key: _Key, procedure: Procedure, mesh: Mesh | None) -> Callable:
    """A step of one run with its weighting, and of the sums of its weights."""

    def step(state, sums, indices, clean_indices, data: SeedData, hyper: Hyperparameters):
        clean = Batch(data.clean_inputs[clean_indices], data.clean_labels[clean_indices])
        batch = Batch(
            data.inputs[indices],
            data.labels[indices],
            indices=indices,
            clean=clean if key.scheme.needs_clean else None,
        )
        train_step = procedure.make_step(
            key.loss.build(_context(key, data, indices), list(hyper.loss)),
            _scheme(key, hyper, data),
            _optimizer(key, hyper),
        )
        state, metrics = _shared(train_step, mesh)(state, batch)
        if mesh is not None:  # gather the batch's indices, rather than add up sums of N
            indices, sums = jax.lax.with_sharding_constraint((indices, sums), _replicated(mesh))
        sums = WeightSums(
            sums.weights.at[indices].add(metrics.weights), sums.count.at[indices].add(1)
        )
        return state, sums, _progress(metrics)

    return step


def _make_fine_tune_step(key: _Key, procedure: Procedure, mesh: Mesh | None) -> Callable:
    """A step of plain ERM on the clean set; the scheme's state waits, and so do the sums."""

    def step(state, sums, indices, clean_indices, data: SeedData, hyper: Hyperparameters):
        del indices
        train_step = procedure.make_step(
            key.loss.build(_context(key, data, clean_indices), list(hyper.loss)),
            uniform_weighting(),
            _optimizer(key, hyper, fine_tuning=True),
        )
        batch = Batch(data.clean_inputs[clean_indices], data.clean_labels[clean_indices])
        without = state._replace(weighting_state=())
        new_state, metrics = _shared(train_step, mesh)(without, batch)
        new_state = new_state._replace(weighting_state=state.weighting_state)
        return new_state, sums, _progress(metrics)

    return step


def _shared(train_step: Callable, mesh: Mesh | None) -> Callable:
    """The step with its batch shared by the devices."""
    return train_step if mesh is None else parallel_step(train_step, mesh)


def _context(key: _Key, data: SeedData, indices: Array | None = None) -> Context:
    return Context(
        data.class_counts,
        key.num_train,
        key.num_steps,
        key.num_train / key.batch_size,
        key.input_size,
        data.references,
        indices,
    )


def _scheme(key: _Key, hyper: Hyperparameters, data: SeedData) -> Weighting:
    return key.scheme.build(_context(key, data), list(hyper.scheme))


def _optimizer(
    key: _Key, hyper: Hyperparameters, *, fine_tuning: bool = False
) -> optax.GradientTransformation:
    if fine_tuning:  # at a constant rate; of the same kind, so that the state fits
        rate = key.schedule._replace(factor=1.0).of(hyper.fine_tune_learning_rate)
    else:
        rate = key.schedule.of(hyper.learning_rate)
    return optax.chain(
        optax.add_decayed_weights(hyper.weight_decay),
        optax.sgd(rate, momentum=key.momentum or None, nesterov=key.nesterov),
    )


def _progress(metrics: StepMetrics) -> Progress:
    return Progress(
        metrics.loss, metrics.weighted_loss, metrics.accuracy, metrics.effective_sample_size
    )


def _zero_sums(num_train: int) -> WeightSums:
    return WeightSums(jnp.zeros(num_train), jnp.zeros(num_train, jnp.int32))


def _unchanged(tree: PyTree) -> PyTree:
    return tree


def _first_copy(tree: PyTree) -> PyTree:
    """Of arrays that are whole on every device, the ones on the first: views, nothing moves."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _whole(mesh: Mesh | None) -> dict[str, Any]:
    """Settings of `jax.jit` that keep a copy of everything on every device."""
    if mesh is None:
        return {}
    return {"in_shardings": _replicated(mesh), "out_shardings": _replicated(mesh)}


def _replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def _drive(step: Callable, num_train: int, mesh: Mesh | None, at_once: int | None) -> Callable:
    """Advances all runs by T steps in one program: indices [S, T, B], clean indices [S, T, m]."""

    def chunk(state, indices, clean_indices, data, hyper):
        def body(carry, now):
            state, sums, progress = step(*carry, *now, data, hyper)
            return (state, sums), progress

        start = (state, _zero_sums(num_train))
        (state, sums), progress = jax.lax.scan(body, start, (indices, clean_indices))
        return state, sums, progress

    def all_runs(states, indices, clean_indices, data, hyper):
        num_seeds = indices.shape[0]

        def over_seeds(states, hyper):
            one_seed = functools.partial(chunk, hyper=hyper)
            return _map(one_seed, (states, indices, clean_indices, data), at_once)

        limit = None if at_once is None else max(1, at_once // num_seeds)
        return _map(over_seeds, (states, hyper), limit)

    return jax.jit(all_runs, donate_argnums=0, **_whole(mesh))


def _map(function: Callable, arguments: tuple, at_once: int | None) -> PyTree:
    """`function` over the leading axis of all arguments, `at_once` of them together."""
    if at_once is None or at_once >= len(jax.tree.leaves(arguments)[0]):
        return jax.vmap(function)(*arguments)
    size = None if at_once == 1 else at_once
    return jax.lax.map(lambda one: function(*one), arguments, batch_size=size)
