"""The examples in the README and in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import weighting

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
MODULES = [f"weighting.{m.name}" for m in pkgutil.iter_modules(weighting.__path__)]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_example_runs(number):
    exec(compile(BLOCKS[number], f"README.md, example {number}", "exec"), {})


@pytest.mark.parametrize("name", [*MODULES, "experiments.schemes"])
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_library_imports_jax_jaxopt_and_optax_only():
    allowed = {"jax", "jaxopt", "optax", "numpy", "weighting"}
    standard = {"math", "typing", "collections", "warnings"}
    for path in (ROOT / "weighting").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        assert set(imported) <= allowed | standard, path


def test_public_names_exist_and_are_documented():
    for name in weighting.__all__:
        assert getattr(weighting, name).__doc__, name
