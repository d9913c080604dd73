r"""LOW: the weights that decrease the loss most, by a quadratic program (Santiago et al., 2021).

With :math:`g_j` the squared norm of example j's gradient, the weights solve (Eq. 9)

.. math:: \max_w\; w^\top g - \lambda \|w - 1\|^2 \quad\text{s.t. } w \ge 0,\ \sum_j w_j = B.

Completing the square shows that this is the Euclidean projection of :math:`1 + g / (2\lambda)` onto
the simplex :math:`\{w \ge 0, \sum_j w_j = B\}`, which a sort solves exactly.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from weighting import gradient_norms as norms
from weighting._arrays import read_features, read_labels, read_logits
from weighting._checks import check_choice, check_positive, check_vector, require
from weighting._jaxopt import import_jaxopt
from weighting._numbers import as_float, at_least_float32, keep_rows
from weighting._whole_batch import on_whole_batch
from weighting.base import Signals, Weighting, guarded, is_valid
from weighting.linearize import masked_mean

SOLVERS = ("projection", "osqp")
GRADIENTS = ("logits", "last_layer", "parameters")
SCALES = ("example", "batch_mean")


@on_whole_batch
def low_weights(
    squared_gradient_norms: Array,
    regularization: float | Array,
    *,
    solver: str = "projection",
    mask: Array | None = None,
) -> Array:
    r"""Solves LOW's quadratic program for one batch (santiago2021, Eq. 9).

    :math:`\lambda \ge (\bar g - \min g)/2` clips nothing and gives
    :math:`w_j = 1 + (g_j - \bar g)/(2\lambda)`, which tends to uniform; :math:`\lambda \to 0` puts
    all weight on the largest norm (shared by ties). Adding a constant to g changes nothing. The
    projection is exact to rounding at any scale of g and lambda; a NaN in g makes all weights NaN.

    Args:
      squared_gradient_norms: g [B]; integers are computed in floating point.
      regularization: lambda > 0, in the units of g (per-example gradients); may be traced.
      solver: "projection", exact, O(B log B); or "osqp", jaxopt's operator splitting on the program
        as printed (a reference: far slower, accurate to its tolerance, clipped to w >= 0).
      mask: [B], 0 marks padding, which gets weight zero.

    Returns:
      Weights [B] that average to one over the unmasked batch, in the dtype of g.

    Raises:
      ValueError: for a regularization that is not positive, or g that is not a vector.
      ImportError: "osqp" without jaxopt.

    Example:
      >>> import jax.numpy as jnp
      >>> low_weights(jnp.array([0.0, 0.25, 0.5]), 0.25)
      Array([0.5, 1. , 1.5], dtype=float32)
    """
    check_vector("squared_gradient_norms", squared_gradient_norms)
    check_positive("regularization", regularization)
    check_choice("solver", solver, SOLVERS)
    norm = at_least_float32(squared_gradient_norms)  # half precision cannot count to a batch
    valid = is_valid(mask, norm)
    gaps = _gaps(norm, regularization, valid)
    solve = _project if solver == "projection" else _solve_osqp
    weights = keep_rows(valid, solve(gaps, valid))
    return weights.astype(as_float(squared_gradient_norms).dtype)


def low_kkt_residual(
    weights: Array,
    squared_gradient_norms: Array,
    regularization: float | Array,
    *,
    mask: Array | None = None,
) -> Array:
    """How far weights are from solving Eq. 9, relative to the largest weight (or one); a scalar.

    The largest violation of: mean one, non-negativity, equal multipliers on the support, and no
    gain from a weight that is zero (both of the latter divided by 2 lambda). Zero at the solution.
    """
    norm = as_float(squared_gradient_norms)
    valid = is_valid(mask, norm)
    weights = keep_rows(valid, as_float(weights))
    support = weights > 0
    gain = -_gaps(norm, regularization, valid) - weights  # up to a constant, over 2 lambda
    excess = gain - _mean_over(support, gain)
    violation = jnp.where(support, jnp.abs(excess), jnp.where(valid, excess, 0))
    largest = jnp.maximum(jnp.max(jnp.abs(weights)), 1)
    feasibility = jnp.abs(masked_mean(weights, valid) - 1)
    return jnp.maximum(feasibility, jnp.maximum(jnp.max(violation), jnp.max(-weights)) / largest)


class LowState(NamedTuple):
    """The last program's optimality residual, so that an inexact solve is seen, not hidden."""

    kkt_residual: Array  # [] largest violation, in units of a weight


