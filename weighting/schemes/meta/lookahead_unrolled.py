r"""Lookahead through several virtual steps of any optimizer: Algorithm 1 of ren2018 in general.

`lookahead` differentiates one SGD step at zero weights, where a product J v is all there is to do.
Here the clean loss G is that behind k steps, :math:`\hat\theta_k(\epsilon)`, of any optimizer and
from any starting weights, and the scores :math:`-\partial G(\hat\theta_k(\epsilon)) / \partial
\epsilon_i` do see second derivatives.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from weighting._checks import check_positive, require, require_clean_loss
from weighting._types import CleanLossFn, LossesFn, PyTree
from weighting.base import Weighting, stateless
from weighting.linearize import masked_mean
from weighting.schemes.meta.lookahead import rectify


def lookahead_unrolled_weights(
    losses_fn: LossesFn,
    params: PyTree,
    clean_loss_fn: CleanLossFn,
    optimizer: optax.GradientTransformation,
    *,
    opt_state: optax.OptState | None = None,
    num_steps: int = 1,
    initial_weights: Array | None = None,
    mask: Array | None = None,
    normalize: bool = True,
) -> Array:
    r"""Weights of one batch by lookahead through k virtual steps (ren2018, Algorithm 1).

    Args:
      losses_fn: params -> per-example losses [B] of the noisy batch.
      params: where to look ahead from.
      clean_loss_fn: params -> mean loss of the clean batch, a scalar. With batch norm it uses the
        clean batch's own statistics; leave weight decay out of it.
      optimizer: of the virtual steps, for instance `optax.sgd(0.1, momentum=0.9)`. For Adam from
        zero weights pass `eps_root > 0`: its square root has no derivative at zero.
      opt_state: where the virtual optimizer starts, default fresh; pass the training optimizer's
        state to look ahead with its momentum.
      num_steps: k, the number of virtual steps on this batch.
      initial_weights: [B] starting weights in units of mean one; default zeros.
      mask: [B], 0 marks padding.
      normalize: to mean one; False returns relu of the scores themselves (ren2018 Eq. 30), whose
        scale is that of the inner loss, the *mean* of weights times losses.

    Returns:
      Weights [B] that average to one, or are all zero if no example helps the clean loss.
      (ren2018's sum to one: multiply them by B.)

    References:
      Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Algorithm 1.
    """
    check_positive("num_steps", num_steps)
    scores = unrolled_scores(
        losses_fn,
        params,
        clean_loss_fn,
        optimizer,
        opt_state=opt_state,
        num_steps=num_steps,
        initial_weights=initial_weights,
        mask=mask,
    )
    return rectify(scores, mask, normalize)


def unrolled_scores(
    losses_fn: LossesFn,
    params: PyTree,
    clean_loss_fn: CleanLossFn,
    optimizer: optax.GradientTransformation,
    *,
    opt_state: optax.OptState | None = None,
    num_steps: int = 1,
    initial_weights: Array | None = None,
    mask: Array | None = None,
) -> Array:
    r"""Scores -dG/d(weights) by differentiating through k virtual optimizer steps; [B].

    Reverse mode in about :math:`\sqrt k` segments of about :math:`\sqrt k` steps. Kept are the
    states (parameters and optimizer state) at the segments' starts and those within one segment, so
    memory grows like :math:`2 \sqrt k` states, beside the activations of one step. For that a
    step's gradient is computed up to three times, and once for the very last step: in all
    3k - m - n times, with m segments of which the last has n steps, where keeping everything
    takes k; one step repeats nothing. The steps are unrolled at compilation (a loop around
    convolutions is slow on XLA's CPU backend).
    See `lookahead_unrolled_weights` for the arguments.

    References:
      Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016,
      arXiv:1604.06174, for layers in place of steps.
    """
    losses = jax.eval_shape(losses_fn, params)
    if initial_weights is None:
        initial_weights = jnp.zeros(losses.shape, losses.dtype)

    def inner_risk(params: PyTree, weights: Array) -> Array:
        return masked_mean(weights * losses_fn(params), mask)

    def virtual_step(state: tuple[PyTree, Any], weights: Array) -> tuple[PyTree, Any]:
        params, opt_state = state
        gradient = jax.grad(inner_risk)(params, weights)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def walk(state: tuple[PyTree, Any], count: int) -> list[tuple[PyTree, Any]]:
        """The states before and after each of `count` steps."""
        states = [state]
        for _ in range(count):
            states.append(virtual_step(states[-1], initial_weights))
        return states

    lengths = _segment_lengths(num_steps)
    starts = [(params, optimizer.init(params) if opt_state is None else opt_state)]
    for length in lengths[:-1]:
        starts.append(walk(starts[-1], length)[-1])
    states = walk(starts[-1], lengths[-1] - 1)
    state, pullback = jax.vjp(virtual_step, states.pop(), initial_weights)
    clean_gradient = jax.grad(clean_loss_fn)(state[0])
    cotangent, total = pullback((clean_gradient, _zero_cotangents(state[1])))
    for start, length in zip(reversed(starts), reversed(lengths), strict=True):
        if start is not starts[-1]:
            states = walk(_only_after((cotangent, total), start), length - 1)
        for state in reversed(states):
            state = _only_after((cotangent, total), state)
            _, pullback = jax.vjp(virtual_step, state, initial_weights)
            cotangent, scores = pullback(cotangent)
            total += scores
    return -total


def lookahead_unrolled(
    optimizer: optax.GradientTransformation,
    *,
    num_steps: int = 1,
    initial_weight: float = 0.0,
    normalize: bool = True,
) -> Weighting:
    r"""Learning to reweight examples through k virtual steps of any optimizer.

    As `lookahead`, whose weights one step of `optax.sgd` from zero weights gives, at any rate; from
    other weights, over several steps or with another optimizer the rate and the curvature count.

    Args:
      optimizer: of the virtual steps, such as `optax.sgd(0.1)`; see `lookahead_unrolled_weights`.
      num_steps: k, the number of virtual steps.
      initial_weight: starting weight of every example; 0 is the paper, 1 uniform.
      normalize: to mean one over the batch.

    Returns:
      A `Weighting`. Reads: `losses_fn`, `params`, `clean_loss_fn`. State: none. Scale: mean one, or
      all zero (ren2018: sum one). Cost: see `unrolled_scores`.

    References:
      Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Algorithm 1.
    """
    check_positive("num_steps", num_steps)
    name = "lookahead_unrolled()"

    def update(weights, signals, *, clean_loss_fn=None, params=None, losses_fn=None, **extra):
        scores = unrolled_scores(
            require(name, "losses_fn", losses_fn),
            require(name, "params", params),
            require_clean_loss(name, clean_loss_fn),
            optimizer,
            num_steps=num_steps,
            initial_weights=initial_weight * signals.valid,
            mask=signals.mask,
        )
        own = rectify(scores, signals.valid, normalize)
        return (weights * own).astype(signals.losses.dtype)

    return stateless(update)


def _segment_lengths(num_steps: int) -> list[int]:
    """About the square root of k segments of equal length, up to one; the longer ones last."""
    num_segments = round(math.sqrt(num_steps))
    ends = [num_steps * i // num_segments for i in range(num_segments + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


def _zero_cotangents(opt_state: optax.OptState) -> Any:
    """Of a state that the clean loss does not read; integers have cotangents without numbers."""

    def zeros(x: Array) -> Any:
        x = jnp.asarray(x)
        is_float = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.zeros_like(x) if is_float else np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(zeros, opt_state)


def _only_after(earlier: PyTree, state: tuple[PyTree, Any]) -> tuple[PyTree, Any]:
    """The state, made to wait for `earlier`: what is computed from it comes after.

    XLA would otherwise repeat steps as early as it can and keep what they return; its CPU backend
    drops `lax.optimization_barrier`, and with it what `jax.checkpoint` asks for, before it decides
    on an order. So the state passes through a selection that depends on `earlier`.
    """
    found = [x for x in jax.tree.leaves(earlier) if x.dtype != jax.dtypes.float0]
    number = sum(jnp.sum(jnp.abs(jnp.ravel(x)[:1])) for x in found)
    never = number < -1  # absolute values; also false for nan
    return jax.tree.map(lambda x: jnp.where(never, jnp.zeros_like(x), x), state)
