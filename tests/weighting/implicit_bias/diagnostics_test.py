"""Angles, margins, norms and duals of a run, by closed forms, NumPy, SciPy and differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.test_util import check_grads

from weighting.implicit_bias import diagnostics as bias

# z_i = y_i x_i; the two first are the support vectors: direction (1, 0), margin 1, dual (1/2, 1/2)
POINTS = np.array([[1.0, 2.0], [1.0, -2.0], [3.0, 0.5]])


# --- directions -------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-4, 0.3, math.pi / 2, 2.0])
@pytest.mark.parametrize("reverse", [False, True])
def test_angle_between_is_accurate_at_both_ends(float64, angle, reverse):
    # at the base point (1, 0) the second vector is exact to rounding relative to the angle
    a = jnp.array([5.0, 0.0])
    b = jnp.array([math.cos(angle), math.sin(angle)]) * 3e-7
    measured = bias.angle_between(a, -b if reverse else b)
    if reverse:
        np.testing.assert_allclose(math.pi - measured, angle, rtol=1e-12, atol=1e-15)
    else:
        np.testing.assert_allclose(measured, angle, rtol=1e-12, atol=0)


def test_the_arc_cosine_fails_where_the_angle_does_not(float64):
    angle = 3e-9
    a, b = np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)])
    naive = np.arccos(min(a @ b / np.linalg.norm(a) / np.linalg.norm(b), 1.0))
    assert abs(naive - angle) > 0.5 * angle
    np.testing.assert_allclose(bias.angle_between(jnp.array(a), jnp.array(b)), angle, rtol=1e-12)
    np.testing.assert_allclose(
        bias.direction_distance(jnp.array(a), jnp.array(b)), 2 * math.sin(angle / 2), rtol=1e-12
    )


def test_directions_of_pytrees_are_those_of_the_flat_vectors(float64):
    rng = np.random.default_rng(0)
    a = {"w": jnp.array(rng.normal(size=(3, 2))), "v": jnp.array(rng.normal(size=4))}
    b = {"w": jnp.array(rng.normal(size=(3, 2))), "v": jnp.array(rng.normal(size=4))}
    u, v = (np.concatenate([np.ravel(t["w"]), t["v"]]) for t in (a, b))
    cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    np.testing.assert_allclose(bias.cosine_similarity(a, b), cosine, rtol=1e-13)
    np.testing.assert_allclose(bias.angle_between(a, b), np.arccos(cosine), rtol=1e-13)
    distance = np.linalg.norm(u / np.linalg.norm(u) - v / np.linalg.norm(v))
    np.testing.assert_allclose(bias.direction_distance(a, b), distance, rtol=1e-13)
    np.testing.assert_allclose(distance, math.sqrt(2 - 2 * cosine), rtol=1e-13)
    with pytest.raises(ValueError, match="one structure"):
        bias.angle_between(a, {"w": a["w"]})
    with pytest.raises(ValueError, match="equal shapes"):
        bias.angle_between(jnp.ones(3), jnp.ones((3, 1)))


def test_directions_of_zero_huge_and_tiny_vectors():
    zero, one = jnp.zeros(2), jnp.array([1.0, 1.0])
    for a, b in [(zero, one), (one, zero), (zero, zero)]:
        assert bias.angle_between(a, b) == pytest.approx(math.pi / 2)
        assert bias.cosine_similarity(a, b) == 0
        assert bias.direction_distance(a, b) == pytest.approx(math.sqrt(2))
    huge, tiny = jnp.array([1e30, 0.0]), jnp.array([1e-30, 1e-30])
    np.testing.assert_allclose(bias.angle_between(huge, tiny), math.pi / 4, rtol=1e-6)
    gradient = jax.grad(bias.angle_between)(one, one)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_gradient_of_the_angle(float64):
    a, b = jnp.array([1.0, 2.0, -0.5]), jnp.array([0.3, -1.0, 4.0])
    check_grads(bias.angle_between, (a, b), order=1, modes=["rev"], eps=1e-6)
    perpendicular = b - a * (a @ b) / (a @ a)  # d angle / d a points away from b, with size 1/|a|
    expected = -perpendicular / np.linalg.norm(perpendicular) / np.linalg.norm(a)
    np.testing.assert_allclose(jax.grad(bias.angle_between)(a, b), expected, rtol=1e-12)


# --- norms ------------------------------------------------------------------------------------


def test_norms():
    params = {"w": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "b": [jnp.array(12.0)]}
    norms = bias.layer_norms(params)
    assert float(norms["w"]) == 5.0
    assert float(norms["b"][0]) == 12.0
    assert bias.parameter_norm(params) == 13.0


def test_norm_growth_rate_is_the_least_squares_slope(float64):
    rng = np.random.default_rng(1)
    times = np.array([0.0, 1.0, 3.0, 10.0, 200.0])
    norms = rng.uniform(size=5)
    expected = scipy.stats.linregress(np.log(times[1:]), norms[1:] ** 2).slope
    rate = bias.norm_growth_rate(jnp.array(times), jnp.array(norms), order=2.0)
    np.testing.assert_allclose(rate, expected, rtol=1e-12)
    steps = jnp.array([0, 1, 10, 100])
    line = jnp.array([7.0, *(2.5 * np.log([1, 10, 100]) + 1)])
    np.testing.assert_allclose(bias.norm_growth_rate(steps, line), 2.5, rtol=1e-12)
    with pytest.raises(ValueError, match="equal shapes"):
        bias.norm_growth_rate(steps, line[1:])


# --- margins ----------------------------------------------------------------------------------


def test_margins_by_hand(float64):
    margins = jnp.array([4.0, -2.0, 10.0, -100.0])
    params = [jnp.array([1.0, 2.0]), jnp.array([[2.0]])]  # norm 3
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        bias.normalized_margin(margins, params, 2, mask=mask), -2 / 9, rtol=1e-14
    )
    np.testing.assert_allclose(bias.normalized_margin(margins, params, 1), -100 / 3, rtol=1e-14)
    average = bias.average_margin(margins, params, 3, mask=mask)
    np.testing.assert_allclose(average, (4.0, 4 / 27), rtol=1e-14)
    by_class = bias.class_margins(margins, jnp.array([0, 2, 0, 2]), 3, mask=mask)
    np.testing.assert_allclose(by_class.smallest, [4.0, np.inf, -2.0])
    np.testing.assert_allclose(by_class.mean, [7.0, np.nan, -2.0])
    assert bias.normalized_margin(margins, [jnp.zeros(3)], 2) == 0
    with pytest.raises(ValueError, match="order"):
        bias.normalized_margin(margins, params, 0.0)
    with pytest.raises(ValueError, match="mask"):
        bias.normalized_margin(margins, params, 1, mask=jnp.ones(3))


def test_the_power_of_a_deep_networks_norm_does_not_overflow():
    margin = bias.normalized_margin(jnp.array([3e38]), jnp.array([1e3]), 13)  # 1e39 is infinite
    np.testing.assert_allclose(margin, 0.3, rtol=2e-5)


def test_smoothed_margin_against_arithmetic_and_its_bounds(float64):
    margins, params = jnp.array([1.0, 2.0, 0.5]), jnp.array([2.0])
    weights = jnp.array([1.0, 4.0, 2.0])
    loss = math.exp(-1.0) + 4 * math.exp(-2.0) + 2 * math.exp(-0.5)
    np.testing.assert_allclose(
        bias.smoothed_margin(margins, params, 3, weights), -math.log(loss) / 8, rtol=1e-13
    )
    np.testing.assert_allclose(  # weights matter up to scale, and padding not at all
        bias.smoothed_margin(jnp.append(margins, -50.0), params, 3, jnp.append(7 * weights, 0.0)),
        -math.log(loss) / 8,
        rtol=1e-13,
    )
    for scale in (1.0, 1e3, 1e5):
        smooth = bias.smoothed_margin(scale * margins, params, 1, weights)
        hard = bias.normalized_margin(scale * margins, params, 1)
        assert hard - math.log(7) / 2 <= smooth < hard


def test_smoothed_margin_grows_under_gradient_flow(float64):
    weights = jnp.array([0.5, 1.0, 1.5])

    def smooth(theta):
        return bias.smoothed_margin(jnp.array(POINTS) @ theta, theta, 1, weights)

    def risk(theta):
        return jnp.exp(bias.log_risk(jnp.array(POINTS) @ theta, weights))

    for theta in jnp.array([[3.0, 0.5], [2.0, -0.7], [4.0, 1.5]]):
        assert risk(theta) * 3 / 0.5 < 1  # separated
        assert -jax.grad(risk)(theta) @ jax.grad(smooth)(theta) > 0


# --- homogeneity ------------------------------------------------------------------------------


def network(params, inputs):
    *hidden, last = params["weights"]
    for matrix, shift in zip(hidden, params["shifts"], strict=True):
        inputs = jax.nn.leaky_relu(inputs @ matrix + shift, 0.1)
    return inputs @ last


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_homogeneity_of_bias_free_networks(float64, depth):
    rng = np.random.default_rng(depth)
    params = [jnp.array(rng.normal(size=(3, 3))) for _ in range(depth)]
    inputs = jnp.array(rng.normal(size=(6, 3)))

    def apply_fn(weights, x):
        return network({"weights": weights, "shifts": [0.0] * (depth - 1)}, x)

    fit = bias.homogeneity_order(apply_fn, params, inputs)
    np.testing.assert_allclose(fit.order, depth, rtol=1e-12)
    assert fit.deviation < 1e-12
    assert bias.homogeneity_gap(apply_fn, params, inputs, depth, 3.0) < 1e-12
    assert bias.homogeneity_gap(apply_fn, params, inputs, depth + 1, 3.0) > 0.5


def test_biases_break_homogeneity(float64):
    rng = np.random.default_rng(5)
    params = {
        "weights": [jnp.array(rng.normal(size=(3, 3))) for _ in range(3)],
        "shifts": [jnp.array(rng.normal(size=(3,))) for _ in range(2)],
    }
    inputs = jnp.array(rng.normal(size=(6, 3)))

    def at(scale):
        return network(jax.tree.map(lambda leaf: scale * leaf, params), inputs)

    with jax.numpy_rank_promotion("allow"):
        fit = bias.homogeneity_order(network, params, inputs)
        assert 1e-3 < fit.deviation < 3
        assert bias.homogeneity_gap(network, params, inputs, 3, 2.0) > 1e-3
        # Euler's left side by differences: the derivative of f(c theta) in c at 1
        slope, outputs = (at(1 + 1e-6) - at(1 - 1e-6)) / 2e-6, at(1.0)
    order = np.linalg.lstsq(np.ravel(outputs)[:, None], np.ravel(slope))[0][0]
    np.testing.assert_allclose(fit.order, order, rtol=1e-7)
    residual = np.abs(slope - order * outputs).max() / np.abs(order * outputs).max()
    np.testing.assert_allclose(fit.deviation, residual, rtol=1e-6)


def test_homogeneity_of_a_quadratic_plus_a_cubic(float64):
    fit = bias.homogeneity_order(lambda t, x: t**2 * x, jnp.array(3.0), jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(fit, (2.0, 0.0), atol=1e-14)
    gap = bias.homogeneity_gap(lambda t, x: t**2 + t**3, jnp.array(1.0), None, 2.0, 3.0)
    np.testing.assert_allclose(gap, (9 + 27 - 18) / 18, rtol=1e-14)


# --- the dual ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", bias.LOSSES)
def test_log_losses_and_slopes_against_long_arithmetic(float64, loss):
    margins = np.array([-800.0, -30.0, -1.0, 0.0, 1e-3, 1.0, 16.0, 18.0, 18.5, 20.0, 40.0, 5e3])
    if loss == "exponential":
        expected = slopes = -margins
    else:
        moderate = margins < 700
        odds = np.exp(-margins[moderate & (margins > -700)])
        middle = np.log(np.log1p(odds))
        # beyond: log(1 + e^800) = 800, and log1p(x) = x
        expected = np.concatenate([[math.log(800)], middle, [-5e3]])
        slopes = scipy.special.log_expit(-margins)
    np.testing.assert_allclose(bias.log_losses(jnp.array(margins), loss), expected, rtol=1e-14)
    np.testing.assert_allclose(bias.log_slopes(jnp.array(margins), loss), slopes, rtol=1e-14)


@pytest.mark.parametrize("loss", bias.LOSSES)
def test_effective_dual_is_the_gradient_of_the_log_risk(float64, loss):
    rng = np.random.default_rng(2)
    margins, weights = jnp.array(rng.normal(size=7) * 3), jnp.array(rng.uniform(0, 2, size=7))
    dual = bias.effective_dual(margins, weights, loss=loss)
    gradient = jax.grad(lambda u: bias.log_risk(u, weights, loss=loss))(margins)
    np.testing.assert_allclose(dual, gradient / gradient.sum(), rtol=1e-11)
    terms = np.exp(-margins) if loss == "exponential" else np.log1p(np.exp(-margins))
    log_risk = np.log(np.mean(weights * terms))
    np.testing.assert_allclose(bias.log_risk(margins, weights, loss=loss), log_risk, rtol=1e-12)
    slopes = weights * (np.exp(-margins) if loss == "exponential" else 1 / (1 + np.exp(margins)))
    np.testing.assert_allclose(dual, slopes / slopes.sum(), rtol=1e-12)


def test_a_zero_weight_and_a_large_margin():
    dual = bias.effective_dual(jnp.array([1e4, 2e4, -1e4]), jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(dual, [1, 0, 0])
    margins = jnp.array([1e4, 1e4, -1e4])
    for loss in bias.LOSSES:
        value, gradient = jax.value_and_grad(
            lambda w, loss=loss: bias.log_risk(margins, w, loss=loss)
        )(jnp.array([1.0, 1.0, 0.0]))
        np.testing.assert_allclose(value, math.log(2 / 3) - 1e4, rtol=1e-6)
        assert np.isfinite(gradient).all()


def test_kl_divergence(float64):
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(6), size=(2, 4))
    p[:, 0] = 0
    expected = scipy.special.rel_entr(p, q).sum(axis=-1)
    np.testing.assert_allclose(bias.kl_divergence(jnp.array(p), jnp.array(q)), expected, rtol=1e-12)
    half = jnp.array([0.5, 0.5, 0.0])
    assert bias.kl_divergence(half, jnp.array([1.0, 0.0, 0.0])) == np.inf
    assert bias.kl_divergence(jnp.array([1.0, 0.0, 0.0]), half) == pytest.approx(math.log(2))
    assert bias.kl_divergence(half, half) == 0
    gradient = jax.grad(bias.kl_divergence, argnums=1)(half, jnp.array([0.25, 0.75, 0.0]))
    np.testing.assert_allclose(gradient, [-2, -2 / 3, 0], rtol=1e-12)
    weights = jnp.array([2.0, 4.0, 2.0])  # omega = 1/4, 1/2, 1/4
    np.testing.assert_allclose(bias.dual_divergence(half, weights), 0.5 * math.log(2), rtol=1e-14)


def test_duality_gap_brackets_the_margin_and_the_angle(float64):
    points, star = jnp.array(POINTS), jnp.array([1.0, 0.0])
    rng = np.random.default_rng(4)
    gap_fn = jax.jit(bias.duality_gap)
    for theta in jnp.array(rng.normal(size=(200, 2)) * rng.choice([0.1, 1, 30], size=(200, 1))):
        bounds = gap_fn(points, theta)
        assert bounds.lower <= 1 + 1e-14
        assert bounds.upper >= 1 - 1e-14
        if bounds.lower > 0:
            assert bias.angle_between(theta, star) <= bounds.angle + 1e-12
    at_optimum = gap_fn(points, 50 * star)
    np.testing.assert_allclose(at_optimum, (1.0, 1.0, 0.0, 0.0), atol=1e-14)
    assert gap_fn(points, -star).angle == pytest.approx(math.pi / 2)
    opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0]])  # their hull holds the origin: no margin
    np.testing.assert_allclose(gap_fn(opposite, jnp.array([0.0, 1.0])), (0, 0, 0, math.pi / 2))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        bias.duality_gap(points, jnp.ones(3))


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_duality_gap_by_hand_with_weights(float64, loss):
    theta, weights = np.array([0.7, 0.1]), np.array([0.5, 0.0, 2.0])
    margins = POINTS @ theta
    slopes = np.exp(-margins) if loss == "exponential" else scipy.special.expit(-margins)
    dual = weights * slopes / np.sum(weights * slopes)
    lower, upper = margins.min() / np.linalg.norm(theta), np.linalg.norm(dual @ POINTS)
    bounds = bias.duality_gap(jnp.array(POINTS), jnp.array(theta), jnp.array(weights), loss=loss)
    expected = (lower, upper, upper - lower, np.arccos(lower / upper))
    np.testing.assert_allclose(bounds, expected, rtol=1e-12)


def test_bad_inputs():
    with pytest.raises(ValueError, match="vector"):
        bias.log_risk(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="agree"):
        bias.effective_dual(jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match="exponential"):
        bias.log_risk(jnp.ones(3), loss="hinge")


def test_everything_runs_in_a_compiled_and_mapped_step():
    points = jnp.array(POINTS, jnp.float32)

    def measure(theta):
        margins = points @ theta
        return (
            bias.angle_between(theta, jnp.array([1.0, 0.0])),
            bias.normalized_margin(margins, theta, 1.0),
            bias.smoothed_margin(margins, theta, 1.0),
            bias.class_margins(margins, jnp.array([0, 1, 1]), 2),
            bias.dual_divergence(jnp.array([0.5, 0.5, 0.0]), bias.effective_dual(margins)),
            bias.duality_gap(points, theta),
            bias.homogeneity_order(lambda t, x: x @ t, theta, points),
        )

    thetas = jnp.array([[1.0, 0.1], [0.2, 0.5]])
    mapped = jax.jit(jax.vmap(measure))(thetas)
    one_by_one = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(measure, thetas))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), mapped, one_by_one)
