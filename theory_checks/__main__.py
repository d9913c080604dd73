"""Runs the checks: `python -m theory_checks [NAME ...] [--preset smoke|full] [--out DIR]`.

A NAME is a claim's ID ("X-T1 bound"), its first word (X-T1), a module (xu2021.theorem1) or a paper
(xu2021); a module's claims are checked together. `--jobs 2` runs two modules at a time, in
processes of their own.

Exits 1 if a check fails, or if its control does not. With --out every check leaves a JSON record
and its figure in a folder, and `RESULTS.md` and `ERRATA.md` are made from all records there, of
earlier runs too; `--pages DIR` makes these pages from the records of DIR and runs nothing.
"""

import argparse
import concurrent.futures
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from experiments.tools.command_line import FAILURE, CommandLineParser, refuse, run_command
from theory_checks.catalogue import all_claims, run_module, select
from theory_checks.pages import write_pages
from theory_checks.records import Check
from theory_checks.storage import RecordError, write_record


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and a verdict for each claim of the named checks; 1 if one failed."""
    parser = CommandLineParser(
        prog="python -m theory_checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to check; default all")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="the same")
    parser.add_argument("--preset", choices=("smoke", "full"), default="full", help="how large")
    parser.add_argument("--out", type=Path, help="folder of records, figures and pages")
    parser.add_argument("--jobs", type=int, default=1, help="how many modules at a time")
    parser.add_argument("--list", action="store_true", help="print claims and modules, and stop")
    parser.add_argument("--pages", type=Path, metavar="DIR", help="make DIR's pages, and stop")
    options = parser.parse_args(arguments)
    names = [*options.names, *options.only]
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    if options.pages and (names or options.out):
        parser.error("--pages runs no check: give neither names nor --out with it")
    if options.pages and not options.pages.is_dir():
        parser.error(f"--pages {options.pages}: there is no such folder")
    try:
        asked = select(names)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print("\n".join(f"{claim:<22}{module}" for module in asked for claim in asked[module]))
        return 0
    return run_command(lambda: _work(asked, options))


def _work(asked: Mapping[str, Sequence[str]], options: argparse.Namespace) -> int:
    """Checks what is asked and makes the pages; 1 if a claim failed."""
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)  # refused now rather than after the work
    failed = [] if options.pages else _check(asked, options.preset, options.jobs, options.out)
    if folder := options.pages or options.out:
        try:
            write_pages(folder, all_claims())
        except RecordError as error:
            return refuse(f"RESULTS.md and ERRATA.md are not made: {error}", FAILURE)
        print(f"pages of all records in {folder}: RESULTS.md, ERRATA.md")
    return 1 if failed else 0


def _check(
    asked: Mapping[str, Sequence[str]], preset: str, jobs: int, folder: Path | None
) -> list[str]:
    """Runs and reports modules, given the claims asked of each; the claims that failed."""
    failed, notes, total = [], [], 0
    outcomes = tqdm(_run(list(asked), preset, jobs), total=len(asked), unit="check", disable=None)
    for (module, claims), own in zip(asked.items(), outcomes, strict=True):
        for check in own:
            tqdm.write(check.report() + "\n")
            if folder:
                write_record(folder, check, preset)
        failed += [check.id for check in own if not check.passed]
        total += len(own)
        others = [check.id for check in own if check.id not in claims]
        if others:
            notes.append(f"asked: {', '.join(claims)}; {module} checks also {', '.join(others)}")
    for note in notes:
        print(note)
    print(f"failed: {', '.join(failed)}" if failed else f"all {total} claims passed")
    return failed


def _run(modules: list[str], preset: str, jobs: int) -> Iterator[list[Check]]:
    """The outcomes of every module, in the order given."""
    if jobs == 1:
        for module in modules:
            yield run_module(module, preset)
        return
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(run_module, modules, [preset] * len(modules))


if __name__ == "__main__":
    sys.exit(main())
