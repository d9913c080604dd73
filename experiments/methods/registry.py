"""All records, by name."""

from collections.abc import Iterable
from typing import TypeVar

from experiments.methods import (
    baselines,
    class_based,
    difficulty,
    from_reference,
    gradient_based,
    history,
    learned,
    loss_based,
    losses,
    margin_based,
    meta,
    parts,
    procedures,
    robust,
    samplers,
    whole_set,
)
from experiments.methods.procedures import ProcedureRecord
from experiments.methods.records import LossRecord, Record, SamplerRecord, SchemeRecord

RECORDS: tuple[Record, ...] = tuple(
    record
    for module in (
        baselines,
        class_based,
        loss_based,
        learned,
        robust,
        margin_based,
        gradient_based,
        history,
        from_reference,
        meta,
        parts,
        losses,
        samplers,
        procedures,
        whole_set,
        difficulty,
    )
    for record in module.RECORDS
)

R = TypeVar("R", bound=Record)


def _named(records: Iterable[R]) -> dict[str, R]:
    return {record.name: record for record in records}


# What the command line knows; a name is unique among its kind.
SCHEMES = _named(record for record in RECORDS if isinstance(record, SchemeRecord))
LOSSES = _named(record for record in RECORDS if isinstance(record, LossRecord))
SAMPLERS = _named(record for record in RECORDS if isinstance(record, SamplerRecord))
PROCEDURES = _named(
    [procedures.PLAIN, *(record for record in RECORDS if isinstance(record, ProcedureRecord))]
)
