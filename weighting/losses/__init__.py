"""Per-example losses: (logits, labels) -> [B], never reduced, hyperparameters by keyword.

Labels are integer classes; the loss of a label that is none of them is NaN. A class may be masked
by a logit of -inf, and then has no part in the loss; where its part cannot be left out, the loss is
infinite, and says so. Hyperparameters may be traced; concrete ones are checked. To train with
values of your own bind them: `functools.partial(losses.focal, gamma=3.0)`.
"""

from weighting.losses.basic import (
    binary_margins,
    cross_entropy,
    exponential,
    focal,
    log_label_probabilities,
    logistic,
    soft_margins,
)
from weighting.losses.corrected import (
    backward_corrected_cross_entropy,
    forward_corrected_cross_entropy,
)
from weighting.losses.heavy_tailed import polynomial_tailed
from weighting.losses.imbalance import (
    balanced_cross_entropy,
    class_dependent_temperatures,
    ldam,
    logit_adjusted,
    vector_scaling,
)
from weighting.losses.robust import (
    generalized_cross_entropy,
    truncated_cross_entropy,
    truncated_generalized_cross_entropy,
)
from weighting.losses.soft_targets import (
    bootstrap_hard,
    bootstrap_soft,
    distillation,
    smoothed_cross_entropy,
)

__all__ = [
    "backward_corrected_cross_entropy",
    "balanced_cross_entropy",
    "binary_margins",
    "bootstrap_hard",
    "bootstrap_soft",
    "class_dependent_temperatures",
    "cross_entropy",
    "distillation",
    "exponential",
    "focal",
    "forward_corrected_cross_entropy",
    "generalized_cross_entropy",
    "ldam",
    "log_label_probabilities",
    "logistic",
    "logit_adjusted",
    "polynomial_tailed",
    "smoothed_cross_entropy",
    "soft_margins",
    "truncated_cross_entropy",
    "truncated_generalized_cross_entropy",
    "vector_scaling",
]
