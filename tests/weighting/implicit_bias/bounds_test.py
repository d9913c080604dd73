"""Margin bounds: hand arithmetic, SciPy integrals, exhaustive sums over signs, brute force."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from weighting.implicit_bias import bounds

SETTING = {"depth": 2, "input_bound": 1.0, "delta": 0.01}


def test_chi_square_of_a_sample():
    ratio = jnp.array([0.5, 1.0, 3.0, 0.0])
    estimate = bounds.chi_square_divergence(ratio)
    np.testing.assert_allclose(estimate.value, (0.25 + 1 + 9) / 4 - 1, rtol=1e-6)
    np.testing.assert_allclose(estimate.standard_error, stats.sem([0.25, 1, 9, 0]), rtol=1e-6)
    # weights 1, 1, 1, 5 have mean 2: the integrand eta^2 doubles, but for the last
    weighted = bounds.chi_square_divergence(ratio, jnp.array([1.0, 1.0, 1.0, 5.0]))
    np.testing.assert_allclose(weighted.value, (0.5 + 2 + 18) / 4 - 1, rtol=1e-6)


def test_weighted_distribution_ratio_where_weights_vanish():
    ratio = bounds.weighted_distribution_ratio(jnp.array([1.0, 0.0, 4.0]), jnp.array([0, 0, 3.0]))
    np.testing.assert_allclose(ratio, [np.inf, 0, 4 / 3], rtol=1e-6)
    lost = bounds.chi_square_divergence(jnp.array([1.0, 0.0, 4.0]), jnp.array([3.0, 0, 3]))
    assert np.isfinite(lost.value)  # the missing point has no mass under the target


def test_discrete_chi_square_by_hand(float64):
    # (0.3^2) / 0.2 + (0.3^2) / 0.8
    value = bounds.discrete_chi_square(jnp.array([0.5, 0.5]), jnp.array([0.2, 0.8]))
    np.testing.assert_allclose(value, 0.5625, rtol=1e-14)
    p, q = np.random.default_rng(0).dirichlet(np.ones(6), 2)
    value = bounds.discrete_chi_square(jnp.asarray(p), jnp.asarray(q))
    np.testing.assert_allclose(value, np.sum(p * p / q) - 1, rtol=1e-12)
    assert bounds.discrete_chi_square(jnp.asarray(p), jnp.asarray(p)) == 0
    assert bounds.discrete_chi_square(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) == np.inf
    assert bounds.discrete_chi_square(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])) == 0
    # the integrand with the ratio upside down, as one paper prints it, is another number
    upside_down = (0.2 / 0.5) ** 2 * 0.2 + (0.8 / 0.5) ** 2 * 0.8 - 1
    assert abs(upside_down - 0.5625) > 0.5
    with pytest.raises(ValueError, match="must both be"):
        bounds.discrete_chi_square(jnp.ones(2), jnp.ones(3))


def test_discrete_chi_square_is_the_mean_of_the_sample_estimate(float64):
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.25, 0.25])
    points = np.random.default_rng(1).choice(3, size=20000, p=q)
    estimate = bounds.chi_square_divergence(jnp.asarray((p / q)[points]))
    exact = bounds.discrete_chi_square(jnp.asarray(p), jnp.asarray(q))
    assert abs(estimate.value - exact) < 4 * estimate.standard_error


def test_gaussian_chi_square_against_quadrature(float64):
    m, s, mu, t = 0.7, 0.8, -0.2, 1.1
    exact, _ = integrate.quad(
        lambda x: stats.norm.pdf(x, m, s) ** 2 / stats.norm.pdf(x, mu, t), -12, 12
    )
    one = [jnp.array([m]), jnp.array([[s**2]]), jnp.array([mu]), jnp.array([[t**2]])]
    np.testing.assert_allclose(bounds.gaussian_chi_square(*one), exact - 1, rtol=1e-8)

    target = stats.multivariate_normal([0.4, -0.3], np.array([[0.6, 0.2], [0.2, 0.5]]))
    source = stats.multivariate_normal([0.0, 0.1], np.array([[1.0, -0.1], [-0.1, 0.7]]))
    axis = np.linspace(-9, 9, 601)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    values = np.exp(2 * target.logpdf(grid) - source.logpdf(grid))
    exact = values.sum() * (axis[1] - axis[0]) ** 2  # the trapezoid rule is spectral here
    two = bounds.gaussian_chi_square(
        jnp.asarray(target.mean),
        jnp.asarray(target.cov),
        jnp.asarray(source.mean),
        jnp.asarray(source.cov),
    )
    np.testing.assert_allclose(two, exact - 1, rtol=1e-9)


def test_gaussian_chi_square_limits(float64):
    zero, identity = jnp.zeros(2), jnp.eye(2)
    assert abs(bounds.gaussian_chi_square(zero, identity, zero, identity)) < 1e-15
    # a shift alone: exp(|d|^2) - 1
    shifted = bounds.gaussian_chi_square(jnp.array([1.0, 0.5]), identity, zero, identity)
    np.testing.assert_allclose(shifted, math.exp(1.25) - 1, rtol=1e-13)
    for factor in [2.0, 3.0]:
        wide = jnp.diag(jnp.array([1.0, factor]))
        assert bounds.gaussian_chi_square(zero, wide, zero, identity) == np.inf
    with pytest.raises(ValueError, match=r"\[D, D\] with D = 2"):
        bounds.gaussian_chi_square(zero, jnp.eye(3), zero, identity)


def test_margin_error_is_strict_and_weighted():
    margins, weights = jnp.array([0.1, -0.2, 0.3, 0.1]), jnp.array([1.0, 2.0, 4.0, 8.0])
    grid = jnp.array([-0.2, 0.0, 0.1, 0.2, 1.0])
    by_hand = np.array([0, 2, 2, 11, 15]) / 4
    np.testing.assert_allclose(bounds.margin_error(margins, grid, weights), by_hand, rtol=1e-6)
    np.testing.assert_allclose(bounds.margin_error(margins), 0.25)
    assert bounds.margin_error(margins, grid.reshape(5, 1)).shape == (5, 1)
    with pytest.raises(ValueError, match="one weight per margin"):
        bounds.margin_error(margins, 0.0, weights[:2])


def counterexample(num_points):
    """Two equally likely points, weighted as (0.1, 0.9); a network of norm 2 errs on the second."""
    half = num_points // 2
    margins = jnp.repeat(jnp.array([0.25, -0.25]), half)
    ratio = jnp.repeat(jnp.array([0.5 / 0.1, 0.5 / 0.9]), half)
    divergence = bounds.discrete_chi_square(jnp.array([0.5, 0.5]), jnp.array([0.1, 0.9]))
    return margins, ratio, divergence


def test_the_printed_bound_of_weighted_training_is_false(float64):
    margins, ratio, divergence = counterexample(10**6)
    np.testing.assert_allclose(divergence, 2.5 + 0.25 / 0.9 - 1, rtol=1e-12)
    options = {**SETTING, "gamma": 0.1, "divergence": divergence}
    printed = bounds.ensemble_margin_bound(margins[None], ratio, form="printed", **options)
    by_hand = [
        5 / 18,
        (5 / 3) / (0.1 * math.sqrt(2) * 1000),
        (math.sqrt(math.log(math.log2(40))) + math.sqrt(math.log(100))) / 1000,
    ]
    np.testing.assert_allclose(printed[:3], by_hand, rtol=1e-12)
    assert round(float(printed.total), 3) == 0.293
    explicit = bounds.ensemble_margin_bound(margins[None], ratio, **options)
    complexity = 4 * (5 / 3) * (math.sqrt(4 * math.log(2)) + 1) / (0.1 * 1000 * 2)
    deviation = math.sqrt(math.log(math.log2(40))) + math.sqrt(math.log(100) / 2)
    np.testing.assert_allclose(explicit[:3], [5 / 18, complexity, 5e-3 * deviation], rtol=1e-12)
    assert round(float(explicit.total), 3) == 0.381
    # explicit (II) with the printed (III); every one is below the true error of a half
    assert round(float(explicit.empirical + explicit.complexity + printed.deviation), 3) == 0.370

    # points of the weighted distribution, 0.1 and 0.9 of them: (I) is the true error
    honest = jnp.where(jnp.arange(1000) < 100, 0.25, -0.25)
    ratio = jnp.where(honest > 0, 5.0, 5 / 9)
    bound = bounds.ensemble_margin_bound(honest[None], ratio, gamma=0.1, **SETTING)
    np.testing.assert_allclose(bound.empirical, 0.5, rtol=1e-12)
    assert bound.total > 0.5


def brute_force(margins, ratio, *, depth, input_bound, delta, form, num_examples=None):
    """Terms of the bound at every margin, just below and above it, and on a fine grid, in NumPy."""
    n = num_examples or len(ratio)
    grid = np.geomspace(1e-3, 2 * input_bound, 4000)
    positive = margins[(margins > 0) & (margins < 2 * input_bound)]
    grid = np.concatenate([grid, positive, positive * (1 - 1e-9), positive * (1 + 1e-9)])
    first = np.array([np.sum(ratio[margins < g]) for g in grid]) / len(margins)
    moment = np.sqrt(np.mean(ratio**2))
    iterated = np.log(np.log2(4 * input_bound / grid))
    iterated = np.sqrt(np.maximum(iterated, 0) / n)
    if form == "explicit":
        constant = 4 * (np.sqrt(np.log(4) * depth) + 1) * depth ** (-depth / 2)
        third = ratio.max() * (iterated + np.sqrt(-np.log(delta) / 2 / n))
    else:
        constant = depth ** ((1 - depth) / 2)
        third = iterated + np.sqrt(-np.log(delta) / n)
    total = first + input_bound * moment * constant / (grid * np.sqrt(n)) + third
    return grid[np.argmin(total)], total.min()


@pytest.mark.parametrize("form", bounds.FORMS)
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_the_best_margin_beats_a_brute_force_search(float64, form, scale):
    rng = np.random.default_rng(2)
    margins = np.round(scale * rng.normal(1.0, 0.8, size=400), 3)  # with ties, some negative
    ratio = rng.uniform(0.2, 1.8, size=400)
    for depth, input_bound in [(1, 0.5), (6, 0.2)]:
        options = {"depth": depth, "input_bound": input_bound, "delta": 0.05, "form": form}
        bound = bounds.weighted_margin_bound(jnp.asarray(margins), jnp.asarray(ratio), **options)
        gamma, total = brute_force(margins, ratio, **options)
        assert bound.total <= total + 1e-12
        np.testing.assert_allclose(bound.total, total, rtol=2e-7)
        np.testing.assert_allclose(bound.gamma, gamma, rtol=1e-6)
        at = bounds.weighted_margin_bound(
            jnp.asarray(margins), jnp.asarray(ratio), gamma=bound.gamma, **options
        )
        np.testing.assert_allclose(at, bound, rtol=1e-12)


def test_the_best_margin_is_never_above_twice_the_bound_of_the_inputs(float64):
    """Beyond it the iterated logarithm is undefined, whatever the margins claim to be."""
    for margins in ([5.0, 6.0, 7.0], [0.01, 5.0, 7.0]):
        bound = bounds.weighted_margin_bound(
            jnp.array(margins), jnp.ones(3), **{**SETTING, "input_bound": 0.5}
        )
        empirical = np.mean(np.array(margins) < 1.0)
        np.testing.assert_allclose((bound.gamma, bound.empirical), (1.0, empirical), rtol=1e-12)


def test_an_ensemble_shares_one_margin(float64):
    rng = np.random.default_rng(3)
    margins, ratio = rng.normal(0.1, 0.1, (5, 60)), rng.uniform(0.5, 1.5, 60)
    options = {**SETTING, "form": "printed"}
    bound = bounds.ensemble_margin_bound(jnp.asarray(margins), jnp.asarray(ratio), **options)
    gamma, total = brute_force(margins.ravel(), np.tile(ratio, 5), num_examples=60, **options)
    np.testing.assert_allclose(bound.gamma, gamma, rtol=1e-6)
    np.testing.assert_allclose(bound.total, total, rtol=2e-7)
    each = [
        bounds.weighted_margin_bound(
            jnp.asarray(row), jnp.asarray(ratio), gamma=float(bound.gamma), **options
        )
        for row in margins
    ]
    np.testing.assert_allclose(bound.total, np.mean([b.total for b in each]), rtol=1e-12)
    with pytest.raises(ValueError, match=r"must be \[V, N\]"):
        bounds.ensemble_margin_bound(jnp.ones(3), jnp.ones(3), **options)


def test_laws_of_scale(float64):
    margins, ratio = jnp.linspace(-0.2, 0.5, 50), jnp.linspace(0.5, 1.5, 50)

    def bound(repeats=1, scale=1.0, **options):
        return bounds.weighted_margin_bound(
            jnp.tile(scale * margins, repeats),
            jnp.tile(ratio, repeats),
            **{**SETTING, "gamma": 0.1, **options},
        )

    once, four_times = bound(), bound(repeats=4)
    np.testing.assert_allclose(four_times.empirical, once.empirical, rtol=1e-12)
    np.testing.assert_allclose(four_times.complexity, once.complexity / 2, rtol=1e-12)
    np.testing.assert_allclose(four_times.deviation, once.deviation / 2, rtol=1e-12)
    # lengths have no unit: inputs, margins and gamma doubled (f is homogeneous in x as well)
    np.testing.assert_allclose(
        bound(scale=2.0, input_bound=2.0, gamma=0.2).total, once.total, rtol=1e-12
    )
    curve = bound(gamma=jnp.geomspace(0.01, 2.0, 30))
    assert np.all(np.diff(curve.complexity) < 0)
    assert np.all(np.diff(curve.deviation) <= 0)
    assert np.all(np.diff(curve.empirical) >= 0)
    np.testing.assert_allclose(bound(divergence=3.0).complexity, 2 * bound(divergence=0).complexity)
    np.testing.assert_allclose(bound(max_ratio=3.0).deviation, 2 * once.deviation, rtol=1e-12)
    # at gamma = 2C nothing is left of the union over scales
    end = bound(gamma=2.0).deviation
    np.testing.assert_allclose(end, 1.5 * math.sqrt(math.log(100) / 100), rtol=1e-12)


def test_the_bound_under_jit_and_vmap():
    margins, ratio = jnp.linspace(-0.2, 0.5, 50), jnp.linspace(0.5, 1.5, 50)

    def total(delta, bound):
        return bounds.weighted_margin_bound(
            margins, ratio, depth=3, input_bound=bound, delta=delta
        ).total

    deltas = jnp.array([0.01, 0.1])
    together = jax.jit(jax.vmap(total, (0, None)))(deltas, jnp.float32(1.0))
    np.testing.assert_allclose(together, [total(0.01, 1.0), total(0.1, 1.0)], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 0.0}, "gamma must lie"),
        ({"gamma": 2.1}, "gamma must lie"),
        ({"gamma": jnp.array([0.1, 3.0])}, "gamma must lie"),
        ({"delta": 1.0}, "delta must lie"),
        ({"depth": 0}, "depth must lie"),
        ({"input_bound": 0.0}, "input_bound must be positive"),
        ({"form": "loose"}, "form must be one of"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        bounds.weighted_margin_bound(jnp.ones(3), jnp.ones(3), **{**SETTING, **changes})


def test_bad_shapes():
    with pytest.raises(ValueError, match="one ratio per margin"):
        bounds.weighted_margin_bound(jnp.ones(3), jnp.ones(4), **SETTING)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="on the plane"):
        bounds.relu_rademacher(key, jnp.ones((3, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"\[F, N\]"):
        bounds.finite_class_rademacher(key, jnp.ones((3, 2)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        bounds.linear_rademacher(key, jnp.ones(3), jnp.ones(3))


def small_problem(num_points=8):
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(num_points, 2))
    ratio = rng.uniform(0.2, 2.0, num_points)
    signs = np.array(list(itertools.product([-1, 1], repeat=num_points)))
    return inputs, ratio, signs * ratio


def agrees(estimate, exact):
    assert estimate.standard_error > 0
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    assert estimate.standard_error < 0.05 * exact


def test_rademacher_of_a_linear_class_against_all_signs():
    inputs, ratio, signed = small_problem()
    exact = 1.5 * np.mean(np.linalg.norm(signed @ inputs, axis=1)) / 8
    estimate = bounds.linear_rademacher(
        jax.random.key(0), jnp.asarray(inputs), jnp.asarray(ratio), norm_bound=1.5
    )
    agrees(estimate, exact)


def test_rademacher_of_a_finite_class_against_all_signs():
    _, ratio, signed = small_problem()
    outputs = np.random.default_rng(5).normal(size=(7, 8))
    exact = np.mean(np.max(signed @ outputs.T, axis=1)) / 8
    estimate = bounds.finite_class_rademacher(
        jax.random.key(1), jnp.asarray(outputs), jnp.asarray(ratio)
    )
    agrees(estimate, exact)


def test_rademacher_of_relu_networks_against_all_signs_and_a_grid():
    inputs, ratio, signed = small_problem()
    angles = np.linspace(0, 2 * np.pi, 2001)
    units = np.maximum(inputs @ np.stack([np.cos(angles), np.sin(angles)]), 0)
    exact = 2 * np.mean(np.max(np.abs(signed @ units), axis=1)) / 8
    estimate = bounds.relu_rademacher(
        jax.random.key(2), jnp.asarray(inputs), jnp.asarray(ratio), norm_bound=2.0
    )
    agrees(estimate, exact)


def test_each_supremum_over_relu_networks_is_exact(float64, monkeypatch):
    # the standard error and mean hide single draws: look at them all
    monkeypatch.setattr(bounds, "_estimate", lambda values: values)
    rng = np.random.default_rng(6)
    inputs, ratio = rng.normal(size=(30, 2)), rng.uniform(0.2, 2.0, 30)
    inputs[3] = 0
    inputs[4] = -inputs[5]
    draws = bounds.relu_rademacher(
        jax.random.key(3), jnp.asarray(inputs), jnp.asarray(ratio), num_draws=20
    )
    angles = np.linspace(0, 2 * np.pi, 40001)
    units = np.maximum(inputs @ np.stack([np.cos(angles), np.sin(angles)]), 0)
    keys = jax.random.split(jax.random.key(3), 20)
    for key, value in zip(keys, draws, strict=True):
        signs = np.asarray(jax.random.rademacher(key, (30,), jnp.float64)) * ratio
        best = np.max(np.abs(signs @ units)) / 30
        assert best - 1e-12 <= value <= best * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_complexities_stay_below_their_bound(seed):
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.normal(size=(20, 2)))
    ratio = jnp.asarray(rng.exponential(size=20))
    key = jax.random.key(seed)
    options = {"norm_bound": 0.5, "num_draws": 200}
    one = bounds.linear_rademacher(key, inputs, ratio, **options)
    two = bounds.relu_rademacher(key, inputs, ratio, **options)
    for depth, estimate in [(1, one), (2, two)]:
        bound = bounds.rademacher_bound(inputs, ratio, depth=depth, norm_bound=0.5)
        assert estimate.value + 4 * estimate.standard_error < bound
    # Jensen: a linear class needs no factor for its depth
    jensen = 0.5 * np.sqrt(np.sum(np.asarray(ratio) ** 2 * np.sum(np.asarray(inputs) ** 2, 1))) / 20
    assert one.value < jensen + 4 * one.standard_error


def test_rademacher_bound_by_hand():
    inputs, ratio = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.array([1.0, 2.0])
    by_hand = 0.25 * (math.sqrt(6 * math.log(2)) + 1) * math.sqrt(25 + 4) / 2
    value = bounds.rademacher_bound(inputs, ratio, depth=3, norm_bound=0.25)
    np.testing.assert_allclose(value, by_hand, rtol=1e-6)


def test_the_explicit_bound_holds_on_a_finite_class():
    """Lemma A.6 with every constant, the worst of a finite class, on 400 samples."""
    p_s, p_t = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])
    outputs = np.random.default_rng(7).uniform(-1, 1, size=(6, 4))  # y f on four points, C = 1
    truth = (outputs <= 0) @ p_t
    rng, violations, num_points, delta = np.random.default_rng(8), 0, 50, 0.2
    gammas = np.geomspace(0.05, 2.0, 15)
    for repeat in range(400):
        points = rng.choice(4, num_points, p=p_s)
        ratio = (p_t / p_s)[points]
        if repeat == 0:  # the complexity hardly varies from sample to sample
            complexity = bounds.finite_class_rademacher(
                jax.random.key(0), jnp.asarray(outputs[:, points]), jnp.asarray(ratio)
            ).value
        empirical = np.array(
            [[np.mean(ratio * (f < g)) for g in gammas] for f in outputs[:, points]]
        )
        scales = np.sqrt(np.log(np.maximum(np.log2(4 / gammas), 1)) / num_points)
        deviation = 2.5 * (scales + np.sqrt(np.log(1 / delta) / (2 * num_points)))
        right = empirical + 4 * float(complexity) / gammas + deviation
        violations += np.any(truth[:, None] > right)
    assert violations <= stats.binom.ppf(0.999, 400, delta)
