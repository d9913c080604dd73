r"""Margin bounds for learning under covariate shift, and the divergences and complexities in them.

Points come from :math:`P_s`, errors are counted under :math:`P_t`, and
:math:`\eta(x) = p_t(x) / p_s(x)`; labels have the same mechanism under both. For a bias-free
network of depth H with a 1-Lipschitz, positively homogeneous activation, the margin
:math:`u_i = y_i f(\theta / \|\theta\|, x_i)` takes the whole parameter vector at norm one. With
probability at least :math:`1 - \delta`, for all parameters and all margins
:math:`0 < \gamma \le 2C` at once,

.. math::
  P_t(y f(x) \le 0) \le \underbrace{\frac1n \sum_i \eta_i 1(u_i < \gamma)}_{(I)}
    + \underbrace{\frac{4 \mathcal R}{\gamma}}_{(II)}
    + \underbrace{\eta_{\max} \Big( \sqrt{\tfrac{\log \log_2 (4C / \gamma)}{n}}
    + \sqrt{\tfrac{\log (1 / \delta)}{2n}} \Big)}_{(III)},
  \qquad \mathcal R \le \frac{C \sqrt{D + 1}\, (\sqrt{2 H \log 2} + 1)}{H^{H / 2} \sqrt n},

where C bounds the inputs' norm, :math:`D = D_{\chi^2}(P_t \| P_s) = E_s[\eta^2] - 1` and
:math:`\eta_{\max} = \sup \eta`. The union over the scales of the margin costs a little more than
:math:`\delta`: at most :math:`1.006\, \delta` for :math:`\delta \le 0.05`, and never more than
:math:`(\pi^2 / 6)\, \delta`.

References:
  Xu, Ye and Ruan, "Understanding the role of importance weighting for deep learning", ICLR 2021,
  arXiv:2103.15209, Theorem 1 and Lemmas A.6 to A.8; Kakade, Sridharan and Tewari, "On the
  Complexity of Linear Prediction", NIPS 2008; Golowich, Rakhlin and Shamir, "Size-Independent
  Sample Complexity of Neural Networks", COLT 2018, Theorem 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._checks import check_choice, check_positive, check_range, check_vector
from weighting._numbers import as_float, nan_if

FORMS = ("explicit", "printed")


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error."""

    value: Array
    standard_error: Array


class MarginBound(NamedTuple):
    """The three terms of a margin bound, their sum, and the margin they were taken at."""

    empirical: Array  # (I)
    complexity: Array  # (II)
    deviation: Array  # (III)
    total: Array
    gamma: Array


def _estimate(values: Array) -> Estimate:
    error = jnp.std(values, ddof=1) / math.sqrt(values.size)
    return Estimate(jnp.mean(values), error)


def weighted_distribution_ratio(ratio: Array, weights: Array) -> Array:
    r"""Density ratio to the weighted distribution :math:`\tilde p_s \propto w\, p_s`; [N].

    :math:`p_t / \tilde p_s = \eta\, \bar w / w`, infinite where a point of the target has weight
    zero. The mean :math:`\bar w` is that of the sample.

    Args:
      ratio: [N] :math:`p_t / p_s` at points drawn from :math:`P_s`.
      weights: [N], non-negative, of any scale.

    References:
      Zhou and Wu, 2022, Sec. 4.2, the definition of the weighted training distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> weighted_distribution_ratio(jnp.array([1.0, 1.0]), jnp.array([1.0, 3.0]))
      Array([2.       , 0.6666667], dtype=float32)
    """
    check_vector("ratio", ratio)
    check_vector("weights", weights)
    present = weights != 0
    scale = jnp.mean(weights) / jnp.where(present, weights, 1)
    return jnp.where(present, ratio * scale, jnp.where(ratio > 0, jnp.inf, 0))


