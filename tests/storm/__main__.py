"""`python -m tests.storm`: kills, full disks, closed folders and damaged files, by hand.

Prints a table and how long it took, exits 1 if a promise was broken; `--page FILE` writes the
table between the page's marks, with the command and its seed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from experiments.tools.files import write_text
from experiments.tools.progress import say
from experiments.tools.tables import align, markdown
from tests.storm import damage, disasters, kills, victim
from tests.storm.victim import Outcome

BEGIN, END = "<!-- storm: begin -->", "<!-- storm: end -->"


def main(arguments: list[str] | None = None) -> int:
    """Raises the storm; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="sets moments and damage")
    parser.add_argument("--kills", type=int, default=25, help="how many")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS), help="parts")
    parser.add_argument("--page", type=Path, help="page to write the table into")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and unmounts, and deletes
    with tempfile.TemporaryDirectory(prefix="storm") as folder:
        outcomes = storm(Path(folder), options.only, options.kills, options.seed)
    rows = table(outcomes)
    seconds = time.monotonic() - begin
    print(f"\n{align(rows, numbers=False)}\n\n{seconds:.0f} s, seed {options.seed}")
    if options.page:
        write_table(options.page, rows, options.seed)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def storm(work: Path, parts: Sequence[str], num_kills: int, seed: int) -> list[Outcome]:
    """Runs the parts, each with random numbers of its own."""
    cache, outcomes = work / "cache", []
    jax.config.update("jax_platforms", "cpu")
    os.environ["WEIGHTING_CACHE"] = str(cache)
    for name, settings in (("undisturbed", victim.LONG), ("finished", victim.SHORT)):
        ended = victim.command([*settings, "--out", work / name], cache, work / "log")
        assert ended.status == 0, ended.shown
    for part in parts:
        start = time.monotonic()
        own = PARTS[part](work, cache, num_kills, random.Random(f"{seed} {part}"))
        say(f"{part}: {time.monotonic() - start:.0f} s")
        for outcome in own:
            say(f"  {'held' if outcome.passed else 'BROKEN'}: {outcome.what}: {outcome.how}")
        outcomes += own
    return outcomes


def _kills(work: Path, cache: Path, count: int, rng: random.Random) -> list[Outcome]:
    expected, finished = victim.results(work / "undisturbed"), work / "finished"
    results = damage.make_results(work / "pages")
    assert victim.here(["report", "--results", results]).status == 0
    others = count // 5
    return [
        kills.kill_trainings(work, cache, expected, count - 2 * others, rng),
        kills.kill_reports(work, cache, finished, others, rng),
        kills.kill_pages(work, cache, results, others, rng),
    ]


def _processes(work: Path, cache: Path, count: int, rng: random.Random) -> list[Outcome]:
    return [disasters.two_processes(work, cache, victim.results(work / "undisturbed"))]


def _disk(work: Path, cache: Path, count: int, rng: random.Random) -> list[Outcome]:
    return [disasters.full_disk(work, cache, victim.results(work / "undisturbed"))]


def _user(work: Path, cache: Path, count: int, rng: random.Random) -> list[Outcome]:
    return [disasters.closed_folders(work, cache, work / "finished")]


def _damage(work: Path, cache: Path, count: int, rng: random.Random) -> list[Outcome]:
    return [
        *damage.damage_runs(work, work / "finished", rng),
        *damage.damage_caches(work, cache, rng),
        *damage.damage_records(work, work / "finished", rng),
    ]


PARTS: dict[str, Callable[[Path, Path, int, random.Random], list[Outcome]]] = {
    "kills": _kills,
    "processes": _processes,
    "disk": _disk,
    "user": _user,
    "damage": _damage,
}


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A header, and a row an outcome."""
    rows = [["what", "cases", "as promised", "how"]]
    for outcome in outcomes:
        rows.append([outcome.what, str(outcome.cases), str(outcome.held), outcome.how])
    return rows


def write_table(page: Path, rows: Sequence[Sequence[str]], seed: int) -> None:
    """Puts the table between the page's marks; rows of parts that were not run stay."""
    before, _, rest = page.read_text().partition(BEGIN)
    old, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no marks {BEGIN} and {END}")
    (header, _, *lines), known = markdown(rows).splitlines(), {}
    for line in [*(line for line in old.splitlines()[4:] if line.startswith("| ")), *lines]:
        known[line.split(" | ")[0]] = line
    own = f"Written by `python -m tests.storm --seed {seed} --page docs/{page.name}`:"
    rule = "|" + "---|" * len(rows[0])
    text = "\n".join([own, "", header, rule, *known.values()])
    write_text(page, f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
