"""Sample weighting for deep learning in JAX: weighting schemes as pairs of pure functions.

The one idea: a batch is a vector of losses and its Jacobian, linearized once; a scheme maps signals
to weights; weighted ERM is the pullback of the weights. Start with `make_train_step`, or use
`linearize_losses` and a scheme's `update` in a loop of your own. `docs/methods.md` lists every
method with its paper and what it needs. Losses are in the namespace `losses`.
"""

from weighting import losses
from weighting.base import EmptyState, Signals, Weighting, chain, stateless, uniform
from weighting.difficulty.bias_variance import (
    BiasVariance,
    cross_entropy_bias_variance,
    squared_bias_variance,
)
from weighting.difficulty.cross_validation import (
    cross_validated_predictions,
    generalization_error,
    kfold_assignments,
)
from weighting.difficulty.history import History, read_history, record_history
from weighting.difficulty.one_network import (
    class_rarity,
    error_probability,
    gradient_norm,
    last_layer_gradient_norm,
    logit_gradient_norm,
    negative_margin,
    prediction_depth,
    standardize_within_class,
)
from weighting.difficulty.over_a_dataset import score_dataset, score_each_network, score_networks
from weighting.difficulty.several_networks import (
    el2n,
    expected_entropy,
    forgetting_events,
    gradient_variation,
    grand,
    input_gradients,
    margin_variance,
    mean_over_networks,
    mutual_information,
    negative_average_margin,
    predictive_entropy,
    predictive_variance,
    variance_of_gradients,
    variance_over_networks,
)
from weighting.gradient_norms import (
    jacobian_row_norms,
    last_layer_gradient_norms,
    logit_gradient_norms,
    logit_gradients,
    per_example_gradient_norms,
)
from weighting.implicit_bias.bounds import (
    Estimate,
    MarginBound,
    chi_square_divergence,
    discrete_chi_square,
    ensemble_margin_bound,
    finite_class_rademacher,
    gaussian_chi_square,
    linear_rademacher,
    margin_error,
    rademacher_bound,
    relu_rademacher,
    weighted_distribution_ratio,
    weighted_margin_bound,
)
from weighting.implicit_bias.diagnostics import (
    AverageMargin,
    ClassMargins,
    DualityGap,
    Homogeneity,
    angle_between,
    average_margin,
    class_margins,
    cosine_similarity,
    direction_distance,
    dual_divergence,
    duality_gap,
    effective_dual,
    homogeneity_gap,
    homogeneity_order,
    kl_divergence,
    layer_norms,
    log_losses,
    log_risk,
    log_slopes,
    norm_growth_rate,
    normalized_margin,
    parameter_norm,
    smoothed_margin,
)
from weighting.implicit_bias.long_horizon import (
    Flow,
    Trajectory,
    gradient_flow,
    log_spaced_steps,
    run_descent,
    run_linear,
)
from weighting.implicit_bias.max_margin import (
    Certificate,
    KernelMaxMargin,
    MaxMargin,
    kernel_max_margin,
    max_margin,
)
from weighting.implicit_bias.multiclass_margin import MulticlassMaxMargin, multiclass_max_margin
from weighting.implicit_bias.sensitivity import Sensitivity, weighting_sensitivity
from weighting.implicit_bias.separable_part import (
    FiniteSolution,
    SeparablePart,
    finite_solution,
    separable_part,
)
from weighting.layerwise import linearize_layers
from weighting.linearize import LinearizedLosses, linearize_losses, masked_mean, weighted_risk
from weighting.metrics import (
    accuracy,
    area_under_roc,
    balanced_accuracy,
    confusion_matrix,
    corruption_auc,
    effective_sample_size,
    mean_auc,
    mean_f1,
    per_class_accuracy,
    predict,
)
from weighting.schemes.active_bias import active_bias
from weighting.schemes.adaboost import adaboost_weights
from weighting.schemes.alignment import (
    batch_alignment,
    gradient_alignment,
    greedy_alignment_weights,
)
from weighting.schemes.class_based import (
    class_power,
    class_weights,
    clean_label_probability,
    effective_number,
    inverse_class_frequency,
    oracle_noise,
)
from weighting.schemes.curricula import (
    co_teaching_rate,
    curriculum,
    mentornet_curriculum,
    paced_self_paced,
    root_pace,
)
from weighting.schemes.difficulty_weights import difficulty_weights
from weighting.schemes.gradient_harmonized import gradient_harmonized
from weighting.schemes.importance_sampling import importance_sampling, speedup_threshold
from weighting.schemes.infobatch import infobatch
from weighting.schemes.joint_weighting import joint_weighting
from weighting.schemes.lookahead import fast_scores, lookahead, lookahead_weights
from weighting.schemes.lookahead_unrolled import (
    lookahead_unrolled,
    lookahead_unrolled_weights,
    unrolled_scores,
)
from weighting.schemes.loss_based import focal, hard_mining, self_paced, small_losses, top_losses
from weighting.schemes.loss_rank import loss_rank, loss_rank_probabilities
from weighting.schemes.low import low, low_kkt_residual, low_weights
from weighting.schemes.margin_based import (
    exponential_margin,
    inverse_margin,
    inverse_margin_weights,
    kl_matched_weights,
    margins,
    small_margin_weights,
)
from weighting.schemes.mentornet import (
    Mentor,
    init_mentor,
    mentor_targets,
    mentornet,
    sample_mentor_features,
    train_mentor,
)
from weighting.schemes.meta_weight_net import (
    cluster_class_sizes,
    cmw_net,
    meta_gradient,
    meta_weight_net,
)
from weighting.schemes.parts import (
    clip,
    deferred,
    ema,
    fade_in,
    mix_with_uniform,
    normalize_mean,
    scheduled,
    temper,
    warm_up,
)
from weighting.schemes.per_example import jtt_weights, known_examples_weights, per_example
from weighting.schemes.random_weights import random
from weighting.schemes.rho_loss import rho_loss
from weighting.schemes.robust import chi_square_dro, cvar, cvar_weights, group_dro, tilted
from weighting.schemes.superloss import superloss
from weighting.shift.density_ratio import (
    class_prior_ratio,
    classifier_ratio,
    kliep_ratio,
    ulsif_ratio,
)
from weighting.shift.label_shift import bbse_class_weights, em_class_weights, em_target_priors
from weighting.shift.propensity import inverse_propensity, inverse_propensity_weights
from weighting.train_step import (
    Batch,
    ModelOutput,
    StepMetrics,
    TrainState,
    init_train_state,
    make_train_step,
    without_state,
)
from weighting.training.co_teaching import init_co_teaching_state, make_co_teaching_step
from weighting.training.noise_layer import (
    confusion_transition,
    identity_transition,
    with_noise_layer,
)
from weighting.training.sampling import (
    ClassGroups,
    class_balanced_indices,
    class_sampling_probabilities,
    example_sampling_probabilities,
    group_by_class,
    weighted_indices,
)
from weighting.training.scale_out import data_mesh, pad_batch, parallel_step, replicate, shard_batch
from weighting.training.selective_step import (
    Selector,
    importance_selector,
    init_selective_state,
    make_selective_train_step,
    top_selector,
)

