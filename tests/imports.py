"""Who imports whom: rooms (folders), modules, arrows between them, floors and circles.

Run `python -m tests.imports [ROOT]` for a table per package. Late imports, within functions, count.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("weighting", "experiments", "benchmarks", "theory_checks")
Graph = Mapping[str, Collection[str]]  # module or room -> what it imports


def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages by its dotted name; a package stands for its `__init__`."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    dotted = (".".join(path.relative_to(root).with_suffix("").parts) for path in paths)
    return dict(zip((name.removesuffix(".__init__") for name in dotted), paths, strict=True))


def imports(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """The modules of ours that every module imports."""
    return {name: set(_imported(path, known)) - {name} for name, path in known.items()}


def _imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def room(module: str, known: Mapping[str, Path]) -> str:
    """The folder that a module lies in: "experiments.data", or "experiments" for its own files."""
    return module if known[module].name == "__init__.py" else module.rpartition(".")[0]


def rooms(graph: Graph, known: Mapping[str, Path]) -> dict[str, set[str]]:
    """The rooms that every room imports from.

    The files that stand in a package's own folder each count as a room: some are its foundations,
    some its roof.
    """

    def place(module: str) -> str:
        own = room(module, known)
        return module if own in PACKAGES else own

    found: dict[str, set[str]] = {place(module): set() for module in graph}
    for module, targets in graph.items():
        found[place(module)] |= {place(target) for target in targets} - {place(module)}
    return found


def circle(graph: Graph) -> list[str]:
    """A circle of imports, its first entry repeated at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def floors(graph: Graph) -> int:
    """The length of the longest chain of imports, in modules; 0 if they run in a circle."""
    height: dict[str, int] = {}
    try:
        for node in TopologicalSorter(graph).static_order():
            height[node] = 1 + max((height[target] for target in graph.get(node, ())), default=0)
    except CycleError:
        return 0
    return max(height.values(), default=0)


def main(root: Path = Path(__file__).parent.parent) -> None:
    """Prints a table: modules, the largest folder, arrows, arrows between rooms, floors, circle."""
    known = modules(root)
    graph = imports(known)
    print("package        modules  rooms  entries  arrows  between rooms  floors  circle")
    for package in PACKAGES:
        own = {m: {t for t in graph[m] if _top(t) == package} for m in graph if _top(m) == package}
        if not own:
            continue
        folders = [room(module, known) for module in own]
        largest = max(folders.count(folder) for folder in set(folders))
        arrows = [(a, b) for a, targets in own.items() for b in targets]
        between = sum(room(a, known) != room(b, known) for a, b in arrows)
        found = " -> ".join(circle(own)) or "none"
        print(
            f"{package:13}  {len(own):7}  {len(set(folders)):5}  {largest:7}  {len(arrows):6}  "
            f"{between:13}  {floors(own) or '-':>6}  {found}"
        )


def _top(module: str) -> str:
    return module.partition(".")[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
