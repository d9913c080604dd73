"""What methods may know of their training set, and of networks trained before them."""

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting.schemes.mentornet import init_mentor

# What a method may get that others with the same budget do not: clean examples, a network trained
# before, or the truth.
Beyond = Literal["", "clean", "reference", "truth"]


class Reference(NamedTuple):
    """Something that must be known before training; `training/references.py` makes it."""

    axes: str  # N examples, C classes
    beyond: Beyond = "reference"


REFERENCES = {
    "is_corrupted": Reference("N", "truth"),  # which labels are wrong
    "transition": Reference("CC", "truth"),  # P(given label | true label), rows true
    "errors": Reference("N"),  # 1 where a reference network calls it something else than its label
    "margins": Reference("N"),  # the reference network's margins f_y - max f_j
    "logits": Reference("NC"),  # the reference network's
    "confusion": Reference("CC"),  # the reference network's, rows given, columns called
    "clean_losses": Reference("N", "clean"),  # of a network trained on the clean set alone
    "difficulty": Reference("N"),  # generalization error by K-fold cross-validation
    "size_clusters": Reference("C", ""),  # 0, 1 or 2 for small, middling or large classes
    "mentor": Reference("", ""),  # a MentorNet trained on its predefined curriculum
}


class Context(NamedTuple):
    """What a scheme or loss may know before training; axes N training examples, C classes."""

    class_counts: Array  # [C] training examples by (given) label
    num_examples: int
    num_steps: int
    steps_per_epoch: float
    input_size: int
    references: Mapping[str, Any]
    indices: Array | None = None  # [B] the batch's positions, for losses that read a reference

    @property
    def positive_counts(self) -> Array:
        """The class counts; a class without examples counts as one, since none of its will come."""
        return jnp.maximum(self.class_counts, 1)


@functools.cache
def example_context() -> Context:
    """A context of two examples of two classes, on which factories refuse bad values."""
    shapes = {"N": (2,), "C": (2,), "CC": (2, 2), "NC": (2, 2), "": ()}
    references: dict[str, Any] = {
        name: jnp.ones(shapes[reference.axes]) for name, reference in REFERENCES.items()
    }
    references |= {name: jnp.eye(2) for name in ("transition", "confusion")}
    references["is_corrupted"] = jnp.arange(2.0)
    references["size_clusters"] = jnp.arange(2)
    references["mentor"] = init_mentor(jax.random.key(0))
    return Context(jnp.ones(2), 2, 1, 1.0, 2, references, jnp.zeros(1, jnp.int32))
