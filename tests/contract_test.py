"""One contract for every scheme. A new scheme joins by a row in SCHEMES."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting
from weighting import Signals, linearize_losses, losses

BATCH, CLASSES, NUM_EXAMPLES = 12, 3, 40
COUNTS = np.array([20, 15, 5])
SGD = optax.sgd(0.1)

# name -> (factory, does it average to one over every batch)
SCHEMES = {
    "uniform": (weighting.uniform, True),
    "inverse_class_frequency": (lambda: weighting.inverse_class_frequency(COUNTS), False),
    "random": (weighting.random, True),
    "focal": (lambda: weighting.focal(2.0), True),
    "self_paced": (lambda: weighting.self_paced(2.0), True),
    "hard_mining": (lambda: weighting.hard_mining(majority_class=0), True),
    "top_losses": (lambda: weighting.top_losses(0.4), True),
    "low": (lambda: weighting.low(0.1), True),
    "low_osqp": (lambda: weighting.low(0.5, solver="osqp"), True),
    "low_last_layer": (lambda: weighting.low(1.0, gradient="last_layer"), True),
    "low_parameters": (lambda: weighting.low(1.0, gradient="parameters"), True),
    "lookahead": (weighting.lookahead_reweight, True),
    "lookahead_kept": (lambda: weighting.lookahead_reweight(refresh_every=3), True),
    "lookahead_head": (lambda: weighting.lookahead_reweight(select=is_head), True),
    "lookahead_unrolled": (
        lambda: weighting.lookahead_reweight(mode="unrolled", optimizer=SGD, num_steps=2),
        True,
    ),
    "normalize_mean": (weighting.normalize_mean, True),
    "clip": (lambda: weighting.clip(0.2, 3.0), False),
    "temper": (lambda: chained(weighting.temper(0.5)), True),
    "mix_with_uniform": (lambda: chained(weighting.mix_with_uniform(0.3)), True),
    "ema": (lambda: chained(weighting.ema(0.9, NUM_EXAMPLES)), False),
    "warm_up": (lambda: chained(weighting.warm_up(5)), True),
    "scheduled": (
        lambda: weighting.scheduled(weighting.low, regularization=lambda step: 1.0 / (1 + step)),
        True,
    ),
    "chain": (lambda: weighting.chain(weighting.focal(1.0), weighting.low(0.2)), False),
}


def is_head(path):
    return "head" in jax.tree_util.keystr(path)


def chained(part):
    return weighting.chain(weighting.low(0.1), part)


PARAMS = {
    "body": jax.random.normal(jax.random.key(1), (4, 6)),
    "head": jax.random.normal(jax.random.key(2), (6, CLASSES)),
}


def example_batch(seed=0, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "inputs": scale * jax.random.normal(keys[0], (BATCH, 4)),
        "labels": jax.random.randint(keys[1], (BATCH,), 0, CLASSES),
        "indices": jax.random.permutation(keys[2], NUM_EXAMPLES)[:BATCH],
        "mask": jnp.ones(BATCH),
    }


def run(scheme, state, batch, params=PARAMS):
    """One update on a batch of a two-layer network, with every extra."""

    def forward(p, inputs):
        features = jnp.tanh(inputs @ p["body"])
        return features @ p["head"], features

    def losses_and_aux(p):
        logits, features = forward(p, batch["inputs"])
        return losses.cross_entropy(logits, batch["labels"]), (logits, features)

    clean = example_batch(99)
    lin = linearize_losses(losses_and_aux, params, has_aux=True)
    logits, features = lin.aux
    signals = Signals(
        lin.values, logits, batch["labels"], features, batch["indices"], batch["mask"]
    )
    return scheme.update(
        batch["mask"],
        state,
        signals,
        linearized=lin,
        params=params,
        losses_fn=lambda p: losses_and_aux(p)[0],
        loss_fn=losses.cross_entropy,
        clean_loss_fn=lambda p: jnp.mean(
            losses.cross_entropy(forward(p, clean["inputs"])[0], clean["labels"])
        ),
        something_a_later_version_adds=None,
    )


@pytest.fixture(params=SCHEMES, name="named")
def named_scheme(request):
    factory, mean_one = SCHEMES[request.param]
    scheme = factory()
    return request.param, scheme, scheme.init(jax.random.key(3), PARAMS), mean_one


def test_weights_are_finite_non_negative_and_average_to_one(named):
    _, scheme, state, mean_one = named
    for scale in (1.0, 1e3):  # 1e3: saturated logits
        weights, _ = run(scheme, state, example_batch(scale=scale))
        assert weights.shape == (BATCH,)
        assert weights.dtype == jnp.float32
        assert np.all(np.isfinite(weights))
        assert np.all(np.asarray(weights) >= 0)
        if mean_one:
            assert np.isclose(np.mean(weights), 1, atol=1e-5) or np.all(np.asarray(weights) == 0)


def test_state_can_be_carried_by_scan_and_jit_equals_eager(named):
    _, scheme, state, _ = named
    batches = jax.tree.map(lambda *rows: jnp.stack(rows), *(example_batch(i) for i in range(4)))

    def step(state, batch):
        weights, state = run(scheme, state, batch)
        return state, weights

    scanned_state, scanned = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, batches)
    for i in range(4):
        weights, state = run(scheme, state, jax.tree.map(lambda rows, i=i: rows[i], batches))
        np.testing.assert_allclose(scanned[i], weights, rtol=1e-4, atol=1e-4)
    assert jax.tree.structure(scanned_state) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(scanned_state), jax.tree.leaves(state), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype


def test_vmap_over_seeds_equals_a_loop(named):
    _, scheme, _, _ = named
    batch = example_batch()
    keys = jax.random.split(jax.random.key(5), 3)
    params = jax.vmap(
        lambda key: jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), PARAMS)
    )(keys)
    together = jax.vmap(lambda k, p: run(scheme, scheme.init(k, p), batch, p)[0])(keys, params)
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        alone, _ = run(scheme, scheme.init(keys[i], own), batch, own)
        np.testing.assert_allclose(together[i], alone, rtol=1e-3, atol=1e-3)


def test_traced_once_over_several_calls(named):
    _, scheme, state, _ = named
    traces = []

    @jax.jit
    def update(state, batch):
        traces.append(None)
        return run(scheme, state, batch)

    for i in range(3):
        _, state = update(state, example_batch(i))
    assert len(traces) == 1


def test_weights_follow_a_permutation_of_the_batch(named):
    name, scheme, state, _ = named
    if name == "random":
        pytest.skip("random weights belong to the position, not to the example")
    batch = example_batch()
    order = np.random.default_rng(0).permutation(BATCH)
    weights, _ = run(scheme, state, batch)
    permuted, _ = run(scheme, state, {k: v[order] for k, v in batch.items()})
    np.testing.assert_allclose(permuted, weights[order], rtol=1e-3, atol=1e-3)


def test_padding_gets_zero_and_changes_nothing(named):
    name, scheme, state, _ = named
    batch = example_batch()
    mask = jnp.ones(BATCH).at[jnp.array([3, 8])].set(0)
    kept = np.flatnonzero(np.asarray(mask))
    weights, _ = run(scheme, state, {**batch, "mask": mask})
    assert np.all(weights[jnp.array([3, 8])] == 0)
    other_inputs = batch["inputs"].at[3].set(7.0)  # another padding
    changed, _ = run(scheme, state, {**batch, "inputs": other_inputs, "mask": mask})
    np.testing.assert_allclose(changed, weights, atol=1e-5)
    if name != "random":
        removed, _ = run(scheme, state, {k: v[kept] for k, v in batch.items()})
        np.testing.assert_allclose(weights[kept], removed, rtol=1e-3, atol=1e-3)
    empty, _ = run(scheme, state, {**batch, "mask": jnp.zeros(BATCH)})
    np.testing.assert_array_equal(empty, np.zeros(BATCH))


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


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_hyperparameters_may_be_traced(name):
    factory, low, high = HYPERPARAMETERS[name]
    batch = example_batch()

    def weights(value):
        scheme = factory(value)
        return run(scheme, scheme.init(jax.random.key(0), PARAMS), batch)[0]

    together = jax.jit(jax.vmap(weights))(jnp.array([low, high]))
    for row, value in zip(together, (low, high), strict=True):
        np.testing.assert_allclose(row, weights(value), rtol=1e-3, atol=1e-3)
    assert np.max(np.abs(together[0] - together[1])) > 1e-3
