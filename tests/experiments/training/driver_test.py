"""The driver: the same numbers however runs are grouped, interrupted, killed or damaged."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.data import TaskConfig, make_task
from experiments.networks.models import make_model
from experiments.training import driver
from experiments.training.checkpoints import CheckpointError, Checkpoints
from experiments.training.config import RunConfig
from experiments.training.driver import NonFiniteError, load_source, train
from experiments.training.run import TrainingRun
from experiments.training.run_folder import RunFolderError, hold_folder
from experiments.training.streams import class_balanced, shuffled

TASK = TaskConfig(num_train=200, num_validation=60, num_test=100, num_clean=20, noise="uniform:0.3")
BASE = RunConfig(
    task=TASK,
    model="mlp:8",
    weighting="low:0.1",
    learning_rate=0.1,
    batch_size=32,
    num_steps=20,
    num_evals=4,
    seeds=2,
)
TIMINGS = ("seconds", "timed_steps", "seconds_per_step")


def run(config, **options):
    return train(config, progress=False, **options)


def template(configs):
    tasks = [make_task(configs[0].task, seed) for seed in range(configs[0].seeds)]
    model = driver.build_model(configs[0], tasks[0].num_classes)
    return TrainingRun(configs, tasks, model).snapshot()


def final_snapshot(folder, config):
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        step, snapshot = checkpoints.restore(template([config]))
    finally:
        checkpoints.close()
    return step, snapshot


def as_arrays(tree):
    """Leaves by path, random keys as their data, without timings."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if any(timing in name for timing in TIMINGS):
            continue
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        arrays[name] = np.asarray(leaf)
    return arrays


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def stored_result(folder):
    with np.load(folder / "result.npz") as stored:
        return {name: stored[name] for name in stored.files if name not in TIMINGS}


def assert_same_run(folder, expected, config):
    """Bit for bit: results, metrics, and the whole state in the last checkpoint."""
    assert_same(stored_result(folder), stored_result(expected))
    assert (folder / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()
    last, snapshot = final_snapshot(folder, config)
    expected_last, expected_snapshot = final_snapshot(expected, config)
    assert last == expected_last
    assert_same(as_arrays(snapshot), as_arrays(expected_snapshot))


def interrupt_after(monkeypatch, num_saves):
    """Makes the next runs stop, as by Ctrl-C, after some checkpoints."""
    save, left = Checkpoints.save, [num_saves]

    def save_then_stop(self, step, tree):
        save(self, step, tree)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_then_stop)


