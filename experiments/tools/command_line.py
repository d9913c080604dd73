"""How every command refuses: `error: what was wrong; what was expected; what to do`, and a status.

Status 2: the command line, or a value on it, is wrong. Status 1: a file or the machine is. Status
130: interrupted. tyro and argparse report in forms of their own, which are put into ours.
"""

import argparse
import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn, TypeVar

T = TypeVar("T")
FAILURE, USAGE, INTERRUPTED = 1, 2, 130

_WORDS = {
    errno.ENOSPC: ("the disk is full", "free space there and start again, or give another folder"),
    errno.EDQUOT: ("the quota is used up", "free space there, or give another folder"),
    errno.EACCES: ("this user may not read or write it", "give another, or change its permissions"),
    errno.EPERM: ("this user may not read or write it", "give another, or change its permissions"),
    errno.EROFS: ("the file system is read-only", "give a folder elsewhere"),
    errno.ENOENT: ("there is no such file or folder", "give one that exists, or may be made"),
    errno.ENOTDIR: ("a part of the path is a file", "give a path of folders"),
    errno.EISDIR: ("it is a folder", "give a file"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter one"),
}
_KINDS = {"INT": "a whole number", "FLOAT": "a number", "PATH": "a path", "STR": "a text"}


class CommandLineParser(argparse.ArgumentParser):
    """argparse, that refuses as all commands do."""

    def error(self, message: str) -> NoReturn:
        sys.exit(refuse(f"{message}; {self.prog} --help says what is known", USAGE))


def refuse(message: object, status: int) -> int:
    """Prints `error: MESSAGE` where errors go; returns the status."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status


def run_command(work: Callable[[], int | None], *, go_on: str = "") -> int:
    """Does the work of a command; returns its status, or that of what went wrong.

    Args:
      work: returns a status, or None for 0.
      go_on: how to continue what was interrupted.
    """
    try:
        return work() or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return refuse(explain_os_error(error), FAILURE)
    except ValueError as error:
        return refuse(error, USAGE)
    except (RuntimeError, ImportError) as error:
        return refuse(error, FAILURE)
    except KeyboardInterrupt:
        print(f"\ninterrupted{go_on and '; '}{go_on}", file=sys.stderr)
        return INTERRUPTED


def explain_os_error(error: OSError) -> str:
    """The error of a file in words: which, what is wrong, what to do."""
    if error.errno is None:  # raised by us, in words
        return str(error)
    what, remedy = _WORDS.get(error.errno, (error.strerror or str(error), "give another"))
    return f"{error.filename or 'a file'}: {what}; {remedy}"


def read_arguments(
    read: Callable[[], T], arguments: Sequence[str], prog: str, commands: Collection[str] = ()
) -> T:
    """What tyro reads; exits with our words and status 2 where tyro refuses.

    tyro frames its words for a terminal: they are caught on one long line and unframed.

    Args:
      read: calls tyro on `arguments`.
      arguments: of the command line, without the program's name.
      prog: the program, as the user starts it.
      commands: those that may follow it, each with a help of its own.
    """
    if {"-h", "--help"} & set(arguments):
        return read()
    box, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000000"
    try:
        with contextlib.redirect_stderr(box):
            return read()
    except SystemExit as stop:
        if stop.code != USAGE:
            raise
        command = next((word for word in arguments[:1] if word in commands), "")
        see = f"see {' '.join([prog, command]).strip()} --help"
        sys.exit(refuse(_unframed(box.getvalue(), see), USAGE))
    except ImportError as error:  # of a package that an argument needs
        sys.exit(refuse(error, FAILURE))
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _unframed(box: str, see: str) -> str:
    """tyro's refusal in our words; `see` says where to read what is known."""
    text = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = [re.sub(r"^[│ ]+|[│ ]+$", "", line) for line in text.splitlines()[1:]]
    lines = [line for line in lines if re.search(r"\w", line) and " --help" not in line]
    if not lines:
        return f"the command line cannot be read; {see}"
    first, *rest = lines
    if match := re.match(r"Error parsing (--\S+?|[A-Z{|}\[\] ]+): (.*)", first):
        return f"{_bad_value(match[1], match[2], rest)}; {see}"
    if match := re.match(r"Error parsing \S+: (.*)", first):  # raised by a configuration, in words
        return "\n".join([match[1], *rest])
    if match := re.match(r"Unrecognized options: (.*)", first):
        return f"{_unknown(match[1], rest)}; {see}"
    if first.startswith("Missing from"):
        return f"missing: {_missing(rest)}; {see}"
    if match := re.match(
        r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*?)\)", first
    ):
        return f"{match[2]}: {match[1]} is none of its choices; expected {match[3]}; {see}"
    if match := re.match(r"Missing value for argument '(.*)'", first):
        return f"{match[1]}: its value is missing; {see}"
    sentence = first[0].lower() + first[1:].rstrip(".").replace(". Expected", "; expected")
    return f"{sentence}; {see}"


def _bad_value(name: str, reason: str, rest: Sequence[str]) -> str:
    """A text that is no number where one is wanted, or the like."""
    given = re.findall(r"\['(.*?)'\]|: '(.*?)'$", reason)
    usage = next((line for line in rest if line.startswith(name + " ")), f"{name} {name}")
    kinds = [_KINDS[word] for word in re.findall(r"[A-Z]+", usage) if word in _KINDS]
    if not given or not kinds:
        return f"{name}: {reason}"
    return f"{name}: {''.join(given[0])!r} is not {kinds[0]}; expected {usage}"


def _missing(lines: Sequence[str]) -> str:
    """What must be given, with what it is: `NAME (for instance demo)`."""
    pairs = zip(lines[::2], lines[1::2], strict=False)
    return ", ".join(
        f"{name} ({about.removesuffix('(required)').strip('. ')})" for name, about in pairs
    )


def _unknown(tokens: str, rest: Sequence[str]) -> str:
    """Words of the command line that nothing is known of, with a guess at what was meant."""
    close = next((line.split()[0] for line in rest if line.startswith("--")), "")
    known = next((line for line in rest if line.startswith("Available subcommands: ")), "")
    hint = f"; did you mean {close}?" if close else ""
    expected = known.replace("Available subcommands: ", "; expected one of ")
    return f"unknown on the command line: {tokens.replace(', ', ' ')}{hint}{expected}"
