"""What scale_out_test.py runs in processes of its own: steps and runs on simulated devices.

`on_devices.py FILE quick` (or `slow`), on eight devices, writes how far their results are from one
device's; `on_devices.py FILE pair PORT ID` is one of two processes of two devices each.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weighting
from benchmarks.compile_for.hlo import collectives
from benchmarks.compile_for.program import without_mesh
from experiments.data import TaskConfig, make_task
from experiments.methods.registry import SCHEMES
from experiments.networks.models import make_model
from experiments.training.checkpoints import Checkpoints
from experiments.training.config import RunConfig
from experiments.training.driver import build_model, check_devices, train
from experiments.training.run import TrainingRun
from weighting import Batch, losses
from weighting.training.scale_out import data_mesh, pad_batch, parallel_step, replicate, shard_batch

NUM_STEPS, SIZE, NUM_CLEAN, NUM_EXAMPLES = 3, 32, 16, 64


class Case(NamedTuple):
    scheme: Callable[[], weighting.Weighting]
    model: str = "mlp:8"
    num_clean: int = 0
    num_masked: int = 0
    layerwise: bool = False


CASES = {
    "uniform": Case(weighting.uniform),
    "low": Case(lambda: weighting.low(0.1)),
    "low, batch norm": Case(lambda: weighting.low(0.1), "mlp_bn:8"),
    "low, mask": Case(lambda: weighting.low(0.1), num_masked=5),
    "lookahead": Case(weighting.lookahead, num_clean=NUM_CLEAN),
    "lookahead, batch norm": Case(weighting.lookahead, "mlp_bn:8", NUM_CLEAN),
    "lookahead, layerwise": Case(weighting.lookahead, num_clean=NUM_CLEAN, layerwise=True),
    "chain to mean one": Case(
        lambda: weighting.chain(
            weighting.focal(2.0), weighting.clip(0.0, 1.5), weighting.normalize_mean()
        ),
        num_masked=3,
    ),
    "random": Case(weighting.random),
    "state per example": Case(lambda: weighting.record_history(NUM_EXAMPLES)),
}


def batches(case):
    """NUM_STEPS batches of numpy arrays; masked ones lack their last examples."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(NUM_EXAMPLES + NUM_CLEAN, 12)).astype(np.float32)
    labels = np.argmax(inputs[:, :5] + rng.normal(size=(len(inputs), 5)), axis=1).astype(np.int32)
    clean = Batch(inputs[NUM_EXAMPLES:], labels[NUM_EXAMPLES:]) if case.num_clean else None
    for _ in range(NUM_STEPS):
        chosen = rng.permutation(NUM_EXAMPLES)[: SIZE - case.num_masked].astype(np.int32)
        batch = Batch(inputs[chosen], labels[chosen], indices=chosen, clean=clean)
        yield pad_batch(batch, SIZE) if case.num_masked else batch


def start(case):
    """A train step and the state before it."""
    model, scheme, optimizer = (
        make_model(case.model, 5),
        case.scheme(),
        optax.sgd(0.1, momentum=0.9),
    )
    params, model_state = model.init(jax.random.key(0), jnp.zeros((1, 12)))
    state = weighting.init_train_state(
        jax.random.key(1), params, scheme, optimizer, model_state=model_state
    )
    step = weighting.make_train_step(
        model.apply, losses.cross_entropy, scheme, optimizer, layerwise=case.layerwise
    )
    return step, state


def run_on_one(case):
    step, state = start(case)
    step, metrics = jax.jit(step), []
    for batch in batches(case):
        state, now = step(state, batch)
        metrics.append(now)
    return state, metrics


def run_on_all(case, mesh, own=lambda batch: batch):
    step, state = start(case)
    step, state, metrics = parallel_step(step, mesh, donate=True), replicate(mesh, state), []
    for batch in batches(case):
        state, now = step(state, shard_batch(mesh, own(batch)))
        metrics.append(now)
    return state, metrics


