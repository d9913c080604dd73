"""The house keeps its order: imports run down, rooms stay small, names mean one thing."""

import ast
import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path

import pytest

from tests import imports

ROOT = Path(__file__).parent.parent
KNOWN = imports.modules(ROOT)
GRAPH = imports.imports(KNOWN)

# A package may import those that its line names, and itself.
MAY_IMPORT = {
    "weighting": set(),
    "experiments": {"weighting"},
    "benchmarks": {"experiments", "weighting"},
    "theory_checks": {"experiments", "weighting"},
}
# Rooms from the ground up: each may import from itself and from those before it. Rooms of one line
# do not know of each other.
FLOORS = {
    "weighting": [
        "_checks _jaxopt _numbers _types _whole_batch",
        "losses linearize _layers",
        "metrics base gradient_norms layerwise",
        "_arrays",
        "train_step",
        "schemes difficulty implicit_bias shift",
        "training",
    ],
    "experiments": [
        "tools",
        "data",
        "networks",
        "methods",
        "training",
        "reporting",
        "explain simulated",
        "ren2018 santiago2021 xu2021 zhou2022 studies",
        "catalogue",
        "arguments",
        "commands",
        "__main__",
    ],
    "theory_checks": [
        "records",
        "figures",
        "storage",
        "common pages",
        "ren2018 santiago2021 xu2021 zhou2022",
        "catalogue",
        "__main__",
    ],
}
MOST_ENTRIES = 25
MOST_LINES = 60
# Names that a protocol gives to one thing in every module that has it.
PROTOCOL = {"main", "checks"}


def test_packages_import_downwards():
    wrong = [
        f"{module} imports {target}"
        for module, targets in GRAPH.items()
        for target in sorted(targets)
        if top(target) != top(module) and top(target) not in MAY_IMPORT[top(module)]
    ]
    assert not wrong, "these imports run up:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_downwards(package):
    floor = {
        f"{package}.{name}": height
        for height, names in enumerate(FLOORS[package])
        for name in names.split()
    }
    wrong = []
    for module in (m for m in GRAPH if top(m) == package and m != package):
        own = second(module)
        assert own in floor, f"{own} has no floor: give it one in FLOORS"
        for target in sorted(t for t in GRAPH[module] if top(t) == package and t != package):
            other = second(target)
            if own != other and floor[other] >= floor[own]:
                wrong.append(f"{module} imports {target}")
        if package in GRAPH[module]:
            wrong.append(f"{module} imports {package} itself")
    assert not wrong, f"within {package} these imports do not run down:\n" + "\n".join(wrong)


def test_no_circle():
    found = imports.circle(GRAPH)
    assert not found, "imports run in a circle: " + " -> ".join(found)
    found = imports.circle(imports.rooms(GRAPH, KNOWN))
    assert not found, "rooms import each other in a circle: " + " -> ".join(found)


def test_rooms_are_small():
    entries = defaultdict(set)
    for base in (*imports.PACKAGES, "tests"):
        for path in (ROOT / base).rglob("*.py"):
            for part in (path, *path.parents):
                if part == ROOT / base:
                    break
                entries[part.parent].add(part.name)
    crowded = [
        f"{folder.relative_to(ROOT)} has {len(names)} entries"
        for folder, names in sorted(entries.items())
        if len(names) > MOST_ENTRIES
    ]
    assert not crowded, f"more than {MOST_ENTRIES} entries; open a room:\n" + "\n".join(crowded)


def test_functions_are_short():
    """A function fits on a screen; its docstring does not count."""
    long = []
    for module, path in KNOWN.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = num_lines(node)
                if lines > MOST_LINES:
                    long.append(f"{module}.{node.name} has {lines} lines")
    assert not long, f"more than {MOST_LINES} lines without the docstring:\n" + "\n".join(long)


def num_lines(function):
    first, *_ = function.body
    is_docstring = ast.get_docstring(function, clean=False) is not None
    total = function.end_lineno - function.lineno + 1
    return total - (first.end_lineno - first.lineno + 1) if is_docstring else total


def test_code_is_formatted_without_exceptions():
    exempt = "fmt: " + "skip"
    found = [module for module, path in KNOWN.items() if exempt in path.read_text()]
    assert not found, f"{exempt} in " + ", ".join(found)


def test_a_class_has_a_name_of_its_own():
    assert not shared_names(KNOWN, (ast.ClassDef,)), "public classes of one name:\n" + "\n".join(
        shared_names(KNOWN, (ast.ClassDef,))
    )


@pytest.mark.parametrize("package", ["weighting", "experiments"])
def test_a_function_has_a_name_of_its_own(package):
    """Losses are a namespace: `losses.focal` is the loss, `focal` the scheme."""
    own = {
        module: path
        for module, path in KNOWN.items()
        if top(module) == package and not module.startswith("weighting.losses")
    }
    found = shared_names(own, ast.FunctionDef)
    assert not found, "public functions of one name:\n" + "\n".join(found)


def shared_names(known, kind):
    places = defaultdict(list)
    for module, path in known.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                places[node.name].append(module)
    return [
        f"{name}: {', '.join(where)}"
        for name, where in sorted(places.items())
        if len(where) > 1 and name not in PROTOCOL
    ]


@pytest.mark.parametrize("package", [*MAY_IMPORT])
def test_nothing_shadows_a_module(package):
    """`import weighting.schemes.low as m` must give the module, not a function of that name."""
    found = importlib.import_module(package)
    packages = [found, *packages_below(found)]
    shadowed = [
        f"{own.__name__}.{module.name}"
        for own in packages
        for module in pkgutil.iter_modules(own.__path__)
        if not is_module(getattr(own, module.name, None))
    ]
    assert not shadowed, "something else stands under a module's name: " + ", ".join(shadowed)


def packages_below(package):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.ispkg:
            yield importlib.import_module(module.name)


def is_module(value):
    return value is None or type(value).__name__ == "module"


def test_the_front_page_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150, f"README.md has {len(lines)} lines; move what is not first to docs/"


def top(module):
    return module.partition(".")[0]


def second(module):
    return ".".join(module.split(".")[:2])
