"""A small transformer encoder that classifies sequences of tokens: 2 layers of width 256."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from experiments.networks.model_boundary import Model
from weighting import ModelOutput

VOCABULARY, LENGTH = 8192, 128
WIDTH, HEADS, LAYERS = 256, 4, 2


class _Block(nn.Module):
    """Attention and two dense layers, each after a layer norm and beside a skip."""

    @nn.compact
    def __call__(self, x):
        attended = nn.MultiHeadDotProductAttention(HEADS, name="attention")(nn.LayerNorm()(x))
        x = x + attended
        hidden = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
        return x + nn.Dense(WIDTH)(hidden)


class _Transformer(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.02), (LENGTH, WIDTH))[None]
        for index in range(LAYERS):
            x = _Block(name=f"block{index}")(x)
        features = jnp.mean(nn.LayerNorm()(x), axis=1)
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(features), features)


def transformer(num_outputs: int) -> Model:
    """The network; its inputs are tokens [B, 128], integers."""
    module: Any = _Transformer(num_outputs)

    def init(key, tokens):
        return module.init(key, tokens)["params"], {}

    def apply(params, model_state, tokens, *, train, key=None):
        del train, key
        return module.apply({"params": params}, tokens), model_state

    return Model(init, apply, "transformer", num_outputs, has_convolutions=False)
