"""Checks of hyperparameters (at construction) and shapes (at trace time), with helpful messages."""

import math
from typing import Any

from jax import Array
from jax.core import Tracer


def concrete(value: Any) -> float | None:
    """The value as a float, or None while it is traced by jit or vmap and cannot be checked."""
    if isinstance(value, Tracer):
        return None
    try:
        return float(value)
    except TypeError:
        raise TypeError(f"expected a number (a float or a scalar array), got {value!r}") from None


def check_range(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Refuses NaN and values outside [low, high]; an open end is refused as well."""
    number = concrete(value)
    if number is None:
        return
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if math.isnan(number) or below or above:
        bounds = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ValueError(f"{name} must lie in {bounds}, got {number:g}")


def check_positive(name: str, value: Any) -> None:
    """Refuses NaN, infinity, zero and negative values."""
    number = concrete(value)
    if number is not None and not (0 < number < math.inf):
        raise ValueError(f"{name} must be positive and finite, got {number:g}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a name that is not among the choices, listing them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def check_vector(name: str, array: Array) -> None:
    """Refuses anything but a vector [B]."""
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be a vector [B], one entry per example; got shape {array.shape}. "
            "A loss must not be reduced over the batch before it is weighted."
        )


def require(scheme: str, name: str, value: Any, remedy: str = "Pass it to update().") -> Any:
    """Returns the value, or says which scheme needs it and how to supply it."""
    if value is None:
        raise ValueError(f"{scheme} reads `{name}`, which was not given. {remedy}")
    return value


def require_clean_loss(scheme: str, clean_loss_fn: Any) -> Any:
    """Returns the loss of the clean batch, or says how to give one."""
    remedy = "Give the batch a small trusted set: Batch(..., clean=Batch(inputs, labels))."
    return require(scheme, "clean_loss_fn", clean_loss_fn, remedy)
