"""LOW against SciPy, CVXOPT, OSQP, rational arithmetic, brute force and hand arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from weighting import Signals, gradient_norms, linearize_losses, losses, low, low_kkt_residual
from weighting import low_weights as low_weights_fn
from weighting.schemes.low import GRADIENTS

low_weights = jax.jit(low_weights_fn, static_argnames="solver")


def by_bisection(norms, regularization):
    """The KKT conditions solved by bisection on the multiplier, in NumPy: an independent method."""
    target = 1 + norms / (2 * regularization)
    lower, upper = target.min() - 1 - len(norms), target.max()
    for _ in range(200):
        middle = (lower + upper) / 2
        if np.maximum(target - middle, 0).sum() > len(norms):
            lower = middle
        else:
            upper = middle
    return np.maximum(target - (lower + upper) / 2, 0)


def random_norms(seed, size):
    return np.random.default_rng(seed).gamma(0.5, 1.0, size)


def test_by_hand():
    # v = 1 + g / 0.4 = (1, 1.5, 2); the projection subtracts (4.5 - 3) / 3 = 0.5.
    np.testing.assert_allclose(
        low_weights(jnp.array([0.0, 0.2, 0.4]), 0.2), [0.5, 1.0, 1.5], rtol=1e-6
    )
    # lambda below (g1 - g2) / (2 B) = 0.2 / 6: a vertex.
    np.testing.assert_allclose(low_weights(jnp.array([0.0, 0.2, 0.4]), 0.03), [0, 0, 3], atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 17, 256])
@pytest.mark.parametrize("regularization", [1e-4, 1e-2, 0.3, 10.0])
def test_projection_matches_bisection(float64, size, regularization):
    norms = random_norms(size, size)
    weights = low_weights(jnp.asarray(norms), regularization)
    np.testing.assert_allclose(weights, by_bisection(norms, regularization), atol=1e-10 * size)


@pytest.mark.parametrize("regularization", [0.05, 0.5])
def test_projection_matches_scipy(float64, regularization):
    norms = random_norms(3, 12)
    result = scipy.optimize.minimize(
        lambda w: -w @ norms + regularization * np.sum((w - 1) ** 2),
        np.ones(12),
        jac=lambda w: -norms + 2 * regularization * (w - 1),
        bounds=[(0, None)] * 12,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 12, "jac": lambda w: np.ones(12)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(low_weights(jnp.asarray(norms), regularization), result.x, atol=1e-6)


def test_projection_matches_cvxopt(float64):
    cvxopt = pytest.importorskip("cvxopt")
    cvxopt.solvers.options.update(show_progress=False, abstol=1e-12, reltol=1e-12, feastol=1e-12)
    norms, regularization = random_norms(4, 40), 0.2
    solution = cvxopt.solvers.qp(
        cvxopt.matrix(2 * regularization * np.eye(40)),
        cvxopt.matrix(-(norms + 2 * regularization)),
        cvxopt.matrix(-np.eye(40)),
        cvxopt.matrix(np.zeros(40)),
        cvxopt.matrix(np.ones((1, 40))),
        cvxopt.matrix(40.0),
    )
    expected = np.array(solution["x"])[:, 0]
    np.testing.assert_allclose(low_weights(jnp.asarray(norms), regularization), expected, atol=1e-6)


@pytest.mark.parametrize("regularization", [0.01, 0.1, 1.0])
def test_osqp_matches_projection(float64, regularization):
    norms = jnp.asarray(random_norms(5, 32))
    exact = low_weights(norms, regularization)
    np.testing.assert_allclose(low_weights(norms, regularization, solver="osqp"), exact, atol=1e-6)


def test_osqp_in_float32():
    norms = jnp.asarray(random_norms(6, 32), jnp.float32)
    weights = low_weights(norms, 0.1, solver="osqp")
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, low_weights(norms, 0.1), atol=1e-3)  # its tolerance is 1e-5


def test_kkt_residual_in_float32_over_many_programs():
    rng = np.random.default_rng(0)
    for regularization in 10.0 ** rng.uniform(-6, 3, 40):
        norms = jnp.asarray(rng.gamma(0.3, 2.0, 256), jnp.float32)
        weights = low_weights(norms, regularization)
        assert low_kkt_residual(weights, norms, regularization) <= 1e-6, regularization


def test_kkt_residual_sees_wrong_weights():
    norms = jnp.array([0.0, 0.2, 0.4])
    assert low_kkt_residual(jnp.array([0.5, 1.0, 1.5]), norms, 0.2) < 1e-6
    assert low_kkt_residual(jnp.array([0.6, 1.0, 1.4]), norms, 0.2) > 0.05  # not stationary
    assert low_kkt_residual(jnp.array([0.5, 1.0, 1.6]), norms, 0.2) > 0.03  # wrong sum
    assert low_kkt_residual(jnp.array([-0.1, 1.3, 1.8]), norms, 0.2) >= 0.1  # negative
    assert low_kkt_residual(jnp.array([0.0, 1.25, 1.75]), norms, 0.2) > 0.2  # zero where it gains


@pytest.mark.parametrize(
    ("weights", "norms", "expected"),
    [
        # (g + multiplier) / 0.4 - w is -0.1, 0, 0.1, over the largest weight
        ([0.6, 1.0, 1.4], [0.0, 0.2, 0.4], 0.1 / 1.4),
        ([0.8, 1.3, 1.8], [0.0, 0.2, 0.4], 0.3),  # the mean, as it is
        ([0.2, 0.7, 1.2], [0.0, 0.2, 0.4], 0.3),
        # the multiplier of the support is -0.3, so the first gains (0 + 0.3) / 0.4
        ([0.0, 1.25, 1.75], [0.0, 0.2, 0.4], 0.75 / 1.75),
        ([0.0, 1.25, 1.75], [-9.0, 0.2, 0.4], 0.0),  # and loses if g is small
        ([-0.1, 1.3, 1.8], [-9.0, 0.2, 0.4], 0.1 / 1.8),
        ([0.5, 0.5], [0.0, 0.0], 0.5),  # a largest weight below one does not count
        ([0.9, 0.5, 0.4], [0.0, 0.0, 0.0], 0.4),  # the mean, not the 0.3 of unequal multipliers
    ],
)
def test_kkt_residual_by_hand(float64, weights, norms, expected):
    weights, norms = jnp.array(weights), jnp.array(norms)
    assert low_kkt_residual(weights, norms, 0.2) == pytest.approx(expected, abs=1e-14)
    more = jnp.append(weights, jnp.array([0.3, 0.0])), jnp.append(norms, jnp.array([5.0, 7.0]))
    mask = jnp.append(jnp.ones_like(weights), jnp.zeros(2))
    assert low_kkt_residual(*more, 0.2, mask=mask) == pytest.approx(expected, abs=1e-14)


def test_limits_of_the_regularization(float64):
    norms = jnp.asarray(random_norms(7, 10)).at[3].set(9.0).at[6].set(9.0)
    vertex = np.zeros(10)
    vertex[[3, 6]] = 5.0  # ties share the weight
    np.testing.assert_allclose(low_weights(norms, 1e-12), vertex, atol=1e-6)
    largest = 1e8
    bound = float(jnp.max(jnp.abs(norms - norms.mean()))) / (2 * largest)
    assert np.max(np.abs(low_weights(norms, largest) - 1)) <= bound * (1 + 1e-6)


def test_thresholds(float64):
    norms = jnp.array([0.1, 0.3, 0.45, 1.0])
    unclipped = (norms.mean() - norms.min()) / 2
    assert np.all(np.asarray(low_weights(norms, unclipped * 1.001)) > 0)
    assert np.sum(np.asarray(low_weights(norms, unclipped * 0.999)) == 0) == 1
    vertex = (1.0 - 0.45) / (2 * 4)
    np.testing.assert_allclose(low_weights(norms, vertex * 0.999), [0, 0, 0, 4], atol=1e-12)
    assert low_weights(norms, vertex * 1.001)[2] > 0


def test_mask_equals_removal(float64):
    norms = jnp.asarray(random_norms(8, 9))
    mask = jnp.array([1, 1, 0, 1, 1, 0, 1, 1, 1.0])
    kept = np.flatnonzero(np.asarray(mask))
    for solver in ("projection", "osqp"):
        weights = low_weights(norms.at[2].set(1e6), 0.05, solver=solver, mask=mask)
        np.testing.assert_allclose(weights[kept], low_weights(norms[kept], 0.05), atol=1e-6)
        assert np.all(weights[jnp.array([2, 5])] == 0)
    assert np.all(low_weights(norms, 0.05, mask=jnp.zeros(9)) == 0)


def test_derivative_matches_finite_differences(float64):
    norms = jnp.asarray(random_norms(9, 8))
    check_grads(lambda g: low_weights_fn(g, 0.3), (norms,), order=1, eps=1e-6)
    check_grads(lambda r: low_weights_fn(norms, r), (jnp.array(0.3),), order=1, eps=1e-6)


def example_batch(seed=0, batch=7, classes=4, dim=5):
    keys = jax.random.split(jax.random.key(seed), 4)
    params = {
        "hidden": jax.random.normal(keys[0], (dim, 6)),
        "w": jax.random.normal(keys[1], (6, classes)),
        "b": jnp.zeros(classes),
    }
    inputs = jax.random.normal(keys[2], (batch, dim))
    labels = jax.random.randint(keys[3], (batch,), 0, classes)
    return params, inputs, labels


def apply(params, inputs):
    features = jnp.tanh(inputs @ params["hidden"])
    return features @ params["w"] + jnp.broadcast_to(params["b"], (len(inputs), 4)), features


@pytest.mark.parametrize("loss_fn", [losses.cross_entropy, losses.focal])
def test_gradient_norms_match_finite_differences(float64, loss_fn):
    """The proxy, the last layer's closed form and both exact forms, against central differences."""
    params, inputs, labels = example_batch()
    logits, features = apply(params, inputs)

    def squared_norm_by_differences(fn, x):
        flat, unravel = jax.flatten_util.ravel_pytree(x)
        step = 1e-6
        rows = [
            (fn(unravel(flat.at[i].add(step))) - fn(unravel(flat.at[i].add(-step)))) / (2 * step)
            for i in range(flat.size)
        ]
        return np.sum(np.square(rows), axis=0)

    def losses_fn(params):
        return loss_fn(apply(params, inputs)[0], labels)

    proxy = gradient_norms.logit_gradient_norms(loss_fn, logits, labels)
    per_row = [
        squared_norm_by_differences(
            lambda z, i=i: loss_fn(z[None], labels[i : i + 1])[0], logits[i]
        )
        for i in range(len(labels))
    ]
    np.testing.assert_allclose(proxy, per_row, rtol=1e-7, atol=1e-12)

    last = gradient_norms.last_layer_gradient_norms(loss_fn, logits, labels, features)
    head = {"w": params["w"], "b": params["b"]}
    expected = squared_norm_by_differences(lambda h: losses_fn({**params, **h}), head)
    np.testing.assert_allclose(last, expected, rtol=1e-7, atol=1e-12)

    expected = squared_norm_by_differences(losses_fn, params)
    rows = gradient_norms.jacobian_row_norms(linearize_losses(losses_fn, params), chunk_size=3)
    np.testing.assert_allclose(rows, expected, rtol=1e-7, atol=1e-12)
    each = gradient_norms.per_example_gradient_norms(
        lambda p, example: loss_fn(apply(p, example[0][None])[0], example[1][None])[0],
        params,
        (inputs, labels),
        chunk_size=3,
    )
    np.testing.assert_allclose(each, expected, rtol=1e-7, atol=1e-12)


