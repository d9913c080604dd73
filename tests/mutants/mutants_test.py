"""The mutants themselves: what is changed in a text, what is left alone, and the sample of them."""

import json
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants import reporting
from tests.mutants.matching import stages
from tests.mutants.mutations import (
    all_mutants,
    files_with_code,
    find,
    required_keywords,
    sample,
)

ROOT = Path(__file__).parent.parent.parent


def results(text, required=None):
    """The changed texts, by kind."""
    source = text.encode()
    found = {}
    for mutant in find("m.py", source, required or {}):
        found.setdefault(mutant.kind, []).append(mutant.apply(source).decode())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a * valid", {"operator": ["a / valid"], "operand": ["(a)", "(valid)"]}),
        ("a - b", {"operator": ["a + b"], "operand": ["(a)"]}),
        ("é ** b", {"operator": ["é * b"], "operand": ["(é)"]}),  # offsets are of bytes
        ("(a + b) / c", {"operator": ["(a - b) / c", "(a + b) * c"]}),
        ("a & b", {"operand": ["(a)", "(b)"]}),
        ("a and b and c", {"operand": ["((a) and (b))", "((b) and (c))"]}),
        ("-a", {"sign": ["(a)"]}),
        ("not a", {"sign": ["(a)"]}),
        ("0 < a <= b", {"comparison": ["0 <= a <= b", "0 < a < b"]}),
        ("a is  not None", {"comparison": ["a is None"]}),
        ("a not in b", {"comparison": ["a in b"]}),
        ("a if b else c", {"condition": ["a if (not (b)) else c"]}),
        ("0", {"constant": ["1"]}),
        ("1.5", {"constant": ["3.0"]}),
        ("1e-9", {"constant": ["1.0"]}),
        ("10_000", {"constant": ["1"]}),
        ("True", {"constant": ["False"]}),
        ("jnp.sum(a)", {"sibling": ["jnp.mean(a)"]}),
        ("logsumexp(a)", {"sibling": ["max(a)"]}),
        ("jax.lax.stop_gradient(a)", {"wrapper": ["(a)"]}),
        ("jnp.where(a, b, c)", {"branches": ["(b)", "jnp.where(a, c, b)"]}),
        ("f(a, b=c)", {"keyword": ["f(a)"]}),
        ("f(b=c, d=e)", {"keyword": ["f(d=e)", "f(b=c)"]}),
    ],
)
def test_a_mutant_is_one_edit(text, expected):
    found = results(text)
    for kind, texts in expected.items():
        assert sorted(found[kind]) == sorted(texts)


def test_what_is_no_formula_is_left_alone():
    text = '''
"""A docstring, 1 + 1."""
Either = int | float

@wraps(a + 1)
def f(a: int = 1, *, b: "1 + 1" = 2) -> x[0]:
    """Another, 2 + 2."""
    if a:
        raise ValueError(f"{a + 1}" + "text")
    return "a" + b
'''
    assert list(results(text)) == ["condition"]


def test_a_keyword_without_a_default_is_not_left_out():
    source = "def f(a, *, b, c=1): ...\nclass P(NamedTuple):\n    x: int\n    y: int = 1\n"
    required = required_keywords([source.encode()])
    assert required == {"f": {"a", "b"}, "P": {"x"}}
    assert results("f(b=d, c=d)", required)["keyword"] == ["f(b=d)"]


def test_equal_mutations_of_a_function_have_keys_of_their_own():
    keys = [m.key for m in find("m.py", b"def f():\n    return g(-a) + g(-a)\n", {})]
    assert len(set(keys)) == len(keys)
    assert "m.py::f: -a -> a" in keys
    assert "m.py::f: -a -> a (2)" in keys


def test_a_sample_is_even_over_files_and_the_same_again():
    mutants = all_mutants(ROOT, ["weighting/metrics.py", "weighting/base.py"])
    chosen = sample(mutants, 30, seed=1)
    assert [m.file for m in chosen].count("weighting/base.py") == 15
    assert chosen == sample(mutants, 30, seed=1) != sample(mutants, 30, seed=2)
    alone = sample({"weighting/base.py": mutants["weighting/base.py"]}, 15, seed=1)
    assert alone == [m for m in chosen if m.file == "weighting/base.py"]
    assert len({m.kind for m in alone}) >= 6


def test_every_file_has_tests_and_every_reason_a_mutant():
    found = {f: own for f, own in all_mutants(ROOT, list(files_with_code(ROOT))).items() if own}
    for file in found:
        for stage in stages(ROOT, file):
            assert all((ROOT / path).exists() for path in stage.files)
    for mutant in sample(found, 200, seed=0):
        compile(mutant.apply((ROOT / mutant.file).read_bytes()), mutant.file, "exec")
    known = {mutant.key for own in found.values() for mutant in own}
    stale = reporting.reasons().keys() - known
    assert not stale, "no such mutant, so mend or drop these reasons:\n" + "\n".join(sorted(stale))


def test_rows_counts_and_page(capsys, monkeypatch, tmp_path):
    source = b"def f(a):\n    return -a if a < 1 else a\n"
    killed, survived, equivalent = find("weighting/m.py", source, {})[:3]
    rows = [
        reporting.record(killed, "killed", killed_by="m_test.py::t", seconds=2.04),
        reporting.record(survived, "survived"),
        reporting.record(equivalent, "equivalent", reason="rounding"),
    ]
    assert reporting.counts(rows)["killed_share"] == 0.5
    assert "50.0 %" in reporting.summary(rows)
    text = reporting.page(rows, "a command")
    assert "| weighting/m.py | 3 | 1 | 1 | 1 |" in text
    assert f"`{survived.mutation}`" in text
    assert ": rounding" in text

    place = tmp_path / "results.json"
    place.write_text(json.dumps(rows))
    assert list(command.earlier(place)) == [killed.key]
    assert command.main(["--list", "--files", "metrics.py", "--count", "3"]) == 0
    assert capsys.readouterr().out.count("weighting/metrics.py::") == 3
