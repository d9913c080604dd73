"""A small problem with a clean set, for the tests of both kinds of lookahead; and one update."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from weighting import Signals, linearize_losses, losses

BATCH, CLEAN = 6, 4
REMEDY = "small trusted set"


class BatchNormNet(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=True):
        hidden = nn.BatchNorm(use_running_average=not train, dtype=inputs.dtype)(
            nn.Dense(7)(inputs)
        )
        return nn.Dense(3)(nn.tanh(hidden))


def problem(kind, seed=0):
    """(losses_fn, clean_loss_fn, params) of a small network in float64."""
    keys = jax.random.split(jax.random.key(seed), 6)
    inputs, clean = jax.random.normal(keys[0], (BATCH, 5)), jax.random.normal(keys[1], (CLEAN, 5))
    labels = jax.random.randint(keys[2], (BATCH,), 0, 3)
    clean_labels = jax.random.randint(keys[3], (CLEAN,), 0, 3)
    if kind == "batch_norm":
        net = BatchNormNet()
        variables = net.init(keys[4], inputs)

        def logits_fn(params, x):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            return net.apply(state, x, mutable=["batch_stats"])[0]

        params = variables["params"]
    else:
        params = {
            "first": jax.random.normal(keys[4], (5, 7)),
            "head": jax.random.normal(keys[5], (7, 3)),
        }

        def logits_fn(params, x):
            return jnp.tanh(x @ params["first"]) @ params["head"]

    return (
        lambda p: losses.cross_entropy(logits_fn(p, inputs), labels),
        lambda p: jnp.mean(losses.cross_entropy(logits_fn(p, clean), clean_labels)),
        jax.tree.map(lambda x: x.astype(jnp.float64), params),
    )


def update(scheme, state, losses_fn, clean_loss_fn, params):
    lin = linearize_losses(losses_fn, params)
    return scheme.update(
        jnp.ones(BATCH),
        state,
        Signals(lin.values),
        linearized=lin,
        params=params,
        losses_fn=losses_fn,
        clean_loss_fn=clean_loss_fn,
    )


def expected_weights(losses_fn, clean_loss_fn, params):
    """Of one SGD step from zero weights: the rows of the Jacobian along the clean gradient."""
    rows = jax.jacobian(losses_fn)(params)
    gradient = jax.grad(clean_loss_fn)(params)
    align = sum(
        jnp.sum(rows[k].reshape(BATCH, -1) * gradient[k].reshape(1, -1), axis=1) for k in params
    )
    positive = jnp.maximum(align, 0)
    return positive / positive.mean()
