"""Records of schemes that weight by gradients of the examples."""

import weighting
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Option, Parameter

RECORDS = (
    SchemeRecord(
        weighting.low,
        parameters=(Parameter("regularization", 0.1, tried=(0.1, 1.0)),),
        options=(
            Option("solver", ("projection", "osqp")),
            Option("gradient", ("logits", "last_layer", "parameters")),
            Option("gradient_scale", ("example", "batch_mean")),
        ),
        family="gradient",
        source="santiago2021 Eqs. 8-9",
        needs=("logits", "labels"),
        scale="mean one",
        suspect="high",
        color="#0072B2",
        from_authors="`lamb` at batches of B is `regularization` = lamb B^2, as the code "
        "differentiates the mean of the batch; `gradient_scale=batch_mean` takes lamb as it is",
        summary="LOW: the weights that decrease the loss most",
    ),
    SchemeRecord(
        weighting.importance_sampling,
        build=lambda context, num_draws, threshold: weighting.importance_sampling(
            num_draws, threshold=threshold
        ),
        parameters=(
            Parameter("num_draws", 25, is_count=True),
            Parameter("threshold", 1.5, tried=(1.2, 1.5)),
        ),
        family="sampling",
        source="Katharopoulos 2018 Alg. 1",
        needs=("logits", "labels"),
        scale="one in expectation",
        suspect=None,
        summary="draws by gradient norm with unbiased weights, behind a variance gate",
    ),
    SchemeRecord(
        weighting.batch_alignment,
        parameters=(Parameter("regularization", 1.0, tried=(1.0, 10.0)),),
        family="selection",
        source="santiago2021 Eqs. 4-8 for a batch",
        needs=("jacobian",),
        scale="mean one",
        suspect=None,
        summary="LOW with cross terms: gradients that agree with the batch gain",
    ),
)
