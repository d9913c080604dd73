"""What the conformance suite needs: the table of schemes, a small network, batches, one update."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weighting
from weighting import Signals, linearize_losses, losses

BATCH, CLASSES, NUM_EXAMPLES, INPUTS = 12, 3, 40, 4
COUNTS = np.array([20, 15, 5])
SGD = optax.sgd(0.1)


class Row(NamedTuple):
    """What a scheme promises. See contract_test.py for the meaning of every field."""

    factory: Callable[[], weighting.Weighting]
    mean_one: bool = True
    copies: str = "exact"
    native: Callable[[], weighting.Weighting] | None = None
    reads: tuple[str, ...] = ()
    equal: str = "one"


def is_head(path):
    return "head" in jax.tree_util.keystr(path)


def chained(part):
    return weighting.chain(weighting.low(0.1), part)


SCHEMES = {
    "uniform": Row(weighting.uniform, native=weighting.uniform),
    "inverse_class_frequency": Row(
        lambda: weighting.inverse_class_frequency(COUNTS),
        mean_one=False,
        native=lambda: weighting.inverse_class_frequency(COUNTS),
        equal="same",
    ),
    "random": Row(weighting.random, copies="expectation", equal="no"),
    "focal": Row(
        lambda: weighting.focal(2.0),
        native=lambda: weighting.focal(2.0, normalize=False),
        reads=("logits",),
    ),
    "self_paced": Row(
        lambda: weighting.self_paced(2.0), native=lambda: weighting.self_paced(2.0, normalize=False)
    ),
    "hard_mining": Row(lambda: weighting.hard_mining(majority_class=0), copies="no", equal="no"),
    "top_losses": Row(lambda: weighting.top_losses(0.4), copies="no", equal="no"),
    "low": Row(lambda: weighting.low(0.1), reads=("logits",)),
    "low_osqp": Row(lambda: weighting.low(0.5, solver="osqp"), reads=("logits",)),
    "low_last_layer": Row(
        lambda: weighting.low(1.0, gradient="last_layer"), reads=("logits", "features")
    ),
    "low_parameters": Row(lambda: weighting.low(1.0, gradient="parameters")),
    "lookahead_reweight": Row(weighting.lookahead_reweight),
    "lookahead_kept": Row(lambda: weighting.lookahead_reweight(refresh_every=3)),
    "lookahead_head": Row(lambda: weighting.lookahead_reweight(select=is_head)),
    "lookahead_unrolled": Row(
        lambda: weighting.lookahead_reweight(mode="unrolled", optimizer=SGD, num_steps=2)
    ),
    "normalize_mean": Row(weighting.normalize_mean),
    "clip": Row(lambda: weighting.clip(0.2, 3.0), native=lambda: weighting.clip(0.2, 3.0)),
    "temper": Row(lambda: chained(weighting.temper(0.5)), reads=("logits",)),
    "mix_with_uniform": Row(lambda: chained(weighting.mix_with_uniform(0.3)), reads=("logits",)),
    "ema": Row(
        lambda: chained(weighting.ema(0.9, NUM_EXAMPLES)),
        mean_one=False,
        reads=("logits",),
        equal="same",
    ),
    "warm_up": Row(lambda: chained(weighting.warm_up(5)), reads=("logits",)),
    "fade_in": Row(
        lambda: chained(weighting.fade_in(lambda step: step / (1.0 + step))), reads=("logits",)
    ),
    "scheduled": Row(
        lambda: weighting.scheduled(weighting.low, regularization=lambda step: 1.0 / (1 + step)),
        reads=("logits",),
    ),
    "chain": Row(
        lambda: weighting.chain(weighting.focal(1.0), weighting.low(0.2)),
        mean_one=False,
        reads=("logits",),
    ),
}

# name -> (factory of one number, two values that give different weights)
HYPERPARAMETERS = {
    "focal": (weighting.focal, 0.5, 3.0),
    "self_paced": (weighting.self_paced, 0.8, 3.0),
    "top_losses": (weighting.top_losses, 0.2, 0.9),
    "low": (weighting.low, 0.05, 2.0),
    "low_osqp": (lambda r: weighting.low(r, solver="osqp"), 0.5, 2.0),
    "clip": (lambda high: chained(weighting.clip(0.0, high)), 0.5, 2.0),
    "temper": (lambda power: chained(weighting.temper(power)), 0.0, 2.0),
    "mix_with_uniform": (lambda f: chained(weighting.mix_with_uniform(f)), 0.1, 0.9),
}

PARAMS = {
    "body": jax.random.normal(jax.random.key(1), (INPUTS, 6)),
    "head": jax.random.normal(jax.random.key(2), (6, CLASSES)),
}


def make_batch(seed=0, size=BATCH):
    """Inputs, labels, indices without repetition, and a mask of ones; NumPy arrays."""
    generator = np.random.default_rng(seed)
    return {
        "inputs": generator.normal(size=(size, INPUTS)).astype(np.float32),
        "labels": generator.integers(0, CLASSES, size).astype(np.int32),
        "indices": generator.permutation(NUM_EXAMPLES)[:size].astype(np.int32),
        "mask": np.ones(size, np.float32),
    }


CLEAN = make_batch(99)


def forward(params, inputs):
    features = jnp.tanh(inputs @ params["body"])
    return features @ params["head"], features


def run(scheme, state, batch, params=PARAMS):
    """One update on a batch of a two-layer network, with every extra that `make_train_step` gives.

    The parameters' type is the network's: float32 or bfloat16.
    """
    dtype = params["head"].dtype
    inputs, clean_inputs = (jnp.asarray(x, dtype) for x in (batch["inputs"], CLEAN["inputs"]))

    def losses_and_aux(p):
        logits, features = forward(p, inputs)
        return losses.cross_entropy(logits, batch["labels"]), (logits, features)

    def example_loss_fn(p, example):
        logits, _ = forward(p, example[0][None])
        return losses.cross_entropy(logits, jnp.asarray(example[1])[None])[0]

    lin = linearize_losses(losses_and_aux, params, has_aux=True)
    logits, features = lin.aux
    signals = Signals(
        lin.values, logits, batch["labels"], features, batch["indices"], batch["mask"]
    )
    return scheme.update(
        jnp.asarray(batch["mask"], dtype),
        state,
        signals,
        linearized=lin,
        params=params,
        losses_fn=lambda p: losses_and_aux(p)[0],
        loss_fn=losses.cross_entropy,
        clean_loss_fn=lambda p: jnp.mean(
            losses.cross_entropy(forward(p, clean_inputs)[0], CLEAN["labels"])
        ),
        example_loss_fn=example_loss_fn,
        examples=(inputs, batch["labels"]),
        something_a_later_version_adds=None,
    )


class Subject(NamedTuple):
    """A scheme under test: fresh state, a state after three batches, a compiled update."""

    name: str
    row: Row
    scheme: weighting.Weighting
    fresh: object
    used: object
    update: Callable  # (state, batch, params=PARAMS) -> (weights, state)


@functools.cache
def subject(name):
    row = SCHEMES[name]
    scheme = row.factory()
    compiled = jax.jit(lambda state, batch, params: run(scheme, state, batch, params))

    def update(state, batch, params=PARAMS):
        return compiled(state, batch, params)

    fresh = used = scheme.init(jax.random.key(3), PARAMS)
    for seed in (11, 12, 13):
        _, used = update(used, make_batch(seed))
    return Subject(name, row, scheme, fresh, used, update)
