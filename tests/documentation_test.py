"""The examples in the README and in docstrings run and print what they say."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import weighting

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
MODULES = [m.name for m in pkgutil.walk_packages(weighting.__path__, "weighting.")]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_example_runs(number):
    exec(compile(BLOCKS[number], f"README.md, example {number}", "exec"), {})


@pytest.mark.parametrize("name", [*MODULES, "experiments.schemes"])
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_library_imports_jax_jaxopt_and_optax_only():
    allowed = {"jax", "jaxopt", "optax", "numpy", "weighting"}
    standard = {"collections", "functools", "math", "typing", "warnings"}
    for path in (ROOT / "weighting").rglob("*.py"):
        assert imported_by(path) <= allowed | standard, path


def imported_by(path):
    """The top-level packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "a relative import")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", [weighting, weighting.losses], ids=lambda m: m.__name__)
def test_public_names_exist_and_are_documented(module):
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
