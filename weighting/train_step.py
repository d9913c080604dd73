"""A training step from its parts: model, loss function, weighting scheme, optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._numbers import keep_rows
from weighting._types import LossFn, PyTree
from weighting._whole_batch import on_whole_batch
from weighting.base import Signals, Weighting
from weighting.layerwise import linearize_layers
from weighting.linearize import LinearizedLosses, linearize_losses, masked_mean, weighted_risk
from weighting.metrics import accuracy, effective_sample_size, predict


class Batch(NamedTuple):
    """One minibatch; the leading axis of every array is the batch."""

    inputs: Any  # [B, ...]
    labels: Array  # [B]
    indices: Array | None = None  # [B] position in the training set
    mask: Array | None = None  # [B] 1 for an example, 0 for padding; None means no padding
    clean: Any = None  # another Batch, the small trusted set, or None


def without_padding(batch: Batch) -> Batch:
    """The batch with nothing in its padding that could spread: labels, positions and NaN become 0.

    A derivative is zero times whatever padding holds, which is NaN for NaN or infinity, so they
    must go before the network sees them. Finite inputs stay: batch norm reads them. The clean batch
    is treated alike.
    """
    if batch.clean is not None:
        batch = batch._replace(clean=without_padding(batch.clean))
    if batch.mask is None:
        return batch
    valid = jnp.asarray(batch.mask) > 0

    def finite(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return jnp.where(jnp.isfinite(leaf), leaf, keep_rows(valid, leaf))

    return batch._replace(
        inputs=jax.tree.map(finite, batch.inputs),
        labels=keep_rows(valid, jnp.asarray(batch.labels)),
        indices=None if batch.indices is None else keep_rows(valid, jnp.asarray(batch.indices)),
    )


def labels_mask(labels: Array, ignore_label: int = -100) -> Array:
    """A mask for `Batch.mask` that drops the examples labelled `ignore_label`; [B].

    -100 is what token work uses for positions without a label. Such an example is then padding: no
    loss, no weight, no gradient, and not counted in any mean.

    Example:
      >>> import jax.numpy as jnp
      >>> labels_mask(jnp.array([2, -100, 0]))
      Array([1., 0., 1.], dtype=float32)
    """
    return (jnp.asarray(labels) != ignore_label).astype(float)


class ModelOutput(NamedTuple):
    """What a model returns."""

    logits: Array  # [B, C], or [B] or [B, 1] for a single score
    features: Array | None = None  # [B, D] inputs of the last dense layer, if a scheme wants them


class ApplyFn(Protocol):
    """A model: (params, model_state, inputs, *, train, key) -> (ModelOutput or logits,
    model_state).

    `model_state` holds what is not trained by gradients, such as batch-norm statistics; `{}` if
    there is none. With `train=True` it returns the updated one.
    """

    def __call__(
        self, params: PyTree, model_state: PyTree, inputs: Any, *, train: bool, key: Array | None
    ) -> tuple[Any, PyTree]: ...


class TrainState(NamedTuple):
    """Everything that a training run carries from step to step; arrays only."""

    step: Array  # [] int32
    params: PyTree
    model_state: PyTree
    opt_state: optax.OptState
    weighting_state: PyTree
    key: Array  # [] the run's key; every step folds its number into it


class StepMetrics(NamedTuple):
    """What one step did; drop what you do not keep and the compiler drops its computation."""

    loss: Array  # [] mean of the losses, unweighted
    weighted_loss: Array  # [] the weighted risk that was differentiated
    accuracy: Array  # [] on the batch, in training mode
    effective_sample_size: Array  # [] (sum w)^2 / sum w^2
    losses: Array  # [B]
    weights: Array  # [B]


def as_output(output: Any) -> ModelOutput:
    """What a model returned, bare logits or a `ModelOutput`, as the latter."""
    return output if isinstance(output, ModelOutput) else ModelOutput(output)


def without_state(apply_fn: Callable[[PyTree, Any], Any]) -> ApplyFn:
    """Turns a bare function (params, inputs) -> logits (or `ModelOutput`) into an `ApplyFn`."""

    def stateless_apply(params, model_state, inputs, *, train, key):
        del train, key
        return apply_fn(params, inputs), model_state

    return stateless_apply


def init_train_state(
    key: Array,
    params: PyTree,
    weighting: Weighting,
    optimizer: optax.GradientTransformation,
    *,
    model_state: PyTree = None,
) -> TrainState:
    """The state before the first step. `model_state` defaults to `{}`, no batch norm."""
    run_key, weighting_key = jax.random.split(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state={} if model_state is None else model_state,
        opt_state=optimizer.init(params),
        weighting_state=weighting.init(weighting_key, params),
        key=run_key,
    )


def make_train_step(
    apply_fn: ApplyFn,
    loss_fn: LossFn,
    weighting: Weighting,
    optimizer: optax.GradientTransformation,
    *,
    layerwise: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """Builds one step of weighted ERM: linearize the losses once, weight, pull back, update.

    The weights are constants of the update by construction: the gradient is the pullback J^T w / n.
    (Differentiating the *step*, for instance with respect to a scheme's hyperparameter, sees
    through them.) With uniform weights the step costs what `jax.value_and_grad` and the optimizer
    cost.

    Batch norm: the clean loss uses the clean batch's own statistics and leaves the running ones
    alone; only the update's forward pass moves them.

    A NaN in an example that counts shows in the weights and the loss; in padding it reaches
    nothing. Labels outside the classes give NaN losses; `labels_mask` makes padding of those marked
    to be ignored.

    Args:
      apply_fn: the model; see `ApplyFn`, and `without_state` for a bare function.
      loss_fn: (logits, labels) -> losses [B], not reduced.
      weighting: the scheme.
      optimizer: any optax transformation. Weight decay belongs here, not in the loss.
      layerwise: linearize layer by layer (`linearize_layers`). The numbers agree to rounding;
        lookahead takes one product per layer less, and exact gradient norms need no gradient per
        example. For models without state (batch norm) whose layers are not in a loop.

    Returns:
      A pure function (TrainState, Batch) -> (TrainState, StepMetrics), ready for `jax.jit`,
      `jax.vmap` and `jax.lax.scan`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        key, clean_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = without_padding(batch)
        examples = (batch.inputs, batch.labels)

        def losses_of(params: PyTree, examples: Any, key: Array = key) -> Any:
            output, model_state = apply_fn(
                params, state.model_state, examples[0], train=True, key=key
            )
            output = as_output(output)
            return loss_fn(output.logits, examples[1]), (output, model_state)

        def clean_loss_fn(params: PyTree) -> Array:
            losses, _ = losses_of(params, (batch.clean.inputs, batch.clean.labels), clean_key)
            return masked_mean(losses, batch.clean.mask)

        def example_loss_fn(params: PyTree, example: tuple[Any, Array]) -> Array:
            losses, _ = losses_of(params, jax.tree.map(lambda x: x[None], example))
            return losses[0]

        linearized = _linearize(losses_of, state, examples, layerwise)
        output, model_state = linearized.aux
        signals = signals_of(batch, output, linearized.values)
        weights, weighting_state = weighting.update(
            signals.valid,
            state.weighting_state,
            signals,
            linearized=linearized,
            params=state.params,
            losses_fn=lambda params: losses_of(params, examples)[0],
            loss_fn=loss_fn,
            clean_loss_fn=None if batch.clean is None else clean_loss_fn,
            example_loss_fn=None if jax.tree.leaves(state.model_state) else example_loss_fn,
            examples=examples,
        )
        weights = keep_rows(signals.valid > 0, weights)
        new_state = descend(optimizer, state, linearized, weights, signals.valid)._replace(
            model_state=model_state, weighting_state=weighting_state
        )
        correct = accuracy(batch.labels, predict(output.logits), mask=batch.mask)
        metrics = _metrics(signals.losses, weights, batch.mask, correct)
        return new_state, metrics

    return train_step


