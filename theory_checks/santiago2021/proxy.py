r"""LOW's proxy (santiago2021, Sec. 3.2): the logits' gradient for the gradient of all parameters.

With :math:`J_i = \partial z_i / \partial \theta` and :math:`g_i = \partial \ell_i / \partial z_i`
an example's gradient is :math:`J_i^\top g_i`, so that its norm is at most
:math:`\|J_i\|_2 \|g_i\|`. The proxy :math:`\|g_i\|` is good as far as the quotient of the two norms
is the same for all examples of a batch.

"ResNet" is a residual network of convolutions as in He et al. (CVPR 2016), tiny and without batch
norm, where examples would have no gradients of their own.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from flax import linen as nn
from jax import Array

from experiments.data import load
from experiments.networks.models import Model, make_model
from experiments.training.timing import interleave, paired_ratio
from theory_checks.records import Check, Plot, Row
from weighting import Batch, ModelOutput, Weighting, init_train_state, low, make_train_step, uniform
from weighting.gradient_norms import (
    last_layer_gradient_norms,
    logit_gradient_norms,
    per_example_gradient_norms,
)
from weighting.losses import cross_entropy

PyTree = Any

NETWORKS = {"MLP": "mlp:32", "LeNet-5": "lenet5", "ResNet": "resnet:2"}
TIMES = {"at the start": 0, "midway": 50, "at the end": 400}
SIZE = 128  # of the batch that is measured
BATCH_SIZE = 64  # of training
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
WORTHWHILE = 0.9  # rank correlation
MARGINAL = 0.01  # operations of LOW, as a share of a plain step's


class Norms(NamedTuple):
    """Squared gradient norms of one batch, [B]."""

    logits: Any  # the proxy
    last_layer: Any
    parameters: Any
    largest: Any  # largest eigenvalue of J_i J_i^T


def checks(preset: str) -> list[Check]:
    """All claims; without LeNet-5 and briefly for "smoke"."""
    if preset == "smoke":
        times = {"at the start": 0, "at the end": 60}
        networks = {"MLP": "mlp:32", "ResNet": "resnet:1"}
        return [proxy(networks=networks, times=times, num_seeds=3, num_timed=20)]
    return [proxy()]


class ResNet(nn.Module):
    """A convolution of stride two, residual blocks of two convolutions each, and a dense head."""

    num_outputs: int
    channels: int = 8
    num_blocks: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.channels, (3, 3), strides=2)(x)
        for _ in range(self.num_blocks):
            inner = nn.relu(nn.Conv(self.channels, (3, 3))(nn.relu(x)))
            x = x + nn.Conv(self.channels, (3, 3))(inner)
        x = nn.relu(x).reshape(x.shape[0], -1)
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(x), x)


def network(name: str) -> Model:
    """A model of `experiments` for ten classes, or `resnet:2`, of two blocks."""
    base, _, num_blocks = name.partition(":")
    if base != "resnet":
        return make_model(name, 10)
    module = ResNet(10, num_blocks=int(num_blocks))

    def apply(params, model_state, inputs, *, train, key=None):
        del train, key
        output: Any = module.apply({"params": params}, inputs)
        return output, model_state

    init = jax.jit(lambda key, inputs: (module.init(key, inputs)["params"], {}))
    return Model(init, apply, name, 10, has_convolutions=True)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, every pixel doubled: 16 x 16, the smallest that LeNet-5 reads."""
    data = load("digits").train
    images = np.repeat(np.repeat(data.inputs, 2, axis=1), 2, axis=2)
    return images.astype(np.float32) / 255, data.labels


