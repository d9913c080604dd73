r"""Class weights under label shift, from a black-box classifier's outputs on unlabeled target data.

Label shift: p(x | y) stays, the class priors move from :math:`p_s` to :math:`q_t`. The weights
:math:`w_c = q_t(c) / p_s(c)` turn the source risk into the target risk; use them as
`class_weights[labels]`. Where the training is over, `prior_corrected_logits` moves its predictions.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._checks import check_positive, check_range, check_vector
from weighting._numbers import at_least_float32, one_hot
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
    Where C is singular (a class that the source does not have, two that the classifier does not
    tell apart) the data do not determine w: an error, or NaN where the data are traced, unless
    there is a regularization. Sampling noise is magnified by up to the condition number of C.

    Args:
      source_predictions: [N] predicted classes, or [N, C] probabilities (the soft version).
      source_labels: [N]; not the data that the classifier was trained on.
      target_predictions: [M] or [M, C], like the source's.
      num_classes: C.
      regularization: lambda >= 0 of :math:`\|C w - \mu\|^2 + \lambda \|w - 1\|^2`, in the spirit of
        RLLS. Zero is BBSE; large is uniform. Any positive one keeps the directions that a singular
        C leaves open at w = 1.

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
    _check_known("source_labels", source_labels, num_classes)
    truth = one_hot(source_labels, num_classes, source.dtype)
    confusion = source.T @ truth / source.shape[0]
    determined = _check_invertible(confusion, regularization)
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
    return jnp.where(determined, weights / jnp.where(mean > 0, mean, 1), jnp.nan)


def em_target_priors(
    target_probabilities: Array, source_priors: Array, *, num_iterations: int = 200
) -> Array:
    r"""Target class priors by expectation maximization (Saerens et al., 2002); [C].

    Bayes' rule turns the classifier's :math:`p_s(c \mid x)` into p(x | c) up to a factor of x, so
    the likelihood of the target data is :math:`\prod_i \sum_c q(c)\, p_s(c \mid x_i) / p_s(c)`. The
    updates start at the source's priors and never decrease it. The classifier must be calibrated:
    after class weights or logit adjustment, by `prior_corrected_logits`. Classes that it does not
    tell apart keep the source's proportions among them.

    Args:
      target_probabilities: [M, C], the source classifier's probabilities on target data.
      source_priors: [C], of the data that the classifier was trained on; counts will do.
      num_iterations: static; slow where classes overlap much.

    References:
      Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
      Probabilities: A Simple Procedure", Neural Computation 14, 2002, Eq. (2.9).
    """
    check_positive("num_iterations", num_iterations)
    target_probabilities = at_least_float32(jnp.asarray(target_probabilities))
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


def prior_corrected_logits(logits: Array, fitted_priors: Array, target_priors: Array) -> Array:
    r"""Logits for other class priors than those fitted, :math:`z_c + \log (q_c / f_c)`.

    A network that fits its loss predicts :math:`p(c \mid x) \propto f_c\, p(x \mid c)`, with class
    priors f that weights and adjustments move away from the training set's
    :math:`\pi_c = n_c / N`. For data with priors q, the training set's among them, Bayes' rule
    exchanges f for q. The fitted priors of cross-entropy are, up to a factor,

    - :math:`\pi_c`: unweighted, or with weights that do not depend on the class;
    - :math:`v_c \pi_c`: with class weights v (all alike for the inverse class frequency);
    - :math:`\pi_c^{1 - \tau}`: of the logits of `losses.logit_adjusted` (all alike for tau = 1);
    - the priors drawn: under resampling, all alike for `class_balanced_indices`.

    It corrects what a loss makes of calibrated probabilities, not overconfidence. Focal loss at
    gamma > 0 moves no priors: its probabilities have a transform of their own (Charoenphakdee et
    al., CVPR 2021).

    Args:
      logits: [B, C], or [B] or [B, 1] for a single score, of class 1 of two.
      fitted_priors: f [C] (or [2], of classes 0 and 1); counts will do.
      target_priors: q [C], zero where f is; counts will do. A class at zero gets the logit -inf.

    Returns:
      Logits shaped as given, in their floating type, at least float32. Their softmax (a single
      score's sigmoid) is p(c | x) under q.

    References:
      Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
      Probabilities: A Simple Procedure", Neural Computation 14, 2002, Eq. (2.4); Menon et al.,
      "Long-tail Learning via Logit Adjustment", ICLR 2021, arXiv:2007.07314.

    Example:
      >>> import jax.numpy as jnp
      >>> counts, class_weights = jnp.array([900, 300]), jnp.array([1.0, 3.0])
      >>> prior_corrected_logits(jnp.zeros(1), class_weights * counts, counts)  # odds of 1 to 3
      Array([-1.0986123], dtype=float32)
    """
    logits = at_least_float32(jnp.asarray(logits))
    is_score = logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)
    shape = (2,) if is_score else logits.shape[-1:]
    fitted, target = jnp.asarray(fitted_priors), jnp.asarray(target_priors)
    if logits.ndim not in (1, 2) or fitted.shape != shape or target.shape != shape:
        raise ValueError(
            "expected logits [B, C] and priors [C], or a score [B] or [B, 1] and priors [2]; got "
            f"logits {logits.shape}, fitted_priors {fitted.shape}, target_priors {target.shape}"
        )
    shifts = jnp.log(class_prior_ratio(target, fitted)).astype(logits.dtype)
    return logits + (shifts[1] - shifts[0] if is_score else shifts[None])


def _check_invertible(confusion: Array, regularization: float | Array) -> bool | Array:
    """Whether the confusion (or a regularization) determines weights; an error if known not to."""
    singular = jnp.linalg.svd(confusion, compute_uv=False)
    rounding = confusion.shape[0] * jnp.finfo(confusion.dtype).eps
    determined = (singular[-1] > rounding * singular[0]) | (jnp.asarray(regularization) > 0)
    if not isinstance(determined, Tracer) and not determined:
        absent = np.flatnonzero(np.sum(np.asarray(confusion), axis=0) == 0).tolist()
        why = (
            f"the source has no example of classes {absent}"
            if absent
            else ("the predictions do not tell the classes apart")
        )
        condition = float(singular[0] / singular[-1])
        raise ValueError(
            f"the confusion matrix is singular (condition number {condition:.2g}): {why}, and the "
            "target's predictions do not determine class weights. Give a regularization > 0 (what "
            "is not determined stays at 1), merge classes, or use another classifier."
        )
    return determined


def _check_known(name: str, classes: Array, num_classes: int) -> None:
    """Refuses classes outside [0, C); traced ones give NaN later."""
    if isinstance(classes, Tracer):
        return
    values = np.asarray(classes)
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        raise ValueError(
            f"{name} must lie in [0, {num_classes}); got {values.min()} to {values.max()}. Number "
            "the classes from zero, or raise num_classes."
        )


def _as_probabilities(name: str, predictions: Array, num_classes: int) -> Array:
    predictions = jnp.asarray(predictions)
    if predictions.ndim == 1 and jnp.issubdtype(predictions.dtype, jnp.integer):
        _check_known(name, predictions, num_classes)
        return one_hot(predictions, num_classes)
    if predictions.ndim == 2 and predictions.shape[1] == num_classes:
        return at_least_float32(predictions)
    raise ValueError(
        f"{name} must be integer classes [N] or probabilities [N, {num_classes}]; got "
        f"{predictions.dtype} of shape {predictions.shape}"
    )
