"""The examples in pages and docstrings run and print what they say."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import weighting

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (name, block)
    for name in ("README.md", "docs/instruments.md", "docs/faq.md")
    for block in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
]
MODULES = [m.name for m in pkgutil.walk_packages(weighting.__path__, "weighting.")]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_an_example_of_a_page_runs(page, block):
    exec(compile(block, page, "exec"), {})


@pytest.mark.parametrize(
    "name", [*MODULES, "experiments.methods.specifications", "experiments.methods.tuning"]
)
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_library_imports_jax_and_optax_only():
    allowed = {"jax", "optax", "numpy", "weighting"}
    standard = {"collections", "functools", "itertools", "math", "typing", "warnings"}
    exceptions = {"separable_part.py": {"scipy"}, "_simplex_qp.py": {"scipy"}}  # on the host
    exceptions["_jaxopt.py"] = {"jaxopt"}  # when OSQP is asked for
    for path in (ROOT / "weighting").rglob("*.py"):
        own = exceptions.get(path.name, set())
        assert imported_by(path) <= allowed | standard | own, path


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


def test_the_new_scheme_is_short_and_right():
    page = (ROOT / "docs" / "extending.md").read_text()
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    tree = ast.parse(source)
    docstrings = sum(
        len(ast.get_docstring(node, clean=False).splitlines())
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node)
    )
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) - docstrings <= 20
    assert all(len(line) <= 100 for line in lines)
    names = {}
    exec(compile(source, "docs/extending.md", "exec"), names)
    scheme = names["general_robust"](-2.0, 2.0, normalize=False)
    signals = weighting.Signals(jnp.array([0.0, 2.0, 32.0]))
    weights, _ = scheme.update(jnp.ones(3), scheme.init(None, None), signals)
    # Geman-McClure with x = 0, 2, 8 and c = 2: (x^2 / (4 c^2) + 1)^-2
    np.testing.assert_allclose(weights, [1, 1.25**-2, 5.0**-2], rtol=1e-6)
