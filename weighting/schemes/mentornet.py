r"""MentorNet, learned: a recurrent network that assigns the weights (Jiang et al., 2018).

The mentor is trained first, by `train_mentor`, to turn what is known of an example (its last losses
and how far they lay above a moving quantile, its label, the progress of training) into a weight:
that of a predefined curriculum (`mentor_targets`), or whether its label is right where that is
known. Then it stays fixed and supervises the training of the network: `mentornet`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from weighting._arrays import (
    RunningAverage,
    finish,
    init_average,
    last_occurrence,
    masked_quantile,
    read_indices,
    read_labels,
    update_average,
    write,
)
from weighting._checks import check_positive, check_range
from weighting._numbers import at_least_float32, lookup
from weighting.base import Weighting, guarded

NUM_STAGES = 100  # percent of training
LABEL_SIZE, STAGE_SIZE = 2, 5  # of the embeddings, as published


class MentorFeatures(NamedTuple):
    """What a mentor reads about M examples; histories run from the oldest visit to the latest."""

    losses: Array  # [M, L] at the last L visits
    differences: Array  # [M, L] those losses less the moving quantile of their time
    labels: Array  # [M] integer classes
    stages: Array  # [M] integer percent of training, 0 to 99


class LstmCell(NamedTuple):
    """Gates in the order input, forget, candidate, output; U units."""

    input_kernel: Array  # [I, 4 U]
    state_kernel: Array  # [U, 4 U]
    bias: Array  # [4 U]


class Mentor(NamedTuple):
    """The parameters of a mentor network."""

    forward: LstmCell
    backward: LstmCell
    label_embedding: Array  # [C, 2]
    stage_embedding: Array  # [100, 5]
    hidden_kernel: Array  # [2 U + 7, H]
    hidden_bias: Array  # [H]
    output_kernel: Array  # [H]
    output_bias: Array  # []


def init_mentor(
    key: Array, *, num_classes: int = 1, lstm_size: int = 1, hidden_size: int = 20
) -> Mentor:
    """A mentor before training: kernels by LeCun's rule, biases zero.

    Args:
      key: random key.
      num_classes: rows of the label embedding; 1 does not tell classes apart (the released code).
      lstm_size: units of the LSTM in each direction, 1 in the released code.
      hidden_size: tanh units of the dense layer.
    """
    keys = iter(jax.random.split(key, 8))
    kernel = jax.nn.initializers.lecun_normal()

    def cell() -> LstmCell:
        shapes = (2, 4 * lstm_size), (lstm_size, 4 * lstm_size)
        kernels = [kernel(next(keys), shape) for shape in shapes]
        return LstmCell(kernels[0], kernels[1], jnp.zeros(4 * lstm_size))

    return Mentor(
        forward=cell(),
        backward=cell(),
        label_embedding=jax.random.normal(next(keys), (num_classes, LABEL_SIZE)),
        stage_embedding=jax.random.normal(next(keys), (NUM_STAGES, STAGE_SIZE)),
        hidden_kernel=kernel(next(keys), (2 * lstm_size + LABEL_SIZE + STAGE_SIZE, hidden_size)),
        hidden_bias=jnp.zeros(hidden_size),
        output_kernel=kernel(next(keys), (hidden_size, 1))[:, 0],
        output_bias=jnp.zeros(()),
    )


def lstm(cell: LstmCell, inputs: Array) -> Array:
    r"""Last hidden state h [M, U] of an LSTM that starts from zero and reads inputs [L, M, I].

    .. math:: c' = \sigma(f)\, c + \sigma(i) \tanh(\tilde c), \qquad h' = \sigma(o) \tanh(c')

    with (i, f, candidate, o) the four blocks of :math:`x W + h U + b`. (The released MentorNet
    reads the last cell state c instead, before the output gate.)
    """

    def step(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], None]:
        hidden, memory = carry
        gates = x @ cell.input_kernel + hidden @ cell.state_kernel + cell.bias[None]
        enter, forget, candidate, output = jnp.split(gates, 4, axis=1)
        memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        return (jax.nn.sigmoid(output) * jnp.tanh(memory), memory), None

    zeros = jnp.zeros((inputs.shape[1], cell.state_kernel.shape[0]), cell.bias.dtype)
    (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), inputs)
    return hidden


def mentor_scores(mentor: Mentor, features: MentorFeatures) -> Array:
    """Logits of the weights; [M]. The weights are their sigmoid; NaN for an unknown class or stage.

    A mentor of one class takes every label for that class.
    """
    history = jnp.stack([features.losses.T, features.differences.T], axis=-1)
    history = history.astype(mentor.output_kernel.dtype)
    tells_classes = mentor.label_embedding.shape[0] > 1
    labels = features.labels if tells_classes else jnp.zeros_like(features.labels)
    parts = (
        lstm(mentor.forward, history),
        lstm(mentor.backward, history[::-1]),
        lookup(mentor.label_embedding, labels),
        lookup(mentor.stage_embedding, features.stages),
    )
    joined = jnp.concatenate(parts, axis=1) @ mentor.hidden_kernel + mentor.hidden_bias[None]
    return jnp.tanh(joined) @ mentor.output_kernel + mentor.output_bias


def sample_mentor_features(
    key: Array, num_examples: int, history_length: int = 1, *, num_classes: int = 1
) -> MentorFeatures:
    """Random features to train a mentor on, before any data are seen.

    Losses uniform in [0, 10), the moving quantile uniform within 5 of each, every stage and class
    alike: the ranges in which curricula decide. (The released code fills a grid of losses up to 30,
    differences within 5, and stages.)

    Args:
      key: random key.
      num_examples: M.
      history_length: L.
      num_classes: C, labels to draw from.
    """
    keys = jax.random.split(key, 4)
    shape = (num_examples, history_length)
    return MentorFeatures(
        losses=jax.random.uniform(keys[0], shape, maxval=10.0),
        differences=jax.random.uniform(keys[1], shape, minval=-5.0, maxval=5.0),
        labels=jax.random.randint(keys[2], (num_examples,), 0, num_classes),
        stages=jax.random.randint(keys[3], (num_examples,), 0, NUM_STAGES),
    )


def mentor_targets(features: MentorFeatures, ramp: float | Array = 0.0) -> Array:
    r"""The predefined curriculum: weights that fall with the latest difference d; [M].

    :math:`\mathrm{clip}(1 - d / \lambda_2, 0, 1)`, and :math:`1[d \le 0]` for lambda_2 = 0. These
    are the weights of `mentornet_curriculum`.

    Args:
      features: of M examples.
      ramp: lambda_2 >= 0, in units of the loss.
    """
    check_range("ramp", ramp, low=0.0, high=math.inf, high_open=True)
    excess = features.differences[:, -1]
    soft = jnp.clip(1 - excess / jnp.where(ramp > 0, ramp, 1), 0, 1)
    return jnp.where(ramp > 0, soft, (excess <= 0).astype(soft.dtype))


def train_mentor(
    key: Array,
    features: MentorFeatures,
    targets: Array,
    *,
    num_classes: int = 1,
    lstm_size: int = 1,
    hidden_size: int = 20,
    num_steps: int = 2000,
    batch_size: int = 64,
    optimizer: optax.GradientTransformation | None = None,
) -> Mentor:
    """Trains a mentor to give the target weights, by cross-entropy.

    Args:
      key: random key.
      features: of M examples; `sample_mentor_features`, or records of a burn-in run.
      targets: [M] in [0, 1]: weights of a curriculum (`mentor_targets`), or 1 for an example whose
        label is known to be right and 0 for one whose label is known to be wrong.
      num_classes: rows of the label embedding.
      lstm_size: units of the LSTM in each direction.
      hidden_size: units of the dense layer.
      num_steps: updates.
      batch_size: examples per update, drawn with replacement.
      optimizer: default `optax.adam(1e-2)`.

    Returns:
      The trained `Mentor`. Jit this function for speed.

    References:
      Jiang et al., ICML 2018, arXiv:1712.05055. Both kinds of targets are the paper's; here all the
      embeddings are trained, where the released code leaves those of the stages at random.
    """
    check_positive("num_steps", num_steps)
    check_positive("batch_size", batch_size)
    if features.losses.ndim != 2 or targets.shape != features.losses.shape[:1]:
        raise ValueError(
            "a mentor trains on features with losses [M, L] and targets [M]; got losses "
            f"{features.losses.shape} and targets {targets.shape}"
        )
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    init_key, batch_key = jax.random.split(key)
    mentor = init_mentor(
        init_key, num_classes=num_classes, lstm_size=lstm_size, hidden_size=hidden_size
    )

    def risk(mentor: Mentor, chosen: Array) -> Array:
        batch = jax.tree.map(lambda rows: rows[chosen], features)
        scores = mentor_scores(mentor, batch)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(scores, targets[chosen]))

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        mentor, opt_state = carry
        chosen = jax.random.randint(key, (batch_size,), 0, targets.shape[0])
        updates, opt_state = optimizer.update(jax.grad(risk)(mentor, chosen), opt_state, mentor)
        return (optax.apply_updates(mentor, updates), opt_state), None

    keys = jax.random.split(batch_key, num_steps)
    start: Any = (mentor, optimizer.init(mentor))
    (trained, _), _ = jax.lax.scan(step, start, keys)
    return trained


class MentorNetState(NamedTuple):
    """Every example's last losses, the moving quantile, and the step."""

    losses: Array  # [N, L] oldest to latest
    differences: Array  # [N, L] losses less the moving quantile of their time
    seen: Array  # [N] boolean
    quantile: RunningAverage
    count: Array  # [] steps so far
    key: Array


def mentornet(
    mentor: Mentor,
    num_examples: int,
    num_steps: int | Array,
    *,
    history_length: int = 1,
    quantile: float | Array = 0.75,
    decay: float | Array = 0.9,
    burn_in: float | Array = 0.2,
    burn_in_dropout: float | Array = 0.0,
    normalize: bool = True,
) -> Weighting:
    r"""MentorNet: weights from a trained mentor (Jiang et al., 2018).

    .. math:: w_i = \sigma\big(m(\ell_i^{(1..L)}, \ell_i^{(1..L)} - \lambda^{(1..L)}, y_i, t)\big)

    of the losses at the last L visits, the present one included, less the moving quantile lambda of
    the batches' losses at each. Before an example has L visits its first one stands in for those
    missing. During the burn-in all weights are one, and the histories fill. The weights follow the
    current losses differentiably, and the histories as constants.

    Args:
      mentor: from `train_mentor`, with histories of this length; it stays fixed.
      num_examples: N, the size of the training set.
      num_steps: length of the training run, for the stage in percent.
      history_length: L; the released code uses 1.
      quantile: in [0, 1], of the losses, that the threshold follows; the paper uses about 0.75.
      decay: in [0, 1), of the moving average.
      burn_in: fraction of the steps, in [0, 1], before the mentor decides; 1 is uniform.
      burn_in_dropout: probability in [0, 1) with which the burn-in drops an example from a step, at
        random. The draw depends on the key, the step and the example alone.
      normalize: to mean one over the batch; False gives the native weights in [0, 1].

    Returns:
      A `Weighting`. Reads: losses, indices; labels, if the mentor tells classes apart. State:
      losses and differences [N, L], the quantile, the step, a key. Scale: mean one.
      Cost: O(B (L + log B)).

    References:
      Jiang, Zhou, Leung, Li, Fei-Fei, "MentorNet: Learning Data-Driven Curriculum for Very Deep
      Neural Networks on Corrupted Labels", ICML 2018, arXiv:1712.05055. Left out: updating the
      mentor during the training of the network, and dropout after the burn-in. The released code
      holds the stage at the end of the burn-in, drops an exact share of the batch, starts its
      moving average at zero, and takes as quantile the loss nearest to position q (B - 1) of the
      sorted batch, where this takes the smallest that a share q does not exceed. Its mentor feeds
      on the LSTM's cell state, ours on the hidden state: mentors trained there do not fit here.
    """
    check_positive("num_steps", num_steps)
    check_positive("history_length", history_length)
    check_range("quantile", quantile, low=0.0, high=1.0)
    check_range("decay", decay, low=0.0, high=1.0, high_open=True)
    check_range("burn_in", burn_in, low=0.0, high=1.0)
    check_range("burn_in_dropout", burn_in_dropout, low=0.0, high=1.0, high_open=True)
    tells_classes = mentor.label_embedding.shape[0] > 1

    def init_fn(key, params):
        del params
        history = jnp.zeros((num_examples, history_length))
        seen, count = jnp.zeros(num_examples, bool), jnp.zeros((), jnp.int32)
        return MentorNetState(history, history, seen, init_average(), count, key)

    def update_fn(weights, state, signals, **extra):
        indices = read_indices("mentornet()", signals)
        labels = read_labels("mentornet()", signals) if tells_classes else jnp.zeros_like(indices)
        losses, valid = at_least_float32(signals.losses), signals.valid > 0
        current = masked_quantile(losses, valid, quantile)
        threshold, average = update_average(state.quantile, current, decay, jnp.any(valid))

        known = state.seen[indices]
        rows = _append(state.losses[indices], losses, known)
        differences = _append(state.differences[indices], losses - threshold, known)
        stage = jnp.minimum(NUM_STAGES * state.count // num_steps, NUM_STAGES - 1)
        stages = jnp.full(indices.shape, stage.astype(jnp.int32))
        features = MentorFeatures(rows, differences, labels, stages)
        learned = jax.nn.sigmoid(mentor_scores(mentor, features))

        step_key = jax.random.fold_in(state.key, state.count)
        draw = jax.vmap(lambda index: jax.random.uniform(jax.random.fold_in(step_key, index)))
        kept = draw(indices) >= burn_in_dropout
        own = jnp.where(state.count < burn_in * num_steps, kept.astype(learned.dtype), learned)

        visits = last_occurrence(indices, signals.valid)
        state = MentorNetState(
            write(state.losses, indices, visits, rows),
            write(state.differences, indices, visits, differences),
            write(state.seen, indices, visits, jnp.ones(indices.shape, bool)),
            average,
            state.count + 1,
            state.key,
        )
        return finish(weights * own, signals, normalize), state

    num_classes = mentor.label_embedding.shape[0] if tells_classes else None
    return guarded(init_fn, update_fn, num_examples=num_examples, num_classes=num_classes)


def _append(history: Array, latest: Array, known: Array) -> Array:
    """The history [B, L] one visit on; of an example not seen before, the visit throughout."""
    latest = jnp.broadcast_to(latest[:, None], history.shape).astype(history.dtype)
    moved = jnp.concatenate([history[:, 1:], latest[:, :1]], axis=1)
    return jnp.where(known[:, None], moved, latest)
