"""RESULTS.md: every figure and table of the papers beside ours, made from the ledgers alone."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.catalogue import EXPERIMENTS
from experiments.reporting.experiment import Experiment, read_record
from experiments.reporting.ledger import FAILED, FILE, NOT_RUN, PARTLY, VERDICTS, Entry, read_ledger
from experiments.tools.files import write_atomically
from experiments.training.run_folder import RunFolderError

PAPERS = {
    "ren2018": "Ren, Zeng, Yang, Urtasun: Learning to reweight examples for robust deep learning. "
    "ICML 2018",
    "santiago2021": "Santiago, Barata, Sasdelli, Carneiro, Nascimento: LOW: training deep neural "
    "networks by learning optimal sample weights. Pattern Recognition 2021",
    "xu2021": "Xu, Ye, Ruan: Understanding the role of importance weighting for deep learning. "
    "ICLR 2021",
    "zhou2022": "Zhou, Wu, Zhu, Liang: Understanding difficulty-based sample weighting with a "
    "universal difficulty measure. ECML PKDD 2022",
}
_KEPT = (FILE, "summary.json", "table.txt")
_KEPT_KINDS = (".png", ".csv")
_LARGEST = 2_000_000  # bytes
_MOST_ROWS = 30  # shown unfolded

_INTRODUCTION = """\
Written by `python -m experiments report` from the files in `results/`; nothing in it is typed by
hand. Every number of ours is a mean over seeds with its 95 % interval (Student's t). The presets
`smoke` and `cpu` change the papers' settings, and say how.

Verdicts are made by rule:

- **Statements** (what a paper reads off a figure) are asked of every seed: *reproduced* if true on
  at least nine in ten, *partly* on more than half, *not reproduced* on fewer.
- **Numbers of a table** at the paper's own settings are *reproduced* if the intervals overlap. At
  other settings the numbers cannot agree, and each method's difference to the table's reference
  method counts instead: *reproduced* if both differences have one sign or both are ties (ours: the
  interval of the paired difference holds zero), *partly* if one is a tie, *not reproduced* if the
  signs are opposite. The reference method itself is then listed as *other setting*.
- *not run*: needs a GPU, data that were not at hand, or hours; the command is there.

The theoretical claims are checked apart: [results](results/theory_checks/RESULTS.md),
[errata](results/theory_checks/ERRATA.md)."""


def keep(folder: Path, results: Path) -> Path:
    """Copies a finished experiment's small files to `results/NAME-PRESET`; returns that folder."""
    record = read_record(folder)
    if not (folder / FILE).exists():
        raise RunFolderError(
            f"{folder} has no {FILE}: the experiment is not finished, or belongs to no paper"
        )
    target = results / f"{record['experiment']}-{record['preset']}"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        is_kept = path.name in _KEPT or path.suffix in _KEPT_KINDS
        if is_kept and path.stat().st_size <= _LARGEST:
            shutil.copyfile(path, target / path.name)
    return target


def write_page(results: Path) -> Path:
    """Writes RESULTS.md beside the folder of results; returns its path."""
    if not results.is_dir():
        raise RunFolderError(
            f"{results} is no folder; keep an experiment there first: report FOLDER --keep"
        )
    paths = sorted(results.glob(f"*/{FILE}"))
    records = [{**read_ledger(path), "folder": path.parent} for path in paths]
    page = results.parent / "RESULTS.md"
    text = page_text(records, results.parent)
    write_atomically(page, lambda file: file.write(text.encode()))
    return page


def page_text(records: Sequence[dict[str, Any]], root: Path) -> str:
    """The page; links are relative to `root`."""
    sections, counts = [], {}
    causes: dict[str, list[str]] = {}
    index = [["figure or table", *VERDICTS]]
    for paper, citation in PAPERS.items():
        experiments = [e for e in EXPERIMENTS.values() if e.items and e.paper == paper]
        own = [r for r in records if r["experiment"] in {e.name for e in experiments}]
        parts, entries = [], []
        names = {item: e for e in experiments for item in e.items}
        for item in sorted(names, key=_order):
            text, found = _item(paper, item, experiments, own, root)
            parts.append(text)
            entries += found
            verdicts = Counter(entry.verdict for entry in found)
            link = f"[{paper}, {item}](#{_anchor(paper, item)})"
            for entry in found:
                if entry.verdict in (PARTLY, FAILED):
                    causes.setdefault(entry.cause or "not known", []).append(link)
            index.append([link, *(str(verdicts[v] or "") for v in VERDICTS)])
        counts[paper] = Counter(entry.verdict for entry in entries)
        sections.append("\n\n".join([f"## {paper}", f"{citation}.", *parts]))
    tables = (_counts(counts), _table(index[0], index[1:]), _why(causes))
    return "\n\n".join(["# Results", _INTRODUCTION, *tables, *sections]) + "\n"


def _anchor(paper: str, item: str) -> str:
    return f"{paper}-{item.lower().replace(' ', '')}"


def _order(item: str) -> tuple[str, int]:
    kind, number = item.split(" ")
    return kind, int(number)


def _counts(counts: dict[str, Counter]) -> str:
    """How many entries have which verdict."""
    header = ["paper", *VERDICTS, "all"]
    rows = [[p, *(str(c[v]) for v in VERDICTS), str(c.total())] for p, c in counts.items()]
    total = sum(counts.values(), Counter())
    rows.append(["all", *(str(total[v]) for v in VERDICTS), str(total.total())])
    return _table(header, rows)


def _why(causes: dict[str, list[str]]) -> str:
    """What stands behind the entries that are not or only partly reproduced, the most first."""
    rows = [
        [cause, str(len(links)), "; ".join(dict.fromkeys(links))]
        for cause, links in sorted(causes.items(), key=lambda pair: -len(pair[1]))
    ]
    return _table(["why not, or only partly", "entries", "where"], rows)


def _item(
    paper: str,
    item: str,
    experiments: Sequence[Experiment],
    records: Sequence[dict[str, Any]],
    root: Path,
) -> tuple[str, list[Entry]]:
    """The section of a figure or table, and its entries."""
    makers = [e for e in experiments if item in e.items]
    parts = [f'<a id="{_anchor(paper, item)}"></a>', f"### {item}: {makers[0].items[item]}"]
    entries: list[Entry] = []
    for experiment in makers:
        for record in (r for r in records if r["experiment"] == experiment.name):
            found = [entry for entry in record["entries"] if entry.item == item]
            figures = _figures(experiment, item, record["folder"])
            if found or figures:
                parts.append(_provenance(record))
                parts += [_entries(found)] if found else []
                parts += [f"![{path.stem}]({path.relative_to(root)})" for path in figures]
                entries += found
        seen = {entry.claim for entry in entries}
        rest = [e for e in experiment.printed if e.item == item and e.claim not in seen]
        if rest:
            parts += [f"`python -m experiments run {experiment.name}`", _entries(rest)]
            entries += rest
    if not entries:
        command = f"`python -m experiments run {makers[0].name}`"
        parts.append(f"Not run: {command}.")
        entries.append(Entry(item, "everything"))
    return "\n\n".join(parts), entries


def _provenance(record: dict[str, Any]) -> str:
    made = record["made"]
    command = f"python -m experiments run {record['experiment']} --preset {record['preset']}"
    device = f"{made['device']}, jax {made['versions']['jax']}"
    return f"`{command}`: {record['what']}. {seeds_of(record)}{device}."


def seeds_of(record: dict[str, Any]) -> str:
    """How many seeds the arms had; arms that start at seeds of their own share them out."""
    most, arms = record["seeds"], record["arms"].values()
    if not most:
        return ""
    own = [arm.get("seeds", record["base"]["seeds"]) for arm in arms]
    fewest = most if any("first_seed" in arm for arm in arms) else min(own)
    if fewest < most:
        return f"Run with {fewest} to {most} seeds; "
    return f"Run with {most} seed{'s' * (most > 1)}; "


def _figures(experiment: Experiment, item: str, folder: Path) -> list[Path]:
    """Pictures whose names begin with the item's; others belong to the first item."""
    prefixes = {name: name.lower().replace(" ", "") for name in experiment.items}
    figures = []
    for path in sorted(folder.glob("*.png")):
        owners = [n for n, p in prefixes.items() if re.match(rf"{p}(?!\d)", path.stem)]
        if item == (owners or list(experiment.items))[0]:
            figures.append(path)
    return figures


def _entries(entries: Sequence[Entry]) -> str:
    has_numbers = any(entry.paper for entry in entries)
    header = ["claim", *(["paper"] if has_numbers else []), "ours", "seeds", "verdict", "why"]
    rows = [
        [
            entry.claim,
            *([entry.paper] if has_numbers else []),
            entry.ours,
            str(entry.seeds or ""),
            entry.verdict if entry.verdict == NOT_RUN else f"**{entry.verdict}**",
            entry.cause,
        ]
        for entry in entries
    ]
    table = _table(header, rows)
    if len(rows) <= _MOST_ROWS:
        return table
    counts = Counter(entry.verdict for entry in entries)
    listed = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return f"<details><summary>{len(rows)} entries: {listed}</summary>\n\n{table}\n\n</details>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
