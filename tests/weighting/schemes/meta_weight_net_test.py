"""Meta-Weight-Net and CMW-Net: the linearized meta gradient against the literal bilevel program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.cluster import KMeans

from weighting import (
    Batch,
    Signals,
    init_train_state,
    linearize_losses,
    losses,
    make_train_step,
    without_state,
)
from weighting.schemes.meta.meta_weight_net import (
    WeightNet,
    apply_weight_net,
    cluster_class_sizes,
    cmw_net,
    init_weight_net,
    meta_gradient,
    meta_weight_net,
)

BATCH, CLEAN, HIDDEN = 7, 5, 6
LABELS = np.array([0, 1, 2, 2, 1, 0, 2])
CLUSTERS = np.array([1, 0, 0])  # of the counts 50, 4, 5
MASK = np.array([1, 1, 0, 1, 1, 1, 0.0])


def problem(kind="plain", seed=0):
    """(losses_fn, clean_loss_fn, params) of a two-layer network; "norm" couples its examples."""
    rng = np.random.default_rng(seed)
    inputs, clean = rng.normal(size=(BATCH, 4)), rng.normal(size=(CLEAN, 4))
    clean_labels = rng.integers(0, 3, CLEAN)
    params = {"first": jnp.asarray(rng.normal(size=(4, 5))), "head": rng.normal(size=(5, 3))}
    params["head"] = jnp.asarray(params["head"])

    def logits_fn(params, x):
        hidden = x @ params["first"]
        if kind == "norm":
            hidden = hidden - jnp.mean(hidden, axis=0, keepdims=True)
        return jnp.tanh(hidden) @ params["head"]

    return (
        lambda p: losses.cross_entropy(logits_fn(p, inputs), jnp.asarray(LABELS)),
        lambda p: jnp.mean(losses.cross_entropy(logits_fn(p, clean), jnp.asarray(clean_labels))),
        params,
    )


def literal_weights(net, values, groups, normalize, mask):
    """The network in another form: one example at a time, by a Python loop."""
    rows = []
    for value, group in zip(values, groups, strict=True):
        hidden = jnp.maximum(value * net.hidden_kernel + net.hidden_bias, 0)
        score = jnp.dot(net.output_kernel[group], hidden) + net.output_bias[group]
        rows.append(1 / (1 + jnp.exp(-score)))
    weights = jnp.stack(rows) * mask
    return weights * jnp.sum(mask) / jnp.sum(weights) if normalize else weights


def literal_outer_loss(net, losses_fn, clean_loss_fn, params, rate, groups, normalize, mask):
    """G(theta_hat(psi)), with the virtual step by differentiating the weighted risk."""
    weights = literal_weights(net, losses_fn(params), groups, normalize, mask)
    gradient = jax.grad(lambda p: jnp.sum(weights * losses_fn(p)) / jnp.sum(mask))(params)
    return clean_loss_fn(jax.tree.map(lambda p, g: p - rate * g, params, gradient))


def update(scheme, state, losses_fn, clean_loss_fn, params, mask=None):
    lin = linearize_losses(losses_fn, params)
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(lin.values, labels=jnp.asarray(LABELS), mask=mask)
    return scheme.update(
        signals.valid, state, signals, linearized=lin, params=params, clean_loss_fn=clean_loss_fn
    )


@pytest.mark.parametrize(
    ("kind", "normalize", "mask"),
    [("plain", False, None), ("plain", True, MASK), ("norm", True, None)],
)
def test_meta_gradient_is_that_of_the_literal_bilevel_objective(float64, kind, normalize, mask):
    losses_fn, clean_loss_fn, params = problem(kind)
    net = init_weight_net(jax.random.key(1), HIDDEN, 2)
    groups, rate = CLUSTERS[LABELS], 0.7
    full = np.ones(BATCH) if mask is None else mask
    optimizer = optax.sgd(1.0)  # its update is minus the gradient
    scheme = cmw_net(
        np.array([50, 4, 5]),
        2,
        rate,
        optimizer=optimizer,
        hidden_size=HIDDEN,
        normalize=normalize,
    )
    state = scheme.init(jax.random.key(1), params)
    jax.tree.map(np.testing.assert_array_equal, state.net, net)
    _, new = update(scheme, state, losses_fn, clean_loss_fn, params, mask)
    gradient = jax.tree.map(jnp.subtract, state.net, new.net)

    def outer(net):
        return literal_outer_loss(
            net, losses_fn, clean_loss_fn, params, rate, groups, normalize, full
        )

    expected = jax.jit(jax.grad(outer))(net)
    scale = max(np.max(np.abs(leaf)) for leaf in expected)
    assert scale > 1e-4
    for ours, theirs in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-12)

    outer, step = jax.jit(outer), 1e-5
    for name in WeightNet._fields:  # one coordinate of each
        leaf = getattr(net, name)
        at = tuple(size // 2 for size in leaf.shape)
        up, down = (net._replace(**{name: leaf.at[at].add(sign * step)}) for sign in (1, -1))
        difference = (outer(up) - outer(down)) / (2 * step)
        np.testing.assert_allclose(getattr(gradient, name)[at], difference, atol=1e-8 * scale)


def test_meta_gradient_of_any_weight_function(float64):
    """w = psi itself from zero is the alignment with the clean gradient, -J v / n."""
    losses_fn, clean_loss_fn, params = problem()
    rows = jax.jacobian(losses_fn)(params)
    clean = jax.grad(clean_loss_fn)(params)
    expected = sum(np.reshape(rows[k], (BATCH, -1)) @ np.ravel(clean[k]) for k in params)
    gradient = meta_gradient(
        lambda psi: psi,
        jnp.zeros(BATCH),
        linearize_losses(losses_fn, params),
        params,
        clean_loss_fn,
        1.0,
    )
    np.testing.assert_allclose(gradient, -expected / BATCH, atol=1e-14)


@pytest.mark.parametrize("normalize", [True, False])
def test_two_steps_of_the_literal_algorithm(float64, normalize):
    """psi, Adam's moments and theta after two steps; Adam is written out in NumPy."""
    losses_fn, clean_loss_fn, params = problem()
    rate, meta_rate, groups, full = 0.5, 1e-3, np.zeros(BATCH, int), np.ones(BATCH)
    scheme = meta_weight_net(rate, hidden_size=HIDDEN, normalize=normalize)
    state = scheme.init(jax.random.key(2), params)
    slope = jax.jit(
        jax.grad(
            lambda net, theta: literal_outer_loss(
                net, losses_fn, clean_loss_fn, theta, rate, groups, normalize, full
            )
        )
    )
    net, ours, theirs = state.net, params, params
    mean = square = jax.tree.map(np.zeros_like, net)
    for t in (1, 2):
        weights, state = update(scheme, state, losses_fn, clean_loss_fn, ours)
        ours = _descend(losses_fn, ours, weights, rate)

        gradient = slope(net, theirs)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * np.asarray(g), mean, gradient)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * np.square(g), square, gradient)
        net = jax.tree.map(
            lambda p, m, s, t=t: (
                p - meta_rate * m / (1 - 0.9**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
            ),
            net,
            mean,
            square,
        )
        expected = literal_weights(net, losses_fn(theirs), groups, normalize, full)
        theirs = _descend(losses_fn, theirs, expected, rate)

        np.testing.assert_allclose(weights, expected, rtol=1e-11)
        for field in ("mu", "nu"):
            ours_moment = optax.tree.get(state.opt_state, field)
            for a, b in zip(ours_moment, mean if field == "mu" else square, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-20)
        for a, b in zip(state.net, net, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), ours, theirs)


