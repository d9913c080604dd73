"""Density ratios: Gaussians with a known ratio, SciPy, scikit-learn and NumPy solutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from weighting.shift.density_ratio import (
    choose_centers,
    class_prior_ratio,
    classifier_ratio,
    kliep_ratio,
    median_bandwidth,
    ulsif_ratio,
    ulsif_score,
)

SHIFT = np.array([0.8, -0.4])


WIDTH = 0.7  # narrower than the source, so that the ratio is bounded


def samples(num_source, num_target, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(num_source, 2))
    target = WIDTH * rng.normal(size=(num_target, 2)) + SHIFT[None]
    return jnp.asarray(source), jnp.asarray(target)


def true_ratio(x):
    """A Gaussian of the given width at the shift, to the unit Gaussian at the origin."""
    x = np.asarray(x)
    exponent = np.sum(x**2, axis=1) / 2 - np.sum((x - SHIFT) ** 2, axis=1) / (2 * WIDTH**2)
    return np.exp(exponent) / WIDTH**2


def kernel(x, centers, bandwidth):
    out = np.zeros((len(x), len(centers)))
    for i, point in enumerate(np.asarray(x)):
        for j, center in enumerate(np.asarray(centers)):
            out[i, j] = np.exp(-np.sum((point - center) ** 2) / (2 * bandwidth**2))
    return out


def test_class_prior_ratio_by_hand():
    np.testing.assert_allclose(class_prior_ratio([0.2, 0.8], [0.8, 0.2]), [0.25, 4], rtol=1e-6)
    counts = class_prior_ratio(np.array([30, 10, 0, 0]), np.array([10, 20, 10, 0]))
    np.testing.assert_allclose(counts, [3, 0.5, 0, 0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"classes \[1\] occur in the target but not"):
        class_prior_ratio(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="must both be"):
        class_prior_ratio(np.ones(2), np.ones(3))


def with_squares(x):
    return jnp.concatenate([x, x**2], axis=1)


def estimate(name, source, target, points):
    """The ratio at the source points and at other points."""
    size, points = len(source), jnp.concatenate([source, points])
    if name == "classifier":
        source, target, points = (with_squares(x) for x in (source, target, points))
        fit = functools.partial(classifier_ratio, regularization=1e-3)
    else:
        centers = choose_centers(jax.random.key(0), target, 40)
        options = {"regularization": 0.03} if name == "ulsif" else {}
        function = ulsif_ratio if name == "ulsif" else kliep_ratio
        fit = functools.partial(function, centers=centers, bandwidth=0.7, **options)
    ratio = jax.jit(functools.partial(fit, normalize=False))(source, target, points=points)
    return ratio[:size], ratio[size:]


@pytest.mark.parametrize("name", ["classifier", "ulsif", "kliep"])
def test_the_known_ratio_of_two_gaussians_is_approached(name):
    held_out, _ = samples(400, 1, seed=9)
    errors = []
    for size in (100, 3000):
        source, target = samples(size, size)
        own, at = estimate(name, source, target, held_out)
        assert own.shape == (size,)
        assert np.all(own >= 0)
        errors.append(np.sqrt(np.mean((at - true_ratio(held_out)) ** 2)))
    assert errors[1] < 0.6 * errors[0]
    assert np.corrcoef(own, true_ratio(source))[0, 1] > 0.95
    # what the weights are for: the target's mean from the source's points
    np.testing.assert_allclose(own @ source / own.sum(), SHIFT, atol=0.15)


def test_classifier_is_scikit_learns_logistic_regression(float64):
    source, target = samples(60, 40)
    features = np.concatenate([source, target])
    regularization = 0.02
    reference = LogisticRegression(C=1 / (regularization * 100), tol=1e-12, max_iter=10_000)
    reference.fit(features, np.repeat([0, 1], [60, 40]))
    odds = np.exp(reference.decision_function(np.asarray(source)))
    fit = jax.jit(functools.partial(classifier_ratio, normalize=False))
    own = fit(source, target, regularization=regularization, clip=jnp.inf)
    np.testing.assert_allclose(own, 60 / 40 * odds, rtol=1e-6)
    clipped = fit(source, target, regularization=regularization, clip=1.5)
    np.testing.assert_allclose(clipped, np.minimum(60 / 40 * odds, 1.5), rtol=1e-6)
    strong = fit(source, target, regularization=1e6, clip=jnp.inf)
    np.testing.assert_allclose(strong, np.ones(60), atol=1e-5)


def test_classifier_is_differentiated_at_its_minimum(float64):
    """By the implicit function theorem; the reference is central differences of the whole fit."""
    source, target = samples(60, 40)
    coefficients = jnp.sin(jnp.arange(60.0))

    def value(source, regularization):
        return coefficients @ classifier_ratio(source, target, regularization=regularization)

    by_source, by_regularization = jax.jit(jax.grad(value, (0, 1)))(source, 0.02)
    step = 1e-4
    change = value(source, 0.02 + step) - value(source, 0.02 - step)
    np.testing.assert_allclose(by_regularization, change / (2 * step), rtol=1e-4)
    move = jnp.zeros_like(source).at[3, 1].set(step)
    change = value(source + move, 0.02) - value(source - move, 0.02)
    np.testing.assert_allclose(by_source[3, 1], change / (2 * step), rtol=1e-5)
    _, forward = jax.jvp(lambda r: value(source, r), (0.02,), (1.0,))
    np.testing.assert_allclose(forward, by_regularization, rtol=1e-8)


def test_classifier_weights_are_finite_for_separable_samples():
    source, target = samples(30, 30)
    fit = jax.jit(functools.partial(classifier_ratio, regularization=1e-6))
    weights = fit(source, target + 100.0)
    assert np.all(np.isfinite(weights))
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)


def test_ulsif_is_the_solution_of_its_linear_system(float64):
    source, target = samples(50, 30)
    centers, bandwidth, regularization = target[:7], 0.9, 0.05
    at_source, at_target = kernel(source, centers, bandwidth), kernel(target, centers, bandwidth)
    gram = sum(np.outer(row, row) for row in at_source) / 50
    alpha = np.linalg.solve(gram + regularization * np.eye(7), at_target.mean(axis=0))
    assert np.any(alpha < 0)
    expected = at_source @ np.maximum(alpha, 0)
    own = ulsif_ratio(source, target, centers, bandwidth, regularization, normalize=False)
    np.testing.assert_allclose(own, expected, rtol=1e-9)
    normalized = ulsif_ratio(source, target, centers, bandwidth, regularization, clip=1.2)
    clipped = np.minimum(expected, 1.2)
    np.testing.assert_allclose(normalized, clipped / clipped.mean(), rtol=1e-9)


@pytest.mark.parametrize(("num_source", "num_target"), [(12, 9), (8, 11)])
def test_ulsif_score_is_a_loop_of_refits(float64, num_source, num_target):
    source, target = samples(num_source, num_target)
    centers, bandwidth, regularization = target[:5], 0.8, 0.1
    at_source, at_target = kernel(source, centers, bandwidth), kernel(target, centers, bandwidth)
    terms = []
    for i in range(min(num_source, num_target)):
        a, b = np.delete(at_source, i, axis=0), np.delete(at_target, i, axis=0)
        system = a.T @ a / len(a) + regularization * np.eye(5)
        alpha = np.maximum(np.linalg.solve(system, b.mean(axis=0)), 0)
        terms.append((at_source[i] @ alpha) ** 2 / 2 - at_target[i] @ alpha)
    own = ulsif_score(source, target, centers, bandwidth, regularization)
    np.testing.assert_allclose(own, np.mean(terms), rtol=1e-9)


def test_ulsif_score_chooses_a_sensible_bandwidth_over_a_grid():
    source, target = samples(200, 200)
    centers = choose_centers(jax.random.key(0), target, 30)
    widths = jnp.array([0.05, 1.0, 50.0])
    scores = jax.vmap(lambda width: ulsif_score(source, target, centers, width, 0.1))(widths)
    assert int(jnp.argmin(scores)) == 1


def test_kliep_reaches_the_optimum_of_its_program(float64):
    source, target = samples(20, 15)
    centers, bandwidth = target[:4], 0.7
    at_source, at_target = kernel(source, centers, bandwidth), kernel(target, centers, bandwidth)
    solution = minimize(
        lambda a: -np.mean(np.log(at_target @ a)),
        np.full(4, 1 / at_source.mean(axis=0).sum()),
        jac=lambda a: -(1 / (at_target @ a)) @ at_target / 15,
        bounds=[(0, None)] * 4,
        constraints={
            "type": "eq",
            "fun": lambda a: np.mean(at_source @ a) - 1,
            "jac": lambda a: at_source.mean(axis=0),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    own_source = kliep_ratio(
        source, target, centers, bandwidth, num_iterations=5000, normalize=False
    )
    own_target = kliep_ratio(
        source, target, centers, bandwidth, num_iterations=5000, points=target, normalize=False
    )
    assert abs(float(own_source.mean()) - 1) < 1e-12
    assert np.mean(np.log(own_target)) > -solution.fun - 1e-9
    np.testing.assert_allclose(own_source, at_source @ solution.x, rtol=1e-4)


def test_kliep_rises_with_every_iteration_and_survives_lonely_centers():
    source, target = samples(40, 30)
    target = target.at[0].set(1000.0)  # no source point within a million widths
    values = []
    for num_iterations in (1, 3, 10, 100):
        fit = functools.partial(kliep_ratio, source, target, target, 0.7, normalize=False)
        at_target = fit(num_iterations=num_iterations, points=target)
        values.append(np.mean(np.log(at_target[1:])))
        weights = fit(num_iterations=num_iterations)
        assert np.all(np.isfinite(weights))
        assert abs(float(weights.mean()) - 1) < 1e-5
    assert np.all(np.diff(values) > 0)


def test_centers_and_bandwidth():
    points = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    # distances 5, 1, sqrt(18)
    np.testing.assert_allclose(median_bandwidth(points), np.sqrt(18), rtol=1e-6)
    _, target = samples(1, 20)
    centers = np.asarray(choose_centers(jax.random.key(1), target, 6))
    assert len(np.unique(centers, axis=0)) == 6
    assert all(np.any(np.all(center == np.asarray(target), axis=1)) for center in centers)
    assert choose_centers(jax.random.key(1), target, 100).shape == (20, 2)


def test_points_that_coincide_do_not_count_for_the_bandwidth():
    points = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    repeated = jnp.concatenate([points[:1]] * 7 + [points])  # 28 of 45 pairs coincide
    distances = np.array([5.0] * 8 + [1.0] * 8 + [np.sqrt(18)])
    np.testing.assert_allclose(median_bandwidth(repeated), np.median(distances), rtol=1e-6)
    far = jnp.concatenate([points, jnp.array([[1e4, 0.0]])])  # an outlier hides no pair
    assert abs(float(median_bandwidth(far)) - (5 + 1e4) / 2) < 5
    constant = jnp.full((6, 2), 0.1)
    with pytest.raises(ValueError, match=r"all 6 points coincide.*Drop constant features"):
        median_bandwidth(constant)
    assert np.isnan(jax.jit(median_bandwidth)(constant))
    with pytest.raises(ValueError, match=r"bandwidth is NaN.*all points coincide"):
        kliep_ratio(constant, constant, constant, jax.jit(median_bandwidth)(constant))
    # a repeated target is no obstacle: the widths come from the source
    source, _ = samples(20, 1)
    target = jnp.zeros((9, 2))
    weights = kliep_ratio(source, target, target, median_bandwidth(source))
    assert np.argmax(weights) == np.argmin(np.sum(np.asarray(source) ** 2, axis=1))


def test_samples_that_do_not_overlap_are_refused():
    source, target = samples(30, 20)
    far = target + 1e4
    fits = [
        functools.partial(kliep_ratio, bandwidth=0.7),
        functools.partial(ulsif_ratio, bandwidth=0.7, regularization=0.1),
    ]
    for fit in fits:
        with pytest.raises(
            ValueError, match=r"do not overlap at bandwidth 0\.7: the largest kernel"
        ):
            fit(source, far, far)
        traced = jax.jit(fit)
        assert np.all(np.isnan(traced(source, far, far)))
        np.testing.assert_allclose(traced(source, target, target).mean(), 1, rtol=1e-5)
        wide = fit(source, far, far, bandwidth=1e4)  # as the message says
        np.testing.assert_allclose(wide.mean(), 1, rtol=1e-5)


def test_whole_numbers_are_computed_as_floats():
    source, target = (np.round(3 * np.asarray(x)).astype(int) for x in samples(40, 30))
    fits = [
        classifier_ratio,
        lambda s, t: kliep_ratio(s, t, t[:9], 2),
        lambda s, t: ulsif_ratio(s, t, t[:9], 2, 0.1),
        lambda s, t: ulsif_score(s, t, t[:9], 2, 0.1),
        lambda s, t: median_bandwidth(t),
    ]
    for fit in fits:
        whole = fit(jnp.asarray(source), jnp.asarray(target))
        floats = fit(jnp.asarray(source, jnp.float32), jnp.asarray(target, jnp.float32))
        np.testing.assert_array_equal(whole, floats)
        assert jnp.issubdtype(whole.dtype, jnp.floating)


def test_wrong_shapes_and_ranges_are_explained():
    source, target = samples(5, 5)
    with pytest.raises(ValueError, match=r"matrices \[N, D\]"):
        classifier_ratio(source[:, 0], target[:, 0])
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        kliep_ratio(source, target, target, 0.0)
    with pytest.raises(ValueError, match="regularization must be positive"):
        ulsif_ratio(source, target, target, 1.0, 0.0)
    with pytest.raises(ValueError, match="clip must lie in"):
        classifier_ratio(source, target, clip=0.0)
