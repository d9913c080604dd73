"""Functions of one's own, named on the command line by their file or by an installed package.

`my_file.py:my_function` is found in that file; a bare name in the entry points that installed
packages declare in a group such as `sample_weighting.schemes`. Numbers follow as for any method;
they are given to the function by name as Python numbers, so that it may compute with them as it
likes: runs that differ in them are compiled apart. Whatever goes wrong in such a function is
reported with its file and line.
"""

import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from experiments.tools.grammar import Parameter
from experiments.tools.names import unknown_name


class PlugInError(ValueError):
    """Something is wrong with a function of the user's; the message says where."""


class PlugIn(NamedTuple):
    """A function of the user's."""

    name: str  # as written
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    options: tuple[()] = ()

    @property
    def summary(self) -> str:
        """The first line of its docstring, or where it is."""
        text = inspect.getdoc(self.function) or self.place
        return text.splitlines()[0].rstrip(".")

    @property
    def file(self) -> str:
        """Where it is written."""
        return inspect.getsourcefile(inspect.unwrap(self.function)) or "?"

    @property
    def place(self) -> str:
        """The file and the line of its definition."""
        return f"{self.file}:{inspect.getsourcelines(inspect.unwrap(self.function))[1]}"

    def call(self, *arguments: Any, **numbers: Any) -> Any:
        """The function's result; its errors name the line."""
        with self.pointing_at():
            return self.function(*arguments, **numbers)

    def refuse(self, what: str) -> PlugInError:
        """An error at the function's definition."""
        return PlugInError(f"{self.place}: {self.name} {what}")

    @contextmanager
    def pointing_at(self) -> Iterator[None]:
        """Whatever is raised inside becomes an error that names the last line in its file."""
        try:
            yield
        except PlugInError:
            raise
        except Exception as error:  # it is the user's, and may be anything
            line = _last_line_in(self.file, error)
            place = f"{self.file}:{line}" if line else self.place
            raise PlugInError(
                f"{place}: {self.name} raised {type(error).__name__}: {error}"
            ) from error


def is_in_file(name: str) -> bool:
    """Whether the name is of a function in a file: `my_file.py:my_function`."""
    return name.partition(":")[0].endswith(".py")


@functools.cache  # one object for equal names, so that compiled functions are found again
def find_plug_in(name: str, group: str, given: int) -> PlugIn | None:
    """The function of that name, in a file or an installed package; None if there is none.

    Args:
      name: `FILE.py:FUNCTION`, or the name of an entry point.
      group: of the entry points.
      given: how many arguments it gets besides its numbers, before them.
    """
    if is_in_file(name):
        file, _, function_name = name.partition(":")
        function = _function_in(Path(file), function_name, name)
    else:
        found = entry_points(group=group, name=name)
        if not found:
            return None
        function = next(iter(found)).load()
    return PlugIn(name, function, _parameters(name, function, given))


def installed(group: str) -> list[str]:
    """The names that installed packages declare in a group."""
    return sorted(entry_points(group=group).names)


def _function_in(file: Path, name: str, written: str) -> Callable[..., Any]:
    if not name:
        raise ValueError(f"{written!r} names no function; write {file}:FUNCTION")
    if not file.is_file():
        raise ValueError(f"{written!r}: there is no file {file}")
    module = _module(file.resolve())
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    function = getattr(module, name, None)
    if not callable(function):
        raise unknown_name(name, own, f"function of {file}")
    return function


@functools.cache  # a file is read once
def _module(file: Path) -> ModuleType:
    name = f"plug_in_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does; dataclasses look there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise PlugInError(f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}") from error
    except Exception as error:
        line = _last_line_in(str(file), error)
        raise PlugInError(f"{file}:{line}: {type(error).__name__}: {error}") from error
    return module


def _last_line_in(file: str, error: Exception) -> int | None:
    """The line of that file from which the error came, if it passed there."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return lines[-1] if lines else None


def _parameters(name: str, function: Callable[..., Any], given: int) -> tuple[Parameter, ...]:
    """The function's numbers, in order; what has another default, such as True, is not asked."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    if len(found) < given:
        raise ValueError(f"{name} must take {given} arguments before its numbers")
    numbers = []
    for p in found[given:]:
        if p.default is inspect.Parameter.empty:
            numbers.append(Parameter(p.name, None, is_static=True))
        elif isinstance(p.default, int | float) and not isinstance(p.default, bool):
            numbers.append(Parameter(p.name, p.default, is_static=True))
    return tuple(numbers)
