r"""Meta-Weight-Net: a network from loss to weight, learned on a clean batch (Shu et al., 2019).

The weights are :math:`w_i = V(\ell_i; \psi)`. With G the mean loss of a clean batch, each step
takes a virtual step of the model with them and moves :math:`\psi` downhill behind it:

.. math:: \hat\theta(\psi) = \theta - \frac{\alpha}{n} \sum_i V(\ell_i; \psi) \nabla\ell_i(\theta),
          \qquad \psi' = \psi - \beta\, \nabla_\psi\, G(\hat\theta(\psi)).

The virtual step is *linear* in the weights, so the chain rule needs no second derivative and no
copy of the model:

.. math:: \frac{dG}{d\psi} = -\frac{\alpha}{n} \sum_i (J v)_i \frac{\partial V_i}{\partial \psi},
          \qquad v = \nabla G(\hat\theta),

one pullback for :math:`\hat\theta`, one gradient of the clean loss, one J v.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

from weighting._arrays import finish, read_labels
from weighting._checks import check_positive, require, require_clean_loss
from weighting._numbers import at_least_float32, keep_rows
from weighting._types import CleanLossFn, PyTree
from weighting.base import Signals, Weighting, guarded, valid_of
from weighting.linearize import LinearizedLosses


def meta_gradient(
    weights_fn: Callable[[PyTree], Array],
    meta_params: PyTree,
    linearized: LinearizedLosses,
    params: PyTree,
    clean_loss_fn: CleanLossFn,
    learning_rate: float | Array,
    *,
    mask: Array | None = None,
) -> PyTree:
    r"""Gradient of the clean loss after one virtual SGD step, through the weights of that step.

    Exact for :math:`\hat\theta(\psi) = \theta - \frac{\alpha}{n} J^\top w(\psi)`, whatever the
    weight function.

    Args:
      weights_fn: psi -> w [B], of the batch's examples; the losses in it are constants.
      meta_params: psi, a pytree.
      linearized: the losses of the batch at `params`.
      params: theta.
      clean_loss_fn: params -> mean loss of the clean batch, a scalar.
      learning_rate: alpha, of the virtual step.
      mask: [B], 0 marks padding; n counts the others.

    Returns:
      A pytree like psi.

    Example:
      >>> import jax.numpy as jnp
      >>> from weighting import linearize_losses
      >>> lin = linearize_losses(lambda theta: 2.0 * theta * jnp.ones(1), jnp.array(3.0))
      >>> # theta - 0.1 * 2 psi is 2 at psi = 5; its square has the slope 2 * 2 * (-0.2)
      >>> square = lambda theta: theta**2
      >>> meta_gradient(lambda psi: psi[None], jnp.array(5.0), lin, jnp.array(3.0), square, 0.1)
      Array(-0.8, dtype=float32)
    """
    weights, pullback = jax.vjp(weights_fn, meta_params)
    valid = valid_of(mask, weights)
    rate = learning_rate / jnp.maximum(jnp.sum(valid), 1)
    virtual = jax.tree.map(
        lambda leaf, slope: (leaf - slope).astype(leaf.dtype),
        params,
        linearized.vjp(rate * weights * valid),
    )
    effects = linearized.jvp(jax.grad(clean_loss_fn)(virtual))
    effects = keep_rows(valid > 0, effects)  # of padding they may be NaN
    return pullback((-rate * effects).astype(weights.dtype))[0]


class WeightNet(NamedTuple):
    """A perceptron with one hidden layer from a loss to K weights, one per group of classes."""

    hidden_kernel: Array  # [H]
    hidden_bias: Array  # [H]
    output_kernel: Array  # [K, H]
    output_bias: Array  # [K]


def init_weight_net(key: Array, hidden_size: int = 100, num_groups: int = 1) -> WeightNet:
    r"""Uniform in :math:`\pm 1 / \sqrt{\text{fan-in}}`, biases too: PyTorch's default."""
    keys = jax.random.split(key, 4)
    bound = hidden_size**-0.5

    def uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return WeightNet(
        uniform(keys[0], (hidden_size,), 1.0),
        uniform(keys[1], (hidden_size,), 1.0),
        uniform(keys[2], (num_groups, hidden_size), bound),
        uniform(keys[3], (num_groups,), bound),
    )


