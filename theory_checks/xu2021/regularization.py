r"""Explicit regularization and importance weights (xu2021, Sec. 5): l2, early stopping, dropout.

Early stopping and a strong l2 penalty keep the norm finite, so that the weights matter
(`regularization_linear`); dropout is said not to. Derived for linear models, of which every mask
must be separated, and the exponential loss: under dropout of the inputs the norm diverges only if
one feature alone separates the data (`regularization_dropout`). Dropout of hidden ReLU units leaves
room to diverge: a unit that is active on one class only is right under every mask
(`regularization_networks`).
"""

from theory_checks.records import Check
from theory_checks.xu2021.regularization_dropout import dropout
from theory_checks.xu2021.regularization_linear import penalty, stopping
from theory_checks.xu2021.regularization_networks import networks


def checks(preset: str) -> list[Check]:
    """All four; few sets and short runs for "smoke"."""
    if preset == "smoke":
        return [
            penalty(num_sets=2),
            stopping(num_sets=4, last=1000),
            dropout(num_sets=3, last=10_000, num_cones=40),
            networks(num_seeds=3, last=1000),
        ]
    return [penalty(), stopping(), dropout(), networks()]
