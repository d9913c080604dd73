"""Sample weighting for deep learning in JAX: weighting schemes as pairs of pure functions.

The one idea: a batch is a vector of losses and its Jacobian, linearized once; a scheme maps signals
to weights; weighted ERM is the pullback of the weights. Start with `make_train_step`, or use
`linearize_losses` and a scheme's `update` in a loop of your own.
"""

from weighting import gradient_norms, losses, metrics
from weighting.base import EmptyState, Signals, Weighting, chain, stateless, uniform
from weighting.class_based import inverse_class_frequency
from weighting.erm import LinearizedLosses, linearize_losses, masked_mean, weighted_risk
from weighting.lookahead import (
    fast_scores,
    lookahead_reweight,
    lookahead_weights,
    unrolled_scores,
)
from weighting.loss_based import focal, hard_mining, self_paced, top_losses
from weighting.low import low, low_kkt_residual, low_weights
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
from weighting.random_weights import random
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
    "linearize_losses",
    "masked_mean",
    "stateless",
    "weighted_risk",
    # schemes
    "focal",
    "hard_mining",
    "inverse_class_frequency",
    "lookahead_reweight",
    "low",
    "random",
    "self_paced",
    "top_losses",
    "uniform",
    # parts to chain
    "clip",
    "ema",
    "fade_in",
    "mix_with_uniform",
    "normalize_mean",
    "scheduled",
    "temper",
    "warm_up",
    # plain functions
    "fast_scores",
    "lookahead_weights",
    "low_kkt_residual",
    "low_weights",
    "unrolled_scores",
    # training
    "Batch",
    "ModelOutput",
    "StepMetrics",
    "TrainState",
    "init_train_state",
    "make_train_step",
    "without_state",
    # modules
    "gradient_norms",
    "losses",
    "metrics",
]
