r"""Lookahead reweighting: weights from the effect on a small clean set (Ren et al., 2018).

Take a virtual optimizer step on the weighted batch, :math:`\hat\theta(\epsilon)`, and ask how the
mean loss G of a small trusted ("clean") set changes with each example's weight:

.. math:: s_i = -\frac{\partial G(\hat\theta(\epsilon))}{\partial \epsilon_i}, \qquad
          w_i = \max(s_i, 0)\; \text{scaled to mean one}.

**Why zero initial weights give a non-zero gradient.** At :math:`\epsilon = 0` the virtual step goes
nowhere, :math:`\hat\theta(0) = \theta`, yet it still *depends* on :math:`\epsilon`: for SGD
:math:`\hat\theta(\epsilon) = \theta - \alpha \sum_i \epsilon_i \nabla f_i(\theta)` is linear in it,
with slope :math:`-\alpha \nabla f_i(\theta)`. The chain rule then gives

.. math:: s_i = \alpha \langle \nabla f_i(\theta), \nabla G(\theta) \rangle,

that is, s = alpha J v with v the clean gradient: no second derivative and no actual step. That is
the "fast" mode, one forward-mode pass over the linearization that the update uses anyway. Learning
rates cancel in the normalization. "unrolled" is Algorithm 1 in general: it differentiates through k
virtual steps of any optimizer, from any starting weights, where second derivatives do matter.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from weighting._checks import check_choice, check_positive, require
from weighting.base import EmptyState, Weighting, mean_one
from weighting.linearize import LinearizedLosses, linearize_losses, masked_mean

PyTree = Any
LossesFn = Callable[[PyTree], Array]
LossFn = Callable[[PyTree], Array]
Select = Callable[[tuple[Any, ...]], bool]

MODES = ("fast", "unrolled")


def lookahead_weights(
    losses_fn: LossesFn,
    params: PyTree,
    clean_loss_fn: LossFn,
    *,
    mode: str = "fast",
    optimizer: optax.GradientTransformation | None = None,
    opt_state: optax.OptState | None = None,
    num_steps: int = 1,
    initial_weights: Array | None = None,
    mask: Array | None = None,
    normalize: bool = True,
) -> Array:
    r"""Weights of one batch by lookahead (ren2018, Algorithm 1).

    Args:
      losses_fn: params -> per-example losses [B] of the noisy batch.
      params: where to look ahead from.
      clean_loss_fn: params -> mean loss of the clean batch, a scalar. With batch norm it uses the
        clean batch's own statistics; leave weight decay out of it.
      mode: "fast", relu(J v), exact for one SGD step from zero weights; or "unrolled".
      optimizer: of the virtual steps ("unrolled" only), for instance `optax.sgd(0.1,
        momentum=0.9)`. For Adam from zero weights pass `eps_root > 0`: its square root has no
        derivative at zero.
      opt_state: where the virtual optimizer starts, default fresh; pass the training optimizer's
        state to look ahead with its momentum.
      num_steps: k, the number of virtual steps on this batch ("unrolled" only).
      initial_weights: [B] starting weights in units of mean one ("unrolled" only); default zeros.
      mask: [B], 0 marks padding.
      normalize: to mean one; False returns relu of the scores themselves (ren2018 Eq. 30), whose
        scale is that of the inner loss, the *mean* of weights times losses.

    Returns:
      Weights [B] that average to one, or are all zero if no example helps the clean loss.
      (ren2018's sum to one: multiply them by B.)

    Raises:
      ValueError: for an unknown mode, or unrolled options in the fast mode.

    Example:
      >>> import jax.numpy as jnp
      >>> inputs, targets = jnp.array([1.0, 1.0, -1.0]), jnp.array([1.0, -1.0, -1.0])
      >>> losses_fn = lambda slope: (slope * inputs - targets) ** 2
      >>> clean_loss_fn = lambda slope: (slope - 1.0) ** 2
      >>> lookahead_weights(losses_fn, jnp.array(0.0), clean_loss_fn)
      Array([1.5, 0. , 1.5], dtype=float32)
    """
    _check_options(mode, optimizer, num_steps, initial_weights)
    if optimizer is None:  # mode "fast"
        scores = fast_scores(
            linearize_losses(losses_fn, params), jax.grad(clean_loss_fn)(params), mask=mask
        )
    else:
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
    return _rectify(scores, mask, normalize)


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


def unrolled_scores(
    losses_fn: LossesFn,
    params: PyTree,
    clean_loss_fn: LossFn,
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
    See `lookahead_weights` for the arguments.

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


class CleanGradientState(NamedTuple):
    """A clean gradient kept for several steps, and the number of steps so far."""

    gradient: PyTree
    count: Array


def lookahead_reweight(
    *,
    mode: str = "fast",
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int = 1,
    initial_weight: float = 0.0,
    refresh_every: int = 1,
    select: Select | None = None,
    normalize: bool = True,
) -> Weighting:
    r"""Learning to reweight examples: weights that lower the loss of a small clean set.

    Examples whose gradient opposes the clean gradient get weight zero; so does the whole batch when
    none helps. Momentum and weight decay of the training optimizer still act on such a step.
    The clean batch comes with the training batch (`Batch.clean` in `make_train_step`).

    **Few examples, large steps.** At mean one, the only helpful example of a batch of B weighs B.
    As the clean set is learned fewer examples help, so that learning rates which uniform weights
    bear can be too large, up to a collapse after which no example helps. Lower the rate, or cap the
    weights: `chain(lookahead_reweight(), clip(0, 5))`. What that changes is measured by
    `python -m experiments run ren2018.table2.rates`.

    Args:
      mode: "fast" (default) or "unrolled", see `lookahead_weights`.
      optimizer: of the virtual steps, "unrolled" only.
      num_steps: number of virtual steps, "unrolled" only.
      initial_weight: starting weight of every example, "unrolled" only; 0 is the paper, 1 uniform.
      refresh_every: *approximation*: recompute the clean gradient only every so many steps ("fast"
        only). Under vmap every step pays for it, and on XLA's CPU backend convolutions inside the
        `lax.cond` cost more than is saved (`make bench` shows it): use it on a GPU.
      select: *approximation*: restrict the inner product to the parameters whose tree path this
        function accepts, for instance `lambda path: "head" in jax.tree_util.keystr(path)` for the
        last layer ("fast" only). Backpropagation then stops at the selected layers.
      normalize: to mean one over the batch.

    Returns:
      A `Weighting`. Reads: `linearized`, `params`, `clean_loss_fn` (and `losses_fn` for "unrolled"
      and `select`). State: none, or the kept gradient. Scale: mean one, or all zero (ren2018: sum
      one).
      Cost: one gradient of the clean batch and about two forward passes of the batch.

    References:
      Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Algorithm 1 and Eqs. (7)-(9), (12). Weight decay is left out of the clean
      loss (the released CIFAR code includes it).
    """
    _check_options(mode, optimizer, num_steps, initial_weight or None)
    check_positive("refresh_every", refresh_every)
    if mode == "unrolled" and (refresh_every > 1 or select is not None):
        raise ValueError("refresh_every and select approximate mode='fast'; drop them or the mode")

    def init_fn(key, params):
        del key
        if refresh_every == 1:
            return EmptyState()
        zeros = optax.tree.zeros_like(_pick(params, select))
        return CleanGradientState(zeros, jnp.zeros((), jnp.int32))

    def update_fn(weights, state, signals, **extra):
        clean_loss_fn = require(
            "lookahead_reweight()",
            "clean_loss_fn",
            extra.get("clean_loss_fn"),
            "Give the batch a small trusted set: Batch(..., clean=Batch(inputs, labels)).",
        )
        params = require(
            "lookahead_reweight()", "params", extra.get("params"), "Pass it to update()."
        )
        if optimizer is not None:  # mode "unrolled"
            scores = unrolled_scores(
                _required(extra, "losses_fn"),
                params,
                clean_loss_fn,
                optimizer,
                num_steps=num_steps,
                initial_weights=initial_weight * signals.valid,
                mask=signals.mask,
            )
        else:
            gradient, state = _clean_gradient(clean_loss_fn, params, state, refresh_every, select)
            if select is None:
                linearized = _required(extra, "linearized")
            else:  # XLA merges this forward pass with the one that the update linearized
                linearized = linearize_losses(
                    lambda chosen: _required(extra, "losses_fn")(_put(params, chosen, select)),
                    _pick(params, select),
                )
            scores = fast_scores(linearized, gradient, mask=signals.mask)
        own = _rectify(scores, signals.valid, normalize)
        return (weights * own).astype(signals.losses.dtype), state

    return Weighting(init_fn, update_fn)


def _required(extra: dict[str, Any], name: str) -> Any:
    return require("lookahead_reweight()", name, extra.get(name), "Pass it to update().")


def _rectify(scores: Array, mask: Array | None, normalize: bool) -> Array:
    valid = jnp.ones_like(scores) if mask is None else mask.astype(scores.dtype)
    positive = jnp.maximum(scores, 0) * valid
    return mean_one(positive, valid) if normalize else positive


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


def _check_options(mode, optimizer, num_steps, initial_weights) -> None:
    check_choice("mode", mode, MODES)
    check_positive("num_steps", num_steps)
    if mode == "unrolled" and optimizer is None:
        raise ValueError(
            "mode='unrolled' needs the virtual optimizer, such as optimizer=optax.sgd(0.1)"
        )
    if mode == "fast" and (optimizer is not None or num_steps != 1 or initial_weights is not None):
        raise ValueError(
            "optimizer, num_steps, initial weights belong to mode='unrolled'; mode='fast' is one "
            "SGD step from zero weights, where learning rates cancel"
        )
