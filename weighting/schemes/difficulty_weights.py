"""Weights as a monotone function of a difficulty, with mean one and within bounds."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import bounded_mean_one, check_bounds, mid_ranks
from weighting._checks import check_choice, check_range

MAPS = ("power", "exponential", "rank", "inverse")
INVERSE_FLOOR = 1e-3


def difficulty_weights(
    difficulty: Array,
    *,
    map: str = "rank",
    strength: float | Array = 1.0,
    bounds: tuple[float | Array, float | Array] = (0.0, jnp.inf),
) -> Array:
    r"""Weights :math:`w_i = \mathrm{clip}(c\, g(d_i)^s, b, B)`, monotone in the difficulty.

    The scale c makes the mean one, so that mean and bounds hold together, exactly (where many
    examples compete for a bound B the order is kept and ties appear). A positive strength favours
    the hard examples, a negative one the easy, zero is uniform; as it grows all weight that the
    bounds allow goes to one end. The map g is

    - "power": :math:`g = d`, for difficulties >= 0 on a ratio scale (zero counts as the smallest
      positive number); the weights do not change if all difficulties are multiplied by a number.
    - "exponential": :math:`g = e^{d}`; they do not change if a number is added to all.
    - "rank": :math:`g = e^{r}`, with r the rank of the difficulty from 0 (easiest) to 1 (hardest),
      shared by ties: any increasing transformation of the difficulty gives the same weights, and
      the hardest weighs e^s times the easiest.
    - "inverse": :math:`g = 1 / (e + 10^{-3})` with e the easiness :math:`(d_{\max} - d_i) /
      (d_{\max} - d_{\min})`: increasing affine transformations change nothing. With d the negative
      margin it is an inverse-margin weight.

    Args:
      difficulty: d [N], larger means harder; finite.
      map: "power", "exponential", "rank" or "inverse".
      strength: s, any finite number.
      bounds: (b, B) with 0 <= b <= 1 <= B, the bounds of zhou2022's assumptions; B may be infinite.

    Returns:
      Weights [N] that average to one and lie in [b, B], for `per_example`.

    Raises:
      ValueError: for infeasible bounds, an unknown map, difficulties that are not finite, or
        negative ones with map="power".

    References:
      Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal Difficulty
      Measure", ECML-PKDD 2022, arXiv:2301.04850, Secs. 2.1 and 4: w(d) is left general; the maps
      are choices of this library.

    Example:
      >>> import jax.numpy as jnp
      >>> difficulty_weights(jnp.array([1.0, 1.0, 4.0]), map="power", strength=1.0)
      Array([0.5, 0.5, 2. ], dtype=float32)
    """
    check_choice("map", map, MAPS)
    check_range("strength", strength)
    check_bounds(*bounds)
    difficulty = jnp.asarray(difficulty)
    if difficulty.ndim != 1:
        raise ValueError(f"difficulty must be a vector [N], got shape {difficulty.shape}")
    if not isinstance(difficulty, Tracer):
        _check_values(np.asarray(difficulty, np.float64), map)
    difficulty = difficulty.astype(jnp.result_type(difficulty, 0.0))
    return bounded_mean_one(strength * _log_map(difficulty, map), *bounds).astype(difficulty.dtype)


def _log_map(difficulty: Array, map: str) -> Array:
    """log g(d), a finite increasing function of the difficulty."""
    if map == "exponential":
        return difficulty
    if map == "power":
        return jnp.log(jnp.maximum(difficulty, jnp.finfo(difficulty.dtype).tiny))
    if map == "rank":
        ranks = mid_ranks(difficulty) / max(difficulty.size - 1, 1)
        return ranks.astype(difficulty.dtype)
    span = jnp.max(difficulty) - jnp.min(difficulty)
    easiness = (jnp.max(difficulty) - difficulty) / jnp.where(span > 0, span, 1)
    return -jnp.log(easiness + INVERSE_FLOOR)


def _check_values(difficulty: np.ndarray, map: str) -> None:
    bad = ~np.isfinite(difficulty)
    expected = "finite"
    if map == "power":
        bad, expected = bad | (difficulty < 0), "finite and not negative with map='power'"
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"difficulty must be {expected}; difficulty[{first}] is {difficulty[first]:g}"
        )
