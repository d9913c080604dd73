"""The ledger: what a paper prints or says, what we found, and a verdict by rule.

Every finished experiment of a paper writes `ledger.json` beside its figures: preset, seeds, device,
versions, configurations, and its entries. `paper_pages` makes the pages of `results/` of them.
"""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting import claims
from experiments.reporting.claims import Answer, Claim
from experiments.tools.files import DamagedFileError, read_sealed, write_sealed
from experiments.tools.statistics import mean_interval
from experiments.training.config import RunConfig

REPRODUCED, PARTLY, FAILED = "reproduced", "partly", "not reproduced"
OTHER_SETTING, NOT_RUN = "other setting", "not run"
VERDICTS = (REPRODUCED, PARTLY, FAILED, OTHER_SETTING, NOT_RUN)
FILE = "ledger.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_OF_ANSWER = {
    claims.YES: REPRODUCED,
    claims.PARTLY: PARTLY,
    claims.NO: FAILED,
    claims.NOBODY: NOT_RUN,
}


class Entry(NamedTuple):
    """One number or statement of a paper, and ours."""

    item: str  # "Figure 2" or "Table 1"
    claim: str
    paper: str = ""  # as printed; empty for a statement
    ours: str = ""
    seeds: int = 0
    verdict: str = NOT_RUN
    cause: str = ""  # why ours differs, or why it was not run


class Printed(NamedTuple):
    """A number of a paper's table, with its 95 % half width if it has one."""

    value: float
    half_width: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:g} ± {self.half_width:g}" if self.half_width else f"{self.value:g}"


def show(values: Sequence[float] | np.ndarray, digits: int = 2) -> str:
    """Mean and half width as text."""
    mean, half_width = mean_interval(values)
    spread = "" if math.isnan(half_width) else f" ± {half_width:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def entries_of(answers: Sequence[Answer]) -> list[Entry]:
    """Entries of the claims that come from the paper; the others are controls of ours."""
    return [_entry(answer) for answer in answers if not answer.claim.is_control]


def _entry(answer: Answer) -> Entry:
    claim, seeds = answer.claim, len(answer.holds)
    verdict = _OF_ANSWER[answer.verdict]
    not_found = claim.cause if verdict in (PARTLY, FAILED) else ""
    return Entry(
        claim.item,
        f"{claim.text} ({claim.place})",
        ours=f"{answer.count} of {seeds}",
        seeds=seeds,
        verdict=verdict,
        cause=not_found if seeds else claims.NOBODY,
    )


def not_run(asked: Sequence[Claim], cause: str) -> tuple[Entry, ...]:
    """The paper's claims as entries that were not run."""
    return tuple(
        Entry(claim.item, f"{claim.text} ({claim.place})", cause=cause)
        for claim in asked
        if not claim.is_control
    )


def of_table(
    item: str,
    printed: Mapping[str, Printed],
    ours: Mapping[str, Sequence[float] | np.ndarray],
    *,
    reference: str,
    same_setting: bool,
    quantity: str,
    missing: str = "",
    causes: Mapping[str, str] | None = None,
) -> list[Entry]:
    """Entries of a column of a table: every method against the reference method.

    At another setting than the paper's (a smaller network, fewer steps) the numbers themselves
    cannot agree; what can is who is better than the reference. The paper's difference counts as a
    tie if it is at most the larger of the two half widths, ours if the 95 % interval of the
    paired difference holds zero. Reproduced: both differ and have the same sign, or both tie;
    partly: one of them ties; not reproduced: opposite signs. The reference itself, and in the
    paper's setting all rows, are compared by value: reproduced if the intervals overlap.

    Args:
      item: "Table 2".
      printed: the paper's numbers by method; the order of the entries.
      ours: a number per seed, by method.
      reference: the method to compare with.
      same_setting: whether ours were made at the paper's settings.
      quantity: what the numbers are, "CIFAR-10, test accuracy %".
      missing: why a method has no numbers of ours.
      causes: why ours differ, by method, said where the verdict is not "reproduced".
    """
    entries = []
    for method, paper in printed.items():
        claim = f"{method}: {quantity}"
        if method not in ours:
            entries.append(Entry(item, claim, str(paper), cause=missing))
            continue
        if same_setting or method == reference:
            verdict = _by_value(paper, ours[method])
            if not same_setting and verdict != REPRODUCED:
                verdict = OTHER_SETTING
        else:
            verdict = _by_difference(paper, printed[reference], ours[method], ours[reference])
        count = len(ours[method])
        cause = "" if verdict == REPRODUCED else (causes or {}).get(method, "")
        entries.append(Entry(item, claim, str(paper), show(ours[method]), count, verdict, cause))
    return entries