@on_whole_batch
def _metrics(losses: Array, weights: Array, mask: Array | None, correct: Array) -> StepMetrics:
    return StepMetrics(
        loss=masked_mean(losses, mask),
        weighted_loss=weighted_risk(losses, weights, mask),
        accuracy=correct,
        effective_sample_size=effective_sample_size(weights, mask=mask),
        losses=losses,
        weights=weights,
    )


def signals_of(batch: Batch, output: ModelOutput, losses: Array) -> Signals:
    """What a scheme may read about the batch."""
    return Signals(losses, output.logits, batch.labels, output.features, batch.indices, batch.mask)


def descend(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    linearized: LinearizedLosses,
    weights: Array,
    valid: Array,
) -> TrainState:
    r"""The state after the optimizer's step along :math:`J^\top w / n`, n examples being valid."""
    gradient = linearized.vjp(weights / jnp.maximum(jnp.sum(valid), 1))
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state)


def _linearize(
    losses_of: Callable[[PyTree, Any], Any], state: TrainState, examples: Any, layerwise: bool
) -> LinearizedLosses:
    if not layerwise:
        return linearize_losses(
            lambda params: losses_of(params, examples), state.params, has_aux=True
        )
    if jax.tree.leaves(state.model_state):
        raise ValueError(
            "layerwise=True needs examples that do not interact, but this model has state (batch "
            "norm?); use layerwise=False, or a normalization without batch statistics"
        )
    return linearize_layers(losses_of, state.params, examples, has_aux=True)
