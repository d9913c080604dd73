"""Records of schemes that bound what a loss may weigh, or take the worst case over losses."""

import weighting
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Option, Parameter

RECORDS = (
    SchemeRecord(
        weighting.superloss,
        parameters=(Parameter("regularization", 1.0, tried=(0.25, 1.0)),),
        family="loss",
        source="Castells 2020",
        needs=("losses",),
        scale="mean one",
        suspect="low",
        summary="closed-form confidence by the Lambert W function",
    ),
    SchemeRecord(
        weighting.gradient_harmonized,
        build=lambda context, num_bins, **settings: weighting.gradient_harmonized(
            num_bins, **settings
        ),
        parameters=(
            Parameter("num_bins", 30, is_count=True),
            Parameter("decay", 0.75, tried=(0.5, 0.75)),
        ),
        options=(Option("empty_bins", ("decay", "keep")),),
        family="loss",
        source="Li 2019 (GHM-C)",
        needs=("logits", "labels", "history"),
        scale="mean one",
        suspect=None,
        from_authors="`momentum` is `decay`, `bins` is `num_bins`; the code moves the averages "
        "of occupied bins only, `empty_bins=keep`, and does not correct them for their start at "
        "zero",
        summary="inverse density of the gradient norm",
    ),
    SchemeRecord(
        weighting.cvar,
        parameters=(Parameter("alpha", 0.5, tried=(0.2, 0.5)),),
        family="robust",
        source="Rockafellar 2000",
        needs=("losses",),
        scale="mean one",
        suspect="high",
        summary="worst case over weights up to 1 / alpha",
    ),
    SchemeRecord(
        weighting.tilted,
        parameters=(Parameter("tilt", 1.0, tried=(-1.0, 1.0)),),
        family="robust",
        source="Li 2021 (TERM)",
        needs=("losses",),
        scale="mean one",
        suspect=lambda tilt: tilt,
        summary="exp(t loss): robust in KL divergence; negative t trusts small losses",
    ),
    SchemeRecord(
        weighting.chi_square_dro,
        parameters=(Parameter("regularization", 1.0, tried=(0.3, 1.0)),),
        family="robust",
        source="Namkoong 2017",
        needs=("losses",),
        scale="mean one",
        suspect="high",
        from_authors="fast-dro's chi-square has a factor 1/2: its penalty `reg` is "
        "`regularization` = reg / 2, and its ball of `size` rho is the ball of 2 rho in the "
        "docstring",
        summary="robust in chi-square divergence: LOW's program on losses",
    ),
)