def test_proxy_of_cross_entropy_is_p_minus_onehot():
    _, _, labels = example_batch()
    logits = jax.random.normal(jax.random.key(1), (7, 4))
    expected = jnp.sum((jax.nn.softmax(logits) - jax.nn.one_hot(labels, 4)) ** 2, axis=1)
    actual = gradient_norms.logit_gradient_norms(losses.cross_entropy, logits, labels)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert np.all(actual <= 2)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_scheme_uses_the_chosen_gradient(gradient):
    params, inputs, labels = example_batch()
    lin = linearize_losses(
        lambda p: (losses.cross_entropy(apply(p, inputs)[0], labels), apply(p, inputs)),
        params,
        has_aux=True,
    )
    logits, features = lin.aux
    signals = Signals(lin.values, logits, labels, features)
    scheme = low(0.2, gradient=gradient)
    extra = {"linearized": lin, "loss_fn": losses.cross_entropy}
    state = scheme.init(jax.random.key(0), params)
    weights, state = scheme.update(jnp.ones(7), state, signals, **extra)
    norms = {
        "logits": gradient_norms.logit_gradient_norms(losses.cross_entropy, logits, labels),
        "last_layer": gradient_norms.last_layer_gradient_norms(
            losses.cross_entropy, logits, labels, features
        ),
        "parameters": jnp.stack(
            [optax.tree.norm(lin.vjp(jax.nn.one_hot(i, 7)), squared=True) for i in range(7)]
        ),
    }[gradient]
    np.testing.assert_allclose(weights, by_bisection(np.asarray(norms, float), 0.2), atol=2e-5)
    assert state.kkt_residual < 1e-6


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_has_a_bias_or_none(float64, bias):
    params, inputs, labels = jax.tree.map(lambda x: jnp.asarray(x, float), example_batch())
    labels = labels.astype(int)
    logits, features = apply(params, inputs)
    last = {name: params[name] for name in (("w", "b") if bias else ("w",))}
    rows = jax.jacobian(
        lambda own: losses.cross_entropy(apply({**params, **own}, inputs)[0], labels)
    )(last)
    norms = sum(np.sum(np.reshape(x, (7, -1)) ** 2, axis=1) for x in rows.values())
    weights, _ = low(2.0, gradient="last_layer", last_layer_bias=bias).update(
        jnp.ones(7),
        low(2.0).init(None, None),
        Signals(losses.cross_entropy(logits, labels), logits, labels, features),
        loss_fn=losses.cross_entropy,
    )
    np.testing.assert_allclose(weights, by_bisection(norms, 2.0), atol=1e-12)


