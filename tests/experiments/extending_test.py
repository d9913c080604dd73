"""docs/extending.md, followed: its blocks are put where it says, and what must run there runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.copies import copy_parts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCK = re.compile(
    r"^(?P<kind>New file|Add to) `(?P<path>[^`]+)`(?:, (?P<side>above|below) `(?P<line>[^`]+)`)?:"
    r"\n\n```python\n(?P<code>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
BLOCKS = list(BLOCK.finditer(PAGE))
TINY = [
    *("--noise", "uniform:0.4", "--num-steps", "4", "--num-evals", "2"),
    *("--seeds", "1", "--num-validation", "60", "--num-test", "100", "--num-train", "200"),
]


@pytest.fixture(scope="module", name="tree")
def _tree(tmp_path_factory):
    tree = tmp_path_factory.mktemp("tree")
    parts = ("weighting", "experiments", "theory_checks", "tests", "docs", "pyproject.toml")
    copy_parts(ROOT, tree, parts)
    for block in BLOCKS:
        path = tree / block["path"]
        if block["kind"] == "New file":
            assert not path.exists(), f"{path} is there already"
            path.write_text(block["code"])
        else:
            insert(path, block["side"], block["line"], block["code"])
    page = run(tree, "-m", "experiments", "methods", "--markdown")
    (tree / "docs" / "methods.md").write_text(page)
    return tree


def insert(path, side, line, code):
    lines = path.read_text().splitlines(keepends=True)
    at = [i for i, text in enumerate(lines) if text.strip() == line]
    assert len(at) == 1, f"{path} has {len(at)} lines {line!r}, not one"
    lines.insert(at[0] + (side == "below"), code)
    path.write_text("".join(lines))


def run(tree, *command):
    """The output of a Python command in the tree; its errors, if it fails, are the test's."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_every_block_of_the_page_is_headed_by_its_place():
    assert PAGE.count("```python") == len(BLOCKS)
    assert {block["kind"] for block in BLOCKS} == {"New file", "Add to"}
    assert all(block["line"] for block in BLOCKS if block["kind"] == "Add to")


def test_what_the_page_adds_is_formatted_and_listed(tree):
    files = {block["path"] for block in BLOCKS}
    run(tree, "-m", "ruff", "check", *files)
    run(tree, "-m", "ruff", "format", "--check", *files)
    page = (tree / "docs" / "methods.md").read_text()
    assert (
        "| general_robust | shape (-2), scale (1) | loss | Barron 2019 | losses | mean one "
        "| the further a loss is out, the less it weighs |"
    ) in page
    assert "| symmetric_cross_entropy | alpha (0.1), beta (1) | robust | Wang 2019 (SCE) |" in page
    assert "| brier_score | in Python: weighting.brier_score | one network |" in page


@pytest.mark.slow
def test_the_scheme_conforms_and_is_compared(tree):
    out = run(tree, "-m", "pytest", "tests/weighting/contract_test.py", "-k", "general_robust")
    assert re.search(r"1[0-9] passed", out)
    run(tree, "-m", "pytest", "tests/experiments/methods/registry_test.py", "-x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--weighting", "general_robust:0:scale=2+clip:0:5"],
        ["--loss", "symmetric_cross_entropy:0.5"],
        ["--model", "deep_linear"],
        ["--dataset", "breast_cancer"],
    ],
    ids=["scheme", "loss", "network", "dataset"],
)
def test_the_command_line_trains_with_it(arguments, tree, tmp_path):
    out = run(tree, "-m", "experiments", "train", *TINY, *arguments, "--out", str(tmp_path / "run"))
    assert "test_accuracy" in out


@pytest.mark.slow
def test_what_the_page_tests_is_true(tree):
    files = [block["path"] for block in BLOCKS if block["path"].endswith("_test.py")]
    assert len(files) == 3
    assert "3 passed" in run(tree, "-m", "pytest", *files)


@pytest.mark.slow
def test_the_experiment_runs(tree, tmp_path):
    command = ["-m", "experiments", "run", "batch_sizes", "--preset", "smoke"]
    out = run(tree, *command, "--out", str(tmp_path / "run"))
    assert "low:0.1/64" in out
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_the_difficulty_measure_is_in_the_study(tree, tmp_path):
    command = ["-m", "experiments", "run", "difficulty", "--preset", "smoke", "--seeds", "1"]
    assert "Brier score" in run(tree, *command, "--out", str(tmp_path / "run"))


@pytest.mark.slow
def test_the_theory_check_holds(tree):
    out = run(tree, "-m", "theory_checks", "S-bound", "--preset", "smoke")
    assert "passed  S-bound" in out
    assert "control negative" in out
