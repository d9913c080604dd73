"""`python -m experiments`: list, run, report, explain, train."""

from experiments import commands
from experiments.arguments import read_command
from experiments.tools.command_line import run_command
from experiments.tools.host_memory import keep_large_blocks


def main(arguments: list[str] | None = None) -> int:
    """Reads the arguments and does what they say; returns the exit status."""
    command = read_command(arguments)
    return run_command(
        lambda: commands.execute(command), go_on="continue with the same command and --resume"
    )


if __name__ == "__main__":
    keep_large_blocks()
    raise SystemExit(main())