def chi_square_divergence(ratio: Array, weights: Array | None = None) -> Estimate:
    r"""Pearson divergence :math:`D_{\chi^2}(P_t \| P_s) = E_s[\eta^2] - 1` from a sample.

    Unbiased, so it can come out below zero. With weights, the divergence
    :math:`E_s[\eta^2\, \bar w / w] - 1` to the weighted distribution
    :math:`\tilde p_s \propto w\, p_s` (:math:`\bar w` taken as exact).

    Args:
      ratio: [N] :math:`\eta` at two or more points drawn from :math:`P_s`.
      weights: [N], non-negative, of any scale; default one.

    Returns:
      `Estimate`. Its standard error means little if :math:`\eta^4` has no finite mean.

    References:
      Xu et al., 2021, Sec. 4.2; Zhou and Wu, 2022, Sec. 4.2 (which inverts the ratio by mistake).

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(chi_square_divergence(jnp.array([0.5, 1.5])).value), 4)
      0.25
    """
    check_vector("ratio", ratio)
    if ratio.size < 2:
        raise ValueError(f"a standard error needs two or more ratios, got {ratio.size}")
    second = ratio if weights is None else weighted_distribution_ratio(ratio, weights)
    value, error = _estimate(jnp.where(ratio == 0, 0, ratio * second))
    return Estimate(value - 1, error)


def discrete_chi_square(target: Array, source: Array) -> Array:
    r"""Exact :math:`D_{\chi^2}(P \| Q) = \sum_k (p_k - q_k)^2 / q_k`; infinite if q misses p.

    Args:
      target: [K] probabilities p.
      source: [K] probabilities q.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(discrete_chi_square(jnp.array([0.5, 0.5]), jnp.array([0.2, 0.8]))), 4)
      0.5625
    """
    target, source = as_float(target), as_float(source)
    check_vector("target", target)
    if target.shape != source.shape:
        raise ValueError(f"target and source must both be [K]; got {target.shape}, {source.shape}")
    missed = jnp.where(target > 0, jnp.inf, 0)
    terms = (target - source) ** 2 / jnp.where(source > 0, source, 1)
    return jnp.sum(jnp.where(source > 0, terms, missed))


def gaussian_chi_square(
    target_mean: Array, target_covariance: Array, source_mean: Array, source_covariance: Array
) -> Array:
    r"""Exact :math:`D_{\chi^2}(N(m, \Sigma) \| N(\mu, S))` of two Gaussians.

    .. math::
      \frac{|S|}{\sqrt{|\Sigma|\, |2S - \Sigma|}}
        \exp\big( (m - \mu)^\top (2S - \Sigma)^{-1} (m - \mu) \big) - 1,

    and infinite unless :math:`2S - \Sigma` is positive definite (to rounding): the source must be
    wide enough in every direction.

    Args:
      target_mean: [D], m.
      target_covariance: [D, D] positive definite, :math:`\Sigma`.
      source_mean: [D], :math:`\mu`.
      source_covariance: [D, D] positive definite, S.

    Example:
      >>> import jax.numpy as jnp
      >>> identity = jnp.eye(2)
      >>> float(gaussian_chi_square(jnp.zeros(2), 2 * identity, jnp.zeros(2), identity))
      inf
    """
    shift = jnp.asarray(target_mean) - jnp.asarray(source_mean)
    target, source = jnp.asarray(target_covariance), jnp.asarray(source_covariance)
    check_vector("the means", shift)
    if not target.shape == source.shape == (shift.size, shift.size):
        raise ValueError(
            f"the covariances must be [D, D] with D = {shift.size}; "
            f"got {target.shape}, {source.shape}"
        )
    eigenvalues, axes = jnp.linalg.eigh(2 * source - target)
    floor = 4 * shift.size * jnp.finfo(eigenvalues.dtype).eps * jnp.trace(source)
    finite = jnp.min(eigenvalues) > floor
    eigenvalues = jnp.where(finite, eigenvalues, 1)
    log_ratio = (
        jnp.linalg.slogdet(source)[1]
        - jnp.linalg.slogdet(target)[1] / 2
        - jnp.sum(jnp.log(eigenvalues)) / 2
        + jnp.sum((shift @ axes) ** 2 / eigenvalues)
    )
    return jnp.where(finite, jnp.expm1(jnp.where(finite, log_ratio, 0)), jnp.inf)


