"""What the weights of a run tell: every number against brute force; the command on a tiny run."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.stats import ttest_1samp
from sklearn.metrics import confusion_matrix, roc_auc_score

from experiments.__main__ import main
from experiments.data import TaskConfig
from experiments.explain import galleries, overview, suspects, telescope, telescope_plots
from experiments.methods.registry import SCHEMES
from experiments.tools.files import write_arrays, write_json
from experiments.training.config import RunConfig
from experiments.training.result import Result, load_result, result_arrays

SEEDS, EVALS, EXAMPLES, CLASSES = 3, 4, 50, 3


def made_up(seed=0, config=RunConfig(), wrong=0.3) -> Result:  # noqa: B008
    """Random weights, rounded so that they tie, with gaps; class 2 is small."""
    rng = np.random.default_rng(seed)
    true_labels = np.stack(
        [rng.permutation(np.repeat(range(CLASSES), [25, 20, 5])) for _ in range(SEEDS)]
    )
    moved = (true_labels + rng.integers(1, CLASSES, true_labels.shape)) % CLASSES
    labels = np.where(rng.random(true_labels.shape) < wrong, moved, true_labels)
    weights = rng.integers(0, 8, (1, SEEDS, EVALS, EXAMPLES)) / 4.0
    weights += 0.5 * (labels != true_labels)[None, :, None, :]
    weights[rng.random(weights.shape) < 0.2] = np.nan
    weights[..., 7] = np.nan  # never drawn
    counts = [
        confusion_matrix(rng.integers(0, 3, 90), rng.integers(0, 3, 90)) for _ in range(SEEDS)
    ]
    return Result(
        configs=(config,),
        history={
            "step": np.arange(1, EVALS + 1) * 10,
            "example_weights": weights.astype(np.float32),
            "class_weights": np.zeros((1, SEEDS, EVALS, CLASSES), np.float32),
            "confusion": np.stack(counts)[None].astype(np.float32),
            "validation_accuracy": np.full((1, SEEDS, EVALS), 0.5),
        },
        labels=labels,
        true_labels=true_labels,
        indices=np.stack([rng.permutation(200)[:EXAMPLES] for _ in range(SEEDS)]),
        seconds_per_step=0.0,
    )


def with_weights(result, weights):
    return dataclasses.replace(result, history=result.history | {"example_weights": weights})


def mean_of_finite(values):
    values = [float(v) for v in np.ravel(values) if np.isfinite(v)]
    return sum(values) / len(values) if values else np.nan


@pytest.mark.parametrize(("first", "last"), [(0, None), (1, 3)])
def test_mean_weights_are_means_of_what_was_drawn(first, last):
    result = made_up()
    for s in range(SEEDS):
        weights = result.history["example_weights"][0, s, first:last]
        expected = [mean_of_finite(weights[:, i]) for i in range(EXAMPLES)]
        found = telescope.mean_weights(result, 0, s, first=first, last=last)
        np.testing.assert_allclose(found, expected)
    assert np.isnan(found[7])


@pytest.mark.parametrize("kind", ["given", "true", "corruption", "difficulty"])
def test_curves_are_means_over_examples_then_seeds(kind):
    result = made_up()
    scores = np.random.default_rng(1).random((SEEDS, EXAMPLES))
    scores[:, 3] = np.nan
    curves, groups = {
        "given": (telescope.class_curves(result, 0), result.labels),
        "true": (telescope.class_curves(result, 0, true_labels=True), result.true_labels),
        "corruption": (
            telescope.corruption_curves(result, 0),
            1 * (result.labels != result.true_labels),
        ),
        "difficulty": (
            telescope.difficulty_curves(result, 0, scores, num_groups=4),
            telescope.quantile_groups(scores, 4),
        ),
    }[kind]
    for g in range(len(curves.mean)):
        assert curves.sizes[g] == np.mean([(row == g).sum() for row in groups])
        for e in range(EVALS):
            values = [
                mean_of_finite(result.history["example_weights"][0, s, e, groups[s] == g])
                for s in range(SEEDS)
            ]
            values = [v for v in values if np.isfinite(v)]
            np.testing.assert_allclose(curves.mean[g, e], np.mean(values))
            if len(values) > 1:
                error = np.std(values, ddof=1) / np.sqrt(len(values))
                np.testing.assert_allclose(curves.standard_error[g, e], error)


def test_a_group_without_examples_has_no_curve():
    result = made_up()
    curves = telescope.group_curves(result, 0, np.zeros_like(result.labels), 2)
    assert np.isnan(curves.mean[1]).all()
    assert curves.sizes.tolist() == [EXAMPLES, 0]


def test_quantile_groups_are_equal_in_size_and_keep_ties_together():
    scores = np.array([np.random.default_rng(0).permutation(20.0 * np.arange(20))])
    groups = telescope.quantile_groups(scores, 5)
    assert np.bincount(groups[0]).tolist() == [4] * 5
    np.testing.assert_array_equal(groups[0], scores[0] // 80)
    tied = telescope.quantile_groups(np.array([[1.0, 1, 1, np.nan, 2, 3]]), 2)
    assert tied.tolist() == [[0, 0, 0, -1, 1, 1]]


def test_scores_are_matched_by_position_and_label():
    result = made_up()
    index = np.concatenate([result.indices[0, :40], [250]])
    labels = np.concatenate([result.labels[0, :40], [0]])
    labels[5] = (labels[5] + 1) % CLASSES
    table = dict(zip(index.tolist(), zip(labels, range(41), strict=True), strict=True))
    found = telescope.match_scores(result, index, labels, np.arange(41.0))
    for s in range(SEEDS):
        for i, (position, label) in enumerate(
            zip(result.indices[s], result.labels[s], strict=True)
        ):
            known = position in table and table[position][0] == label
            expected = table[position][1] if known else np.nan
            np.testing.assert_equal(found[s, i], expected)
    assert np.isnan(found[0, 5])


def test_extremes_zeros_and_effective_share():
    result = made_up()
    weights = result.history["example_weights"][0]
    curves = telescope.class_curves(result, 0)
    largest, smallest = telescope.extremes(curves)
    assert (
        largest.weight == np.nanmax(curves.mean) == curves.mean[largest.group, largest.evaluation]
    )
    assert smallest.weight == curves.mean[smallest.group, smallest.evaluation]
    assert smallest.weight == np.nanmin(curves.mean)
    drawn = weights[np.isfinite(weights)]
    np.testing.assert_allclose(telescope.share_of_zeros(result, 0), np.mean(drawn == 0))
    shares = []
    for s in range(SEEDS):
        means = [mean_of_finite(weights[s, :, i]) for i in range(EXAMPLES) if i != 7]
        means = [m for m in means if np.isfinite(m)]
        shares.append(sum(means) ** 2 / sum(m**2 for m in means) / len(means))
    np.testing.assert_allclose(telescope.effective_share(result, 0), np.mean(shares))
    equal = with_weights(result, np.where(np.isfinite(weights), 1.0, np.nan)[None])
    assert telescope.effective_share(equal, 0) == 1
    assert np.isnan(telescope.effective_share(with_weights(result, 0 * weights[None]), 0))


def test_confusion_rows_sum_to_one_or_are_unknown():
    result = made_up()
    counts = result.history["confusion"][0]
    expected = np.mean([c / c.sum(axis=1, keepdims=True) for c in counts], axis=0)
    np.testing.assert_allclose(telescope.confusion(result, 0), expected)
    counts[:, 1] = 0
    shares = telescope.confusion(result, 0)
    np.testing.assert_allclose(shares.sum(axis=1), [1, np.nan, 1])


def test_time_is_in_epochs_where_there_are_any():
    times, unit = telescope.time_axis(made_up(), 0)
    np.testing.assert_allclose(times, np.array([10, 20, 30, 40]) * 64 / EXAMPLES)
    assert unit == "epochs"
    times, unit = telescope.time_axis(
        made_up(config=RunConfig(sampler="class_balanced_indices")), 0
    )
    assert (times.tolist(), unit) == ([10, 20, 30, 40], "training steps")


def test_bins_keep_order_and_groups():
    groups = [np.arange(30)[::-1], np.arange(30, 32), np.arange(0), np.arange(40, 100)]
    bins = telescope.neighbours(groups, 10)
    np.testing.assert_array_equal(np.concatenate(bins), np.concatenate(groups))
    assert all(np.unique(np.digitize(each, [30, 40])).size == 1 for each in bins)
    assert [each.size for each in bins] == [10] * 3 + [2] + [9] * 4 + [8] * 3
    assert [each.size for each in telescope.neighbours([np.arange(3)], 200)] == [1, 1, 1]


def test_ticks_keep_a_distance():
    assert telescope_plots._apart(np.array([1.0, 5, 6, 7, 9, 20]), 3) == [0, 1, 4, 5]


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_that_of_sklearn_with_ties(seed):
    result = made_up(seed)
    for s in range(SEEDS):
        wrong = result.labels[s] != result.true_labels[s]
        for end, sign in (("high", 1), ("low", -1)):
            scores = suspects.suspicion(result, 0, s, end)
            known = np.isfinite(scores)
            assert np.unique(scores[known]).size < known.sum()  # ties
            expected = roc_auc_score(
                wrong[known], sign * telescope.mean_weights(result, 0, s)[known]
            )
            np.testing.assert_allclose(suspects.detection_auc(scores, wrong), expected)
    assert np.isnan(suspects.detection_auc(np.arange(3.0), np.zeros(3, bool)))
    assert suspects.detection_auc(np.ones(4), np.array([True, False, True, False])) == 0.5


def test_precision_is_expected_over_the_order_of_ties():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, 12).astype(float)
    wrong = rng.random(12) < 0.5
    for k in (None, 1, 4, 12):
        size = wrong.sum() if k is None else k
        draws = [wrong[np.lexsort((rng.random(12), -scores))[:size]].mean() for _ in range(4000)]
        np.testing.assert_allclose(
            suspects.precision_at(scores, wrong, k), np.mean(draws), atol=0.02
        )
    assert suspects.precision_at(np.array([3.0, np.nan, 1]), np.array([True, True, False])) == 1
    assert np.isnan(suspects.precision_at(scores, np.zeros(12, bool)))


def test_suspects_are_ranked_without_the_undrawn():
    result = made_up()
    for end, sign in (("high", -1), ("low", 1)):
        weights = telescope.mean_weights(result, 0, 1)
        expected = sorted(
            (i for i in range(EXAMPLES) if np.isfinite(weights[i])),
            key=lambda i: (sign * weights[i], i),
        )
        assert suspects.suspects(result, 0, 1, end).tolist() == expected
        rows = suspects.suspect_rows(result, 0, 1, end)
        for (rank, index, given, true, weight), i in zip(rows, expected, strict=True):
            assert rank == expected.index(i) + 1
            assert (index, given) == (result.indices[1, i], result.labels[1, i])
            right = result.true_labels[1, i]
            assert true == ("" if right == given else right)
            np.testing.assert_allclose(float(weight), weights[i], rtol=1e-5)


def test_intervals_are_student_s():
    result = made_up()
    wrong = result.labels != result.true_labels
    aucs = [
        suspects.detection_auc(suspects.suspicion(result, 0, s, "high"), wrong[s])
        for s in range(SEEDS)
    ]
    mean, half_width, count = suspects.over_seeds(result, 0, "high", suspects.detection_auc)
    low, high = ttest_1samp(aucs, 0).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half_width, mean + half_width], [low, high])
    assert count == SEEDS


@pytest.mark.parametrize(
    ("weighting", "end"),
    [
        ("low:0.1", "high"),
        ("focal:2+clip:0:5+normalize_mean", "high"),
        ("self_paced", "low"),
        ("tilted:1", "high"),
        ("tilted:-1", "low"),
        ("tilted:0", None),
        ("jtt_weights:3", "high"),
        ("small_margin_weights:0.1:0.5", "low"),
        ("difficulty_weights:-1", "low"),
        ("low:1:solver=osqp", "high"),
        ("uniform", None),
        ("random", None),
        ("inverse_class_frequency", None),
        ("low+self_paced", None),
        ("focal+inverse_class_frequency", None),
    ],
)
def test_the_suspicious_end_follows_from_the_weighting(weighting, end):
    assert suspects.suspicious_end(RunConfig(weighting=weighting)) == end


def test_a_record_says_what_is_suspect_or_that_it_is_not_known():
    """It must say so: a record without `suspect` is refused."""
    ambiguous = {n for n, r in SCHEMES.items() if r.suspect is None and not r.keeps_order}
    assert ambiguous >= {
        *("inverse_class_frequency", "random", "class_power", "effective_number", "group_dro"),
        *("gradient_harmonized", "known_examples_weights", "active_bias"),
        *("infobatch", "importance_sampling", "batch_alignment"),
    }
    assert {n for n, r in SCHEMES.items() if r.keeps_order} >= {
        *("uniform", "normalize_mean", "clip", "temper", "mix_with_uniform", "ema", "deferred"),
        *("record_history", "warm_up"),
    }
    assert suspects.suspicious_end(RunConfig(weighting="lookahead")) == "low"


def test_figures_show_the_numbers():
    result = made_up()
    runs = {"low": (result, 0), "other": (made_up(1), 0)}
    figure = telescope_plots.weights_by_corruption(runs, title="a")
    curves = telescope.corruption_curves(result, 0)
    for line, mean in zip(figure.axes[0].lines[1:], curves.mean, strict=True):
        np.testing.assert_allclose(line.get_ydata(), mean)
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    low, high = (curves.mean[0] + sign * curves.standard_error[0] for sign in (-1, 1))
    np.testing.assert_allclose([band.min(), band.max()], [low.min(), high.max()])

    figure = telescope_plots.confusion_matrices(runs, title="b", names=["x", "y", "z"])
    shares = 100 * telescope.confusion(result, 0)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), shares)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"{share:.0f}" for share in shares.ravel()]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["x", "y", "z"]

    scores = np.random.default_rng(0).random((SEEDS, EXAMPLES))
    figure = telescope_plots.weights_by_difficulty(
        runs, {"low": scores, "other": scores}, measure="margin", title="c", num_groups=3
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["1 (easiest)", "2", "3 (hardest)"]


def test_the_heat_map_has_a_row_for_every_drawn_example_of_a_small_set():
    result = made_up()
    result.history["example_weights"][:, :, 3] = np.nan  # fine-tuning
    figure = telescope_plots.heat_map(result, 0, 1, title="")
    weights = result.history["example_weights"][0, 1, :3]
    means = telescope.mean_weights(result, 0, 1)
    order = [i for i in np.argsort(-means, kind="stable") if np.isfinite(means[i])]
    by_weight, share, by_class = (axes for axes in figure.axes if axes.get_xlabel())
    drawn = by_weight.collections[0].get_array()
    np.testing.assert_allclose(drawn.filled(np.nan), weights[:, order].T)
    order.sort(key=lambda i: result.labels[1, i])
    np.testing.assert_allclose(
        by_class.collections[0].get_array().filled(np.nan), weights[:, order].T
    )
    assert share.get_title() == "wrong labels"


def test_the_gallery_has_a_row_for_every_class():
    result = made_up()
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    figure = galleries.class_gallery(
        result, 0, 1, images, columns=2, names=["a", "b", "c"], title=""
    )
    means, labels = telescope.mean_weights(result, 0, 1), result.labels[1]
    for panel, sign in zip(figure.axes, (1, -1), strict=True):
        shown = [int(image.get_array()[0, 0]) for image in panel.images]
        expected = []
        for c in range(CLASSES):
            own = np.sort(sign * means[(labels == c) & np.isfinite(means)])[:2]
            expected += list(sign * own)
        at = {int(p): i for i, p in enumerate(result.indices[1])}
        chosen = [at[position] for position in shown]
        assert [labels[i] for i in chosen] == [0, 0, 1, 1, 2, 2]
        np.testing.assert_allclose([means[i] for i in chosen], expected)
        texts = [text.get_text() for text in panel.texts]
        for i, patch, over, under in zip(
            chosen, panel.patches, texts[::2], texts[1::2], strict=True
        ):
            wrong = labels[i] != result.true_labels[1, i]
            assert over == (f"→ {'abc'[result.true_labels[1, i]]}" if wrong else "")
            assert (to_hex(patch.get_edgecolor()) == "#cc0000") == wrong
            assert under == f"{means[i]:.2f}"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


def stored(folder, config=RunConfig(), **changes):  # noqa: B008
    """A folder of a finished run, made up."""
    result = made_up(0, config)
    config = dataclasses.replace(config, num_steps=40, num_evals=EVALS, seeds=SEEDS)
    result = dataclasses.replace(result, configs=(config,), **changes)
    write_json(folder / "config.json", {"configs": [dataclasses.asdict(config)]})
    write_arrays(folder / "result.npz", result_arrays(result))
    return folder


def read_suspects(folder):
    with (folder / "suspects.csv").open() as file:
        return list(csv.DictReader(file))


def test_train_and_explain(capsys, tmp_path):
    folder = tmp_path / "run"
    command = ["train", "--dataset", "digits", "--noise", "uniform:0.4", "--model", "linear"]
    command += ["--num-steps", "30", "--num-evals", "2", "--seeds", "2", "--num-train", "150"]
    command += ["--num-validation", "0", "--num-test", "60", "--weighting", "low:0.1"]
    assert main([*command, "--out", str(folder)]) == 0
    capsys.readouterr()
    assert main(["explain", str(folder)]) == 0
    text = capsys.readouterr().out
    out = folder / "explain"
    paths = {path.name for path in out.iterdir()}
    assert paths == {
        *("confusion.png", "gallery_low_0.1.png", "suspects.csv", "telescope_low_0.1.png"),
        *("weight_histograms.png", "weights_by_class.png", "weights_by_corruption.png"),
        "weights_by_true_class.png",
    }
    assert all(f"  {out / name}\n" in text for name in paths)
    result = load_result(folder)
    mean, half_width, _ = suspects.over_seeds(result, 0, "high", suspects.detection_auc)
    assert f"high {mean:.3f} ± {half_width:.3f}" in text
    rows = read_suspects(out)
    assert len(rows) == np.isfinite(telescope.mean_weights(result, 0, 0)).sum()
    weights = [float(row["mean_weight"]) for row in rows]
    assert weights == sorted(weights, reverse=True)
    true = dict(zip(result.indices[0], result.true_labels[0], strict=True))
    for row in rows:
        assert int(row["true_label"] or row["given_label"]) == true[int(row["index"])]


def test_explain_several_trainings_and_a_difficulty(capsys, tmp_path):
    folders = [stored(tmp_path / w, RunConfig(weighting=w)) for w in ("low", "uniform")]
    result = load_result(folders[0])
    table = tmp_path / "seed0.npz"
    known = {"index": result.indices[0], "margin": np.arange(EXAMPLES, dtype=np.float32)}
    np.savez(table, label=result.labels[0], **known)
    command = ["explain", *map(str, folders), "--out", str(tmp_path / "out")]
    command += ["--difficulty", str(table), "--measure"]
    assert main([*command, "margin"]) == 0
    text = capsys.readouterr().out
    auc = suspects.over_seeds(result, 0, "high", suspects.detection_auc)
    high, low = (f"{a:.3f} ± {auc.half_width:.3f}" for a in (auc.mean, 1 - auc.mean))
    assert f"high {high}, low {low}" in text  # uniform does not tell
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"weights_by_difficulty.png", "telescope_uniform.png", "gallery_low.png"} < names
    kinds = {(row["method"], row["suspicious_end"]) for row in read_suspects(tmp_path / "out")}
    assert kinds == {("low", "high"), ("uniform", "high"), ("uniform", "low")}
    assert main([*command, "loss"]) == 2
    assert "has no 'loss'; it has margin" in capsys.readouterr().err
    np.savez(table, label=result.labels[0] + 20, **known)
    assert main([*command, "margin"]) == 2
    assert "measures none of the examples" in capsys.readouterr().err


def test_the_arms_of_an_experiment(capsys, tmp_path):
    write_json(tmp_path / "experiment.json", {"experiment": "demo", "preset": "smoke"})
    for name in ("noise/low", "noise/uniform"):
        stored(tmp_path / name)
    nothing = {"example_weights": np.full((1, SEEDS, EVALS, EXAMPLES), np.nan)}
    stored(tmp_path / "clean_only", history=made_up().history | nothing)
    assert list(overview.find_runs([tmp_path])) == ["noise/low", "noise/uniform"]
    assert list(overview.find_runs([tmp_path], ["*low"])) == ["noise/low"]
    assert list(overview.find_runs([tmp_path], ["*"])) == ["noise/low", "noise/uniform"]
    for arm, message in (
        ("lookahead", "is called 'lookahead'; it has clean_only, noise/low"),
        ("clean_only", "clean_only recorded no weights"),
    ):
        assert main(["explain", str(tmp_path), "--arms", arm]) == 2
        assert message in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "clean_only")]) == 2
    assert "recorded no weights" in capsys.readouterr().err


def test_of_several_configurations_the_best_on_validation_is_taken(tmp_path):
    history = {
        name: values if name == "step" else np.concatenate([values, 2 * values])
        for name, values in made_up().history.items()
    }
    stored(tmp_path, history=history)
    record = json.loads((tmp_path / "config.json").read_text())
    record["configs"].append(record["configs"][0] | {"learning_rate": 0.5})
    write_json(tmp_path / "config.json", record)
    ((_, (chosen, h)),) = overview.find_runs([tmp_path]).items()
    assert (h, len(chosen.configs), chosen.configs[0].learning_rate) == (0, 1, 0.5)
    expected = 2 * made_up().history["example_weights"]
    np.testing.assert_array_equal(chosen.history["example_weights"], expected)


def test_methods_of_one_name_are_told_apart(tmp_path):
    folders = [stored(tmp_path / name) for name in ("a/one", "a/two", "b/two")]
    assert list(overview.find_runs(folders)) == [
        "uniform (one)",
        f"uniform ({folders[1]})",
        f"uniform ({folders[2]})",
    ]
    config = RunConfig(weighting="low", loss="focal:1")
    assert list(overview.find_runs([stored(tmp_path / "c", config)])) == ["low, focal:1"]


def test_explain_refuses_what_it_cannot_compare(capsys, tmp_path):
    assert main(["explain", str(tmp_path)]) == 1
    assert "holds no finished run: config.json is missing" in capsys.readouterr().err
    (tmp_path / "experiment.json").write_text("{}")
    assert main(["explain", str(tmp_path)]) == 1
    assert "no arm has a result.npz" in capsys.readouterr().err
    folders = [
        stored(tmp_path / name, RunConfig(task=TaskConfig(name))) for name in ("digits", "moons")
    ]
    assert main(["explain", *map(str, folders)]) == 2
    assert "only runs with the same classes" in capsys.readouterr().err
    assert not (folders[0] / "explain").exists()