def test_batch_mean_scale_is_lambda_times_the_squared_batch(float64):
    params, inputs, labels = example_batch()
    logits, _ = apply(params, inputs)
    signals = Signals(losses.cross_entropy(logits, labels), logits, labels)
    weights = {
        scale: low(lam, gradient_scale=scale).update(
            jnp.ones(7), low(0.1).init(None, None), signals, loss_fn=losses.cross_entropy
        )[0]
        for scale, lam in (("batch_mean", 0.1), ("example", 0.1 * 49))
    }
    np.testing.assert_allclose(weights["batch_mean"], weights["example"], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regularization": -1.0}, "regularization must be positive"),
        ({"regularization": float("nan")}, "regularization must be positive"),
        ({"regularization": 0.1, "solver": "simplex"}, "'projection', 'osqp'"),
        ({"regularization": 0.1, "gradient": "all"}, "'logits', 'last_layer', 'parameters'"),
        ({"regularization": 0.1, "gradient_scale": "sum"}, "'example', 'batch_mean'"),
    ],
)
def test_bad_hyperparameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        low(**arguments)


def test_missing_signals_are_named():
    signals = Signals(jnp.ones(3))
    with pytest.raises(ValueError, match=r"reads `signals\.logits`"):
        low(0.1).update(jnp.ones(3), (), signals, loss_fn=losses.cross_entropy)
    with pytest.raises(ValueError, match="vector"):
        low_weights_fn(jnp.ones((3, 1)), 0.1)


