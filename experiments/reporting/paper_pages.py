"""`results/README.md` and a page a paper: every figure and table beside ours, from the ledgers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting.experiment import Experiment, read_record
from experiments.reporting.ledger import (
    FAILED,
    FILE,
    NOT_RUN,
    PARTLY,
    VERDICTS,
    Entry,
    read_ledger,
)
from experiments.reporting.page import SUMMARY, TEXT
from experiments.tools.files import write_atomically, write_text
from experiments.tools.tables import markdown
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
_KEPT_KINDS = (".png", ".csv")
_LARGEST = 2_000_000  # bytes
_MOST_ROWS = 30  # shown unfolded

_INTRODUCTION = """\
Every number and statement of the four papers' figures and tables beside ours. Written by
`python -m experiments report` from the files in this folder; nothing in it is typed by hand. Every
number of ours is a mean over seeds with its 95 % interval (Student's t). The presets `smoke` and
`cpu` change the papers' settings, and say how.

Verdicts are made by rule:

- **Statements** (what a paper reads off a figure) are asked of every seed: *reproduced* if true on
  at least nine in ten, *partly* on more than half, *not reproduced* on fewer.
- **Numbers of a table** at the paper's own settings are *reproduced* if the intervals overlap. At
  other settings the numbers cannot agree, and each method's difference to the table's reference
  method counts instead: *reproduced* if both differences have one sign or both are ties (ours: the
  interval of the paired difference holds zero), *partly* if one is a tie, *not reproduced* if the
  signs are opposite. The reference method itself is then listed as *other setting*.
- *not run*: needs a GPU, data that were not at hand, or hours; the command is there.

The theoretical claims are checked apart: [results](theory_checks/RESULTS.md),
[errata](theory_checks/ERRATA.md)."""


class _Section(NamedTuple):
    """A figure or table of a paper on its page."""

    link: str  # relative to the folder of results
    text: str
    entries: Sequence[Entry]


def keep(folder: Path, results: Path) -> Path:
    """Copies a finished experiment's small files to `results/NAME-PRESET`; returns that folder.

    Those are its text, its numbers, its part of the ledger if it belongs to a paper, tables and
    figures, up to 2 MB each.
    """
    record = read_record(folder)
    if not (folder / TEXT).exists():
        raise RunFolderError(f"{folder} has no {TEXT}: the experiment is not finished")
    target = results / f"{record['experiment']}-{record['preset']}"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        is_kept = path.name in (TEXT, SUMMARY, FILE) or path.suffix in _KEPT_KINDS
        if is_kept and path.stat().st_size <= _LARGEST:
            content = path.read_bytes()
            write_atomically(target / path.name, lambda file, own=content: file.write(own))
    return target


def write_pages(results: Path, experiments: Mapping[str, Experiment]) -> Path:
    """Writes `README.md` and a page a paper into the folder of results; returns the first."""
    if not results.is_dir():
        raise RunFolderError(
            f"{results} is no folder; keep an experiment there first: report FOLDER --keep"
        )
    paths = sorted(results.glob(f"*/{FILE}"))
    records = [
        {**read_ledger(path), "folder": path.parent.name, "files": _shown_files(path.parent)}
        for path in paths
    ]
    for name, text in page_texts(records, experiments).items():
        write_text(results / name, text)
    return results / "README.md"


def page_texts(
    records: Sequence[dict[str, Any]], experiments: Mapping[str, Experiment]
) -> dict[str, str]:
    """The pages by file name; links are relative to the folder of results."""
    pages = {}
    sections: dict[str, list[_Section]] = {}
    for paper, citation in PAPERS.items():
        own = [e for e in experiments.values() if e.items and e.paper == paper]
        sections[paper] = _sections(paper, own, records)
        texts = [section.text for section in sections[paper]]
        pages[_page_name(paper)] = "\n\n".join([f"# {paper}", f"{citation}.", *texts]) + "\n"
    counts = {
        paper: Counter(entry.verdict for section in own for entry in section.entries)
        for paper, own in sections.items()
    }
    every = [section for own in sections.values() for section in own]
    tables = (_counts(counts), _index(every), _why(every))
    return {"README.md": "\n\n".join(["# Results", _INTRODUCTION, *tables]) + "\n"} | pages


def _sections(
    paper: str, experiments: Sequence[Experiment], records: Sequence[dict[str, Any]]
) -> list[_Section]:
    items = {item for experiment in experiments for item in experiment.items}
    return [_section(paper, item, experiments, records) for item in sorted(items, key=_order)]


def _page_name(paper: str) -> str:
    return f"{paper}.md"


def _slug(item: str) -> str:
    return item.lower().replace(" ", "")


def _order(item: str) -> tuple[str, int]:
    kind, number = item.split(" ")
    return kind, int(number)


def _counts(counts: dict[str, Counter]) -> str:
    """How many entries have which verdict."""
    header = ["paper", *VERDICTS, "all"]
    rows = [
        [f"[{p}]({_page_name(p)})", *(str(c[v]) for v in VERDICTS), str(c.total())]
        for p, c in counts.items()
    ]
    total = sum(counts.values(), Counter())
    rows.append(["all", *(str(total[v]) for v in VERDICTS), str(total.total())])
    return markdown([header, *rows])


def _index(sections: Sequence[_Section]) -> str:
    """Every figure and table with the number of its entries by verdict."""
    rows = [["figure or table", *VERDICTS]]
    for section in sections:
        verdicts = Counter(entry.verdict for entry in section.entries)
        rows.append([section.link, *(str(verdicts[v] or "") for v in VERDICTS)])
    return markdown(rows)


def _why(sections: Sequence[_Section]) -> str:
    """What stands behind the entries that are not or only partly reproduced, the most first."""
    causes: dict[str, list[str]] = {}
    for section in sections:
        for entry in section.entries:
            if entry.verdict in (PARTLY, FAILED):
                causes.setdefault(entry.cause or "not known", []).append(section.link)
    rows = [
        [cause, str(len(links)), "; ".join(dict.fromkeys(links))]
        for cause, links in sorted(causes.items(), key=lambda pair: -len(pair[1]))
    ]
    return markdown([["why not, or only partly", "entries", "where"], *rows])


def _section(
    paper: str, item: str, experiments: Sequence[Experiment], records: Sequence[dict[str, Any]]
) -> _Section:
    """The section of a figure or table, and its entries."""
    makers = [e for e in experiments if item in e.items]
    parts = [f'<a id="{_slug(item)}"></a>', f"## {item}: {makers[0].items[item]}"]
    entries: list[Entry] = []
    for experiment in makers:
        for record in (r for r in records if r["experiment"] == experiment.name):
            found = [entry for entry in record["entries"] if entry.item == item]
            figures = [name for name, owner in record["figures"].items() if owner == item]
            if found or figures:
                parts.append(_provenance(record))
                parts += [_entries(found)] if found else []
                parts += [f"![{name}]({record['folder']}/{name}.png)" for name in figures]
                entries += found
        seen = {entry.claim for entry in entries}
        rest = [e for e in experiment.printed if e.item == item and e.claim not in seen]
        if rest:
            parts += [f"`python -m experiments run {experiment.name}`", _entries(rest)]
            entries += rest
    if not entries:
        parts.append(f"Not run: `python -m experiments run {makers[0].name}`.")
        entries.append(Entry(item, "everything"))
    link = f"[{paper}, {item}]({_page_name(paper)}#{_slug(item)})"
    return _Section(link, "\n\n".join(parts), entries)


def _shown_files(folder: Path) -> list[str]:
    """The names of a kept folder's text and tables."""
    return [TEXT, *sorted(path.name for path in folder.glob("*.csv"))]


def _provenance(record: dict[str, Any]) -> str:
    made = record["made"]
    files = ", ".join(f"[{name}]({record['folder']}/{name})" for name in record["files"])
    command = f"python -m experiments run {record['experiment']} --preset {record['preset']}"
    device = f"{made['device']}, jax {made['versions']['jax']}"
    return f"`{command}`: {record['what']}. {seeds_of(record)}{device}. {files}"


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
    table = markdown([header, *rows])
    if len(rows) <= _MOST_ROWS:
        return table
    counts = Counter(entry.verdict for entry in entries)
    listed = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return f"<details><summary>{len(rows)} entries: {listed}</summary>\n\n{table}\n\n</details>"
