"""Runs the checks: `python -m theory_checks [NAME ...]`; exits 1 if one fails."""

import argparse
import sys
from collections.abc import Callable

from theory_checks import low_qp, ren_metagrad
from theory_checks.records import Check

CHECKS: dict[str, Callable[[], list[Check]]] = {
    "low_qp": low_qp.checks,
    "ren_metagrad": ren_metagrad.checks,
}


def main(arguments: list[str] | None = None) -> int:
    """Prints a table and a verdict for each claim of the named checks; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m theory_checks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks to run; default all")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(CHECKS))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(CHECKS)}")
    if options.list:
        print("\n".join(CHECKS))
        return 0
    failed = []
    for name in options.names or CHECKS:
        for check in CHECKS[name]():
            print(check.report(), end="\n\n", flush=True)
            if not check.passed:
                failed.append(check.id)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
