"""The largest separable subset: constructed data, one program per example, SciPy's minimizer."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from weighting.implicit_bias import separable_part as module
from weighting.implicit_bias.separable_part import finite_solution, separable_part, split_parameters


def axis_data(seed=0, num_separable=12, num_rest=8):
    """Points on the second axis with mixed labels; the others on their label's side of it."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(num_separable + num_rest) % 2 == 0, 1, -1)
    first = labels * rng.uniform(0.2, 1.0, labels.size)
    first[num_separable:] = 0
    inputs = np.stack([first, rng.normal(size=labels.size)], axis=1)
    inputs[num_separable:, 1] = rng.uniform(0.3, 1.0, num_rest)
    return inputs, labels, np.arange(labels.size) < num_separable


def check_certificates(inputs, labels, part):
    """Verifies both certificates in plain arithmetic."""
    signed = labels[:, None] * np.asarray(inputs, float)
    size = np.max(np.linalg.norm(signed, axis=1))
    gains = signed @ part.theta
    assert np.all(gains[part.is_separable] > 0)
    np.testing.assert_allclose(gains[~part.is_separable], 0, atol=1e-9 * size)
    assert np.all(part.multipliers[part.is_separable] == 0)
    assert np.all(part.multipliers[~part.is_separable] >= 1 - 1e-12)
    np.testing.assert_allclose(part.multipliers @ signed, 0, atol=1e-9 * size)
    np.testing.assert_allclose(
        part.residual, np.linalg.norm(part.multipliers @ signed), atol=1e-12 * size
    )
    bases = np.hstack([part.span_basis, part.complement_basis])
    np.testing.assert_allclose(bases.T @ bases, np.eye(bases.shape[0]), atol=1e-12)
    rest = signed[~part.is_separable]
    np.testing.assert_allclose(rest @ part.complement_basis, 0, atol=1e-9 * size)
    assert part.span_basis.shape[1] == (np.linalg.matrix_rank(rest) if len(rest) else 0)


def one_program_each(inputs, labels):
    """The papers' construction: example i joins if some direction gains on it and loses on none."""
    signed = labels[:, None] * inputs
    members = []
    for row in signed:
        result = linprog(-row, A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1))
        members.append(-result.fun > 1e-7)
    return np.array(members)


@pytest.mark.parametrize("seed", range(3))
def test_overlap_on_an_axis(seed):
    inputs, labels, truth = axis_data(seed)
    part = separable_part(inputs, labels)
    np.testing.assert_array_equal(part.is_separable, truth)
    np.testing.assert_allclose(part.theta, [1, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(part.span_basis[:, 0]), [0, 1], atol=1e-12)
    check_certificates(inputs, labels, part)
    np.testing.assert_array_equal(one_program_each(inputs, labels), truth)


@pytest.mark.parametrize("seed", range(6))
def test_random_subspaces_in_five_dimensions(seed):
    """The rest spans k dimensions, rotated; the others may lean on one another to be separable."""
    rng = np.random.default_rng(seed)
    dims = seed % 4
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    inputs = rng.normal(size=(18, 5))
    inputs[:10, 4] = np.abs(inputs[:10, 4]) + 0.1
    inputs[10:, dims:] = 0
    labels = np.where(rng.random(18) < 0.5, -1, 1)
    inputs[:10, 4] *= labels[:10]
    inputs = inputs @ rotation * rng.uniform(0.01, 100, (18, 1))
    part = separable_part(inputs, labels)
    check_certificates(inputs, labels, part)
    units = inputs / np.maximum(np.linalg.norm(inputs, axis=1, keepdims=True), 1e-300)
    np.testing.assert_array_equal(part.is_separable, one_program_each(units, labels))
    assert np.all(part.is_separable[:10])


def test_everything_separable_and_nothing():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(30, 3))
    direction = np.array([1.0, -2.0, 0.5])
    labels = np.sign(inputs @ direction)
    part = separable_part(inputs, labels)
    assert part.is_separable.all()
    assert part.span_basis.shape == (3, 0)
    assert part.residual == 0
    check_certificates(inputs, labels, part)
    solution = finite_solution(inputs, labels, np.ones(30), part)
    np.testing.assert_array_equal(solution.theta, np.zeros(3))

    labels = np.where(rng.random(30) < 0.5, -1, 1)  # noise: no direction is without a loss
    part = separable_part(inputs, labels)
    assert not part.is_separable.any()
    assert part.complement_basis.shape == (3, 0)
    np.testing.assert_array_equal(part.theta, np.zeros(3))
    check_certificates(inputs, labels, part)


