"""Figures: what is drawn is what was measured."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.data import TaskConfig
from experiments.explain import galleries, telescope_plots
from experiments.reporting import plotting
from experiments.training.config import RunConfig
from experiments.training.driver import train
from experiments.training.result import Result

SEEDS, EVALS, EXAMPLES, CLASSES = 3, 4, 60, 3
STEPS = np.array([10, 20, 30, 40])


def fake_result(accuracy=0.9, flags_noise=True) -> Result:
    """A run whose weights are 0.5 for wrong labels and 1.5 for right ones, or the reverse."""
    true_labels = np.tile(np.repeat([0, 1, 2], [30, 20, 10]), (SEEDS, 1))
    labels = true_labels.copy()
    labels[:, ::5] = (labels[:, ::5] + 1) % CLASSES
    wrong = (labels != true_labels) == flags_noise
    weights = np.broadcast_to(np.where(wrong, 0.5, 1.5)[:, None], (SEEDS, EVALS, EXAMPLES))
    weights = weights.astype(np.float32).copy()
    weights[:, 0, 0] = np.nan
    curve = accuracy - 0.1 / np.arange(1, EVALS + 1)
    accuracies = np.stack([curve - 0.02, curve, curve + 0.02])[None]
    class_weights = np.tile(np.array([0.5, 1.0, 2.0]), (1, SEEDS, EVALS, 1))
    return Result(
        configs=(RunConfig(),),
        history={
            "step": STEPS,
            "test_accuracy": accuracies,
            "test_balanced_accuracy": accuracies - 0.1,
            "example_weights": weights[None],
            "class_weights": class_weights,
        },
        labels=labels,
        true_labels=true_labels,
        indices=np.tile(np.arange(EXAMPLES)[::-1], (SEEDS, 1)),
        seconds_per_step=0.0,
    )


def with_history(result, **arrays):
    return dataclasses.replace(result, history=result.history | arrays)


def drawn_curves(figure):
    return {line.get_label().split("  ")[-1]: line for line in figure.axes[0].lines}


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy"])
def test_error_curves_are_means_over_seeds(measure):
    runs = {"uniform": (fake_result(0.8), 0), "low:0.1": (fake_result(0.9), 0)}
    figure = plotting.test_error_curves(runs, measure=measure, title="Digits")
    lines = drawn_curves(figure)
    assert set(lines) == {"uniform", "low:0.1"}
    for method, (result, h) in runs.items():
        expected = 100 * (1 - result.history[f"test_{measure}"][h].mean(axis=0))
        np.testing.assert_array_equal(lines[method].get_xdata(), STEPS)
        np.testing.assert_allclose(lines[method].get_ydata(), expected)
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "Digits"
    assert axes.get_xlabel() == "training steps"
    assert axes.get_ylabel() == f"test error (%): 100 - {measure.replace('_', ' ')}"


def test_the_band_is_one_standard_error():
    figure = plotting.test_error_curves({"low": (fake_result(0.9), 0)}, title="")
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at_the_end = band[band[:, 0] == STEPS[-1]][:, 1]
    mean, standard_error = 12.5, 2 / np.sqrt(3)  # errors 10.5, 12.5, 14.5
    expected = [mean - standard_error, mean + standard_error]
    np.testing.assert_allclose([at_the_end.min(), at_the_end.max()], expected)


def test_the_legend_is_sorted_by_the_final_error_and_tells_diverged_seeds():
    lame = fake_result(0.85)
    accuracy = lame.history["test_accuracy"].copy()
    accuracy[0, 2, 1:] = np.nan
    dead = with_history(lame, test_accuracy=np.full_like(accuracy, np.nan))
    runs = {
        "focal": (dead, 0),
        "uniform": (fake_result(0.7), 0),
        "random": (with_history(lame, test_accuracy=accuracy), 0),
        "low": (fake_result(0.9), 0),
    }
    figure = plotting.test_error_curves(runs, title="")
    assert legend_texts(figure) == [
        " 12.5 %  low",
        " 18.5 %  random (2 of 3 seeds)",
        " 32.5 %  uniform",
        "diverged  focal (0 of 3 seeds)",
    ]
    alive = drawn_curves(figure)["random (2 of 3 seeds)"].get_ydata()
    np.testing.assert_allclose(alive[-1], 100 * (1 - accuracy[0, :2, -1].mean()))


def test_a_method_has_one_colour_and_variants_differ_in_dashes():
    runs = {name: (fake_result(), 0) for name in ("low:0.1", "low:1", "uniform (ERM)", "mine")}
    lines = drawn_curves(plotting.test_error_curves(runs, title=""))
    alone = drawn_curves(plotting.test_error_curves({"mine": (fake_result(), 0)}, title=""))
    assert lines["low:0.1"].get_color() == lines["low:1"].get_color()
    assert lines["low:0.1"].get_linestyle() != lines["low:1"].get_linestyle()
    assert lines["mine"].get_color() == alone["mine"].get_color()
    assert len({lines[m].get_color() for m in ("low:0.1", "uniform (ERM)", "mine")}) == 3


def test_histograms_compare_right_and_wrong_labels():
    runs = {
        "lookahead": (fake_result(), 0),
        "low": (fake_result(flags_noise=False), 0),
        "uniform": (with_history(fake_result(), example_weights=np.ones((1, 3, 4, 60))), 0),
    }
    figure = telescope_plots.weight_histograms(runs, title="Weights")
    assert [axes.get_title() for axes in figure.axes] == [
        "lookahead\nlow weight flags noise (AUC 1.00)",
        "low\nhigh weight flags noise (AUC 1.00)",
        "uniform\nweight does not flag noise (AUC 0.50)",
    ]
    assert legend_texts(figure) == ["right label", "wrong label"]
    right, _, wrong, _ = (patch.get_data() for patch in figure.axes[0].patches)
    for patch, weight in ((right, 1.5), (wrong, 0.5)):
        inside = np.searchsorted(patch.edges, weight, side="right") - 1
        np.testing.assert_allclose(patch.values, 100 * (np.arange(patch.values.size) == inside))


def test_histograms_use_the_second_half_of_the_weighted_evaluations():
    result = fake_result()
    weights = result.history["example_weights"].copy()
    weights[:, :, 0], weights[:, :, 3] = 7.0, np.nan  # fine-tuning has no weights
    figure = telescope_plots.weight_histograms(
        {"low": (with_history(result, example_weights=weights), 0)}, title=""
    )
    assert figure.axes[0].get_xlim()[1] < 3


def test_histograms_without_wrong_labels_say_so():
    result = fake_result()
    clean = dataclasses.replace(result, true_labels=result.labels)
    figure = telescope_plots.weight_histograms({"low": (clean, 0)}, title="")
    assert figure.axes[0].get_title() == "low\none kind of label only"


def test_class_weights_are_coloured_from_rare_to_frequent():
    result = fake_result()
    weights = np.array([0.5, 1.0, 2.0])[result.labels][None, :, None].repeat(EVALS, axis=2)
    weights[0, 2] = np.nan
    weights[:, :, 3] = np.nan
    runs = {"low": (with_history(result, example_weights=weights), 0), "focal": (result, 0)}
    figure = telescope_plots.weights_by_class(runs, title="")
    low, focal, bar = figure.axes
    assert [axes.get_title() for axes in (low, focal)] == ["low", "focal"]
    assert low.get_xlabel() == "epochs"
    lines = {line.get_label(): line for line in low.lines}
    for c, weight in enumerate([0.5, 1.0, 2.0]):
        epochs = STEPS[:3] * RunConfig().batch_size / EXAMPLES
        np.testing.assert_allclose(lines[f"class {c}"].get_xdata(), epochs)
        np.testing.assert_allclose(lines[f"class {c}"].get_ydata(), [weight] * 3)
    sizes = np.bincount(result.labels[0])
    order = np.argsort(sizes)
    assert [tick.get_text() for tick in bar.get_yticklabels()] == [
        f"{c}: {sizes[c]}" for c in order
    ]
    brightness = [sum(_rgb(lines[f"class {c}"].get_color())) for c in order]
    assert brightness == sorted(brightness)


def _rgb(color):
    code = to_hex(color)
    return [int(code[i : i + 2], 16) for i in (1, 3, 5)]


def test_extreme_examples_show_the_right_images_and_labels():
    result = fake_result()
    weights = result.history["example_weights"].copy()
    weights[0, 1, 2:, 7], weights[0, 1, 2:, 11], weights[0, 1, 2:, 5] = 4.0, 3.0, 0.25
    result = with_history(result, example_weights=weights)
    images = np.tile(np.arange(EXAMPLES, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 1))
    figure = galleries.extreme_examples(result, 0, 1, images, rows=1, columns=3, title="")
    highest, lowest = figure.subfigs
    positions = [[int(ax.images[0].get_array()[0, 0]) for ax in g.axes] for g in figure.subfigs]
    shown = [[EXAMPLES - 1 - position for position in row] for row in positions]
    assert shown[0][:2] == [7, 11]
    assert shown[1][0] == 5
    assert [axes.get_xlabel() for axes in highest.axes] == ["4.00", "3.00", "1.50"]
    assert [axes.get_xlabel() for axes in lowest.axes] == ["0.25", "0.50", "0.50"]
    for axes, i in zip(lowest.axes, shown[1], strict=True):
        assert axes.get_title() == f"{result.labels[1, i]} → {result.true_labels[1, i]}"
        assert to_hex(axes.spines["left"].get_edgecolor()) == "#cc0000"
    assert highest.axes[0].get_title() == str(result.labels[1, 7])
    assert to_hex(highest.axes[0].spines["left"].get_edgecolor()) != "#cc0000"
    assert "11 examples tie at 0.50" in lowest.get_suptitle()


def test_extreme_examples_leave_room_empty_and_skip_undrawn_ones():
    result = fake_result()
    weights = np.full_like(result.history["example_weights"], np.nan)
    weights[..., :2] = 1.0
    images = np.zeros((EXAMPLES, 4, 4, 3), np.uint8)
    figure = galleries.extreme_examples(
        with_history(result, example_weights=weights), 0, 0, images, rows=1, columns=3, title=""
    )
    assert [len(axes.images) for group in figure.subfigs for axes in group.axes] == [1, 1, 0] * 2


def test_ties_are_taken_evenly():
    values = np.array([0.0, 2, 0, 0, 0, np.nan, 0, 0, -1])
    chosen, num_tied = galleries._lowest(values, 4)
    assert chosen.tolist() == [8, 0, 3, 6]
    assert num_tied == 6
    assert galleries._lowest(values, 8)[1] == 0


def test_error_bars_put_the_best_on_top():
    groups = {"uniform": [3.0, 5.0], "low": [1.0, 2.0, 3.0], "focal": [np.nan, 9.0]}
    figure = plotting.error_bars(
        groups | {"random": [np.nan]},
        title="Errors",
        label="test error (%)",
        references={"uniform": 4.5, "proportion": 1.0},
    )
    axes = figure.axes[0]
    rows = ["low", "uniform", "focal (1 of 2 seeds)", "random (0 of 1 seeds)"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == rows
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    means = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert means == [2.0, 4.0, 9.0]
    bar = axes.containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bar[:, 0], [2 - 1 / np.sqrt(3), 2 + 1 / np.sqrt(3)])
    (paper,) = [line for line in axes.lines if line.get_label() == "paper"]
    assert (list(paper.get_xdata()), list(paper.get_ydata())) == ([4.5], [1])
    assert legend_texts(figure) == ["one seed", "mean ± standard error", "paper"]


@pytest.mark.slow
def test_figures_of_a_real_run_are_written(tmp_path):
    task = TaskConfig(
        num_train=100, num_validation=0, num_test=50, num_clean=10, noise="uniform:0.3"
    )
    config = RunConfig(
        task=task, model="linear", num_steps=4, num_evals=2, seeds=1, fine_tune_steps=4
    )
    result = train(config, progress=False)
    images = np.zeros((1797, 8, 8, 1), np.uint8)
    figures = {
        "curves": plotting.test_error_curves({"uniform": (result, 0)}, title="a"),
        "weights": telescope_plots.weight_histograms({"uniform": (result, 0)}, title="b"),
        "classes": telescope_plots.weights_by_class({"uniform": (result, 0)}, title="c"),
        "examples": galleries.extreme_examples(result, 0, 0, images, title="d"),
        "bars": plotting.error_bars({"uniform": [1.0]}, title="e", label="f"),
    }
    for name, figure in figures.items():
        path = tmp_path / "figures" / f"{name}.png"
        plotting.save(figure, path)
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "figures").iterdir())) == len(figures)
