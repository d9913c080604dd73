"""Joint training of a weighting model: closed form, the literal joint objective, its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from weighting import Batch, Signals, init_train_state, losses, make_train_step, without_state
from weighting.schemes.joint_weighting import JointWeightingState, LogisticModel, joint_weighting

INPUTS = np.array([[1.0, 0.0], [2.0, -1.0], [0.5, 3.0]])
VALUES = np.array([0.2, 1.5, 4.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def update(scheme, state, mask=None, inputs=INPUTS, values=VALUES):
    mask = None if mask is None else jnp.asarray(mask)
    signals = Signals(jnp.asarray(values), mask=mask)
    return scheme.update(signals.valid, state, signals, examples=(jnp.asarray(inputs), None))


def test_two_steps_by_hand(float64):
    """psi moves by -lr / n sum l (B - a) sigma' x; this step's weights are those before."""
    scheme = joint_weighting(2)
    state = scheme.init(jax.random.key(0), None)
    psi, bias = np.zeros(2), 0.0
    for _ in range(2):
        share = sigmoid(INPUTS @ psi + bias)
        weights, state = update(scheme, state)
        np.testing.assert_allclose(weights, 1 + share, rtol=1e-14)
        slope = VALUES * share * (1 - share) / 3
        psi, bias = psi - 0.1 * slope @ INPUTS, bias - 0.1 * slope.sum()
        np.testing.assert_allclose(state.model.kernel, psi, rtol=1e-13)
        np.testing.assert_allclose(state.model.bias, bias, rtol=1e-13)
    assert np.all(weights != 1.5)


def test_padding_does_not_count(float64):
    scheme = joint_weighting(2)
    state = scheme.init(jax.random.key(0), None)
    weights, state = update(scheme, state, mask=[1, 0, 1.0])
    np.testing.assert_allclose(weights, [1.5, 0, 1.5])
    expected = -0.1 / 2 * 0.25 * (VALUES[0] * INPUTS[0] + VALUES[2] * INPUTS[2])
    np.testing.assert_allclose(state.model.kernel, expected, rtol=1e-13)
    momentum = joint_weighting(2, optimizer=optax.sgd(0.1, momentum=0.9))
    _, moving = update(momentum, momentum.init(jax.random.key(0), None))
    weights, same = update(momentum, moving, mask=np.zeros(3))
    np.testing.assert_array_equal(weights, np.zeros(3))
    jax.tree.map(np.testing.assert_array_equal, same, moving)


def test_training_is_simultaneous_descent_on_the_joint_risk(float64):
    """Eq. 4: theta, psi and b by one gradient of (1/n) sum g(psi, x) l(y f(theta, x))."""
    rng = np.random.default_rng(0)
    inputs, labels = jnp.asarray(rng.normal(size=(9, 3))), jnp.asarray(rng.integers(0, 2, 9))
    theta = jnp.asarray(rng.normal(size=(3, 2)))

    def objective(variables):
        theta, psi, bias = variables
        gate = jax.nn.sigmoid(inputs @ psi + bias) + 1
        return jnp.mean(gate * losses.cross_entropy(inputs @ theta, labels))

    variables = (theta, jnp.zeros(3), jnp.zeros(()))
    for _ in range(4):
        slope = jax.grad(objective)(variables)
        variables = jax.tree.map(lambda v, g: v - 0.1 * g, variables, slope)

    scheme, sgd = joint_weighting(3), optax.sgd(0.1)
    apply_fn = without_state(lambda params, x: x @ params)
    step = make_train_step(apply_fn, losses.cross_entropy, scheme, sgd)
    state = init_train_state(jax.random.key(0), theta, scheme, sgd)
    for _ in range(4):
        state, _ = step(state, Batch(inputs, labels))
    np.testing.assert_allclose(state.params, variables[0], rtol=1e-12)
    np.testing.assert_allclose(state.weighting_state.model.kernel, variables[1], rtol=1e-11)
    np.testing.assert_allclose(state.weighting_state.model.bias, variables[2], rtol=1e-11)


def test_normalized_weights_descend_the_normalized_risk(float64):
    scheme = joint_weighting(2, low=0.5, high=3.0, start="normal", normalize=True)
    state = scheme.init(jax.random.key(3), None)
    psi, bias = np.asarray(state.model.kernel), float(state.model.bias)

    def risk(psi, bias):
        gate = 0.5 + 2.5 * sigmoid(INPUTS @ psi + bias)
        return np.mean(gate / gate.mean() * VALUES)

    weights, new = update(scheme, state)
    np.testing.assert_allclose(np.mean(weights), 1, rtol=1e-14)
    np.testing.assert_allclose(np.mean(weights * VALUES), risk(psi, bias), rtol=1e-14)
    for at in range(2):
        step = 1e-5 * np.eye(2)[at]
        slope = (risk(psi + step, bias) - risk(psi - step, bias)) / 2e-5
        np.testing.assert_allclose(
            (state.model.kernel - new.model.kernel)[at], 0.1 * slope, atol=1e-10
        )


def test_hard_examples_lose_and_zero_losses_teach_nothing():
    scheme = joint_weighting(2, optimizer=optax.sgd(1.0))
    state = scheme.init(jax.random.key(0), None)
    for _ in range(20):
        weights, state = update(scheme, state)
    assert weights[2] < weights[1] < weights[0] < 1.5  # in the order of their losses
    assert np.all((weights > 1) & (weights < 2))
    _, same = update(scheme, state, values=np.zeros(3))
    jax.tree.map(np.testing.assert_array_equal, same, state)


def test_features_and_flattened_inputs():
    scheme = joint_weighting(4, source="features")
    model = LogisticModel(jnp.array([1.0, 2.0, 0.0, -1.0]), jnp.array(0.5))
    state = JointWeightingState(model, scheme.init(jax.random.key(0), None).opt_state)
    rows = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, -1.0, 5.0, 0.0]])
    expected = 1 + sigmoid(np.array([0.1 + 0.4 - 0.4, 1 - 2]) + 0.5)
    signals = Signals(jnp.ones(2), features=jnp.asarray(rows))
    weights, _ = scheme.update(jnp.ones(2), state, signals)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    images = jnp.asarray(rows.reshape(2, 2, 2))
    weights, _ = joint_weighting(4).update(
        jnp.ones(2), state, Signals(jnp.ones(2)), examples=(images, None)
    )
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_limits_and_start():
    scheme = joint_weighting(2, low=1.0, high=1.0)
    state = scheme.init(jax.random.key(0), None)
    for _ in range(3):
        weights, state = update(scheme, state)
    np.testing.assert_array_equal(weights, np.ones(3))
    model = joint_weighting(10_000, start="normal").init(jax.random.key(0), None).model
    kernel = np.asarray(model.kernel)
    assert abs(kernel.mean()) < 4 / 100
    assert abs(np.mean(kernel**2) - 1) < 4 * np.sqrt(2) / 100
    assert model.bias != 0
    assert model.bias not in kernel  # a draw of its own


def test_bad_arguments_are_refused():
    for options, message in (
        ({"source": "logits"}, "source must be one of 'inputs', 'features'"),
        ({"start": "ones"}, "start must be one of"),
        ({"low": -1.0}, "low must lie in"),
        ({"low": 2.0, "high": 1.0}, r"high must lie in \[2, inf\)"),
    ):
        with pytest.raises(ValueError, match=message):
            joint_weighting(2, **options)
    scheme = joint_weighting(3)
    state = scheme.init(jax.random.key(0), None)
    with pytest.raises(ValueError, match="pass num_inputs=2"):
        update(scheme, state)
    with pytest.raises(ValueError, match="reads `examples`"):
        scheme.update(jnp.ones(3), state, Signals(jnp.ones(3)))
    with pytest.raises(TypeError, match="as one array"):
        scheme.update(jnp.ones(3), state, Signals(jnp.ones(3)), examples=({"x": 1}, None))
    with pytest.raises(ValueError, match=r"reads `signals.features`"):
        joint_weighting(3, source="features").update(jnp.ones(3), state, Signals(jnp.ones(3)))
