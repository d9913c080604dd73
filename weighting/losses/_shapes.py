"""What the losses accept, and how they read hyperparameters that belong to the classes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._numbers import in_range, nan_if


def check_classes(logits: Array, labels: Array) -> None:
    """Refuses anything but logits [B, C] with C >= 2 and integer labels [B]."""
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "cross-entropy needs logits [B, C] with C >= 2 and integer labels [B]; got logits "
            f"{logits.shape} and labels {labels.shape}. For one score per example use `logistic`."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers (class numbers), got {labels.dtype}")


def nan_outside(losses: Array, labels: Array, num_classes: int) -> Array:
    """The losses [B]; NaN, with zero gradient, where the label is not one of the classes.

    An index out of range would be clamped, and one below zero count from the end, so that another
    class would answer. The gradient keeps rows that are padding from spoiling others.
    """
    return nan_if(~in_range(labels, num_classes), losses)


def log_sum_exp(values: Array) -> Array:
    """log sum exp over the last axis; -inf, with zero gradient, where all values are -inf."""
    is_empty = jnp.all(values == -jnp.inf, axis=-1)
    values = jnp.where(is_empty[..., None], 0, values)
    return jnp.where(is_empty, -jnp.inf, jax.nn.logsumexp(values, axis=-1))


def read_counts(class_counts: Array, logits: Array) -> Array:
    """Class counts [C] as floats; concrete ones must be positive."""
    if np.shape(class_counts) != logits.shape[1:]:
        raise ValueError(
            "class_counts must be a vector [C], one count for each column of the logits; got shape "
            f"{np.shape(class_counts)} for logits {logits.shape}"
        )
    if not isinstance(class_counts, Tracer):
        counts = np.asarray(class_counts)
        if not np.all((counts > 0) & np.isfinite(counts)):
            raise ValueError(
                f"class_counts must be positive and finite; got {counts.tolist()}. A class without "
                "examples has no prior: drop it, or merge it."
            )
    return jnp.asarray(class_counts, _float(logits))


def read_transition(transition: Array, logits: Array, *, inverted: bool = False) -> Array:
    """A transition matrix [C, C] as floats; a concrete one must be row-stochastic."""
    classes = logits.shape[1]
    if np.shape(transition) != (classes, classes):
        raise ValueError(
            "transition must be a matrix [C, C] of P(noisy label = column | true class = row); got "
            f"shape {np.shape(transition)} for logits {logits.shape}"
        )
    if not isinstance(transition, Tracer):
        _check_transition(np.asarray(transition, np.float64), inverted)
    return jnp.asarray(transition, _float(logits))


def _check_transition(transition: np.ndarray, inverted: bool) -> None:
    if not (np.all(transition >= 0) and np.allclose(transition.sum(axis=1), 1, atol=1e-4)):
        raise ValueError(
            "every row of the transition must be a probability distribution, P(noisy label | true "
            f"class); got rows that sum to {transition.sum(axis=1).tolist()} and a smallest entry "
            f"of {transition.min():g}. A matrix whose columns sum to one needs transposing."
        )
    if not np.all(transition.max(axis=0) > 0):
        raise ValueError(
            "every label must be possible: each column of the transition needs a positive entry; "
            f"its column sums are {transition.sum(axis=0).tolist()}"
        )
    if inverted and np.linalg.cond(transition) > 1e6:
        raise ValueError(
            "the transition must be invertible to correct losses backward; its condition number "
            f"is {np.linalg.cond(transition):.1e}. Use `forward_corrected_cross_entropy`."
        )


def _float(logits: Array) -> jnp.dtype:
    """At least single precision: counts and inverses do not fit into half precision."""
    return jnp.promote_types(logits.dtype, jnp.float32)
