"""Every hyperparameter accepts its range, closed ends included, and refuses the rest."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting as w
from weighting import losses
from weighting.schemes import curricula

ONES, LABELS, LOGITS = jnp.ones(3), jnp.array([0, 1, 2]), jnp.eye(3)
COUNTS = np.array([3, 1, 2])
POINTS = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
FEATURES = w.sample_mentor_features(jax.random.key(0), 3, num_classes=3)
LEARNED = w.init_mentor(jax.random.key(0), num_classes=3)


def of_loss(loss_fn, name, **others):
    return lambda v: loss_fn(LOGITS, LABELS, **{name: v}, **others)


def bound(**changes):
    settings = {"depth": 2, "input_bound": 1.0, "delta": 0.1, "gamma": 0.5}
    return w.weighted_margin_bound(ONES, ONES, **settings | changes)


def sensitivity(**changes):
    settings = {"learning_rate": 0.1, "num_steps": 1.0, "num_iterations": 1}
    labels = jnp.array([1, 1, -1])
    return w.weighting_sensitivity(
        POINTS, labels, ONES, ONES, losses.logistic, **settings | changes
    )


def descent(**changes):
    return w.run_descent(lambda p: POINTS @ p, jnp.ones(2), num_steps=1, **changes)


def selective_step(num_selected):
    return w.make_selective_train_step(
        None, losses.cross_entropy, w.importance_selector(), optax.sgd(0.1), num_selected
    )


# function and parameter -> its range, and the call
CALLS = {
    "bbse_class_weights regularization": (
        "[0, inf]",
        lambda v: w.bbse_class_weights(LABELS, LABELS, LABELS, 3, regularization=v),
    ),
    "inverse_propensity_weights floor": (
        "[0, 1]",
        lambda v: w.inverse_propensity_weights(ONES, floor=v),
    ),
    "classifier_ratio clip": ("(0, inf]", lambda v: w.classifier_ratio(POINTS, POINTS, clip=v)),
    "ulsif_ratio clip": (
        "(0, inf]",
        lambda v: w.ulsif_ratio(POINTS, POINTS, POINTS, bandwidth=1.0, regularization=1.0, clip=v),
    ),
    "class_sampling_probabilities power": (
        "(-inf, inf)",
        lambda v: w.class_sampling_probabilities(COUNTS, v),
    ),
    "importance_selector threshold": ("[-inf, inf]", lambda v: w.importance_selector(threshold=v)),
    "importance_selector decay": ("[0, 1)", lambda v: w.importance_selector(decay=v)),
    "make_selective_train_step num_selected": ("[1, inf]", selective_step),
    "losses.focal gamma": ("[0, inf]", of_loss(losses.focal, "gamma")),
    "vector_scaling gamma": (
        "[0, inf]",
        of_loss(losses.vector_scaling, "gamma", class_counts=COUNTS),
    ),
    "vector_scaling tau": ("[0, inf]", of_loss(losses.vector_scaling, "tau", class_counts=COUNTS)),
    "ldam max_margin": ("[0, inf]", of_loss(losses.ldam, "max_margin", class_counts=COUNTS)),
    "generalized_cross_entropy q": ("[0, 1]", of_loss(losses.generalized_cross_entropy, "q")),
    "truncated_generalized_cross_entropy q": (
        "[0, 1]",
        of_loss(losses.truncated_generalized_cross_entropy, "q"),
    ),
    "truncated_generalized_cross_entropy threshold": (
        "[0, 1)",
        of_loss(losses.truncated_generalized_cross_entropy, "threshold"),
    ),
    "truncated_cross_entropy cutoff": (
        "(0, inf]",
        of_loss(losses.truncated_cross_entropy, "cutoff"),
    ),
    "polynomial_tailed beta": ("(-inf, inf)", of_loss(losses.polynomial_tailed, "beta")),
    "smoothed_cross_entropy smoothing": (
        "[0, 1]",
        of_loss(losses.smoothed_cross_entropy, "smoothing"),
    ),
    "bootstrap_soft beta": ("[0, 1]", of_loss(losses.bootstrap_soft, "beta")),
    "bootstrap_hard beta": ("[0, 1]", of_loss(losses.bootstrap_hard, "beta")),
    "distillation alpha": (
        "[0, 1]",
        of_loss(losses.distillation, "alpha", teacher_logits=LOGITS),
    ),
    "log_spaced_steps num_steps": ("[0, 2147483647]", w.log_spaced_steps),
    "run_descent decay": ("[0, inf]", lambda v: descent(decay=v)),
    "run_descent momentum": ("[0, 1)", lambda v: descent(momentum=v)),
    "weighted_margin_bound depth": ("[1, inf]", lambda v: bound(depth=v)),
    "weighted_margin_bound delta": ("(0, 1)", lambda v: bound(delta=v)),
    "rademacher_bound depth": ("[1, inf]", lambda v: w.rademacher_bound(LOGITS, ONES, depth=v)),
    "linear_rademacher num_draws": (
        "[2, inf]",
        lambda v: w.linear_rademacher(jax.random.key(0), LOGITS, ONES, num_draws=v),
    ),
    "weighting_sensitivity num_steps": ("(0, inf]", lambda v: sensitivity(num_steps=v)),
    "weighting_sensitivity regularization": ("[0, inf]", lambda v: sensitivity(regularization=v)),
    "known_examples_weights value": ("[0, inf]", lambda v: w.known_examples_weights([1, 0], v)),
    "jtt_weights upweight": ("[1, inf]", lambda v: w.jtt_weights([1, 0], v)),
    "clip low": ("[0, inf]", lambda v: w.clip(v, 5.0)),
    "clip high": ("(0, inf]", lambda v: w.clip(0.0, v)),
    "temper power": ("[0, inf]", w.temper),
    "mix_with_uniform fraction": ("[0, 1]", w.mix_with_uniform),
    "ema decay": ("[0, 1)", lambda v: w.ema(v, 3)),
    "deferred start": ("[0, inf]", w.deferred),
    "gradient_harmonized decay": ("[0, 1)", lambda v: w.gradient_harmonized(decay=v)),
    "root_pace initial_fraction": ("(0, 1]", lambda v: curricula.root_pace(9, v)),
    "co_teaching_rate noise_rate": ("[0, 1)", lambda v: curricula.co_teaching_rate(v, 9)),
    "mentornet_curriculum quantile": ("[0, 1]", w.mentornet_curriculum),
    "mentornet_curriculum ramp": ("[0, inf)", lambda v: w.mentornet_curriculum(ramp=v)),
    "mentornet_curriculum decay": ("[0, 1)", lambda v: w.mentornet_curriculum(decay=v)),
    "paced_self_paced growth": ("[1, inf)", lambda v: w.paced_self_paced(9, v)),
    "paced_self_paced initial_quantile": (
        "[0, 1]",
        lambda v: w.paced_self_paced(9, initial_quantile=v),
    ),
    "infobatch prune": ("[0, 1)", lambda v: w.infobatch(3, 9, prune=v)),
    "infobatch anneal": ("[0, 1]", lambda v: w.infobatch(3, 9, anneal=v)),
    "focal gamma": ("[0, inf]", w.focal),
    "self_paced threshold": ("(0, inf]", w.self_paced),
    "top_losses fraction": ("(0, 1]", w.top_losses),
    "small_losses keep_fraction": ("(0, 1]", w.small_losses),
    "importance_sampling threshold": (
        "[-inf, inf]",
        lambda v: w.importance_sampling(2, threshold=v),
    ),
    "importance_sampling decay": ("[0, 1)", lambda v: w.importance_sampling(2, decay=v)),
    "loss_rank_probabilities pressure": ("[1, inf)", lambda v: w.loss_rank_probabilities(ONES, v)),
    "loss_rank pressure": ("[1, inf)", lambda v: w.loss_rank(3, v)),
    "difficulty_weights strength": (
        "[-inf, inf]",
        lambda v: w.difficulty_weights(np.arange(3.0), strength=v),
    ),
    "joint_weighting low": ("[0, inf]", lambda v: w.joint_weighting(3, low=v, high=9.0)),
    "joint_weighting high": ("[1, inf)", lambda v: w.joint_weighting(3, low=1.0, high=v)),
    "joint_weighting, traced low, high": (
        "[0, inf)",
        lambda v: jax.eval_shape(lambda low: (w.joint_weighting(3, low=low, high=v), 0)[1], 1.0),
    ),
    "superloss decay": ("[0, 1)", lambda v: w.superloss(decay=v)),
    "superloss threshold": ("[-inf, inf]", lambda v: w.superloss(threshold=v)),
    "cvar_weights alpha": ("(0, 1]", lambda v: w.cvar_weights(ONES, v)),
    "cvar alpha": ("(0, 1]", w.cvar),
    "tilted tilt": ("(-inf, inf)", w.tilted),
    "group_dro step_size": ("[0, inf)", lambda v: w.group_dro(3, v)),
    "group_dro adjustment": (
        "[0, inf)",
        lambda v: w.group_dro(3, group_counts=COUNTS, adjustment=v),
    ),
    "rho_loss fraction": ("(0, 1]", lambda v: w.rho_loss(np.ones(3), v)),
    "effective_number beta": ("[0, 1]", lambda v: w.effective_number(COUNTS, v)),
    "class_power rho": ("[0, inf)", lambda v: w.class_power(COUNTS, v)),
    "mentor_targets ramp": ("[0, inf)", lambda v: w.mentor_targets(FEATURES, v)),
    "mentornet quantile": ("[0, 1]", lambda v: w.mentornet(LEARNED, 3, 9, quantile=v)),
    "mentornet decay": ("[0, 1)", lambda v: w.mentornet(LEARNED, 3, 9, decay=v)),
    "mentornet burn_in": ("[0, 1]", lambda v: w.mentornet(LEARNED, 3, 9, burn_in=v)),
    "mentornet burn_in_dropout": (
        "[0, 1)",
        lambda v: w.mentornet(LEARNED, 3, 9, burn_in_dropout=v),
    ),
    "greedy_alignment_weights step_size": (
        "[0, inf]",
        lambda v: w.greedy_alignment_weights(ONES, LOGITS, 2, step_size=v),
    ),
    "gradient_alignment fraction": ("(0, 1]", w.gradient_alignment),
    "gradient_alignment learning_rate": (
        "[0, inf]",
        lambda v: w.gradient_alignment(learning_rate=v),
    ),
    "inverse_margin_weights floor_fraction": (
        "(0, 1]",
        lambda v: w.inverse_margin_weights(ONES, floor_fraction=v),
    ),
    "inverse_margin_weights bound": (
        "[1, inf]",
        lambda v: w.inverse_margin_weights(ONES, bound=v),
    ),
    "kl_matched_weights floor": ("[0, 1]", lambda v: w.kl_matched_weights(ONES / 3, v)),
    "small_margin_weights quantile": ("[0, 1]", lambda v: w.small_margin_weights(ONES, v)),
    "exponential_margin bound": ("[1, inf]", w.exponential_margin),
    "inverse_margin bound": ("[1, inf)", w.inverse_margin),
    "record_history decay": ("[0, 1)", lambda v: w.record_history(3, v)),
    "predictive_variance inverse_precision": (
        "[0, inf]",
        lambda v: w.predictive_variance(LOGITS, inverse_precision=v),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_range_is_what_is_accepted(name):
    interval, call = CALLS[name]
    low, high = map(float, interval[1:-1].split(","))
    message = name.split()[-1] + " must lie in"
    inside = [x for x in ((low + high) / 2, low + 1, high - 1) if low < x < high] or [0.5]
    ends = [(low, interval[0] == "["), (high, interval[-1] == "]")]
    accepted = inside + [end for end, is_in in ends if is_in and math.isfinite(end)]
    outside = [x for x in (low - 0.01, high + 0.01) if math.isfinite(x)]
    for value in (math.nan, *outside, *(end for end, is_in in ends if not is_in)):
        with pytest.raises(ValueError, match=message):
            call(value)
    for value in accepted:
        value = int(value) if value.is_integer() else value
        jax.eval_shape(lambda: (call(value), 0)[1])  # noqa: B023, called at once
