"""Every function against its table of right values, and the tables against their generator.

A table (`tables/*/*.json`) names a public function, the source of its formula and how the values
were worked out; its rows hold inputs, right values and right derivatives. None of these numbers
came from this library. Numbers in a table by hand may be arithmetic in a string.
"""

import ast
import json
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import calls, make_tables
from tests.oracles.arithmetic import evaluate

FIELDS = {"method", "call", "source", "computed", "tolerance", "rows"}
MAY_IMPORT = {"numpy", "scipy", "sklearn", "tests", *sys.stdlib_module_names}
WANTED = {
    "losses.cross_entropy",
    "losses.focal",
    "losses.logistic",
    "losses.exponential",
    "losses.bootstrap_soft",
    "losses.generalized_cross_entropy",
    "losses.bootstrap_hard",
    "losses.forward_corrected_cross_entropy",
    "losses.logit_adjusted",
    "losses.ldam",
    "losses.polynomial_tailed",
    "losses.smoothed_cross_entropy",
    "low_weights",
    "cvar_weights",
    "tilted",
    "chi_square_dro",
    "inverse_class_frequency",
    "effective_number",
    "focal",
    "superloss",
    "lookahead_weights",
    "meta_gradient",
    "meta_weight_net",
    "group_dro",
    "gradient_harmonized",
    "loss_rank_probabilities",
    "adaboost_weights",
    "area_under_roc",
    "effective_sample_size",
    "angle_between",
    "normalized_margin",
    "max_margin",
    "el2n",
}
PROGRAMS = {}  # compiled, by table, fixed arguments, derivatives and type


class Case(NamedTuple):
    """One row of one table."""

    table: dict
    row: dict

    def inputs(self, dtype):
        return {name: as_array(part, dtype) for name, part in self.row["inputs"].items()}

    def call(self, inputs, arguments):
        """The method's value, in the shape of the row's: an array, or arrays by name."""
        way = getattr(calls, self.table["call"])
        found = way(calls.named(self.table["method"]), arguments, **inputs)
        right = self.row["value"]
        if not isinstance(right, dict):
            return found
        if isinstance(found, tuple):
            fields = getattr(found, "_fields", tuple(right))
            found = dict(zip(fields, found, strict=True))
        return {name: found[name] for name in right}

    def results(self, dtype, *, derivatives):
        """The value and the derivatives, by a compiled program that like rows share.

        The numbers among the arguments are Python's, as a user writes them, but for those of losses
        and those that are differentiated: these are traced.
        """
        inputs, given = self.inputs(dtype), self.row["arguments"]
        if self.table["call"] == "host":
            return self.call(inputs, given), {}
        differentiated = {name for row in self.table["rows"] for name in row.get("gradient", {})}
        by = sorted(differentiated & {*inputs, *given}) if derivatives else []
        traced = {
            name: as_array(part, dtype)
            for name, part in given.items()
            if isinstance(part, float) and (name in by or self.table["call"] == "loss")
        }
        fixed = {name: part for name, part in given.items() if name not in traced}
        key = (id(self.table), json.dumps(fixed), *by, *traced, dtype)
        if key not in PROGRAMS:
            PROGRAMS[key] = jax.jit(partial(self.program, fixed, by))
        return PROGRAMS[key](inputs, traced)

    def program(self, fixed, by, inputs, traced):
        def value(moved):
            own = {name: moved.get(name, part) for name, part in inputs.items()}
            return self.call(own, fixed | {name: moved.get(name, traced[name]) for name in traced})

        points = inputs | traced
        slopes = {name: jax.jacrev(lambda x, n=name: value({n: x}))(points[name]) for name in by}
        return value({}), slopes

    def compare(self, found, right):
        if isinstance(right, dict):
            for name, part in right.items():
                self.compare(found[name], part)
            return
        found, right = np.asarray(found), numbers(right)
        allowed = self.table["tolerance"]
        epsilon = np.finfo(found.dtype).eps if found.dtype.kind == "f" else 0
        scale = max(np.max(np.abs(right), initial=0), allowed["unit"])
        np.testing.assert_allclose(
            found, right, rtol=0, atol=allowed["roundings"] * epsilon * scale
        )
        assert found.shape == right.shape


