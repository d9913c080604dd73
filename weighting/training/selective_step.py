"""A training step that scores a large batch by a forward pass and trains on a part of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._checks import check_choice, check_range, check_vector
from weighting._numbers import keep_rows
from weighting._types import LossFn, PyTree
from weighting.base import EmptyState, InitFn, Signals, uniform
from weighting.linearize import linearize_losses, masked_mean, weighted_risk
from weighting.metrics import accuracy, effective_sample_size, predict
from weighting.schemes.importance_sampling import (
    SCORES,
    averaged_reduction,
    draw_positions,
    importance_probabilities,
    importance_scores,
    importance_weights,
)
from weighting.train_step import (
    ApplyFn,
    Batch,
    TrainState,
    as_output,
    descend,
    init_train_state,
    signals_of,
    without_padding,
)


class SelectFn(Protocol):
    """Maps (key, signals [B], state, num_selected) to (positions [k], weights [k], state).

    The weights are those of a *mean* over the selected examples; padding that is selected for want
    of examples gets zero. Keyword extras: `loss_fn(logits, labels) -> [B]` and `params`.
    """

    def __call__(
        self, key: Array, signals: Signals, state: PyTree, num_selected: int, **extra: Any
    ) -> tuple[Array, Array, PyTree]: ...


class Selector(NamedTuple):
    """A selection rule: two pure functions, safe under jit, vmap and scan."""

    init: InitFn
    select: SelectFn


class SelectiveStepMetrics(NamedTuple):
    """What one step did: means over the large batch (B), and the k examples trained on."""

    loss: Array  # [] mean of the large batch's losses, in evaluation mode
    weighted_loss: Array  # [] the weighted risk of the selection, which was differentiated
    accuracy: Array  # [] on the large batch, in evaluation mode
    effective_sample_size: Array  # [] of the weights
    losses: Array  # [B] the scoring pass
    weights: Array  # [k]
    positions: Array  # [k] the selected rows of the batch


def top_selector(score_fn: Callable[..., Array]) -> Selector:
    """Selects the examples with the highest scores, each with weight one; ties by position.

    Args:
      score_fn: (signals, **extra) -> scores [B]. The loss gives loss-rank selection; the loss minus
        what a model trained on held-out data has at `signals.indices` gives RHO-loss.

    Returns:
      A `Selector`. State: none. Biased: it changes the objective, unlike `importance_selector`.

    References:
      Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and Not
      Yet Learnt", ICML 2022, arXiv:2206.07137 (RHO-loss).

    Example:
      >>> import jax.numpy as jnp
      >>> irreducible = jnp.zeros(1000)
      >>> rho = top_selector(lambda s, **extra: s.losses - irreducible[s.indices])
    """

    def init_fn(key, params):
        del key, params
        return EmptyState()

    def select_fn(key, signals, state, num_selected, **extra):
        del key
        scores = score_fn(signals, **extra)
        check_vector("scores", scores)
        positions = _largest(scores, signals.valid, num_selected)
        return positions, signals.valid[positions], state

    return Selector(init_fn, select_fn)


class ImportanceSelectorState(NamedTuple):
    """The moving average of tau."""

    reduction: Array  # [] zero at the start


def importance_selector(
    *, scores: str = "gradient", threshold: float | Array = 1.5, decay: float | Array = 0.9
) -> Selector:
    r"""Draws examples by their gradient norm and weights them by :math:`1 / (n \pi_i)`: unbiased.

    While the average of tau is at most the threshold, the selection is uniform, without
    replacement, with weights one: the published algorithm, except that the large batch is scored
    either way.

    Args:
      scores: "gradient" or "loss", see `importance_sampling`.
      threshold: of the average of tau; negative is always open, infinity never.
      decay: of the average, in [0, 1).

    Returns:
      A `Selector`. Reads: logits, labels, `loss_fn`; or losses. State: the average of tau.

    References:
      Katharopoulos and Fleuret, "Not All Samples Are Created Equal: Deep Learning with Importance
      Sampling", ICML 2018, arXiv:1803.00942, Algorithm 1.
    """
    check_choice("scores", scores, SCORES)
    check_range("threshold", threshold)
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)

    def init_fn(key, params):
        del key, params
        return ImportanceSelectorState(jnp.zeros(()))

    def select_fn(key, signals, state, num_selected, *, loss_fn=None, **extra):
        own_scores = importance_scores(scores, "importance_selector()", signals, loss_fn)
        valid = signals.valid
        probabilities = importance_probabilities(own_scores, mask=valid)
        draw_key, uniform_key = jax.random.split(key)
        drawn = draw_positions(draw_key, probabilities, num_selected)
        plain = _largest(jax.random.uniform(uniform_key, valid.shape), valid, num_selected)
        is_open = state.reduction > threshold
        positions = jnp.where(is_open, drawn, plain)
        weights = jnp.where(
            is_open, importance_weights(probabilities, drawn, mask=valid), valid[plain]
        )
        reduction = averaged_reduction(state.reduction, probabilities, decay, mask=valid)
        return positions, weights.astype(valid.dtype), ImportanceSelectorState(reduction)

    return Selector(init_fn, select_fn)


def init_selective_state(
    key: Array,
    params: PyTree,
    selector: Selector,
    optimizer: optax.GradientTransformation,
    *,
    model_state: PyTree = None,
) -> TrainState:
    """The state before the first step; the selector's is `weighting_state`."""
    stand_in = uniform()._replace(init=selector.init)
    return init_train_state(key, params, stand_in, optimizer, model_state=model_state)


