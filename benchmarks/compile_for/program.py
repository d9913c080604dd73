"""The train step of a network and a scheme, compiled for a target, and what it will cost."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import weighting
from benchmarks.compile_for.hlo import Collective, collectives, kernels
from benchmarks.compile_for.targets import Target
from benchmarks.compile_for.transformer import LENGTH, transformer
from experiments.methods.context import example_context
from experiments.methods.specifications import parse_scheme
from experiments.networks.models import Model, make_model
from weighting import Batch, ModelOutput, losses
from weighting.training.scale_out import parallel_step

NUM_EXAMPLES, NUM_CLASSES = 50_000, 10
IMAGE_SHAPES = {"lenet5": (28, 28, 1), "ren2018_net": (28, 28, 1)}


class Workload(NamedTuple):
    """What to compile; sizes are per device."""

    network: str
    scheme: str
    batch_size: int
    clean_size: int
    dtype: str
    split: bool = False  # sorts and projections, over the devices


class Cost(NamedTuple):
    """What one step costs each device."""

    flops: float
    bytes_moved: float
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    collectives: list[Collective]
    kernels: int
    compile_seconds: float
    estimated_seconds: float


def compile_step(workload: Workload, target: Target) -> Cost:
    """Compiles a workload's train step for a target and reads what it costs.

    Operations are those of the program before optimization, over the number of devices; bytes moved
    are read and written by the kernels of the compiled program.
    """
    mesh = target.mesh()
    step, state, batch = shapes(workload, mesh.size)
    if workload.split:
        step = without_mesh(step)
    start = time.perf_counter()
    lowered = jax.jit(parallel_step(step, mesh, donate=True)).lower(state, batch)
    compiled = lowered.compile(target.compiler_options)
    seconds = time.perf_counter() - start
    text = compiled.as_text() or ""
    memory: Any = compiled.memory_analysis()
    before = jax.jit(step).trace(state, batch).lower(lowering_platforms=(target.platform,))
    before_analysis: Any = before.cost_analysis()
    flops = float(before_analysis["flops"]) / mesh.size
    own: Any = compiled.cost_analysis()  # GPUs have none
    running = kernels(text)
    bytes_moved = float(own["bytes accessed"]) if own else float(running.num_bytes)
    exchanged = collectives(text)
    return Cost(
        flops=flops,
        bytes_moved=bytes_moved,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        collectives=exchanged,
        kernels=running.count,
        compile_seconds=seconds,
        estimated_seconds=roofline(
            target, workload.dtype, flops, bytes_moved, exchanged, mesh.size
        ),
    )


def roofline(
    target: Target,
    dtype: str,
    flops: float,
    bytes_moved: float,
    exchanged: list[Collective],
    num_devices: int,
) -> float:
    """The least time of a step by the data sheet: an estimate, and a bound from below.

    The longer of products at their peak and memory at its bandwidth, then the exchanges at the
    links' bandwidth (a ring all-reduce sends its bytes twice), as if nothing overlapped and no
    message had a latency.
    """
    chip = target.chip
    compute = max(flops / chip.flops[dtype], bytes_moved / chip.bandwidth)
    share = (num_devices - 1) / num_devices
    sent = sum((2 if c.kind == "all-reduce" else 1) * share * c.num_bytes for c in exchanged)
    return compute + sent / target.link(num_devices)


def shapes(workload: Workload, num_devices: int) -> tuple[Any, Any, Any]:
    """The train step, and the shapes of its state and of its batch over all devices."""
    model = network_named(workload.network)
    inputs = _inputs(workload.network)
    scheme = build_scheme(workload.scheme)
    optimizer = optax.sgd(0.1, momentum=0.9)
    is_binary = model.num_outputs == 1
    loss_fn = losses.logistic if is_binary else losses.cross_entropy
    apply_fn = _in_bfloat16(model) if workload.dtype == "bfloat16" else model.apply
    step = weighting.make_train_step(apply_fn, loss_fn, scheme, optimizer)

    def start(key: jax.Array, examples: jax.Array) -> Any:
        params, model_state = model.init(key, examples)
        return weighting.init_train_state(key, params, scheme, optimizer, model_state=model_state)

    key, one = jax.eval_shape(lambda: jax.random.key(0)), _rows(1, inputs)
    state = jax.eval_shape(start, key, one)
    batch = _batch(workload.batch_size * num_devices, inputs)
    if parse_scheme(workload.scheme).needs_clean:
        clean = _batch(workload.clean_size * num_devices, inputs)._replace(indices=None)
        batch = batch._replace(clean=clean)
    return step, state, batch


def network_named(name: str) -> Model:
    """The network of that name: the transformer of this benchmark, or one of the laboratory's."""
    if name == "transformer":
        return transformer(NUM_CLASSES)
    return make_model(name, 1 if name == "ren2018_net" else NUM_CLASSES)


def build_scheme(text: str) -> weighting.Weighting:
    """A scheme of the command line, for a training set of CIFAR-10's size."""
    spec = parse_scheme(text)
    return spec.build(example_context(NUM_EXAMPLES, NUM_CLASSES), spec.values)


def without_mesh(step: Any) -> Any:
    """The step as if it were traced under no mesh, so that nothing is computed whole."""

    def apart(state: Any, batch: Any) -> Any:
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return step(state, batch)

    return apart


def _in_bfloat16(model: Model) -> Any:
    """Forward and backward in bfloat16; parameters, logits and statistics in float32."""

    def narrow(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, tree
        )

    def apply(params, model_state, inputs, *, train, key=None):
        output, model_state = model.apply(
            narrow(params), model_state, narrow(inputs), train=train, key=key
        )
        return ModelOutput(*(x.astype(jnp.float32) for x in output if x is not None)), model_state

    return apply


def _inputs(name: str) -> jax.ShapeDtypeStruct:
    """One example."""
    if name == "transformer":
        return jax.ShapeDtypeStruct((LENGTH,), jnp.int32)
    return jax.ShapeDtypeStruct(IMAGE_SHAPES.get(name, (32, 32, 3)), jnp.float32)


def _rows(count: int, one: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, *one.shape), one.dtype)


def _batch(count: int, inputs: jax.ShapeDtypeStruct) -> Batch:
    integers: Any = jax.ShapeDtypeStruct((count,), jnp.int32)
    return Batch(_rows(count, inputs), integers, indices=integers)
