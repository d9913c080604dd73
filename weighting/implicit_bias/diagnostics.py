r"""Where gradient descent is heading: angles, margins, norms, and the weights it really uses.

On separable data the risk has no minimizer: the parameters grow without end and only their
direction converges, for a linear predictor to the max-margin direction :math:`\theta^\star`
whatever the (positive, bounded) weights. The functions here measure how far along a run is. All are
pure and cost about a pass over the margins [N] or over the parameters, so that a training loop can
log them at every step. Exponentials of margins are never formed by themselves: in the loss
:math:`e^{-u}` a margin of 88 underflows in 32 bits and 746 in 64, while
:math:`\log L = \mathrm{logsumexp}_i(\log (w_i/n) - u_i)` is exact at any margin.

Notation: margins :math:`u_i = y_i f(\theta, x_i)` (`margins` for several classes), weights
:math:`w_i`, :math:`\omega_i = w_i / \sum_j w_j`, :math:`\alpha` the order of homogeneity,
:math:`f(c\theta, x) = c^\alpha f(\theta, x)`: 1 for a linear predictor, H for H layers of ReLU
without biases. xu2021 is Xu, Ye, Ruan, "Understanding the role of importance weighting for deep
learning", ICLR 2021, arXiv:2103.15209; lyu2020 is Lyu, Li, "Gradient descent maximizes the margin
of homogeneous neural networks", ICLR 2020, arXiv:1906.05890.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._arrays import safe_sqrt
from weighting._checks import check_choice, check_positive, check_vector
from weighting._numbers import as_float, in_range, nan_if
from weighting._types import PyTree

LOSSES = ("exponential", "logistic")


class AverageMargin(NamedTuple):
    """The mean margin as it is, and divided by |params|^order."""

    raw: Array  # []
    normalized: Array  # []


class ClassMargins(NamedTuple):
    """Margins by true class; +inf and nan for a class without examples."""

    smallest: Array  # [C]
    mean: Array  # [C]


class Homogeneity(NamedTuple):
    """The order of homogeneity that fits best, and how badly it fits."""

    order: Array  # []
    deviation: Array  # [], largest |<grad f, params> - order f| over the largest |order f|


class DualityGap(NamedTuple):
    """Bounds on the optimal margin and on the angle to its direction, from one iterate."""

    lower: Array  # [], the normalized margin of the iterate, never above the optimum
    upper: Array  # [], |sum_i q_i z_i| for its effective dual q, never below the optimum
    gap: Array  # [], upper - lower
    angle: Array  # [], radians; the max-margin direction is no farther from the iterate


# --- directions -------------------------------------------------------------------------------


def angle_between(a: PyTree, b: PyTree) -> Array:
    r"""Angle in [0, pi] between two vectors, arrays or pytrees of one structure; radians.

    With unit vectors u and v it is :math:`2\,\mathrm{atan2}(\|u - v\|, \|u + v\|)`, accurate to
    rounding everywhere. The arc cosine is not: in 64 bits it returns 0, or 2e-8, for any angle
    below 1e-8, because the cosine of such an angle rounds to one. A zero vector counts as
    orthogonal to every other.

    References:
      xu2021, Fig. 2a plots the angle to the max-margin direction. Formula: Kahan, "How futile are
      mindless assessments of roundoff in floating-point computation?", 2006, Sec. 12.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{angle_between(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-6])):.3g}")
      1e-06
    """
    u, v = _unit_vectors(a, b)
    angle = 2 * jnp.arctan2(_norm(u - v), _norm(u + v))
    is_zero = jnp.all(u == 0) | jnp.all(v == 0)
    return jnp.where(is_zero, jnp.pi / 2, angle)


def cosine_similarity(a: PyTree, b: PyTree) -> Array:
    """Cosine of the angle between two arrays or pytrees, in [-1, 1]; 0 if one of them is zero.

    For how close it is to one take `direction_distance`, which equals sqrt(2 - 2 cos) without the
    cancellation.
    """
    u, v = _unit_vectors(a, b)
    return jnp.clip(jnp.sum(u * v), -1, 1)


def direction_distance(a: PyTree, b: PyTree) -> Array:
    r"""Distance :math:`\|a/\|a\| - b/\|b\|\| = \sqrt{2 - 2\cos}`, the left side of xu2021, Prop. 1.

    Between 0 and 2. A zero array or pytree counts as orthogonal to every other: sqrt(2).
    """
    return 2 * jnp.sin(angle_between(a, b) / 2)


def _unit_vectors(a: PyTree, b: PyTree) -> tuple[Array, Array]:
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"both arguments must have one structure and equal shapes; got {shapes[0]} and "
            f"{shapes[1]}"
        )
    return _unit_vector(a), _unit_vector(b)


def _unit_vector(tree: PyTree) -> Array:
    """The leaves in one vector of norm one; zeros stay zeros."""
    vector = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    vector = vector.astype(jnp.promote_types(vector.dtype, jnp.float32))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vector), initial=0))
    vector = vector / jnp.where(largest > 0, largest, 1)  # squares neither over- nor underflow
    norm = _norm(vector)
    return vector / jnp.where(norm > 0, norm, 1)


def _norm(vector: Array) -> Array:
    return safe_sqrt(jnp.sum(vector**2))


# --- norms ------------------------------------------------------------------------------------


def parameter_norm(params: PyTree) -> Array:
    """Euclidean norm of all parameters together."""
    return optax.tree.norm(params)


def layer_norms(params: PyTree) -> PyTree:
    """Frobenius norm of every array, in a pytree like `params`.

    In a homogeneous network under gradient flow the squares of the layers' norms keep their
    differences; watch here whether one layer runs away.
    """
    return jax.tree.map(lambda leaf: _norm(jnp.ravel(leaf)), params)


def norm_growth_rate(times: Array, norms: Array, *, order: float | Array = 1.0) -> Array:
    r"""Slope of :math:`\|\theta_t\|^\alpha` against log t over a trajectory, by least squares.

    For a linear predictor and an exponential-tailed loss it tends to :math:`1/\gamma^\star`, since
    :math:`\theta_t \approx \hat\theta \log t` with :math:`\|\hat\theta\| = 1/\gamma^\star`. Earlier
    it is smaller: use the late part of a run.

    Args:
      times: [T], steps (or sums of step sizes); entries at zero are left out.
      norms: [T], the norms at those times.
      order: alpha, the order of homogeneity.

    Returns:
      The slope; nan with fewer than two different positive times.

    References:
      xu2021, Claim 1 and the proof of Prop. 1. There the residual is taken from the *unit* vector
      times log t, which diverges; from the hard-margin solution :math:`\hat\theta` it is bounded.
    """
    check_vector("norms", norms)
    if times.shape != norms.shape:
        raise ValueError(f"times {times.shape} and norms {norms.shape} must have equal shapes")
    norms = as_float(norms)
    keep = (times > 0).astype(norms.dtype)
    logs = jnp.log(jnp.where(times > 0, times, 1)).astype(norms.dtype)
    count = jnp.sum(keep)
    centred = keep * (logs - jnp.sum(keep * logs) / count)
    return jnp.sum(centred * norms**order) / jnp.sum(centred * logs)


# --- margins ----------------------------------------------------------------------------------


def normalized_margin(
    margins: Array, params: PyTree, order: float | Array, *, mask: Array | None = None
) -> Array:
    r"""The smallest margin over the scale of the network: :math:`\min_i u_i / \|\theta\|^\alpha`.

    It is the margin of the parameters scaled to the unit sphere, and grows along gradient descent
    once the data are separated (lyu2020; monotone for the smoothed margin). Zero parameters get 0.

    Args:
      margins: [N], functional margins (see `margins`).
      params: the parameters at which they were computed.
      order: alpha, see `homogeneity_order`.
      mask: [N], 0 marks padding.

    Example:
      >>> import jax.numpy as jnp
      >>> normalized_margin(jnp.array([2.0, 5.0]), jnp.array([3.0, 4.0]), order=1)
      Array(0.4, dtype=float32)
    """
    check_vector("margins", margins)
    smallest = jnp.min(margins, initial=jnp.inf, where=_selected(margins, mask))
    return _over_power(smallest, parameter_norm(params), order)


def average_margin(
    margins: Array, params: PyTree, order: float | Array, *, mask: Array | None = None
) -> AverageMargin:
    r"""The mean margin, raw and over :math:`\|\theta\|^\alpha`.

    xu2021 plots one in Fig. 2 without a formula. Arguments as for `normalized_margin`.
    """
    check_vector("margins", margins)
    raw = jnp.mean(margins, where=_selected(margins, mask))
    return AverageMargin(raw, _over_power(raw, parameter_norm(params), order))


def class_margins(
    margins: Array, labels: Array, num_classes: int, *, mask: Array | None = None
) -> ClassMargins:
    """Smallest and mean margin of every class, as they are; all nan if a label is not in [0, C).

    Divide by `parameter_norm(params) ** order` to compare different times.

    Args:
      margins: [N], functional margins.
      labels: [N], integer classes.
      num_classes: C.
      mask: [N], 0 marks padding.
    """
    check_vector("margins", margins)
    selected = _selected(margins, mask)
    of_class = (labels[:, None] == jnp.arange(num_classes)[None, :]) & selected[:, None]
    unknown = jnp.any(selected & ~in_range(labels, num_classes))
    table = jnp.broadcast_to(nan_if(unknown, as_float(margins))[:, None], of_class.shape)
    return ClassMargins(
        jnp.min(table, axis=0, initial=jnp.inf, where=of_class),
        jnp.mean(table, axis=0, where=of_class),
    )


def smoothed_margin(
    margins: Array, params: PyTree, order: float | Array, weights: Array | None = None
) -> Array:
    r"""Smoothed normalized margin :math:`\log(1/L_c) / \|\theta\|^\alpha`,
    :math:`L_c = \sum_i c_i e^{-u_i}` with :math:`c_i = w_i / \min_j w_j`.

    Never above the normalized margin, by at most :math:`\log \sum_i c_i / \|\theta\|^\alpha`, and
    non-decreasing along gradient flow on the weighted exponential loss. Coefficients of at least
    one are needed for both (xu2021, Lemma A.1, is stated with :math:`w_i / n`, where they fail).

    Args:
      margins: [N], functional margins.
      params: the parameters.
      order: alpha.
      weights: [N], non-negative, default equal. Examples of weight zero (padding) are left out.

    References:
      lyu2020, Sec. 4; xu2021, Lemma A.1.
    """
    check_vector("margins", margins)
    margins = as_float(margins)
    log_weights = _log_weights(margins, weights)
    lightest = jnp.min(jnp.where(log_weights == -jnp.inf, jnp.inf, log_weights))
    log_loss = jax.nn.logsumexp(log_weights - lightest - margins)
    return _over_power(-log_loss, parameter_norm(params), order)


def _selected(margins: Array, mask: Array | None) -> Array:
    if mask is None:
        return jnp.ones(margins.shape, bool)
    if mask.shape != margins.shape:
        raise ValueError(f"mask {mask.shape} and margins {margins.shape} must have equal shapes")
    return mask != 0


def _over_power(value: Array, norm: Array, order: float | Array) -> Array:
    """value / norm^order; 0 at norm zero. The power of a deep network's norm would overflow."""
    check_positive("order", order)
    defined = (norm > 0) & (value != 0)
    magnitude = jnp.where(defined, jnp.abs(value), 1)
    ratio = (magnitude ** (1 / order) / jnp.where(defined, norm, 1)) ** order
    return jnp.where(defined, jnp.sign(value) * ratio, 0)


