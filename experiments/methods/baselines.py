"""Records of what every scheme is measured against."""

import weighting
from experiments.methods.records import SchemeRecord

RECORDS = (
    SchemeRecord(
        weighting.uniform,
        family="none",
        source="all four papers",
        scale="mean one",
        keeps_order=True,
        suspect=None,
        color="#333333",
        summary="equal weights: empirical risk minimization (ERM)",
    ),
    SchemeRecord(
        weighting.random,
        family="random",
        source="ren2018 Eq. 16",
        scale="mean one",
        suspect=None,
        color="#999999",
        summary="rectified Gaussian, fresh every step",
    ),
)
