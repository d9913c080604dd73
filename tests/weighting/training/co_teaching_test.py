"""Co-teaching against a literal loop over two networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting
from weighting import Batch, losses
from weighting.training.co_teaching import init_co_teaching_state, make_co_teaching_step

DIM, CLASSES, BATCH = 4, 3, 8


def apply(params, inputs):
    return jnp.tanh(inputs @ params["w"]) @ params["v"]


def init(key):
    keys = jax.random.split(key)
    return {
        "w": jax.random.normal(keys[0], (DIM, 6)),
        "v": jax.random.normal(keys[1], (6, CLASSES)),
    }


def make_batch(seed):
    keys = jax.random.split(jax.random.key(seed))
    inputs = jax.random.normal(keys[0], (BATCH, DIM))
    labels = jax.random.randint(keys[1], (BATCH,), 0, CLASSES)
    return Batch(inputs, labels, indices=jnp.arange(BATCH), mask=jnp.ones(BATCH).at[5].set(0))


def make(scheme, optimizer, seed=0):
    keys = jax.random.split(jax.random.key(seed))
    state = init_co_teaching_state(keys, jax.vmap(init)(keys), scheme, optimizer)
    apply_fn = weighting.without_state(apply)
    return state, make_co_teaching_step(apply_fn, losses.cross_entropy, scheme, optimizer)


def test_each_network_learns_from_what_the_other_keeps():
    """Three scanned steps of small-loss selection by a scheduled threshold, with momentum."""
    learning_rate, thresholds = 0.05, [2.0, 1.2, 0.9]
    table = jnp.array(thresholds)
    scheme = weighting.scheduled(weighting.self_paced, threshold=lambda step: table[step])
    optimizer = optax.sgd(learning_rate, momentum=0.9)
    state, step = make(scheme, optimizer)
    networks = [jax.tree.map(lambda x, i=i: np.asarray(x[i]), state.params) for i in range(2)]
    velocity = [jax.tree.map(np.zeros_like, network) for network in networks]
    batches = [make_batch(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *batches)
    state, metrics = jax.jit(functools.partial(jax.lax.scan, step))(state, stacked)

    @jax.jit
    def losses_fn(params, batch):
        return losses.cross_entropy(apply(params, batch.inputs), batch.labels)

    gradient_fn = jax.jit(jax.grad(lambda *args: jnp.sum(losses_fn(*args[:2]) * args[2])))
    for t, batch in enumerate(batches):
        kept = []
        for network in networks:
            own = np.asarray(losses_fn(network, batch))
            kept.append(np.flatnonzero((own < thresholds[t]) & (np.asarray(batch.mask) > 0)))
        assert set(kept[0]) != set(kept[1])
        for i in range(2):
            chosen = kept[1 - i]
            used = np.flatnonzero(metrics.weights[t, i] > 0)
            np.testing.assert_array_equal(used, chosen)
            share = np.zeros(BATCH, np.float32)
            share[chosen] = 1 / len(chosen)
            gradient = gradient_fn(networks[i], batch, share)
            velocity[i] = jax.tree.map(lambda v, g: 0.9 * v + g, velocity[i], gradient)
            networks[i] = jax.tree.map(lambda p, v: p - learning_rate * v, networks[i], velocity[i])
    for i in range(2):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
            state.params,
            networks[i],
        )
    np.testing.assert_array_equal(state.step, [3, 3])


def test_uniform_weights_train_two_networks_apart():
    """Nothing is exchanged when all weights are one: two ordinary runs."""
    optimizer, scheme = optax.sgd(0.1), weighting.uniform()
    state, step = make(scheme, optimizer)
    new_state, _ = jax.jit(step)(state, make_batch(0))
    alone = jax.jit(
        weighting.make_train_step(
            weighting.without_state(apply), losses.cross_entropy, scheme, optimizer
        )
    )
    for i in range(2):
        single, _ = alone(jax.tree.map(lambda x, i=i: x[i], state), make_batch(0))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-7),
            new_state.params,
            single.params,
        )


def test_states_of_the_scheme_stay_with_the_network_that_fills_them():
    """An average of losses is the network's own, though its weights go to the other."""
    scheme = weighting.chain(weighting.low(0.1), weighting.ema(0.5, BATCH))
    optimizer = optax.sgd(0.1)
    state, step = make(scheme, optimizer)
    new_state, metrics = jax.jit(step)(state, make_batch(0))
    average = new_state.weighting_state[1].average
    np.testing.assert_allclose(average[0] * 2, metrics.weights[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(average[1] * 2, metrics.weights[0], rtol=1e-4, atol=1e-6)


def test_one_linearization_per_network():
    """The operation count of two plain steps, and a handful of additions."""
    optimizer, batch = optax.sgd(0.1), make_batch(0)
    scheme = weighting.self_paced(1.0)
    wide = {"w": jnp.ones((2, DIM, 256)), "v": jnp.ones((2, 256, CLASSES))}
    keys = jax.random.split(jax.random.key(0))
    state = init_co_teaching_state(keys, wide, scheme, optimizer)
    apply_fn = weighting.without_state(apply)
    counts = []
    for factory in (weighting.make_train_step, make_co_teaching_step):
        step = factory(apply_fn, losses.cross_entropy, scheme, optimizer)
        if factory is weighting.make_train_step:
            step = jax.vmap(step, in_axes=(0, None))
        compiled = jax.jit(lambda s, b, step=step: step(s, b)[0]).lower(state, batch).compile()
        counts.append(compiled.cost_analysis()["flops"])
    assert abs(counts[1] - counts[0]) <= 300 < 1e-2 * counts[0]


def test_each_network_has_its_own_model_state():
    keys = jax.random.split(jax.random.key(0))
    means = {"mean": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    given = (keys, jax.vmap(init)(keys), weighting.uniform(), optax.sgd(0.1))
    state = init_co_teaching_state(*given, model_state=means)
    np.testing.assert_array_equal(state.model_state["mean"], means["mean"])
    assert init_co_teaching_state(*given).model_state == {}


def test_three_networks_are_refused():
    three = jax.random.split(jax.random.key(0), 3)
    two, options = three[:2], (weighting.uniform(), optax.sgd(0.1))
    for keys, params in ((three, three), (three, two), (two, three)):
        with pytest.raises(ValueError, match="leading axis of 2"):
            init_co_teaching_state(keys, jax.vmap(init)(params), *options)
    with pytest.raises(ValueError, match="leading axis of 2"):
        init_co_teaching_state(two, jax.vmap(init)(two), *options, model_state=jnp.ones(3))