def _descend(losses_fn, params, weights, rate):
    gradient = jax.grad(lambda p: jnp.mean(weights * losses_fn(p)))(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient)


def test_weight_net_by_hand():
    net = WeightNet(
        jnp.array([1.0, -2.0]),
        jnp.array([0.5, 1.0]),
        jnp.array([[2.0, 4.0], [-1.0, 1.0]]),
        jnp.array([-1.0, 0.25]),
    )
    # loss 0: hidden (0.5, 1); loss 3: hidden (3.5, 0)
    scores = np.array([[2 * 0.5 + 4 - 1, 2 * 3.5 - 1], [-0.5 + 1 + 0.25, -3.5 + 0.25]])
    expected = 1 / (1 + np.exp(-scores))
    values = jnp.array([0.0, 3.0])
    np.testing.assert_allclose(apply_weight_net(net, values), expected[0], rtol=1e-6)
    picked = apply_weight_net(net, values, jnp.array([1, 0]))
    np.testing.assert_allclose(picked, [expected[1, 0], expected[0, 1]], rtol=1e-6)


def test_start_is_uniform_within_the_fan_in():
    net = init_weight_net(jax.random.key(0), 4000, 3)
    for leaf, bound in ((net.hidden_kernel, 1), (net.hidden_bias, 1), (net.output_kernel, 4000)):
        leaf = np.ravel(leaf) * np.sqrt(bound)
        assert np.max(np.abs(leaf)) <= 1
        variance = np.mean(leaf**2)  # of a uniform variable on [-1, 1], 1/3, with E x^4 = 1/5
        assert abs(variance - 1 / 3) < 4 * np.sqrt((1 / 5 - 1 / 9) / leaf.size)
    assert np.all(np.abs(net.output_bias) <= 4000**-0.5)


def test_equal_class_sizes_give_the_plain_network():
    losses_fn, clean_loss_fn, params = problem()
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    results = []
    for scheme in (meta_weight_net(), cmw_net(np.array([9, 9, 9]))):
        state = scheme.init(jax.random.key(0), params)
        results.append(update(scheme, state, losses_fn, clean_loss_fn, params))
    jax.tree.map(np.testing.assert_array_equal, *results)
    np.testing.assert_allclose(np.mean(results[0][0]), 1, rtol=1e-6)


