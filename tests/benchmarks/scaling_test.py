"""What was written about scaling."""

import json
from pathlib import Path

import pytest

from benchmarks.scaling import BATCH_SIZE, NUM_DEVICES

RESULTS = Path(__file__).parents[2] / "results" / "scaling.json"
NUM_PARAMS = (6 * 26) + (16 * 151) + (120 * 401) + (84 * 121) + (10 * 85)  # of LeNet-5


@pytest.fixture(scope="module")
def steps():
    return {(s["scheme"], s["devices"]): s for s in json.loads(RESULTS.read_text())["steps"]}


@pytest.mark.parametrize(
    ("scheme", "num_gradients"), [("uniform", 1), ("low:0.1", 1), ("lookahead, 32 clean", 2)]
)
def test_what_was_written(scheme, num_gradients, steps):
    """Work is divided; every gradient over the batch, or the clean one, is summed once.

    Besides, per-example numbers are gathered: at most twelve vectors and scalars of four bytes.
    """
    alone = steps[scheme, 1]
    assert alone["num_bytes"] == 0
    assert alone["param_bytes"] == 4 * NUM_PARAMS
    for devices in NUM_DEVICES[1:]:
        step = steps[scheme, devices]
        assert step["flops"] * devices / alone["flops"] == pytest.approx(1, abs=0.01)
        assert 0 <= step["num_bytes"] - num_gradients * 4 * NUM_PARAMS <= 12 * 4 * BATCH_SIZE
