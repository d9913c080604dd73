"""Weights that depend on the class alone.

Those of class counts average to one over the *training set*, not over each batch: normalizing per
batch would give a biased estimate of the weighted risk (chain `normalize_mean()` if you want it).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._arrays import finish, read_labels
from weighting._checks import check_range, concrete
from weighting.base import Signals, Weighting, stateless


def inverse_class_frequency(class_counts: Array) -> Weighting:
    r"""Weights examples by the inverse of their class's frequency: PROPORTION, balanced
    cross-entropy.

    .. math:: w_i = \frac{N}{C\, n_{y_i}}

    The weights average to one over the *training set*, not over each batch: normalizing per batch
    would give a biased estimate of the weighted risk (chain `normalize_mean()` if you want it).

    Args:
      class_counts: [C] training examples per class; every class needs at least one.

    Returns:
      A `Weighting`. Reads: labels. State: none. Scale: mean one over the training set. Cost: O(B).

    References:
      PROPORTION in Ren et al., "Learning to Reweight Examples", ICML 2018, Sec. 4.1 (the released
      code does not normalize); bCE in Santiago et al., "LOW", Pattern Recognition 2021, Sec. 4.
    """
    counts = _read_counts(class_counts)
    return _by_class("inverse_class_frequency()", jnp.sum(counts) / (len(counts) * counts))


def class_weights(weights: Array, class_counts: Array | None = None) -> Weighting:
    r"""Weights of the classes chosen by hand, :math:`w_i = v_{y_i}`.

    Equal v is uniform; zero drops a class. Only ratios matter if `class_counts` are given, since
    they scale the weights to average to one over the training set,
    :math:`\sum_c n_c v_c = N`; without them v is taken as it is.

    Args:
      weights: v [C], not negative.
      class_counts: [C] training examples per class, or None.

    Returns:
      A `Weighting`. Reads: labels. State: none. Scale: mean one over the training set with
      `class_counts`, else that of v. Cost: O(B).

    References:
      xu2021 (Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for Deep Learning", ICLR
      2021), Figs. 2-3; tail classes in Zhou, Wu et al., "Understanding Difficulty-Based Sample
      Weighting with a Universal Difficulty Measure", ECML-PKDD 2022, Figs. 4g-h, 5c-d, 6. Neither
      prints its ratios.
    """
    table = jnp.asarray(weights)
    _check_weights(weights, table)
    table = table.astype(jnp.promote_types(table.dtype, jnp.float32))
    if class_counts is not None:
        table = _mean_one_over_training_set(table, _read_counts(class_counts, len(table)))
    return _by_class("class_weights()", table)


def effective_number(class_counts: Array, beta: float | Array = 0.999) -> Weighting:
    r"""Class-balanced weights by the effective number of samples (Cui et al., 2019).

    .. math:: w_i \propto \frac{1}{E_{n_{y_i}}}, \qquad E_n = \frac{1 - \beta^n}{1 - \beta}

    Of n examples that may repeat what others show, only E_n are new. beta = 0 is uniform (E_n = 1),
    beta = 1 the inverse class frequency (E_n = n); in between, classes beyond 1 / (1 - beta)
    examples count alike.

    Args:
      class_counts: [C] training examples per class; every class needs at least one.
      beta: in [0, 1]; the paper searches {0.9, 0.99, 0.999, 0.9999}.

    Returns:
      A `Weighting`. Reads: labels. State: none. Scale: mean one over the training set. The paper's
      weights sum to C over the *classes* instead: it is a constant factor, which rescales the
      learning rate (its mean over a long-tailed training set is below one, as common classes weigh
      least). Cost: O(B).

    References:
      Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
      arXiv:1901.05555, Eqs. (2) and (5).
    """
    check_range("beta", beta, low=0.0, high=1.0)
    counts = _read_counts(class_counts)
    # The logarithm in double precision where possible: float32 rounds 1 - 0.9999 to four digits.
    number = concrete(beta)
    with np.errstate(divide="ignore"):
        log_beta = jnp.log1p(beta - 1) if number is None else float(np.log(number))
    counts_alone = jnp.asarray(log_beta == 0)
    rate = jnp.where(counts_alone, -1, log_beta)
    effective = jnp.where(counts_alone, counts, jnp.expm1(counts * rate) / jnp.expm1(rate))
    return _by_class("effective_number()", _mean_one_over_training_set(1 / effective, counts))


def class_power(class_counts: Array, rho: float | Array = 1.0) -> Weighting:
    r"""A power of the inverse class frequency, :math:`w_i \propto n_{y_i}^{-\rho}`: G-RW.

    rho = 0 is uniform, 1/2 the inverse square root of the frequency, 1 the inverse frequency
    (`inverse_class_frequency`); beyond, rare classes outweigh common ones in total, and a large rho
    leaves the rarest class alone.

    Args:
      class_counts: [C] training examples per class; every class needs at least one.
      rho: >= 0.

    Returns:
      A `Weighting`. Reads: labels. State: none. Scale: mean one over the training set; natively
      the classes' weights sum to one, a constant factor. Cost: O(B).

    References:
      G-RW in Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual
      Recognition", CVPR 2021, arXiv:2103.16370.
    """
    check_range("rho", rho, low=0.0, high=np.inf, high_open=True)
    counts = _read_counts(class_counts)
    table = (jnp.min(counts) / counts) ** rho
    return _by_class("class_power()", _mean_one_over_training_set(table, counts))


def clean_label_probability(transition: Array, priors: Array) -> Array:
    r"""Probability that a given label is the true one, for each class; [C].

    .. math:: P(y = c \mid \tilde y = c) = \frac{\pi_c T_{cc}}{\sum_k \pi_k T_{kc}}

    Args:
      transition: T [C, C], from the true class (row) to the given label (column); rows sum to one.
      priors: pi [C], frequencies of the true classes; they sum to one.

    Returns:
      Probabilities [C]; zero for a label that is never given.

    Example:
      >>> import jax.numpy as jnp
      >>> clean_label_probability(jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([0.5, 0.5]))
      Array([0.6666667, 1.       ], dtype=float32)
    """
    _check_noise(transition, priors)
    matrix, prior = jnp.asarray(transition), jnp.asarray(priors)
    given = prior @ matrix
    clean = prior * jnp.diagonal(matrix)
    return jnp.where(given > 0, clean / jnp.where(given > 0, given, 1), 0)


def oracle_noise(transition: Array, priors: Array, *, normalize: bool = True) -> Weighting:
    r"""Weighs by how likely the given label is clean, the noise being known: the WEIGHTED oracle.

    :math:`w_i = P(y = \tilde y_i \mid \tilde y_i)`, see `clean_label_probability`. Without noise it
    is uniform, as it is for balanced classes whose noise is alike. Where each of C balanced classes
    turns into the background with probability r, the background weighs 1 / (1 + r (C - 1)) and
    all others one.

    Args:
      transition: T [C, C], from the true class (row) to the given label (column); rows sum to one.
      priors: pi [C], frequencies of the true classes; they sum to one.
      normalize: to mean one over the batch, as in the paper; False gives the native probability.

    Returns:
      A `Weighting`. Reads: labels. State: none. Cost: O(B).

    References:
      WEIGHTED in Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018,
      arXiv:1803.09050, Sec. 4.2.
    """
    table = clean_label_probability(transition, priors)

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        own = table[read_labels("oracle_noise()", signals)]
        return finish(weights * own, signals, normalize)

    return stateless(update, num_classes=table.shape[0])


def _by_class(name: str, table: Array) -> Weighting:
    """Multiplies each weight by the entry of its label."""

    def update(weights: Array, signals: Signals, **extra: Any) -> Array:
        own = table[read_labels(name, signals)]
        return (weights * own).astype(signals.losses.dtype)

    return stateless(update, num_classes=table.shape[0])


def _mean_one_over_training_set(table: Array, counts: Array) -> Array:
    return table / jnp.sum(counts / jnp.sum(counts) * table)


def _read_counts(class_counts: Array, num_classes: int | None = None) -> Array:
    """The counts as floats, checked where they are concrete."""
    if not isinstance(class_counts, Tracer):
        _check_counts(np.asarray(class_counts))
    counts = jnp.asarray(class_counts).astype(float)
    if num_classes is not None and counts.shape != (num_classes,):
        raise ValueError(
            f"class_counts must have one entry for each of the {num_classes} weights; got shape "
            f"{counts.shape}"
        )
    return counts


def _check_counts(counts: np.ndarray) -> None:
    if counts.ndim != 1 or not np.all(counts > 0):
        raise ValueError(
            "class_counts must be a vector [C] of positive counts, one per class; got "
            f"{counts.tolist()}. A class without examples cannot be weighted: drop it, or merge it."
        )


def _check_weights(weights: Any, table: Array) -> None:
    values = None if isinstance(weights, Tracer) else np.asarray(weights, np.float64)
    bad = values is not None and not (np.all(np.isfinite(values)) and np.all(values >= 0))
    if table.ndim != 1 or bad or (values is not None and not np.any(values > 0)):
        shown = f"shape {table.shape}" if values is None else values.tolist()
        raise ValueError(
            "weights must be a vector [C] of finite weights, one per class, none negative and not "
            f"all zero; got {shown}"
        )


def _check_noise(transition: Any, priors: Any) -> None:
    shapes = jnp.shape(transition), jnp.shape(priors)
    if len(shapes[1]) != 1 or shapes[0] != shapes[1] * 2:
        raise ValueError(
            "transition must be [C, C] and priors [C] for the same C classes; got shapes "
            f"{shapes[0]} and {shapes[1]}"
        )
    for name, array in (("each row of transition", transition), ("priors", priors)):
        if isinstance(array, Tracer):
            continue
        values = np.asarray(array, np.float64)
        if not (np.all(values >= 0) and np.allclose(values.sum(axis=-1), 1, atol=1e-4)):
            raise ValueError(
                f"{name} must be probabilities that sum to one; got {values.tolist()}. Divide by "
                "the sum, and transpose a transition whose columns sum to one."
            )
