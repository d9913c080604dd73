"""Records of schemes that weight by the current network's margin."""

import weighting
from experiments.methods.records import SchemeRecord
from experiments.tools.grammar import Parameter

RECORDS = (
    SchemeRecord(
        weighting.exponential_margin,
        parameters=(Parameter("bound", 20.0, tried=(5.0, 20.0)),),
        family="margin",
        source="xu2021 Sec. 2, zhou2022 Prop. 5",
        needs=("logits", "labels"),
        scale="mean one",
        suspect="high",
        summary="exp(-margin), the exponential loss's dual weights",
    ),
    SchemeRecord(
        weighting.inverse_margin,
        parameters=(Parameter("bound", 20.0, tried=(5.0, 20.0)),),
        family="margin",
        source="zhou2022 4.1",
        needs=("logits", "labels"),
        scale="mean one",
        suspect="high",
        summary="1 / margin of the current network, bounded",
    ),
)
