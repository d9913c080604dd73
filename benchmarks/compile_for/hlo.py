"""What the text of a compiled program tells: its collectives, kernels, and the bytes they move."""

import math
import re
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(-start)?\(")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?(%[\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")
_OPERAND = re.compile(r"%[\w.-]+")
# What names, groups or views data, and the ends of what was started: nothing runs.
_NO_WORK = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota"),
    *("partition-id", "replica-id", "after-all", "opt-barrier"),
}


class Collective(NamedTuple):
    """An exchange between devices, with the bytes of its result on each."""

    kind: str
    num_bytes: int


class Kernels(NamedTuple):
    """What the entry computation runs; a loop's body, or a call, counts as one."""

    count: int
    num_bytes: int  # of operands and results, each as often as it is read or written


def collectives(hlo: str) -> list[Collective]:
    """The collectives in a program; one per instruction, those in the body of a loop once.

    XLA makes one instruction of several small exchanges that are ready together.
    """
    found = []
    for line in hlo.splitlines():
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        shape, kind, is_start = match.groups()
        sizes = _sizes(shape)
        if is_start and shape.startswith("(("):  # ((operands), (results), ...)
            half = max(len(sizes) // 2, 1)
            sizes = sizes[half : 2 * half]
        elif is_start and kind != "all-reduce":  # (operand, result, ...)
            sizes = sizes[1:2]
        found.append(Collective(kind, sum(sizes)))
    return found


def kernels(hlo: str) -> Kernels:
    """The instructions of the entry computation that do something."""
    sizes: dict[str, int] = {}
    count = num_bytes = 0
    for line in _entry(hlo):
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        name, shape, opcode, rest = match.groups()
        sizes[name] = sum(_sizes(shape))
        if opcode in _NO_WORK or opcode.endswith("-done"):
            continue
        operands = _OPERAND.findall(rest.partition(")")[0])
        count += 1
        num_bytes += sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
    return Kernels(count, num_bytes)


def _entry(hlo: str) -> list[str]:
    lines = hlo.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("ENTRY ")]
    if not starts:
        return []
    body = lines[starts[0] + 1 :]
    return body[: body.index("}")] if "}" in body else body


def _sizes(shape: str) -> list[int]:
    """Bytes of every array in a shape, which may be a tuple."""
    return [_size(*array.groups()) for array in _ARRAY.finditer(shape)]


def _size(name: str, bits: str | None, dimensions: str) -> int:
    width = 8 if name == "pred" else int(bits or 8)
    return math.prod(int(size) for size in dimensions.split(",") if size) * width // 8
