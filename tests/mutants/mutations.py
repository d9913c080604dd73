"""What can be changed in a source file: every mutant is one small edit of its text.

The kinds:
- operator: `+` and `-`, `*` and `/`, `**` for `*`, likewise `+=`;
- operand: one side of a sum, product, quotient, power or conjunction is left out (a factor, a
  mask);
- sign: a minus, `not` or `~` is left out;
- comparison: `<` and `<=`, `>` and `>=`, `==` and `!=`, `is` and `is not`, `in` and `not in`;
- condition: the test of an `if`, `while` or conditional expression is negated;
- constant: 0 to 1, 1 to 2, true to false, otherwise x to 2 x; a size below a thousandth (a
  tolerance or guard) or from a thousand on (a limit of steps) to 1, since twice it promises nothing
  else;
- sibling: a function is another of its kind, as `sum` and `mean`;
- wrapper: a function of one value is left out, as `stop_gradient`, `abs` or a bound;
- branches: `where(c, a, b)` with a and b exchanged, or a everywhere;
- keyword: a keyword argument that has a default is left out.

Left alone: docstrings and other strings, type hints, decorators, messages (`raise`), `strict` of
`zip`, and default values, which are choices rather than formulas.
"""

import ast
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
}
ONE_SIDE = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.BitAnd, ast.BitOr)
BOTH_SIDES = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)
COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_PAIRS = [
    ("sum", "mean"),
    ("max", "min"),
    ("maximum", "minimum"),
    ("argmax", "argmin"),
    ("any", "all"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("floor", "ceil"),
    ("exp", "expm1"),
    ("log", "log1p"),
    ("logical_and", "logical_or"),
]
SIBLINGS = dict(_PAIRS) | {b: a for a, b in _PAIRS} | {"logsumexp": "max", "median": "mean"}
WRAPPERS = {
    *("stop_gradient", "abs", "sqrt", "square", "exp", "expm1", "log", "log1p", "clip", "maximum"),
    *("minimum", "relu", "softplus", "sigmoid", "tanh", "sort", "round", "floor", "ceil", "flip"),
    *("nan_to_num", "cumsum"),
}
ASSERTED = {"strict"}  # keywords that only assert something, of `zip`
CONTEXT = 36  # characters of an expression shown on either side of a change


class Mutant(NamedTuple):
    """One edit: the bytes from `start` to `end` become `text`."""

    file: str
    function: str
    line: int
    kind: str
    mutation: str  # "before -> after", the key among those of a function
    start: int
    end: int
    text: str

    @property
    def key(self) -> str:
        return f"{self.file}::{self.function}: {self.mutation}"

    def apply(self, source: bytes) -> bytes:
        """The source with the edit made."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def find(file: str, source: bytes, required: Mapping[str, set[str]]) -> list[Mutant]:
    """All mutants of a file, in the order of its text; `required` as `required_keywords` gives."""
    finder = _Finder(source, required)
    finder.visit(ast.parse(source))
    found: dict[tuple[int, int, str], Mutant] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for function, line, kind, before, after, start, end, text in sorted(finder.found, key=_place):
        mutant = Mutant(file, function, line, kind, "", start, end, text)
        if (start, end, text) in found:
            continue
        mutation = _shortened(before, after)
        seen[function, mutation] += 1
        if seen[function, mutation] > 1:
            mutation += f" ({seen[function, mutation]})"
        found[start, end, text] = mutant._replace(mutation=mutation)
    return list(found.values())


def required_keywords(sources: Sequence[bytes]) -> dict[str, set[str]]:
    """Function or class name -> parameters without a default; leaving one out is no mutant."""
    found: dict[str, set[str]] = {}
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.FunctionDef):
            own, defaults = node.args, node.args.defaults
            positional = [*own.posonlyargs, *own.args]
            names = {a.arg for a in positional[: len(positional) - len(defaults)]}
            pairs = zip(own.kwonlyargs, own.kw_defaults, strict=True)
            names |= {a.arg for a, default in pairs if default is None}
        elif isinstance(node, ast.ClassDef):
            fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and f.value is None]
            names = {f.target.id for f in fields if isinstance(f.target, ast.Name)}
        else:
            continue
        found[node.name] = found.get(node.name, set()) | names
    return found


def all_mutants(root: Path, files: Sequence[str]) -> dict[str, list[Mutant]]:
    """File, relative to the root -> its mutants."""
    required = required_keywords([(root / file).read_bytes() for file in files_with_code(root)])
    return {file: find(file, (root / file).read_bytes(), required) for file in files}


def sample(mutants: Mapping[str, Sequence[Mutant]], count: int, seed: int) -> list[Mutant]:
    """As many of every file, of all kinds in turn; the draw of a file depends on it alone.

    Files that have fewer leave their share to the others. In the order of files and lines.
    """
    drawn = {file: _by_kind_in_turn(found, f"{seed} {file}") for file, found in mutants.items()}
    chosen: list[Mutant] = []
    while len(chosen) < count and any(drawn.values()):
        for file in [file for file, left in drawn.items() if left][: count - len(chosen)]:
            chosen.append(drawn[file].pop(0))
    return sorted(chosen)


def _by_kind_in_turn(mutants: Sequence[Mutant], seed: str) -> list[Mutant]:
    generator = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {}
    for mutant in generator.sample(list(mutants), len(mutants)):
        kinds.setdefault(mutant.kind, []).append(mutant)
    turns = [(turn, mutant) for own in kinds.values() for turn, mutant in enumerate(own)]
    return [mutant for _, mutant in sorted(turns, key=lambda pair: pair[0])]


def _place(found: tuple) -> tuple:
    *_, start, end, text = found
    return start, end, text


def _shortened(before: str, after: str) -> str:
    """The change on one line, with what is common cut to a few characters on either side."""
    before, after = (" ".join(text.split()) for text in (before, after))
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    cut, rest = max(head - CONTEXT, 0), max(tail - CONTEXT, 0)

    def shown(text: str) -> str:
        return ("..." if cut else "") + text[cut : len(text) - rest] + ("..." if rest else "")

    return f"{shown(before)} -> {shown(after)}"


class _Finder(ast.NodeVisitor):
    """Collects (function, line, kind, before, after, start, end, text)."""

    def __init__(self, source: bytes, required: Mapping[str, set[str]]):
        self.source, self.required = source, required
        lines = source.splitlines(keepends=True)
        self.offsets = [0]
        for line in lines:
            self.offsets.append(self.offsets[-1] + len(line))
        self.names: list[str] = []
        self.around: list[ast.AST] = []
        self.found: list[tuple] = []

    def visit(self, node: ast.AST) -> None:
        self.around.append(node)
        super().visit(node)
        self.around.pop()

    # Where things stand in the text.

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.offsets[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self.offsets[node.end_lineno - 1] + node.end_col_offset  # type: ignore

    def text(self, node: ast.AST) -> str:
        return self.between(*self.span(node))

    def between(self, start: int, end: int) -> str:
        return self.source[start:end].decode()

    def add(self, node: ast.AST, kind: str, text: str) -> None:
        """The whole node becomes the text."""
        bare = text[1:-1] if text.startswith("(") and text.endswith(")") else text
        self._add(node, kind, self.text(node), bare, *self.span(node), text)

    def add_within(self, node: ast.AST, kind: str, start: int, end: int, text: str) -> None:
        """A part of the node becomes the text; the node is shown."""
        first, last = self.span(node)
        after = self.between(first, start) + text + self.between(end, last)
        self._add(node, kind, self.text(node), after, start, end, text)

    def _add(self, node: ast.AST, kind: str, before: str, after: str, *edit: object) -> None:
        line = node.lineno  # type: ignore[attr-defined]
        function = ".".join(self.names) or "<module>"
        self.found.append((function, line, kind, before, after, *edit))

    def swap_symbol(self, node: ast.AST, kind: str, gap: tuple[int, int], old: str, new: str):
        """Exchanges a symbol that stands in the gap between two operands."""
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        match = re.search(pattern.encode(), self.source[slice(*gap)])
        if match:
            self.add_within(node, kind, gap[0] + match.start(), gap[0] + match.end(), new)

    # Scopes, and what is left alone.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.names.append(node.name)
        self.visit_all(node.body)
        self.names.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.append(node.name)
        self.visit_all([part for part in node.body if isinstance(part, ast.FunctionDef)])
        self.names.pop()

    def visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Import(self, node: ast.Import) -> None:
        pass

    # Arithmetic.

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_alias = not self.names and isinstance(node.op, ast.BitOr)
        if is_alias or any(_is_no_number(side) for side in (node.left, node.right)):
            self.generic_visit(node)
            return
        self.operator(node, self.span(node.left)[1], self.span(node.right)[0], node.op)
        if isinstance(node.op, ONE_SIDE):
            self.add(node, "operand", f"({self.text(node.left)})")
        if isinstance(node.op, BOTH_SIDES):
            self.add(node, "operand", f"({self.text(node.right)})")
        self.generic_visit(node)

    def operator(self, node: ast.AST, start: int, end: int, op: ast.operator) -> None:
        if type(op) in OPERATORS:
            old, new = OPERATORS[type(op)]
            self.swap_symbol(node, "operator", (start, end), old, new)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.operator(node, self.span(node.target)[1], self.span(node.value)[0], node.op)
        self.visit(node.value)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for kept in (node.values[:-1], node.values[1:]):
            word = " and " if isinstance(node.op, ast.And) else " or "
            text = word.join(f"({self.text(value)})" for value in kept)
            self.add(node, "operand", text if len(kept) == 1 else f"({text})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.add(node, "sign", f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            gap = self.span(left)[1], self.span(right)[0]
            self.swap_symbol(node, "comparison", gap, *COMPARISONS[type(op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool | int | float):
            text = str(not value) if isinstance(value, bool) else _other_number(value)
            outer = self.around[-2]
            shown = outer if isinstance(outer, ast.expr | ast.keyword) else node
            self.add_within(shown, "constant", *self.span(node), text)

    # Choices.

    def negate(self, test: ast.expr) -> None:
        self.add(test, "condition", f"(not ({self.text(test)}))")

    def visit_If(self, node: ast.If) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    visit_While = visit_If
    visit_IfExp = visit_If

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negate(test)
        self.generic_visit(node)

    # Calls.

    def visit_Call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        if name in SIBLINGS:
            end = self.span(node.func)[1]
            self.add_within(node, "sibling", end - len(name), end, SIBLINGS[name])
        if name in WRAPPERS and node.args and not isinstance(node.args[0], ast.Starred):
            self.add(node, "wrapper", f"({self.text(node.args[0])})")
        if name == "where" and len(node.args) == 3:
            condition, chosen, other = (self.text(argument) for argument in node.args)
            exchanged = f"{self.text(node.func)}({condition}, {other}, {chosen})"
            self.add(node, "branches", exchanged)
            self.add(node, "branches", f"({chosen})")
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in self.required.get(name, set()) | ASSERTED:
                self.drop_keyword(node, keyword)
        self.visit_all([node.func, *node.args, *node.keywords])

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in ASSERTED:
            self.visit(node.value)

    def drop_keyword(self, node: ast.Call, keyword: ast.keyword) -> None:
        start, end = self.span(keyword)
        following = re.match(rb"\s*,\s*", self.source[end:])
        if following:
            end += following.end()
        else:
            while self.source[start - 1 : start] not in (b",", b"("):
                start -= 1
            start -= self.source[start - 1 : start] == b","
        self.add_within(node, "keyword", start, end, "")


def _is_no_number(node: ast.AST) -> bool:
    """Strings, lists and tuples are joined, not added."""
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return text or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple)


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _other_number(value: int | float) -> str:
    size, kind = abs(value), type(value)
    if value == 0 or 0 < size < 1e-3 or size >= 1000:
        return str(kind(1))
    return str(kind(2) * value)


def files_with_code(root: Path) -> Iterator[str]:
    """The modules of `weighting/`, without those that only gather names."""
    for path in sorted((root / "weighting").rglob("*.py")):
        if path.name != "__init__.py":
            yield str(path.relative_to(root))
