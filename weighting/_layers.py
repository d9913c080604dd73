"""Finds the layers of a network in its traced computation, and runs it with them laid bare.

Every value is *fixed* (constants), *made* (of parameters, and constants) or *data* (it depends on
the batch). An operation that takes both made and data values is a layer. Calls of compiled
functions are entered; anything else is one operation.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.extend import core

from weighting._checks import check_vector

CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "checkpoint": "jaxpr"}
LOOPS = ("scan", "while", "cond")
REARRANGEMENTS = ("reshape", "transpose", "squeeze", "expand_dims", "copy", "broadcast_in_dim")


class Value(NamedTuple):
    """A value of the computation; data has no number where only the made ones are wanted."""

    number: Any
    is_data: bool = False
    leaves: frozenset[int] = frozenset()  # of the parameters it is made of; none if fixed
    is_rearranged: bool = True  # it is a leaf of the parameters, in another shape at most


class Layer(NamedTuple):
    """One operation on parameters and data."""

    equation: core.JaxprEqn
    operands: tuple[Value, ...]

    @property
    def output(self) -> Any:
        """Shape and dtype of what it returns."""
        return self.equation.outvars[0].aval

    @property
    def made(self) -> tuple[Array, ...]:
        """The numbers made of parameters that enter."""
        return tuple(x.number for x in self.operands if x.leaves)

    def apply(self, made: Sequence[Array], operands: Sequence[Any] | None = None) -> Array:
        """The operation as a function of what is made; on other operands if they are given."""
        rest = iter(made)
        given = [x.number for x in self.operands] if operands is None else operands
        numbers = [
            next(rest) if x.leaves else number
            for x, number in zip(self.operands, given, strict=True)
        ]
        return bind(self.equation, numbers)[0]


def bind(equation: core.JaxprEqn, numbers: Sequence[Any]) -> list[Any]:
    """Carries out one operation."""
    params = equation.primitive.get_bind_params(equation.params)
    outputs = equation.primitive.bind(*numbers, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def walk(
    closed: core.ClosedJaxpr, arguments: Sequence[Value], visit: Callable[[Layer], Any]
) -> list[Value]:
    """Runs a computation. A layer's output is what `visit` returns; data stay None without numbers.

    Raises:
      ValueError: if layers are in a loop, or an operation on parameters has several results.
    """
    values: dict[core.Var, Value] = {}

    def read(atom: core.Var | core.Literal) -> Value:
        return Value(atom.val) if isinstance(atom, core.Literal) else values[atom]

    jaxpr = closed.jaxpr
    values.update(zip(jaxpr.constvars, map(Value, closed.consts), strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        operands = tuple(read(atom) for atom in equation.invars)
        name = equation.primitive.name
        leaves = frozenset[int]().union(*(x.leaves for x in operands))
        is_data = any(x.is_data for x in operands)
        if leaves and is_data and name in CALLS:
            inner = equation.params[CALLS[name]]
            inner = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
            outputs = walk(inner, operands, visit)
        elif leaves and is_data:
            if name in LOOPS or len(equation.outvars) != 1:
                raise ValueError(
                    f"parameters enter {name!r}, which is not a layer with one output; write "
                    "loops over layers out, or use linearize_losses"
                )
            outputs = [Value(visit(Layer(equation, operands)), True)]
        elif any(x.is_data and x.number is None for x in operands):
            outputs = [Value(None, True)] * len(equation.outvars)
        else:
            numbers = bind(equation, [x.number for x in operands])
            is_kept = name in REARRANGEMENTS and numbers[0].size == operands[0].number.size
            is_kept = is_kept and operands[0].is_rearranged
            outputs = [Value(number, is_data, leaves, is_kept) for number in numbers]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


class TracedNetwork(NamedTuple):
    """A traced loss vector as a function of parameters, batch and perturbations of its layers."""

    closed: core.ClosedJaxpr
    num_leaves: int
    size: int  # B

    def _arguments(self, leaves: Sequence[Array], batch: Sequence[Any]) -> list[Value]:
        params = [Value(leaf, leaves=frozenset({i})) for i, leaf in enumerate(leaves)]
        return params + [Value(x, is_data=True) for x in batch]

    def layers(self, leaves: Sequence[Array]) -> list[Layer]:
        """The layers in order, their data operands without numbers."""
        found: list[Layer] = []
        num_batch = len(self.closed.jaxpr.invars) - self.num_leaves
        walk(self.closed, self._arguments(leaves, [None] * num_batch), found.append)
        for layer in found:
            shape = layer.output.shape
            if shape[:1] != (self.size,):
                raise ValueError(
                    f"parameters enter {layer.equation.primitive.name!r}, whose output has shape "
                    f"{shape}: its first axis is not the batch of {self.size}; use linearize_losses"
                )
        return found

    def run(
        self, leaves: Sequence[Array], batch: Sequence[Array], perturbations: Sequence[Array]
    ) -> tuple[list[Array], list[tuple[Any, ...]]]:
        """Outputs, and every layer's operands, with a perturbation added to each layer's output."""
        rest, operands = iter(perturbations), []

        def visit(layer: Layer) -> Array:
            operands.append(tuple(x.number for x in layer.operands))
            return layer.apply(layer.made) + next(rest)

        outputs = walk(self.closed, self._arguments(leaves, batch), visit)
        return [x.number for x in outputs], operands


def trace(losses_fn: Callable[..., Any], params: Any, batch: Any) -> tuple[TracedNetwork, Any]:
    """The network of (params, batch) -> (losses [B], aux), and the shapes of aux."""
    closed, (losses, aux) = jax.make_jaxpr(losses_fn, return_shape=True)(params, batch)
    check_vector("losses", losses)
    return TracedNetwork(closed, len(jax.tree.leaves(params)), losses.shape[0]), aux
