r"""Weights from margins: the closer an example is to the decision boundary, the more it weighs.

xu2021 bounds the distance of gradient descent from the max-margin direction by
:math:`KL(p^\star \| \omega)`, with :math:`p^\star` the dual solution of the hard-margin problem and
:math:`\omega = w / n` (Prop. 1; the paper's :math:`w` is meant to have mean one). Weights that
resemble :math:`p^\star`, large on small *margins*, may therefore speed training up; they do not
change where it ends. xu2021 is Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for
Deep Learning", ICLR 2021, arXiv:2103.15209; zhou2022 is Zhou, Wu et al., "Understanding
Difficulty-Based Sample Weighting with a Universal Difficulty Measure", ECML-PKDD 2022,
arXiv:2301.04850.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from weighting._arrays import bounded_mean_one, finish, read_labels, read_logits
from weighting._checks import check_choice, check_range
from weighting._numbers import as_float, at_least_float32, nan_if
from weighting.base import Signals, Weighting, stateless
from weighting.metrics import margins
from weighting.schemes.per_example import known_examples_weights

FORMS = ("minimizer", "mixture")


def inverse_margin_weights(
    margins: Array, *, floor_fraction: float | Array = 1e-3, bound: float | Array = 20.0
) -> Array:
    r"""Inverse-margin weights :math:`w_i \propto 1 / \max(m_i, \epsilon m_{\max})` of a data set.

    The margins are an oracle's: distances :math:`y_i x_i^\top \theta^\star` to the max-margin
    boundary, or normalized margins of a converged reference network. Negative ones count as the
    floor. Both properties hold at once, and exactly: the mean is one and every weight lies in
    [1/M, M], because :math:`w_i = \mathrm{clip}(c / \max(m_i, \epsilon m_{\max}), 1/M, M)` with the
    c that makes it so. Multiplying all margins by a number changes nothing; equal margins, or none
    above zero, give uniform weights.

    Args:
      margins: m [N].
      floor_fraction: epsilon in (0, 1], the floor relative to the largest margin; 1 is uniform.
      bound: M >= 1; 1 is uniform, infinity leaves the weights unbounded.

    Returns:
      Weights [N], for `per_example`.

    References:
      xu2021, Fig. 2a-b and zhou2022, Fig. 4a-d, which do not print their formula. ("Inversely
      proportional to the hard-to-classify extent" in xu2021's introduction should read "to the
      margin", as its own example says.)

    Example:
      >>> import jax.numpy as jnp
      >>> [round(w, 3) for w in inverse_margin_weights(jnp.array([1.0, 2.0, 2.0])).tolist()]
      [1.5, 0.75, 0.75]
    """
    _check_one_axis("margins", margins)
    check_range("floor_fraction", floor_fraction, low=0.0, high=1.0, low_open=True)
    check_range("bound", bound, low=1.0)
    largest = jnp.max(margins, initial=0)
    floor = floor_fraction * jnp.where(largest > 0, largest, 1)
    weights = bounded_mean_one(-jnp.log(jnp.maximum(margins, floor)), 1 / bound, bound)
    return weights.astype(jnp.result_type(margins, 0.0))


def kl_matched_weights(
    dual: Array, floor: float | Array = 0.1, *, form: str = "minimizer"
) -> Array:
    r"""Weights that match the max-margin dual solution in divergence, above a floor.

    With "minimizer", :math:`\omega = w/n` minimizes :math:`KL(p^\star \| \omega)`, the term of
    xu2021's bound that weights can move, among distributions with :math:`w_i \ge \epsilon`: the
    solution is :math:`w_i = \max(c\,n p^\star_i, \epsilon)`. With "mixture", :math:`w_i = (1 -
    \epsilon)\, n p^\star_i + \epsilon`: the same floor in closed form, a divergence of at most
    :math:`-\log(1 - \epsilon)`, and the same weights if :math:`p^\star` is uniform on its support
    (otherwise it is not the minimizer).

    Args:
      dual: p* [N], not negative with sum one; optimal SVM multipliers over their sum.
      floor: epsilon in [0, 1]; 1 is uniform, 0 is n p*: support vectors alone.
      form: "minimizer" or "mixture".

    Returns:
      Weights [N] that average to one, for `per_example`.

    References:
      xu2021, Prop. 1 (with :math:`\theta^\star = \sum_i p^\star_i y_i x_i / \gamma^\star`; the main
      text drops the margin, (A.4) the sum).

    Example:
      >>> import jax.numpy as jnp
      >>> kl_matched_weights(jnp.array([0.75, 0.25, 0.0, 0.0]), 0.5, form="mixture")
      Array([2. , 1. , 0.5, 0.5], dtype=float32)
    """
    _check_one_axis("dual", dual)
    dual = as_float(dual)
    check_range("floor", floor, low=0.0, high=1.0)
    check_choice("form", form, FORMS)
    if form == "mixture":
        return (1 - floor) * dual.size * dual + floor
    positive = dual > 0
    smallest = math.log(jnp.finfo(dual.dtype).tiny)
    log_dual = jnp.where(positive, jnp.log(jnp.where(positive, dual, 1)), smallest)
    weights = bounded_mean_one(log_dual, floor, jnp.inf)
    return jnp.where(positive, weights, floor).astype(dual.dtype)


def small_margin_weights(
    margins: Array, quantile: float | Array = 0.1, value: float | Array = 2.0
) -> Array:
    """Weight v on the examples with the smallest margins, 1 on the others, scaled to mean one.

    Examples that tie with the largest of the small margins are all marked.

    Args:
      margins: [N], of a reference model.
      quantile: fraction of the examples to mark, rounded to whole examples; 0 and 1 are uniform.
      value: v >= 0; 1 is uniform.

    Returns:
      Weights [N] that average to one, for `per_example`.

    References:
      zhou2022, Fig. 5b; neither the fraction nor v is printed.
    """
    _check_one_axis("margins", margins)
    margins = as_float(margins)
    check_range("quantile", quantile, low=0.0, high=1.0)
    num_small = jnp.round(quantile * margins.size).astype(jnp.int32)
    threshold = jnp.sort(margins)[jnp.maximum(num_small - 1, 0)]
    weights = known_examples_weights((margins <= threshold) & (num_small > 0), value)
    return nan_if(jnp.any(jnp.isnan(margins)), weights)


def exponential_margin(bound: float | Array = jnp.inf, *, normalize: bool = True) -> Weighting:
    r"""Weights :math:`w_i \propto e^{-u_i}` of the functional margins: the exponential loss's dual.

    These are the shares of the examples in the gradient of the exponential loss, and tend to the
    max-margin dual solution as the margins grow: in the end support vectors alone weigh. A bound
    keeps every weight in [1/M, M] (exactly, with mean one, where the incoming weights are uniform).

    Args:
      bound: M >= 1; 1 is uniform, infinity does not bound.
      normalize: to mean one over the batch; False gives the dual's scale, a sum of one (over the
        examples whose incoming weight is not zero).

    Returns:
      A `Weighting`. Reads: logits, labels. State: none. Scale: mean one. Cost: O(B C).

    References:
      xu2021, Sec. 2 (the risk is dominated by the smallest margins); zhou2022, Prop. 5 (2), dual
      coefficients that are exponential in the margin, with one constant for all examples.
    """
    check_range("bound", bound, low=1.0)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        # An example that an earlier scheme dropped must not set the scale of the others.
        keep = (signals.valid > 0) & (jax.lax.stop_gradient(weights) > 0)
        own = bounded_mean_one(
            -_read_margins("exponential_margin()", signals), 1 / bound, bound, keep
        )
        if not normalize:
            own = own / jnp.maximum(jnp.sum(keep), 1)
        return finish(weights * own, signals, normalize)

    return stateless(update)


def inverse_margin(bound: float | Array = 20.0, *, normalize: bool = True) -> Weighting:
    r"""Weights :math:`w_i = \mathrm{clip}(1 / (u_i)_+, 1/M, M)` of the current functional margins.

    Examples on the wrong side of the boundary weigh most, M each. Functional margins have the scale
    of the logits: once all exceed M the weights are uniform again. (`inverse_margin_weights` does
    not depend on the scale.)

    Args:
      bound: M >= 1, finite; 1 is uniform.
      normalize: to mean one over the batch, so that the bounds hold up to a common factor; False
        gives the weights above.

    Returns:
      A `Weighting`. Reads: logits, labels. State: none. Scale: mean one. Cost: O(B C).

    References:
      zhou2022, Sec. 4.1 (small functional margins should weigh more; bounds [b, B] as in its Thm.
      1); the formula is not printed.
    """
    check_range("bound", bound, low=1.0, high=math.inf, high_open=True)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        u = _read_margins("inverse_margin()", signals)
        return finish(weights / jnp.clip(u, 1 / bound, bound), signals, normalize)

    return stateless(update)


def _read_margins(scheme: str, signals: Signals) -> Array:
    """The batch's margins, at least float32, zero at padding."""
    u = margins(read_logits(scheme, signals), read_labels(scheme, signals))
    return jnp.where(signals.valid > 0, at_least_float32(u), 0)


def _check_one_axis(name: str, array: Array) -> None:
    if array.ndim != 1:
        raise ValueError(f"{name} must be a vector [N], one per example; got {array.shape}")
