"""Records of the parts to chain behind a scheme."""

import weighting
from experiments.methods.records import PartRecord
from experiments.tools.grammar import Parameter

RECORDS = (
    PartRecord(
        weighting.normalize_mean,
        source="",
        scale="mean one",
        summary="scales to mean one",
    ),
    PartRecord(
        weighting.clip,
        parameters=(Parameter("low", 0.0), Parameter("high", 5.0)),
        source="xu2021 Sec. 2, zhou2022 Thm. 1",
        scale="bounded",
        summary="bounds the weights",
    ),
    PartRecord(
        weighting.temper,
        parameters=(Parameter("power", 0.5),),
        source="",
        scale="mean one",
        summary="raises weights to a power",
    ),
    PartRecord(
        weighting.mix_with_uniform,
        parameters=(Parameter("fraction", 0.1),),
        source="",
        scale="unchanged",
        summary="mixes with uniform weights",
    ),
    PartRecord(
        weighting.ema,
        build=lambda context, decay: weighting.ema(decay, context.num_examples),
        parameters=(Parameter("decay", 0.9),),
        source="",
        needs=("history",),
        scale="unchanged",
        summary="averages each example's weight over time",
    ),
    PartRecord(
        weighting.deferred,
        build=lambda context, share: weighting.deferred(share * context.num_steps),
        parameters=(Parameter("share", 0.5),),
        source="Cao 2019 (DRW)",
        scale="unchanged",
        summary="uniform until a share of the steps, then the scheme",
    ),
    PartRecord(
        weighting.record_history,
        build=lambda context, decay: weighting.record_history(context.num_examples, decay),
        parameters=(Parameter("decay", 0.9),),
        source="Toneva 2019",
        needs=("losses", "logits", "labels", "history"),
        scale="unchanged",
        summary="records losses, predictions and forgetting events",
    ),
    PartRecord(
        weighting.warm_up,
        parameters=(Parameter("num_steps", 100, is_count=True),),
        source="",
        scale="unchanged",
        summary="uniform at first, the scheme after some steps",
    ),
)
