"""Writes the computed tables of right values: run `python -m tests.oracles.make_tables`.

It and the formulas use the standard library, NumPy, SciPy and scikit-learn; they never see the
library under test, nor what that is built on. The tables by hand, in `tables/by_hand`, are typed.
"""

import json
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.oracles.formulas import learned_weights, losses, measures, weights
from tests.oracles.formulas.differences import PRECISION

TABLES = Path(__file__).parent / "tables"
FORMULAS = {"losses": (losses,), "weights": (weights, learned_weights), "measures": (measures,)}
NOISE = Decimal("1e-30")  # central differences leave less of an exact zero


def compute():
    """Every computed table, by its path below `tables/`, with plain numbers in it."""
    with localcontext() as context:
        context.prec = PRECISION
        return {
            f"{folder}/{name}.json": plain(table)
            for folder, modules in FORMULAS.items()
            for module in modules
            for name, table in module.tables().items()
        }


def plain(value):
    """Decimals, fractions and arrays as the nearest doubles and lists of them; the rest as is."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray | np.generic):
        value = value.tolist() if hasattr(value, "tolist") else value
        return (
            [plain(entry) for entry in value] if isinstance(value, list | tuple) else plain(value)
        )
    if isinstance(value, Decimal):
        return float(value) if abs(value) > NOISE else 0.0
    return float(value) if isinstance(value, Fraction) else value


def written(table):
    """JSON with a line for every field of the table, and for every field of a row."""
    rows = [_object(row, 4) for row in table["rows"]]
    fields = _object({key: part for key, part in table.items() if key != "rows"}, 0)
    return fields[:-2] + ',\n  "rows": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"


def _object(entry, indent):
    inner = " " * (indent + 2)
    lines = [
        f"{inner}{json.dumps(key)}: {json.dumps(part, allow_nan=False)}"
        for key, part in entry.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def main():
    for path, table in compute().items():
        (TABLES / path).parent.mkdir(parents=True, exist_ok=True)
        (TABLES / path).write_text(written(table))


if __name__ == "__main__":
    main()
