"""One contract for every scheme. A new scheme joins by a row in `conformance.SCHEMES`.

A row's name is that of the command line, with the values to test, and its record says how it is
built; a scheme that is made in Python has a factory. A row declares:
- mean_one: the weights average to one over every batch, or are all zero; by default what the
  record says of their scale;
- copies: what an example given twice gets. "exact": both copies weigh the same, and a batch with
  every example doubled gives each copy the weight of the original.
  "expectation": the same on average. "no": ranks break ties by position.
- native: for a separable scheme, the factory whose weights of an example do not depend on the
  rest of the batch, so that micro-batches give what the whole batch gives, or "itself";
- reads: the signals through which gradients flow to the weights; none flows through the others;
- equal: what a batch of one example repeated gets: "one" each, the "same" each, or "no" promise;
- varies: a number of it, and two values of that which give different weights;
- uniform_at: the limit of its numbers, as on the command line, at which it is uniform.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weighting
from experiments.methods import registry
from experiments.training.checkpoints import Checkpoints
from tests.weighting.conformance import (
    BATCH,
    CLASSES,
    HYPERPARAMETERS,
    NUM_EXAMPLES,
    PARAMS,
    SCHEMES,
    UNIFORM_LIMITS,
    evidence,
    forward,
    make,
    make_batch,
    native_factory,
    run,
    subject,
)
from weighting import Signals, losses

EVERY = pytest.mark.parametrize("name", SCHEMES)
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
CLOSE = {"rtol": 1e-3, "atol": 1e-3}  # the order of float32 sums, through a ratio or a projection


def named(row):
    """The schemes that a row's name is made of."""
    return {re.split("[:,]", part)[0] for part in row.split("+")}


def types(state):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]


def rows(batch, order):
    return {key: value[order] for key, value in batch.items()}


@EVERY
@FEW
@given(
    seed=st.integers(0, 1000),
    logit_scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    mask=st.lists(st.booleans(), min_size=BATCH, max_size=BATCH),
)
def test_weights_are_finite_non_negative_and_average_to_one(name, seed, logit_scale, mask):
    it = subject(name)
    batch = {**make_batch(seed), "mask": np.array(mask, np.float32)}
    params = {**PARAMS, "head": logit_scale * PARAMS["head"]}
    for state in (it.fresh, it.used):
        weights, new_state = it.update(state, batch, params)
        weights = np.asarray(weights)
        assert weights.shape == (BATCH,)
        assert weights.dtype == np.float32
        assert np.all(np.isfinite(weights))
        assert np.all(weights >= 0)
        assert np.all(weights[~np.array(mask)] == 0)
        if it.is_mean_one and any(mask):
            assert np.isclose(np.mean(weights[mask]), 1, atol=1e-5) or np.all(weights == 0)
        for leaf in jax.tree.leaves(new_state):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                assert not np.any(np.isnan(leaf))


@pytest.mark.slow
@EVERY
def test_bfloat16_gives_finite_weights_and_leaves_the_state_its_types(name):
    it = subject(name)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    state = it.scheme.init(jax.random.key(3), params)
    weights, new_state = it.update(state, make_batch(), params)
    assert weights.dtype == jnp.bfloat16
    assert np.all(np.isfinite(weights.astype(jnp.float32)))
    assert types(new_state) == types(state)


@EVERY
def test_state_is_carried_by_scan_and_jit_equals_eager(name):
    it = subject(name)
    batches = [make_batch(i) for i in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    traces = []

    def step(state, batch):
        traces.append(None)
        weights, state = run(it.scheme, state, batch)
        return state, weights

    scanned_state, scanned = jax.lax.scan(step, it.fresh, stacked)
    assert len(traces) == 1
    state, compiled_state = it.fresh, it.fresh
    for batch, from_scan in zip(batches, scanned, strict=True):
        weights, state = run(it.scheme, state, batch)
        compiled, compiled_state = it.update(compiled_state, batch)
        np.testing.assert_allclose(compiled, weights, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(from_scan, weights, rtol=1e-4, atol=1e-4)
    for other in (state, compiled_state):
        assert jax.tree.structure(other) == jax.tree.structure(scanned_state)
        assert types(other) == types(scanned_state)


@EVERY
def test_vmap_over_seeds_equals_a_loop_and_traces_once(name):
    it = subject(name)
    batch = make_batch()
    keys = jax.random.split(jax.random.key(5), 3)
    params = jax.vmap(
        lambda key: jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), PARAMS)
    )(keys)
    traces = []

    @jax.jit
    @jax.vmap
    def together(key, params):
        traces.append(None)
        return run(it.scheme, it.scheme.init(key, params), batch, params)[0]

    weights = together(keys, params)
    together(keys[::-1], params)
    assert len(traces) == 1
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        alone, _ = it.update(it.scheme.init(keys[i], own), batch, own)
        np.testing.assert_allclose(weights[i], alone, **CLOSE)


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_vmap_over_a_hyperparameter_equals_a_loop(name):
    factory, low, high = HYPERPARAMETERS[name]
    batch = make_batch()

    def weights(value):
        scheme = factory(value)
        state = scheme.init(jax.random.key(0), PARAMS)
        _, state = run(scheme, state, make_batch(1))
        return run(scheme, state, batch)[0]

    together = jax.jit(jax.vmap(weights))(jnp.array([low, high]))
    alone = jax.jit(weights)
    for row, value in zip(together, (low, high), strict=True):
        np.testing.assert_allclose(row, alone(value), **CLOSE)
    assert np.max(np.abs(together[0] - together[1])) > 1e-3


