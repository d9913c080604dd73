"""The protocol: a weighting scheme is a pair of pure functions, and schemes compose by `chain`.

A scheme receives the weights so far (ones at the start, zero on padding) and returns new ones, as
an optax transformation does with updates. A scheme that scores examples *multiplies* the weights it
receives by its own, so the order of scoring schemes in a chain does not matter; a part that
normalizes, clips or smooths acts on the product.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from weighting._numbers import as_float, in_range, keep_rows, nan_if
from weighting._types import PyTree
from weighting.linearize import masked_mean


class Signals(NamedTuple):
    """What a scheme may read about one batch. The leading axis is always the batch, B."""

    losses: Array  # [B] one loss per example, not reduced
    logits: Array | None = None  # [B, C], or [B] or [B, 1] for a single score
    labels: Array | None = None  # [B] integer classes
    features: Array | None = None  # [B, D] inputs of the last dense layer
    indices: Array | None = None  # [B] position in the training set; keys per-example state
    mask: Array | None = None  # [B] 1 for an example, 0 for padding; None means no padding

    @property
    def valid(self) -> Array:
        """The mask as an array of the losses' dtype; ones where no mask was given."""
        return valid_of(self.mask, self.losses)


class InitFn(Protocol):
    """Makes a scheme's state from a random key and the network's parameters (for their shapes)."""

    def __call__(self, key: Array, params: PyTree) -> PyTree: ...


class UpdateFn(Protocol):
    """Maps (weights [B], state, signals) to (weights [B], state).

    Keywords are closures over the traced step. `make_train_step` passes all of them; a scheme
    names the ones that it reads, with the default None, and ends in `**extra` to ignore the rest:

    - `linearized`: the `LinearizedLosses` of the batch;
    - `params`: the parameters the losses were linearized at;
    - `losses_fn(params) -> [B]`: the batch's losses at other parameters;
    - `loss_fn(logits, labels) -> [B]`: the loss as a function of the logits;
    - `clean_loss_fn(params) -> []`: mean loss of the small trusted ("clean") batch; None where the
      batch has none;
    - `examples`: the pair (inputs, labels) of the batch;
    - `example_loss_fn(params, example) -> []`: one example's loss by itself; None where examples
      interact (batch norm).
    """

    def __call__(
        self, weights: Array, state: PyTree, signals: Signals, **extra: Any
    ) -> tuple[Array, PyTree]: ...


class Weighting(NamedTuple):
    """A weighting scheme: two pure functions, safe under jit, vmap and scan."""

    init: InitFn
    update: UpdateFn


def guarded(
    init: InitFn,
    update: UpdateFn,
    *,
    num_examples: int | None = None,
    num_classes: int | None = None,
) -> Weighting:
    """The scheme of these two functions, with one answer to padding and to what is missing.

    - Padding reaches nothing: `update` sees zeros in its place, whatever was there, and its weight
      is zero.
    - An example gets the weight NaN if its loss, a logit, a feature or its incoming weight is NaN,
      or if its index or label has no row in the scheme's tables. So whoever looks at the weights or
      at the weighted loss sees the fault, where a comparison or a sort would have hidden it.
    - Integer losses or weights are computed in floating point.

    Args:
      init: see `InitFn`.
      update: see `UpdateFn`; it need not mask what it reads.
      num_examples: N, if the scheme keeps a table by `signals.indices`. Indices outside [0, N)
        arrive as N, where reading clamps and `at[...].set(..., mode="drop")` writes nothing.
      num_classes: C, if the scheme keeps a table by `signals.labels`.
    """

    def update_fn(weights, state, signals, **extra):
        signals = signals._replace(losses=as_float(signals.losses))
        valid = is_valid(signals.mask, signals.losses)
        weights = as_float(weights)
        if signals.mask is not None:
            weights, signals = keep_rows(valid, weights), _without_padding(signals, valid)
        missing = _has_nan(signals) | jnp.isnan(weights)
        if num_classes is not None and signals.labels is not None:
            missing |= ~in_range(signals.labels, num_classes)
        if num_examples is not None and signals.indices is not None:
            known = in_range(signals.indices, num_examples)
            missing |= ~known
            signals = signals._replace(indices=jnp.where(known, signals.indices, num_examples))
        weights, state = update(weights, state, signals, **extra)
        if jnp.shape(weights) != missing.shape:
            raise ValueError(
                f"a scheme must give weights of shape {missing.shape}, one for every example of "
                f"the batch; got shape {jnp.shape(weights)}"
            )
        weights = nan_if(missing, weights)
        return weights if signals.mask is None else keep_rows(valid, weights), state

    return Weighting(init, update_fn)