def margin_error(margins: Array, gamma: float | Array = 0.0, weights: Array | None = None) -> Array:
    r"""Weighted share of margins below gamma, :math:`\frac1n \sum_i w_i 1(u_i < \gamma)`.

    A non-decreasing step function of gamma, continuous from the left: a margin equal to gamma does
    not count. NaN if a margin is.

    Args:
      margins: [N].
      gamma: scalar or [G].
      weights: [N], default one; density ratios for an error under the target.

    Returns:
      Shaped like gamma. Cost: O(G N) time, O(N) memory.

    Example:
      >>> import jax.numpy as jnp
      >>> margin_error(jnp.array([-1.0, 0.5, 2.0, 3.0]), jnp.array([0.0, 0.5, 9.0]))
      Array([0.25, 0.25, 1.  ], dtype=float32)
    """
    check_vector("margins", margins)
    margins = as_float(margins)
    values = jnp.ones_like(margins) if weights is None else weights
    check_vector("weights", values)
    if values.shape != margins.shape:
        raise ValueError(f"one weight per margin: got {values.shape} for {margins.shape}")

    has_nan = jnp.any(jnp.isnan(margins))

    def at(threshold: Array) -> Array:
        return nan_if(has_nan, jnp.mean(jnp.where(margins < threshold, as_float(values), 0)))

    gamma = jnp.asarray(gamma, margins.dtype)
    return jax.lax.map(at, gamma.reshape(-1)).reshape(gamma.shape)


def _check_gamma(gamma: float | Array, input_bound: float | Array) -> None:
    if isinstance(gamma, Tracer) or isinstance(input_bound, Tracer):
        return
    values = np.asarray(gamma)
    # 2C itself is allowed, to rounding
    if not np.all((values > 0) & (values <= 2 * np.asarray(input_bound) * (1 + 1e-6))):
        raise ValueError(
            "gamma must lie in (0, 2 * input_bound]: above that the bound says nothing, since "
            f"margins are at most input_bound. Got {gamma} with input_bound = {input_bound}"
        )


def _margin_bound(
    margins: Array,
    ratio: Array,
    *,
    depth: int,
    input_bound: float | Array,
    delta: float | Array,
    gamma: float | Array | None,
    form: str,
    divergence: float | Array | None,
    max_ratio: float | Array | None,
) -> MarginBound:
    """The bound for margins [V, N], averaged over V, at one margin for all of them."""
    check_choice("form", form, FORMS)
    check_range("depth", depth, low=1)
    check_positive("input_bound", input_bound)
    check_range("delta", delta, low=0.0, high=1.0, low_open=True, high_open=True)
    check_vector("ratio", ratio)
    if margins.ndim != 2 or margins.shape[1:] != ratio.shape:
        raise ValueError(f"one ratio per margin: got {ratio.shape} for {margins.shape}")
    if gamma is not None:
        _check_gamma(gamma, input_bound)
    num_examples = ratio.size
    second_moment = jnp.mean(ratio**2) if divergence is None else 1 + jnp.asarray(divergence)
    bound = jnp.max(ratio) if max_ratio is None else jnp.asarray(max_ratio)
    scale = input_bound * jnp.sqrt(second_moment / num_examples)
    if form == "explicit":
        scale = scale * 4 * (math.sqrt(2 * depth * math.log(2)) + 1) / depth ** (depth / 2)
        confidence = jnp.log(1 / jnp.asarray(delta)) / (2 * num_examples)
    else:
        scale = scale / depth ** ((depth - 1) / 2)
        confidence = jnp.log(1 / jnp.asarray(delta)) / num_examples
        bound = jnp.ones_like(bound)

    def deviation(level: Array) -> Array:
        scales = jnp.log(jnp.maximum(jnp.log2(4 * input_bound / level), 1)) / num_examples
        return bound * (jnp.sqrt(scales) + jnp.sqrt(confidence))

    pooled = as_float(margins).reshape(-1)
    weights = jnp.broadcast_to(ratio[None], margins.shape).reshape(-1)
    if gamma is None:
        # (I) is constant between margins and the rest decreases: a minimum sits where (I) is about
        # to jump, or at the upper end.
        order = jnp.argsort(pooled)
        ordered = pooled[order]
        top = jnp.asarray(2 * input_bound, pooled.dtype)
        inside = (ordered > 0) & (ordered < top)
        levels = jnp.append(jnp.where(inside, ordered, top), top)
        sums = jnp.append(jnp.zeros((1,), weights.dtype), jnp.cumsum(weights[order]))
        below = sums[jnp.searchsorted(ordered, levels, side="left")] / pooled.size
        level = levels[jnp.argmin(below + scale / levels + deviation(levels))]
    else:
        level = jnp.asarray(gamma, pooled.dtype)
    empirical = margin_error(pooled, level, weights)
    terms = empirical, scale / level, deviation(level)
    return MarginBound(*terms, total=sum(terms[1:], terms[0]), gamma=level)


