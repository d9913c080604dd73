"""The experiments of santiago2021: arms, the arithmetic of claims and tables, and small runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.reporting.claims import answers, source
from experiments.reporting.experiment import Options, present, run
from experiments.reporting.ledger import NOT_RUN, VERDICTS, read_ledger
from experiments.santiago2021 import (
    EXPERIMENTS,
    claims,
    figure1,
    figure7,
    gallery,
    mnist,
    mnist_claims,
    pictures,
    skin,
    skin_claims,
    table2,
)
from experiments.santiago2021.methods import LAMBDAS, ON_MNIST, method_arms
from experiments.santiago2021.printed import CLASS_COUNTS, SKIN, TEST_ERRORS
from experiments.training.result import Result

BY_NAME = {experiment.name.split(".")[1]: experiment for experiment in EXPERIMENTS}
EPOCHS, SEEDS, CLASSES = 10, 2, 10


def made_up(configs, *, test, validation=None, train_loss=None, class_weights=None):
    """A result whose curves are constant but for what is given; `test` [H, S] are accuracies."""
    shape = (len(configs), SEEDS, EPOCHS)

    def along(values):
        return np.broadcast_to(np.asarray(values, float)[:, :, None], shape)

    test = along(test)
    history = {
        "test_accuracy": test,
        "test_balanced_accuracy": test,
        "validation_accuracy": test if validation is None else along(validation),
        "train_accuracy": test,
        "train_loss": np.ones(shape) if train_loss is None else train_loss,
        "class_weights": np.ones((*shape, CLASSES)) if class_weights is None else class_weights,
        "example_weights": np.ones((*shape, 30)),
    }
    labels = np.tile(np.arange(30) % CLASSES, (SEEDS, 1))
    return Result(tuple(configs), history, labels, labels, labels, 0.0)


def ask(found, text, of=mnist_claims.MNIST_CLAIMS):
    (claim,) = [claim for claim in of if claim.text == text]
    return claim.ask(found).tolist()


def arms_at(preset="cpu"):
    return method_arms(mnist._base_of(preset), ON_MNIST)


def test_every_method_but_normal_has_four_settings():
    arms = arms_at()
    sizes = {name: len(configs) for name, configs in arms.items()}
    assert sizes == {name: 1 if name == "normal" else 4 for name in ON_MNIST}
    assert [c.scheme.values[0] for c in arms["low"]] == list(LAMBDAS)
    assert [c.learning_rate for c in arms["normal_tuned"]] == pytest.approx(
        [0.005, 0.02, 0.05, 0.1]
    )
    assert {c.weighting for c in arms["normal_tuned"]} == {"uniform"}
    presample = arms["importance_sampling"][0]
    assert presample.batch_size == 3 * 256
    assert presample.weighting == "importance_sampling:256:-1"
    # lambda B^2 of the batch mean: about 1, 0.1, 0.01, and the released code's own 0.1
    acts_as = [c.scheme.values[0] * 256**2 for c in arms["low_batch_mean"]]
    np.testing.assert_allclose(acts_as, [0.65536, 0.065536, 0.0065536, 6553.6], rtol=1e-12)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("preset", ["smoke", "cpu", "paper"])
def test_arms_of_every_preset_are_valid(name, preset):
    for configs in BY_NAME[name].arms(preset).values():
        assert len({config.num_steps for config in configs}) == 1
        assert all(config.nesterov and config.momentum == 0.9 for config in configs)


def test_the_papers_settings():
    base = mnist._base_of("paper")
    assert (base.learning_rate, base.batch_size, base.seeds, base.num_evals) == (0.001, 256, 5, 100)
    dense = table2._arms("paper")["normal_densenet_bc_cifar100"][0]
    assert dense.schedule == f"drops:{150 * 703},{225 * 703}:0.1"
    wide = table2._arms("paper")["low_wrn28_2_cifar10"][0]
    assert wide.schedule == f"drops:{30 * 351},{60 * 351}:0.2"
    assert (wide.batch_size, wide.num_evals, wide.augmentation) == (128, 100, "crop:4+flip")
    lesions = skin._arms("isic2018", "paper")["low_ce"]
    assert [c.scheme.values[0] for c in lesions] == [1.0, 0.5, 0.1, 0.01]
    assert lesions[0].task.test_share == 0.2
    assert "low_bce" in skin._arms("isic2018", "paper")


def test_the_choice_is_on_validation_data_and_the_papers_on_test_data():
    configs = arms_at()["low"]
    low = made_up(
        configs,
        test=[[0.9, 0.9], [0.8, 0.8], [0.95, 0.95], [0.1, 0.1]],
        validation=[[0.5, 0.5], [0.7, 0.9], [0.6, 0.6], [0.1, 0.1]],
    )
    assert claims.best_setting(low, "accuracy") == 1
    assert claims.best_setting(low, "accuracy", "test") == 2
    normal = made_up(arms_at()["normal"], test=[[0.85, 0.96]])
    found = {"low": low, "normal": normal}
    text = "the best LOW has a lower test error than Normal, lambda "
    assert ask(found, text + "chosen on validation") == [False, False]
    assert ask(found, text + "chosen by test error, as in the paper") == [True, False]


def test_claims_about_training_losses():
    configs = arms_at()["low"]
    fall = np.linspace(2, 0, EPOCHS)
    loss = np.broadcast_to(fall, (4, SEEDS, EPOCHS)).copy()
    loss[2, :, :2] += 1  # lambda 0.01: higher in the first fifth
    loss[2, 1, -1] = 0.6  # and at the end, on the second seed
    low = made_up(configs, test=np.full((4, SEEDS), 0.9), train_loss=loss)
    normal_loss = np.broadcast_to(np.maximum(fall, 0.5), (1, SEEDS, EPOCHS))
    normal = made_up(arms_at()["normal"], test=[[0.8, 0.95]], train_loss=normal_loss)
    found = {"low": low, "normal": normal}
    name = "LOW with lambda 0.01"
    text = f"{name}: the training loss is higher in the first fifth of the epochs"
    assert ask(found, text) == [True, True]
    assert ask(found, f"{name} ends at a lower training loss than Normal") == [True, False]
    assert ask(found, f"{name} ends at a lower training error than Normal") == [True, False]
    faster = "LOW with lambda 0.1: the training loss falls faster (first fifth)"
    assert ask(found, faster) == [False, False]  # equal is not faster


def test_claims_about_lambda():
    configs = arms_at()["low"]  # lambda 1, 0.1, 0.01, 0.001
    low = made_up(configs, test=[[0.9, 0.9], [0.9, 0.9], [0.95, 0.91], [0.7, 0.92]])
    normal = made_up(arms_at()["normal"], test=[[0.89, 0.92]])
    found = {"low": low, "normal": normal}
    nears = "test error nears Normal's as lambda grows (1 against 0.01)"
    assert ask(found, nears) == [True, False]  # 1 against 6 points, 2 against 1
    assert ask(found, "test error is higher at lambda 0.001 than at 0.01") == [True, False]


def test_claims_about_classes():
    configs = arms_at()["low"][:1]
    weights = np.ones((1, SEEDS, EPOCHS, CLASSES))
    weights[0, :, 1:4, [0, 1, 6]] = 0.5
    weights[0, :, 1:4, [5, 8, 9]] = 1.5
    weights[0, 1, 5, 3] = 3.0
    weights[0, 1, -1, 3] = 2.1  # the second seed does not return
    low = made_up(configs, test=[[0.9, 0.9]], class_weights=weights)
    assert claims.class_spread(claims.class_weight_curves(low, 0))[0].max() == 1.0
    found = {"low": low}
    early = "over the first 40 % of the epochs"
    assert ask(found, f"classes 0, 1 and 6 are below one, {early}") == [True, True]
    assert ask(found, f"classes 5, 8 and 9 are above one, {early}") == [True, True]
    back = "class weights return to one: at the end their spread is below half its largest"
    assert ask(found, back) == [True, False]
    assert ask(found, "class weights differ less in the first epoch than later") == [True, True]


def test_extremes_leave_out_what_was_never_drawn():
    low, high = gallery.extreme_positions(np.array([3.0, np.nan, 1.0, 2.0, 5.0]), 2)
    assert low.tolist() == [2, 3]
    assert high.tolist() == [4, 0]
    few, many = gallery.extreme_positions(np.array([1.0, 2.0, 3.0]), 20)
    assert (few.tolist(), many.tolist()) == ([0], [2])


def test_a_claim_is_asked_only_where_its_arms_are_finished():
    found = {"normal": made_up(arms_at()["normal"], test=[[0.9, 0.9]])}
    assert answers(mnist_claims.MNIST_CLAIMS, found) == ()
    text = "Normal on imbalanced MNIST is worse than Normal on all of MNIST"
    full = made_up(arms_at()["normal"], test=[[0.95, 0.9]])
    result = replace(found["normal"], history={**found["normal"].history})
    result.history["validation_balanced_accuracy"] = result.history["validation_accuracy"]
    full.history["validation_balanced_accuracy"] = full.history["validation_accuracy"]
    asked = answers(figure7._CLAIMS, {"normal": result, "full": full})
    assert [(a.claim.text, a.holds.tolist()) for a in asked] == [(text, [True, False])]


def test_printed_weights_of_figure_1_average_to_one_over_twenty():
    weights = np.array([*figure1.PRINTED_LOW, *figure1.PRINTED_HIGH])
    assert len(weights) == 20
    assert weights.mean() == pytest.approx(1, abs=1e-3)
    stacked = np.stack([np.ones(20), weights])[None]
    assert figure1.closest_step(stacked[0]) == 1
    ones = np.ones((1, 2, 20))
    held = answers(figure1._CLAIMS, {"example": stacked, "mean": ones})
    assert [answer.holds.tolist() for answer in held] == [[True]] * 4
    assert source(held[-1].claim, "santiago2021") == "control, the released code's scale"
    flat = answers(figure1._CLAIMS, {"example": ones, "mean": stacked})
    assert [answer.holds.tolist() for answer in flat] == [[False], [True], [False], [False]]


def test_batch_weights_of_two_scales():
    logits, labels = np.array([[0.0, 0.0], [3.0, 0.0]], np.float32), np.array([0, 0])
    p = 1 / (1 + np.exp(-3.0))
    squared = np.array([2 * 0.25, 2 * (1 - p) ** 2])
    gap = (squared[0] - squared.mean()) / (2 * figure1.LAMBDA)
    mean_scale = figure1.batch_weights(logits, labels, batch_mean=True)
    np.testing.assert_allclose(mean_scale, [1 + gap / 4, 1 - gap / 4], rtol=1e-5)
    example_scale = figure1.batch_weights(logits, labels, batch_mean=False)
    np.testing.assert_allclose(example_scale, [2, 0], atol=1e-6)  # the second would be negative


def test_everything_printed_is_listed():
    counts = {name: len(experiment.printed) for name, experiment in BY_NAME.items()}
    assert sum(len(values) for values in CLASS_COUNTS.values()) == counts["table1"] == 9
    assert sum(CLASS_COUNTS["isic2018"].values()) == 9925  # without the vascular class
    assert sum(CLASS_COUNTS["isic2017"].values()) == 2000
    tables = {
        item: [e for experiment in EXPERIMENTS for e in experiment.printed if e.item == item]
        for item in ("Table 2", "Table 3", "Table 4")
    }
    numbers = {item: sum(bool(e.paper) for e in entries) for item, entries in tables.items()}
    assert numbers == {"Table 2": 24, "Table 3": 24, "Table 4": 24}
    assert TEST_ERRORS["wrn28_2", "cifar10"]["LOW"] == 6.8
    assert SKIN["isic2018"]["LOW + bCE"] == (89.4, 77.4, 97.8, 81.1)
    for experiment in EXPERIMENTS:
        assert {e.item for e in experiment.printed} <= set(experiment.items)
        assert all(e.verdict == NOT_RUN and e.cause and not e.ours for e in experiment.printed)
        assert len({(e.item, e.claim) for e in experiment.printed}) == len(experiment.printed)
    figures = {item for e in EXPERIMENTS for item in e.items if item.startswith("Figure")}
    assert figures == {f"Figure {number}" for number in range(1, 14)}


def test_claims_about_lesions():
    for data in SKIN:
        found = skin_claims.lesion_claims(data)
        assert len({claim.text for claim in found}) == len(found)
    shape = (1, SEEDS, 6, 7)
    weights = np.ones(shape)
    weights[0, :, 0, [2, 3, 5]] = 2.0  # rare at first
    weights[0, 0, 1, 0] = 3.0  # then melanoma, on the first seed
    labels = np.tile(np.repeat(np.arange(7), [9, 30, 4, 3, 8, 2, 5]), (SEEDS, 1))
    config = skin._arms("isic2018", "smoke")["low_ce"]
    history = {
        "class_weights": weights,
        "validation_balanced_accuracy": np.ones((1, SEEDS, 6)),
    }
    found = {"low_ce": Result(tuple(config), history, labels, labels, labels, 0.0)}
    of = skin_claims.lesion_claims("isic2018")
    rarer = "ISIC 2018: the rarer half of the classes weighs more at first (first sixth)"
    assert ask(found, rarer, of) == [True, True]
    text = "ISIC 2018: Melanoma weighs most in the second sixth (epochs 25 to 50 of 150)"
    assert ask(found, text, of)[0]
    text = "ISIC 2018: Vascular, though rare, is below the average of the classes at first"
    assert ask(found, text, of) == [True, True]


def check_folder(experiment, folder):
    """The files of a finished run; returns its ledger's entries."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["preset"] == "smoke"
    entries = read_ledger(folder / "ledger.json")["entries"]
    assert {entry.item for entry in entries} <= set(experiment.items)
    assert all(entry.verdict in VERDICTS for entry in entries)
    known = {(entry.item, entry.claim) for entry in experiment.printed}
    assert {(entry.item, entry.claim) for entry in entries} <= known
    return entries


