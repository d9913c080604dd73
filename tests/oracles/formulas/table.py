"""What a table of right values holds."""

FORMULAS = "the formula in 160-digit decimal arithmetic; derivatives are its central differences"


def row(inputs, value, gradient=None, arguments=None, name=None):
    """What goes in, what must come out, and the derivatives by the inputs that are named.

    A derivative has the value's shape times the input's. Without a name the inputs are one.
    """
    parts = {**inputs, **(arguments or {})}
    shown = ", ".join(f"{key} {str(part).replace(' ', '')}" for key, part in parts.items())
    entry = {"name": name or shown, "arguments": arguments or {}, "inputs": inputs, "value": value}
    return entry if gradient is None else entry | {"gradient": gradient}


def table(method, call, source, tolerance, rows, *, computed=FORMULAS, no_gradient=None):
    """`call` says how `calls.py` calls the method, `no_gradient` why rows have no derivatives.

    `tolerance` is (roundings, reason, unit): what an error may be, in units of the type's epsilon
    times the largest entry of the right array or, if that is smaller, the unit.
    """
    roundings, reason, unit = tolerance
    entry = {
        "method": method,
        "call": call,
        "source": source,
        "computed": computed,
        "tolerance": {"roundings": roundings, "unit": unit, "reason": reason},
    }
    return entry | ({"no_gradient": no_gradient} if no_gradient else {}) | {"rows": rows}