def make_selective_train_step(
    apply_fn: ApplyFn,
    loss_fn: LossFn,
    selector: Selector,
    optimizer: optax.GradientTransformation,
    num_selected: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, SelectiveStepMetrics]]:
    """Builds a step that scores B examples without a gradient and trains on k of them.

    One forward pass over the batch, in evaluation mode (running batch-norm statistics, no dropout),
    feeds the selector; then the selected rows alone go through the linearized, weighted step. The
    cost is that of B forward passes and k full ones, about B + 3 k against 3 B.

    Batch norm: the training pass uses, and moves the running statistics by, the selected examples;
    scores come from the running statistics before the step.

    Args:
      apply_fn: the model; see `ApplyFn`.
      loss_fn: (logits, labels) -> losses [B], not reduced.
      selector: such as `importance_selector()` or `top_selector(score_fn)`.
      optimizer: any optax transformation.
      num_selected: k, static, from 1 to B.

    Returns:
      A pure function (TrainState, Batch) -> (TrainState, SelectiveStepMetrics), ready for
      `jax.jit`, `jax.vmap` and `jax.lax.scan`. The state comes from `init_selective_state`.
    """
    check_range("num_selected", num_selected, low=1)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, SelectiveStepMetrics]:
        if num_selected > batch.labels.shape[0]:
            raise ValueError(
                f"num_selected={num_selected} exceeds the batch of {batch.labels.shape[0]}; "
                "give a larger batch, or select fewer"
            )
        key, select_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = without_padding(batch)
        output, _ = apply_fn(state.params, state.model_state, batch.inputs, train=False, key=None)
        output = as_output(output)
        signals = signals_of(batch, output, loss_fn(output.logits, batch.labels))
        positions, weights, selector_state = selector.select(
            select_key,
            signals,
            state.weighting_state,
            num_selected,
            loss_fn=loss_fn,
            params=state.params,
        )
        inputs, labels, mask = jax.tree.map(
            lambda rows: rows[positions], (batch.inputs, batch.labels, signals.valid)
        )

        def losses_and_state(params: PyTree) -> tuple[Array, PyTree]:
            output, model_state = apply_fn(params, state.model_state, inputs, train=True, key=key)
            return loss_fn(as_output(output).logits, labels), model_state

        linearized = linearize_losses(losses_and_state, state.params, has_aux=True)
        weights = keep_rows(mask > 0, weights)
        new_state = descend(optimizer, state, linearized, weights, mask)._replace(
            model_state=linearized.aux, weighting_state=selector_state
        )
        metrics = SelectiveStepMetrics(
            loss=masked_mean(signals.losses, batch.mask),
            weighted_loss=weighted_risk(linearized.values, weights, mask),
            accuracy=accuracy(batch.labels, predict(output.logits), mask=batch.mask),
            effective_sample_size=effective_sample_size(weights),
            losses=signals.losses,
            weights=weights,
            positions=positions,
        )
        return new_state, metrics

    return train_step


def _largest(scores: Array, valid: Array, num: int) -> Array:
    """Positions of the largest scores among the valid examples, then of padding; [num]."""
    order = jnp.lexsort((-scores, valid == 0))
    return order[:num]