@EVERY
@FEW
@given(seed=st.integers(0, 1000), order=st.permutations(range(BATCH)))
def test_weights_follow_a_permutation_of_the_batch(name, seed, order):
    it = subject(name)
    if it.row.copies == "expectation":
        pytest.skip("random weights belong to the position, not to the example")
    batch, order = make_batch(seed), np.array(order)
    weights, _ = it.update(it.used, batch)
    permuted, _ = it.update(it.used, rows(batch, order))
    np.testing.assert_allclose(permuted, weights[order], **CLOSE)


@EVERY
def test_padding_gets_zero_and_changes_nothing(name):
    it = subject(name)
    batch = make_batch()
    padding = np.array([3, 8])
    kept = np.setdiff1d(np.arange(BATCH), padding)
    batch["mask"][padding] = 0
    weights, state = it.update(it.used, batch)
    assert np.all(weights[padding] == 0)
    other = {key: value.copy() for key, value in batch.items()}
    other["inputs"][3], other["labels"][3], other["indices"][3] = 7.0, 0, other["indices"][0]
    changed, changed_state = it.update(it.used, other)
    np.testing.assert_allclose(changed, weights, atol=1e-5)
    for a, b in zip(jax.tree.leaves(changed_state), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if it.row.copies != "expectation":
        removed, _ = jax.jit(lambda state, batch: run(it.scheme, state, batch))(
            it.used, rows(batch, kept)
        )
        np.testing.assert_allclose(weights[kept], removed, **CLOSE)
    nothing, _ = it.update(it.used, {**batch, "mask": np.zeros(BATCH, np.float32)})
    np.testing.assert_array_equal(nothing, np.zeros(BATCH))


@EVERY
def test_an_example_given_twice_gets_what_two_copies_should(name):
    it = subject(name)
    if it.row.copies == "no":
        pytest.skip("declared: ties are broken by position, or the batch's size counts")
    once = make_batch()
    if it.row.copies == "expectation":
        twice = rows(once, np.r_[0, 0 : BATCH - 1])
        keys = jax.random.split(jax.random.key(0), 2000)
        states = jax.vmap(lambda key: it.scheme.init(key, PARAMS))(keys)
        weights = np.asarray(jax.jit(jax.vmap(lambda s: run(it.scheme, s, twice)[0]))(states))
        difference = weights[:, 0] - weights[:, 1]
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(keys))
        return
    half = rows(once, np.arange(BATCH // 2))
    weights, _ = it.update(it.used, rows(once, np.r_[0, 0 : BATCH - 1]))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5, atol=1e-5)
    single, _ = jax.jit(lambda state, batch: run(it.scheme, state, batch))(it.used, half)
    doubled, _ = it.update(it.used, rows(half, np.repeat(np.arange(BATCH // 2), 2)))
    np.testing.assert_allclose(doubled[::2], single, **CLOSE)
    np.testing.assert_allclose(doubled[1::2], single, **CLOSE)


@pytest.mark.parametrize("name", [name for name, row in SCHEMES.items() if row.native])
def test_micro_batches_give_what_the_whole_batch_gives(name):
    scheme = native_factory(name)()
    state = scheme.init(jax.random.key(0), PARAMS)
    batch = make_batch()
    update = jax.jit(lambda state, batch: run(scheme, state, batch)[0])
    whole = update(state, batch)
    parts = [update(state, rows(batch, np.arange(a, a + 4))) for a in range(0, BATCH, 4)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-6)


# Parts act on the weights that come; the others multiply them by their own.
PARTS = ("clip", "ema", "temper", "mix_with_uniform", "deferred", "warm_up", "fade_in")


@pytest.mark.parametrize("name", [name for name in SCHEMES if not named(name) & set(PARTS)])
def test_a_scheme_multiplies_the_weights_that_come(name):
    """Up to a common factor, which normalizes."""
    it = subject(name)
    batch = make_batch()
    before = np.linspace(0.5, 2.0, BATCH, dtype=np.float32)
    product = before * it.update(it.used, batch)[0]
    weights, _ = it.update(it.used, {**batch, "weights": before})
    assert np.mean(weights) > 0
    np.testing.assert_allclose(weights / np.mean(weights), product / np.mean(product), **CLOSE)


@EVERY
def test_equal_evidence_gives_equal_weights(name):
    it = subject(name)
    batch = rows(make_batch(), np.zeros(BATCH, int))
    weights, _ = it.update(it.used, batch)
    if it.row.equal == "one":
        all_zero = np.all(np.asarray(weights) == 0)
        np.testing.assert_allclose(
            weights, np.zeros(BATCH) if all_zero else np.ones(BATCH), **CLOSE
        )
    elif it.row.equal == "same":
        np.testing.assert_allclose(weights, np.full(BATCH, weights[0]), rtol=1e-5)


# These leave uniform weights as they are.
CHANGE_NOTHING = ("uniform", "record_history", "normalize_mean", "clip:0.2:3")


@EVERY
def test_a_scheme_is_more_than_a_learning_rate(name):
    """Weights that are equal over every batch would only rescale the step."""
    it = subject(name)
    spread = max(np.ptp(it.update(it.used, make_batch(seed))[0]) for seed in range(40))
    assert (spread == 0) if name in CHANGE_NOTHING else (spread > 1e-3)


@EVERY
def test_gradients_flow_exactly_where_declared(name):
    it = subject(name)
    batch = make_batch()
    logits, features = forward(PARAMS, batch["inputs"])
    signals = Signals(
        losses.cross_entropy(logits, batch["labels"]),
        logits,
        batch["labels"],
        features,
        batch["indices"],
        batch["mask"],
    )
    direction = np.random.default_rng(0).normal(size=BATCH).astype(np.float32)
    needs_more = it.row.reads == () and not _runs_on_signals_alone(it, signals)
    if needs_more:
        pytest.skip("reads the linearized losses or the clean loss, whose gradients it holds")

    def along(values):
        weights, _ = it.scheme.update(
            signals.valid, it.used, signals._replace(**values), loss_fn=losses.cross_entropy
        )
        return jnp.sum(direction * weights)

    gradients = jax.jit(jax.grad(along))(
        {k: getattr(signals, k) for k in ("losses", "logits", "features")}
    )
    for field, gradient in gradients.items():
        assert np.all(np.isfinite(gradient)), field
        assert np.any(np.abs(gradient) > 1e-8) == (field in it.row.reads), field


def _runs_on_signals_alone(it, signals):
    try:
        it.scheme.update(signals.valid, it.used, signals, loss_fn=losses.cross_entropy)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@EVERY
def test_state_survives_a_checkpoint_bit_for_bit(name, tmp_path):
    it = subject(name)
    leaves, structure = jax.tree.flatten(it.used)
    if not leaves:
        pytest.skip("no state")
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"state": it.used})
    restored = checkpoints.restore({"state": it.fresh})[1]["state"]
    checkpoints.close()
    assert jax.tree.structure(restored) == structure
    expected, _ = it.update(it.used, make_batch(5))
    weights, _ = it.update(restored, make_batch(5))
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("name", UNIFORM_LIMITS)
def test_hyperparameter_limits_are_uniform(name):
    scheme = UNIFORM_LIMITS[name]()
    state = scheme.init(jax.random.key(0), PARAMS)
    update = jax.jit(lambda state, batch: run(scheme, state, batch))
    for seed in range(3):
        weights, state = update(state, make_batch(seed))
        np.testing.assert_allclose(weights, np.ones(BATCH), rtol=2e-6)


def scaled_losses(signals):
    return signals._replace(losses=8 * signals.losses)


def shifted_losses(signals):
    return signals._replace(losses=signals.losses + 0.5)


# name -> (scheme, change of the signals, scheme that gives the same weights after the change).
# Factors are powers of two: nothing is lost to rounding but in the sums.
SCALING_LAWS = {
    "self_paced": (weighting.self_paced(1.0), scaled_losses, weighting.self_paced(8.0)),
    "paced_self_paced": (
        weighting.paced_self_paced(1),
        scaled_losses,
        weighting.paced_self_paced(1),
    ),
    "top_losses": (weighting.top_losses(0.4), shifted_losses, weighting.top_losses(0.4)),
    "small_losses": (weighting.small_losses(0.4), scaled_losses, weighting.small_losses(0.4)),
    "superloss": (weighting.superloss(1.0, 0.5), scaled_losses, weighting.superloss(8.0, 4.0)),
    "cvar_scale": (weighting.cvar(0.3), scaled_losses, weighting.cvar(0.3)),
    "cvar_shift": (weighting.cvar(0.3), shifted_losses, weighting.cvar(0.3)),
    "tilted_scale": (weighting.tilted(1.0), scaled_losses, weighting.tilted(0.125)),
    "tilted_shift": (weighting.tilted(1.0), shifted_losses, weighting.tilted(1.0)),
    "chi_square_scale": (
        weighting.chi_square_dro(0.5),
        scaled_losses,
        weighting.chi_square_dro(4.0),
    ),
    "chi_square_shift": (
        weighting.chi_square_dro(0.5),
        shifted_losses,
        weighting.chi_square_dro(0.5),
    ),
    "group_dro": (
        weighting.group_dro(CLASSES, 0.8),
        scaled_losses,
        weighting.group_dro(CLASSES, 0.1),
    ),
    "mentornet_curriculum": (
        weighting.mentornet_curriculum(0.5, 1.0),
        scaled_losses,
        weighting.mentornet_curriculum(0.5, 8.0),
    ),
    "rho_loss": (
        weighting.rho_loss(jnp.zeros(NUM_EXAMPLES), 0.4),
        scaled_losses,
        weighting.rho_loss(jnp.zeros(NUM_EXAMPLES), 0.4),
    ),
    "loss_rank": (
        weighting.loss_rank(NUM_EXAMPLES),
        scaled_losses,
        weighting.loss_rank(NUM_EXAMPLES),
    ),
}


@pytest.mark.parametrize("name", SCALING_LAWS)
def test_scaling_laws(name):
    scheme, change, other = SCALING_LAWS[name]
    state = scheme.init(jax.random.key(0), PARAMS)
    other_state = other.init(jax.random.key(0), PARAMS)
    for seed in range(3):
        batch = make_batch(seed)
        logits, features = forward(PARAMS, batch["inputs"])
        signals = Signals(
            losses.cross_entropy(logits, batch["labels"]),
            logits,
            batch["labels"],
            features,
            batch["indices"],
            batch["mask"],
        )
        weights, state = scheme.update(signals.valid, state, signals)
        again, other_state = other.update(signals.valid, other_state, change(signals))
        np.testing.assert_allclose(again, weights, rtol=1e-5, atol=1e-5)


def test_every_public_scheme_has_a_row():
    factories = {
        name
        for name in weighting.__all__
        if "Weighting"
        in str(getattr(getattr(weighting, name), "__annotations__", {}).get("return"))
    }
    assert factories - {"stateless", "guarded", "chain"} <= {
        name for row in SCHEMES for name in named(row)
    }


@pytest.mark.parametrize("name", registry.SCHEMES)
def test_a_scheme_of_the_command_line_has_a_row_and_reads_no_more_than_its_record_says(name):
    assert any(name in named(row) for row in SCHEMES)
    record = registry.SCHEMES[name]
    scheme = make(name)

    def update(batch):
        signals, keywords = evidence(batch)
        known = {"logits", "labels", "features"} & set(record.needs)
        known |= {"indices"} if {"history", "table"} & set(record.needs) else set()
        given = Signals(signals.losses, mask=signals.mask)
        given = given._replace(**{field: getattr(signals, field) for field in known})
        allowed = {"params", "loss_fn", "something_a_later_version_adds"}
        for need in record.needs:
            allowed |= set(KEYWORDS.get(need, ()))
        keywords = {key: value for key, value in keywords.items() if key in allowed}
        state = scheme.init(jax.random.key(0), PARAMS)
        return scheme.update(signals.valid, state, given, **keywords)[0]

    assert jax.eval_shape(update, make_batch()).shape == (BATCH,)


# What a record calls its needs -> keywords of `update`
KEYWORDS = {
    "jacobian": ("linearized", "losses_fn"),
    "clean": ("clean_loss_fn",),
    "losses at other parameters": ("losses_fn",),
    "inputs": ("examples",),
}


def test_indices_and_classes_of_the_suite_fit():
    batch = make_batch()
    assert len(set(batch["indices"])) == BATCH
    assert batch["indices"].max() < NUM_EXAMPLES
    assert set(batch["labels"]) == set(range(CLASSES))