def apply_weight_net(net: WeightNet, losses: Array, groups: Array | None = None) -> Array:
    """Weights in (0, 1), sigmoid of a ReLU layer of each loss; [B].

    Args:
      net: the network.
      losses: [B].
      groups: [B] which output an example reads; None is the first.
    """
    losses = losses.astype(net.hidden_kernel.dtype)
    hidden = jax.nn.relu(losses[:, None] * net.hidden_kernel[None] + net.hidden_bias[None])
    scores = hidden @ net.output_kernel.T + net.output_bias[None]
    if groups is None:
        return jax.nn.sigmoid(scores[:, 0])
    return jax.nn.sigmoid(jnp.take_along_axis(scores, groups[:, None], axis=1)[:, 0])


class MetaWeightNetState(NamedTuple):
    """The weight function and its optimizer's state."""

    net: WeightNet
    opt_state: optax.OptState


def meta_weight_net(
    learning_rate: float | Array = 0.1,
    *,
    optimizer: optax.GradientTransformation | None = None,
    hidden_size: int = 100,
    normalize: bool = True,
) -> Weighting:
    r"""Meta-Weight-Net: an explicit function from loss to weight, learned on clean data.

    Whether hard examples gain (imbalance) or lose (label noise) is for the clean batch to say. Each
    step moves the network first and weighs the batch by the moved one. A new network is a slowly
    varying function of the loss, rising or falling, near uniform where losses differ little. The
    virtual step is plain SGD with this scheme's own weights; momentum, weight decay and other
    schemes of a chain are left out of it.

    Args:
      learning_rate: alpha > 0, of the virtual step: that of the training, with momentum its
        effective rate, over 1 - momentum (the released code leaves that out). If it is too small,
        every example seems worth more at first, and the outputs saturate at one. If the training's
        is scheduled, wrap the factory in `scheduled`.
      optimizer: of the network, default `optax.adam(1e-3)`; `optax.apply_if_finite` around it
        survives a virtual step that diverges.
      hidden_size: units of the hidden layer.
      normalize: to mean one over the batch, in the virtual step as well; False is the paper, with
        weights in (0, 1).

    Returns:
      A `Weighting`. Reads: losses, `linearized`, `params`, `clean_loss_fn`. State: the network and
      its optimizer's. Scale: mean one. Cost: a gradient of the clean batch, one pullback and one
      J v (about two forward passes) of the batch.

    References:
      Shu et al., "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", NeurIPS
      2019, arXiv:1902.07379, Eqs. (3)-(5), Algorithm 1. Paper and released code do not normalize;
      the code adds weight decay 1e-4 to the network's Adam.
    """
    name = "meta_weight_net()"
    return _learned(name, learning_rate, optimizer, hidden_size, 1, lambda signals: None, normalize)


def cmw_net(
    class_counts: Array,
    num_clusters: int = 3,
    learning_rate: float | Array = 0.1,
    *,
    clusters: Array | None = None,
    optimizer: optax.GradientTransformation | None = None,
    hidden_size: int = 100,
    normalize: bool = True,
) -> Weighting:
    r"""CMW-Net: a Meta-Weight-Net with one output for each cluster of class sizes.

    Rare and common classes may then want opposite weights for the same loss: hard examples of a
    rare class are worth learning, those of a common class are more often mislabelled. One cluster,
    or classes of equal size, is `meta_weight_net`.

    Args:
      class_counts: [C] training examples per class; concrete numbers, as they are clustered here.
      num_clusters: of `cluster_class_sizes`.
      learning_rate: alpha > 0, of the virtual step; see `meta_weight_net`.
      clusters: [C], each class's cluster below `num_clusters`, in the place of the counts' own (of
        which nothing is read then); may be traced.
      optimizer: of the network, default `optax.adam(1e-3)`.
      hidden_size: units of the hidden layer, which the clusters share.
      normalize: to mean one over the batch, in the virtual step as well; False gives weights in
        (0, 1).

    Returns:
      A `Weighting`. Reads: losses, labels, `linearized`, `params`, `clean_loss_fn`. State: the
      network and its optimizer's. Scale: mean one. Cost: that of `meta_weight_net`.

    References:
      Shu, Yuan, Meng, Xu, "CMW-Net: Learning a Class-Aware Sample Weighting Mapping for Robust Deep
      Learning", 2022, arXiv:2202.05613; the released code clusters raw counts by K-means, K = 3,
      and divides weights by a sum that it holds constant in the derivative.
    """
    name, num_groups = "cmw_net()", num_clusters
    if clusters is None:
        own = cluster_class_sizes(class_counts, num_clusters)
        clusters, num_groups = jnp.asarray(own), int(own.max()) + 1
    cluster_of_class = clusters

    def read_groups(signals: Signals) -> Array:
        return cluster_of_class[read_labels(name, signals)]

    scheme = _learned(
        name, learning_rate, optimizer, hidden_size, num_groups, read_groups, normalize
    )
    return guarded(scheme.init, scheme.update, num_classes=len(cluster_of_class))


