"""Plants faults in `weighting/`, one at a time, and counts those that the matching tests notice.

Run `python -m tests.mutants [--count 200] [--seed 0] [--files low metrics ...] [--jobs 2]`. The
working tree is copied first and is never edited. Rows are kept in runs/mutants/results.json as they
come; `--again` goes on from there: what survived, or was not reached, is tested again. `--keep`
writes results/mutants.json and docs/mutants.md, too. `--list` plants nothing.
"""

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from tests.mutants import reporting
from tests.mutants.matching import stages
from tests.mutants.mutations import Mutant, all_mutants, files_with_code, sample
from tests.mutants.workshop import Workshop, workshops

ROOT = Path(__file__).parent.parent.parent
RUNS = Path("runs", "mutants")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for every mutant and the counts; exits 1 if a mutant survived."""
    options = parser().parse_args(arguments)
    mutants = chosen(options.files, options.count, options.seed)
    if options.list:
        print("\n".join(f"{m.kind:10}  line {m.line:4}  {m.key}" for m in mutants))
        return 0
    place = ROOT / RUNS / "results.json"
    before = earlier(place) if options.again else {}
    done = {mutant.key: before[mutant.key] for mutant in mutants if mutant.key in before}
    todo = [mutant for mutant in mutants if mutant.key not in done]
    rows = run(todo, options.jobs, done, place)
    rows = [rows[mutant.key] for mutant in mutants]
    print(reporting.summary(rows))
    if options.keep:
        result = {"counts": reporting.counts(rows), "mutants": rows}
        (ROOT / "results" / "mutants.json").write_text(json.dumps(result, indent=1) + "\n")
        files = " ".join(["", "--files", *options.files]) if options.files else ""
        command = f"python -m tests.mutants --count {options.count} --seed {options.seed}{files}"
        (ROOT / "docs" / "mutants.md").write_text(reporting.page(rows, f"{command} --keep"))
    return int(any(row["status"] == reporting.SURVIVED for row in rows))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    own.add_argument("--count", type=int, default=200, help="mutants, evenly over the files")
    own.add_argument("--seed", type=int, default=0, help="of the sample")
    own.add_argument("--files", nargs="*", default=[], help="parts of paths; default: every file")
    own.add_argument("--jobs", type=int, default=1, help="mutants tested at a time")
    own.add_argument("--again", action="store_true", help="only what survived, or was not reached")
    own.add_argument("--keep", action="store_true", help="write results/ and docs/, too")
    own.add_argument("--list", action="store_true", help="name the mutants and stop")
    return own


def chosen(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """The sample of the files whose path contains one of the texts."""
    own = [file for file in files_with_code(ROOT) if not files or any(f in file for f in files)]
    found = {file: mutants for file, mutants in all_mutants(ROOT, own).items() if mutants}
    return sample(found, count, seed)


def earlier(place: Path) -> dict[str, dict[str, Any]]:
    """Rows of the last run that need no second one, by key."""
    rows = json.loads(place.read_text()) if place.exists() else []
    return {
        f"{row['file']}::{row['function']}: {row['mutation']}": row
        for row in rows
        if row["status"] == reporting.KILLED
    }


def run(
    mutants: Sequence[Mutant], jobs: int, done: dict[str, dict[str, Any]], place: Path
) -> dict[str, dict[str, Any]]:
    """Tests the mutants, adds their rows to those done, and writes all to the place."""
    known, rows, lock = reporting.reasons(), dict(done), threading.Lock()
    place.parent.mkdir(parents=True, exist_ok=True)

    def finish(mutant: Mutant, row: dict[str, Any]) -> None:
        with lock:
            rows[mutant.key] = row
            print(reporting.line(row), flush=True)
            place.write_text(json.dumps(list(rows.values()), indent=1) + "\n")

    def test(mutant: Mutant) -> None:
        shop = free.get()
        try:
            outcome = shop.test(mutant, stages(ROOT, mutant.file))
        finally:
            free.put(shop)
        status = reporting.KILLED if outcome.killed_by else reporting.SURVIVED
        finish(mutant, reporting.record(mutant, status, **outcome._asdict()))

    for mutant in mutants:
        if mutant.key in known:
            finish(mutant, reporting.record(mutant, reporting.EQUIVALENT, reason=known[mutant.key]))
    left = [mutant for mutant in mutants if mutant.key not in known]
    cache = ROOT / RUNS / "compiled"
    with workshops(ROOT, cache, jobs if left else 0) as shops, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Workshop] = Queue()
        for shop in shops:
            free.put(shop)
        list(pool.map(test, left))
    return rows


if __name__ == "__main__":
    sys.exit(main())
