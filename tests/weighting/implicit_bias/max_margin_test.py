"""Maximal margins: closed forms, SciPy, scikit-learn and cvxopt, and the proofs themselves."""

import cvxopt
import jax
import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.svm import SVC

from weighting.implicit_bias import _simplex_qp
from weighting.implicit_bias.max_margin import kernel_max_margin, max_margin
from weighting.implicit_bias.multiclass_margin import multiclass_max_margin


def separable_problem(seed, num_examples=30, num_features=5, shift=1.5):
    """Two clouds on either side of the origin, far enough apart for most seeds."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.permutation(num_examples) % 2, 1.0, -1.0)
    inputs = rng.normal(size=(num_examples, num_features))
    inputs[:, 0] = labels * (shift + np.abs(inputs[:, 0]))
    return inputs, labels


def cvxopt_margin(z):
    """min |Z^T p| over the simplex, by an interior-point method."""
    n = len(z)
    options = {"show_progress": False, "abstol": 1e-13, "reltol": 1e-13, "feastol": 1e-13}
    bounds = cvxopt.matrix(-np.eye(n)), cvxopt.matrix(np.zeros(n))
    simplex = cvxopt.matrix(np.ones((1, n))), cvxopt.matrix(1.0)
    quadratic = cvxopt.matrix(z @ z.T), cvxopt.matrix(np.zeros(n))
    solution = cvxopt.solvers.qp(*quadratic, *bounds, *simplex, options=options)
    return np.linalg.norm(np.ravel(solution["x"]) @ z)


def assert_certified(solution, inputs, labels):
    """Everything a certificate promises, recomputed."""
    margins = labels * (inputs @ solution.direction + solution.intercept)
    combined = (solution.dual * labels) @ inputs
    assert solution.separable
    assert solution.converged
    assert solution.dual.min() >= 0
    np.testing.assert_allclose(solution.dual.sum(), 1, rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(solution.direction), 1, rtol=1e-14)
    np.testing.assert_allclose(margins.min(), solution.margin, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(combined), solution.residual, rtol=1e-12)
    assert 1 - margins.min() / np.linalg.norm(combined) <= 1e-9
    np.testing.assert_allclose(solution.gap, 1 - solution.margin / solution.residual, atol=1e-14)
    np.testing.assert_allclose(combined / solution.margin, solution.direction, atol=1e-8)
    np.testing.assert_array_equal(solution.support, solution.dual > 0)
    np.testing.assert_allclose(margins[solution.support], solution.margin, rtol=1e-8)


def test_the_margin_of_two_points():
    solution = max_margin([[1.0, 0.0], [1.0, 2.0]], [1, 1])  # the foot lies on the first point
    np.testing.assert_allclose(solution.direction, [1, 0])
    np.testing.assert_allclose(solution.dual, [1, 0])
    solution = max_margin([[3.0, 1.0], [5.0, 1.0]], [-1, 1], intercept=True)
    np.testing.assert_allclose(solution.direction, [1, 0], atol=1e-15)
    np.testing.assert_allclose(solution.margin, 1)
    np.testing.assert_allclose(solution.intercept, -4)
    np.testing.assert_allclose(solution.dual, [0.5, 0.5])


def test_orthogonal_points_have_a_closed_form():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 6)))
    norms = np.array([0.5, 1, 2, 3, 5, 8])
    labels = np.array([1, -1, 1, 1, -1, -1])
    solution = max_margin(norms[:, None] * basis.T, labels)
    margin = np.sum(1 / norms**2) ** -0.5
    np.testing.assert_allclose(solution.margin, margin, rtol=1e-12)
    np.testing.assert_allclose(solution.dual, margin**2 / norms**2, rtol=1e-12)
    direction = margin * (labels / norms) @ basis.T
    np.testing.assert_allclose(solution.direction, direction, atol=1e-13)


@pytest.mark.parametrize("intercept", [False, True])
def test_fifty_random_problems_are_certified(intercept):
    for seed in range(50):
        rng = np.random.default_rng(1000 + seed)
        size, features = int(rng.integers(4, 150)), int(rng.integers(1, 40))
        inputs, labels = separable_problem(seed, size, features, shift=rng.choice([1e-3, 0.1, 3]))
        if intercept:
            inputs = inputs + rng.normal(size=features)[None]
        assert_certified(max_margin(inputs, labels, intercept=intercept), inputs, labels)


def test_the_homogeneous_margin_agrees_with_cvxopt_and_nonnegative_least_squares():
    for seed in range(8):
        inputs, labels = separable_problem(seed)
        solution = max_margin(inputs, labels)
        z = labels[:, None] * inputs
        np.testing.assert_allclose(solution.margin, cvxopt_margin(z), rtol=1e-9)
        # min |Z^T q|^2 + (1 - sum q)^2 over q >= 0 is the dual, scaled.
        q, _ = nnls(np.vstack([z.T, np.ones(len(z))]), np.append(np.zeros(z.shape[1]), 1.0))
        np.testing.assert_allclose(solution.dual, q / q.sum(), atol=1e-10)


def test_the_margin_with_an_intercept_agrees_with_a_support_vector_machine():
    for seed in range(8):
        inputs, labels = separable_problem(seed)
        inputs = 0.3 * inputs + np.array([10.0, 0, -3, 0, 0])[None]
        machine = SVC(C=1e10, kernel="linear", tol=1e-10).fit(inputs, labels)
        solution = max_margin(inputs, labels, intercept=True)
        norm = np.linalg.norm(machine.coef_)  # from a kernel that libsvm keeps in 32 bits
        np.testing.assert_allclose(solution.margin, 1 / norm, rtol=1e-5)
        np.testing.assert_allclose(solution.direction, machine.coef_[0] / norm, atol=1e-4)
        np.testing.assert_allclose(solution.intercept, machine.intercept_[0] / norm, rtol=1e-4)
        np.testing.assert_array_equal(np.flatnonzero(solution.support), np.sort(machine.support_))
        alpha = np.abs(machine.dual_coef_[0]) * solution.margin**2
        np.testing.assert_allclose(solution.dual[machine.support_], alpha, atol=1e-4)
        np.testing.assert_allclose(np.dot(labels, solution.dual), 0, atol=1e-14)


def test_degenerate_data():
    inputs, labels = separable_problem(3, 20, 4)
    once = max_margin(inputs, labels).margin
    twice = np.concatenate([inputs, inputs, inputs[:5]])
    repeated = np.concatenate([labels, labels, labels[:5]])
    solution = max_margin(twice, repeated)
    assert_certified(solution, twice, repeated)
    np.testing.assert_allclose(solution.margin, once, rtol=1e-12)

    line = np.linspace(0.5, 3, 7)[:, None] * np.array([[1.0, -2.0, 2.0]])  # norm 3 per unit
    solution = max_margin(line, np.ones(7))
    np.testing.assert_allclose(solution.margin, 1.5, rtol=1e-14)
    np.testing.assert_allclose(solution.dual, [1, 0, 0, 0, 0, 0, 0])

    solution = max_margin([[-3.0], [0.25], [2.0]], [-1, 1, 1])
    np.testing.assert_allclose([solution.margin, solution.direction[0]], [0.25, 1])

    wide, labels = separable_problem(0, 6, 50)  # N < D: every labelling is separable
    assert_certified(max_margin(wide, -labels), wide, -labels)
    assert_certified(max_margin(wide, labels, intercept=True), wide, labels)

    # On a circle about a far centre, every point is at the same distance from it.
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([np.full(40, 2.0), np.cos(angles), np.sin(angles)], axis=1)
    solution = max_margin(ring, np.ones(40))
    np.testing.assert_allclose(solution.margin, 2, rtol=1e-12)
    np.testing.assert_allclose(solution.direction, [1, 0, 0], atol=1e-9)
    assert solution.support.sum() <= 4


def test_a_margin_of_a_millionth_is_resolved():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 4))
    inputs[:, 0] = 1e-6  # the others surround the origin, so that only this coordinate separates
    inputs[20:, 1:] = -inputs[:20, 1:]
    solution = max_margin(inputs, np.ones(40))
    np.testing.assert_allclose(solution.margin, 1e-6, rtol=1e-9)
    assert solution.converged


@pytest.mark.parametrize("intercept", [False, True])
def test_data_that_no_hyperplane_separates_come_with_a_proof(intercept):
    for seed in range(10):
        inputs = np.random.default_rng(seed).normal(size=(60, 3))
        labels = np.where(np.arange(60) % 2, 1.0, -1.0)
        solution = max_margin(inputs, labels, intercept=intercept)
        assert not solution.separable
        assert solution.converged
        assert solution.margin == 0
        assert solution.gap == 1
        assert not solution.direction.any()
        assert solution.dual.min() >= 0
        np.testing.assert_allclose(solution.dual.sum(), 1, rtol=1e-13)
        np.testing.assert_allclose((solution.dual * labels) @ inputs, np.zeros(3), atol=1e-12)
        if intercept:
            np.testing.assert_allclose(np.dot(solution.dual, labels), 0, atol=1e-13)


def test_contradicting_and_vanishing_points_are_not_separable():
    solution = max_margin([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]], [1, 1, -1])
    np.testing.assert_allclose(solution.dual, [0.5, 0, 0.5], atol=1e-15)
    assert not solution.separable
    solution = max_margin([[1.0, 2.0], [0.0, 0.0]], [1, 1])
    np.testing.assert_allclose(solution.dual, [0, 1])
    assert not solution.separable
    assert solution.converged
    assert not max_margin(np.zeros((3, 2)), np.ones(3)).separable


def test_running_out_of_iterations_is_reported():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(200, 100)), np.where(np.arange(200) % 2, 1, -1)
    inputs[:, 0] += 2 * labels
    solution = max_margin(inputs, labels, max_iterations=1)
    assert not solution.converged
    margin = np.min(labels * (inputs @ solution.direction))
    residual = np.linalg.norm((solution.dual * labels) @ inputs)
    assert 1 - margin / residual > 1e-9
    np.testing.assert_allclose(solution.gap, 1 - margin / residual, rtol=1e-9)
    kernel = kernel_max_margin(inputs @ inputs.T, labels, max_iterations=1)
    assert not kernel.converged
    np.testing.assert_allclose(kernel.gap, 1 - kernel.margin / kernel.residual, rtol=1e-9)
    several = multiclass_max_margin(inputs, (labels > 0).astype(int), 2, max_iterations=1)
    assert not several.converged
    np.testing.assert_allclose(several.gap, 1 - several.margin / several.residual, rtol=1e-9)
    assert several.gap > 1e-9


def test_the_tolerance_decides_what_counts_as_converged():
    inputs, labels = separable_problem(2, 60, 20)
    rough = max_margin(inputs, labels, max_iterations=2)
    assert rough.gap > 1e-9
    assert not rough.converged
    assert max_margin(inputs, labels, max_iterations=2, tol=float(2 * rough.gap)).converged


def test_laws_of_the_margin():
    inputs, labels = separable_problem(5)
    solution = max_margin(inputs, labels)
    order = np.random.default_rng(0).permutation(len(labels))
    permuted = max_margin(inputs[order], labels[order])
    np.testing.assert_allclose(permuted.dual, solution.dual[order], atol=1e-12)
    for factor in (1e-200, 1e-3, 1e100):
        scaled = max_margin(factor * inputs, labels)
        np.testing.assert_allclose(scaled.margin, factor * solution.margin, rtol=1e-12)
        np.testing.assert_allclose(scaled.dual, solution.dual, atol=1e-12)
    flipped = max_margin(-inputs, -labels)
    np.testing.assert_allclose(flipped.direction, solution.direction, atol=1e-12)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    rotated = max_margin(inputs @ rotation, labels)
    np.testing.assert_allclose(rotated.direction, solution.direction @ rotation, atol=1e-12)
    centered = max_margin(inputs, labels, intercept=True)
    moved = max_margin(inputs + 1e3, labels, intercept=True)
    np.testing.assert_allclose(moved.margin, centered.margin, rtol=1e-10)
    assert centered.margin >= solution.margin


@pytest.mark.parametrize("intercept", [False, True])
def test_a_linear_kernel_gives_the_linear_margin(intercept):
    for seed in range(5):
        inputs, labels = separable_problem(seed)
        linear = max_margin(inputs, labels, intercept=intercept)
        kernel = kernel_max_margin(inputs @ inputs.T, labels, intercept=intercept)
        assert kernel.converged
        np.testing.assert_allclose(kernel.margin, linear.margin, rtol=1e-9)
        np.testing.assert_allclose(kernel.dual, linear.dual, atol=1e-8)
        np.testing.assert_allclose(kernel.intercept, linear.intercept, atol=1e-8)
        np.testing.assert_allclose(inputs.T @ kernel.coefficients, linear.direction, atol=1e-8)


def test_a_kernel_resolves_margins_down_to_a_millionth_of_the_largest_norm():
    """Squares are all that a Gram matrix holds; a short point does not change the yardstick."""
    for margin, separable in [(1e-5, True), (3e-7, False)]:
        inputs = np.array([[margin, 1.0], [margin, -1.0], [1e-3, 0.0]])
        solution = kernel_max_margin(inputs @ inputs.T, np.ones(3))
        assert solution.separable == separable
        np.testing.assert_allclose(solution.margin, margin if separable else 0, rtol=1e-4)


def test_a_gaussian_kernel_agrees_with_a_support_vector_machine():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 2))
    labels = np.where(np.sum(inputs**2, axis=1) > 1.2, 1, -1)  # no line separates these
    assert not max_margin(inputs, labels, intercept=True).separable
    gram = np.exp(-2 * np.sum((inputs[:, None] - inputs[None]) ** 2, axis=2))
    machine = SVC(C=1e12, kernel="precomputed", tol=1e-9).fit(gram, labels)
    weights = np.zeros(40)
    weights[machine.support_] = machine.dual_coef_[0]
    norm = np.sqrt(weights @ gram @ weights)
    solution = kernel_max_margin(gram, labels, intercept=True)
    np.testing.assert_allclose(solution.margin, 1 / norm, rtol=1e-6)
    np.testing.assert_allclose(solution.intercept, machine.intercept_[0] / norm, rtol=1e-4)
    margins = labels * (gram @ solution.coefficients + solution.intercept)
    np.testing.assert_allclose(margins.min(), solution.margin, rtol=1e-9)


def test_the_margin_of_several_classes_agrees_with_cvxopt_on_all_pairs():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(18) % 3)
        inputs = 0.3 * rng.normal(size=(18, 4)) + np.eye(3, 4)[labels]
        pairs = [
            np.outer(x, np.eye(3)[y] - np.eye(3)[j]).ravel()
            for x, y in zip(inputs, labels, strict=True)
            for j in range(3)
            if j != y
        ]
        solution = multiclass_max_margin(inputs, labels, 3)
        np.testing.assert_allclose(solution.margin, cvxopt_margin(np.array(pairs)), rtol=1e-9)
        assert solution.converged

        scores = inputs @ solution.direction
        own = scores[np.arange(18), labels]
        rivals = np.where(np.eye(3, dtype=bool)[labels], -np.inf, scores).max(axis=1)
        np.testing.assert_allclose(np.min(own - rivals), solution.margin, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(solution.direction), 1, rtol=1e-13)
        # Stationarity: W is X^T (row sums at the labels, minus the dual elsewhere) / margin.
        coefficients = np.eye(3)[labels] * solution.dual.sum(axis=1)[:, None] - solution.dual
        combined = inputs.T @ coefficients
        np.testing.assert_allclose(np.linalg.norm(combined), solution.residual, rtol=1e-12)
        np.testing.assert_allclose(combined / solution.margin, solution.direction, atol=1e-9)
        np.testing.assert_allclose(solution.dual.sum(), 1, rtol=1e-13)
        assert not solution.dual[np.arange(18), labels].any()


def test_one_example_of_several_classes_by_hand():
    """Its own column and the three others share x: W = x (1, -1/3, -1/3, -1/3) / norm."""
    solution = multiclass_max_margin([[3.0, 4.0]], [0], 4)
    np.testing.assert_allclose(solution.margin, 5 * np.sqrt(4 / 3), rtol=1e-12)
    columns = np.outer([0.6, 0.8], [3, -1, -1, -1]) / np.sqrt(12)
    np.testing.assert_allclose(solution.direction, columns, atol=1e-12)
    np.testing.assert_allclose(solution.dual, [[0, 1 / 3, 1 / 3, 1 / 3]], atol=1e-12)


def test_two_of_several_classes_are_the_binary_margin():
    inputs, labels = separable_problem(0)
    binary = max_margin(inputs, labels)
    solution = multiclass_max_margin(inputs, (labels > 0).astype(int), 2)
    np.testing.assert_allclose(solution.margin, np.sqrt(2) * binary.margin, rtol=1e-9)
    columns = np.outer(binary.direction, [-1, 1]) / np.sqrt(2)
    np.testing.assert_allclose(solution.direction, columns, atol=1e-8)
    np.testing.assert_array_equal(solution.support, binary.support)
    overlapping = np.random.default_rng(0).normal(size=(60, 2))
    solution = multiclass_max_margin(overlapping, np.arange(60) % 3, 3)
    assert not solution.separable
    assert solution.converged


def test_guesses_save_steps_and_decide_nothing(monkeypatch):
    inputs, labels = separable_problem(1, 100, 30)
    guessed = max_margin(inputs, labels)
    monkeypatch.setattr(_simplex_qp, "MAX_GUESSES", 0)
    stepped = max_margin(inputs, labels)
    np.testing.assert_allclose(guessed.dual, stepped.dual, atol=1e-12)


def test_every_change_of_the_active_set_is_counted(monkeypatch):
    monkeypatch.setattr(_simplex_qp, "MAX_GUESSES", 0)
    rows = np.array([[-0.5, 0.25], [0.5, 0.25], [0.0, 0.45]])
    points = _simplex_qp.row_points(rows, np.zeros(3, int))
    nearest = _simplex_qp.nearest_point(points, np.array([2]), 1e-9, 100)
    np.testing.assert_allclose(nearest.dual, [0.5, 0.5, 0], atol=1e-15)
    assert nearest.num_iterations == 3  # the first two enter, and the third leaves


def test_malformed_arguments_are_refused():
    inputs, labels = separable_problem(0)
    for bad, message in [
        ((inputs[0], labels), "non-empty matrix"),
        ((np.zeros((0, 3)), labels), "non-empty matrix"),
        ((inputs * np.nan, labels), "finite"),
        ((inputs, labels[:-1]), "vector"),
        ((inputs, labels > 0), "-1 or"),
    ]:
        with pytest.raises(ValueError, match=message):
            max_margin(*bad)
    with pytest.raises(ValueError, match="both classes"):
        max_margin(inputs, np.ones(30), intercept=True)
    with pytest.raises(ValueError, match="tol"):
        max_margin(inputs, labels, tol=0.0)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(max_margin)(inputs, labels)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda y: max_margin(inputs, y))(labels)
    with pytest.raises(ValueError, match="square"):
        kernel_max_margin(inputs, labels)
    for unit in (1e-9, 1.0, 1e9):
        with pytest.raises(ValueError, match="symmetric"):
            kernel_max_margin(unit * np.triu(np.ones((30, 30))), labels)
        with pytest.raises(ValueError, match="symmetric"):
            kernel_max_margin(unit * np.array([[1.0, 0.5], [0.4, 1.0]]), labels[:2])
        rounded = unit * (np.eye(30) + np.triu(np.full((30, 30), 1e-8)))
        assert kernel_max_margin(rounded, labels).separable
    with pytest.raises(ValueError, match="negative diagonal"):
        kernel_max_margin(-np.eye(30), labels)
    with pytest.raises(ValueError, match="two classes"):
        multiclass_max_margin(inputs, np.zeros(30, int), 1)
    with pytest.raises(ValueError, match="integers"):
        multiclass_max_margin(inputs, labels, 2)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        multiclass_max_margin(inputs, labels.astype(int), 2)