# --- homogeneity ------------------------------------------------------------------------------


def homogeneity_order(
    apply_fn: Callable[[PyTree, Any], Array], params: PyTree, inputs: Any
) -> Homogeneity:
    r"""The order alpha by Euler's identity: :math:`\langle\nabla f, \theta\rangle = \alpha f`.

    One forward-mode pass along the parameters themselves. alpha is fitted to all outputs by least
    squares. The deviation is zero, but for rounding, for a homogeneous network; biases beyond the
    first layer, batch norm and normalization layers of smooth networks show in it.

    Args:
      apply_fn: (params, inputs) -> outputs of any shape. Close over batch-norm statistics, or keep
        scale and bias out of `params`, to ask about the other parameters only.
      params: pytree of floating-point arrays.
      inputs: a batch.

    Returns:
      `Homogeneity(order, deviation)`; nan if all outputs are zero.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> net = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> params = [jnp.array([[1.0, -1.0], [0.5, 2.0]]), jnp.array([1.0, 3.0])]
      >>> homogeneity_order(net, params, jnp.array([[1.0, 2.0], [2.0, 0.0]])).order
      Array(2., dtype=float32)
    """
    outputs, along = jax.jvp(lambda params: apply_fn(params, inputs), (params,), (params,))
    scale = jnp.max(jnp.abs(outputs))
    outputs, along = outputs / scale, along / scale
    order = jnp.sum(outputs * along) / jnp.sum(outputs**2)
    return Homogeneity(order, jnp.max(jnp.abs(along - order * outputs)) / jnp.abs(order))


