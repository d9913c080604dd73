"""The runs of Figure 4: their weights, and the direction that their cosines are taken to."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.simulated.models import scores
from experiments.zhou2022 import curves, pull
from experiments.zhou2022.arms import EQUAL, WeightedArm, names_of
from experiments.zhou2022.data import SimulatedSets, of_mean_one
from experiments.zhou2022.figure4_settings import (
    INVERSE,
    MATCHED,
    SimulatedSetting,
    group_weights,
    simulated_sets,
)
from weighting.implicit_bias.max_margin import max_margin
from weighting.schemes.margin_based import inverse_margin_weights, kl_matched_weights


def train_linear(
    setting: SimulatedSetting, num_seeds: int, num_steps: int
) -> dict[str, np.ndarray]:
    """Curves of the linear model against the max-margin solution, and which arms pull more."""
    sets = simulated_sets(setting, num_seeds)
    solutions = [max_margin(x, y) for x, y in zip(sets.inputs, sets.signs, strict=True)]
    direction = np.stack([solution.direction for solution in solutions])
    dual = np.stack([solution.dual for solution in solutions])
    by_formula = {}
    if INVERSE in setting.arms:
        margins = sets.signs * np.einsum("snd,sd->sn", sets.inputs, direction)
        by_formula[INVERSE] = _inverse(margins)
    matched = jax.vmap(lambda dual: kl_matched_weights(dual, 0.2, form="mixture"))
    by_formula[MATCHED] = np.asarray(matched(jnp.asarray(dual)))
    weights = _weights(setting, sets, by_formula)
    run = curves.train_weightings(setting.model, sets, weights, num_steps=num_steps)
    found = curves.measured_curves(setting.model, sets, run, jnp.asarray(direction))
    params = np.asarray(run.params)[:, setting.arms.index(EQUAL)]
    return found | {
        "arms": names_of(setting.arms),
        "largest_margin": np.stack([solution.margin for solution in solutions]),
        "pulls_more": pull.pulls_more(params, sets, weights, direction),
    }


def train_network(
    setting: SimulatedSetting, num_seeds: int, num_steps: int
) -> dict[str, np.ndarray]:
    """Curves of the network against the far end of equal weights, and against its own."""
    sets = simulated_sets(setting, num_seeds)
    far_steps = max(num_steps // 2, 1)

    def run_far(weights: np.ndarray):
        run = curves.train_weightings(setting.model, sets, weights, num_steps=num_steps)
        return run, curves.far_end(setting.model, sets, weights, run, far_steps)

    if INVERSE in setting.arms:  # the margins are those of the network with equal weights
        first, ends = run_far(of_mean_one([group_weights(EQUAL, sets)]))
        end = jax.tree.map(lambda leaf: leaf[:, 0], ends)
        margins = sets.signs * np.asarray(jax.vmap(scores)(end, jnp.asarray(sets.inputs)))
        second, others = run_far(of_mean_one([_inverse(margins)]))
        run, own = (
            jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), *pair)
            for pair in ((first, second), (ends, others))
        )
    else:
        run, own = run_far(_weights(setting, sets, {}))
        end = jax.tree.map(lambda leaf: leaf[:, 0], own)
    found = curves.measured_curves(setting.model, sets, run, end, own)
    return found | {"arms": names_of(setting.arms)}


def train_heavy_noise(
    setting: SimulatedSetting, num_seeds: int, num_steps: int
) -> dict[str, np.ndarray]:
    """Curves where labels are often wrong, against the end of equal weights."""
    sets = simulated_sets(setting, num_seeds)
    _, found = curves.train_and_measure(
        setting.model,
        sets,
        _weights(setting, sets, {}),
        num_steps=num_steps,
        equal=setting.arms.index(EQUAL),
    )
    return found | {"arms": names_of(setting.arms)}


def _weights(
    setting: SimulatedSetting, sets: SimulatedSets, by_formula: Mapping[WeightedArm, np.ndarray]
) -> np.ndarray:
    """[S, A, N], of mean one."""
    return of_mean_one(
        [
            by_formula[arm] if arm.factor is None else group_weights(arm, sets)
            for arm in setting.arms
        ]
    )


def _inverse(margins: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(inverse_margin_weights)(jnp.asarray(margins)))
