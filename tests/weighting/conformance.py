"""What the conformance suite needs: the table of schemes, a small network, batches, one update."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import weighting
from experiments.methods.context import Context
from experiments.methods.specifications import parse_scheme
from weighting import Signals, linearize_losses, losses

BATCH, CLASSES, NUM_EXAMPLES, INPUTS = 12, 3, 40, 4
COUNTS = np.array([20, 15, 5])
VALUES = np.array([1.0, 2.0, 5.0])
TRANSITION = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.1, 0.2, 0.7]])
PRIORS = np.array([0.5, 0.3, 0.2])
GROUPS = np.arange(NUM_EXAMPLES) % 2
DIFFICULTY = np.random.default_rng(0).permutation(NUM_EXAMPLES) / 7
MENTOR = weighting.init_mentor(jax.random.key(7), num_classes=CLASSES)
PROPENSITIES = np.linspace(0.1, 1.0, NUM_EXAMPLES)
CONTEXT = Context(
    class_counts=jnp.asarray(COUNTS),
    num_examples=NUM_EXAMPLES,
    num_steps=100,
    steps_per_epoch=2.0,
    input_size=INPUTS,
    references={
        "is_corrupted": jnp.asarray(GROUPS),
        "transition": jnp.asarray(TRANSITION),
        "errors": jnp.asarray(GROUPS),
        "margins": jnp.linspace(-1.0, 4.0, NUM_EXAMPLES),
        "clean_losses": jnp.linspace(0.0, 1.0, NUM_EXAMPLES),
        "difficulty": jnp.asarray(DIFFICULTY),
        "size_clusters": jnp.array([2, 1, 0]),
        "mentor": MENTOR,
    },
)


class Row(NamedTuple):
    """What a scheme promises. See contract_test.py for the meaning of every field."""

    factory: Callable[[], weighting.Weighting] | None = None
    mean_one: bool | None = None
    copies: str = "exact"
    native: Callable[[], weighting.Weighting] | str | None = None
    reads: tuple[str, ...] = ()
    equal: str = "one"
    varies: tuple[str, float, float] | None = None
    uniform_at: str | None = None


def make(text):
    """The scheme that the command line knows by this text."""
    spec = parse_scheme(text)
    return spec.build(CONTEXT, spec.values)


def chained(part):
    return weighting.chain(weighting.low(0.1), part)


# name, as on the command line -> what it promises; further names are schemes made in Python
SCHEMES = {
    "uniform": Row(native="itself"),
    "inverse_class_frequency": Row(native="itself", equal="same"),
    "random": Row(copies="expectation", equal="no"),
    "focal": Row(
        native=lambda: weighting.focal(2.0, normalize=False),
        reads=("logits",),
        varies=("gamma", 0.5, 3.0),
        uniform_at="focal:0",
    ),
    "self_paced:2": Row(
        native=lambda: weighting.self_paced(2.0, normalize=False),
        varies=("threshold", 0.8, 3.0),
        uniform_at="self_paced:1e30",
    ),
    "hard_mining": Row(copies="no", equal="no"),
    "top_losses:0.4": Row(
        copies="no", equal="no", varies=("fraction", 0.2, 0.9), uniform_at="top_losses:1"
    ),
    "low": Row(reads=("logits",), varies=("regularization", 0.05, 2.0), uniform_at="low:1e8"),
    "low:0.5:solver=osqp": Row(reads=("logits",), varies=("regularization", 0.5, 2.0)),
    "low:1:gradient=last_layer": Row(reads=("logits", "features")),
    "low:1:gradient=parameters": Row(),
    # the released scale depends on the size of the batch
    "low:1e-3:gradient_scale=batch_mean": Row(reads=("logits",), copies="no"),
    "lookahead": Row(),
    "lookahead:refresh_every=3": Row(),
    "lookahead:select=head": Row(),
    "lookahead_unrolled:num_steps=2": Row(),
    "class_weights": Row(
        lambda: weighting.class_weights(VALUES, COUNTS),
        mean_one=False,
        native="itself",
        equal="same",
    ),
    "effective_number:0.9": Row(
        native="itself",
        equal="same",
        varies=("beta", 0.0, 0.99),
        uniform_at="effective_number:0",
    ),
    "class_power": Row(
        native="itself", equal="same", varies=("rho", 0.0, 1.5), uniform_at="class_power:0"
    ),
    "oracle_noise": Row(),
    "oracle_noise, priors": Row(
        lambda: weighting.oracle_noise(TRANSITION, PRIORS),
        mean_one=True,
        native=lambda: weighting.oracle_noise(TRANSITION, PRIORS, normalize=False),
    ),
    "small_losses:0.4:0.1": Row(
        copies="no", equal="no", varies=("noise_rate", 0.1, 0.8), uniform_at="small_losses:0"
    ),
    "superloss": Row(
        reads=("losses",), varies=("regularization", 0.25, 2.0), uniform_at="superloss:1e8"
    ),
    "superloss, fixed threshold": Row(
        lambda: weighting.superloss(0.5, 1.0),
        mean_one=True,
        native=lambda: weighting.superloss(0.5, 1.0, normalize=False),
        reads=("losses",),
    ),
    "gradient_harmonized:10": Row(varies=("decay", 0.1, 0.9)),
    "gradient_harmonized:10:empty_bins=keep": Row(varies=("decay", 0.1, 0.9)),
    "curriculum:0.2": Row(
        native=lambda: weighting.curriculum(DIFFICULTY, 20, normalize=False),
        varies=("initial_fraction", 0.1, 0.9),
        uniform_at="curriculum:0.2:1",
    ),
    "mentornet_curriculum:0.6": Row(varies=("quantile", 0.2, 0.9)),
    "mentornet_curriculum:0.6:2": Row(reads=("losses",), varies=("ramp", 0.0, 2.0)),
    "paced_self_paced": Row(),
    "cvar:0.3": Row(varies=("alpha", 0.1, 0.7), uniform_at="cvar:1"),
    "tilted": Row(reads=("losses",), varies=("tilt", -1.0, 2.0), uniform_at="tilted:0"),
    "chi_square_dro:0.5": Row(
        reads=("losses",), varies=("regularization", 0.05, 2.0), uniform_at="chi_square_dro:1e8"
    ),
    "group_dro:0.1": Row(reads=("losses",), varies=("step_size", 0.0, 2.0)),
    "group_dro, groups": Row(
        lambda: weighting.group_dro(2, 0.1, groups=GROUPS), mean_one=True, reads=("losses",)
    ),
    "per_example": Row(
        lambda: weighting.per_example(jnp.linspace(0.0, 3.0, NUM_EXAMPLES)),
        mean_one=False,
        native="itself",
        equal="same",
    ),
    "difficulty_weights": Row(native="itself", equal="same", varies=("strength", -1.0, 2.0)),
    "jtt_weights": Row(
        native="itself", equal="same", varies=("upweight", 2.0, 9.0), uniform_at="jtt_weights:1"
    ),
    "inverse_margin_weights": Row(native="itself", equal="same", varies=("bound", 2.0, 9.0)),
    "small_margin_weights": Row(
        native="itself",
        equal="same",
        varies=("value", 2.0, 9.0),
        uniform_at="small_margin_weights:0.1:1",
    ),
    "known_examples_weights": Row(
        native="itself",
        equal="same",
        varies=("value", 0.0, 3.0),
        uniform_at="known_examples_weights:1",
    ),
    "inverse_propensity": Row(
        lambda: weighting.inverse_propensity(PROPENSITIES),
        mean_one=True,
        native=lambda: weighting.inverse_propensity(PROPENSITIES, normalize=False),
    ),
    "exponential_margin, unbounded": Row(
        weighting.exponential_margin, mean_one=True, reads=("logits",)
    ),
    "exponential_margin:3": Row(
        reads=("logits",), varies=("bound", 1.5, 4.0), uniform_at="exponential_margin:1"
    ),
    "inverse_margin": Row(
        native=lambda: weighting.inverse_margin(normalize=False),
        reads=("logits",),
        varies=("bound", 1.5, 4.0),
        uniform_at="inverse_margin:1",
    ),
    "record_history": Row(native="itself"),
    "active_bias": Row(uniform_at="active_bias:1e8"),
    "active_bias:form=threshold": Row(),
    "loss_rank": Row(varies=("pressure", 2.0, 100.0), uniform_at="loss_rank:1"),
    "infobatch": Row(native="itself", uniform_at="infobatch:0"),
    "importance_sampling:4:-1": Row(
        copies="expectation",
        equal="no",
        varies=("threshold", -1.0, 5.0),
        uniform_at="importance_sampling:4:inf",
    ),
    "importance_sampling, by loss": Row(
        lambda: weighting.importance_sampling(4, scores="loss", threshold=-1.0),
        mean_one=False,
        copies="expectation",
        equal="no",
    ),
    "meta_weight_net": Row(),
    "cmw_net": Row(),
    "joint_weighting": Row(native="itself", equal="same", varies=("high", 1.5, 3.0)),
    "joint_weighting, features": Row(
        lambda: weighting.joint_weighting(6, source="features", start="normal"),
        mean_one=False,
        native="itself",
        reads=("features",),
        equal="same",
    ),
    "mentornet": Row(
        lambda: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, history_length=3, burn_in=0.0),
        reads=("losses",),
    ),
    "mentornet, burn-in": Row(
        lambda: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, burn_in=1.0, burn_in_dropout=0.4),
        mean_one=True,
    ),
    "batch_alignment": Row(varies=("regularization", 0.1, 2.0), uniform_at="batch_alignment:1e8"),
    "gradient_alignment": Row(
        copies="no", equal="no", varies=("fraction", 0.2, 0.9), uniform_at="gradient_alignment:1"
    ),
    "gradient_alignment, parameters": Row(
        lambda: weighting.gradient_alignment(0.5, gradient="parameters"),
        mean_one=True,
        copies="no",
        equal="no",
    ),
    "rho_loss:0.4": Row(copies="no", equal="no", varies=("fraction", 0.2, 0.9)),
    "normalize_mean": Row(),
    "clip:0.2:3": Row(mean_one=True, native="itself"),
    "low+clip:0:5": Row(mean_one=False, reads=("logits",), varies=("high", 0.5, 2.0)),
    "low+temper": Row(reads=("logits",), varies=("power", 0.0, 2.0), uniform_at="focal:3+temper:0"),
    "low+mix_with_uniform:0.3": Row(
        reads=("logits",),
        varies=("fraction", 0.1, 0.9),
        uniform_at="low:0.1+mix_with_uniform:1",
    ),
    "low+ema": Row(mean_one=False, reads=("logits",), equal="same"),
    "low+deferred:0.01": Row(reads=("logits",)),
    "low+warm_up:5": Row(reads=("logits",)),
    "fade_in": Row(
        lambda: chained(weighting.fade_in(lambda step: step / (1.0 + step))),
        mean_one=True,
        reads=("logits",),
    ),
    "scheduled": Row(
        lambda: weighting.scheduled(weighting.low, regularization=lambda step: 1.0 / (1 + step)),
        mean_one=True,
        reads=("logits",),
    ),
    "focal:1+low:0.2": Row(mean_one=False, reads=("logits",)),
}


def factory_of(name):
    """The row's own factory, or the command line's."""
    return SCHEMES[name].factory or (lambda: make(name))


def native_factory(name):
    """The factory of the scheme whose weights do not depend on the rest of the batch."""
    native = SCHEMES[name].native
    return factory_of(name) if native == "itself" else native


def is_mean_one(name):
    """What the row declares, or the scales of the records."""
    declared = SCHEMES[name].mean_one
    if declared is not None:
        return declared
    scales = [record.scale for record in parse_scheme(name).records]
    return set(scales) <= {"mean one", "unchanged"}


def varied(name, parameter):
    """The scheme as a factory of one of its numbers."""
    spec = parse_scheme(name)
    names = [key for term in spec.fixed for key, fixed in term.numbers if fixed is None]
    index = names.index(parameter)

    def factory(value):
        return spec.build(CONTEXT, [*spec.values[:index], value, *spec.values[index + 1 :]])

    return factory


# name -> (factory of one number, two values that give different weights)
HYPERPARAMETERS = {
    name: (varied(name, row.varies[0]), *row.varies[1:])
    for name, row in SCHEMES.items()
    if row.varies
} | {
    "superloss, fixed threshold": (lambda t: weighting.superloss(1.0, t), 0.5, 2.0),
    "paced_self_paced": (lambda q: weighting.paced_self_paced(1, 1.1, q), 0.2, 0.9),
    "inverse_propensity": (lambda f: weighting.inverse_propensity(PROPENSITIES, floor=f), 0.0, 0.9),
    "meta_weight_net": (
        lambda r: weighting.meta_weight_net(r, optimizer=optax.sgd(10.0)),
        0.1,
        5.0,
    ),
    "mentornet": (
        lambda q: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, quantile=q, burn_in=0.0),
        0.1,
        0.9,
    ),
}

# Each of these is uniform at the limit of its hyperparameter, on any batch and after any history.
UNIFORM_LIMITS = {
    name: functools.partial(make, row.uniform_at) for name, row in SCHEMES.items() if row.uniform_at
} | {
    "joint_weighting": lambda: weighting.joint_weighting(INPUTS, low=1.0, high=1.0 + 1e-6),
    "mentornet": lambda: weighting.mentornet(MENTOR, NUM_EXAMPLES, 10, burn_in=1.0),
    "mentornet_curriculum": lambda: weighting.mentornet_curriculum(1.0, decay=0.0),
    "rho_loss": lambda: weighting.rho_loss(jnp.zeros(NUM_EXAMPLES), 1.0),
}

PARAMS = {
    "body": jax.random.normal(jax.random.key(1), (INPUTS, 6)),
    "head": jax.random.normal(jax.random.key(2), (6, CLASSES)),
}


def make_batch(seed=0, size=BATCH):
    """Inputs, labels, indices without repetition, mask and weights of ones; NumPy arrays."""
    generator = np.random.default_rng(seed)
    return {
        "inputs": generator.normal(size=(size, INPUTS)).astype(np.float32),
        "labels": generator.integers(0, CLASSES, size).astype(np.int32),
        "indices": generator.permutation(NUM_EXAMPLES)[:size].astype(np.int32),
        "mask": np.ones(size, np.float32),
        "weights": np.ones(size, np.float32),
    }


CLEAN = make_batch(99)


def forward(params, inputs):
    features = jnp.tanh(inputs @ params["body"])
    return features @ params["head"], features


def evidence(batch, params=PARAMS):
    """The signals of a batch of a two-layer network, and every keyword of `make_train_step`.

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
    keywords = {
        "linearized": lin,
        "params": params,
        "losses_fn": lambda p: losses_and_aux(p)[0],
        "loss_fn": losses.cross_entropy,
        "clean_loss_fn": lambda p: jnp.mean(
            losses.cross_entropy(forward(p, clean_inputs)[0], CLEAN["labels"])
        ),
        "example_loss_fn": example_loss_fn,
        "examples": (inputs, batch["labels"]),
        "something_a_later_version_adds": None,
    }
    return signals, keywords


def run(scheme, state, batch, params=PARAMS):
    """One update of a batch's weights, with all the evidence."""
    signals, keywords = evidence(batch, params)
    weights = jnp.asarray(batch["weights"] * batch["mask"], params["head"].dtype)
    return scheme.update(weights, state, signals, **keywords)


class Subject(NamedTuple):
    """A scheme under test: fresh state, a state after three batches, a compiled update."""

    name: str
    row: Row
    is_mean_one: bool
    scheme: weighting.Weighting
    fresh: object
    used: object
    update: Callable  # (state, batch, params=PARAMS) -> (weights, state)


@functools.cache
def subject(name):
    scheme = factory_of(name)()
    compiled = jax.jit(lambda state, batch, params: run(scheme, state, batch, params))

    def update(state, batch, params=PARAMS):
        return compiled(state, batch, params)

    fresh = used = scheme.init(jax.random.key(3), PARAMS)
    for seed in (11, 12, 13):
        _, used = update(used, make_batch(seed))
    return Subject(name, SCHEMES[name], is_mean_one(name), scheme, fresh, used, update)
