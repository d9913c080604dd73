"""Training that starts from weights of another training."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from experiments.networks.models import Model
from experiments.networks.torchvision_weights import load_densenet
from weighting import TrainState


def start_from_pretrained(
    state: TrainState, path: str, model: Model, seeds: Iterable[int]
) -> TrainState:
    """The state before the first step, with the pretrained weights of a file in it.

    Leaves have leading axes [H, S]; every seed draws its own head, unless there are 1000 classes.

    Raises:
      FileNotFoundError, ValueError: see `load_densenet161`.
    """
    keep_head = model.num_outputs == 1000
    networks = [
        load_densenet(path, model, jax.random.key(seed), keep_head=keep_head) for seed in seeds
    ]
    over_seeds = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    params, model_state = jax.tree.map(
        lambda leaf, like: jnp.broadcast_to(leaf, like.shape),
        over_seeds,
        (state.params, state.model_state),
    )
    return state._replace(params=params, model_state=model_state)
