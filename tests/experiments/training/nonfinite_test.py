"""What is not finite is found on the device, and named."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.config import RunConfig
from experiments.training.nonfinite import NonFiniteError, check_finite, finite_runs

CONFIGS = [RunConfig(learning_rate=0.1), RunConfig(learning_rate=0.2, first_seed=5)]
LOSSES = np.ones((2, 3, 4), np.float32)  # [H, S, T]


def parameters(spoilt=None, value=np.nan):
    kernel = np.ones((2, 3, 7, 5), np.float32)
    if spoilt is not None:
        kernel[(*spoilt, 6, 4)] = value
    return {"kernel": jnp.asarray(kernel), "scale": jnp.ones((2, 3), jnp.bfloat16)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_run_is_one_boolean(value):
    assert finite_runs(parameters()).tolist() == [[True] * 3, [True] * 3]
    found = finite_runs(parameters((1, 0), value))
    assert found.dtype == bool
    assert found.tolist() == [[True, True, True], [False, True, True]]


def test_what_is_finite_goes_on():
    check_finite(CONFIGS, LOSSES, parameters(), 100)


def test_the_first_bad_step_and_its_run_are_named():
    losses = LOSSES.copy()
    losses[1, 2, 3], losses[1, 1, 1] = np.nan, np.inf
    with pytest.raises(
        NonFiniteError, match=r"^the weighted loss became inf at step 101, seed 6 .* rate 0\.2\)"
    ):
        check_finite(CONFIGS, losses, parameters((0, 0)), 100)
    with pytest.raises(
        NonFiniteError, match=r"^a parameter became non-finite at step 103, seed 2 .* rate 0\.1\)"
    ):
        check_finite(CONFIGS, LOSSES, parameters((0, 2)), 100)
