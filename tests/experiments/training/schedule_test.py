"""Learning-rate schedules: their texts, their values, and training with one."""

import json

import numpy as np
import pytest

from experiments.data import TaskConfig
from experiments.training.config import RunConfig
from experiments.training.driver import train
from experiments.training.result import load_result
from experiments.training.schedule import Schedule, parse_schedule


def test_the_rate_drops_at_the_steps():
    rate = parse_schedule("drops:3,5:0.5").of(0.8)
    assert [float(rate(step)) for step in range(7)] == pytest.approx(
        [0.8] * 3 + [0.4] * 2 + [0.2] * 2
    )


def test_texts():
    assert parse_schedule("constant") == Schedule()
    assert parse_schedule("drops:40000,60000") == Schedule((40000, 60000), 0.1)
    for text in ("cosine", "drops:", "drops:5,3", "drops:3,3", "drops:3:1", "drops:3:0", "drops:x"):
        with pytest.raises(ValueError, match="schedule"):
            parse_schedule(text)
    with pytest.raises(ValueError, match="schedule must be constant or drops"):
        RunConfig(schedule="linear")


def test_training_follows_the_schedule_and_fine_tuning_does_not(tmp_path):
    task = TaskConfig(num_clean=20, num_validation=50, num_test=100, num_train=200)
    base = dict(model="linear", num_steps=20, num_evals=2, seeds=1, fine_tune_steps=5)
    constant = train(RunConfig(task, **base), progress=False)
    # After ten steps the rate is as good as zero: the second half changes nothing.
    stopped = RunConfig(task, schedule="drops:10:1e-12", **base)
    result = train(stopped, folder=tmp_path / "run", progress=False)
    loss = result.history["test_loss"][0, 0]
    assert loss[0] == constant.history["test_loss"][0, 0, 0]
    assert loss[1] == pytest.approx(loss[0], abs=1e-6)
    assert abs(loss[2] - loss[1]) > 1e-3
    assert load_result(tmp_path / "run").configs[0].schedule == "drops:10:1e-12"


def test_a_run_of_an_older_version_resumes(tmp_path):
    """Settings that came later have their defaults in what an older version stored."""

    task = TaskConfig(num_clean=20, num_validation=50, num_test=100, num_train=200)
    config = RunConfig(task, model="linear", num_steps=20, num_evals=2, seeds=1)
    first = train(config, folder=tmp_path / "run", progress=False)
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    del record["configs"][0]["schedule"], record["sha256"]
    path.write_text(json.dumps(record))
    again = train(config, folder=tmp_path / "run", resume=True, progress=False)
    np.testing.assert_array_equal(again.history["test_loss"], first.history["test_loss"])
