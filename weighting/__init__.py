"""Sample weighting for deep learning in JAX: weighting schemes as pairs of pure functions.

The one idea: a batch is a vector of losses and its Jacobian, linearized once; a scheme maps signals
to weights; weighted ERM is the pullback of the weights. Start with `make_train_step`, or use
`linearize_losses` and a scheme's `update` in a loop of your own. `docs/methods.md` lists every
method with its paper and what it needs.

Every public name is here; they come from

- `train_step`, `base`, `linearize`, `layerwise`, `gradient_norms` and `metrics`: the core;
- `losses`: per-example losses (a namespace, as some share their name with a scheme);
- `schemes`: a file a method, or a family that shares a formula; `schemes.parts` to chain behind;
- `difficulty`: how hard an example is;
- `training`: ways of training that need more than a weight per example;
- `shift`: weights that undo a shift between the training and the target distribution;
- `implicit_bias`: what weights do to the direction and the margin of a classifier.
"""

from weighting import losses
from weighting.base import (
    EmptyState,
    Signals,
    Weighting,
    chain,
    guarded,
    mean_one,
    stateless,
    uniform,
)
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
    NetworkMean,
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
from weighting.implicit_bias.flow import Flow, gradient_flow
from weighting.implicit_bias.long_horizon import (
    Trajectory,
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
    split_parameters,
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
    margins,
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
from weighting.schemes.loss_based import focal, hard_mining, self_paced, small_losses, top_losses
from weighting.schemes.loss_rank import loss_rank, loss_rank_probabilities
from weighting.schemes.low import low, low_kkt_residual, low_weights
from weighting.schemes.margin_based import (
    exponential_margin,
    inverse_margin,
    inverse_margin_weights,
    kl_matched_weights,
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
from weighting.schemes.meta.lookahead import fast_scores, lookahead, lookahead_weights
from weighting.schemes.meta.lookahead_unrolled import (
    lookahead_unrolled,
    lookahead_unrolled_weights,
    unrolled_scores,
)
from weighting.schemes.meta.meta_weight_net import (
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
    choose_centers,
    class_prior_ratio,
    classifier_ratio,
    kliep_ratio,
    median_bandwidth,
    ulsif_ratio,
    ulsif_score,
)
from weighting.shift.label_shift import (
    bbse_class_weights,
    em_class_weights,
    em_target_priors,
    prior_corrected_logits,
)
from weighting.shift.propensity import inverse_propensity, inverse_propensity_weights
from weighting.train_step import (
    ApplyFn,
    Batch,
    ModelOutput,
    StepMetrics,
    TrainState,
    init_train_state,
    labels_mask,
    make_train_step,
    without_padding,
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
    SelectiveStepMetrics,
    Selector,
    importance_selector,
    init_selective_state,
    make_selective_train_step,
    top_selector,
)

__version__ = "0.1.0"

__all__ = [
    # a training step from its parts
    "Batch",
    "ModelOutput",
    "ApplyFn",
    "without_state",
    "TrainState",
    "init_train_state",
    "StepMetrics",
    "make_train_step",
    "labels_mask",
    "without_padding",
    # the losses: a namespace, as some share their name with a scheme
    "losses",
    # what a scheme is, and how schemes compose
    "Weighting",
    "Signals",
    "EmptyState",
    "stateless",
    "guarded",
    "uniform",
    "chain",
    "mean_one",
    # schemes that read losses
    "focal",
    "self_paced",
    "hard_mining",
    "top_losses",
    "small_losses",
    "superloss",
    "gradient_harmonized",
    "rho_loss",
    # the worst reweighting within a budget
    "tilted",
    "cvar",
    "chi_square_dro",
    "group_dro",
    # curricula
    "curriculum",
    "paced_self_paced",
    "mentornet_curriculum",
    # schemes that read classes
    "inverse_class_frequency",
    "effective_number",
    "class_power",
    "class_weights",
    "oracle_noise",
    # schemes that read margins
    "exponential_margin",
    "inverse_margin",
    # schemes that read gradients
    "low",
    "batch_alignment",
    "importance_sampling",
    # schemes that learn from a small clean set
    "lookahead",
    "lookahead_unrolled",
    "gradient_alignment",
    "meta_weight_net",
    "cmw_net",
    # schemes that are trained, with the network or before it
    "joint_weighting",
    "mentornet",
    # schemes that remember each example
    "active_bias",
    "loss_rank",
    "infobatch",
    # weights known beforehand, and the baseline that knows nothing
    "per_example",
    "random",
    # parts to chain behind a scheme
    "normalize_mean",
    "clip",
    "temper",
    "mix_with_uniform",
    "ema",
    "fade_in",
    "warm_up",
    "deferred",
    "scheduled",
    "record_history",
    # weights as plain functions of arrays, of a batch or a training set
    "low_weights",
    "lookahead_weights",
    "lookahead_unrolled_weights",
    "greedy_alignment_weights",
    "cvar_weights",
    "inverse_margin_weights",
    "kl_matched_weights",
    "small_margin_weights",
    "difficulty_weights",
    "known_examples_weights",
    "jtt_weights",
    "adaboost_weights",
    "loss_rank_probabilities",
    "clean_label_probability",
    # for a training loop of your own: the losses of a batch and their Jacobian
    "LinearizedLosses",
    "linearize_losses",
    "linearize_layers",
    "masked_mean",
    "weighted_risk",
    # gradients of single examples
    "logit_gradients",
    "logit_gradient_norms",
    "last_layer_gradient_norms",
    "per_example_gradient_norms",
    "jacobian_row_norms",
    # measures of a classifier and of weights
    "predict",
    "margins",
    "accuracy",
    "per_class_accuracy",
    "balanced_accuracy",
    "confusion_matrix",
    "mean_f1",
    "area_under_roc",
    "mean_auc",
    "effective_sample_size",
    "corruption_auc",
    # how difficult an example is: for one network
    "error_probability",
    "negative_margin",
    "class_rarity",
    "logit_gradient_norm",
    "last_layer_gradient_norm",
    "gradient_norm",
    "prediction_depth",
    "standardize_within_class",
    # for several networks, or one along its training
    "NetworkMean",
    "mean_over_networks",
    "variance_over_networks",
    "el2n",
    "grand",
    "forgetting_events",
    "negative_average_margin",
    "margin_variance",
    "gradient_variation",
    "variance_of_gradients",
    "input_gradients",
    "predictive_variance",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "BiasVariance",
    "squared_bias_variance",
    "cross_entropy_bias_variance",
    "History",
    "read_history",
    # over a training set, by cross-validation if need be
    "score_dataset",
    "score_networks",
    "score_each_network",
    "kfold_assignments",
    "cross_validated_predictions",
    "generalization_error",
    # ways of training beside a weight per example
    "ClassGroups",
    "group_by_class",
    "class_balanced_indices",
    "class_sampling_probabilities",
    "example_sampling_probabilities",
    "weighted_indices",
    "Selector",
    "SelectiveStepMetrics",
    "top_selector",
    "importance_selector",
    "init_selective_state",
    "make_selective_train_step",
    "init_co_teaching_state",
    "make_co_teaching_step",
    "identity_transition",
    "confusion_transition",
    "with_noise_layer",
    # on several devices
    "data_mesh",
    "replicate",
    "shard_batch",
    "pad_batch",
    "parallel_step",
    # when the training distribution is not the target's
    "class_prior_ratio",
    "classifier_ratio",
    "kliep_ratio",
    "ulsif_ratio",
    "ulsif_score",
    "choose_centers",
    "median_bandwidth",
    "bbse_class_weights",
    "prior_corrected_logits",
    "em_class_weights",
    "em_target_priors",
    "inverse_propensity",
    "inverse_propensity_weights",
    # implicit bias: where gradient descent goes
    "Trajectory",
    "log_spaced_steps",
    "run_descent",
    "run_linear",
    "Flow",
    "gradient_flow",
    "angle_between",
    "cosine_similarity",
    "direction_distance",
    "parameter_norm",
    "layer_norms",
    "norm_growth_rate",
    "Sensitivity",
    "weighting_sensitivity",
    # its margins
    "normalized_margin",
    "smoothed_margin",
    "AverageMargin",
    "average_margin",
    "ClassMargins",
    "class_margins",
    "Homogeneity",
    "homogeneity_order",
    "homogeneity_gap",
    # its dual
    "log_losses",
    "log_slopes",
    "log_risk",
    "effective_dual",
    "kl_divergence",
    "dual_divergence",
    "DualityGap",
    "duality_gap",
    # the limit: maximal margins and separable parts
    "Certificate",
    "MaxMargin",
    "max_margin",
    "KernelMaxMargin",
    "kernel_max_margin",
    "MulticlassMaxMargin",
    "multiclass_max_margin",
    "SeparablePart",
    "separable_part",
    "split_parameters",
    "FiniteSolution",
    "finite_solution",
    # bounds on the error
    "MarginBound",
    "weighted_margin_bound",
    "ensemble_margin_bound",
    "margin_error",
    "Estimate",
    "weighted_distribution_ratio",
    "chi_square_divergence",
    "discrete_chi_square",
    "gaussian_chi_square",
    "rademacher_bound",
    "linear_rademacher",
    "finite_class_rademacher",
    "relu_rademacher",
    # what schemes are made of
    "fast_scores",
    "unrolled_scores",
    "meta_gradient",
    "cluster_class_sizes",
    "low_kkt_residual",
    "speedup_threshold",
    "co_teaching_rate",
    "root_pace",
    "Mentor",
    "init_mentor",
    "sample_mentor_features",
    "mentor_targets",
    "train_mentor",
]
