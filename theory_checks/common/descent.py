r"""Gradient descent of many weighted linear problems at once, recorded at chosen steps.

The risks are :math:`\frac{1}{n} \sum_i w_i \ell(z_i^\top \theta) + \lambda \|\theta\|^2` with the
exponential or the logistic loss, of which only logarithms are formed; descent starts at zero.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class DescentPath(NamedTuple):
    """What was recorded after each of T numbers of steps, for K problems."""

    params: np.ndarray  # [K, T, D]
    sum_norms: np.ndarray  # [K, T] of the gradients' norms so far
    sum_squares: np.ndarray  # [K, T] of their squares
    norms: np.ndarray  # [K, T] of the gradient at the parameters


def log_spaced(last: int, per_decade: int = 4) -> np.ndarray:
    """Numbers of steps from 1 to `last`, equally spaced in their logarithm."""
    exponents = np.arange(round(per_decade * np.log10(last)) + 1) / per_decade
    return np.unique(np.round(10**exponents).astype(int))


def descend(
    points: np.ndarray,
    weights: np.ndarray,
    learning_rate: np.ndarray | float,
    times: np.ndarray,
    *,
    loss: str = "exponential",
    regularization: float = 0.0,
    normalized: bool = False,
) -> DescentPath:
    """Runs points [K, N, D] with weights [K, N] and constant steps; or steps a / L_t, a = 1/sqrt t.

    With `normalized` the step is the learning rate over the loss and over sqrt(t + 1).
    """
    num_problems, count, _ = points.shape
    lengths = np.diff(np.append(0, times))
    with jax.enable_x64(True):
        outputs = _descend(
            jnp.asarray(np.moveaxis(points, 2, 0)),
            jnp.asarray(np.log(weights / count)),
            jnp.broadcast_to(jnp.asarray(learning_rate, float), (num_problems,)),
            jnp.asarray(lengths),
            jnp.asarray(regularization, float),
            loss,
            normalized,
        )
        params, *sums = (np.asarray(output) for output in outputs)
    return DescentPath(np.transpose(params, (2, 0, 1)), *(record.T for record in sums))


@functools.partial(jax.jit, static_argnames=("loss", "normalized"))
def _descend(
    points: Array,
    log_shares: Array,
    learning_rate: Array,
    lengths: Array,
    regularization: Array,
    loss: str,
    normalized: bool,
) -> tuple[Array, Array, Array, Array]:
    size, num_problems, _ = points.shape

    def logarithms(params: Array) -> tuple[Array, Array]:
        """Of every example's share in the loss, and of its derivative's magnitude."""
        margins = sum(points[j] * params[j][:, None] for j in range(size))
        if loss == "exponential":
            return log_shares - margins, log_shares - margins
        softplus = jax.nn.softplus(-margins)
        return log_shares + jnp.log(softplus), log_shares - margins - softplus

    def gradient(params: Array) -> tuple[Array, Array]:
        log_losses, log_slopes = logarithms(params)
        shares = jnp.exp(log_slopes)
        pulls = [jnp.sum(shares * points[j], axis=1) for j in range(size)]
        penalty = 2 * regularization * params
        return penalty - jnp.stack(pulls), log_losses

    def step(_: Array, carry: tuple) -> tuple:
        params, sum_norms, sum_squares, index = carry
        slope, log_losses = gradient(params)
        squares = jnp.sum(slope**2, axis=0)
        rate = learning_rate
        if normalized:
            log_risk = jax.nn.logsumexp(log_losses, axis=1)
            rate = rate * jnp.exp(-log_risk) / jnp.sqrt(index + 1.0)
        params = params - rate[None] * slope
        return params, sum_norms + jnp.sqrt(squares), sum_squares + squares, index + 1

    def segment(carry: tuple, length: Array) -> tuple[tuple, tuple]:
        carry = jax.lax.fori_loop(0, length, step, carry)
        params, sum_norms, sum_squares, _ = carry
        norms = jnp.sqrt(jnp.sum(gradient(params)[0] ** 2, axis=0))
        return carry, (params, sum_norms, sum_squares, norms)

    zeros = jnp.zeros(num_problems)
    start = (jnp.zeros((size, num_problems)), zeros, zeros, jnp.zeros((), int))
    return jax.lax.scan(segment, start, lengths)[1]
