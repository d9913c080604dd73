"""The weightings of Figure 5a-c: which examples are raised or lowered, and by how much.

The paper prints neither the weights nor the share of small margins; all of them are of our choice.
Weights average to one in every arm, so that arms do not differ in their learning rate.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.data import Task
from weighting.schemes.margin_based import inverse_margin_weights, small_margin_weights
from weighting.schemes.per_example import known_examples_weights

EQUAL = "equal"
SMALL_SHARE = 0.1  # of the examples have "small margins"
MARGIN_BOUND = 5.0  # of the inverse-margin weights


class Setting(NamedTuple):
    """A training set and its weightings; factors above one raise, below one lower."""

    panel: str  # of Figure 5, or what else it belongs to
    title: str
    spoiled: dict  # changes to the task
    group: str  # whose weights differ
    factors: tuple[float, ...]
    others: tuple[str, ...] = ()  # further arms, which raise


SETTINGS = {
    "noise": Setting("5a", "10 % noise", {"noise": "uniform:0.1"}, "noisy", (2.0, 5.0, 0.1, 0.0)),
    "margins": Setting(
        "5b", "clean labels", {}, "small margins", (2.0, 5.0, 0.2), ("inverse margins",)
    ),
    "imbalance": Setting(
        "5c",
        "classes 10 : 1",
        {"imbalance": "long_tail:10"},
        "tail",
        (2.0, 5.0, 0.2),
        ("inverse frequencies",),
    ),
    "heavy_noise": Setting(
        "A-5", "40 % noise", {"noise": "uniform:0.4"}, "noisy", (2.0, 5.0, 0.1, 0.0)
    ),
}


def arm(group: str, factor: float) -> str:
    """The name of an arm: "noisy x 5"; without weight "noisy left out"."""
    return f"{group} x {factor:g}" if factor else f"{group} left out"


def arms_of(setting: Setting) -> list[str]:
    """All arms, equal weights first."""
    return [EQUAL, *(arm(setting.group, f) for f in setting.factors), *setting.others]


def raising(setting: Setting) -> list[str]:
    """The arms that raise the setting's group."""
    return [*(arm(setting.group, f) for f in setting.factors if f > 1), *setting.others]


def lowering(setting: Setting) -> list[str]:
    """The arms that lower the setting's group."""
    return [arm(setting.group, f) for f in setting.factors if f < 1]


def tail_classes(num_classes: int) -> np.ndarray:
    """The rarer half of the categories, where class 0 is the largest."""
    return np.arange(num_classes) >= num_classes - num_classes // 2


def weights_of(name: str, task: Task, margins: np.ndarray) -> np.ndarray:
    """Weights [A, N] of a setting's arms, each of mean one.

    Args:
      name: of the setting.
      task: its data.
      margins: [N], of a reference network that was trained with equal weights.
    """
    setting, labels = SETTINGS[name], task.train.labels
    if name == "margins":
        by_factor = [
            small_margin_weights(jnp.asarray(margins), SMALL_SHARE, f) for f in setting.factors
        ]
        further = [inverse_margin_weights(jnp.asarray(margins), bound=MARGIN_BOUND)]
    elif name == "imbalance":
        is_tail = jnp.asarray(tail_classes(task.num_classes)[labels])
        by_factor = [known_examples_weights(is_tail, f) for f in setting.factors]
        rarity = 1 / np.bincount(labels, minlength=task.num_classes)[labels]
        further = [rarity / rarity.mean()]
    else:
        noisy = jnp.asarray(task.train.is_corrupted)
        by_factor, further = [known_examples_weights(noisy, f) for f in setting.factors], []
    weights = [np.ones(len(labels)), *by_factor, *further]
    return np.stack([np.asarray(own, np.float32) for own in weights])
