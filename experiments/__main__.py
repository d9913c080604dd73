"""`python -m experiments`: list, run, report, train."""

from experiments.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