def homogeneity_gap(
    apply_fn: Callable[[PyTree, Any], Array],
    params: PyTree,
    inputs: Any,
    order: float | Array,
    scale: float | Array = 2.0,
) -> Array:
    r"""Largest :math:`|f(c\theta) - c^\alpha f(\theta)|` over the largest
    :math:`|c^\alpha f(\theta)|`, c = `scale` > 0.

    Unlike `homogeneity_order`, which is local, it notices a ReLU that switches between
    :math:`\theta` and :math:`c\theta` because of its bias. nan if all outputs are zero.
    """
    check_positive("scale", scale)
    expected = scale**order * apply_fn(params, inputs)
    scaled = apply_fn(jax.tree.map(lambda leaf: scale * leaf, params), inputs)
    return jnp.max(jnp.abs(scaled - expected)) / jnp.max(jnp.abs(expected))


# --- the dual ---------------------------------------------------------------------------------


def log_losses(margins: Array, loss: str = "exponential") -> Array:
    r"""Logarithm of every example's loss: -u, or :math:`\log\log(1 + e^{-u})`; exact for any u."""
    check_choice("loss", loss, LOSSES)
    margins = as_float(margins)
    if loss == "exponential":
        return -margins
    odds = jnp.exp(-jnp.maximum(margins, 0))
    series = odds < jnp.sqrt(jnp.finfo(margins.dtype).eps)  # log(log1p(x)/x) = -x/2 + O(x^2)
    large = jnp.where(series, 1, odds)
    correction = jnp.where(series, -odds / 2, jnp.log(jnp.log1p(large) / large))
    wrong = jnp.log(jax.nn.softplus(-jnp.minimum(margins, 0)))
    return jnp.where(margins > 0, correction - margins, wrong)