def measure(model: Model, params: PyTree, inputs: Array, labels: Array) -> Norms:
    """All norms of a batch at fixed parameters."""

    def logits_fn(params: PyTree, example: Array) -> Array:
        return model.apply(params, {}, example[None], train=False)[0].logits[0]

    def example_loss_fn(params: PyTree, example: tuple[Array, Array]) -> Array:
        return cross_entropy(logits_fn(params, example[0])[None], example[1][None])[0]

    def largest(example: Array) -> Array:
        rows = jax.tree.leaves(jax.jacrev(logits_fn)(params, example))
        products = [row.reshape(len(row), -1) @ row.reshape(len(row), -1).T for row in rows]
        return jnp.linalg.eigvalsh(sum(products[1:], products[0]))[-1]

    output, _ = model.apply(params, {}, inputs, train=False)
    given = cross_entropy, output.logits, labels
    return Norms(
        logit_gradient_norms(*given),
        last_layer_gradient_norms(*given, jnp.asarray(output.features)),
        per_example_gradient_norms(example_loss_fn, params, (inputs, labels)),
        jax.lax.map(largest, inputs, batch_size=16),
    )


def compile_step(model: Model, weighting: Weighting) -> Any:
    """A training step on `BATCH_SIZE` digits, (state, batch) -> state, ahead of time."""
    inputs, labels = digits()
    step = make_train_step(model.apply, cross_entropy, weighting, OPTIMIZER)
    params, _ = model.init(jax.random.key(0), inputs[:1])
    state = init_train_state(jax.random.key(0), params, weighting, OPTIMIZER)
    batch = Batch(jnp.asarray(inputs[:BATCH_SIZE]), jnp.asarray(labels[:BATCH_SIZE]))
    return jax.jit(lambda state, batch: step(state, batch)[0]).lower(state, batch).compile()


def train_and_measure(
    model: Model, plain_step: Any, times: dict[str, int], num_seeds: int
) -> dict[str, list[Norms]]:
    """Trains on digits with uniform weights, and measures one fixed batch at the given steps."""
    inputs, labels = digits()
    measured = jax.jit(lambda params, x, y: measure(model, params, x, y))
    found: dict[str, list[Norms]] = {name: [] for name in times}
    for seed in range(num_seeds):
        rng = np.random.default_rng(seed)
        key = jax.random.key(seed)
        params, _ = model.init(key, inputs[:1])
        state = init_train_state(key, params, uniform(), OPTIMIZER)
        held = rng.permutation(len(labels))[:SIZE]
        for count in range(max(times.values()) + 1):
            for name in (name for name, at in times.items() if at == count):
                norms = measured(state.params, inputs[held], labels[held])
                found[name].append(Norms(*map(np.asarray, norms)))
            chosen = rng.integers(0, len(labels), BATCH_SIZE)
            batch = Batch(jnp.asarray(inputs[chosen]), jnp.asarray(labels[chosen]))
            state = plain_step(state, batch)
    return found


