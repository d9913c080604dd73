r"""Lookahead: weights from the effect on a small clean set (Ren et al., 2018).

Take a virtual optimizer step on the weighted batch, :math:`\hat\theta(\epsilon)`, and ask how the
mean loss G of a small trusted ("clean") set changes with each example's weight:

.. math:: s_i = -\frac{\partial G(\hat\theta(\epsilon))}{\partial \epsilon_i}, \qquad
          w_i = \max(s_i, 0)\; \text{scaled to mean one}.

**Why zero initial weights give a non-zero gradient.** At :math:`\epsilon = 0` the virtual step goes
nowhere, :math:`\hat\theta(0) = \theta`, yet it still *depends* on :math:`\epsilon`: for SGD
:math:`\hat\theta(\epsilon) = \theta - \alpha \sum_i \epsilon_i \nabla f_i(\theta)` is linear in it,
with slope :math:`-\alpha \nabla f_i(\theta)`. The chain rule then gives

.. math:: s_i = \alpha \langle \nabla f_i(\theta), \nabla G(\theta) \rangle,

that is, s = alpha J v with v the clean gradient: no second derivative and no actual step, one
forward-mode pass over the linearization that the update uses anyway. Learning rates cancel in the
normalization. `lookahead_unrolled` is the general form, through several steps of any optimizer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._checks import check_positive, require, require_clean_loss
from weighting._numbers import keep_rows
from weighting._types import CleanLossFn, LossesFn, PyTree
from weighting.base import EmptyState, Weighting, guarded, mean_one, valid_of
from weighting.linearize import LinearizedLosses, linearize_losses

Select = Callable[[tuple[Any, ...]], bool]


def lookahead_weights(
    losses_fn: LossesFn,
    params: PyTree,
    clean_loss_fn: CleanLossFn,
    *,
    mask: Array | None = None,
    normalize: bool = True,
) -> Array:
    r"""Weights relu(J v) of one batch: lookahead by one SGD step from zero weights.

    Args:
      losses_fn: params -> per-example losses [B] of the noisy batch.
      params: where to look ahead from.
      clean_loss_fn: params -> mean loss of the clean batch, a scalar. With batch norm it uses the
        clean batch's own statistics; leave weight decay out of it.
      mask: [B], 0 marks padding.
      normalize: to mean one; False returns relu of the scores themselves (ren2018 Eq. 30), whose
        scale is that of the inner loss, the *mean* of weights times losses.

    Returns:
      Weights [B] that average to one, or are all zero if no example helps the clean loss.
      (ren2018's sum to one: multiply them by B.)

    References:
      Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp
      >>> inputs, targets = jnp.array([1.0, 1.0, -1.0]), jnp.array([1.0, -1.0, -1.0])
      >>> losses_fn = lambda slope: (slope * inputs - targets) ** 2
      >>> clean_loss_fn = lambda slope: (slope - 1.0) ** 2
      >>> lookahead_weights(losses_fn, jnp.array(0.0), clean_loss_fn)
      Array([1.5, 0. , 1.5], dtype=float32)
    """
    linearized = linearize_losses(losses_fn, params)
    scores = fast_scores(linearized, jax.grad(clean_loss_fn)(params), mask=mask)
    return rectify(scores, mask, normalize)


def fast_scores(
    linearized: LinearizedLosses, clean_gradient: PyTree, *, mask: Array | None = None
) -> Array:
    r"""Alignment of each example's gradient with the clean gradient, :math:`J v / n`; [B].

    n is the number of unmasked examples. This is the score of `unrolled_scores` for one step of SGD
    with learning rate one from zero weights (ren2018, Eq. 12). Costs about two
    forward passes (x dW and dx W in every layer), so that a lookahead step counts about
    (5 + 3 m / n) / 3 of a plain step's operations, with m clean examples.
    """
    scores = linearized.jvp(clean_gradient)
    return scores / (scores.shape[0] if mask is None else jnp.maximum(jnp.sum(mask), 1))


def rectify(scores: Array, mask: Array | None, normalize: bool) -> Array:
    """The positive part of the scores, zero on padding; scaled to mean one if asked for."""
    valid = valid_of(mask, scores)
    positive = keep_rows(valid > 0, jnp.maximum(scores, 0))
    return mean_one(positive, valid) if normalize else positive


class CleanGradientState(NamedTuple):
    """A clean gradient kept for several steps, and the number of steps so far."""

    gradient: PyTree
    count: Array


def lookahead(
    *, refresh_every: int = 1, select: Select | None = None, normalize: bool = True
) -> Weighting:
    r"""Learning to reweight examples: weights that lower the loss of a small clean set.

    Examples whose gradient opposes the clean gradient get weight zero; so does the whole batch when
    none helps. Momentum and weight decay of the training optimizer still act on such a step.
    The clean batch comes with the training batch (`Batch.clean` in `make_train_step`). The virtual
    step is one of SGD from zero weights; `lookahead_unrolled` takes others.

    **Few examples, large steps.** At mean one, the only helpful example of a batch of B weighs B.
    As the clean set is learned fewer examples help, so that learning rates which uniform weights
    bear can be too large, up to a collapse after which no example helps. Lower the rate, or cap the
    weights: `chain(lookahead(), clip(0, 5))`. What that changes is measured by
    `python -m experiments run ren2018.table2.rates`.

    Args:
      refresh_every: *approximation*: recompute the clean gradient only every so many steps. Under
        vmap every step pays for it, and on XLA's CPU backend convolutions inside the `lax.cond`
        cost more than is saved (`make bench` shows it): use it on a GPU.
      select: *approximation*: restrict the inner product to the parameters whose tree path this
        function accepts, for instance `lambda path: "head" in jax.tree_util.keystr(path)` for the
        last layer. Backpropagation then stops at the selected layers.
      normalize: to mean one over the batch.

    Returns:
      A `Weighting`. Reads: `params`, `clean_loss_fn`, and `linearized` or, with `select`,
      `losses_fn`. State: none, or the kept gradient. Scale: mean one, or all zero (ren2018: sum
      one). Cost: one gradient of the clean batch and about two forward passes of the batch.

    References:
      Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Algorithm 1 and Eqs. (7)-(9), (12). Weight decay is left out of the clean
      loss (the released CIFAR code includes it).
    """
    check_positive("refresh_every", refresh_every)
    name = "lookahead()"

    def init_fn(key, params):
        del key
        if refresh_every == 1:
            return EmptyState()
        zeros = optax.tree.zeros_like(_pick(params, select))
        return CleanGradientState(zeros, jnp.zeros((), jnp.int32))

    def update_fn(
        weights,
        state,
        signals,
        *,
        clean_loss_fn=None,
        params=None,
        linearized=None,
        losses_fn=None,
        **extra,
    ):
        clean_loss_fn = require_clean_loss(name, clean_loss_fn)
        params = require(name, "params", params)
        gradient, state = _clean_gradient(clean_loss_fn, params, state, refresh_every, select)
        if select is None:
            linearized = require(name, "linearized", linearized)
        else:  # XLA merges this forward pass with the one that the update linearized
            losses_fn = require(name, "losses_fn", losses_fn)
            linearized = linearize_losses(
                lambda chosen: losses_fn(_put(params, chosen, select)), _pick(params, select)
            )
        scores = fast_scores(linearized, gradient, mask=signals.mask)
        own = rectify(scores, signals.valid, normalize)
        return (weights * own).astype(signals.losses.dtype), state

    return guarded(init_fn, update_fn)


def _clean_gradient(clean_loss_fn, params, state, refresh_every, select):
    def fresh() -> PyTree:
        selected = _pick(params, select)
        return jax.grad(lambda chosen: clean_loss_fn(_put(params, chosen, select)))(selected)

    if refresh_every == 1:
        return fresh(), state
    due = state.count % refresh_every == 0
    gradient = jax.lax.cond(due, fresh, lambda: state.gradient)
    return gradient, CleanGradientState(gradient, state.count + 1)


def _pick(params: PyTree, select: Select | None) -> PyTree:
    """The selected leaves as a list, or all parameters."""
    if select is None:
        return params
    leaves = jax.tree_util.tree_leaves_with_path(params)
    chosen = [leaf for path, leaf in leaves if select(path)]
    if not chosen:
        known = ", ".join(jax.tree_util.keystr(path) for path, _ in leaves)
        raise ValueError(f"select accepted none of the parameters; their paths are: {known}")
    return chosen


def _put(params: PyTree, chosen: PyTree, select: Select | None) -> PyTree:
    """The parameters with the selected leaves replaced."""
    if select is None:
        return chosen
    replacements = iter(chosen)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: next(replacements) if select(path) else leaf, params
    )
