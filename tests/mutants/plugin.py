"""A plugin of pytest for runs on a mutant: what is compiled is kept, and the contract restricted.

Compiled programs are kept between runs, unlike elsewhere (tests/conftest.py): a mutant changes few
of them.
"""

import re

import jax


def pytest_addoption(parser):
    parser.addoption("--schemes", default="", help="comma-separated: rows of the contract to run")


def pytest_configure(config):
    jax.config.update("jax_enable_compilation_cache", True)
    # A mutant that was stopped may have left half a file.
    for line in ("ignore:Error reading persistent", "ignore:Error writing persistent"):
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(config, items):
    wanted = set(filter(None, config.getoption("--schemes").split(",")))
    if wanted:
        items[:] = [item for item in items if wanted & set(_schemes(item))]


def _schemes(item):
    """The last scheme of a row's name: "low:0.1+ema" is a row of ema."""
    name = getattr(getattr(item, "callspec", None), "params", {}).get("name")
    return re.findall(r"(?:^|\+)(\w+)[^+]*$", name) if isinstance(name, str) else []
