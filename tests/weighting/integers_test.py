"""Whole numbers and booleans give what the same numbers as floats give, in every function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weighting as w
from weighting import losses
from weighting.schemes import importance_sampling as sampling
from weighting.schemes.superloss import lambert_w

COUNTS = [3, 1, 2]
LABELS = np.array([0, 2, 1])
MARGINS = [3, 1, 2]
LOGITS = [[3, 0, 1], [0, 0, 2], [1, 4, 0]]
TIMES = [1, 2, 4, 8]

# name -> (function, the arrays that may be integers)
CALLS = {
    "low_weights": (lambda g: w.low_weights(g, 10.0), [[1, 1, 2]]),
    "low_kkt_residual": (lambda v, g: w.low_kkt_residual(v, g, 1.0), [[1, 0, 2], [1, 1, 2]]),
    "cvar_weights": (lambda v: w.cvar_weights(v, 0.4), [[1, 2, 3]]),
    "mean_one": (lambda v: w.mean_one(v, jnp.ones(3)), [[1, 0, 3]]),
    "weighted_risk": (w.weighted_risk, [[1, 2, 2], [1, 0, 3]]),
    "masked_mean": (w.masked_mean, [[1, 2, 2]]),
    "effective_sample_size": (w.effective_sample_size, [[1, 0, 3]]),
    "difficulty_weights": (w.difficulty_weights, [[1, 5, 3]]),
    "inverse_margin_weights": (w.inverse_margin_weights, [MARGINS]),
    "small_margin_weights": (lambda m: w.small_margin_weights(m, 0.3), [MARGINS]),
    "kl_matched_weights": (w.kl_matched_weights, [[0, 1, 0]]),
    "kl_matched_weights, mixture": (
        lambda p: w.kl_matched_weights(p, form="mixture"),
        [[0, 1, 0]],
    ),
    "known_examples_weights": (lambda v: w.known_examples_weights(v, 3), [[0, 1, 0]]),
    "jtt_weights": (lambda v: w.jtt_weights(v, 3), [[0, 1, 0]]),
    "adaboost_weights": (lambda v, e: w.adaboost_weights(v, e)[0], [[1, 2, 3], [0, 1, 0]]),
    "adaboost_vote": (lambda v, e: w.adaboost_weights(v, e)[1], [[1, 2, 3], [0, 1, 0]]),
    "loss_rank_probabilities": (lambda v: w.loss_rank_probabilities(v, 4), [[1, 5, 3]]),
    "importance_probabilities": (sampling.importance_probabilities, [[1, 5, 3]]),
    "variance_reduction": (sampling.variance_reduction, [[0, 1, 0]]),
    "importance_weights": (
        lambda p: sampling.importance_weights(p, jnp.array([1, 1])),
        [[0, 1, 0]],
    ),
    "greedy_alignment_weights": (
        lambda s, g: w.greedy_alignment_weights(s, g, 2, step_size=0.1),
        [[3, 2, 1], [[3, 3, 0], [3, 3, 0], [0, 0, 1]]],
    ),
    "clean_label_probability": (w.clean_label_probability, [[[1, 0], [0, 1]], [1, 0]]),
    "inverse_class_frequency": (
        lambda c: weights_of(w.inverse_class_frequency(c)),
        [COUNTS],
    ),
    "class_weights": (lambda v: weights_of(w.class_weights(v, COUNTS)), [[1, 2, 5]]),
    "effective_number": (lambda c: weights_of(w.effective_number(c, 0.9)), [COUNTS]),
    "class_power": (lambda c: weights_of(w.class_power(c, 0.5)), [COUNTS]),
    "per_example": (lambda v: weights_of(w.per_example(v)), [[1, 2, 5]]),
    "class_sampling_probabilities": (
        lambda c: w.class_sampling_probabilities(c, 0.5),
        [COUNTS],
    ),
    "example_sampling_probabilities": (
        lambda c: w.example_sampling_probabilities(LABELS, c, 0.5),
        [COUNTS],
    ),
    "class_rarity": (lambda c: w.class_rarity(LABELS, c), [COUNTS]),
    "standardize_within_class": (
        lambda v: w.standardize_within_class(v, jnp.array([0, 0, 1]), 2),
        [[1, 4, 3]],
    ),
    "mean_over_networks": (lambda v: w.mean_over_networks(v)[1], [[[1, 2], [4, 2]]]),
    "variance_over_networks": (w.variance_over_networks, [[[1, 2], [4, 2]]]),
    "predictive_variance": (w.predictive_variance, [[[1, 2], [4, 2]]]),
    "gradient_variation": (w.gradient_variation, [[[1, 2], [4, 2]]]),
    "error_probability": (lambda z: w.error_probability(z, LABELS), [LOGITS]),
    "negative_margin": (lambda z: w.negative_margin(z, LABELS), [LOGITS]),
    "predictive_entropy": (lambda z: w.predictive_entropy(z[None]), [LOGITS]),
    "el2n": (lambda z: w.el2n(z[None], LABELS), [LOGITS]),
    "confusion_transition": (w.confusion_transition, [[[3, 1], [0, 0]]]),
    "margin_error": (lambda m, v: w.margin_error(m, 2, v), [MARGINS, [1, 0, 2]]),
    "weighted_distribution_ratio": (w.weighted_distribution_ratio, [[1, 0, 2], [1, 0, 2]]),
    "chi_square_divergence": (lambda r: w.chi_square_divergence(r).value, [[1, 0, 2]]),
    "discrete_chi_square": (w.discrete_chi_square, [[0, 1], [0, 1]]),
    "kl_divergence": (w.kl_divergence, [[0, 1], [0, 1]]),
    "dual_divergence": (w.dual_divergence, [[0, 1], [1, 3]]),
    "average_margin": (lambda m: w.average_margin(m, jnp.ones(4), 1.0)[1], [MARGINS]),
    "normalized_margin": (lambda m: w.normalized_margin(m, jnp.ones(4), order=1), [MARGINS]),
    "smoothed_margin": (lambda m: w.smoothed_margin(m, jnp.ones(4), order=1), [MARGINS]),
    "log_risk": (w.log_risk, [MARGINS, [1, 0, 2]]),
    "effective_dual": (w.effective_dual, [MARGINS, [1, 0, 2]]),
    "angle_between": (w.angle_between, [[1, 2], [2, 1]]),
    "cosine_similarity": (w.cosine_similarity, [[1, 2], [2, 1]]),
    "direction_distance": (w.direction_distance, [[1, 2], [2, 1]]),
    "parameter_norm": (w.parameter_norm, [[1, 2]]),
    "norm_growth_rate": (w.norm_growth_rate, [TIMES, [1, 3, 4, 7]]),
    "lambert_w": (lambert_w, [[0, 1, 2]]),
    "logistic": (lambda z: losses.logistic(z, jnp.array([0, 1, 1])), [MARGINS]),
}


def weights_of(scheme):
    """The scheme's weights of three examples, one of each class."""
    signals = w.Signals(jnp.ones(3), labels=LABELS, indices=LABELS)
    return scheme.update(jnp.ones(3), scheme.init(jax.random.key(0), {}), signals)[0]


@pytest.mark.parametrize("name", CALLS)
def test_integers_give_what_floats_give(name):
    function, arrays = CALLS[name]
    whole = [jnp.array(array) for array in arrays]
    expected = function(*(array.astype(float) for array in whole))
    assert jnp.issubdtype(expected.dtype, jnp.inexact)
    np.testing.assert_allclose(function(*whole), expected, rtol=1e-6, err_msg=name)
    if all(np.isin(array, (0, 1)).all() for array in arrays):
        booleans = function(*(array.astype(bool) for array in whole))
        np.testing.assert_allclose(booleans, expected, rtol=1e-6, err_msg=f"{name}, booleans")