def by_fractions(norms, regularization, kept):
    """The projection in rational arithmetic: the largest k whose weights are all positive."""
    norms, twice = [Fraction(float(g)) for g in norms], 2 * Fraction(float(regularization))
    chosen = sorted((g for g, keep in zip(norms, kept, strict=True) if keep), reverse=True)
    for size in range(len(chosen), 0, -1):
        level = (sum(chosen[:size]) - twice * len(chosen)) / size  # of the norms: w = (g - l) / 2L
        if chosen[size - 1] > level:
            break
    pairs = zip(norms, kept, strict=True)
    return [float(max(g - level, 0) / twice) if keep else 0.0 for g, keep in pairs]


magnitudes = st.builds(
    lambda mantissa, exponent: mantissa * 10.0**exponent,
    st.floats(1, 9.5, width=32),
    st.floats(-30, 29),
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    norms=st.lists(
        magnitudes | st.just(0.0) | st.floats(0, 2, width=32, allow_subnormal=False),
        min_size=8,
        max_size=8,
    ),
    regularization=magnitudes | st.floats(0.00390625, 4, width=32),
    kept=st.lists(st.booleans(), min_size=8, max_size=8).filter(any),
)
def test_projection_matches_rational_arithmetic_over_sixty_orders(norms, regularization, kept):
    norms, mask = np.array(norms, np.float32), np.array(kept)
    regularization = np.float32(regularization)
    expected = by_fractions(norms, regularization, kept)
    weights = np.asarray(low_weights(norms, regularization, mask=mask))
    # A gap loses 2 roundings, relative to itself, and is below the sum of the weights, 8, in the
    # support; the mean of the support's gaps and the threshold lose as much.
    np.testing.assert_allclose(weights, expected, atol=8 * 6 * np.finfo(np.float32).eps)
    assert abs(weights.sum() - sum(kept)) <= 8 * 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("norms", "regularization", "expected"),
    [
        ([1.0, 1e8], 0.1, [0, 2]),
        ([1.0, 1e20], 0.1, [0, 2]),
        ([0.3, 0.9, 0.9], 1e-30, [0, 1.5, 1.5]),
        ([1e9] * 256, 0.1, [1] * 256),
        ([1e30, 1e30, 0.0], 1e-30, [1.5, 1.5, 0]),
        ([1, 1, 2], 10.0, [1 - 1 / 60, 1 - 1 / 60, 1 + 1 / 30]),  # integers
    ],
)
def test_projection_at_scales_where_it_once_failed(norms, regularization, expected):
    weights = low_weights(jnp.array(norms), regularization)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_nan_reaches_the_weights_unless_it_is_padding():
    norms = jnp.array([1.0, np.nan, 0.5])
    assert np.all(np.isnan(low_weights(norms, 0.1)))
    weights = low_weights(norms, 0.5, mask=jnp.array([1, 0, 1]))
    np.testing.assert_allclose(weights, [1.25, 0, 0.75], rtol=1e-6)


def test_half_precision_loses_its_own_rounding_alone():
    norms = jnp.asarray(random_norms(8, 1024), jnp.bfloat16)
    weights = low_weights(norms, 0.3)
    assert weights.dtype == jnp.bfloat16
    expected = low_weights(norms.astype(jnp.float32), 0.3)
    np.testing.assert_allclose(weights.astype(jnp.float32), expected, rtol=2**-8)


def test_a_residual_is_relative_to_the_largest_weight_of_either_sign():
    # Equal norms: gains 6, -4, -5 up to a constant, of which the support averages -4.5.
    residual = low_kkt_residual(jnp.array([-6.0, 4.0, 5.0]), jnp.ones(3), 0.7)
    np.testing.assert_allclose(residual, 10.5 / 6, rtol=1e-6)