def weighted_margin_bound(
    normalized_margins: Array,
    ratio: Array,
    *,
    depth: int,
    input_bound: float | Array,
    delta: float | Array,
    gamma: float | Array | None = None,
    form: str = "explicit",
    divergence: float | Array | None = None,
    max_ratio: float | Array | None = None,
) -> MarginBound:
    r"""Bound on the target error of a network trained on the source (Xu et al., 2021, Theorem 1).

    The bound of this file's first lines. (II) and (III) fall with gamma, (I) rises in steps; with
    gamma=None their sum is minimized exactly, which the uniformity in gamma allows. Up-weighting
    changes the bound through the margins. It is usually vacuous (above one) unless n is huge.

    Args:
      normalized_margins: [N] :math:`y_i f(\theta / \|\theta\|, x_i)`, which is the margin over
        :math:`\|\theta\|^H`; the norm is that of all parameters together.
      ratio: [N] :math:`\eta(x_i)` at the training points, which are drawn from the source.
      depth: H, static, number of layers.
      input_bound: C, at least every input's norm.
      delta: in (0, 1); the bound fails with about this probability.
      gamma: in (0, 2C], scalar or [G] for a curve; None for the best one.
      form: "explicit", with all constants; or "printed", the theorem's display, which has
        (II) :math:`= C \sqrt{D + 1} / (\gamma H^{(H - 1) / 2} \sqrt n)`, takes
        :math:`\log(1 / \delta) / n` for the half of it, and leaves :math:`\eta_{\max}` out: right
        up to constants if the ratio is bounded, not a bound by itself.
      divergence: :math:`D_{\chi^2}(P_t \| P_s)`; default the sample's mean of :math:`\eta^2` less
        one, with which (II) is an estimate.
      max_ratio: :math:`\eta_{\max}`; default the sample's, likewise. The printed form ignores it.

    Returns:
      `MarginBound`, scalars, or [G] where gamma is. Cost: O(N log N).

    References:
      Xu et al., 2021, Theorem 1, with the constants of Lemmas A.6 to A.8. The paper allows any
      positive gamma; above 2C its iterated logarithm would be negative or undefined.

    Example:
      >>> import jax.numpy as jnp
      >>> margins, ratio = jnp.full(10**6, 0.25), jnp.ones(10**6)
      >>> bound = weighted_margin_bound(margins, ratio, depth=2, input_bound=1.0, delta=0.05)
      >>> float(bound.gamma), float(bound.empirical), round(float(bound.total), 4)
      (0.25, 0.0, 0.0237)
    """
    check_vector("normalized_margins", normalized_margins)
    return _margin_bound(
        normalized_margins[None],
        ratio,
        depth=depth,
        input_bound=input_bound,
        delta=delta,
        gamma=gamma,
        form=form,
        divergence=divergence,
        max_ratio=max_ratio,
    )