def _without_padding(signals: Signals, valid: Array) -> Signals:
    """The signals with zeros in the place of padding."""
    kept = jax.tree.map(lambda rows: keep_rows(valid, jnp.asarray(rows)), signals)
    return kept._replace(mask=signals.mask)


def _has_nan(signals: Signals) -> Array:
    """True [B] where a number of the example is NaN."""
    missing = jnp.isnan(signals.losses)
    for values in (signals.logits, signals.features):
        if values is not None and jnp.issubdtype(values.dtype, jnp.inexact):
            missing |= jnp.any(jnp.isnan(values.reshape(missing.size, -1)), axis=1)
    return missing


class EmptyState(NamedTuple):
    """The state of a scheme that remembers nothing."""


def stateless(
    update: Callable[..., Array],
    *,
    num_examples: int | None = None,
    num_classes: int | None = None,
) -> Weighting:
    """A scheme from a function (weights, signals, **extra) -> weights that keeps no state.

    It is `guarded`; see there for the keywords.
    """

    def init_fn(key: Array, params: PyTree) -> EmptyState:
        del key, params
        return EmptyState()

    def update_fn(weights, state, signals, **extra):
        return update(weights, signals, **extra), state

    return guarded(init_fn, update_fn, num_examples=num_examples, num_classes=num_classes)


def uniform() -> Weighting:
    """Equal weights: empirical risk minimization. The identity of `chain`."""
    return stateless(lambda weights, signals, **extra: weights)


def chain(*schemes: Weighting) -> Weighting:
    """Applies schemes one after the other, each to the weights of the one before.

    Example:
      >>> from weighting import chain, clip, low, normalize_mean
      >>> scheme = chain(low(0.1), clip(high=5.0), normalize_mean())
    """

    def init_fn(key, params):
        keys = jax.random.split(key, len(schemes))
        return tuple(scheme.init(k, params) for scheme, k in zip(schemes, keys, strict=True))

    def update_fn(weights, state, signals, **extra):
        if len(state) != len(schemes):
            raise ValueError(
                f"this chain has {len(schemes)} schemes but its state has {len(state)} entries; "
                "make the state with the chain's own init"
            )
        states = []
        for scheme, scheme_state in zip(schemes, state, strict=True):
            weights, scheme_state = scheme.update(weights, scheme_state, signals, **extra)
            states.append(scheme_state)
        return weights, tuple(states)

    return Weighting(init_fn, update_fn)


def valid_of(mask: Array | None, values: Array) -> Array:
    """The mask as exact zeros and ones of the values' dtype; ones where no mask was given."""
    return jnp.ones_like(values) if mask is None else (mask > 0).astype(values.dtype)


def is_valid(mask: Array | None, values: Array) -> Array:
    """The mask as booleans; all true where no mask was given."""
    return jnp.ones(values.shape, bool) if mask is None else mask > 0


def mean_one(weights: Array, valid: Array) -> Array:
    """Scales non-negative weights so that they average to one over the batch without its padding.

    All-zero weights stay zero (the delta guard of ren2018, Eq. 9). Weights of padding become zero.
    """
    weights = keep_rows(valid > 0, as_float(weights))
    mean = masked_mean(weights, valid)
    return weights / (mean + (mean == 0))
