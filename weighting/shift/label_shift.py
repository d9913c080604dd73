r"""Class weights under label shift, from a black-box classifier's outputs on unlabeled target data.

Label shift: p(x | y) stays, the class priors move from :math:`p_s` to :math:`q_t`. The weights
:math:`w_c = q_t(c) / p_s(c)` turn the source risk into the target risk; use them as
`class_weights[labels]`.
"""

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_positive, check_range, check_vector
from weighting.shift._mixture import mixture_proportions
from weighting.shift.density_ratio import class_prior_ratio


def bbse_class_weights(
    source_predictions: Array,
    source_labels: Array,
    target_predictions: Array,
    num_classes: int,
    *,
    regularization: float | Array = 0.0,
) -> Array:
    r"""Black-box shift estimation: solves :math:`C w = \mu` (Lipton et al., 2018).

    :math:`C_{ij} = P_s(\hat y = i, y = j)` on held-out labeled source data and
    :math:`\mu_i = P_t(\hat y = i)` on target data. The classifier may be bad and biased; C need
    only be invertible. Negative weights are cut to zero, then the mean over the source is restored.

    Args:
      source_predictions: [N] predicted classes, or [N, C] probabilities (the soft version).
      source_labels: [N]; not the data that the classifier was trained on.
      target_predictions: [M] or [M, C], like the source's.
      num_classes: C.
      regularization: lambda >= 0 of :math:`\|C w - \mu\|^2 + \lambda \|w - 1\|^2`, in the spirit of
        RLLS. Zero is BBSE, and directions that a singular C leaves open stay at w = 1; large is
        uniform.

    Returns:
      Class weights [C] with :math:`\sum_c p_s(c) w_c = 1`, in the classifier's floating type.

    References:
      Lipton, Wang, Smola, "Detecting and Correcting for Label Shift with Black Box Predictors",
      ICML 2018, arXiv:1802.03916. Azizzadenesheli et al., "Regularized Learning for
      Domain Adaptation under Label Shifts", ICLR 2019, arXiv:1903.09734 (its norms are not squared,
      and it shrinks the estimate further).
    """
    check_vector("source_labels", source_labels)
    check_range("regularization", regularization, low=0.0)
    source, target = (
        _as_probabilities(name, predictions, num_classes)
        for name, predictions in [
            ("source_predictions", source_predictions),
            ("target_predictions", target_predictions),
        ]
    )
    truth = jax.nn.one_hot(source_labels, num_classes, dtype=source.dtype)
    confusion = source.T @ truth / source.shape[0]
    priors, target_mean = jnp.mean(truth, axis=0), jnp.mean(target, axis=0)
    penalty = jnp.sqrt(jnp.asarray(regularization, source.dtype)) * jnp.eye(
        num_classes, dtype=source.dtype
    )
    residual = target_mean - jnp.sum(confusion, axis=1)
    shift = jnp.linalg.lstsq(
        jnp.concatenate([confusion, penalty]),
        jnp.concatenate([residual, jnp.zeros(num_classes, source.dtype)]),
    )[0]
    weights = jnp.maximum(1 + shift, 0)
    mean = jnp.sum(priors * weights)
    return weights / jnp.where(mean > 0, mean, 1)


def em_target_priors(
    target_probabilities: Array, source_priors: Array, *, num_iterations: int = 200
) -> Array:
    r"""Target class priors by expectation maximization (Saerens et al., 2002); [C].

    Bayes' rule turns the classifier's :math:`p_s(c \mid x)` into p(x | c) up to a factor of x, so
    the likelihood of the target data is :math:`\prod_i \sum_c q(c)\, p_s(c \mid x_i) / p_s(c)`. The
    updates start at the source's priors and never decrease it. The classifier must be calibrated.

    Args:
      target_probabilities: [M, C], the source classifier's probabilities on target data.
      source_priors: [C], of the data that the classifier was trained on; counts will do.
      num_iterations: static; slow where classes overlap much.

    References:
      Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
      Probabilities: A Simple Procedure", Neural Computation 14, 2002, Eq. (2.9).
    """
    check_positive("num_iterations", num_iterations)
    priors = jnp.asarray(source_priors, target_probabilities.dtype)
    if target_probabilities.ndim != 2 or priors.shape != target_probabilities.shape[1:]:
        raise ValueError(
            "expected target_probabilities [M, C] and source_priors [C]; got "
            f"{target_probabilities.shape} and {priors.shape}"
        )
    priors = priors / jnp.sum(priors)
    known = priors > 0
    densities = jnp.where(known[None], target_probabilities / jnp.where(known, priors, 1)[None], 0)
    return mixture_proportions(densities, priors, num_iterations)


def em_class_weights(
    target_probabilities: Array, source_priors: Array, *, num_iterations: int = 200
) -> Array:
    """Class weights q_t(c) / p_s(c) with the target priors of `em_target_priors`; [C]."""
    estimate = em_target_priors(target_probabilities, source_priors, num_iterations=num_iterations)
    return class_prior_ratio(estimate, source_priors)


def _as_probabilities(name: str, predictions: Array, num_classes: int) -> Array:
    predictions = jnp.asarray(predictions)
    if predictions.ndim == 1 and jnp.issubdtype(predictions.dtype, jnp.integer):
        return jax.nn.one_hot(predictions, num_classes)
    if predictions.ndim == 2 and predictions.shape[1] == num_classes:
        return predictions
    raise ValueError(
        f"{name} must be integer classes [N] or probabilities [N, {num_classes}]; got "
        f"{predictions.dtype} of shape {predictions.shape}"
    )
