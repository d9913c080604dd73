"""What `pip install` brings: the library alone, typed; the laboratory from a clone."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import weighting
from tests.copies import copy_parts

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHECK = "import weighting; print(weighting.__file__, weighting.__version__); weighting.low(0.1)"
LABORATORY = ("experiments", "theory_checks", "benchmarks", "tests")


def run(*command, folder, **environment):
    """The output of a command started in a folder, where no package of this clone is seen."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {name: str(value) for name, value in environment.items()},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Building leaves folders behind: here in a copy."""
    names = ["weighting", "pyproject.toml", "README.md", "LICENSE"]
    names += [path.name for path in ROOT.glob("requirements*.txt")]
    names += [name for name in LABORATORY if name != "tests"]
    return copy_parts(ROOT, tmp_path_factory.mktemp("clone"), names)


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", clone, folder=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_alone_and_typed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"weighting"}
    assert "weighting/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "weighting").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_the_wheel_works_from_another_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    printed = run(sys.executable, "-c", CHECK, folder=elsewhere, PYTHONPATH=tmp_path / "site")
    path, version = printed.split()
    assert Path(path).is_relative_to(tmp_path / "site")
    assert version == weighting.__version__
    assert wheel.name.startswith(f"sample_weighting-{version}-")


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def test_versions_are_said_once_or_alike():
    assert set(PROJECT["dependencies"]) <= set(requirements("requirements.txt"))
    (gpu,) = requirements("requirements-gpu.txt")
    assert gpu.replace("[cuda13]", "") in PROJECT["dependencies"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {weighting.__version__}\n" in citation


def test_upper_bounds_have_a_reason():
    paths = sorted(ROOT.glob("requirements*.txt"))
    assert len(paths) >= 4
    for path in paths:
        for line in path.read_text().splitlines():
            if re.search(r"<|==", line.split("#")[0]):
                assert "#" in line, f"{path.name}: {line} without a reason"


@pytest.mark.slow
def test_fresh_environments_hold_what_was_asked_for(clone, tmp_path):
    """The library alone, then the laboratory beside it; packages come from the registry."""
    elsewhere, environment = tmp_path / "elsewhere", tmp_path / "env"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", environment, folder=elsewhere)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", clone, folder=elsewhere)
    path = run(python, "-c", CHECK, folder=elsewhere).split()[0]
    assert Path(path).is_relative_to(environment)
    find = "import importlib.util as u; print(*[n for n in {} if u.find_spec(n)])"
    named = find.format((*LABORATORY, "flax", "sklearn", "matplotlib"))
    assert run(python, "-c", named, folder=elsewhere).split() == []
    run(python, "-m", "pip", "install", "--quiet", "-e", f"{clone}[lab]", folder=elsewhere)
    assert run(python, "-c", find.format(LABORATORY), folder=elsewhere).split() == []
    path = run(python, "-c", CHECK, folder=elsewhere).split()[0]
    assert Path(path).is_relative_to(clone)
    assert "ren2018" in run(python, "-m", "experiments", "list", folder=clone)