def ensemble_margin_bound(
    normalized_margins: Array,
    ratio: Array,
    *,
    depth: int,
    input_bound: float | Array,
    delta: float | Array,
    gamma: float | Array | None = None,
    form: str = "explicit",
    divergence: float | Array | None = None,
    max_ratio: float | Array | None = None,
) -> MarginBound:
    r"""Bound on the mean error of networks trained on a weighted distribution (Zhou and Wu, 2022).

    The training points are drawn from :math:`\tilde p_s \propto w\, p_s`, so the bound of
    `weighted_margin_bound` holds with :math:`\eta = p_t / \tilde p_s`
    (`weighted_distribution_ratio`), and, being uniform over networks, for the average over V of
    them at one common gamma. The weights enter through the networks and the divergence; for a fixed
    network the mean of (I) does not depend on them.

    **As printed it is false**: there the points come from :math:`P_s`, yet count by
    :math:`p_t / \tilde p_s`. Take :math:`p_s = p_t` uniform on two points, a network that errs on
    the second, and weights that make :math:`\tilde p_s = (0.1, 0.9)`: (I) is near 5/18 with all
    else near zero, and the error is 1/2. `form="printed"` gives those numbers if it is handed
    points of :math:`P_s` with the true divergence.

    Args:
      normalized_margins: [V, N], V networks (seeds, learning rates) on the same points.
      ratio: [N] :math:`p_t / \tilde p_s` at the points.
      depth: H, static, at least 2 in the paper.
      input_bound: C.
      delta: in (0, 1).
      gamma: in (0, 2C], scalar or [G]; None for the best one.
      form: "explicit" or "printed", see `weighted_margin_bound`.
      divergence: :math:`D_{\chi^2}(P_t \| \tilde P_s)`; the default estimate is right for points of
        :math:`\tilde P_s` alone; for points of :math:`P_s` see `chi_square_divergence`.
      max_ratio: the largest :math:`p_t / \tilde p_s`, default the sample's.

    Returns:
      `MarginBound`; (I) is averaged over V. Cost: O(V N log(V N)).

    References:
      Zhou and Wu, 2022, Theorem 2 (V = 1) and Proposition 6, corrected.
    """
    if normalized_margins.ndim != 2:
        raise ValueError(f"normalized_margins must be [V, N]; got {normalized_margins.shape}")
    return _margin_bound(
        normalized_margins,
        ratio,
        depth=depth,
        input_bound=input_bound,
        delta=delta,
        gamma=gamma,
        form=form,
        divergence=divergence,
        max_ratio=max_ratio,
    )


def rademacher_bound(
    inputs: Array, ratio: Array, *, depth: int, norm_bound: float | Array = 1.0
) -> Array:
    r"""Upper bound on the weighted Rademacher complexity of deep networks at given inputs.

    .. math:: \frac{M (\sqrt{2 H \log 2} + 1)}{n} \sqrt{\sum_i \eta_i^2 \|x_i\|^2}

    Args:
      inputs: [N, D].
      ratio: [N] weights :math:`\eta`.
      depth: H, static, at least one.
      norm_bound: M, the product of the bounds of the layers' Frobenius norms; :math:`H^{-H / 2}`
        for parameters of norm one.

    References:
      Xu et al., 2021, Lemma A.7, whose statement has :math:`\log 2H` for :math:`H \log 2`.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(rademacher_bound(jnp.ones((4, 1)), jnp.ones(4), depth=2)), 4)
      1.3326
    """
    check_range("depth", depth, low=1)
    _check_inputs(inputs, ratio)
    size = jnp.sqrt(jnp.sum(ratio[:, None] ** 2 * inputs**2))
    return norm_bound * (math.sqrt(2 * depth * math.log(2)) + 1) * size / ratio.size


def _check_inputs(inputs: Array, ratio: Array) -> None:
    check_vector("ratio", ratio)
    if inputs.ndim != 2 or inputs.shape[0] != ratio.size:
        raise ValueError(f"inputs must be [N, D] with N = {ratio.size}; got {inputs.shape}")


def _rademacher(
    key: Array, num_draws: int, ratio: Array, supremum_fn: Callable[[Array], Array]
) -> Estimate:
    """Mean over random signs of sup_f sum_i eps_i eta_i f(x_i) / n."""
    check_range("num_draws", num_draws, low=2)

    def draw(draw_key: Array) -> Array:
        signs = jax.random.rademacher(draw_key, ratio.shape, ratio.dtype)
        return supremum_fn(signs * ratio) / ratio.size

    return _estimate(jax.lax.map(draw, jax.random.split(key, num_draws)))