def log_slopes(margins: Array, loss: str = "exponential") -> Array:
    r"""Logarithm of :math:`-\ell'(u)`: -u, or :math:`-\log(1 + e^u)`."""
    check_choice("loss", loss, LOSSES)
    margins = as_float(margins)
    return -margins if loss == "exponential" else -jax.nn.softplus(margins)


def log_risk(margins: Array, weights: Array | None = None, *, loss: str = "exponential") -> Array:
    r"""Logarithm of the weighted risk :math:`\frac{1}{n}\sum_i w_i \ell(u_i)`, without underflow.

    Args:
      margins: [N], functional margins.
      weights: [N], non-negative, default ones.
      loss: "exponential" or "logistic".

    Example:
      >>> import jax.numpy as jnp
      >>> log_risk(jnp.array([2000.0, 2000.0]))
      Array(-2000., dtype=float32)
    """
    check_vector("margins", margins)
    return jax.nn.logsumexp(
        _log_weights(margins, weights) - jnp.log(margins.size) + log_losses(margins, loss)
    )


def effective_dual(
    margins: Array, weights: Array | None = None, *, loss: str = "exponential"
) -> Array:
    r"""Share of every example in the gradient, :math:`q_i \propto -w_i \ell'(u_i)`; sums to one.

    For the exponential loss :math:`q = \mathrm{softmax}(\log w - u)`. The gradient of the risk is a
    positive number times :math:`-\sum_i q_i \nabla u_i`, so these, not w, are the weights that
    gradient descent follows; on separable data q tends to a solution of the dual problem, in other
    words to the support vectors, for every w.

    Args:
      margins: [N], functional margins.
      weights: [N], non-negative and not all zero, default equal.
      loss: "exponential" or "logistic".

    References:
      xu2021, proof of Prop. 1 (Appendix A.2).

    Example:
      >>> import jax.numpy as jnp
      >>> effective_dual(jnp.array([1000.0, 1000.0, 2000.0]))
      Array([0.5, 0.5, 0. ], dtype=float32)
    """
    check_vector("margins", margins)
    slopes = log_slopes(margins, loss)
    slopes = slopes - jax.lax.stop_gradient(jnp.max(slopes))  # before log w is lost in rounding
    return jax.nn.softmax(_log_weights(margins, weights) + slopes)