def low(
    regularization: float | Array,
    *,
    solver: str = "projection",
    gradient: str = "logits",
    gradient_scale: str = "example",
    last_layer_bias: bool = True,
) -> Weighting:
    r"""LOW: examples with large gradients gain weight, moderated by a quadratic penalty.

    A large `regularization` is uniform; a small one leaves only the hardest examples. With
    cross-entropy and the logit proxy g lies in [0, 2], so 1 is mild and 0.01 is extreme.

    Args:
      regularization: lambda > 0 in per-example units; the paper searches {1, 0.5, 0.1, 0.01}.
      solver: "projection" or "osqp", see `low_weights`.
      gradient: whose norm is squared. "logits" is the paper's proxy, of whatever loss is trained;
        "last_layer" adds the features (a dense last layer); "parameters" is exact and costs a
        further gradient per example (with batch norm, a backward pass over the batch per example).
      gradient_scale: "example" (the paper). "batch_mean" divides g by B^2, as the released code
        does by differentiating the batch *mean*: at B = 256 and lambda = 0.1 its weights are
        uniform to four digits (lambda acts as 6554 in per-example units).
      last_layer_bias: whether the last layer has a bias (gradient="last_layer").

    Returns:
      A `Weighting`. Reads: logits, labels, `loss_fn`; features for "last_layer". State: the
      residual of the last solve. Scale: mean one. Cost: O(B log B + B C) for the logit proxy.

    References:
      Santiago, Barata, Sasdelli, Carneiro, Nascimento, "LOW: Training deep neural networks by
      learning optimal sample weights", Pattern Recognition 110, 2021, Eqs. (7)-(9). Each example
      counts its own gradient, not the batch's (Eqs. 4-6 are derived for a batch of one).
    """
    check_positive("regularization", regularization)
    check_choice("solver", solver, SOLVERS)
    if solver == "osqp":
        import_jaxopt()  # refused here, before any work
    check_choice("gradient", gradient, GRADIENTS)
    check_choice("gradient_scale", gradient_scale, SCALES)

    def init_fn(key, params):
        del key, params
        return LowState(jnp.zeros(()))

    def update_fn(
        weights,
        state,
        signals,
        *,
        loss_fn=None,
        linearized=None,
        params=None,
        example_loss_fn=None,
        examples=None,
        **extra,
    ):
        if gradient == "parameters":
            squared = _parameter_norms(linearized, params, example_loss_fn, examples)
        else:
            squared = _output_norms(gradient, signals, loss_fn, last_layer_bias)
        if gradient_scale == "batch_mean":
            squared = squared / jnp.maximum(jnp.sum(signals.valid), 1) ** 2
        own, residual = _solve(squared, regularization, solver, signals.valid)
        new_weights = (weights * own).astype(signals.losses.dtype)
        return new_weights, LowState(residual.astype(state.kkt_residual.dtype))

    return guarded(init_fn, update_fn)


@on_whole_batch
def _solve(
    squared: Array, regularization: float | Array, solver: str, valid: Array
) -> tuple[Array, Array]:
    own = low_weights(squared, regularization, solver=solver, mask=valid)
    return own, low_kkt_residual(own, squared, regularization, mask=valid)


def _parameter_norms(linearized: Any, params: Any, example_loss_fn: Any, examples: Any) -> Array:
    """Squared gradient norms over all parameters, the cheapest way that the step offers."""
    name = "low(gradient='parameters')"
    if linearized is not None and linearized.squared_row_norms is not None:
        return linearized.squared_row_norms()
    if example_loss_fn is not None:
        params = require(name, "params", params, "Pass it.")
        examples = require(name, "examples", examples, "Pass (inputs, labels).")
        return norms.per_example_gradient_norms(example_loss_fn, params, examples)
    return norms.jacobian_row_norms(require(name, "linearized", linearized))