def interrupted_run(config, folder, num_saves):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, num_saves)
        with pytest.raises(KeyboardInterrupt):
            run(config, folder=folder, checkpoint_seconds=0)


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _compile_once(tmp_path_factory):
    """The tests train the same few programs over and over."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(BASE, folder=folder)
    return folder


@pytest.fixture(scope="module")
def three_saves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "interrupted"
    interrupted_run(BASE, folder, 3)
    return folder


@pytest.fixture
def interrupted(three_saves, tmp_path):
    """A run that was stopped after three of its four checkpoints; 2 and 3 are there."""
    return Path(shutil.copytree(three_saves, tmp_path / "run"))


# --- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_examples", "batch_size"), [(12, 4), (10, 4), (7, 6)])
def test_every_example_occurs_once_per_pass(num_examples, batch_size):
    passes = 6
    batches = shuffled(num_examples, batch_size, seed=3)(0, passes * num_examples // batch_size)
    rows = batches.ravel()[: passes * num_examples].reshape(-1)
    rows = rows[: rows.size // num_examples * num_examples].reshape(-1, num_examples)
    for row in rows:
        assert sorted(row) == list(range(num_examples))
    assert any(not np.array_equal(rows[0], row) for row in rows[1:])


@pytest.mark.parametrize("size", [1, 5, 17])
def test_streams_do_not_depend_on_where_they_start(size):
    labels = np.repeat([0, 1, 2], [10, 5, 2])
    for stream in (shuffled(17, 5, 0), shuffled(17, 17, 0), class_balanced(labels, 7, 0)):
        whole = stream(0, 34)
        parts = [stream(first, min(size, 34 - first)) for first in range(0, 34, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_streams_differ_between_seeds():
    assert not np.array_equal(shuffled(50, 10, 0)(0, 5), shuffled(50, 10, 1)(0, 5))


def test_class_balanced_batches_have_equal_counts():
    labels = np.repeat([0, 2, 5], [90, 9, 1])
    for batch in class_balanced(labels, 8, seed=1)(0, 20):
        values, counts = np.unique(labels[batch], return_counts=True)
        assert values.tolist() == [0, 2, 5]
        assert counts.tolist() == [3, 3, 2]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch size 6 does not fit 5 examples"):
        shuffled(5, 6, 0)


# --- what a run measures ----------------------------------------------------------------------


def test_erm_equals_a_hand_written_loop(tmp_path):
    config = replace(BASE, weighting="uniform", weight_decay=0.01, nesterov=True)
    result = run(config, folder=tmp_path / "run")
    _, snapshot = final_snapshot(tmp_path / "run", config)
    model = make_model("mlp:8", 10)
    source = load_source(config)
    for seed in range(2):
        task = make_task(TASK, seed, source)
        key = jax.random.split(jax.random.key(seed))[0]
        params, _ = model.init(key, jnp.asarray(task.train.inputs[:1]))

        def loss_fn(params, inputs, labels):
            logits = model.apply(params, {}, inputs, train=True)[0].logits
            return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, 10), 1))

        optimizer = optax.sgd(0.1, momentum=0.9, nesterov=True)
        opt_state = optimizer.init(params)
        gradient = jax.jit(jax.value_and_grad(loss_fn))

        @jax.jit
        def update(grads, opt_state, params, optimizer=optimizer):
            grads = jax.tree.map(lambda grad, param: grad + 0.01 * param, grads, params)
            updates, opt_state = optimizer.update(grads, opt_state)
            return optax.apply_updates(params, updates), opt_state

        passes = [np.random.default_rng([seed, p]).permutation(200) for p in range(4)]
        order = np.concatenate(passes)  # batches of 32 straddle them
        last_losses = []
        for step in range(20):
            batch = order[32 * step : 32 * (step + 1)]
            value, grads = gradient(params, task.train.inputs[batch], task.train.labels[batch])
            params, opt_state = update(grads, opt_state, params)
            last_losses.append(float(value))
        for ours, theirs in zip(
            jax.tree.leaves(snapshot["state"].params), jax.tree.leaves(params), strict=True
        ):
            np.testing.assert_allclose(ours[0, seed], theirs, atol=1e-4)
        logits = model.apply(params, {}, task.test.inputs, train=False)[0].logits
        history = {name: result.history[name][0, seed] for name in result.history if name != "step"}
        hits = np.argmax(logits, 1) == task.test.labels
        np.testing.assert_allclose(history["test_accuracy"][-1], hits.mean(), atol=1e-6)
        test_loss = loss_fn(params, task.test.inputs, task.test.labels)
        np.testing.assert_allclose(history["test_loss"][-1], test_loss, rtol=1e-4)
        np.testing.assert_allclose(history["train_loss"][-1], np.mean(last_losses[-5:]), rtol=1e-4)
        counts = np.zeros((10, 10))
        np.add.at(counts, (task.test.labels, np.argmax(logits, 1)), 1)
        np.testing.assert_array_equal(history["confusion"], counts)


def test_runs_together_equal_runs_alone():
    config = replace(BASE, weighting="focal:1")
    configs = [config, replace(BASE, weighting="focal:3", learning_rate=0.02, weight_decay=0.01)]
    together, alone = run(configs), run(replace(configs[1], seeds=1))
    for name, values in alone.history.items():
        if name == "step":
            continue
        grouped = together.history[name]
        np.testing.assert_allclose(values[0], grouped[1, :1], atol=1e-5, rtol=1e-5, err_msg=name)
    assert not np.allclose(together.history["test_loss"][0], together.history["test_loss"][1])


def test_all_methods_see_the_same_data_in_the_same_order():
    results = [run(replace(BASE, weighting=name)) for name in ("uniform", "random", "lookahead")]
    first = results[0]
    assert np.isnan(first.history["example_weights"]).any()  # so the comparison says something
    for other in results[1:]:
        for name in ("labels", "true_labels", "indices"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        np.testing.assert_array_equal(
            np.isnan(other.history["example_weights"]), np.isnan(first.history["example_weights"])
        )


def test_weights_in_the_history(finished):
    stored = stored_result(finished)
    weights, classes = stored["example_weights"], stored["class_weights"]
    assert weights.shape == (1, 2, 4, 200)
    labels = stored["train_labels"]
    for s in range(2):
        for c in range(10):
            mean = np.nanmean(weights[0, s, :, labels[s] == c], axis=0)
            np.testing.assert_allclose(classes[0, s, :, c], mean, rtol=1e-5)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["step"]) for row in rows[:3]] == [(0, 5), (1, 5), (0, 10)]
    np.testing.assert_allclose(rows[-1]["test_accuracy"], stored["test_accuracy"][0, 1, -1])


@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
def test_how_many_runs_advance_at_once_changes_nothing(at_once):
    configs = [replace(BASE, learning_rate=rate) for rate in (0.01, 0.02, 0.03)]
    together, parts = run(configs), run(configs, at_once=at_once)
    for name, values in together.history.items():
        # rounding may swap two weights that are nearly equal: the AUC's smallest change is 1e-4
        atol = 5e-4 if name == "corruption_auc" else 1e-5
        np.testing.assert_allclose(values, parts.history[name], atol=atol, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_convolutions_advance_together_as_one_by_one():
    config = replace(
        BASE,
        task=replace(TASK, num_train=60),
        model="ren2018_net",
        weighting="lookahead",
        batch_size=16,
        num_steps=4,
        num_evals=2,
        learning_rate=0.01,
    )
    one_by_one, together = run(config), run(config, at_once=2)
    for name, values in one_by_one.history.items():
        np.testing.assert_allclose(
            values, together.history[name], atol=1e-4, rtol=1e-3, err_msg=name
        )


def test_seeds_do_not_depend_on_where_a_run_starts():
    both, second = run(BASE), run(replace(BASE, seeds=1, first_seed=1))
    np.testing.assert_array_equal(both.indices[1:], second.indices)
    for name in ("train_loss", "test_accuracy", "example_weights"):
        np.testing.assert_allclose(
            both.history[name][:, 1:], second.history[name], atol=1e-5, rtol=1e-4, err_msg=name
        )


def test_a_number_of_runs_below_one_is_refused():
    with pytest.raises(ValueError, match="at_once must be at least 1"):
        run(BASE, at_once=0)


# --- interruption -----------------------------------------------------------------------------


def test_a_resumed_run_equals_an_uninterrupted_one(interrupted, finished):
    run(BASE, folder=interrupted, resume=True)
    assert_same_run(interrupted, finished, BASE)


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    run(BASE, folder=folder, resume=True)
    assert_same_run(folder, finished, BASE)


STATEFUL = replace(BASE, weighting="lookahead+ema:0.9", model="mlp_bn:8", fine_tune_steps=8)


@pytest.mark.slow
def test_batch_norm_scheme_state_and_fine_tuning_survive_an_interruption(tmp_path):
    run(STATEFUL, folder=tmp_path / "expected")
    interrupted_run(STATEFUL, tmp_path / "run", 2)
    run(STATEFUL, folder=tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "expected", STATEFUL)


@pytest.mark.slow
@pytest.mark.parametrize("num_saves", [1, 3, 5])
@pytest.mark.parametrize(
    "config",
    [
        replace(BASE, weighting="uniform", fine_tune_steps=12, num_evals=5),
        replace(BASE, weighting="random", fine_tune_steps=12, num_evals=5),
        replace(BASE, weighting="lookahead", fine_tune_steps=12, num_evals=5),
        replace(BASE, weighting="self_paced:1:1.1", sampler="class_balanced_indices", num_evals=10),
        replace(BASE, weighting="low:0.1", model="mlp_bn:8", momentum=0.0, num_evals=10),
    ],
    ids=lambda config: f"{config.weighting}-{config.model}",
)
def test_every_method_survives_an_interruption(config, num_saves, tmp_path):
    run(config, folder=tmp_path / "expected")
    interrupted_run(config, tmp_path / "run", num_saves)
    run(config, folder=tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "expected", config)


KILLED = replace(BASE, weighting="random", num_steps=120, num_evals=120, seeds=1)
SCRIPT = """
import sys
from pathlib import Path
from tests.experiments.training.driver_test import KILLED, train
print("ready", flush=True)
train(KILLED, folder=Path(sys.argv[1]), resume=True, checkpoint_seconds=0, progress=False)
"""


@pytest.mark.slow
def test_a_killed_run_equals_an_uninterrupted_one(tmp_path):
    run(KILLED, folder=tmp_path / "expected")
    folder, rng, kills = tmp_path / "run", random.Random(0), []
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": "."}
    repository = Path(__file__).parents[3]
    for _ in range(10):
        started = _latest(folder)
        with subprocess.Popen(
            command, cwd=repository, env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 4))  # most likely while compiling, or before
            else:
                deadline = time.monotonic() + 60
                while _latest(folder) <= started + 1 and time.monotonic() < deadline:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, 0.3))  # anywhere between or in the middle of writes
            process.send_signal(signal.SIGKILL)
        kills.append(process.returncode == -signal.SIGKILL)
    assert all(kills)
    assert not (folder / "result.npz").exists()
    assert _latest(folder) > 5  # kills hit the training, not its start alone
    subprocess.run(command, cwd=repository, env=environment, check=True)
    assert_same_run(folder, tmp_path / "expected", KILLED)


def _latest(folder):
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


# --- damaged checkpoints ----------------------------------------------------------------------


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_byte(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0xFF
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over(damage, interrupted, finished):
    damage(largest_file(interrupted / "checkpoints" / "3"))
    run(BASE, folder=interrupted, resume=True)
    assert_same_run(interrupted, finished, BASE)


def test_any_changed_byte_is_noticed(interrupted):
    like = template([BASE])
    for path in sorted((interrupted / "checkpoints" / "3").rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        flip_a_byte(path, at=random.Random(path.name).random())
        checkpoints = Checkpoints(interrupted / "checkpoints")
        assert checkpoints.restore(like)[0] == 2, path
        checkpoints.close()
        path.write_bytes(content)


def test_a_checkpoint_without_digests_is_used(interrupted):
    (interrupted / "checkpoints" / "3" / "sha256.json").unlink()  # killed before writing them
    assert final_snapshot(interrupted, BASE)[0] == 3


def test_if_all_checkpoints_are_damaged_nothing_is_touched(interrupted):
    for step in ("2", "3"):
        flip_a_byte(largest_file(interrupted / "checkpoints" / step))
    before = files_in(interrupted)
    with pytest.raises(CheckpointError, match="none of the checkpoints can be read") as caught:
        run(BASE, folder=interrupted, resume=True)
    for step in ("2", "3"):
        assert str(interrupted / "checkpoints" / step) in str(caught.value)
    assert files_in(interrupted) == before


def test_a_checkpoint_that_finds_no_space_is_not_begun(interrupted, monkeypatch):
    before = files_in(interrupted)
    usage = shutil.disk_usage(interrupted)._replace(free=1000)
    monkeypatch.setattr("experiments.training.checkpoints.shutil.disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"the disk is full \(0\.0 MB are free, 1\.\d needed"):
        run(BASE, folder=interrupted, resume=True)
    assert files_in(interrupted) == before


def test_an_error_of_the_writer_names_the_checkpoint_and_keeps_the_others(interrupted, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: no space\nand more")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", fail)
    with pytest.raises(CheckpointError) as caught:
        run(BASE, folder=interrupted, resume=True)
    message = str(caught.value)
    assert "4 cannot be written (ValueError: RESOURCE_EXHAUSTED: no space); earlier" in message
    assert final_snapshot(interrupted, BASE)[0] == 3


def test_two_processes_do_not_train_in_one_folder(interrupted, finished):
    before = files_in(interrupted)
    with (
        hold_folder(interrupted),
        pytest.raises(RunFolderError, match=r"another process is training in .*; wait for it"),
    ):
        run(BASE, folder=interrupted, resume=True)
    assert files_in(interrupted) == before
    (interrupted / "tmpabc.tmp").write_text("left by a kill")
    run(BASE, folder=interrupted, resume=True)
    assert not (interrupted / "tmpabc.tmp").exists()
    assert_same_run(interrupted, finished, BASE)


def test_a_flipped_digit_of_a_config_is_noticed(interrupted):
    path = interrupted / "config.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.1', '"learning_rate": 0.2'))
    with pytest.raises(RunFolderError, match=r"config\.json is damaged: its digest is of another"):
        run(BASE, folder=interrupted, resume=True)


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    for folder in (path, path / "inside"):
        with pytest.raises(RunFolderError, match="file is a file"):
            run(BASE, folder=folder)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_folder_is_left_alone(resume, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty and holds no run of ours"):
        run(BASE, folder=tmp_path, resume=resume)
    assert files_in(tmp_path) == {tmp_path / "thesis.tex": b"mine"}


def test_an_existing_run_needs_resume(interrupted):
    before = files_in(interrupted)
    with pytest.raises(RunFolderError, match="already holds a run; continue it with --resume"):
        run(BASE, folder=interrupted)
    assert files_in(interrupted) == before


def test_another_configuration_is_refused_and_the_difference_named(interrupted):
    before = files_in(interrupted)
    with pytest.raises(RunFolderError) as caught:
        run(replace(BASE, momentum=0.5), folder=interrupted, resume=True)
    assert "configs[0].momentum: 0.9 there, 0.5 here" in str(caught.value)
    assert files_in(interrupted) == before


def test_other_data_are_refused(interrupted):
    source = load_source(BASE)
    inputs = source.train.inputs.copy()
    inputs[...] = 0
    source = source._replace(train=source.train._replace(inputs=inputs))
    with pytest.raises(RunFolderError, match=r"data\[0\]\.\w+\.sha256\.inputs"):
        run(BASE, source=source, folder=interrupted, resume=True)


@pytest.mark.parametrize("content", [b'{"configs": [', b"\xff\xfe\x00damage", b""])
def test_a_damaged_config_is_reported(content, interrupted):
    (interrupted / "config.json").write_bytes(content)
    before = files_in(interrupted)
    with pytest.raises(RunFolderError, match=r"config\.json is damaged"):
        run(BASE, folder=interrupted, resume=True)
    assert files_in(interrupted) == before


def test_what_a_kill_during_the_first_write_leaves_is_no_obstacle(tmp_path):
    (tmp_path / "tmpabcdefgh.tmp").write_text('{"configs"')
    driver.check_folder(tmp_path, resume=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(RunFolderError, match="cannot be written"):
        run(BASE, folder=tmp_path / "run")


# --- divergence -------------------------------------------------------------------------------

# Weight decay alone multiplies the parameters by -999 in every step.
GROWING = replace(
    BASE, weighting="uniform", learning_rate=1.0, weight_decay=1000.0, momentum=0.0, num_evals=20
)


def test_a_non_finite_loss_stops_the_run_and_names_step_seed_and_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(NonFiniteError) as caught:
        run(GROWING, folder=folder, checkpoint_seconds=0)
    last, snapshot = final_snapshot(folder, GROWING)
    message = str(caught.value)
    assert f"at step {last}, seed " in message
    assert "weighting uniform, learning rate 1)" in message
    assert f"The last good checkpoint: {folder / 'checkpoints' / str(last)}." in message
    params = jax.tree.leaves(snapshot["state"].params)
    assert all(np.isfinite(leaf).all() for leaf in params)
    assert not (folder / "result.npz").exists()


def test_non_finite_parameters_stop_the_run_though_the_loss_was_finite(tmp_path):
    config = replace(GROWING, learning_rate=1e30, weight_decay=1e30)
    with pytest.raises(NonFiniteError, match="a parameter became non-finite at step 0, seed 0"):
        run(config, folder=tmp_path / "run")


def test_without_stopping_a_diverged_configuration_becomes_nan_alone():
    good = replace(BASE, weighting="uniform")
    result = run([good, replace(good, learning_rate=1e25)], stop_on_nonfinite=False)
    alone = run(good)
    for name, values in result.history.items():
        if name == "step":
            continue
        np.testing.assert_allclose(values[0], alone.history[name][0], atol=1e-5, err_msg=name)
        if name.startswith(("test_", "validation_", "train_", "confusion")):
            assert np.isnan(values[1]).all(), name


# --- configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must lie in"),
        ({"learning_rate": float("nan")}, "learning_rate must lie in"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_steps": 10, "num_evals": 3}, "num_evals=3 must divide num_steps=10"),
        ({"num_steps": 0}, "nothing to train"),
        ({"fine_tune_steps": -1}, "fine_tune_steps must not be negative"),
        ({"sampler": "random"}, "sampler must be one of"),
        ({"model": "mpl"}, "unknown model 'mpl'.*did you mean 'mlp'"),
        ({"loss": "crossentropy"}, "unknown loss .*did you mean 'cross_entropy'"),
        ({"weighting": "lokahead"}, "unknown weighting .*did you mean 'lookahead'"),
        ({"weighting": "low:x"}, "'x' in 'low:x' is not a number"),
        ({"weighting": "low:1:2"}, "too many values; low is written low:REGULARIZATION"),
        ({"weighting": "low:-1"}, "regularization"),
        ({"weighting": "lookahead", "task": replace(TASK, num_clean=0)}, "needs a clean set"),
        ({"fine_tune_steps": 5, "task": replace(TASK, num_clean=0)}, "fine-tuning needs a clean"),
    ],
)
def test_bad_values_are_refused_when_the_configuration_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(BASE, **fields)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ([], "no configuration"),
        ([BASE, replace(BASE, momentum=0.5)], "these differ in momentum"),
        ([BASE, replace(BASE, weighting="uniform")], "need one scheme with different values"),
        ([replace(BASE, batch_size=201)], "batch size 201 does not fit 200 examples"),
        ([replace(BASE, loss="logistic")], "is for two classes; this task has 10"),
    ],
)
def test_bad_runs_are_refused_before_anything_is_written(configs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(configs, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
