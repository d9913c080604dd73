"""A network that augments what it is trained on."""

import jax

from experiments.data.augmentation import Augmentation
from experiments.networks.models import Model


def with_augmentation(model: Model, augmentation: Augmentation) -> Model:
    """Put an augmentation before a network.

    With `train` and a key, inputs go through `augmentation.train`; otherwise, as at evaluation,
    through `augmentation.test`. One key gives one augmented batch: what a step computes twice with
    one key (weights and update, say) sees the same images. Images of a batch are told apart by
    their positions in it, so an example in a batch of its own is augmented as the first one is.

    Args:
      model: any network that reads images [B, H, W, C].
      augmentation: what `parse_augmentation` returns; of "none" the model itself comes back.

    Returns:
      A `Model`. Half of `key` goes to the augmentation, the other half to the network.
    """
    if augmentation.spec == "none":
        return model

    def init(key, example_inputs):
        return model.init(key, augmentation.test(example_inputs))

    def apply(params, model_state, inputs, *, train, key=None):
        if train and key is not None:
            augmentation_key, key = jax.random.split(key)
            inputs = augmentation.train(augmentation_key, inputs)
        else:
            inputs = augmentation.test(inputs)
        return model.apply(params, model_state, inputs, train=train, key=key)

    return model._replace(init=init, apply=apply)