def _by_value(paper: Printed, ours: Sequence[float] | np.ndarray) -> str:
    mean, half_width = mean_interval(ours)
    reach = paper.half_width + (0.0 if math.isnan(half_width) else half_width)
    return REPRODUCED if abs(mean - paper.value) <= reach else FAILED


def _by_difference(
    paper: Printed,
    reference: Printed,
    ours: Sequence[float] | np.ndarray,
    ours_reference: Sequence[float] | np.ndarray,
) -> str:
    printed = paper.value - reference.value
    paper_ties = abs(printed) <= max(paper.half_width, reference.half_width)
    mean, half_width = mean_interval(np.subtract(ours, ours_reference))
    ours_tie = math.isnan(half_width) or abs(mean) <= half_width
    if paper_ties or ours_tie:
        return REPRODUCED if paper_ties and ours_tie else PARTLY
    return REPRODUCED if (printed > 0) == (mean > 0) else FAILED


def write_ledger(
    folder: Path,
    entries: Sequence[Entry],
    figures: Mapping[str, str],
    *,
    experiment: str,
    preset: str,
    what: str,
    arms: Mapping[str, Sequence[RunConfig]],
) -> None:
    """Writes `ledger.json`; where it was computed is taken over from an earlier one.

    `figures` says which figure or table of the paper every picture of the folder belongs to.
    """
    path = folder / FILE
    made = read_ledger(path)["made"] if path.exists() else _made()
    write_sealed(
        path,
        {
            "experiment": experiment,
            "preset": preset,
            "what": what,
            "made": made,
            **_configurations(arms),
            "figures": dict(figures),
            "entries": [entry._asdict() for entry in entries],
        },
    )


def read_ledger(path: Path) -> dict[str, Any]:
    """The record of a `ledger.json`, its entries as `Entry`."""
    try:
        record = read_sealed(path)
        record["entries"] = [Entry(**entry) for entry in record["entries"]]
        record["figures"] = dict(record["figures"])
    except DamagedFileError as error:
        raise RuntimeError(f"{error}; make it again by `report FOLDER`") from None
    except (KeyError, TypeError) as error:
        raise RuntimeError(f"{path} is damaged: {error}") from None
    return record


def _made() -> dict[str, Any]:
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"CPU, {os.cpu_count()} cores ({platform.machine()})"
    return {"device": kind, "versions": {name: version(name) for name in _PACKAGES}}


def _configurations(arms: Mapping[str, Sequence[RunConfig]]) -> dict[str, Any]:
    """The first configuration, and what differs from it in the others."""
    everything = {
        f"{name} [{h}]" if len(configs) > 1 else name: _without_place(config)
        for name, configs in arms.items()
        for h, config in enumerate(configs)
    }
    if not everything:
        return {"seeds": None, "base": None, "arms": {}}
    base = next(iter(everything.values()))
    return {
        "seeds": len({seed for configs in arms.values() for seed in configs[0].seed_numbers}),
        "base": base,
        "arms": {name: _changes(base, config) for name, config in everything.items()},
    }


def _without_place(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON, but for where files lie."""
    record = asdict(config)
    del record["task"]["data_dir"], record["pretrained"]
    return record


def _changes(base: dict, config: dict) -> dict:
    changed = {key: value for key, value in config.items() if value != base[key]}
    if "task" in changed:
        task = changed["task"].items()
        changed["task"] = {key: value for key, value in task if value != base["task"][key]}
    return changed
