r"""Distributionally robust weights: the worst reweighting of a batch within a budget.

Each scheme maximizes the weighted risk :math:`\frac1n \sum_i w_i \ell_i` over weights that average
to one, :math:`w \ge 0`, held back by

- a bound on the weights: conditional value at risk, `cvar`;
- the entropy :math:`\frac1n \sum_i w_i \log w_i`: exponential tilting, `tilted`;
- the square :math:`\frac1n \sum_i (w_i - 1)^2`: the chi-square divergence, `chi_square_dro`;
- weights that groups share, and play against the network over the steps: `group_dro`.

The maximum's gradient is that of the risk at the maximizing weights held constant, so a step with
these weights is a step on the robust risk of the batch.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import finish, read_indices, read_labels, whole_count
from weighting._checks import check_positive, check_range, check_vector, concrete
from weighting._numbers import as_float, at_least_float32, nan_if
from weighting._whole_batch import on_whole_batch
from weighting.base import Signals, Weighting, guarded, is_valid, stateless
from weighting.schemes.low import low_weights


@on_whole_batch
def cvar_weights(losses: Array, alpha: float | Array, *, mask: Array | None = None) -> Array:
    r"""The weights in [0, 1/alpha] with mean one that maximize the weighted risk of a batch; [B].

    The highest fraction alpha of the losses weighs 1/alpha, the rest zero. The example on the
    boundary gets what is left, and examples whose losses tie there share it equally.

    Args:
      losses: [B]; with a NaN among them all weights are NaN.
      alpha: in (0, 1].
      mask: [B], 0 marks padding, which gets weight zero.

    Example:
      >>> import jax.numpy as jnp
      >>> cvar_weights(jnp.array([1.0, 2.0, 3.0, 4.0]), 0.375)
      Array([0.       , 0.       , 1.3333333, 2.6666667], dtype=float32)
    """
    check_vector("losses", losses)
    check_range("alpha", alpha, low=0.0, high=1.0, low_open=True)
    values, valid = at_least_float32(losses), is_valid(mask, losses)
    count = jnp.sum(valid)
    descending = -jnp.sort(jnp.where(valid, -values, jnp.inf))
    boundary = descending[jnp.clip(whole_count(alpha, count) - 1, 0)]
    above, at = valid & (values > boundary), valid & (values == boundary)
    share = (count - jnp.sum(above) / alpha) / jnp.maximum(jnp.sum(at), 1)
    weights = jnp.where(above, 1 / alpha, jnp.where(at, jnp.clip(share, 0, 1 / alpha), 0))
    weights = nan_if(jnp.any(valid & jnp.isnan(values)), weights)
    return weights.astype(as_float(losses).dtype)


def cvar(alpha: float | Array = 0.5) -> Weighting:
    r"""Conditional value at risk: trains on the highest fraction alpha of the batch's losses.

    The weights are `cvar_weights`. alpha = 1 is uniform; alpha below one over the batch size is the
    largest loss alone. Unlike `top_losses`, a fraction that does not divide the batch counts the
    boundary example in part, and ties share.

    Args:
      alpha: in (0, 1].

    Returns:
      A `Weighting`. Reads: losses. State: none. Scale: mean one. Cost: O(B log B). The CVaR of a
      batch underestimates that of the training set, by less the larger the batch.

    References:
      Rockafellar, Uryasev, "Optimization of Conditional Value-at-Risk", Journal of Risk 2(3), 2000;
      over batches: Levy, Carmon, Duchi, Sidford, "Large-Scale Methods for Distributionally Robust
      Optimization", NeurIPS 2020, arXiv:2010.05893.
    """
    check_range("alpha", alpha, low=0.0, high=1.0, low_open=True)
    return _from_losses(lambda losses, valid: cvar_weights(losses, alpha, mask=valid))


def tilted(tilt: float | Array = 1.0) -> Weighting:
    r"""Exponential tilting, :math:`w_i \propto e^{t \ell_i}`: TERM, and KL-robust optimization.

    For t > 0 the weights maximize :math:`\frac1n \sum_i w_i \ell_i - \frac1{tn} \sum_i w_i \log
    w_i`, whose value is the tilted risk :math:`\frac1t \log \frac1n \sum_i e^{t \ell_i}`. t = 0 is
    uniform, a large t the largest loss alone; a negative t favours small losses, as a robust loss
    does against outliers.

    Args:
      tilt: t, any finite number, in inverse units of the loss.

    Returns:
      A `Weighting`. Reads: losses. State: none. Scale: mean one. Cost: O(B).

    References:
      Li, Beirami, Sanjabi, Smith, "Tilted Empirical Risk Minimization", ICLR 2021,
      arXiv:2007.01162 (its gradient is this reweighting, normalized in the batch).
    """
    check_range("tilt", tilt, low=-math.inf, high=math.inf, low_open=True, high_open=True)

    def own_weights(losses: Array, valid: Array) -> Array:
        exponents = jnp.where(valid, tilt * losses, -jnp.inf)
        largest = jnp.where(jnp.any(valid), jnp.max(exponents), 0)
        factors = jnp.exp(exponents - jax.lax.stop_gradient(largest))
        mean = jnp.sum(factors) / jnp.maximum(jnp.sum(valid), 1)
        return factors / jnp.where(mean > 0, mean, 1)

    return _from_losses(own_weights)


def chi_square_dro(regularization: float | Array = 1.0) -> Weighting:
    r"""Chi-square robust optimization: weights rise linearly with the loss, from zero.

    .. math:: \max_{w \ge 0,\ \bar w = 1} \; \frac1n \sum_i w_i \ell_i
        - \frac\lambda n \sum_i (w_i - 1)^2

    the projection of :math:`1 + \ell / (2 \lambda)` onto the simplex: LOW's program (`low_weights`)
    with losses in place of squared gradient norms. A large lambda is uniform, with weights
    :math:`1 + (\ell_i - \bar \ell) / (2 \lambda)` as long as none is negative; a small one leaves
    the largest loss. The ball :math:`\frac1n \sum_i (w_i - 1)^2 \le \rho` has the same solutions,
    with the lambda that is the multiplier of its constraint in that batch.

    Args:
      regularization: lambda > 0, in units of the loss.

    Returns:
      A `Weighting`. Reads: losses. State: none. Scale: mean one. Cost: O(B log B).

    References:
      Namkoong, Duchi, "Variance-based Regularization with Convex Objectives", NeurIPS 2017,
      arXiv:1610.02581; Levy, Carmon, Duchi, Sidford, "Large-Scale Methods for Distributionally
      Robust Optimization", NeurIPS 2020, arXiv:2010.05893 (the penalized form).
    """
    check_positive("regularization", regularization)
    return _from_losses(lambda losses, valid: low_weights(losses, regularization, mask=valid))


class GroupDroState(NamedTuple):
    """The adversary's distribution over the groups, as logarithms, so that none is lost to zero."""

    log_probabilities: Array  # [G]


