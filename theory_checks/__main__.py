"""Runs the checks: `python -m theory_checks [--only NAME ...] [--preset smoke|full] [--out DIR]`.

Exits 1 if a check fails, or if its control does not. With --out every check leaves a JSON record
and its figure there, and `RESULTS.md` and `ERRATA.md` are made from the records.
"""

import argparse
import sys
from pathlib import Path

from tqdm.auto import tqdm

from theory_checks.catalogue import CHECKS
from theory_checks.pages import write_errata, write_record, write_results


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and a verdict for each claim of the named checks; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m theory_checks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks to run; default all")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="the same")
    parser.add_argument("--preset", choices=("smoke", "full"), default="full", help="how large")
    parser.add_argument("--out", type=Path, help="folder of records, figures and pages")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    names = [*options.names, *options.only]
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(CHECKS)}")
    if options.list:
        print("\n".join(CHECKS))
        return 0
    failed, checks = [], []
    for name in tqdm(names or list(CHECKS), unit="check", disable=None):
        for check in CHECKS[name](options.preset):
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


if __name__ == "__main__":
    sys.exit(main())
