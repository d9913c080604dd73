"""NaN, padding and rows that no table has: one answer for every scheme, and for the whole step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting
from tests.weighting.conformance import (
    BATCH,
    CLASSES,
    COUNTS,
    NUM_EXAMPLES,
    PARAMS,
    SCHEMES,
    evidence,
    forward,
    make,
    make_batch,
    subject,
)
from weighting import Batch, ModelOutput, Signals, losses

EVERY = pytest.mark.parametrize("name", SCHEMES)
PADDING = 3


@EVERY
def test_a_nan_in_an_example_reaches_its_weight(name):
    it = subject(name)
    batch = make_batch()
    batch["inputs"][2] = np.nan
    weights, _ = it.update(it.used, batch)
    assert np.isnan(weights[2])


@EVERY
def test_a_label_outside_the_classes_reaches_its_weight(name):
    it = subject(name)
    for label in (-100, -1, CLASSES):
        batch = make_batch()
        batch["labels"][2] = label
        weights, _ = it.update(it.used, batch)
        assert np.isnan(weights[2]), label


@EVERY
def test_an_index_outside_the_training_set_gives_nan_or_is_not_read(name):
    it = subject(name)
    weights, state = it.update(it.used, make_batch())
    for index in (-1, NUM_EXAMPLES, NUM_EXAMPLES + 7):
        batch = make_batch()
        batch["indices"][2] = index
        changed, changed_state = it.update(it.used, batch)
        if np.isnan(changed[2]):
            assert_rows_of_others_equal(state, changed_state, make_batch()["indices"][2])
        else:
            np.testing.assert_array_equal(changed, weights)


def assert_rows_of_others_equal(state, changed, index):
    """Tables by position: nothing was written for the example in the place of another's row."""
    others = np.arange(NUM_EXAMPLES) != index
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(changed), strict=True):
        if old.shape[:1] == (NUM_EXAMPLES,):
            np.testing.assert_array_equal(old[others], new[others])


@functools.cache
def poisonable(name):
    """A compiled update with incoming weights of one's own and, if asked for, spoiled padding."""
    it = subject(name)

    @jax.jit
    def update(state, batch, weights, poison):
        signals, keywords = evidence(batch)
        here = poison & (np.arange(BATCH) == PADDING)
        signals = Signals(
            losses=jnp.where(here, jnp.nan, signals.losses),
            logits=jnp.where(here[:, None], jnp.inf, signals.logits),
            labels=jnp.where(here, -100, signals.labels),
            features=jnp.where(here[:, None], jnp.nan, signals.features),
            indices=jnp.where(here, -1, signals.indices),
            mask=signals.mask,
        )
        weights = jnp.where(here, jnp.nan, weights)
        return it.scheme.update(weights, state, signals, **keywords)

    return update


@EVERY
def test_nothing_in_the_padding_of_the_signals_reaches_anything(name):
    it, update = subject(name), poisonable(name)
    batch = make_batch()
    batch["mask"][PADDING] = 0
    expected = update(it.used, batch, batch["mask"], False)
    poisoned = update(it.used, batch, batch["mask"], True)
    for clean, other in zip(jax.tree.leaves(expected), jax.tree.leaves(poisoned), strict=True):
        np.testing.assert_array_equal(as_numbers(other), as_numbers(clean))
    assert not np.any(np.isnan(expected[0]))


# What mixes with uniform weights or has a floor. (An average over visits does too, later on.)
LIFT_ZERO = ("clip:0.2:3", "low+mix_with_uniform:0.3", "low+warm_up:5", "fade_in")


@EVERY
def test_an_incoming_weight_of_zero_stays_zero(name):
    """Zero weight is a removed example: for the others too, where the batch does not interact."""
    it, update = subject(name), poisonable(name)
    batch, dropped = make_batch(), 5
    weights = batch["mask"].copy()
    before, _ = update(it.used, batch, weights, False)
    weights[dropped] = 0
    after, _ = update(it.used, batch, weights, False)
    if name in LIFT_ZERO:
        assert after[dropped] > 0
        return
    assert after[dropped] == 0
    if it.row.native == "itself":
        others = np.arange(BATCH) != dropped
        np.testing.assert_array_equal(after[others], before[others])


