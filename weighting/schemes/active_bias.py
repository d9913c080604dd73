"""Active bias: weights from how uncertain the past predictions of an example were."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from weighting._arrays import (
    finish,
    last_occurrence,
    read_indices,
    read_labels,
    read_logits,
    running_moments,
    write,
)
from weighting._checks import check_choice, check_positive
from weighting.base import Weighting, guarded
from weighting.linearize import masked_mean
from weighting.losses import log_label_probabilities

FORMS = {"variance": 2, "threshold": 1}  # and how many past predictions the form needs


class ActiveBiasState(NamedTuple):
    """Count, mean and variance of each example's past p_y."""

    count: Array  # [N]
    mean: Array  # [N]
    variance: Array  # [N] divided by the count


def active_bias(
    num_examples: int,
    *,
    form: str = "variance",
    smoothing: float | Array = 0.1,
    normalize: bool = True,
) -> Weighting:
    r"""Active bias: examples with uncertain past predictions gain weight (Chang et al., 2017).

    With H the past probabilities p_y of the example's label, one per visit before this step,

    .. math:: w_i \propto \sqrt{\mathrm{Var}_H + \frac{\mathrm{Var}_H^2}{|H| - 1}} + \epsilon
       \quad\text{or}\quad w_i \propto \bar p_H (1 - \bar p_H) + \epsilon.

    The first, "variance", adds a standard error of the variance, since histories are short; the
    second, "threshold", measures closeness to the decision threshold and is largest at a mean of
    1/2. An example with too short a history (two visits for "variance", one for "threshold") takes
    the average score of the others in its batch, one if there are none: the first epochs are
    uniform, as the paper's burn-in is.

    Args:
      num_examples: N, the size of the training set.
      form: "variance" or "threshold".
      smoothing: epsilon > 0, in units of the score (a standard deviation of a probability, at most
        1/2, or a product, at most 1/4); a large one is uniform, a small one drops settled examples.
      normalize: to mean one over the batch; False gives score + epsilon.

    Returns:
      A `Weighting`. Reads: logits, labels, indices (its own history; not the current logits).
      State: moments of p_y [N]. Scale: mean one. Cost: O(B (C + log B)).

    References:
      Chang, Learned-Miller, McCallum, "Active Bias: Training More Accurate Neural Networks by
      Emphasizing High Variance Samples", NeurIPS 2017, arXiv:1704.07433: the weighted variants of
      prediction variance and threshold closeness. The variance divides by |H|; the paper's epsilon
      is not specified here beyond its role.
    """
    check_choice("form", form, tuple(FORMS))
    check_positive("smoothing", smoothing)

    def init_fn(key, params):
        del key, params
        zeros = jnp.zeros(num_examples)
        return ActiveBiasState(jnp.zeros(num_examples, jnp.int32), zeros, zeros)

    def update_fn(weights, state, signals, **extra):
        indices = read_indices("active_bias()", signals)
        logits = read_logits("active_bias()", signals)
        log_p = log_label_probabilities(logits, read_labels("active_bias()", signals))
        count, mean, variance = (table[indices] for table in state)

        if form == "variance":
            squares = variance + variance**2 / jnp.maximum(count - 1, 1)
            score = jnp.sqrt(squares)
        else:
            score = mean * (1 - mean)
        known = (count >= FORMS[form]) & (signals.valid > 0)
        usual = jnp.where(jnp.any(known), masked_mean(score, known) + smoothing, 1)
        own = jnp.where(known, score + smoothing, usual)

        moments = running_moments(count, mean, variance, jnp.exp(log_p).astype(mean.dtype))
        visits = last_occurrence(indices, signals.valid)
        tables = zip(state, moments, strict=True)
        state = ActiveBiasState(*(write(table, indices, visits, rows) for table, rows in tables))
        return finish(weights * own, signals, normalize), state

    return guarded(init_fn, update_fn, num_examples=num_examples)
