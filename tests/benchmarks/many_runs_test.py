import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import many_runs
from experiments.data import TaskConfig
from experiments.training.config import RunConfig
from experiments.training.driver import load_source

CONFIG = RunConfig(
    task=TaskConfig(num_train=100, num_validation=40, num_test=50, num_clean=10),
    model="mlp:4",
    batch_size=20,
    num_steps=8,
    num_evals=2,
    seeds=2,
)


def test_both_ways_give_the_same_accuracies():
    configs = [CONFIG, replace(CONFIG, learning_rate=0.1)]
    row = many_runs.compare(configs, load_source(CONFIG))
    assert row.num_runs == 4
    assert row.together > 0
    np.testing.assert_allclose(row.ratio, row.one_by_one / row.together)
    assert row.same_accuracy == 1
    assert row.largest_difference == row.mean_difference == 0


@pytest.mark.slow
def test_the_command_writes_a_table(tmp_path, capsys):
    out = tmp_path / "many.json"
    many_runs.main(preset="smoke", seeds=1, out=out)
    record = json.loads(out.read_text())
    assert record["all"]["num_runs"] == sum(row["num_runs"] for row in record["main_job"])
    assert "times faster" in capsys.readouterr().out
