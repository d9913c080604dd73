"""What methods know before training, and the procedures and losses that the driver adds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import TaskConfig, make_task
from experiments.methods.context import REFERENCES
from experiments.methods.registry import LOSSES, SCHEMES
from experiments.networks.models import make_model
from experiments.training import driver
from experiments.training.config import RunConfig
from experiments.training.driver import train
from experiments.training.fitting import last, make_fit, make_predict
from experiments.training.program import make_program, seed_data
from experiments.training.references import find_references
from weighting import losses

TASK = TaskConfig(num_train=200, num_validation=60, num_test=100, num_clean=20, noise="uniform:0.3")
BASE = RunConfig(
    task=TASK,
    model="mlp:8",
    learning_rate=0.03,
    batch_size=32,
    num_steps=20,
    num_evals=2,
    seeds=2,
    reference_steps=60,
    reference_learning_rate=0.1,
)
TASKS = [make_task(TASK, seed) for seed in range(2)]
MODEL = make_model("mlp:8", 10)


def find(**changes):
    return find_references(
        replace(BASE, **changes), TASKS, seed_data(TASKS, range(len(TASKS))), MODEL
    )


def test_the_truth_is_counted():
    found = find(loss="forward_corrected_cross_entropy", weighting="known_examples_weights")
    assert set(found) == {"transition", "is_corrupted"}
    for seed, task in enumerate(TASKS):
        np.testing.assert_array_equal(found["is_corrupted"][seed], task.train.is_corrupted)
        for true in range(10):
            given = task.train.labels[task.train.true_labels == true]
            share = np.bincount(given, minlength=10) / len(given)
            np.testing.assert_allclose(found["transition"][seed, true], share, rtol=1e-6)


def test_a_reference_network_has_learned_and_is_the_same_for_all_methods():
    errors = find(weighting="jtt_weights")["errors"]
    margins = find(weighting="small_margin_weights", learning_rate=0.5)["margins"]
    confusion = find(procedure="with_noise_layer:start=confusion")["confusion"]
    assert 0.05 < np.mean(errors) < 0.7  # not all of the noise is learned, but much of the rest
    np.testing.assert_array_equal(errors == 1, margins <= 0)
    wrong = np.sum(confusion, axis=(1, 2)) - np.trace(confusion, axis1=1, axis2=2)
    np.testing.assert_array_equal(wrong, np.sum(errors, axis=1))


def test_the_clean_network_and_cross_validation_find_wrong_labels():
    corrupted = np.stack([task.train.is_corrupted for task in TASKS])
    for name, weighting in (("clean_losses", "rho_loss"), ("difficulty", "difficulty_weights")):
        values = np.asarray(find(weighting=weighting)[name])
        assert values.shape == (2, 200)
        assert values[corrupted].mean() > values[~corrupted].mean() + 0.5


def test_size_clusters_and_mentor():
    found = find(weighting="cmw_net+mentornet")
    assert found["size_clusters"].shape == (2, 10)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(found["mentor"]))


def test_every_reference_is_asked_for_by_something():
    asked = set()
    for record in (*SCHEMES.values(), *LOSSES.values()):
        asked |= set(record.references)
    assert asked | {"confusion"} == set(REFERENCES)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"procedure": "with_noise_layer"}, marks=pytest.mark.slow),
        pytest.param({"procedure": "with_noise_layer:start=confusion"}, marks=pytest.mark.slow),
        pytest.param(
            {"procedure": "make_co_teaching_step", "weighting": "small_losses:0.3:1"},
            marks=pytest.mark.slow,
        ),
        {"loss": "distillation:0.5:2"},
        {"loss": "ldam:0.5:1", "weighting": "inverse_class_frequency+deferred:0.5"},
        {"weighting": "mentornet:0.75"},
        {"weighting": "cmw_net:0.5"},
        {"weighting": "difficulty_weights:1"},
    ],
    ids=str,
)
def test_trains_and_resumes_bit_for_bit(changes, tmp_path, monkeypatch):
    config = replace(BASE, **changes)
    whole = train(config, progress=False)
    assert np.all(np.isfinite(whole.history["test_accuracy"]))
    save, left = driver.Checkpoints.save, [1]

    def save_then_stop(self, step, tree):
        save(self, step, tree)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(driver.Checkpoints, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder=tmp_path, checkpoint_seconds=0, progress=False)
    resumed = train(config, folder=tmp_path, resume=True, progress=False)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(resumed.history[name], values, err_msg=name)


def test_losses_with_other_values_train_together_as_alone():
    configs = [replace(BASE, loss=f"focal:{gamma}") for gamma in (1, 4)]
    together = train(configs, progress=False).history["test_loss"]
    for h, config in enumerate(configs):
        alone = train(config, progress=False).history["test_loss"]
        np.testing.assert_allclose(together[h], alone[0], rtol=1e-5)
    assert np.max(np.abs(together[0] - together[1])) > 1e-3


def test_equal_settings_share_a_program_and_others_do_not():
    first = make_program(replace(BASE, weighting="low:1"), MODEL, TASKS[0])
    same = make_program(replace(BASE, weighting="low:2", learning_rate=0.5), MODEL, TASKS[1])
    other = make_program(replace(BASE, weighting="focal:2"), MODEL, TASKS[0])
    assert same is first
    assert other is not first


def test_a_finished_run_is_read_and_not_built(tmp_path, monkeypatch):
    first = train(BASE, folder=tmp_path, progress=False)
    monkeypatch.setattr(driver, "TrainingRun", None)
    again = train(BASE, folder=tmp_path, resume=True, progress=False)
    for name, values in first.history.items():
        np.testing.assert_array_equal(again.history[name], values, err_msg=name)


def test_fit_ignores_masked_examples_and_keeps_snapshots():
    task = TASKS[0]
    inputs = jnp.asarray(task.train.inputs)
    labels = jnp.asarray(task.train.true_labels)
    settings = {"num_steps": 40, "batch_size": 32, "learning_rate": 0.1}
    fit = jax.jit(make_fit(MODEL, losses.cross_entropy, num_snapshots=4, **settings))
    mask = jnp.arange(200) % 4 != 0
    spoiled = jnp.where(mask, labels, 0)
    first, second = (fit(jax.random.key(1), inputs, y, mask) for y in (labels, spoiled))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert a.shape[0] == 4
        np.testing.assert_array_equal(a, b)
    logits = make_predict(MODEL)(last(first), inputs)
    accuracy = np.mean(np.argmax(logits, axis=1) == np.asarray(labels))
    assert accuracy > 0.5
    with pytest.raises(ValueError, match="must divide"):
        make_fit(MODEL, losses.cross_entropy, num_snapshots=3, **settings)