def difference(first, second):
    """The largest absolute difference of two pytrees; random keys must be equal."""
    largest = 0.0
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        if a.size:
            largest = max(largest, float(np.max(np.abs(a - b))))
    return largest


def differences(names, mesh, own=lambda batch: batch):
    found = {}
    for name in names:
        results = run_on_all(CASES[name], mesh, own)
        assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(results))
        found[name] = difference(run_on_one(CASES[name]), results)
    return found


def wrong_weights():
    """How far LOW's weights are off if every device solves the program of its own examples."""
    step, state = start(CASES["low"])
    step, batch = jax.jit(step), next(batches(CASES["low"]))
    whole = step(state, batch)[1].weights
    parts = [jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], batch) for i in range(8)]
    return difference(whole, jnp.concatenate([step(state, part)[1].weights for part in parts]))


def is_split(mesh):
    """Whether every device has its eighth of every array of a batch, in their order."""
    batch = next(batches(CASES["lookahead"]))
    for leaf, whole in zip(*map(jax.tree.leaves, (shard_batch(mesh, batch), batch)), strict=True):
        parts = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        if len({part.shape for part in parts}) > 1 or not np.array_equal(
            np.concatenate(parts), whole
        ):
            return False
    return True


# Schemes that sort or project, and those whose sums depend on each other.
GATHERED = {
    "uniform": weighting.uniform,
    "low": lambda: weighting.low(0.1),
    "low, osqp": lambda: weighting.low(0.1, solver="osqp"),
    "cvar": weighting.cvar,
    "group_dro": lambda: weighting.group_dro(5),
    "top_losses": lambda: weighting.top_losses(0.5),
}


def num_collectives(scheme, mesh, changed=lambda step: step):
    """Exchanges between devices in the compiled step of a scheme that reads no clean batch."""
    case = Case(scheme)
    step, state = start(case)
    step = changed(step)
    batch = shard_batch(mesh, next(batches(case)))
    lowered = jax.jit(parallel_step(step, mesh)).lower(replicate(mesh, state), batch)
    return len(collectives(lowered.compile().as_text()))


def message(function, *args):
    try:
        function(*args)
    except ValueError as error:
        return str(error)
    return "no error"


def refusals(mesh):
    step, state = start(CASES["lookahead"])
    batch = next(batches(CASES["lookahead"]))
    twelve = jax.tree.map(lambda x: x[:12], batch._replace(clean=None))
    clean = batch._replace(clean=jax.tree.map(lambda x: x[:10], batch.clean))
    return {
        "shard_batch": message(shard_batch, mesh, twelve),
        "parallel_step": message(parallel_step(step, mesh), state, clean),
        "data_mesh": message(data_mesh, 9),
        "batch_size": message(check_devices, RunConfig(batch_size=50), 8),
        "clean_batch_size": message(check_devices, RunConfig(weighting="lookahead"), 4),
    }


TASK = TaskConfig(num_train=200, num_validation=60, num_test=100, num_clean=16, noise="uniform:0.3")
RUN = {
    "task": TASK,
    "model": "mlp:8",
    "weighting": "low:0.1",
    "learning_rate": 0.1,
    "batch_size": 32,
    "num_steps": 12,
    "num_evals": 3,
    "seeds": 2,
}
BATCH_NORM = RUN | {"weighting": "lookahead", "model": "mlp_bn:8", "fine_tune_steps": 4}
CONVOLUTIONS = RUN | {"model": "ren2018_net", "seeds": 1, "num_steps": 2, "num_evals": 1}


def train_on(devices, config=RUN, **options):
    return train(RunConfig(**config), devices=devices, progress=False, **options)


def interrupted(devices, folder, **options):
    """Stops, as by Ctrl-C, after one more checkpoint."""
    save = Checkpoints.save

    def save_then_stop(self, step, tree):
        save(self, step, tree)
        raise KeyboardInterrupt

    Checkpoints.save = save_then_stop
    try:
        train_on(devices, folder=folder, checkpoint_seconds=0, **options)
    except KeyboardInterrupt:
        return
    finally:
        Checkpoints.save = save