__all__ = [
    # the losses: a namespace, as some share their name with a scheme
    "losses",
    # the core: signals, losses and their Jacobian, the train step
    "Batch",
    "EmptyState",
    "LinearizedLosses",
    "ModelOutput",
    "Signals",
    "StepMetrics",
    "TrainState",
    "Weighting",
    "accuracy",
    "area_under_roc",
    "balanced_accuracy",
    "chain",
    "confusion_matrix",
    "corruption_auc",
    "effective_sample_size",
    "init_train_state",
    "jacobian_row_norms",
    "last_layer_gradient_norms",
    "linearize_layers",
    "linearize_losses",
    "logit_gradient_norms",
    "logit_gradients",
    "make_train_step",
    "masked_mean",
    "mean_auc",
    "mean_f1",
    "per_class_accuracy",
    "per_example_gradient_norms",
    "predict",
    "stateless",
    "uniform",
    "weighted_risk",
    "without_state",
    # weighting schemes
    "active_bias",
    "batch_alignment",
    "chi_square_dro",
    "cmw_net",
    "class_weights",
    "curriculum",
    "cvar",
    "effective_number",
    "exponential_margin",
    "focal",
    "class_power",
    "gradient_alignment",
    "gradient_harmonized",
    "group_dro",
    "hard_mining",
    "importance_sampling",
    "infobatch",
    "inverse_class_frequency",
    "inverse_margin",
    "joint_weighting",
    "lookahead",
    "lookahead_unrolled",
    "loss_rank",
    "low",
    "mentornet",
    "mentornet_curriculum",
    "meta_weight_net",
    "oracle_noise",
    "paced_self_paced",
    "per_example",
    "random",
    "rho_loss",
    "self_paced",
    "small_losses",
    "superloss",
    "tilted",
    "top_losses",
    # parts to chain behind a scheme
    "clip",
    "deferred",
    "ema",
    "fade_in",
    "mix_with_uniform",
    "normalize_mean",
    "scheduled",
    "temper",
    "warm_up",
    # weights of a whole batch or training set
    "adaboost_weights",
    "clean_label_probability",
    "cvar_weights",
    "difficulty_weights",
    "greedy_alignment_weights",
    "inverse_margin_weights",
    "jtt_weights",
    "kl_matched_weights",
    "known_examples_weights",
    "lookahead_unrolled_weights",
    "lookahead_weights",
    "loss_rank_probabilities",
    "low_weights",
    "small_margin_weights",
    # what schemes are made of
    "Mentor",
    "cluster_class_sizes",
    "co_teaching_rate",
    "fast_scores",
    "init_mentor",
    "low_kkt_residual",
    "margins",
    "mentor_targets",
    "meta_gradient",
    "root_pace",
    "sample_mentor_features",
    "speedup_threshold",
    "train_mentor",
    "unrolled_scores",
    # how difficult an example is
    "BiasVariance",
    "History",
    "class_rarity",
    "cross_entropy_bias_variance",
    "cross_validated_predictions",
    "el2n",
    "error_probability",
    "expected_entropy",
    "forgetting_events",
    "generalization_error",
    "gradient_norm",
    "gradient_variation",
    "grand",
    "input_gradients",
    "kfold_assignments",
    "last_layer_gradient_norm",
    "logit_gradient_norm",
    "margin_variance",
    "mean_over_networks",
    "mutual_information",
    "negative_average_margin",
    "negative_margin",
    "prediction_depth",
    "predictive_entropy",
    "predictive_variance",
    "read_history",
    "record_history",
    "score_dataset",
    "score_each_network",
    "score_networks",
    "squared_bias_variance",
    "standardize_within_class",
    "variance_of_gradients",
    "variance_over_networks",
    # implicit bias: direction and margin
    "AverageMargin",
    "Certificate",
    "ClassMargins",
    "DualityGap",
    "Estimate",
    "FiniteSolution",
    "Flow",
    "Homogeneity",
    "KernelMaxMargin",
    "MarginBound",
    "MaxMargin",
    "MulticlassMaxMargin",
    "Sensitivity",
    "SeparablePart",
    "Trajectory",
    "angle_between",
    "average_margin",
    "chi_square_divergence",
    "class_margins",
    "cosine_similarity",
    "direction_distance",
    "discrete_chi_square",
    "dual_divergence",
    "duality_gap",
    "effective_dual",
    "ensemble_margin_bound",
    "finite_class_rademacher",
    "finite_solution",
    "gaussian_chi_square",
    "gradient_flow",
    "homogeneity_gap",
    "homogeneity_order",
    "kernel_max_margin",
    "kl_divergence",
    "layer_norms",
    "linear_rademacher",
    "log_losses",
    "log_risk",
    "log_slopes",
    "log_spaced_steps",
    "margin_error",
    "max_margin",
    "multiclass_max_margin",
    "norm_growth_rate",
    "normalized_margin",
    "parameter_norm",
    "rademacher_bound",
    "relu_rademacher",
    "run_descent",
    "run_linear",
    "separable_part",
    "smoothed_margin",
    "weighted_distribution_ratio",
    "weighted_margin_bound",
    "weighting_sensitivity",
    # distribution shift
    "bbse_class_weights",
    "class_prior_ratio",
    "classifier_ratio",
    "em_class_weights",
    "em_target_priors",
    "inverse_propensity",
    "inverse_propensity_weights",
    "kliep_ratio",
    "ulsif_ratio",
    # ways of training
    "ClassGroups",
    "Selector",
    "class_balanced_indices",
    "class_sampling_probabilities",
    "confusion_transition",
    "data_mesh",
    "example_sampling_probabilities",
    "group_by_class",
    "identity_transition",
    "importance_selector",
    "init_co_teaching_state",
    "init_selective_state",
    "make_co_teaching_step",
    "make_selective_train_step",
    "pad_batch",
    "parallel_step",
    "replicate",
    "shard_batch",
    "top_selector",
    "weighted_indices",
    "with_noise_layer",
]
