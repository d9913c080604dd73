"""AdaBoost: the weights of the training examples from one weak learner to the next."""

import jax.numpy as jnp
from jax import Array


def adaboost_weights(weights: Array, is_error: Array, num_classes: int = 2) -> tuple[Array, Array]:
    r"""One round of AdaBoost: the misclassified examples gain weight.

    With the weighted error rate :math:`e = \sum_i w_i 1[\text{error}_i] / \sum_i w_i`,

    .. math:: a = \log\frac{1 - e}{e} + \log(C - 1), \qquad
              w_i \leftarrow \frac{w_i\, e^{a 1[\text{error}_i]}}{\text{mean}}.

    For two classes the new weights put exactly half their sum on the errors, and equal those of the
    form :math:`w_i e^{-a' y_i h(x_i)}` with :math:`a' = a/2`. A learner no better than chance (e >=
    1 - 1/C) has :math:`a \le 0`: stop there, or discard it. Errors below the dtype's rounding (or
    above one minus it) are moved to it, so that a perfect learner gets a large, finite vote.

    Args:
      weights: [N], not negative, of any scale; start with ones.
      is_error: [N], boolean or 0/1: which examples the weak learner, trained with these weights,
        gets wrong.
      num_classes: C >= 2.

    Returns:
      The next weights [N], which average to one, and the learner's vote a, a scalar.

    References:
      Freund, Schapire, "A Decision-Theoretic Generalization of On-Line Learning and an Application
      to Boosting", JCSS 1997; for C > 2 SAMME: Zhu, Zou, Rosset, Hastie, "Multi-class AdaBoost",
      Statistics and Its Interface 2009, Algorithm 2. Their weights sum to one.

    Example:
      >>> import jax.numpy as jnp
      >>> weights, vote = adaboost_weights(jnp.ones(4), jnp.array([True, False, False, False]))
      >>> [round(w, 3) for w in weights.tolist()]
      [2.0, 0.667, 0.667, 0.667]
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if weights.ndim != 1 or is_error.shape != weights.shape:
        raise ValueError(
            "weights and is_error must both be vectors [N]; got shapes "
            f"{weights.shape} and {is_error.shape}"
        )
    wrong = is_error != 0
    total = jnp.sum(weights)
    error = jnp.sum(jnp.where(wrong, weights, 0)) / jnp.where(total > 0, total, 1)
    rounding = jnp.finfo(error.dtype).eps
    error = jnp.clip(error, rounding, 1 - rounding)
    vote = jnp.log1p(-error) - jnp.log(error) + jnp.log(jnp.asarray(num_classes - 1, error.dtype))
    # Both factors over the larger one, so that no product overflows.
    factors = jnp.where(wrong, jnp.exp(jnp.minimum(vote, 0)), jnp.exp(jnp.minimum(-vote, 0)))
    new = weights * factors
    mean = jnp.mean(new)
    return new / jnp.where(mean > 0, mean, 1), vote