def linear_rademacher(
    key: Array,
    inputs: Array,
    ratio: Array,
    *,
    norm_bound: float | Array = 1.0,
    num_draws: int = 1000,
) -> Estimate:
    r"""Weighted Rademacher complexity of :math:`x \mapsto \theta^\top x, \|\theta\| \le M`.

    .. math::
      E_\epsilon \sup_f \frac1n \sum_i \epsilon_i \eta_i f(x_i)
        = \frac{M}{n} E_\epsilon \Big\| \sum_i \epsilon_i \eta_i x_i \Big\|

    Args:
      key: a `jax.random.key`.
      inputs: [N, D].
      ratio: [N] weights :math:`\eta`.
      norm_bound: M.
      num_draws: of the signs, static, at least two.

    Returns:
      `Estimate`, given the inputs. Cost: O(num_draws N D).

    References:
      Xu et al., 2021, Lemma A.6.
    """
    _check_inputs(inputs, ratio)
    return _rademacher(
        key, num_draws, ratio, lambda signs: norm_bound * jnp.linalg.norm(signs @ inputs)
    )


def finite_class_rademacher(
    key: Array, outputs: Array, ratio: Array, *, num_draws: int = 1000
) -> Estimate:
    r"""Weighted Rademacher complexity of finitely many functions, given by their outputs.

    Args:
      key: a `jax.random.key`.
      outputs: [F, N], :math:`f(x_i)` for each of F functions.
      ratio: [N] weights :math:`\eta`.
      num_draws: of the signs, static, at least two.

    Returns:
      `Estimate` of :math:`E_\epsilon \max_f \frac1n \sum_i \epsilon_i \eta_i f(x_i)`; zero for a
      single function. Cost: O(num_draws F N).

    References:
      Xu et al., 2021, Lemma A.6.
    """
    check_vector("ratio", ratio)
    if outputs.ndim != 2 or outputs.shape[1] != ratio.size:
        raise ValueError(f"outputs must be [F, N] with N = {ratio.size}; got {outputs.shape}")
    return _rademacher(key, num_draws, ratio, lambda signs: jnp.max(outputs @ signs))


def relu_rademacher(
    key: Array,
    inputs: Array,
    ratio: Array,
    *,
    norm_bound: float | Array = 1.0,
    num_draws: int = 1000,
) -> Estimate:
    r"""Weighted Rademacher complexity of two-layer ReLU networks on the plane, of any width.

    The best network under :math:`\|W_1\|_F \|W_2\| \le M` has one unit, so the supremum is
    :math:`M \max_{\|v\| = 1} |\sum_i \epsilon_i \eta_i (v^\top x_i)_+|`. Between the angles at
    which an input changes sides, the sum is :math:`v^\top A`: its extremes are at those angles or
    along :math:`\pm A`. Comparing them all is exact.

    Args:
      key: a `jax.random.key`.
      inputs: [N, 2].
      ratio: [N] weights :math:`\eta`.
      norm_bound: M.
      num_draws: of the signs, static, at least two.

    Returns:
      `Estimate`, given the inputs. Cost: O(num_draws N^2).

    References:
      Xu et al., 2021, Lemma A.7 with H = 2.
    """
    _check_inputs(inputs, ratio)
    if inputs.shape[1] != 2:
        raise ValueError(f"inputs must lie on the plane, [N, 2]; got {inputs.shape}")
    angles = jnp.arctan2(inputs[:, 1], inputs[:, 0])
    turns = jnp.sort(jnp.mod(jnp.append(angles + jnp.pi / 2, angles - jnp.pi / 2), 2 * jnp.pi))
    middles = (turns + jnp.append(turns[1:], turns[:1] + 2 * jnp.pi)) / 2

    def unit(angle: Array) -> Array:
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    active = (unit(middles) @ inputs.T > 0).astype(inputs.dtype)  # [2N, N], one row per arc
    at_turns = jax.nn.relu(unit(turns) @ inputs.T)

    def supremum(signs: Array) -> Array:
        slopes = active @ (signs[:, None] * inputs)
        lengths = jnp.linalg.norm(slopes, axis=1, keepdims=True)
        along = (slopes / jnp.where(lengths > 0, lengths, 1)) @ inputs.T
        values = [at_turns @ signs, jax.nn.relu(along) @ signs, jax.nn.relu(-along) @ signs]
        return norm_bound * jnp.max(jnp.abs(jnp.concatenate(values)))

    return _rademacher(key, num_draws, ratio, supremum)