def history_differences(first, second):
    values = {}
    for name, a in first.history.items():
        b = second.history[name]
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        values[name] = difference(np.nan_to_num(a), np.nan_to_num(b))
    return values


def eight_two_one(folder):
    """The measures of an uninterrupted run on one device, against one begun on eight."""
    interrupted(8, folder)
    interrupted(2, folder, resume=True)
    result = train_on(1, folder=folder, resume=True)
    return history_differences(train_on(1), result)


def stays():
    """Whether a run's state stays on all devices, and its first copy is seen where it lies.

    Between evaluations nothing may go from device to device; that this is noticed is tried on a
    state of the first device, which `advance` would have to copy to the others.
    """
    config = RunConfig(**RUN)
    tasks = [make_task(TASK, seed) for seed in config.seed_numbers]
    run = TrainingRun([config], tasks, build_model(config, 10), devices=8)
    with jax.transfer_guard_device_to_device("disallow"):
        run.advance_all(lambda: None, progress=False, label="")
        leaves, seen = jax.tree.leaves(run.state), jax.tree.leaves(run.snapshot()["state"])
        batches = [
            np.stack([stream(0, 4) for stream in streams])
            for streams in (run.streams, run.clean_streams)
        ]
        try:
            run.program.advance(run.program.on_first(run.state), *batches, run.data, run.hyper)
            refused = "no error"
        except jax.errors.JaxRuntimeError as error:
            refused = str(error)
    own = [leaf for leaf in zip(leaves, seen, strict=True) if is_numeric(leaf[0])]
    return {
        "devices": sorted({len(leaf.sharding.device_set) for leaf in leaves}),
        "devices of a checkpoint": sorted({len(leaf.sharding.device_set) for leaf in seen}),
        "is the same memory": all(
            all_.addressable_data(0).unsafe_buffer_pointer() == one.unsafe_buffer_pointer()
            for all_, one in own
        ),
        "control": refused,
    }


def is_numeric(leaf):
    return not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def one_and_eight(config):
    return history_differences(train_on(1, config), train_on(8, config))


# Choices that compute otherwise than the default.
VARIANTS = (
    *("low:solver=osqp", "low:gradient=last_layer", "low:gradient=parameters"),
    *("low:gradient_scale=batch_mean", "lookahead:refresh_every=5", "lookahead:select=head"),
    "active_bias:form=threshold",
)


def every_scheme():
    """Every weighting of the command line with its own values, trained on one device and eight."""
    return {
        name: one_and_eight(RUN | {"weighting": name, "seeds": 1, "num_steps": 4, "num_evals": 1})
        for name in (*SCHEMES, *VARIANTS)
    }


QUICK = ("uniform", "low, mask", "lookahead, batch norm", "chain to mean one")


def quick(folder):
    mesh = data_mesh()
    return {
        "steps": differences(QUICK, mesh),
        "is split": is_split(mesh),
        "collectives": {name: num_collectives(it, mesh) for name, it in GATHERED.items()},
        "collectives of low, split": num_collectives(GATHERED["low"], mesh, without_mesh),
        "refusals": refusals(mesh),
        "eight, two, one": eight_two_one(folder / "run"),
        "stays": stays(),
    }


def slow(folder):
    del folder
    return {
        "steps": differences(CASES.keys() - set(QUICK), data_mesh()),
        "wrong weights": wrong_weights(),
        "batch norm": one_and_eight(BATCH_NORM),
        "convolutions": one_and_eight(CONVOLUTIONS),
        "schemes": every_scheme(),
    }


def pair(folder):
    del folder
    port, number = map(int, sys.argv[3:])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=number)

    def own(batch):
        return jax.tree.map(lambda leaf: np.split(leaf, 2)[number], batch)

    return {"steps": differences(("lookahead, batch norm",), data_mesh(), own)}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    work = {"quick": quick, "slow": slow, "pair": pair}[sys.argv[2]]
    path.write_text(json.dumps(work(path.parent)))
