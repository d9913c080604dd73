"""`python -m experiments`: list, run, report, explain, train."""

import os
import sys

from experiments import commands
from experiments.arguments import read_command
from experiments.tools.host_memory import keep_large_blocks


def main(arguments: list[str] | None = None) -> int:
    """Reads the arguments and does what they say; returns the exit status."""
    command = read_command(arguments)
    try:
        commands.execute(command)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\ninterrupted; continue with the same command and --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    keep_large_blocks()
    raise SystemExit(main())