def as_numbers(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def apply_fn(params, model_state, inputs, *, train, key):
    return ModelOutput(*forward(params, inputs)), model_state


def step_of(scheme, **options):
    return jax.jit(
        weighting.make_train_step(apply_fn, losses.cross_entropy, scheme, optax.sgd(0.1), **options)
    )


def as_batch(rows, **more):
    return Batch(**{key: value for key, value in rows.items() if key != "weights"}, **more)


def batches(seed=0):
    """A batch with padding, and the same with everything wrong in it."""
    plain = make_batch(seed)
    plain["mask"][PADDING] = 0
    clean = make_batch(99)
    clean["mask"][0] = 0
    wrong = [{key: value.copy() for key, value in rows.items()} for rows in (plain, clean)]
    for rows, place in zip(wrong, (PADDING, 0), strict=True):
        rows["inputs"][place], rows["labels"][place], rows["indices"][place] = np.nan, -100, -1
    return [as_batch(rows, clean=as_batch(kept)) for rows, kept in ((plain, clean), wrong)]


NEED_THE_NETWORK = [
    "uniform",
    "low:1:gradient=parameters",
    "lookahead",
    "lookahead_unrolled:num_steps=2",
    "meta_weight_net",
    "batch_alignment",
    "gradient_alignment",
    "joint_weighting",
]


@pytest.mark.parametrize("name", NEED_THE_NETWORK)
def test_nothing_in_the_padding_of_a_batch_reaches_the_step(name):
    """Its inputs are what the derivatives of the network multiply by zero: 0 * NaN is NaN."""
    scheme = make(name)
    state = weighting.init_train_state(jax.random.key(0), PARAMS, scheme, optax.sgd(0.1))
    step = step_of(scheme)
    expected, poisoned = (step(state, batch) for batch in batches())
    for clean, other in zip(
        jax.tree.leaves(expected[0]), jax.tree.leaves(poisoned[0]), strict=True
    ):
        np.testing.assert_allclose(as_numbers(other), as_numbers(clean), rtol=1e-6, atol=1e-7)
    for field in ("loss", "weighted_loss", "accuracy", "effective_sample_size", "weights"):
        clean, other = getattr(expected[1], field), getattr(poisoned[1], field)
        assert np.all(np.isfinite(other)), field
        np.testing.assert_allclose(other, clean, rtol=1e-6, err_msg=field)


def test_nothing_in_the_padding_reaches_a_layerwise_or_a_selective_step():
    scheme, optimizer = make("lookahead"), optax.sgd(0.1)
    state = weighting.init_train_state(jax.random.key(0), PARAMS, scheme, optimizer)
    selector = weighting.importance_selector(threshold=-1.0)
    start = weighting.init_selective_state(jax.random.key(0), PARAMS, selector, optimizer)
    selective = weighting.make_selective_train_step(
        apply_fn, losses.cross_entropy, selector, optimizer, 4
    )
    for step, begin in ((step_of(scheme, layerwise=True), state), (jax.jit(selective), start)):
        clean, poisoned = (step(begin, batch)[0].params for batch in batches())
        for key in PARAMS:
            np.testing.assert_allclose(poisoned[key], clean[key], rtol=1e-6, atol=1e-7)


def test_an_ignored_label_is_padding():
    scheme, optimizer = make("low"), optax.sgd(0.1)
    state = weighting.init_train_state(jax.random.key(0), PARAMS, scheme, optimizer)
    rows = make_batch()
    kept = np.arange(BATCH) != 4
    removed = {key: value[kept] for key, value in rows.items()}
    rows["labels"][4] = -100
    rows["mask"] = weighting.labels_mask(rows["labels"])
    step = step_of(scheme)
    masked, without = step(state, as_batch(rows)), step(state, as_batch(removed))
    for key in PARAMS:
        np.testing.assert_allclose(
            masked[0].params[key], without[0].params[key], rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(masked[1].loss, without[1].loss, rtol=1e-6)
    np.testing.assert_array_equal(weighting.labels_mask(np.array([0, -1, 2]), -1), [1, 0, 1])


def test_nan_inputs_that_count_show_in_the_metrics():
    scheme, optimizer = make("small_losses"), optax.sgd(0.1)
    state = weighting.init_train_state(jax.random.key(0), PARAMS, scheme, optimizer)
    rows = make_batch()
    rows["inputs"][1] = np.nan
    _, metrics = step_of(scheme)(state, as_batch(rows))
    assert np.isnan(metrics.weights[1])
    assert np.isnan(metrics.weighted_loss)


@pytest.mark.parametrize(
    "scheme",
    [
        weighting.inverse_class_frequency(COUNTS),
        weighting.class_power(COUNTS, 0.5),
        weighting.oracle_noise(np.eye(CLASSES), COUNTS / COUNTS.sum()),
        weighting.group_dro(CLASSES),
    ],
)
@pytest.mark.parametrize("label", [-1, CLASSES, 99])
def test_tables_by_class_know_no_other_class(scheme, label):
    signals = Signals(jnp.ones(2), labels=jnp.array([0, label]))
    weights, _ = scheme.update(jnp.ones(2), scheme.init(jax.random.key(0), {}), signals)
    assert np.isnan(weights[1])


@pytest.mark.parametrize("index", [-1, 3, 99])
def test_tables_by_position_know_no_other_position(index):
    scheme = weighting.per_example([1.0, 2.0, 3.0])
    signals = Signals(jnp.ones(2), indices=jnp.array([2, index]))
    weights, _ = scheme.update(jnp.ones(2), (), signals)
    np.testing.assert_array_equal(weights, [1.5, np.nan])


def test_integer_losses_and_weights_are_computed_in_floats():
    scheme = weighting.chi_square_dro(2.0)
    signals = Signals(jnp.array([1, 2, 3]))
    weights, _ = scheme.update(jnp.ones(3, int), (), signals)
    np.testing.assert_allclose(weights, [0.75, 1, 1.25], rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "focal",
        "low",
        "low:1:gradient=last_layer",
        "gradient_harmonized:10",
        "exponential_margin:3",
        "inverse_margin",
        "active_bias",
        "record_history",
        "importance_sampling:4:-1",
    ],
)
def test_a_class_that_is_masked_by_infinite_logits_is_a_class_less(name):
    """For what reads logits: -inf at class 3 of four is three classes."""
    scheme = make(name)
    logits = jax.random.normal(jax.random.key(0), (6, 3))
    labels = jnp.array([0, 1, 2, 0, 1, 2])

    def update(logits):
        signals = Signals(
            losses.cross_entropy(logits, labels), logits, labels, logits[:, :2], jnp.arange(6)
        )
        state = scheme.init(jax.random.key(1), {})
        for _ in range(3):
            weights, state = scheme.update(
                jnp.ones(6), state, signals, loss_fn=losses.cross_entropy
            )
        return weights

    masked = jnp.concatenate([logits, jnp.full((6, 1), -jnp.inf)], axis=1)
    np.testing.assert_allclose(update(masked), update(logits), rtol=1e-5)