def test_duplicates_zeros_and_jax_arrays():
    inputs = np.array([[1.0, 1], [1, 1], [1, 1], [0, 0], [2, 0], [2, 0], [3, 3]])
    labels = np.array([1, 1, -1, 1, 1, 1, -1])
    part = separable_part(inputs, labels)
    # (1, 1) has both labels; (2, 0) is free along (1, -1)
    np.testing.assert_array_equal(part.is_separable, [0, 0, 0, 0, 1, 1, 0])
    np.testing.assert_allclose(part.theta, np.array([1, -1]) / np.sqrt(2), atol=1e-12)
    check_certificates(inputs, labels, part)
    again = separable_part(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels))
    np.testing.assert_array_equal(again.is_separable, part.is_separable)
    only_zero = separable_part(np.zeros((2, 3)), np.array([1, -1]))
    assert not only_zero.is_separable.any()
    assert only_zero.complement_basis.shape == (3, 3)


def test_a_narrow_gap_is_found():
    for gap in [1e-2, 1e-4, 1e-6]:
        inputs = np.array([[gap, 1.0], [gap, -1.0], [-gap, 1.0], [-gap, -1.0]])
        labels = np.array([1, 1, -1, -1])
        part = separable_part(inputs, labels)
        assert part.is_separable.all()
        check_certificates(inputs, labels, part)


def test_what_the_linear_program_claims_is_checked(monkeypatch):
    labels = np.array([1, 1, -1, -1])

    def part(gap, theta, claimed):
        """From a program that says this, right or wrong."""
        result = SimpleNamespace(
            x=np.append(theta, claimed), ineqlin=SimpleNamespace(marginals=-np.array([1, 2, 3, 5]))
        )
        monkeypatch.setattr(module, "_linear_program", lambda units: result)
        inputs = np.array([[gap, 1.0], [gap, -1.0], [-gap, 1.0], [-gap, -1.0]])
        return separable_part(inputs, labels)

    assert part(2e-9, [1.0, 0.0], np.ones(4)).is_separable.all()
    for gap, theta, claimed in [
        (5e-10, [1.0, 0.0], np.ones(4)),  # a gain below the tolerance
        (0.5, [-1.0, 0.0], np.ones(4)),  # a loss
        (0.5, [0.0, 0.0], np.zeros(4)),  # all are separable: no multipliers cancel them
    ]:
        with pytest.raises(ValueError, match="no certificate"):
            part(gap, theta, claimed)


def test_the_part_is_the_largest():
    inputs, labels, _ = axis_data(1)
    part = separable_part(inputs, labels)
    signed = labels[:, None] * inputs
    rest = signed[~part.is_separable]
    directions = np.random.default_rng(2).normal(size=(500, 2))
    gains = directions @ rest.T
    right_somewhere = np.any(gains > 0, axis=1)
    assert right_somewhere.sum() > 400
    assert np.all(np.any(gains[right_somewhere] < 0, axis=1))


def test_projections_keep_leading_axes():
    inputs, labels, _ = axis_data()
    part = separable_part(inputs, labels)
    path = np.random.default_rng(3).normal(size=(4, 3, 2))
    for theta in (path, jnp.asarray(path)):
        inside, outside = split_parameters(theta, part)
        np.testing.assert_allclose(inside, path * [0, 1], atol=1e-6)
        np.testing.assert_allclose(outside, path * [1, 0], atol=1e-6)


def test_a_solution_in_closed_form():
    # one feature of size one, labels 3 against 2: the odds are the ratio of the weights' sums
    inputs, labels = np.ones((5, 1)), np.array([1, 1, 1, -1, -1])
    weights = np.array([1.0, 2, 3, 4, 8])
    part = separable_part(inputs, labels)
    logistic = finite_solution(inputs, labels, weights, part)
    np.testing.assert_allclose(logistic.theta, np.log([6 / 12]), rtol=1e-11)
    exponential = finite_solution(inputs, labels, weights, part, loss="exponential")
    np.testing.assert_allclose(exponential.theta, 0.5 * np.log([6 / 12]), rtol=1e-11)
    # curvature of the logistic loss: sum of the weights of mean one times p (1 - p)
    np.testing.assert_allclose(logistic.curvature, (1 / 3) * (2 / 3), rtol=1e-11)


def risk(alpha, points, weights, loss):
    margins = points @ alpha
    values = np.exp(-margins) if loss == "exponential" else np.logaddexp(0, -margins)
    return np.sum(weights * values) / np.sum(weights)


@pytest.mark.parametrize("loss", module.LOSSES)
def test_scipy_finds_the_same_solution(loss):
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(40, 4))
    inputs[:25, 3] = 0
    labels = np.where(rng.random(40) < 0.5, -1, 1)
    inputs[25:, 3] = labels[25:] * (np.abs(inputs[25:, 3]) + 0.1)
    part = separable_part(inputs, labels)
    np.testing.assert_array_equal(part.is_separable, np.arange(40) >= 25)
    weights = rng.uniform(0.1, 3, 40)
    solution = finite_solution(inputs, labels, weights, part, loss=loss)
    points = labels[:25, None] * inputs[:25, :3]
    reference = minimize(risk, np.zeros(3), (points, weights[:25], loss), method="BFGS", tol=1e-9)
    np.testing.assert_allclose(solution.theta[:3], reference.x, atol=1e-5)
    np.testing.assert_allclose(solution.theta[3], 0, atol=1e-12)
    assert solution.gradient_norm <= 1e-12 * max(1, np.max(np.linalg.norm(points, axis=1)))
    assert solution.curvature > 0
    # the gradient in plain arithmetic, over the whole space and without the basis
    margins = points @ solution.theta[:3]
    slopes = np.exp(-margins) if loss == "exponential" else 1 / (1 + np.exp(margins))
    np.testing.assert_allclose((weights[:25] * slopes) @ points, 0, atol=1e-10)