def group_dro(
    num_groups: int,
    step_size: float | Array = 0.01,
    *,
    groups: Array | None = None,
    group_counts: Array | None = None,
    adjustment: float | Array = 0.0,
    normalize: bool = True,
) -> Weighting:
    r"""Group DRO: groups with large losses gain weight from step to step (Sagawa et al., 2020).

    With :math:`\bar \ell_g` the mean loss of group g in the batch and n_g its examples there,

    .. math:: q_g \leftarrow \frac{q_g \exp\!\big(\eta (\bar \ell_g + C / \sqrt{N_g})\big)}
        {\sum_h q_h \exp(\dots)}, \qquad w_i = q_{g_i} \frac{n}{n_{g_i}}

    so that the weighted risk is :math:`\sum_g q_g \bar \ell_g`, with the new q. Groups that are not
    in the batch only change by normalization. A step size of zero keeps groups (not examples)
    equally weighted; a large one follows the worst group of each batch.

    Args:
      num_groups: G, static.
      step_size: eta >= 0, in inverse units of the loss.
      groups: [N] group of each training example, integers in [0, G); None takes the labels.
      group_counts: [G] training examples per group, N_g; for the adjustment only.
      adjustment: C >= 0, what a group of one example would be granted for its generalization gap.
      normalize: to mean one over the batch; False gives the native scale, whose mean is the total q
        of the groups in the batch.

    Returns:
      A `Weighting`. Reads: losses; indices with `groups`, else labels. State: log q [G]. Cost: O(B
      + G).

    References:
      Sagawa, Koh, Hashimoto, Liang, "Distributionally Robust Neural Networks for Group Shifts",
      ICLR 2020, arXiv:1911.08731, Algorithm 1 and the group adjustments. (The algorithm
      draws one group per step; like the released code, this updates all groups of a batch, but it
      does not grant the adjustment to groups that are absent.)
    """
    check_positive("num_groups", num_groups)
    check_range("step_size", step_size, low=0.0, high=math.inf, high_open=True)
    check_range("adjustment", adjustment, low=0.0, high=math.inf, high_open=True)
    table = _read_groups(groups, num_groups)
    margin = _group_margin(adjustment, group_counts, num_groups)

    def init_fn(key, params):
        del key, params
        return GroupDroState(jnp.full(num_groups, -math.log(num_groups)))

    def update_fn(weights: Array, state: GroupDroState, signals: Signals, **extra: Any):
        if table is None:
            group = read_labels("group_dro() without groups", signals)
        else:
            group = table[read_indices("group_dro()", signals)]
        own, log_q = _group_weights(
            state.log_probabilities, signals.losses, group, signals.valid > 0, step_size, margin
        )
        new_state = GroupDroState(log_q.astype(state.log_probabilities.dtype))
        return finish(weights * own, signals, normalize), new_state

    if table is None:
        return guarded(init_fn, update_fn, num_classes=num_groups)
    return guarded(init_fn, update_fn, num_examples=table.shape[0])