def numbers(part):
    """A part of a table as an array, its strings worked out."""
    if isinstance(part, list):
        return np.array([numbers(entry) for entry in part])
    return np.asarray(evaluate(part) if isinstance(part, str) else part)


def as_array(part, dtype):
    array = numbers(part)
    return jnp.asarray(array, dtype if array.dtype.kind == "f" else None)


def read_tables():
    return {
        path.relative_to(make_tables.TABLES).as_posix(): json.loads(path.read_text())
        for path in sorted(make_tables.TABLES.glob("*/*.json"))
    }


TABLES = read_tables()
CASES = {
    f"{path.removesuffix('.json')}: {row['name']}": Case(table, row)
    for path, table in TABLES.items()
    for row in table["rows"]
}
DERIVATIVES = {
    f"{name}, by {by}": (case, by)
    for name, case in CASES.items()
    for by in case.row.get("gradient", {})
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_in_double_precision(case, float64):
    value, _ = case.results(jnp.float64, derivatives=True)
    case.compare(value, case.row["value"])


def quick(name, case):
    """A parameter of the test; slow, for its own compilation, if the arguments are special."""
    is_usual = case.row["arguments"] == case.table["rows"][0]["arguments"]
    return pytest.param(case, id=name, marks=() if is_usual else pytest.mark.slow)


@pytest.mark.parametrize("case", [quick(*item) for item in CASES.items()])
def test_values_in_single_precision(case):
    value, _ = case.results(jnp.float32, derivatives=False)
    case.compare(value, case.row["value"])


@pytest.mark.parametrize(("case", "by"), DERIVATIVES.values(), ids=list(DERIVATIVES))
def test_derivatives(case, by, float64):
    _, derivatives = case.results(jnp.float64, derivatives=True)
    case.compare(derivatives[by], case.row["gradient"][by])


def test_the_generator_finds_the_stored_tables():
    computed = make_tables.compute()
    stored = {path: table for path, table in TABLES.items() if not path.startswith("by_hand/")}
    assert computed.keys() == stored.keys(), "run python -m tests.oracles.make_tables"
    for path, table in computed.items():
        assert_same(json.loads(make_tables.written(table)), stored[path], path)


def assert_same(found, stored, where):
    """Equal, but for numbers: libraries of other versions may round otherwise."""
    if isinstance(stored, dict) and isinstance(found, dict):
        assert found.keys() == stored.keys(), where
        for key, part in stored.items():
            assert_same(found[key], part, f"{where}, {key}")
    elif isinstance(stored, list) and isinstance(found, list):
        assert len(found) == len(stored), where
        for position, part in enumerate(stored):
            assert_same(found[position], part, f"{where}[{position}]")
    elif isinstance(stored, float):
        tolerance = 1e-8 if "max_margin" in where else 4e-16
        assert found == pytest.approx(stored, rel=tolerance, abs=1e-300), where
    else:
        assert found == stored, where


def test_the_generator_does_not_know_the_library():
    sources = [make_tables.__file__, *make_tables.TABLES.parent.joinpath("formulas").glob("*.py")]
    for source in sources:
        with open(source) as file:
            tree = ast.parse(file.read())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                assert name.partition(".")[0] in MAY_IMPORT, f"{source} imports {name}"
                ours = not name.startswith("tests") or name.startswith("tests.oracles")
                assert ours, f"{source} imports {name}"


@pytest.mark.parametrize("path", TABLES)
def test_a_table_says_where_its_numbers_come_from(path):
    table = TABLES[path]
    assert table.keys() - {"no_gradient"} == FIELDS
    assert callable(calls.named(table["method"]))
    assert all(table[field] for field in FIELDS)
    assert table["tolerance"].keys() == {"roundings", "unit", "reason"}
    for row in table["rows"]:
        assert ("gradient" in row) != ("no_gradient" in table), f"gradient of {row['name']}"


def test_the_most_used_methods_have_a_table():
    assert {table["method"] for table in TABLES.values()} == WANTED
