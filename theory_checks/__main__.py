"""Runs the checks: `python -m theory_checks [--only NAME ...] [--preset smoke|full] [--out DIR]`.

`--jobs 2` runs two modules at a time, in processes of their own.

Exits 1 if a check fails, or if its control does not. With --out every check leaves a JSON record
and its figure there, and `RESULTS.md` and `ERRATA.md` are made from the records.
"""

import argparse
import concurrent.futures
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from theory_checks.catalogue import CHECKS, run_module
from theory_checks.pages import write_errata, write_record, write_results
from theory_checks.records import Check


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and a verdict for each claim of the named checks; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m theory_checks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks to run; default all")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="the same")
    parser.add_argument("--preset", choices=("smoke", "full"), default="full", help="how large")
    parser.add_argument("--out", type=Path, help="folder of records, figures and pages")
    parser.add_argument("--jobs", type=int, default=1, help="how many modules at a time")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    names = [*options.names, *options.only]
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(CHECKS)}")
    if options.list:
        print("\n".join(CHECKS))
        return 0
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    names = names or list(CHECKS)
    failed, checks = [], []
    outcomes = _run(names, options.preset, options.jobs)
    for own in tqdm(outcomes, total=len(names), unit="check", disable=None):
        for check in own:
            tqdm.write(check.report() + "\n")
            checks.append(check)
            if options.out:
                write_record(options.out, check)
            if not check.passed:
                failed.append(check.id)
    if options.out:
        write_results(options.out, checks, options.preset)
        write_errata(options.out, checks)
        print(f"records, figures and pages are in {options.out}")
    print(f"failed: {', '.join(failed)}" if failed else f"all {len(checks)} claims passed")
    return 1 if failed else 0


def _run(names: list[str], preset: str, jobs: int) -> Iterator[list[Check]]:
    """The outcomes of every module, in the order of the names."""
    if jobs == 1:
        for name in names:
            yield CHECKS[name](preset)
        return
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(run_module, names, [preset] * len(names))


if __name__ == "__main__":
    sys.exit(main())