def test_a_fixed_network_weighs_by_its_function_and_an_empty_batch_teaches_nothing():
    losses_fn, clean_loss_fn, params = problem()
    scheme = meta_weight_net(optimizer=optax.sgd(0.0), normalize=False)
    state = scheme.init(jax.random.key(0), params)
    weights, same = update(scheme, state, losses_fn, clean_loss_fn, params, MASK)
    expected = literal_weights(state.net, losses_fn(params), np.zeros(BATCH, int), False, MASK)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same.net, state.net)

    scheme = meta_weight_net()
    _, state = update(scheme, scheme.init(jax.random.key(0), params), *problem())
    nothing = np.zeros(BATCH)
    weights, same = update(scheme, state, losses_fn, clean_loss_fn, params, nothing)
    np.testing.assert_array_equal(weights, nothing)
    jax.tree.map(np.testing.assert_array_equal, same, state)  # not even by Adam's momentum


def test_huge_losses_stay_finite():
    scheme = meta_weight_net()
    params = jnp.array([1e4, -1e4])
    inputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    state = scheme.init(jax.random.key(0), params)
    for _ in range(2):
        lin = linearize_losses(lambda p: (inputs @ p) ** 2, params)  # 1e8
        weights, state = scheme.update(
            jnp.ones(3),
            state,
            Signals(lin.values),
            linearized=lin,
            params=params,
            clean_loss_fn=lambda p: jnp.sum(p**2),
        )
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((weights, state)))


def test_it_learns_to_distrust_wrong_labels():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=8)
    inputs = rng.normal(size=(300, 8)).astype(np.float32)
    right = (inputs @ truth > 0).astype(np.int32)
    is_wrong = rng.random(300) < 0.3
    labels = np.where(is_wrong, 1 - right, right)
    clean = Batch(jnp.asarray(inputs[:40]), jnp.asarray(right[:40]))
    batch = Batch(jnp.asarray(inputs[40:]), jnp.asarray(labels[40:]), clean=clean)

    apply_fn = without_state(lambda params, x: x @ params)
    scheme, sgd = meta_weight_net(0.5, optimizer=optax.adam(1e-2)), optax.sgd(0.5)
    step = make_train_step(apply_fn, losses.cross_entropy, scheme, sgd)
    start = init_train_state(jax.random.key(0), jnp.zeros((8, 2)), scheme, sgd)
    _, metrics = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, batch), s, length=300))(start)
    weights = np.asarray(metrics.weights[-1])
    assert weights[is_wrong[40:]].mean() < 0.3 * weights[~is_wrong[40:]].mean()


@pytest.mark.parametrize("num_clusters", [1, 2, 3, 5])
def test_clusters_are_the_optimum_of_k_means(num_clusters):
    rng = np.random.default_rng(num_clusters)
    counts = rng.integers(1, 400, size=12)
    counts[3] = counts[5]
    clusters = cluster_class_sizes(counts, num_clusters)

    def inertia(labels):
        groups = [counts[labels == k] for k in np.unique(labels)]
        return sum(np.sum((group - group.mean()) ** 2) for group in groups)

    reference = KMeans(num_clusters, n_init=100, random_state=0).fit(counts[:, None])
    np.testing.assert_allclose(inertia(clusters), reference.inertia_, rtol=1e-9)
    assert set(clusters) == set(range(num_clusters))
    assert np.all(np.diff(clusters[np.argsort(counts)]) >= 0)  # larger classes, later clusters


def test_clusters_of_few_sizes():
    np.testing.assert_array_equal(cluster_class_sizes([7, 7, 7], 3), [0, 0, 0])
    np.testing.assert_array_equal(cluster_class_sizes([9, 2, 9], 5), [1, 0, 1])
    np.testing.assert_array_equal(cluster_class_sizes([4], 1), [0])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        meta_weight_net(0.0)
    with pytest.raises(ValueError, match="num_clusters must be positive"):
        cmw_net(np.array([1, 2]), 0)
    with pytest.raises(ValueError, match="positive counts"):
        cmw_net(np.array([1, 0]))
    with pytest.raises(TypeError, match="must be concrete"):
        jax.jit(cluster_class_sizes)(np.array([1, 2]))
    scheme = meta_weight_net()
    state = scheme.init(jax.random.key(0), None)
    with pytest.raises(ValueError, match="small trusted set"):
        scheme.update(jnp.ones(2), state, Signals(jnp.ones(2)))
    with pytest.raises(ValueError, match="reads `linearized`"):
        scheme.update(jnp.ones(2), state, Signals(jnp.ones(2)), clean_loss_fn=jnp.sum)