SLOW = dict.fromkeys(("table2", "table3", "figure7", "table4", "mnist"), pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in BY_NAME])
def test_small_run(name, tmp_path):
    experiment = BY_NAME[name]
    folder = tmp_path / "run"
    text = run(experiment, Options("smoke", folder))
    entries = check_folder(experiment, folder)
    if name == "table1":
        assert entries == []  # made-up labels tell nothing
        return
    assert "statement" in text
    asked = {entry.claim for entry in entries}
    assert len(asked) == len(entries) > 2
    drawn = {path.stem.split("_")[0] for path in folder.rglob("*.png")}
    items = {item.lower().replace(" ", "") for item in experiment.items}
    assert drawn <= items
    assert drawn >= {item for item in items if item.startswith("figure")}
    assert present(experiment, folder, "smoke") == text
    if name == "table4":  # the data set's own images stay in the run's folder
        shown = read_ledger(folder / "ledger.json")["figures"]
        assert shown == {"figure9_isic2018": "Figure 9", "figure13_classes": "Figure 13"}
        images = {path.name for path in (folder / "images").iterdir()}
        assert images == {"figure10.png", "figure11.png"}


def test_a_part_of_the_arms(tmp_path):
    folder = tmp_path / "run"
    text = run(mnist.EXPERIMENT, Options("smoke", folder, only=("normal",)))
    assert "Normal" in text
    assert check_folder(mnist.EXPERIMENT, folder) == []
    assert {path.name for path in folder.glob("*.png")} == {
        "figure2_training.png",
        "figure3_test.png",
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    for experiment in EXPERIMENTS:
        if experiment.arms("smoke"):
            page = experiment.present(empty, "smoke")
            assert "settings chosen on validation data" in str(page.tables[0])
            assert not page.claims
            assert not page.numbers


def test_counts_of_a_part_of_a_set_are_another_setting(tmp_path):
    printed = {"Benign": 1372, "Melanoma": 374, "Keratosis": 254}
    whole = printed | {"Benign": 1371, "Melanoma": 375}
    for counts, verdicts in (
        (printed, ["reproduced"] * 3),
        (whole, ["not reproduced", "not reproduced", "reproduced"]),
        (printed | {"Benign": 1371}, ["other setting"] * 3),
    ):
        (tmp_path / "counts.json").write_text(json.dumps({"isic2017": counts}))
        page = BY_NAME["table1"].present(tmp_path, "cpu")
        entries = page.numbers
        assert [entry.verdict for entry in entries] == verdicts
        assert page.summary == {"preset": "cpu", "counts": {"isic2017": counts}}
    assert entries[0].cause == "a part of the set: 1,999 of 2,000 images"


def test_claims_and_rows_carry_their_own_causes():
    by_text = {claim.text: claim.cause for claim in mnist_claims.MNIST_CLAIMS}
    name = "LOW with lambda 0.01"
    assert by_text[f"{name} ends at a lower training loss than Normal"].startswith("perhaps: 25")
    assert by_text["LOW with lambda 0.1 ends at a lower training loss than Normal"] == ""
    assert by_text[f"{name} has a lower test error than FL, chosen on validation"].startswith("its")
    by_text = {claim.text: claim.cause for claim in skin_claims.lesion_claims("isic2018")}
    assert by_text["ISIC 2018: LOW + bCE ends at a lower training error than bCE"].startswith(
        "perhaps: LOW raises the rarest classes once more"
    )
    assert by_text["ISIC 2018: LOW + FL is better than FL on most metrics"].startswith(
        "three seeds"
    )
    on_cifar = {claim.text: claim.cause for claim in table2._claims("cifar10")}
    assert on_cifar["CIFAR-10: LOW has a lower test error than IS"].startswith("while its gate")
    printed = {"Normal": 7.2, "IS": 7.9, "LOW": 6.8}
    errors = {"Normal": [30.0, 31.0], "IS": [29.0, 30.0], "LOW": [31.0, 32.0]}
    ours = {method: np.array(values) for method, values in errors.items()}
    wide, dense = (
        table2._column_entries((network, "cifar10"), printed, ours)
        for network in ("wrn28_2", "densenet_bc")
    )
    assert [entry.cause.split()[0] for entry in wide] == ["with", "while", "the"]
    assert [entry.cause for entry in dense] == ["", "", ""]


def test_colours_and_dashes_of_drawn_runs():
    result = made_up(arms_at()["normal"], test=[[0.9, 0.9]])

    def styles(*kinds, dashed=()):
        runs = [pictures.DrawnRun(k, result, 0, k, i in dashed) for i, k in enumerate(kinds)]
        return [(style["color"], style["linestyle"]) for style in pictures._styles(runs)]

    assert styles("Normal", "LOW") == [("#333333", "-"), ("#08519C", "-")]
    many = styles("LOW", "LOW", "LOW", "FL")
    assert [color for color, _ in many] == ["#9ECAE1", "#4292C6", "#08519C", "#CC79A7"]
    assert styles("bCE", "bCE", dashed=(0,)) == [("#009E73", "--"), ("#009E73", "-")]
