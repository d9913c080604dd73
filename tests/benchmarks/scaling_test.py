"""The reading of compiled programs, and what was written about scaling."""

import json
from pathlib import Path

import pytest

from benchmarks.scaling import BATCH_SIZE, NUM_DEVICES, Collective, collectives

RESULTS = Path(__file__).parents[2] / "results" / "scaling.json"
NUM_PARAMS = (6 * 26) + (16 * 151) + (120 * 401) + (84 * 121) + (10 * 85)  # of LeNet-5

PROGRAM = """
  %all-reduce.1 = (f32[120,84]{1,0}, f32[84]{0}) all-reduce(%a, %b), channel_id=2, to_apply=%add
  ROOT %all-gather.4 = bf16[2,256]{0,1} all-gather(%c), channel_id=8, dimensions={1}
  %all-reduce.7 = f32[] all-reduce(%d), channel_id=3, to_apply=%add
  %gather.2 = pred[16]{0} all-gather(%e), channel_id=4, dimensions={0}
  %fusion = f32[256]{0} fusion(%all-gather.4), kind=kLoop, calls=%all-reduce-like
"""


def test_bytes_of_collectives_by_hand():
    assert collectives(PROGRAM) == [
        Collective("all-reduce", 4 * (120 * 84 + 84)),
        Collective("all-gather", 2 * 2 * 256),
        Collective("all-reduce", 4),
        Collective("all-gather", 16),
    ]


def test_a_program_without_collectives():
    assert collectives("%dot = f32[2,2]{1,0} dot(%a, %b)") == []


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