def _output_norms(gradient: str, signals: Signals, loss_fn: Any, bias: bool) -> Array:
    """Squared gradient norms with respect to the logits, or to the last layer's parameters."""
    name = f"low(gradient={gradient!r})"
    logits, labels = read_logits(name, signals), read_labels(name, signals)
    loss_fn = require(name, "loss_fn", loss_fn, "Pass loss_fn=... to update().")
    if gradient == "logits":
        return norms.logit_gradient_norms(loss_fn, logits, labels)
    features = read_features(name, signals)
    return norms.last_layer_gradient_norms(loss_fn, logits, labels, features, bias=bias)


def _mean_over(selected: Array, values: Array) -> Array:
    return jnp.sum(jnp.where(selected, values, 0)) / jnp.maximum(jnp.sum(selected), 1)


def _gaps(norm: Array, regularization: float | Array, valid: Array) -> Array:
    """(max g - g) / (2 lambda) of every example, at most 2 B; so much for padding.

    The largest is subtracted before anything is summed or divided, so that no difference between
    norms is lost to their size. An entry that lies B or more below the largest cannot be in the
    support, so that the bound changes no weight, and nothing overflows as lambda tends to zero.
    """
    bound = 2.0 * norm.shape[0]
    largest = jnp.max(jnp.where(valid, norm, -jnp.inf))
    divisor = jnp.maximum(2 * regularization, jnp.finfo(norm.dtype).tiny)  # it may round to zero
    return jnp.where(valid, jnp.minimum((largest - norm) / divisor, bound), bound)


def _project(gaps: Array, valid: Array) -> Array:
    """Projects -gaps on {w >= 0, sum w = n}: w = max(t - gap, 0) with the t that makes the sum n.

    Lifting the weights of the k smallest gaps from zero at the k-th of them costs
    sum_{j < k} j (gap_{j+1} - gap_j), a sum of positive terms; those whose cost is below n are the
    support.
    """
    count = jnp.maximum(jnp.sum(valid), 1)
    ascending = jnp.sort(gaps)
    steps = jnp.diff(ascending, prepend=ascending[:1])
    costs = jnp.cumsum(jnp.arange(gaps.shape[0]) * steps)
    support = (costs < count) & (jnp.arange(gaps.shape[0]) < count)
    threshold = count / jnp.maximum(jnp.sum(support), 1) + _mean_over(support, ascending)
    weights = keep_rows(valid, jnp.maximum(threshold - gaps, 0))
    support = weights > 0
    excess = _mean_over(support, weights) - count / jnp.maximum(jnp.sum(support), 1)  # rounding
    return jnp.where(support, jnp.maximum(weights - excess, 0), weights)


def _solve_osqp(gaps: Array, valid: Array) -> Array:
    """Minimizes |w + gaps|^2 / 2, which is Eq. 9 over 2 lambda, by jaxopt's OSQP."""
    dtype = jnp.promote_types(gaps.dtype, jnp.zeros(()).dtype)  # OSQP wants the default float type
    gaps, rows = gaps.astype(dtype), valid.astype(dtype)
    tolerance = 1e-8 if dtype == jnp.float64 else 1e-5
    solver = import_jaxopt().OSQP(
        matvec_Q=lambda _, weights: weights,  # the identity: no matrix B x B
        matvec_A=lambda rows, weights: jnp.vdot(rows, weights)[None],
        matvec_G=lambda _, weights: -weights,
        tol=tolerance,
        maxiter=10_000,
    )
    solution = solver.run(
        params_obj=(None, gaps),
        params_eq=(rows, jnp.maximum(jnp.sum(rows), 1)[None]),
        params_ineq=(None, jnp.zeros_like(gaps)),
    )
    return jnp.maximum(solution.params.primal, 0)
