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
def example_context(num_examples: int = 2, num_classes: int = 2) -> Context:
    """A context without data, on which factories refuse bad values and steps are compiled."""
    sizes = {"N": num_examples, "C": num_classes}
    references: dict[str, Any] = {
        name: jnp.ones([sizes[axis] for axis in reference.axes])
        for name, reference in REFERENCES.items()
    }
    references |= {name: jnp.eye(num_classes) for name in ("transition", "confusion")}
    references["is_corrupted"] = jnp.arange(num_examples) % 2.0
    references["size_clusters"] = jnp.arange(num_classes) % 3
    references["mentor"] = init_mentor(jax.random.key(0))
    counts = jnp.full(num_classes, num_examples / num_classes)
    return Context(counts, num_examples, 1, 1.0, 2, references, jnp.zeros(1, jnp.int32))
