"""Learning-rate schedules as short texts: constant, or drops at given steps."""

import itertools
import re
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike


class Schedule(NamedTuple):
    """The learning rate is multiplied by `factor` at each of the steps `drops`."""

    drops: tuple[int, ...] = ()
    factor: float = 1.0

    def of(self, learning_rate: ArrayLike) -> Any:
        """What optax takes: the rate itself, or an `optax.Schedule`."""
        if not self.drops:
            return learning_rate
        drops = jnp.asarray(self.drops)
        return lambda count: learning_rate * self.factor ** jnp.sum(count >= drops)


def parse_schedule(text: str) -> Schedule:
    """Reads "constant" or "drops:STEP[,STEP...][:FACTOR]"; the factor is 0.1 if left out.

    Example:
      >>> parse_schedule("drops:40000,60000").drops
      (40000, 60000)
    """
    if text == "constant":
        return Schedule()
    match = re.fullmatch(r"drops:(\d+(?:,\d+)*)(?::(.+))?", text)
    if match is None:
        raise ValueError(
            f"schedule must be constant or drops:STEP[,STEP...][:FACTOR], such as "
            f"drops:40000,60000:0.1; got {text!r}"
        )
    drops = tuple(int(step) for step in match[1].split(","))
    factor = _factor(match[2] or "0.1", text)
    if any(a >= b for a, b in itertools.pairwise(drops)):
        raise ValueError(f"the steps of a schedule must increase; got {text!r}")
    if not 0 < factor < 1:
        raise ValueError(f"the factor of a schedule must lie in (0, 1); got {text!r}")
    return Schedule(drops, factor)


def _factor(written: str, text: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise ValueError(f"{written!r} in {text!r} is not a number") from None