def cluster_class_sizes(class_counts: Array, num_clusters: int = 3) -> np.ndarray:
    """Clusters of similar class sizes, 0 for the smallest; [C] integers.

    The optimum of K-means on the counts, found exactly (in one dimension clusters are intervals):
    no random start. Classes of equal size share a cluster, so there may be fewer than asked for.

    Args:
      class_counts: [C], concrete.
      num_clusters: K >= 1.

    Example:
      >>> cluster_class_sizes([5000, 4500, 1000, 50, 80, 900]).tolist()
      [2, 2, 1, 0, 0, 1]
    """
    check_positive("num_clusters", num_clusters)
    if isinstance(class_counts, Tracer):
        raise TypeError(
            "class_counts are clustered at construction and must be concrete; got a traced array. "
            "Build the scheme outside jit and vmap, with NumPy counts."
        )
    counts = np.asarray(class_counts, np.float64)
    if counts.ndim != 1 or counts.size == 0 or not np.all(counts > 0):
        raise ValueError(
            "class_counts must be a vector [C] of positive counts, one per class; got "
            f"{counts.tolist()}"
        )
    sizes, position, multiplicity = np.unique(counts, return_inverse=True, return_counts=True)
    moments = (multiplicity * (sizes - sizes.mean()) ** power for power in range(3))
    number, total, square = (np.append(0, np.cumsum(moment)) for moment in moments)
    within = _pairs(square) - _pairs(total) ** 2 / np.maximum(_pairs(number), 1)
    within = np.where(_pairs(number) > 0, np.maximum(within, 0), np.inf)  # cost of sizes [a, b)

    costs, starts = within[0], []
    for _ in range(min(int(num_clusters), sizes.size) - 1):
        candidates = costs[:, None] + within
        starts.append(np.argmin(candidates, axis=0))
        costs = np.min(candidates, axis=0)
    cluster, end = np.zeros(sizes.size, np.int32), sizes.size
    for start in reversed(starts):
        end = start[end]
        cluster[end:] += 1
    return cluster[position]


def _pairs(cumulative: np.ndarray) -> np.ndarray:
    """Sums over [a, b) for every a and b, from cumulative sums."""
    return cumulative[None, :] - cumulative[:, None]


def _learned(name, learning_rate, optimizer, hidden_size, num_groups, read_groups, normalize):
    check_positive("learning_rate", learning_rate)
    check_positive("hidden_size", hidden_size)
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer

    def init_fn(key, params):
        del params
        net = init_weight_net(key, hidden_size, num_groups)
        return MetaWeightNetState(net, optimizer.init(net))

    def update_fn(
        weights, state, signals, *, linearized=None, params=None, clean_loss_fn=None, **extra: Any
    ):
        clean_loss_fn = require_clean_loss(name, clean_loss_fn)
        linearized = require(name, "linearized", linearized)
        params = require(name, "params", params)
        wide = signals._replace(losses=at_least_float32(signals.losses))
        groups = read_groups(signals)

        def own_weights(net: WeightNet) -> Array:
            return finish(apply_weight_net(net, wide.losses, groups), wide, normalize)

        gradient = meta_gradient(
            own_weights,
            state.net,
            linearized,
            params,
            clean_loss_fn,
            learning_rate,
            mask=signals.valid,
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.net)
        net: Any = optax.apply_updates(state.net, updates)
        moved = MetaWeightNetState(net, opt_state)
        present = jnp.any(signals.valid > 0)
        state = jax.tree.map(lambda new, old: jnp.where(present, new, old), moved, state)
        return (weights * own_weights(state.net)).astype(signals.losses.dtype), state

    return guarded(init_fn, update_fn)
