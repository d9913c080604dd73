"""The weightings of Figure 5a-c: which examples are raised or lowered, and by how much.

The paper prints neither the weights nor the share of small margins; all of them are of our choice.
Weights average to one in every arm, so that arms do not differ in their learning rate.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data import Task
from experiments.zhou2022.arms import EQUAL, WeightedArm, multiplied
from weighting.schemes.margin_based import inverse_margin_weights, small_margin_weights
from weighting.schemes.per_example import known_examples_weights

_SMALL_SHARE = 0.1  # of the examples have "small margins"
_MARGIN_BOUND = 5.0  # of the inverse-margin weights
_INVERSE_MARGINS = WeightedArm("inverse margins", "small margins")
_INVERSE_FREQUENCIES = WeightedArm("inverse frequencies", "tail")


class ImageSetting(NamedTuple):
    """A training set and its weightings; factors above one raise, below one lower."""

    panel: str  # of Figure 5, or what else it belongs to
    title: str
    spoiled: dict  # changes to the task
    group: str  # whose weights differ
    arms: tuple[WeightedArm, ...]


def _factors(group: str, *factors: float) -> tuple[WeightedArm, ...]:
    """Equal weights, and a group's multiplied; without weight it is "left out"."""
    named = (multiplied(group, factor) for factor in factors)
    return (
        EQUAL,
        *(arm if arm.factor else arm._replace(name=f"{group} left out") for arm in named),
    )


_OF_NOISY = _factors("noisy", 2.0, 5.0, 0.1, 0.0)
IMAGE_SETTINGS = {
    "noise": ImageSetting("5a", "10 % noise", {"noise": "uniform:0.1"}, "noisy", _OF_NOISY),
    "margins": ImageSetting(
        "5b",
        "clean labels",
        {},
        "small margins",
        (*_factors("small margins", 2.0, 5.0, 0.2), _INVERSE_MARGINS),
    ),
    "imbalance": ImageSetting(
        "5c",
        "classes 10 : 1",
        {"imbalance": "long_tail:10"},
        "tail",
        (*_factors("tail", 2.0, 5.0, 0.2), _INVERSE_FREQUENCIES),
    ),
    "heavy_noise": ImageSetting("A-5", "40 % noise", {"noise": "uniform:0.4"}, "noisy", _OF_NOISY),
}


def tail_classes(num_classes: int) -> np.ndarray:
    """The rarer half of the categories, where class 0 is the largest."""
    return np.arange(num_classes) >= num_classes - num_classes // 2


def weights_of(setting: ImageSetting, task: Task, margins: np.ndarray) -> np.ndarray:
    """Weights [A, N] of a setting's arms, each of mean one.

    Args:
      setting: its arms.
      task: its data.
      margins: [N], of a reference network that was trained with equal weights.
    """
    weights = [_arm_weights(arm, task, margins) for arm in setting.arms]
    return np.stack([np.asarray(own, np.float32) for own in weights])


def _arm_weights(arm: WeightedArm, task: Task, margins: np.ndarray) -> np.ndarray | Array:
    """[N]"""
    labels = task.train.labels
    if arm == EQUAL:
        return np.ones(len(labels))
    if arm == _INVERSE_MARGINS:
        return inverse_margin_weights(jnp.asarray(margins), bound=_MARGIN_BOUND)
    if arm == _INVERSE_FREQUENCIES:
        rarity = 1 / np.bincount(labels, minlength=task.num_classes)[labels]
        return rarity / rarity.mean()
    if arm.factor is None:
        raise ValueError(f"{arm.name} multiplies no group")
    if arm.group == "small margins":
        return small_margin_weights(jnp.asarray(margins), _SMALL_SHARE, arm.factor)
    is_tail = tail_classes(task.num_classes)[labels]
    marked = is_tail if arm.group == "tail" else task.train.is_corrupted
    return known_examples_weights(jnp.asarray(marked), arm.factor)