@pytest.mark.parametrize("loss", module.LOSSES)
def test_the_start_and_the_scale_of_the_weights_do_not_matter(loss):
    inputs, labels, _ = axis_data(5)
    part = separable_part(inputs, labels)
    weights = np.random.default_rng(6).uniform(0.2, 5, labels.size)
    solution = finite_solution(inputs, labels, weights, part, loss=loss)
    for start in np.random.default_rng(7).normal(size=(10, 2)) * 10:
        other = finite_solution(inputs, labels, weights * 7, part, loss=loss, start=start)
        np.testing.assert_allclose(other.theta, solution.theta, atol=1e-8)


@pytest.mark.parametrize("loss", module.LOSSES)
def test_small_integer_data_with_ties_and_far_starts(loss):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        num_examples, num_features = rng.integers(2, 25), rng.integers(1, 5)
        inputs = rng.integers(-2, 3, (num_examples, num_features)).astype(float)
        labels = rng.choice([-1, 1], num_examples)
        part = separable_part(inputs, labels)
        check_certificates(inputs, labels, part)
        weights = rng.exponential(size=num_examples) + 1e-3
        solution = finite_solution(inputs, labels, weights, part, loss=loss)
        start = rng.normal(size=num_features) * 5
        other = finite_solution(inputs, labels, weights, part, loss=loss, start=start)
        np.testing.assert_allclose(other.theta, solution.theta, atol=1e-8)


def test_the_weights_move_the_solution_monotonically():
    inputs, labels, _ = axis_data(8)
    part = separable_part(inputs, labels)
    seconds = []
    for ratio in [0.2, 1.0, 5.0]:
        weights = np.where(labels > 0, ratio, 1.0)
        solution = finite_solution(inputs, labels, weights, part)
        assert abs(solution.theta[0]) < 1e-14
        seconds.append(solution.theta[1])
    assert seconds[0] + 0.1 < seconds[1] < seconds[2] - 0.1  # all rest inputs have x_2 > 0
    # weights on the separable part are not read
    changed = np.where(part.is_separable, 9.0, np.where(labels > 0, 5.0, 1.0))
    assert finite_solution(inputs, labels, changed, part).theta[1] == seconds[-1]


def test_gradient_descent_goes_where_it_should():
    """Proposition 2's picture: converges in the span, diverges along the complement."""
    inputs, labels, _ = axis_data(9)
    part = separable_part(inputs, labels)
    weights = np.where(labels > 0, 3.0, 1.0)
    goal = finite_solution(inputs, labels, weights, part).theta
    signed, theta, distances, lengths = labels[:, None] * inputs, np.zeros(2), [], []
    for step in range(1, 30001):
        slopes = weights / (1 + np.exp(signed @ theta))
        theta = theta + 0.5 * slopes @ signed / labels.size
        if step in (300, 3000, 30000):
            inside, outside = split_parameters(theta, part)
            distances.append(np.linalg.norm(inside - goal))
            lengths.append(np.linalg.norm(outside))
    assert distances[0] > 0.1 > 0.02 > distances[1] > distances[2]
    assert lengths[0] + 1 < lengths[1] < lengths[2] - 1


def test_bad_input():
    inputs, labels, _ = axis_data()
    part = separable_part(inputs, labels)
    with pytest.raises(ValueError, match="labels must be -1 or"):
        separable_part(inputs, (labels + 1) // 2)
    with pytest.raises(ValueError, match=r"labels \[N\]"):
        separable_part(inputs, labels[:3])
    with pytest.raises(ValueError, match=r"inputs must be \[N, D\]"):
        separable_part(inputs[:, 0], labels)
    with pytest.raises(ValueError, match="must be finite"):
        separable_part(np.full((2, 2), np.nan), np.ones(2))
    with pytest.raises(ValueError, match="weights must be positive"):
        finite_solution(inputs, labels, np.zeros(labels.size), part)
    with pytest.raises(ValueError, match="must agree on N"):
        finite_solution(inputs, labels, np.ones(3), part)
    with pytest.raises(ValueError, match="loss must be one of"):
        finite_solution(inputs, labels, np.ones(labels.size), part, loss="hinge")
    with pytest.raises(ValueError, match="stopped at a gradient"):
        finite_solution(inputs, labels, np.arange(1.0, 21), part, max_steps=1)