def overhead(model: Model, plain_step: Any, rounds: int) -> tuple[float, float, float]:
    """Operations of a step with LOW beyond a plain one's, relative; its time; a plain step's ms.

    The times of a round are taken in turn; the ratio is the median over rounds.
    """
    inputs, labels = digits()
    params, _ = model.init(jax.random.key(0), inputs[:1])
    batch = Batch(jnp.asarray(inputs[:BATCH_SIZE]), jnp.asarray(labels[:BATCH_SIZE]))
    steps = {"plain": plain_step, "LOW": compile_step(model, low(0.1))}
    plain, weighted = (float(step.cost_analysis()["flops"]) for step in steps.values())
    calls = {}
    for (name, step), scheme in zip(steps.items(), (uniform(), low(0.1)), strict=True):
        state = init_train_state(jax.random.key(0), params, scheme, OPTIMIZER)
        calls[name] = functools.partial(step, state, batch)
    seconds = interleave(calls, rounds=rounds, warm_up=2)
    ratio, *_ = paired_ratio(seconds["LOW"], seconds["plain"])
    return weighted / plain - 1, ratio, 1e3 * float(np.median(seconds["plain"]))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation."""
    result: Any = scipy.stats.spearmanr(one, other)
    return float(result.statistic)


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _spread(values: np.ndarray) -> float:
    low_end, high_end = np.quantile(values, [0.05, 0.95])
    return float(high_end / low_end)


def proxy(
    *,
    networks: dict[str, str] = NETWORKS,
    times: dict[str, int] = TIMES,
    num_seeds: int = 5,
    num_timed: int = 200,
) -> Check:
    """S-proxy: rank correlation of the proxy with the full norms, and the spread of the quotient.

    Args:
      networks: label -> name of a model.
      times: label -> number of training steps before measuring.
      num_seeds: runs of each network.
      num_timed: rounds of timing.
    """
    rng = np.random.default_rng(0)
    rows, control, curves = [], [], {}
    over, learned = -np.inf, 0
    for label, name in networks.items():
        model = network(name)
        plain_step = compile_step(model, uniform())
        found = train_and_measure(model, plain_step, times, num_seeds)
        for at, norms in found.items():
            # a gradient that is zero in float32 has no quotient
            positive = [norm.logits > 0 for norm in norms]
            learned += sum(int(np.sum(~kept)) for kept in positive)
            full, last, shuffled, spread, own_spread = [], [], [], [], []
            for norm, kept in zip(norms, positive, strict=True):
                full.append(correlation(norm.logits, norm.parameters))
                last.append(correlation(norm.last_layer, norm.parameters))
                shuffled.append(correlation(rng.permutation(norm.logits), norm.parameters))
                quotient = norm.parameters[kept] / norm.logits[kept]
                spread.append(_spread(np.sqrt(quotient)))
                own_spread.append(_spread(np.sqrt(norm.logits[kept])))
                over = max(over, float(np.max(quotient / norm.largest[kept] - 1)))
            mean, error = _mean_and_error(full)
            rows += [
                Row(f"{label} {at}: mean Spearman of proxy and full norm", mean),
                Row(f"{label} {at}: its standard error", error),
                Row(f"{label} {at}: mean Spearman of last layer's and full norm", _mean(last)),
                Row(f"{label} {at}: 95 % / 5 % quantile of |full| / |proxy|", _mean(spread)),
                Row(f"{label} {at}: the same of |proxy|", _mean(own_spread)),
            ]
            if at == "at the end":
                name = f"{label} {at}: {WORTHWHILE} + 4 s.e. above the mean"
                rows.append(Row(name, WORTHWHILE + 4 * error - mean, 0))
                mean, error = _mean_and_error(shuffled)
                name = f"{label} {at}, proxies shuffled: the same"
                control.append(Row(name, WORTHWHILE + 4 * error - mean, 0))
            order = np.argsort(norms[0].logits)
            curves[f"{label} {at}"] = (
                np.sqrt(norms[0].logits[order]).tolist(),
                np.sqrt(norms[0].parameters[order]).tolist(),
            )
        operations, ratio, plain = overhead(model, plain_step, num_timed)
        rows += [
            Row(
                f"{label}: operations of a step with LOW beyond a plain one's", operations, MARGINAL
            ),
            Row(f"{label}: time of a step with LOW over a plain one's", ratio),
            Row(f"{label}: ms of a plain step", plain),
        ]
    # sums over at most 2e4 parameters in float32
    rows.append(Row("|full| above |J| |proxy|, squared, relative", over, 1e-3))
    rows.append(Row("examples whose proxy is zero in float32", learned))
    return Check(
        "S-proxy",
        "trained, the norm of the logits' gradient ranks a batch as the full gradient's does",
        "TREND",
        tuple(rows),
        assumptions="scikit-learn's digits (at 16 x 16), cross-entropy, SGD with momentum; before "
        "training all norms are close to one another, and the ranks say little",
        control=tuple(control),
        plot=Plot(
            "norm of the logits' gradient",
            "norm of the full gradient",
            curves,
            "xy",
            joined=False,
        ),
    )
