"""Sample weighting for deep learning in JAX: weighting schemes as pairs of pure functions.

The one idea: a batch is a vector of losses and its Jacobian, linearized once; a scheme maps signals
to weights; weighted ERM is the pullback of the weights. Start with `make_train_step`, or use
`linearize_losses` and a scheme's `update` in a loop of your own. `docs/methods.md` lists every
method with its paper and what it needs.
"""

from weighting import (
    bias_variance,
    boosting,
    bounds,
    cross_validation,
    dataset_scores,
    density_ratio,
    difficulty,
    ensemble_difficulty,
    gradient_norms,
    implicit_bias,
    label_shift,
    long_horizon,
    losses,
    metrics,
    noise_adaptation,
    sampling,
    scale_out,
)
from weighting.active_bias import active_bias
from weighting.alignment import batch_alignment, gradient_alignment, greedy_alignment_weights
from weighting.base import EmptyState, Signals, Weighting, chain, stateless, uniform
from weighting.class_based import (
    class_weights,
    clean_label_probability,
    effective_number,
    generalized_reweight,
    inverse_class_frequency,
    oracle_noise,
)
from weighting.co_teaching import init_co_teaching_state, make_co_teaching_step
from weighting.curricula import (
    co_teaching_rate,
    curriculum,
    mentornet_curriculum,
    paced_self_paced,
    root_pace,
)
from weighting.difficulty_weights import difficulty_weights
from weighting.erm import LinearizedLosses, linearize_losses, masked_mean, weighted_risk
from weighting.gradient_harmonized import gradient_harmonized
from weighting.history import History, read_history, record_history
from weighting.importance_sampling import importance_sampling, speedup_threshold
from weighting.joint_weighting import joint_weighting
from weighting.layerwise import linearize_layers
from weighting.lookahead import (
    fast_scores,
    lookahead_reweight,
    lookahead_weights,
    unrolled_scores,
)
from weighting.loss_based import focal, hard_mining, self_paced, small_losses, top_losses
from weighting.loss_rank import loss_rank_probabilities, loss_rank_selection
from weighting.low import low, low_kkt_residual, low_weights
from weighting.margin_based import (
    exponential_margin,
    inverse_margin,
    inverse_margin_weights,
    kl_matched_weights,
    margins,
    small_margin_weights,
)
from weighting.max_margin import kernel_max_margin, max_margin
from weighting.mentornet import (
    init_mentor,
    mentor_targets,
    mentornet,
    sample_mentor_features,
    train_mentor,
)
from weighting.meta_weight_net import (
    class_aware_weight_net,
    cluster_class_sizes,
    meta_gradient,
    meta_weight_net,
)
from weighting.multiclass_margin import multiclass_max_margin
from weighting.normalizers import (
    clip,
    ema,
    fade_in,
    mix_with_uniform,
    normalize_mean,
    scheduled,
    temper,
    warm_up,
)
from weighting.per_example import jtt_weights, known_examples_weights, per_example
from weighting.propensity import inverse_propensity, inverse_propensity_weights
from weighting.pruning import infobatch
from weighting.random_weights import random
from weighting.robust_optimization import chi_square_dro, cvar, cvar_weights, group_dro, tilted
from weighting.selection import rho_loss
from weighting.selective_step import (
    Selector,
    importance_selector,
    init_selective_state,
    make_selective_train_step,
    top_selector,
)
from weighting.sensitivity import weighting_sensitivity
from weighting.superloss import superloss
from weighting.train_step import (
    Batch,
    ModelOutput,
    StepMetrics,
    TrainState,
    init_train_state,
    make_train_step,
    without_state,
)

__all__ = [
    # the core
    "LinearizedLosses",
    "Signals",
    "Weighting",
    "EmptyState",
    "chain",
    "linearize_layers",
    "linearize_losses",
    "masked_mean",
    "stateless",
    "weighted_risk",
    # schemes
    "active_bias",
    "batch_alignment",
    "chi_square_dro",
    "class_aware_weight_net",
    "class_weights",
    "curriculum",
    "cvar",
    "effective_number",
    "exponential_margin",
    "focal",
    "generalized_reweight",
    "gradient_alignment",
    "gradient_harmonized",
    "group_dro",
    "hard_mining",
    "importance_sampling",
    "infobatch",
    "inverse_class_frequency",
    "inverse_margin",
    "inverse_propensity",
    "joint_weighting",
    "lookahead_reweight",
    "loss_rank_selection",
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
    "uniform",
    # parts to chain
    "clip",
    "ema",
    "fade_in",
    "mix_with_uniform",
    "normalize_mean",
    "record_history",
    "scheduled",
    "temper",
    "warm_up",
    # schedules
    "co_teaching_rate",
    "root_pace",
    # weights of a whole training set
    "clean_label_probability",
    "cvar_weights",
    "difficulty_weights",
    "greedy_alignment_weights",
    "inverse_margin_weights",
    "inverse_propensity_weights",
    "jtt_weights",
    "kl_matched_weights",
    "known_examples_weights",
    "loss_rank_probabilities",
    "low_weights",
    "small_margin_weights",
    # plain functions
    "History",
    "cluster_class_sizes",
    "fast_scores",
    "init_mentor",
    "kernel_max_margin",
    "lookahead_weights",
    "low_kkt_residual",
    "margins",
    "max_margin",
    "mentor_targets",
    "meta_gradient",
    "multiclass_max_margin",
    "read_history",
    "sample_mentor_features",
    "speedup_threshold",
    "train_mentor",
    "unrolled_scores",
    "weighting_sensitivity",
    # training
    "Batch",
    "ModelOutput",
    "Selector",
    "StepMetrics",
    "TrainState",
    "importance_selector",
    "init_co_teaching_state",
    "init_selective_state",
    "init_train_state",
    "make_co_teaching_step",
    "make_selective_train_step",
    "make_train_step",
    "top_selector",
    "without_state",
    # modules
    "bias_variance",
    "boosting",
    "bounds",
    "cross_validation",
    "dataset_scores",
    "density_ratio",
    "difficulty",
    "ensemble_difficulty",
    "gradient_norms",
    "implicit_bias",
    "label_shift",
    "long_horizon",
    "losses",
    "metrics",
    "noise_adaptation",
    "sampling",
    "scale_out",
]