def kl_divergence(p: Array, q: Array) -> Array:
    r"""Kullback-Leibler divergence :math:`\sum_i p_i \log(p_i / q_i)` over the last axis.

    Terms with :math:`p_i = 0` count zero; infinite if some :math:`q_i = 0 < p_i`; nan if some
    :math:`p_i` is negative or nan. Nothing is normalized: with q that does not sum to one it may be
    negative.
    """
    present = p != 0
    log_p = jnp.log(jnp.where(present, p, 1))
    log_q = jnp.log(jnp.where(present, q, 1))
    return jnp.sum(jnp.where(present, p * (log_p - log_q), 0), axis=-1)


def dual_divergence(dual: Array, weights: Array) -> Array:
    r""":math:`KL(p^\star \| \omega)` , :math:`\omega = w / \sum_j w_j`: how fast weights w can be.

    The constant of the convergence bound of gradient descent: the smaller, the sooner the direction
    is reached. Infinite if a support vector has weight zero. Where the dual is not unique every
    solution gives a valid bound; report the smallest.

    Args:
      dual: [N], :math:`p^\star`, solution of the hard-margin problem's dual on the simplex.
      weights: [N], non-negative, of any scale.

    References:
      xu2021, Prop. 1, where :math:`KL(p^\star \| w)` has w that sum to one.
    """
    check_vector("dual", dual)
    return kl_divergence(dual, weights / jnp.sum(weights))


def duality_gap(
    points: Array,
    params: Array,
    weights: Array | None = None,
    *,
    loss: str = "exponential",
) -> DualityGap:
    r"""How far a linear predictor can be from the max-margin direction, without knowing it.

    With :math:`z_i = y_i x_i` and q the effective dual, weak duality gives

    .. math:: \tilde\gamma = \min_i \frac{z_i^\top \theta}{\|\theta\|} \;\le\; \gamma^\star \;\le\;
              \Big\| \sum_i q_i z_i \Big\|, \qquad
              \cos\angle(\theta, \theta^\star) \ge \frac{\tilde\gamma}{\gamma^\star},

    the last because :math:`\theta^\star = \sum_i p^\star_i z_i / \gamma^\star` averages points
    whose component along :math:`\theta` is at least the margin. The bound on the angle decreases
    like the square root of the gap.

    Args:
      points: [N, D], inputs times their labels in {-1, 1}. Examples of weight zero count as well.
      params: [D], the predictor; no intercept.
      weights: [N], default equal.
      loss: "exponential" or "logistic".

    Returns:
      `DualityGap(lower, upper, gap, angle)`; the angle is pi/2 where the data are not separated.
    """
    if points.ndim != 2 or params.shape != points.shape[1:]:
        raise ValueError(
            "points must be [N, D] and params [D]; got shapes "
            f"{points.shape} and {params.shape}. Multiply inputs by their signs first."
        )
    margins = points @ params
    lower = normalized_margin(margins, params, 1.0)
    upper = _norm(effective_dual(margins, weights, loss=loss) @ points)
    cosine = jnp.clip(lower / jnp.where(upper > 0, upper, 1), 0, 1)
    return DualityGap(lower, upper, upper - lower, jnp.arccos(cosine))


def _log_weights(margins: Array, weights: Array | None) -> Array:
    """Logarithms [N], -inf for a weight of zero, nan for one that is negative or nan."""
    if weights is None:
        return jnp.zeros_like(margins, as_float(margins).dtype)
    if weights.shape != margins.shape:
        raise ValueError(f"weights {weights.shape} and margins {margins.shape} must agree")
    present = weights != 0
    return jnp.where(present, jnp.log(jnp.where(present, weights, 1)), -jnp.inf)
