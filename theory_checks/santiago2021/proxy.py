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
from flax import linen as nn
from jax import Array

from experiments.data import load
from experiments.networks.models import Model, make_model
from experiments.training.timing import interleave, paired_ratio
from theory_checks.common.ensembles import rank_correlation
from theory_checks.records import Check, Measured, Plot
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


class NormComparison(NamedTuple):
    """How the norms of one batch compare."""

    full: float  # Spearman's rank correlation of the proxy with the norm by all parameters
    last: float  # of the norm by the last layer
    shuffled: float  # of the proxies in random order
    spread: float  # 95 % over 5 % quantile of the quotient |full| / |proxy|
    own_spread: float  # of the proxy
    excess: float  # of |full| over |J| |proxy|, squared and relative
    learned: int  # examples whose proxy is zero


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


def _network(name: str) -> Model:
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


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, every pixel doubled: 16 x 16, the smallest that LeNet-5 reads."""
    data = load("digits").train
    images = np.repeat(np.repeat(data.inputs, 2, axis=1), 2, axis=2)
    return images.astype(np.float32) / 255, data.labels


def _measure(model: Model, params: PyTree, inputs: Array, labels: Array) -> Norms:
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


def _compile_step(model: Model, weighting: Weighting) -> Any:
    """A training step on `BATCH_SIZE` digits, (state, batch) -> state, ahead of time."""
    inputs, labels = _digits()
    step = make_train_step(model.apply, cross_entropy, weighting, OPTIMIZER)
    params, _ = model.init(jax.random.key(0), inputs[:1])
    state = init_train_state(jax.random.key(0), params, weighting, OPTIMIZER)
    batch = Batch(jnp.asarray(inputs[:BATCH_SIZE]), jnp.asarray(labels[:BATCH_SIZE]))
    return jax.jit(lambda state, batch: step(state, batch)[0]).lower(state, batch).compile()


def _train_and_measure(
    model: Model, plain_step: Any, times: dict[str, int], num_seeds: int
) -> dict[str, list[Norms]]:
    """Trains on digits with uniform weights, and measures one fixed batch at the given steps."""
    inputs, labels = _digits()
    measured = jax.jit(lambda params, x, y: _measure(model, params, x, y))
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


def _overhead(model: Model, plain_step: Any, rounds: int) -> tuple[float, float, float]:
    """Operations of a step with LOW beyond a plain one's, relative; its time; a plain step's ms.

    The times of a round are taken in turn; the ratio is the median over rounds.
    """
    inputs, labels = _digits()
    params, _ = model.init(jax.random.key(0), inputs[:1])
    batch = Batch(jnp.asarray(inputs[:BATCH_SIZE]), jnp.asarray(labels[:BATCH_SIZE]))
    steps = {"plain": plain_step, "LOW": _compile_step(model, low(0.1))}
    plain, weighted = (float(step.cost_analysis()["flops"]) for step in steps.values())
    calls = {}
    for (name, step), scheme in zip(steps.items(), (uniform(), low(0.1)), strict=True):
        state = init_train_state(jax.random.key(0), params, scheme, OPTIMIZER)
        calls[name] = functools.partial(step, state, batch)
    seconds = interleave(calls, rounds=rounds, warm_up=2)
    ratio, *_ = paired_ratio(seconds["LOW"], seconds["plain"])
    return weighted / plain - 1, ratio, 1e3 * float(np.median(seconds["plain"]))


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
    rows, control, curves, excess, learned = [], [], {}, [], 0
    for label, name in networks.items():
        model = _network(name)
        plain_step = _compile_step(model, uniform())
        found = _train_and_measure(model, plain_step, times, num_seeds)
        for at, norms in found.items():
            title = f"{label} {at}"
            compared = [_compare(rng, norm) for norm in norms]
            rows += _comparison_rows(title, compared)
            if at == "at the end":
                end_row, shuffled_row = _end_rows(title, compared)
                rows.append(end_row)
                control.append(shuffled_row)
            excess += [one.excess for one in compared]
            learned += sum(one.learned for one in compared)
            order = np.argsort(norms[0].logits)
            curves[title] = (
                np.sqrt(norms[0].logits[order]).tolist(),
                np.sqrt(norms[0].parameters[order]).tolist(),
            )
        rows += _overhead_rows(label, *_overhead(model, plain_step, num_timed))
    # sums over at most 2e4 parameters in float32
    rows.append(Measured("|full| above |J| |proxy|, squared, relative", max(excess), 1e-3))
    rows.append(Measured("examples whose proxy is zero in float32", learned))
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


def _compare(rng: np.random.Generator, norms: Norms) -> NormComparison:
    # a gradient that is zero in float32 has no quotient
    kept = norms.logits > 0
    quotient = norms.parameters[kept] / norms.logits[kept]
    return NormComparison(
        rank_correlation(norms.logits, norms.parameters),
        rank_correlation(norms.last_layer, norms.parameters),
        rank_correlation(rng.permutation(norms.logits), norms.parameters),
        _spread(np.sqrt(quotient)),
        _spread(np.sqrt(norms.logits[kept])),
        float(np.max(quotient / norms.largest[kept] - 1)),
        int(np.sum(~kept)),
    )


def _comparison_rows(title: str, compared: list[NormComparison]) -> tuple[Measured, ...]:
    """Means over seeds."""
    mean, error = _mean_and_error([one.full for one in compared])
    last, _ = _mean_and_error([one.last for one in compared])
    spread, _ = _mean_and_error([one.spread for one in compared])
    own_spread, _ = _mean_and_error([one.own_spread for one in compared])
    return (
        Measured(f"{title}: mean Spearman of proxy and full norm", mean),
        Measured(f"{title}: its standard error", error),
        Measured(f"{title}: mean Spearman of last layer's and full norm", last),
        Measured(f"{title}: 95 % / 5 % quantile of |full| / |proxy|", spread),
        Measured(f"{title}: the same of |proxy|", own_spread),
    )


def _end_rows(title: str, compared: list[NormComparison]) -> tuple[Measured, Measured]:
    """How far the mean rank correlation is below what is worthwhile; of shuffled proxies too."""
    mean, error = _mean_and_error([one.full for one in compared])
    shuffled, shuffled_error = _mean_and_error([one.shuffled for one in compared])
    return (
        Measured(
            f"{title}: {WORTHWHILE} + 4 s.e. above the mean", WORTHWHILE + 4 * error - mean, 0
        ),
        Measured(
            f"{title}, proxies shuffled: the same", WORTHWHILE + 4 * shuffled_error - shuffled, 0
        ),
    )


def _overhead_rows(
    label: str, operations: float, ratio: float, plain: float
) -> tuple[Measured, ...]:
    return (
        Measured(
            f"{label}: operations of a step with LOW beyond a plain one's", operations, MARGINAL
        ),
        Measured(f"{label}: time of a step with LOW over a plain one's", ratio),
        Measured(f"{label}: ms of a plain step", plain),
    )


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _spread(values: np.ndarray) -> float:
    low_end, high_end = np.quantile(values, [0.05, 0.95])
    return float(high_end / low_end)
