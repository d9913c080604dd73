"""Types that signatures all over the library share."""

from collections.abc import Callable
from typing import Any

from jax import Array

PyTree = Any  # of arrays, such as a network's parameters
LossFn = Callable[[Array, Array], Array]  # (logits, labels) -> losses [B], not reduced
LossesFn = Callable[[PyTree], Array]  # parameters -> losses [B] of the batch at hand
CleanLossFn = Callable[[PyTree], Array]  # parameters -> mean loss of the clean batch, a scalar
ExampleLossFn = Callable[[PyTree, Any], Array]  # (parameters, example) -> its loss, a scalar