@on_whole_batch
def _group_weights(
    log_probabilities: Array,
    losses: Array,
    group: Array,
    valid: Array,
    step_size: float | Array,
    margin: float | Array,
) -> tuple[Array, Array]:
    """Weights at their native scale, and the new log q."""
    num_groups = log_probabilities.shape[0]
    losses = jnp.where(valid, at_least_float32(losses), 0)
    counts = jnp.zeros(num_groups, losses.dtype).at[group].add(valid.astype(losses.dtype))
    means = jnp.zeros(num_groups, losses.dtype).at[group].add(losses) / jnp.maximum(counts, 1)
    gain = jnp.where(counts > 0, step_size * (means + margin), 0)
    log_q = jax.nn.log_softmax(log_probabilities + gain)
    own = jnp.exp(log_q)[group] * jnp.sum(counts) / jnp.maximum(counts, 1)[group]
    return own, log_q


def _from_losses(own_weights: Any) -> Weighting:
    """A scheme from a function (losses at least float32, valid as booleans) -> weights."""

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        own = own_weights(at_least_float32(signals.losses), signals.valid > 0)
        return jnp.where(signals.valid > 0, weights * own, 0).astype(signals.losses.dtype)

    return stateless(update)


def _read_groups(groups: Array | None, num_groups: int) -> Array | None:
    if groups is None:
        return None
    table = jnp.asarray(groups)
    if table.ndim != 1 or not jnp.issubdtype(table.dtype, jnp.integer):
        raise ValueError(
            "groups must be a vector [N] of integers, the group of each training example; got "
            f"shape {table.shape} of {table.dtype}"
        )
    if not isinstance(groups, Tracer):
        values = np.asarray(groups)
        if values.size and (values.min() < 0 or values.max() >= num_groups):
            raise ValueError(
                f"groups must lie in [0, {num_groups}); got {values.min()} to {values.max()}. "
                "Number them from zero, or raise num_groups."
            )
    return table


def _group_margin(
    adjustment: float | Array, group_counts: Array | None, num_groups: int
) -> Array | float:
    if group_counts is None:
        if concrete(adjustment) != 0:
            raise ValueError(
                "a group adjustment needs group_counts [G], the training examples of each group"
            )
        return 0.0
    counts = jnp.asarray(group_counts)
    if counts.shape != (num_groups,):
        raise ValueError(f"group_counts must have shape ({num_groups},), got {counts.shape}")
    if not isinstance(group_counts, Tracer) and not np.all(np.asarray(group_counts) > 0):
        raise ValueError(
            f"group_counts must be positive, one per group; got {np.asarray(group_counts).tolist()}"
        )
    return adjustment / jnp.sqrt(counts)
