r"""Density ratios :math:`p_t(x) / p_s(x)` from samples: importance weights under covariate shift.

Weighted by the ratio, the risk on the source distribution is the risk on the target distribution.
All estimators take features of source and target points and return weights of the source points (or
of any others): estimate once, then train with the weights as constants. How many source points the
target's risk rests on is `metrics.effective_sample_size` of the weights; a handful is a warning.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

from weighting._checks import check_positive, check_range, concrete
from weighting._numbers import at_least_float32
from weighting._types import PyTree
from weighting.base import mean_one
from weighting.shift._mixture import mixture_proportions

SMALLEST_KERNEL = 1e-6  # a source point reaches a center from here on, up to 5.3 bandwidths away


def class_prior_ratio(target_priors: Array, source_priors: Array) -> Array:
    r"""Class weights under a shift of the class priors, :math:`w_c = q_t(c) / p_s(c)`; [C].

    The density ratio where p(x | y) does not change. Averages to one over the source. Counts do as
    well as probabilities: both are scaled to sum one.

    Args:
      target_priors: [C].
      source_priors: [C], positive wherever the target's is. A class absent from both gets zero.

    Example:
      >>> import jax.numpy as jnp
      >>> class_prior_ratio(jnp.array([0.2, 0.8]), jnp.array([0.8, 0.2]))
      Array([0.25, 4.  ], dtype=float32)
    """
    target, source = jnp.asarray(target_priors), jnp.asarray(source_priors)
    if target.ndim != 1 or target.shape != source.shape:
        raise ValueError(
            f"target_priors and source_priors must both be [C]; got {target.shape}, {source.shape}"
        )
    if not isinstance(target, Tracer) and not isinstance(source, Tracer):
        unseen = np.flatnonzero((np.asarray(target) > 0) & (np.asarray(source) <= 0))
        if unseen.size:
            raise ValueError(
                f"classes {unseen.tolist()} occur in the target but not in the source; no weight "
                "can make up for examples that are missing"
            )
    target, source = target / jnp.sum(target), source / jnp.sum(source)
    return jnp.where(source > 0, target / jnp.where(source > 0, source, 1), 0)


def classifier_ratio(
    source: Array,
    target: Array,
    *,
    regularization: float | Array = 1e-3,
    points: Array | None = None,
    clip: float | Array = jnp.inf,
    normalize: bool = True,
    max_iterations: int = 200,
) -> Array:
    r"""Density ratio by a logistic regression that tells target points from source points.

    With classes equally likely, the odds of "target" are the ratio:

    .. math:: w(x) = \frac{N}{M} \frac{P(t \mid x)}{P(s \mid x)} = \frac{N}{M} e^{v^\top x + b}

    Linear log odds are exact for two Gaussians of equal covariance, and for any two with products
    of the coordinates as further features; a network's last layer will do as well. Where a plane
    separates the samples the ratio is zero on the source, and what comes out is the regularization
    alone, near one for samples far apart: trust no weights of a classifier that is always right.

    Args:
      source: [N, D] features.
      target: [M, D] features.
      regularization: of :math:`\frac{\lambda}{2} \|v\|^2`, added to the mean loss, > 0; the bias is
        free. Large is uniform; without it, separable samples have no solution.
      points: [K, D] where to evaluate, default the source points.
      clip: largest weight, before normalization.
      normalize: to mean one over the points.
      max_iterations: of L-BFGS.

    Returns:
      Weights [N], or [K].

    References:
      Bickel, Brückner, Scheffer, "Discriminative Learning Under Covariate Shift", JMLR 2009;
      Sugiyama, Suzuki, Kanamori, "Density Ratio Estimation in Machine Learning", 2012, Ch. 4.
    """
    source, target = _read_features(source, target)
    check_positive("regularization", regularization)
    check_range("clip", clip, low=0.0, low_open=True)
    inputs = jnp.concatenate([source, target])
    signs = jnp.concatenate([-jnp.ones(len(source)), jnp.ones(len(target))]).astype(inputs.dtype)
    center, scale = jnp.mean(inputs, axis=0), jnp.std(inputs, axis=0)
    scale = jnp.where(scale > 0, scale, 1)

    tolerance = 1e-9 if inputs.dtype == jnp.float64 else 1e-5
    start = (jnp.zeros(inputs.shape[1], inputs.dtype), jnp.zeros((), inputs.dtype))
    data = ((inputs - center[None]) / scale[None], signs, 1 / scale, jnp.asarray(regularization))
    solution = _minimizer(_logistic_regression, tolerance, max_iterations, start, data)

    def log_odds(x: Array) -> Array:
        return ((x - center[None]) / scale[None]) @ solution[0] + solution[1]

    log_ratio = log_odds(source if points is None else at_least_float32(points))
    log_ratio = jnp.minimum(log_ratio + jnp.log(len(source) / len(target)), jnp.log(clip))
    if normalize:  # a common factor drops out: take it out of the exponent, which may overflow
        log_ratio = log_ratio - jnp.max(log_ratio)
    return _finish(jnp.exp(log_ratio), jnp.inf, normalize)


def choose_centers(key: Array, target: Array, num_centers: int) -> Array:
    """Kernel centers for the estimators below: target points drawn without replacement; [K, D].

    The ratio is large where the target is dense, so that is where the kernels should be. All of
    them if there are no more than `num_centers`.
    """
    check_positive("num_centers", num_centers)
    kept = min(num_centers, target.shape[0])
    return target[jax.random.permutation(key, target.shape[0])[:kept]]


def median_bandwidth(features: Array) -> Array:
    """The median distance between two distinct points, a common width for Gaussian kernels.

    Pairs that coincide say nothing of a width and are left out, so that repeated points do not make
    it zero. If all coincide there is no median: an error, or NaN where the features are traced.

    O(N^2): give a thousand points or so.

    Args:
      features: [N, D].
    """
    (features,) = _read_features(features)
    rows, columns = np.triu_indices(features.shape[0], 1)
    # By differences, row by row: points that coincide are at zero exactly.
    squares = jax.lax.map(lambda x: jnp.sum((features - x[None]) ** 2, axis=1), features)
    distances = jnp.sqrt(squares[rows, columns])
    median = jnp.nanmedian(jnp.where(distances > 0, distances, jnp.nan))
    if not isinstance(median, Tracer) and not median > 0:
        raise ValueError(
            f"all {features.shape[0]} points coincide: the distances between them are 0 and give "
            "no bandwidth. Drop constant features, or give a bandwidth of your own."
        )
    return median


def ulsif_ratio(
    source: Array,
    target: Array,
    centers: Array,
    bandwidth: float | Array,
    regularization: float | Array,
    *,
    points: Array | None = None,
    clip: float | Array = jnp.inf,
    normalize: bool = True,
) -> Array:
    r"""Density ratio by unconstrained least-squares importance fitting (uLSIF), in closed form.

    The model is :math:`w(x) = \sum_l \alpha_l \exp(-\|x - c_l\|^2 / (2 \sigma^2))`, and

    .. math:: \alpha = \max\left((\hat H + \lambda I)^{-1} \hat h, 0\right), \quad
              \hat H = \mathbb{E}_s[\phi \phi^\top], \quad \hat h = \mathbb{E}_t[\phi]

    minimizes the squared error of the ratio under the source, up to the clipping at zero. The model
    is bounded: a ratio that grows without bound (a target as wide as the source) is cut off in the
    tail, here and in KLIEP.

    Args:
      source: [N, D] features.
      target: [M, D] features.
      centers: [K, D], see `choose_centers`.
      bandwidth: sigma > 0; too large is uniform, too small fits single points.
      regularization: lambda > 0; large makes all alphas small (and equal ratios among them).
      points: where to evaluate, default the source points.
      clip: largest weight, before normalization.
      normalize: to mean one over the points.

    Returns:
      Weights [N], or one per point. Where no source point reaches any center there is nothing to
      fit: an error, or NaN where the features are traced.

    References:
      Kanamori, Hido, Sugiyama, "A Least-squares Approach to Direct Importance Estimation", JMLR
      10, 2009.
    """
    source, target, centers = _read_features(source, target, centers)
    _check_bandwidth(bandwidth)
    check_positive("regularization", regularization)
    basis = _kernel(source, centers, bandwidth)
    overlap = _check_overlap(basis, bandwidth)
    gram = basis.T @ basis / basis.shape[0] + regularization * jnp.eye(
        basis.shape[1], dtype=basis.dtype
    )
    mean = jnp.mean(_kernel(target, centers, bandwidth), axis=0)
    alpha = jnp.maximum(jax.scipy.linalg.solve(gram, mean, assume_a="pos"), 0)
    at_points = basis if points is None else _kernel(points, centers, bandwidth)
    return _finish(at_points @ alpha, clip, normalize, overlap)


def ulsif_score(
    source: Array,
    target: Array,
    centers: Array,
    bandwidth: float | Array,
    regularization: float | Array,
) -> Array:
    r"""Leave-one-out error of uLSIF, :math:`\frac12 \mathbb{E}_s[w^2] - \mathbb{E}_t[w]`; a scalar.

    The smaller, the better: choose bandwidth and regularization by it, for instance with `vmap`
    over a grid. The i-th fit leaves out the i-th source point and the i-th target point, for i up
    to the smaller sample's size; all fits together cost one inverse, by the Sherman-Morrison
    formula.

    References:
      Kanamori, Hido, Sugiyama, "A Least-squares Approach to Direct Importance Estimation", JMLR
      10, 2009.
    """
    source, target, centers = _read_features(source, target, centers)
    _check_bandwidth(bandwidth)
    check_positive("regularization", regularization)
    at_source, at_target = (_kernel(x, centers, bandwidth) for x in (source, target))
    n, m = at_source.shape[0], at_target.shape[0]
    left_out = min(n, m)
    a, b = at_source[:left_out], at_target[:left_out]
    # Without source point i the regularized Gram matrix is n / (n - 1) (gram - a_i a_i^T / n).
    ridge = regularization * (n - 1) / n * jnp.eye(a.shape[1], dtype=a.dtype)
    gram = at_source.T @ at_source / n + ridge
    means = (m * jnp.mean(at_target, axis=0)[None] - b) / (m - 1)
    solved = jax.scipy.linalg.solve(gram, jnp.concatenate([means, a]).T, assume_a="pos").T
    solved_means, solved_a = solved[:left_out], solved[left_out:]
    gain = jnp.sum(a * solved_means, axis=1) / (n - jnp.sum(a * solved_a, axis=1))
    alphas = jnp.maximum((n - 1) / n * (solved_means + gain[:, None] * solved_a), 0)
    return jnp.mean(jnp.sum(a * alphas, axis=1) ** 2 / 2 - jnp.sum(b * alphas, axis=1))


def kliep_ratio(
    source: Array,
    target: Array,
    centers: Array,
    bandwidth: float | Array,
    *,
    num_iterations: int = 1000,
    points: Array | None = None,
    clip: float | Array = jnp.inf,
    normalize: bool = True,
) -> Array:
    r"""Density ratio by Kullback-Leibler importance estimation (KLIEP).

    With the kernel model of `ulsif_ratio`, it solves the concave program

    .. math:: \max_{\alpha \ge 0} \frac1M \sum_j \log w(x^t_j) \quad\text{s.t.}\quad
              \frac1N \sum_i w(x^s_i) = 1.

    In terms of :math:`q_l = \alpha_l \frac1N \sum_i \phi_l(x^s_i)`, which sum to one, this is the
    maximum-likelihood problem of mixture proportions, solved by expectation maximization: every
    step keeps the constraint and raises the objective, and there is no step size to choose.

    Args:
      source: [N, D] features.
      target: [M, D] features.
      centers: [K, D], see `choose_centers`.
      bandwidth: sigma > 0.
      num_iterations: of the multiplicative update, static; slow where kernels nearly coincide.
      points: where to evaluate, default the source points.
      clip: largest weight, before normalization.
      normalize: to mean one over the points (at the source points, it is one already).

    Returns:
      Weights [N], or one per point. Centers that no source point reaches are left out. If that
      leaves none there is nothing to fit: an error, or NaN where the features are traced.

    References:
      Sugiyama, Suzuki, Nakajima, Kashima, von Bünau, Kawanabe, "Direct Importance Estimation for
      Covariate Shift Adaptation", Annals of the Institute of Statistical Mathematics 60, 2008.
      (Published with projected gradient ascent, which has the same optimum.)
    """
    source, target, centers = _read_features(source, target, centers)
    _check_bandwidth(bandwidth)
    basis = _kernel(source, centers, bandwidth)
    overlap = _check_overlap(basis, bandwidth)
    mass = jnp.mean(basis, axis=0)
    reached = mass > SMALLEST_KERNEL / len(source)
    per_mass = jnp.where(reached, 1 / jnp.where(reached, mass, 1), 0)
    densities = _kernel(target, centers, bandwidth) * per_mass[None]
    start = reached / jnp.maximum(jnp.sum(reached), 1)
    proportions = mixture_proportions(densities, start.astype(basis.dtype), num_iterations)
    at_points = basis if points is None else _kernel(points, centers, bandwidth)
    return _finish(at_points @ (proportions * per_mass), clip, normalize, overlap)


def _logistic_regression(params: tuple[Array, Array], data: tuple[Array, ...]) -> Array:
    """The regularized risk of log odds v.x + b; the penalty is that of `scales` * v."""
    inputs, signs, scales, regularization = data
    loss = jnp.mean(jax.nn.softplus(-signs * (inputs @ params[0] + params[1])))
    return loss + regularization / 2 * jnp.sum((params[0] * scales) ** 2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _minimizer(
    objective: Callable[[PyTree, PyTree], Array],
    tolerance: float,
    max_iterations: int,
    start: PyTree,
    data: PyTree,
) -> PyTree:
    """Where the gradient of a strictly convex objective(params, data) has norm `tolerance`: L-BFGS.

    Its derivative by the data is the minimizer's (the implicit function theorem), not that of the
    iterations.
    """
    optimizer = optax.lbfgs()

    def value_fn(params: PyTree) -> Array:
        return objective(params, data)

    evaluate = optax.value_and_grad_from_state(value_fn)

    def step(carry: tuple[PyTree, Any, Array]) -> tuple[PyTree, Any, Array]:
        params, state, count = carry
        value, gradient = evaluate(params, state=state)
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=value_fn
        )
        return optax.apply_updates(params, updates), state, count + 1

    def unfinished(carry: tuple[PyTree, Any, Array]) -> Array:
        _, state, count = carry
        norm = optax.tree.norm(optax.tree.get(state, "grad"))
        return (count == 0) | ((norm > tolerance) & (count < max_iterations))

    carry = (start, optimizer.init(start), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, carry)[0]


@_minimizer.defjvp
def _minimizer_jvp(
    objective: Callable, tolerance: float, max_iterations: int, primals: tuple, tangents: tuple
) -> tuple[PyTree, PyTree]:
    (start, data), (_, direction) = primals, tangents
    solution = _minimizer(objective, tolerance, max_iterations, start, data)
    gradient = jax.grad(objective)
    by_data = jax.jvp(lambda data: gradient(solution, data), (data,), (direction,))[1]

    def hessian(vector: PyTree) -> PyTree:
        return jax.jvp(lambda params: gradient(params, data), (solution,), (vector,))[1]

    def solve(matvec: Callable, right: PyTree) -> PyTree:
        return jax.scipy.sparse.linalg.cg(matvec, right, tol=tolerance)[0]

    tangent = jax.lax.custom_linear_solve(hessian, by_data, solve, symmetric=True)
    return solution, jax.tree.map(jnp.negative, tangent)


def _finish(
    ratio: Array, clip: float | Array, normalize: bool, overlap: bool | Array = True
) -> Array:
    check_range("clip", clip, low=0.0, low_open=True)
    ratio = jnp.minimum(ratio, clip)
    ratio = mean_one(ratio, jnp.ones_like(ratio)) if normalize else ratio
    return jnp.where(overlap, ratio, jnp.nan)


def _check_bandwidth(bandwidth: float | Array) -> None:
    number = concrete(bandwidth)
    if number is not None and math.isnan(number):
        raise ValueError(
            "bandwidth is NaN. From median_bandwidth() under jit it means that all points "
            "coincide: drop constant features, or give a bandwidth of your own."
        )
    check_positive("bandwidth", bandwidth)


def _check_overlap(basis: Array, bandwidth: float | Array) -> Array:
    """Whether a source point reaches a center; where that is known and false, an error."""
    largest = jnp.max(basis)
    if not isinstance(largest, Tracer) and not largest > SMALLEST_KERNEL:
        raise ValueError(
            f"source and target do not overlap at bandwidth {float(bandwidth):g}: the largest "
            f"kernel value between a source point and a center is {float(largest):.2g}, so that no "
            "weights of the source stand for the target. Widen the bandwidth (median_bandwidth of "
            "both samples together), scale the features alike, or look for source data nearer to "
            "the target."
        )
    return largest > SMALLEST_KERNEL


def _kernel(points: Array, centers: Array, bandwidth: float | Array) -> Array:
    points = at_least_float32(points)
    return jnp.exp(-_squared_distances(points, centers) / (2 * bandwidth**2))


def _squared_distances(points: Array, others: Array) -> Array:
    """[N, K], about a common center, where the expanded square loses the fewest digits."""
    center = jnp.mean(others, axis=0)[None]
    points, others = points - center, others - center
    squares = jnp.sum(points**2, axis=1)[:, None] + jnp.sum(others**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * points @ others.T, 0)


def _read_features(*features: Array) -> list[Array]:
    """The features as floats, if they are matrices of the same width."""
    shapes = [x.shape for x in features]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(
            f"features must be matrices [N, D] with the same D; got shapes {shapes}. "
            "A single feature per point has shape [N, 1]."
        )
    return [at_least_float32(jnp.asarray(x)) for x in features]
