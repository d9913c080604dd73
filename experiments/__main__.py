"""`python -m experiments`: list, run, report, explain, train."""

from experiments.cli import main
from experiments.host_memory import keep_large_blocks

if __name__ == "__main__":
    keep_large_blocks()
    raise SystemExit(main())
