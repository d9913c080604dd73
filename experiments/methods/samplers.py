"""Records of the samplers: which examples are drawn."""

import weighting
from experiments.methods.records import LibraryRecord, SamplerRecord

RECORDS = (
    SamplerRecord(
        weighting.class_balanced_indices,
        family="class",
        source="ren2018 4.1 (RESAMPLE)",
        needs=("labels",),
        color="#8C6D1F",
        summary="as many examples of every class in each batch",
    ),
    LibraryRecord(
        weighting.example_sampling_probabilities,
        kind="sampler",
        family="class",
        source="Kang 2020",
        needs=("labels", "counts"),
        summary="a power of class frequency: 1 as is, 1/2 square root, 0 balanced",
    ),
    LibraryRecord(
        weighting.importance_selector,
        kind="sampler",
        family="selection",
        source="Katharopoulos 2018",
        needs=("logits", "labels"),
        scale="one in expectation",
        summary="which of a large batch to train on, unbiased",
    ),
    LibraryRecord(
        weighting.top_selector,
        kind="sampler",
        family="selection",
        source="Mindermann 2022",
        needs=("any score",),
        scale="one",
        summary="which of a large batch to train on, by the highest scores",
    ),
    LibraryRecord(
        weighting.loss_rank_probabilities,
        kind="sampler",
        family="history",
        source="Loshchilov 2015",
        needs=("losses of the set",),
        scale="sum one",
        summary="probabilities by the rank of the latest loss",
    ),
)
