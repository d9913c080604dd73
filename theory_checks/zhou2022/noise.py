"""Noise on an example's features and on its label (zhou2022, Props. 1-2, Eq. 5)."""

from theory_checks.records import Check
from theory_checks.zhou2022.feature_noise import directional_derivative
from theory_checks.zhou2022.label_noise import flipped_labels


def checks(preset: str) -> list[Check]:
    """Both claims; a smaller ensemble for "smoke"."""
    if preset == "smoke":
        return [
            directional_derivative(num_networks=20, num_pairs=60),
            flipped_labels(num_draws=2000),
        ]
    return [directional_derivative(), flipped_labels()]
