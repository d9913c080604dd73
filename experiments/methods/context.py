"""What methods may know of their training set, and of networks trained before them."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from weighting.schemes.mentornet import init_mentor

# What a method may ask for, and how it is shaped. `references.py` makes them.
REFERENCES = {
    "is_corrupted": "N",  # the truth: which labels are wrong
    "transition": "CC",  # the truth: P(given label | true label), rows true
    "errors": "N",  # 1 where a reference network calls the example something else than its label
    "margins": "N",  # the reference network's margins f_y - max f_j
    "logits": "NC",  # the reference network's
    "confusion": "CC",  # the reference network's, on the training set: rows given, columns called
    "clean_losses": "N",  # of a network trained on the clean set alone
    "difficulty": "N",  # generalization error by K-fold cross-validation
    "size_clusters": "C",  # 0, 1 or 2 for small, middling or large classes
    "mentor": "",  # a MentorNet trained on its predefined curriculum
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


@functools.cache
def example_context() -> Context:
    """A context of two examples of two classes, on which factories refuse bad values."""
    shapes = {"N": (2,), "C": (2,), "CC": (2, 2), "NC": (2, 2), "": ()}
    references: dict[str, Any] = {name: jnp.ones(shapes[axes]) for name, axes in REFERENCES.items()}
    references |= {name: jnp.eye(2) for name in ("transition", "confusion")}
    references["is_corrupted"] = jnp.arange(2.0)
    references["size_clusters"] = jnp.arange(2)
    references["mentor"] = init_mentor(jax.random.key(0))
    return Context(jnp.ones(2), 2, 1, 1.0, 2, references, jnp.zeros(1, jnp.int32))
