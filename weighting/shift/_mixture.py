"""Mixture proportions by expectation maximization."""

import jax
import jax.numpy as jnp
from jax import Array


def mixture_proportions(densities: Array, start: Array, num_iterations: int) -> Array:
    r"""Maximizes :math:`\frac1N \sum_i \log \sum_k q_k a_{ik}` over the simplex; q [K].

    The update :math:`q_k \leftarrow q_k \frac1N \sum_i a_{ik} / \sum_m q_m a_{im}` never decreases
    the objective, which is concave, and keeps the sum of q at one. A row of zeros, which no
    proportions explain, is left out.

    Args:
      densities: a [N, K], non-negative, each component's density at each point.
      start: [K], positive where q may be positive: a zero stays zero.
      num_iterations: static.
    """
    explained = jnp.max(densities, axis=1) > 0
    count = jnp.maximum(jnp.sum(explained), 1)
    tiny = jnp.finfo(densities.dtype).tiny

    def step(_: Array, proportions: Array) -> Array:
        likelihoods = densities @ proportions
        inverse = jnp.where(explained, 1 / jnp.maximum(likelihoods, tiny), 0)
        new = proportions * (inverse @ densities) / count
        return new / jnp.maximum(jnp.sum(new), tiny)

    return jax.lax.fori_loop(0, num_iterations, step, start)
