r"""How hard each example is for one network: one number per example, larger = harder.

zhou2022 is Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal
Difficulty Measure", ECML-PKDD 2022. The loss itself is the plainest measure: any function of
`losses`. `several_networks` holds what needs several networks or checkpoints, `cross_validation`
what needs networks that did not see the example; `over_a_dataset` runs any of them over a training
set.

Axes: N examples, C classes, D features, M support examples. Logits are finite, [N, C], or [N] or
[N, 1] for a single score with labels in {0, 1}.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from weighting import gradient_norms as norms
from weighting._arrays import safe_sqrt
from weighting._numbers import as_float, in_range, lookup, nan_if
from weighting._types import ExampleLossFn, LossFn, PyTree
from weighting.losses import binary_margins
from weighting.metrics import margins


def error_probability(logits: Array, labels: Array) -> Array:
    """The probability 1 - p_y that the network gives to the other labels; [N], in [0, 1].

    The measure behind focal weights (zhou2022, Sec. 2.3), to full relative precision: it ranks even
    examples whose p_y rounds to one.
    """
    if _is_single_score(logits):
        return jax.nn.sigmoid(-binary_margins(logits, labels))
    is_label = _is_label(logits, labels)
    error = jnp.sum(jnp.where(is_label, 0, jax.nn.softmax(logits, axis=1)), axis=1)
    return nan_if(~jnp.any(is_label, axis=1), error)


def negative_margin(logits: Array, labels: Array) -> Array:
    r"""The functional margin with its sign turned, :math:`\max_{j \ne y} z_j - z_y`; [N].

    For a single score it is :math:`-y f(x)` with y in {-1, +1}; the scores of an optimal linear
    predictor, :math:`x^\top \theta^\star`, give the oracle's margin. Positive where the network
    errs (zhou2022, Sec. 2.1).
    """
    return -margins(logits, labels)


def logit_gradient_norm(loss_fn: LossFn, logits: Array, labels: Array) -> Array:
    r"""Norm :math:`\|\partial \ell / \partial z\|` of the loss's gradient by the logits; [N].

    A proxy of the whole gradient's. With cross-entropy it is :math:`\|p - e_y\|`, one network's
    EL2N, between 0 and the root of two. Its square is what LOW weights by.
    """
    return safe_sqrt(norms.logit_gradient_norms(loss_fn, logits, labels))


def last_layer_gradient_norm(
    loss_fn: LossFn, logits: Array, labels: Array, features: Array, *, bias: bool = True
) -> Array:
    """Norm of the gradient by a dense last layer, given the layer's inputs [N, D]; [N]."""
    return safe_sqrt(norms.last_layer_gradient_norms(loss_fn, logits, labels, features, bias=bias))


def gradient_norm(
    example_loss_fn: ExampleLossFn,
    params: PyTree,
    examples: PyTree,
    *,
    chunk_size: int = 32,
) -> Array:
    """Norm of the gradient by all parameters, exact where examples do not interact; [N].

    Arguments as in `gradient_norms.per_example_gradient_norms`, of which this is the square root.
    """
    squares = norms.per_example_gradient_norms(
        example_loss_fn, params, examples, chunk_size=chunk_size
    )
    return safe_sqrt(squares)


def class_rarity(labels: Array, class_counts: Array) -> Array:
    r"""One over the size of the example's class, :math:`1 / n_{y_i}`; [N].

    Args:
      labels: [N], integer classes.
      class_counts: [C] training examples per class.
    """
    counts = jnp.asarray(class_counts)
    if counts.ndim != 1:
        raise ValueError(f"class_counts must be a vector [C], one per class; got {counts.shape}")
    return 1 / lookup(as_float(counts), labels)


