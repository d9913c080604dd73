"""Co-teaching: two networks choose each other's training examples (Han et al., 2018)."""

from collections.abc import Callable

import jax
import optax
from jax import Array

from weighting._types import LossFn, PyTree
from weighting.base import Weighting
from weighting.train_step import (
    ApplyFn,
    Batch,
    StepMetrics,
    TrainState,
    init_train_state,
    make_train_step,
)

NETWORKS = "co_teaching_networks"


def init_co_teaching_state(
    keys: Array,
    params: PyTree,
    weighting: Weighting,
    optimizer: optax.GradientTransformation,
    *,
    model_state: PyTree = None,
) -> TrainState:
    """The state of two networks before the first step: a `TrainState` with a leading axis of 2.

    Args:
      keys: [2] random keys, one per network.
      params: two networks' parameters, stacked; they must differ, or the networks never will. For
        instance `jax.vmap(init)(keys)`.
      weighting: the scheme by which each network weighs the other's examples.
      optimizer: any optax transformation.
      model_state: stacked as well; `{}` if None.
    """
    leaves = jax.tree.leaves((params, model_state))
    if keys.shape[0] != 2 or any(leaf.shape[:1] != (2,) for leaf in leaves):
        raise ValueError(
            "co-teaching has two networks: keys, params and model_state need a leading axis of 2; "
            f"got {keys.shape} and {[leaf.shape for leaf in leaves]}"
        )
    return jax.vmap(
        lambda key, params, model_state: init_train_state(
            key, params, weighting, optimizer, model_state=model_state
        )
    )(keys, params, model_state)


def make_co_teaching_step(
    apply_fn: ApplyFn,
    loss_fn: LossFn,
    weighting: Weighting,
    optimizer: optax.GradientTransformation,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """Builds a step in which either network learns from the examples that the other trusts.

    Both see the same batch. Each computes weights from its own signals by the scheme; the weights
    change sides; each takes its step with what it got. The published method keeps a shrinking
    fraction of the smallest losses: a scheduled small-loss selection; any scheme will do. Networks
    filter different mistakes, so a wrong choice is not fed back to the one that made it.

    Args:
      apply_fn: the model, of one network.
      loss_fn: (logits, labels) -> losses [B], not reduced.
      weighting: the scheme; each network has its own state of it.
      optimizer: any optax transformation.

    Returns:
      A pure function (TrainState, Batch) -> (TrainState, StepMetrics) where the state and metrics
      have a leading axis of 2 (`init_co_teaching_state`) and the batch has not. `metrics.weights`
      are the weights that each network *used*. One linearization per network and batch.

    References:
      Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
      Labels", NeurIPS 2018, arXiv:1804.06872, Algorithm 1.
    """
    step = make_train_step(apply_fn, loss_fn, _from_the_peer(weighting), optimizer)
    return jax.vmap(step, in_axes=(0, None), axis_name=NETWORKS)


def _from_the_peer(weighting: Weighting) -> Weighting:
    """The scheme whose weights change places between the two networks of the mapped axis."""

    def update_fn(weights, state, signals, **extra):
        weights, state = weighting.update(weights, state, signals, **extra)
        return jax.lax.ppermute(weights, NETWORKS, [(0, 1), (1, 0)]), state

    return Weighting(weighting.init, update_fn)
