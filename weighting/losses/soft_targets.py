r"""Cross-entropy to a target that is softer than the label: smoothed, bootstrapped, distilled."""

import jax
import jax.numpy as jnp
from jax import Array

from weighting._checks import check_choice, check_positive, check_range
from weighting.losses._shapes import check_classes
from weighting.losses.basic import cross_entropy


def smoothed_cross_entropy(
    logits: Array, labels: Array, *, smoothing: float | Array = 0.1
) -> Array:
    r"""Label smoothing: cross-entropy to :math:`(1 - s)\, y + s/C` (Szegedy et al., 2016); -> [B].

    0 is cross-entropy; at 1 the label no longer matters. The target, which does not depend on the
    logits, is part every class: where one of them is masked by a logit of -inf the loss is +inf
    (unless s = 0).

    Args:
      logits: [B, C].
      labels: [B].
      smoothing: s in [0, 1], the mass spread over all C classes, the label included.

    References:
      Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
      arXiv:1512.00567, Sec. 7.
    """
    check_range("smoothing", smoothing, low=0.0, high=1.0)
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return _mix(smoothing, uniform, cross_entropy(logits, labels))


def bootstrap_soft(
    logits: Array,
    labels: Array,
    *,
    beta: float | Array = 0.95,
    target: str = "differentiated",
) -> Array:
    r"""Soft bootstrapping (REED soft): the target is part label, part prediction; -> [B].

    .. math:: -\sum_c \left[\beta\, y_c + (1 - \beta)\, q_c\right] \log q_c

    The value is cross-entropy's and the prediction's entropy H, in shares beta and 1 - beta. The
    gradient depends on what is held constant:

    - Differentiated, the target moves with the prediction, and H is minimized, too; by the logit
      :math:`z_k` the gradient is :math:`\beta (q_k - y_k) - (1 - \beta)\, q_k (\log q_k + H)`. A
      confident network is drawn to its own prediction against the label. This is the published
      method: Reed et al. equate it with minimum entropy regularization.
    - Held constant, the second term has no gradient at all, :math:`q_k \sum_c q_c - q_k = 0`. What
      is left, :math:`\beta (q_k - y_k)`, is cross-entropy's gradient: plain training at beta times
      the learning rate, which learns nothing at beta = 0. The code released with ren2018 does this,
      since TensorFlow 1's `softmax_cross_entropy_with_logits` stops gradients into its labels: the
      paper's REED SOFT is its BASELINE at 0.95 times the rate (and 1/0.95 times the decay).

    beta = 1 is cross-entropy.

    Args:
      logits: [B, C].
      labels: [B].
      beta: share of the label in the target, in [0, 1].
      target: "differentiated", or "constant" for ren2018's released code.

    References:
      Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015
      workshop, arXiv:1412.6596; beta = 0.95 is the best value there according to ren2018, Sec. 4.1.
    """
    check_range("beta", beta, low=0.0, high=1.0)
    check_choice("target", target, ("differentiated", "constant"))
    log_q = jax.nn.log_softmax(logits)
    q = jnp.exp(log_q)
    q = jax.lax.stop_gradient(q) if target == "constant" else q
    # A masked class has no part in the entropy: 0 log 0 = 0.
    entropy = -jnp.sum(q * jnp.where(log_q == -jnp.inf, 0, log_q), axis=-1)
    return _mix(beta, cross_entropy(logits, labels), entropy)


def bootstrap_hard(logits: Array, labels: Array, *, beta: float | Array = 0.8) -> Array:
    r"""Hard bootstrapping (REED hard): the target is part label, part predicted class; -> [B].

    .. math:: -\beta \log q_y - (1 - \beta) \log \max_c q_c

    beta = 1 is cross-entropy; 0 ignores the labels. The predicted class is a constant: it has no
    derivative where it is unique, and of classes that tie the first is taken.

    Args:
      logits: [B, C].
      labels: [B].
      beta: share of the label in the target, in [0, 1].

    References:
      Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015
      workshop, arXiv:1412.6596; beta = 0.8 as in ren2018 (Sec. 4.1).
    """
    check_range("beta", beta, low=0.0, high=1.0)
    predicted = cross_entropy(logits, jnp.argmax(logits, axis=-1))
    return _mix(beta, cross_entropy(logits, labels), predicted)


def distillation(
    logits: Array,
    labels: Array,
    *,
    teacher_logits: Array,
    alpha: float | Array = 0.5,
    temperature: float | Array = 2.0,
) -> Array:
    r"""Knowledge distillation: the label, and a teacher's tempered prediction; -> [B].

    .. math:: \alpha\, \mathrm{CE}(y, q) + (1 - \alpha)\, T^2\,
              \mathrm{KL}\!\left(q^T_\text{teacher} \,\|\, q^T\right), \qquad
              q^T = \mathrm{softmax}(z / T)

    T^2 keeps the second gradient's size as T grows; in the limit it is that of
    :math:`\|z - z_\text{teacher}\|^2 / (2 C)` with both rows of logits centered. alpha = 1 is
    cross-entropy, alpha = 0 imitates the teacher alone. The teacher's logits are a constant, even
    where they are computed from the student's parameters. A class may be masked (a logit of -inf)
    for teacher and student; where it is masked for the student alone, the loss is +inf.

    Args:
      logits: [B, C].
      labels: [B].
      teacher_logits: [B, C], held constant.
      alpha: share of the labels, in [0, 1].
      temperature: T > 0; small values compare the predicted classes, large ones the logits.

    References:
      Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531,
      Sec. 2; for noisy labels Li et al., "Learning from Noisy Labels with Distillation", ICCV 2017.
    """
    check_range("alpha", alpha, low=0.0, high=1.0)
    check_positive("temperature", temperature)
    check_classes(logits, labels)
    if teacher_logits.shape != logits.shape:
        raise ValueError(
            f"teacher_logits {teacher_logits.shape} and logits {logits.shape} must have equal "
            "shapes; give the teacher's logits of the same examples, in the same order"
        )
    scale = jnp.asarray(temperature, logits.dtype)
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher_logits, logits.dtype))
    log_q, log_p = jax.nn.log_softmax(logits / scale), jax.nn.log_softmax(teacher / scale)
    p = jnp.exp(log_p)
    divergence = jnp.sum(p * jnp.where(p == 0, 0, log_p - log_q), axis=-1)
    return _mix(alpha, cross_entropy(logits, labels), scale**2 * divergence)


def _mix(share: float | Array, one: Array, other: Array) -> Array:
    """share * one + (1 - share) * other, where an infinite loss without a share is left out."""
    share = jnp.asarray(share, one.dtype)
    one = jnp.where((share == 0) & jnp.isinf(one), 0, one)
    other = jnp.where((share == 1) & jnp.isinf(other), 0, other)
    return share * one + (1 - share) * other
