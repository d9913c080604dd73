"""The figures of zhou2022 with networks on images: arithmetic of the statements, and small runs."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.catalogue import EXPERIMENTS, NAMES
from experiments.data import TaskConfig, load, make_task
from experiments.networks.models import make_model
from experiments.reporting.claims import answers
from experiments.reporting.experiment import Options, present, run
from experiments.reporting.ledger import read_ledger
from experiments.zhou2022 import (
    class_order,
    difficulty,
    difficulty_claims,
    difficulty_report,
    figure3,
    figure5,
    figure5_claims,
    margin_curves,
    networks,
    raised_weights,
)
from experiments.zhou2022.arms import EQUAL, multiplied

SMALL = TaskConfig("digits", num_clean=0, num_validation=0, num_train=100)
TRAINING = networks.Training("mlp:8", 2, 20, 0.1)


@pytest.fixture(scope="module")
def source():
    return load("digits")


# --- what both share --------------------------------------------------------------------------


def test_training_weighs_examples(source):
    """One batch of everything and one step: the step is the weighted mean gradient by hand."""
    task = make_task(SMALL, 0, source)
    x, y = jnp.asarray(task.train.inputs), jnp.asarray(task.train.labels)
    weights = jnp.asarray(np.random.default_rng(0).uniform(size=100), jnp.float32)
    model = make_model("linear", 10)
    training = networks.Training("linear", 1, 100, 0.1, 0.0, 0.5)
    key = jax.random.key(3)
    (params, _), _ = networks.train_weighted(model, training, key, x, y, weights)
    start, _ = model.init(jax.random.split(key)[0], x[:1])

    def risk(params):
        logits = model.apply(params, {}, x, train=True)[0].logits
        own = -jax.nn.log_softmax(logits)[jnp.arange(100), y]
        return jnp.sum(weights * own) / jnp.sum(weights)

    gradient = jax.grad(risk)(start)["head"]["kernel"] + 0.5 * start["head"]["kernel"]
    by_hand = start["head"]["kernel"] - 0.1 * gradient
    np.testing.assert_allclose(params["head"]["kernel"], by_hand, atol=1e-6)


def test_training_logs_and_refuses(source):
    task = make_task(SMALL, 0, source)
    x, y = jnp.asarray(task.train.inputs), jnp.asarray(task.train.labels)
    model, key = make_model("mlp:8", 10), jax.random.key(0)

    def head(network):
        return network[0]["head"]["kernel"]

    network, logs = networks.train_weighted(
        model, TRAINING, key, x, y, jnp.ones(100), log_fn=head, num_logs=2
    )
    assert logs.shape == (2, 8, 10)
    np.testing.assert_array_equal(logs[-1], head(network))
    for training, num_logs in ((TRAINING, 3), (TRAINING._replace(batch_size=200), 1)):
        with pytest.raises(ValueError, match="equal parts"):
            networks.train_weighted(model, training, key, x, y, jnp.ones(100), num_logs=num_logs)


def test_logits_in_chunks(source, monkeypatch):
    monkeypatch.setattr(networks, "CHUNK", 30)
    model = make_model("mlp:8", 10)
    x = jnp.asarray(source.train.inputs[:100])
    network = model.init(jax.random.key(0), x[:1])
    whole = model.apply(*network, x, train=False)[0]
    for inputs, end in ((x, 100), (x[:60], 60), (x[:7], 7)):
        logits, features = networks.logits_and_features(model, network, inputs)
        np.testing.assert_allclose(logits, whole.logits[:end], rtol=1e-5, atol=1e-6)
        expected = np.asarray(whole.features)[:end]
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_renamed_classes_have_equal_sizes(source):
    equal = class_order.equalized(source)
    counts = np.bincount(equal.train.labels)
    assert set(counts) == {np.bincount(source.train.labels).min()}
    named = class_order.renamed(equal, 1)
    pairs = set(zip(equal.train.labels.tolist(), named.train.labels.tolist(), strict=True))
    assert len(pairs) == 10
    config = replace(SMALL, num_train=600)
    sizes = []
    for seed in range(3):
        changes = difficulty.CHANGES_OF_SETS["imbalance"]
        labels = class_order.spoiled_task(config, changes, seed, source).train.labels
        sizes.append(np.bincount(labels).tolist())
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0] == sorted(sizes[0], reverse=True)
    assert sizes[0][0] == 10 * sizes[0][9]


# --- Figures 1 and 2 --------------------------------------------------------------------------


def test_difficulty_by_hand():
    logits = np.array([[[2.0, 0.0]], [[0.0, 1.0]]], np.float32)  # [R = 2, N = 1, C = 2]
    found = difficulty.difficulty_of(logits, np.array([0]))
    error = (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2
    np.testing.assert_allclose(found["error"], [error], rtol=1e-6)
    np.testing.assert_allclose(found["margin"], [0.5], rtol=1e-6)
    p = 1 / (1 + np.exp([-2.0, 1.0]))
    np.testing.assert_allclose(found["uncertainty"], [2 * p.var()], rtol=1e-5)
    assert found["is_right"].tolist() == [p.mean() > 0.5]


def test_statistics_by_hand():
    found = {
        "error": np.array([4.0, 3.0, 1.0, 2.0]),
        "margin": np.array([-1.0, 0.0, 2.0, 1.0]),
        "uncertainty": np.array([0.1, 0.2, 0.0, 0.3]),
        "label": np.array([0, 0, 1, 1]),
        "true_label": np.array([1, 1, 1, 1]),
        "is_right": np.array([False, False, True, True]),
    }
    own = difficulty_report.statistics("noise", found)
    assert own["mean error, noisy"] == 3.5
    assert own["mean error, clean"] == 1.5
    assert own["Spearman, margin, all"] == pytest.approx(-1)
    assert own["pairs agreeing"] == 1
    assert own["Spearman, uncertainty, noisy"] == pytest.approx(-1)
    assert own["Spearman, uncertainty, clean"] == pytest.approx(1)
    rare = difficulty_report.statistics("imbalance", found)
    assert (rare["larger half's share"], rare["rarer half's share"]) == (0.5, 0.0)
    flipped = found | {"margin": np.array([0.0, -1.0, 2.0, 1.0])}  # one pair of six is turned
    agreeing = difficulty_report.statistics("noise", flipped)["pairs agreeing"]
    assert agreeing == pytest.approx(5 / 6)
    assert np.isnan(difficulty_report.pearson(np.ones(3), np.arange(3.0)))


def test_claims_about_difficulty():
    own = {"mean error, noisy": np.array([2.0, 1.0]), "mean error, clean": np.array([1.0, 1.0])}
    names = [
        f"{kind}, {measure}, {part}"
        for kind in ("Pearson", "Spearman")
        for measure in ("margin", "uncertainty")
        for part in ("all", "clean", "noisy")
    ]
    own |= {name: np.array([-0.5, 0.5]) for name in names} | {"pairs agreeing": np.array([1, 0.7])}
    asked = answers(difficulty_claims.difficulty_claims(), {"noise": own})
    found = {answer.claim.text: answer for answer in asked}
    assert len(found) == 10
    mean = found["10 % noise: the noisy examples' mean error is larger than the clean ones'"]
    assert mean.holds.tolist() == [True, False]
    assert (mean.claim.item, mean.claim.place) == ("Figure 1", "Fig. 1a")
    start = "10 % wrong labels: rank correlation of uncertainty and error is"
    assert found[f"{start} positive among the clean examples"].holds.tolist() == [False, True]
    assert found[f"{start} negative among the noisy examples"].holds.tolist() == [True, False]
    throughout = "average margin and error do not order the examples in the same way throughout"
    assert found[f"10 % wrong labels: {throughout}"].holds.tolist() == [False, True]


def test_held_out_logits_come_from_networks_that_lack_the_image(source):
    """Trained for long, they know a wrong label of other images, and not that of their own."""
    task = make_task(SMALL, 0, source)
    training = TRAINING._replace(num_epochs=30)
    first = difficulty.held_out_logits(task, training, seed=0, repeat=0)
    assert first.shape == (100, 10)
    assert not np.array_equal(first, difficulty.held_out_logits(task, training, 0, repeat=1))
    random = np.random.default_rng(0).integers(0, 10, 100).astype(np.int32)
    shuffled = task._replace(train=task.train._replace(labels=random))
    own = difficulty.held_out_logits(shuffled, training, seed=0, repeat=0)
    assert np.mean(np.argmax(own, axis=1) == random) < 0.3  # chance is a tenth
    assert np.mean(np.argmax(first, axis=1) == task.train.labels) > 0.3


# --- Figure 5a-c ------------------------------------------------------------------------------


def test_weights_of_the_arms(source):
    def task_of(setting, config):
        return class_order.spoiled_task(config, setting.spoiled, 0, source)

    for setting in raised_weights.IMAGE_SETTINGS.values():
        task = task_of(setting, replace(SMALL, num_train=400))
        count = len(task.train.labels)
        margins = np.random.default_rng(0).permutation(count).astype(np.float32) + 1
        weights = raised_weights.weights_of(setting, task, margins)
        assert weights.shape == (len(setting.arms), count) == (5, count)
        np.testing.assert_allclose(weights.mean(axis=1), 1, rtol=1e-5)
        table = dict(zip(setting.arms, weights, strict=True))
        np.testing.assert_array_equal(table[EQUAL], 1)
        marked = {
            "noisy": task.train.is_corrupted,
            "small margins": margins <= round(0.1 * count),
            "tail": task.train.labels >= 5,
        }[setting.group]
        for arm, own in table.items():
            if arm.group and arm.factor is not None:
                assert len(set(own[marked])) == len(set(own[~marked])) == 1
                np.testing.assert_allclose(own[marked][0], arm.factor * own[~marked][0], rtol=1e-5)
    assert weights[-1].min() == 0
    counts = np.bincount(task_of(raised_weights.IMAGE_SETTINGS["imbalance"], SMALL).train.labels)
    assert counts[0] == 10 * counts[9]
    names = {
        name: [arm.name for arm in setting.arms]
        for name, setting in raised_weights.IMAGE_SETTINGS.items()
    }
    noisy = ["equal", "noisy x 2", "noisy x 5", "noisy x 0.1", "noisy left out"]
    small = ["equal", "small margins x 2", "small margins x 5", "small margins x 0.2"]
    tail = ["equal", "tail x 2", "tail x 5", "tail x 0.2"]
    assert names == {
        "noise": noisy,
        "margins": [*small, "inverse margins"],
        "imbalance": [*tail, "inverse frequencies"],
        "heavy_noise": noisy,
    }


def test_orders_of_homogeneity(source):
    inputs = jnp.asarray(source.train.inputs[:30])
    for name, order in (("mlp:8", 2), ("mlp:8,8", 3), ("small_cnn", 2), ("mlp_bn:8", None)):
        assert margin_curves.order_of_homogeneity(make_model(name, 10), inputs) == order


def test_records_by_hand(source):
    task = make_task(SMALL, 0, source)
    data = margin_curves.image_arrays(task, 50)
    assert len(data.test_labels) == 50
    model = make_model("mlp:8", 10)
    network = model.init(jax.random.key(0), data.inputs[:1])
    logits = np.asarray(model.apply(*network, data.inputs, train=False)[0].logits, np.float64)
    labels = np.asarray(data.labels)
    others = np.where(np.arange(10) == labels[:, None], -np.inf, logits).max(axis=1)
    margins = logits[np.arange(100), labels] - others
    squares = sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(network[0]))
    own = margin_curves.recorded(model, 2, 10, data, network)
    assert set(own) == set(margin_curves.RECORDED)
    np.testing.assert_allclose(own["scale"], squares, rtol=1e-5)
    np.testing.assert_allclose(own["smallest"], margins.min() / squares, rtol=1e-4)
    np.testing.assert_allclose(own["quantile"], np.quantile(margins, 0.01) / squares, rtol=1e-4)
    np.testing.assert_allclose(own["average"], margins.mean() / squares, rtol=1e-4)
    np.testing.assert_allclose(own["train_error"], np.mean(margins <= 0), rtol=1e-5)
    of_test = np.argmax(model.apply(*network, data.test_inputs, train=False)[0].logits, axis=1)
    truth = np.asarray(data.test_labels)
    errors = [np.mean(of_test[truth == c] != c) for c in range(10)]
    np.testing.assert_allclose(own["class_error"], errors, rtol=1e-5)
    np.testing.assert_allclose(own["test_error"], np.mean(errors), rtol=1e-5)
    features = np.asarray(model.apply(*network, data.inputs, train=False)[0].features)
    kernel = network[0]["head"]["kernel"]
    by_head = np.linalg.norm(kernel) * np.linalg.norm(features, axis=1).mean()
    headed = margin_curves.recorded(model, None, 10, data, network)
    np.testing.assert_allclose(headed["scale"], by_head, rtol=1e-5)


def test_claims_of_figure_5():
    setting = raised_weights.IMAGE_SETTINGS["imbalance"]
    arms = [EQUAL, multiplied("tail", 2.0), multiplied("tail", 0.2)]  # a run that lacks the others
    curve = np.array([[[0.0, 1.0], [2.0, 0.5], [0.0, 0.0]]])  # [S, A, E]
    found = {m: curve for m in ("smallest", "quantile", "average", "test_error")}
    found |= {"class_error": np.stack([curve, 1 - curve], axis=-1)}
    found |= {"arms": np.array(["equal", "tail x 2", "tail x 0.2"])}
    asked = answers(figure5_claims.raised_claims(setting, arms), found)
    statements = {answer.claim.text: answer for answer in asked}
    start = "classes 10 : 1: tail x 2"
    larger = statements[f"{start}: larger normalized margin than with equal weights, at the end"]
    assert larger.holds.tolist() == [False]  # 0.5 < 1
    over = f"{start}: larger normalized margin than with equal weights, over the epochs"
    assert statements[over].holds.tolist() == [True]  # 1.25 > 0.5
    assert statements[over].claim.place == "Fig. 5c"
    tail = statements[f"{start}: lower test error of the tail categories"]
    assert tail.holds.tolist() == [False]  # 1 - 0.5 > 1 - 1
    assert len(statements) == 7

    heavy = raised_weights.IMAGE_SETTINGS["heavy_noise"]
    arms = [EQUAL, multiplied("noisy", 5.0), multiplied("noisy", 0.1)]
    error = np.array([[[0.3], [0.4], [0.2]], [[0.3], [0.2], [0.25]]])
    found = {"test_error": error, "arms": np.array(["equal", "noisy x 5", "noisy x 0.1"])}
    asked = answers(figure5_claims.raised_claims(heavy, arms), found)
    assert [answer.holds.tolist() for answer in asked] == [
        [True, False],
        [True, True],
        [True, False],
    ]


def test_causes_of_figure_5():
    def causes(name, start, doubt=""):
        setting = raised_weights.IMAGE_SETTINGS[name]
        claims = figure5_claims.raised_claims(setting, setting.arms, doubt)
        return {c.cause for c in claims if c.text.startswith(f"{setting.title}: {start}: larger n")}

    assert causes("noise", "noisy x 2") == {
        "equal and doubled weights are hardly apart once all are separated"
    }
    too_large = "too large a weight, of which the paper warns (it prints none); see twice"
    assert causes("noise", "noisy x 5") == causes("margins", "small margins x 5") == {too_large}
    assert causes("noise", "noisy x 5", "perhaps: ") == {f"perhaps: {too_large}"}
    assert causes("margins", "small margins x 2", "perhaps: ") == {""}
    assert causes("margins", "inverse margins") == {""}
    assert causes("imbalance", "tail x 5") == causes("imbalance", "inverse frequencies")
    (tail,) = causes("imbalance", "tail x 5")
    assert tail.startswith("raising and lowering the tail both lower it")


# --- runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) for n in ("zhou2022.difficulty", "zhou2022.figure5")],
)
def test_small_run(name, tmp_path):
    experiment, folder = EXPERIMENTS[name], tmp_path / "run"
    tables = run(experiment, Options("smoke", folder))
    assert "statement" in tables
    record = read_ledger(folder / "ledger.json")
    claims = {(entry.item, entry.claim) for entry in record["entries"]}
    assert claims == {(entry.item, entry.claim) for entry in experiment.printed}
    assert {entry.seeds for entry in record["entries"]} == {2}
    assert {entry.verdict for entry in record["entries"]} <= {"reproduced", "not reproduced"}
    for item in experiment.items:
        prefix = item.lower().replace(" ", "")
        assert list(folder.glob(f"{prefix}*.png"))
    computed = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert run(experiment, Options("smoke", folder, resume=True)) == tables
    assert computed == {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}

    for path in folder.glob("*_seed1.npz"):  # interrupted: some seeds of some sets alone
        path.unlink()
    next(iter(folder.glob("noise_seed0.npz"))).unlink()
    part = present(experiment, folder, "smoke")
    assert "10 % noise:" not in part
    entries = read_ledger(folder / "ledger.json")["entries"]
    assert 0 < len(entries) < len(experiment.printed)
    assert {entry.seeds for entry in entries} == {1}
    for path in folder.glob("*.npz"):
        path.unlink()
    with pytest.raises(RuntimeError, match="no finished seed"):
        present(experiment, folder, "smoke")


def test_small_run_of_a_convolutional_network(tmp_path):
    run(EXPERIMENTS["zhou2022.figure5.cnn"], Options("smoke", tmp_path / "run", seeds=1))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {s["seeds"] for s in summary["statements"]} == {1}


def test_figure_3_on_another_data_set(monkeypatch, tmp_path):
    """Another source and fewer held-out images; the same statistics."""
    monkeypatch.setattr(figure3, "_HELD_OUT", 50)
    run(figure3.MNIST, Options("smoke", tmp_path / "run", seeds=1))
    with np.load(tmp_path / "run" / "seed0.npz") as stored:
        shapes = {stored[name].shape for name in stored.files if "/" in name}
    assert shapes == {(30, 50)}
    entries = read_ledger(tmp_path / "run" / "ledger.json")["entries"]
    assert {entry.item for entry in entries} == {"Figure 3"}


def test_names_and_printed_statements():
    assert NAMES["zhou2022.figure1"].name == NAMES["zhou2022.figure2"].name == "zhou2022.difficulty"
    assert NAMES["zhou2022.figure5"].name == "zhou2022.figure5"
    printed = EXPERIMENTS["zhou2022.difficulty"].printed
    assert [sum(e.item == f"Figure {n}" for e in printed) for n in (1, 2)] == [3, 12]
    # 5a two raised arms, 5b and 5c three, four statements each; lowered: three statements about
    # each noise rate; the tail's test error by three arms
    assert len(EXPERIMENTS["zhou2022.figure5"].printed) == 4 * (2 + 3 + 3) + 2 * 3 + 3
    for experiment in (EXPERIMENTS["zhou2022.difficulty"], *figure5.EXPERIMENTS):
        assert {"smoke", "cpu", "paper"} == set(experiment.presets)
        assert all(entry.verdict == "not run" and entry.cause for entry in experiment.printed)