def standardize_within_class(values: Array, labels: Array, num_classes: int) -> Array:
    """Subtracts each class's mean and divides by its standard deviation (over n, not n - 1); [N].

    A class whose values are all equal, one of a single example included, becomes zero; a label
    outside [0, C) gives nan.
    """
    values, known = as_float(values), in_range(labels, num_classes)
    labels = jnp.where(known, labels, num_classes)  # where nothing is added, and the result is NaN
    sizes = jnp.zeros(num_classes, values.dtype).at[labels].add(1)
    sizes = jnp.maximum(sizes, 1)

    def class_mean(v):
        return (jnp.zeros(num_classes, v.dtype).at[labels].add(v) / sizes)[labels]

    # The first member of the class is subtracted, so that equal values give an exact zero.
    first = jnp.full(num_classes, values.shape[0]).at[labels].min(jnp.arange(values.shape[0]))
    values = values - values[first[labels]]
    centered = values - class_mean(values)
    deviation = safe_sqrt(class_mean(centered**2))
    return nan_if(~known, centered / jnp.where(deviation > 0, deviation, 1))


def prediction_depth(
    support_features: Sequence[Array],
    support_labels: Array,
    query_features: Sequence[Array],
    predictions: Array,
    num_classes: int,
    *,
    num_neighbors: int = 30,
    own_index: Array | None = None,
    chunk_size: int = 32,
) -> Array:
    """The layer from which on a nearest-neighbour probe says what the network says; [N], integer.

    At every layer the example's class is voted by its nearest neighbours, by Euclidean distance,
    among the support set's features of that layer; a tie goes to the smaller class. The depth is
    the first layer from which this and all later probes agree with the network's prediction: 0 if
    all do, and the number of layers if the last does not.

    Args:
      support_features: per layer, from the input to the softmax, [M, ...]: usually the training
        set's.
      support_labels: [M].
      query_features: per layer, [N, ...].
      predictions: [N], the network's final classes.
      num_classes: C.
      num_neighbors: voters per probe.
      own_index: [N], where each query stands in the support set, so that it has no vote on itself;
        -1 for one that is not in it. None: no query is (or each may vote on itself).
      chunk_size: queries at a time; memory chunk_size x M.

    Raises:
      ValueError: if the layers do not match, or the support set is too small for the vote.

    References:
      Baldock, Maennel, Neyshabur, "Deep Learning Through the Lens of Example Difficulty", NeurIPS
      2021, arXiv:2106.09647, Sec. 2 (30 neighbours).
    """
    num_layers = len(support_features)
    num_voters = support_labels.shape[0] - (own_index is not None)
    if num_layers == 0 or len(query_features) != num_layers:
        raise ValueError(
            "prediction depth needs the same layers, at least one, for support and queries; got "
            f"{num_layers} and {len(query_features)}"
        )
    if not 1 <= num_neighbors <= num_voters:
        raise ValueError(
            f"num_neighbors must lie in [1, {num_voters}], the possible voters; got {num_neighbors}"
        )
    support_classes = jnp.asarray(support_labels)
    own = jnp.full(predictions.shape, -1) if own_index is None else jnp.asarray(own_index)

    def probe(support: Array, queries: Array) -> Array:
        rows = support.reshape(len(support), -1)
        center = jnp.mean(rows, axis=0)  # subtracted, so that the squares below cancel less
        rows = rows - center[None]
        squares = jnp.sum(rows**2, axis=1)

        def vote(query_and_own):
            query, own = query_and_own
            distance = squares - 2 * jnp.matmul(rows, query.ravel() - center, precision="highest")
            distance = jnp.where(jnp.arange(len(rows)) == own, jnp.inf, distance)
            _, nearest = jax.lax.top_k(-distance, num_neighbors)
            votes = jnp.zeros(num_classes, jnp.int32).at[support_classes[nearest]].add(1)
            return jnp.argmax(votes)

        return jax.lax.map(vote, (queries, own), batch_size=chunk_size)

    layers = zip(support_features, query_features, strict=True)
    agrees = jnp.stack([probe(support, queries) == predictions for support, queries in layers])
    agrees_from_here_on = jnp.cumprod(agrees[::-1].astype(jnp.int32), axis=0)
    return num_layers - jnp.sum(agrees_from_here_on, axis=0)


def _is_single_score(logits: Array) -> bool:
    return logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)


def _is_label(logits: Array, labels: Array) -> Array:
    """[N, C], whether the column is the row's label."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits [N, C], [N, 1] or [N] of one network and integer labels [N]; got "
            f"logits {logits.shape} and labels {labels.shape}"
        )
    return labels[:, None] == jnp.arange(logits.shape[1])[None, :]
