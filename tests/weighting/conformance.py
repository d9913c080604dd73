"""What the conformance suite needs: the table of schemes, a small network, batches, one update."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
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
VALUES = np.array([1.0, 2.0, 5.0])
TRANSITION = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.1, 0.2, 0.7]])
PRIORS = np.array([0.5, 0.3, 0.2])
GROUPS = np.arange(NUM_EXAMPLES) % 2
DIFFICULTY = np.random.default_rng(0).permutation(NUM_EXAMPLES) / 7
MENTOR = weighting.init_mentor(jax.random.key(7), num_classes=CLASSES)
PROPENSITIES = np.linspace(0.1, 1.0, NUM_EXAMPLES)


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
    "lookahead": Row(weighting.lookahead),
    "lookahead_kept": Row(lambda: weighting.lookahead(refresh_every=3)),
    "lookahead_head": Row(lambda: weighting.lookahead(select=is_head)),
    "lookahead_unrolled": Row(lambda: weighting.lookahead_unrolled(SGD, num_steps=2)),
    "class_weights": Row(
        lambda: weighting.class_weights(VALUES, COUNTS),
        mean_one=False,
        native=lambda: weighting.class_weights(VALUES, COUNTS),
        equal="same",
    ),
    "effective_number": Row(
        lambda: weighting.effective_number(COUNTS, 0.9),
        mean_one=False,
        native=lambda: weighting.effective_number(COUNTS, 0.9),
        equal="same",
    ),
    "class_power": Row(
        lambda: weighting.class_power(COUNTS, 0.5),
        mean_one=False,
        native=lambda: weighting.class_power(COUNTS, 0.5),
        equal="same",
    ),
    "oracle_noise": Row(
        lambda: weighting.oracle_noise(TRANSITION, PRIORS),
        native=lambda: weighting.oracle_noise(TRANSITION, PRIORS, normalize=False),
    ),
    "small_losses": Row(lambda: weighting.small_losses(0.6), copies="no", equal="no"),
    "superloss": Row(lambda: weighting.superloss(1.0), reads=("losses",)),
    "superloss_threshold": Row(
        lambda: weighting.superloss(0.5, 1.0),
        native=lambda: weighting.superloss(0.5, 1.0, normalize=False),
        reads=("losses",),
    ),
    "gradient_harmonized": Row(lambda: weighting.gradient_harmonized(10)),
    "curriculum": Row(
        lambda: weighting.curriculum(DIFFICULTY, 20),
        native=lambda: weighting.curriculum(DIFFICULTY, 20, normalize=False),
    ),
    "mentornet_curriculum": Row(lambda: weighting.mentornet_curriculum(0.6)),
    "mentornet_ramp": Row(lambda: weighting.mentornet_curriculum(0.6, 2.0), reads=("losses",)),
    "paced_self_paced": Row(lambda: weighting.paced_self_paced(2)),
    "cvar": Row(lambda: weighting.cvar(0.3)),
    "tilted": Row(lambda: weighting.tilted(1.0), reads=("losses",)),
    "chi_square_dro": Row(lambda: weighting.chi_square_dro(0.5), reads=("losses",)),
    "group_dro": Row(lambda: weighting.group_dro(CLASSES, 0.1), reads=("losses",)),
    "group_dro_groups": Row(lambda: weighting.group_dro(2, 0.1, groups=GROUPS), reads=("losses",)),
    "per_example": Row(
        lambda: weighting.per_example(jnp.linspace(0.0, 3.0, NUM_EXAMPLES)),
        mean_one=False,
        native=lambda: weighting.per_example(jnp.linspace(0.0, 3.0, NUM_EXAMPLES)),
        equal="same",
    ),
    "inverse_propensity": Row(
        lambda: weighting.inverse_propensity(PROPENSITIES),
        native=lambda: weighting.inverse_propensity(PROPENSITIES, normalize=False),
    ),
    "exponential_margin": Row(weighting.exponential_margin, reads=("logits",)),
    "exponential_margin_bounded": Row(lambda: weighting.exponential_margin(3.0), reads=("logits",)),
    "inverse_margin": Row(
        weighting.inverse_margin,
        native=lambda: weighting.inverse_margin(normalize=False),
        reads=("logits",),
    ),
    "record_history": Row(
        lambda: weighting.record_history(NUM_EXAMPLES),
        native=lambda: weighting.record_history(NUM_EXAMPLES),
    ),
    "active_bias": Row(lambda: weighting.active_bias(NUM_EXAMPLES)),
    "active_bias_threshold": Row(lambda: weighting.active_bias(NUM_EXAMPLES, form="threshold")),
    "loss_rank": Row(lambda: weighting.loss_rank(NUM_EXAMPLES)),
    "infobatch": Row(
        lambda: weighting.infobatch(NUM_EXAMPLES, 100),
        mean_one=False,
        native=lambda: weighting.infobatch(NUM_EXAMPLES, 100),
    ),
    "importance_sampling": Row(
        lambda: weighting.importance_sampling(4, threshold=-1.0),
        mean_one=False,
        copies="expectation",
        equal="no",
    ),
    "importance_sampling_loss": Row(
        lambda: weighting.importance_sampling(4, scores="loss", threshold=-1.0),
        mean_one=False,
        copies="expectation",
        equal="no",
    ),
    "meta_weight_net": Row(weighting.meta_weight_net),
    "cmw_net": Row(lambda: weighting.cmw_net(COUNTS)),
    "joint_weighting": Row(
        lambda: weighting.joint_weighting(INPUTS),
        mean_one=False,
        native=lambda: weighting.joint_weighting(INPUTS),
        equal="same",
    ),
    "joint_weighting_features": Row(
        lambda: weighting.joint_weighting(6, source="features", start="normal"),
        mean_one=False,
        native=lambda: weighting.joint_weighting(6, source="features", start="normal"),
        reads=("features",),
        equal="same",
    ),
    "mentornet": Row(
        lambda: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, history_length=3, burn_in=0.0),
        reads=("losses",),
    ),
    "mentornet_burn_in": Row(
        lambda: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, burn_in=1.0, burn_in_dropout=0.4)
    ),
    "batch_alignment": Row(lambda: weighting.batch_alignment(1.0)),
    "gradient_alignment": Row(lambda: weighting.gradient_alignment(0.5), copies="no", equal="no"),
    "gradient_alignment_parameters": Row(
        lambda: weighting.gradient_alignment(0.5, gradient="parameters"), copies="no", equal="no"
    ),
    "rho_loss": Row(
        lambda: weighting.rho_loss(jnp.linspace(0, 1, NUM_EXAMPLES), 0.4), copies="no", equal="no"
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
    "deferred": Row(lambda: chained(weighting.deferred(1)), reads=("logits",)),
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

# The scheme that docs/new_scheme.md shows: its file, and its row.
_PAGE = (Path(__file__).parents[2] / "docs" / "new_scheme.md").read_text()
_FILE, _ROW = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
_names = {"Row": Row}
exec(compile(_FILE, "docs/new_scheme.md", "exec"), _names)
SCHEMES |= eval(_ROW, _names)

# name -> (factory of one number, two values that give different weights)
HYPERPARAMETERS = {
    "focal": (weighting.focal, 0.5, 3.0),
    "self_paced": (weighting.self_paced, 0.8, 3.0),
    "top_losses": (weighting.top_losses, 0.2, 0.9),
    "low": (weighting.low, 0.05, 2.0),
    "low_osqp": (lambda r: weighting.low(r, solver="osqp"), 0.5, 2.0),
    "effective_number": (lambda b: weighting.effective_number(COUNTS, b), 0.0, 0.99),
    "class_power": (lambda r: weighting.class_power(COUNTS, r), 0.0, 1.5),
    "small_losses": (weighting.small_losses, 0.2, 0.9),
    "superloss": (weighting.superloss, 0.25, 2.0),
    "superloss_threshold": (lambda t: weighting.superloss(1.0, t), 0.5, 2.0),
    "gradient_harmonized": (lambda d: weighting.gradient_harmonized(10, decay=d), 0.1, 0.9),
    "curriculum": (lambda f: weighting.curriculum(DIFFICULTY, 20, f), 0.1, 0.9),
    "mentornet_curriculum": (weighting.mentornet_curriculum, 0.2, 0.9),
    "mentornet_ramp": (lambda r: weighting.mentornet_curriculum(0.5, r), 0.0, 2.0),
    "paced_self_paced": (lambda q: weighting.paced_self_paced(1, 1.1, q), 0.2, 0.9),
    "cvar": (weighting.cvar, 0.1, 0.7),
    "tilted": (weighting.tilted, -1.0, 2.0),
    "chi_square_dro": (weighting.chi_square_dro, 0.05, 2.0),
    "group_dro": (lambda e: weighting.group_dro(CLASSES, e), 0.0, 2.0),
    "exponential_margin": (weighting.exponential_margin, 1.5, 4.0),
    "inverse_margin": (weighting.inverse_margin, 1.5, 4.0),
    "loss_rank": (lambda s: weighting.loss_rank(NUM_EXAMPLES, s), 2.0, 100.0),
    "importance_sampling": (lambda t: weighting.importance_sampling(4, threshold=t), -1.0, 5.0),
    "inverse_propensity": (lambda f: weighting.inverse_propensity(PROPENSITIES, floor=f), 0.0, 0.9),
    "meta_weight_net": (
        lambda r: weighting.meta_weight_net(r, optimizer=optax.sgd(10.0)),
        0.1,
        5.0,
    ),
    "joint_weighting": (lambda high: weighting.joint_weighting(INPUTS, high=high), 1.5, 3.0),
    "mentornet": (
        lambda q: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, quantile=q, burn_in=0.0),
        0.1,
        0.9,
    ),
    "batch_alignment": (weighting.batch_alignment, 0.1, 2.0),
    "gradient_alignment": (weighting.gradient_alignment, 0.2, 0.9),
    "rho_loss": (lambda f: weighting.rho_loss(jnp.linspace(0, 1, NUM_EXAMPLES), f), 0.2, 0.9),
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
