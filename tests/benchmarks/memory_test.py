"""The memory benchmark on tiny sizes, and how the memory of unrolled lookahead grows."""

import optax
import pytest

from benchmarks import memory
from benchmarks.memory import NetworkAndBatch
from experiments.networks.models import make_model
from weighting import losses

pytestmark = pytest.mark.slow

TINY = NetworkAndBatch("tiny", make_model("mlp:4", 3), losses.cross_entropy, 5)


def test_unrolled_lookahead_grows_like_the_root_of_the_steps():
    """Kept are the states at sqrt(k) starts and of sqrt(k) steps: a straight line in sqrt(k)."""
    steps = (9, 16, 25)
    rows = list(memory.unrolled(steps, optax.sgd(0.1), "SGD"))
    slope, deviation = memory.growth(rows, steps)
    assert slope > 0
    assert deviation <= 0.03  # temporaries of a step are shared differently


def test_growth_is_a_line_in_the_root():
    sizes = {4: 0, 9: 3 + 2 * 3, 16: 3 + 2 * 4, 25: 3 + 2 * 5}
    rows = [memory.ProgramCost("", "", n * 2**20, 0.0, False, "") for n in sizes.values()]
    assert memory.growth(rows, tuple(sizes)) == pytest.approx((2.0, 0.0))


@pytest.mark.parametrize("part", [memory.gradient_norms, memory.lookahead])
def test_parts_on_a_tiny_network(part):
    rows = list(part(TINY))
    assert all(row.temp_bytes > 0 and row.flops > 0 for row in rows)
    assert "layer by layer" in memory.format_rows(rows)


def test_generalization_error_of_a_few_digits():
    rows = list(memory.cross_validation(40, num_steps=2, num_folds=2))
    for row in rows:
        assert row.bytes_per_example == row.temp_bytes / 40
        assert (row.seconds_per_example_and_fold or 0) > 0
