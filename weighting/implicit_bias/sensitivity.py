r"""Will weighting matter here? Whether two weightings of one data set end at different classifiers.

For a linear predictor (raw inputs, or a network's last-layer features) and a convex margin loss the
answer can be computed without training. Gradient descent from zero with learning rate
:math:`\eta`, stopped after T steps, goes about as far as the minimizer of

.. math:: \frac1n \sum_i w_i\, \ell(y_i x_i^\top \theta) + \frac{\lambda}{2} \|\theta\|^2,
          \qquad \lambda = \lambda_0 + \frac{1}{\eta T},

with :math:`\lambda_0` the explicit regularization; the two agree up to constants. Solving it for
both weightings shows how far apart they end. It reproduces the theory's cases: on separable data
with an exponential tail they meet as :math:`\eta T` grows, like one over its logarithm (xu2021,
Prop. 1); regularized strongly, stopped early, with a polynomial tail or on overlapping classes
they stay apart (Prop. 2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_positive, check_range, check_vector
from weighting._types import LossFn


class Sensitivity(NamedTuple):
    """How much a classifier depends on the choice between two weightings; a batch of one pair."""

    disagreement: Array  # [] share of inputs that the two classifiers call differently
    angle: Array  # [] between their directions, radians
    regularization: Array  # [] the effective lambda that stands for the budget
    is_separated: Array  # [] whether the first classifier makes no error on its training set
    gradient_norm: Array  # [] the larger of the two solutions' gradient norms, relative to at zero


def weighting_sensitivity(
    inputs: Array,
    labels: Array,
    weights: Array,
    other_weights: Array,
    loss_fn: LossFn,
    *,
    learning_rate: float | Array,
    num_steps: float | Array,
    regularization: float | Array = 0.0,
    evaluation_inputs: Array | None = None,
    num_iterations: int = 60,
) -> Sensitivity:
    """Predicts how far apart two weightings of the same training set end.

    Args:
      inputs: [N, D] of a linear predictor without intercept (append a constant for one).
      labels: [N] in {0, 1}.
      weights: [N], one weighting; scaled to mean one, so that only ratios matter.
      other_weights: [N], the other.
      loss_fn: a convex margin loss (scores [N], labels [N]) -> [N], such as `losses.logistic`,
        `losses.exponential` or `losses.polynomial_tailed`.
      learning_rate: of gradient descent from zero. With momentum, its rate over 1 - momentum.
      num_steps: the step budget T; infinity is training to convergence (which needs
        `regularization` > 0 on separable data).
      regularization: lambda_0 >= 0, the coefficient of theta in the gradient (weight decay).
      evaluation_inputs: [M, D] on which the two classifiers are compared, no labels needed; by
        default the training inputs, on which separated data show no disagreement.
      num_iterations: of the damped Newton method, static.

    Returns:
      `Sensitivity`. A disagreement of a few percent or more means that weighting matters. Check
      that `gradient_norm` is small. Cost: `num_iterations` D x D systems for each weighting.

    References:
      The limits are those of Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for Deep
      Learning", ICLR 2021. That early stopping acts as a ridge penalty of 1 / (eta T): Ali, Kolter,
      Tibshirani, "A Continuous-Time View of Early Stopping for Least Squares", AISTATS 2019.
    """
    check_positive("learning_rate", learning_rate)
    check_range("num_steps", num_steps, low=0.0, low_open=True)
    check_range("regularization", regularization, low=0.0)
    check_vector("labels", labels)
    if inputs.ndim != 2 or inputs.shape[0] != labels.shape[0]:
        raise ValueError(
            f"inputs must be [N, D] with labels [N]; got {inputs.shape} and {labels.shape}"
        )
    if not weights.shape == other_weights.shape == labels.shape:
        raise ValueError(
            f"both weightings must be [N] = {labels.shape}; got {weights.shape} and "
            f"{other_weights.shape}"
        )
    strength = regularization + 1 / (learning_rate * num_steps)
    margins = (2 * labels - 1).astype(inputs.dtype)[:, None] * inputs
    solve = jax.vmap(
        lambda w: _minimize(margins, w / jnp.mean(w), loss_fn, strength, num_iterations)
    )
    thetas, residuals = solve(jnp.stack([weights, other_weights]))
    scores = (inputs if evaluation_inputs is None else evaluation_inputs) @ thetas.T
    units = thetas / jnp.maximum(jnp.linalg.norm(thetas, axis=1, keepdims=True), 1e-30)
    return Sensitivity(
        disagreement=jnp.mean((scores[:, 0] > 0) != (scores[:, 1] > 0)),
        angle=2
        * jnp.arctan2(jnp.linalg.norm(units[0] - units[1]), jnp.linalg.norm(units[0] + units[1])),
        regularization=jnp.asarray(strength),
        is_separated=jnp.all(margins @ thetas[0] > 0),
        gradient_norm=jnp.max(residuals),
    )


def _minimize(
    margins: Array, weights: Array, loss_fn: LossFn, strength: float | Array, num_iterations: int
) -> tuple[Array, Array]:
    """The minimizer by Newton's method with step halving, and its relative gradient norm."""
    ones = jnp.ones(margins.shape[0], jnp.int32)

    def risk(theta: Array) -> Array:
        return jnp.mean(weights * loss_fn(margins @ theta, ones)) + strength / 2 * theta @ theta

    gradient = jax.grad(risk)

    def slopes(scores: Array) -> Array:
        return jax.grad(lambda u: jnp.sum(weights * loss_fn(u, ones)))(scores)

    def step(theta: Array, _: None) -> tuple[Array, None]:
        scores = margins @ theta
        _, curvature = jax.jvp(slopes, (scores,), (jnp.ones_like(scores),))  # diagonal
        hessian = margins.T @ (curvature[:, None] * margins) / len(scores)
        hessian = hessian + strength * jnp.eye(theta.size, dtype=theta.dtype)
        direction = -jnp.linalg.solve(hessian, gradient(theta))
        sizes = 0.5 ** jnp.arange(20, dtype=theta.dtype)
        risks = jax.vmap(lambda size: risk(theta + size * direction))(sizes)
        best = jnp.nanargmin(jnp.where(jnp.isfinite(risks), risks, jnp.inf))
        better = risks[best] < risk(theta)
        return jnp.where(better, theta + sizes[best] * direction, theta), None

    start = jnp.zeros(margins.shape[1], margins.dtype)
    theta, _ = jax.lax.scan(step, start, None, length=num_iterations)
    norm = jnp.linalg.norm(gradient(start))
    return theta, jnp.linalg.norm(gradient(theta)) / jnp.maximum(norm, 1e-30)
