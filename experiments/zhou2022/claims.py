"""Statements that stand beside the paper's own."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.reporting.claims import Claim


def added_claim(
    text: str,
    item: str,
    ask: Callable[[Mapping[str, Any]], np.ndarray],
    *,
    needs: tuple[str, ...] = (),
) -> Claim:
    """A statement that the paper does not make."""
    return Claim(text, item, "", ask, needs=needs, is_control=True, role="added here")
