r"""An ablation of Figure 4: what decides whether a weighting speeds up the way to the max margin.

A step of the linear model adds a multiple of :math:`\sum_i w_i e^{-u_i} y_i x_i`, and only the part
across :math:`\theta` turns its direction. With :math:`\hat\theta` the max-margin direction and
:math:`e = \hat\theta - (\hat\theta^\top d) d`, :math:`d = \theta / \|\theta\|`, example i pulls by
:math:`g_i = e^{-u_i} y_i x_i^\top e`; to first order weights of mean one turn faster than equal
ones if and only if :math:`\sum_i w_i g_i > \sum_i g_i`. So which examples are raised matters less
than where they lie: hard examples may pull the wrong way.
"""

import numpy as np

from experiments.zhou2022.data import SimulatedSets


def pulls_more(
    params: np.ndarray, sets: SimulatedSets, weights: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Where a weighting pulls more towards the direction than equal weights; booleans [S, A, T].

    Args:
      params: [S, T, D], along the run with equal weights.
      sets: what was trained on.
      weights: [S, A, N] of mean one.
      direction: [S, D], unit vectors.
    """
    signed = sets.signs[..., None] * sets.inputs  # [S, N, D]
    unit = params / np.linalg.norm(params, axis=-1, keepdims=True)
    across = direction[:, None] - np.sum(direction[:, None] * unit, -1, keepdims=True) * unit
    margins = np.einsum("snd,std->stn", signed, params)
    scale = np.exp(margins.min(axis=-1, keepdims=True) - margins)  # of the largest gradient
    pulls = scale * np.einsum("snd,std->stn", signed, across)
    gains = np.einsum("san,stn->sat", weights - 1, pulls)
    return gains > 0


def is_explained(
    ahead: np.ndarray, gains: np.ndarray, step: np.ndarray, at: int = 1000
) -> np.ndarray:
    """Whether an arm is ahead exactly if it pulls more, [S]; at the logged step nearest to `at`.

    Args:
      ahead: booleans [S, T].
      gains: booleans [S, T], of `pulls_more`.
      step: [T].
      at: the step.
    """
    k = int(np.argmin(np.abs(step - at)))
    return ahead[:, k] == gains[:, k]
