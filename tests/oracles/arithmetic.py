"""Arithmetic in strings, such as "1 + (0.5 - 0.25) / (2 * 0.25)", worked out with 50 digits."""

import ast
import operator
from decimal import Decimal, localcontext

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS = {"exp": Decimal.exp, "log": Decimal.ln, "sqrt": Decimal.sqrt}
CONSTANTS = {"pi": Decimal("3.14159265358979323846264338327950288419716939937510582")}


def evaluate(text):
    """The double nearest to the value of the expression.

    Numbers, + - * / **, parentheses, pi, and exp, log and sqrt of one number; nothing else.
    """
    with localcontext() as context:
        context.prec = 50
        return float(_value(ast.parse(text, mode="eval").body, text))


def _value(node, text):
    match node:
        case ast.Constant():
            return Decimal(ast.get_source_segment(text, node))
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, text), _value(right, text))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in FUNCTIONS:
            return FUNCTIONS[name](_value(argument, text))
    raise ValueError(f"{text!r} is not arithmetic of the kind that tables may hold")
