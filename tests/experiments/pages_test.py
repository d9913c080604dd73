"""The written pages: links lead somewhere, commands are understood, numbers are those measured."""

import json
import re
import shlex
from pathlib import Path

import pytest

from experiments import arguments
from experiments.catalogue import NAMES

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "results").glob("**/*.md")),
]
WRITTEN = [page for page in PAGES if "results" not in page.parts]  # by people
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
written = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))


@names
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http", "mailto")):
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        if not path.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(path):
            wrong.append(f"{target}: no such heading")
    assert not wrong, f"{page.relative_to(ROOT)}:\n" + "\n".join(sorted(set(wrong)))


def anchors(path):
    """Those that GitHub makes of headings, and those given by hand."""
    text = path.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


@written
def test_commands_are_understood(page):
    for line in commands(page):
        words = shlex.split(line, comments=True)
        start = words.index("experiments") + 1
        try:
            command = arguments.read_command(words[start:])
        except SystemExit:
            pytest.fail(f"{page.name}: the command line refuses {line}")
        if isinstance(command, arguments.Run):
            assert command.name in NAMES, line
            assert command.preset in NAMES[command.name].presets, line


def commands(page):
    """The lines of shell blocks that call the laboratory, with examples for what is left open."""
    lines = []
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python -m experiments ") and "NAME" not in line:
                lines.append(line)
    return lines


def test_the_front_page_shows_the_demos_numbers():
    """README's table against the numbers that `make demo` printed into results/."""
    summary = json.loads((ROOT / "results" / "demo-cpu" / "summary.json").read_text())
    shown = {
        problem: {row["method"]: f"{row['mean']:.2f} ± {row['standard_error']:.2f}" for row in rows}
        for problem, rows in summary.items()
    }
    aucs = {row["method"]: row["extra"]["noise AUC"] for row in summary["noise"]}
    words = {"uniform (ERM)": "uniform", "clean images only": "clean_only"}
    rows = re.findall(r"^\| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    table = [re.split(r"\s*\|\s*", row) for row in rows if "±" in row]
    assert len(table) >= 6
    for method, error, auc, _, other, balanced in table:
        for text, value, problem in ((method, error, "noise"), (other, balanced, "long_tail")):
            name = text
            for word, plain in words.items():
                name = name.replace(word, plain)
            assert value == shown[problem][name], (text, problem)
            if problem == "noise" and auc:
                assert auc == f"{aucs[name]:.2f}", text
