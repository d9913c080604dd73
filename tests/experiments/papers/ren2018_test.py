"""The experiments of ren2018: statistics and claims by hand, arms, and small runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.data import TaskConfig
from experiments.ren2018 import (
    claims,
    figure2,
    figure3,
    figure4,
    figure5,
    noise,
    table1,
    table2,
    table_page,
)
from experiments.ren2018 import rates as learning_rates
from experiments.ren2018.sweep import at
from experiments.reporting.claims import answers
from experiments.reporting.experiment import Options, present, run
from experiments.reporting.ledger import NOT_RUN, OTHER_SETTING, VERDICTS, Printed, read_ledger
from experiments.training.config import RunConfig
from experiments.training.result import Result


def _result(*, num_seeds=2, steps=(10, 20, 30, 40), schedule="drops:20,30", tuning=0, **history):
    """A result of three examples, with these measures [S, E] or [S, C, C]."""
    config = RunConfig(
        TaskConfig(num_clean=10),
        num_steps=40,
        num_evals=4,
        schedule=schedule,
        fine_tune_steps=tuning,
        seeds=num_seeds,
    )
    arrays = {name: np.asarray(values, np.float32)[None] for name, values in history.items()}
    labels = np.tile(np.array([[1, 1, 0]]), (num_seeds, 1))
    true_labels = np.tile(np.array([[1, 2, 0]]), (num_seeds, 1))
    steps = np.array(steps)
    return Result((config,), {"step": steps, **arrays}, labels, true_labels, labels, 0.1)


def test_accuracies_before_and_after_fine_tuning():
    accuracy = [[0.1, 0.2, 0.3, 0.4, 0.9], [0.1, 0.2, 0.3, 0.6, 0.8]]
    tuned = _result(steps=(10, 20, 30, 40, 50), tuning=10, test_accuracy=accuracy)
    plain = _result(test_accuracy=np.array(accuracy)[:, :4])
    rows = ("RANDOM", "BASELINE", "BASELINE +FT", "OURS")
    found = noise.row_accuracies({"baseline_ft": tuned, "ours": plain}, noise.NOISE_METHODS, rows)
    assert list(found) == ["BASELINE", "BASELINE +FT", "OURS"]
    np.testing.assert_allclose(found["BASELINE"], [40, 60], rtol=1e-6)
    np.testing.assert_allclose(found["BASELINE +FT"], [90, 80], rtol=1e-6)
    np.testing.assert_allclose(found["OURS"], [40, 60], rtol=1e-6)


def test_stopping_on_validation_and_falling_after_the_drop():
    validation = [[0.9, 0.5, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]]
    result = _result(test_accuracy=[[0.1, 0.2, 0.3, 0.4]] * 2, validation_accuracy=validation)
    np.testing.assert_allclose(noise.stopped_on_validation(result), [10, 40], rtol=1e-6)
    # evaluations from step 20 on: the first one, at step 10, was before the drop
    np.testing.assert_allclose(noise.fall_after_drop(result), [10, 0], atol=1e-5)


def test_share_called_background():
    matrix = [[1, 1, 2], [0, 4, 0], [1, 1, 2]]
    result = _result(num_seeds=1, confusion=[matrix])
    np.testing.assert_array_equal(noise.background_classes(result), [1])
    np.testing.assert_allclose(noise.called_background(result), [0.25])


def test_trials_are_joined_along_the_seeds():
    one = _result(num_seeds=1, test_accuracy=[[0.1, 0.2, 0.3, 0.4]])
    two = _result(num_seeds=2, test_accuracy=[[0.5, 0.6, 0.7, 0.8]] * 2)
    both = noise.joined([one, two])
    assert both.history["test_accuracy"].shape == (1, 3, 4)
    assert both.labels.shape == (3, 3)
    np.testing.assert_array_equal(both.history["step"], one.history["step"])
    np.testing.assert_allclose(both.history["test_accuracy"][0, :, -1], [0.4, 0.8, 0.8])


def test_schedules_are_the_papers():
    base = RunConfig(num_steps=80_000, num_evals=40)
    long = noise.with_drops(base, 80_000, 1 / 2, 3 / 4)
    assert (long.schedule, long.num_evals) == ("drops:40000,60000", 40)
    early = noise.stopped_early(long)
    assert (early.schedule, early.num_steps) == ("drops:40000,50000", 60_000)
    assert early.num_steps / early.num_evals == long.num_steps / long.num_evals


def test_longer_training_keeps_the_drops_shares_of_the_steps():
    config = noise.with_drops(RunConfig(num_steps=400, num_evals=4), 400, 1 / 2, 3 / 4)
    longer = learning_rates.lengthened(config, 4)
    assert (longer.schedule, longer.num_steps, longer.num_evals) == ("drops:800,1200", 1600, 16)


def test_arms_of_the_tables():
    arms = table2.EXPERIMENT.arms("cpu")
    assert len(arms) == 2 * len(table2._METHODS) * 3
    configs = {name: config for name, (config,) in arms.items()}
    third = configs["cifar10/ours/2"]
    assert (third.task.noise, third.first_seed, third.seeds) == ("background:0.4:3", 2, 1)
    assert configs["mnist/weighted/0"].weighting == "oracle_noise"
    tuned = configs["cifar10/baseline_es/1"]
    assert (tuned.num_steps, tuned.schedule) == (1350, "drops:900,1125")
    assert (tuned.fine_tune_steps, tuned.fine_tune_learning_rate) == (500, 0.003)
    assert configs["cifar10/random/0"].fine_tune_steps == 0  # Table 2 has no RANDOM +FT
    released, published = (configs[f"mnist/reed_soft{name}_es/0"] for name in ("", "_published"))
    assert released.loss == "bootstrap_soft:0.95:target=constant"
    assert published == replace(released, loss="bootstrap_soft:0.95")
    clean = configs["cifar10/clean_only/0"]
    assert (clean.num_steps, clean.weighting) == (0, "uniform")
    assert clean.fine_tune_learning_rate is None
    for name, config in configs.items():
        task = config.task
        total = (task.num_train or 0) + task.num_validation + task.num_clean
        assert total == (10_000 if name.startswith("cifar10") else 5_000)

    uniform = table1.EXPERIMENT.arms("cpu")
    assert len(uniform) == 2 * len(table1._METHODS)
    (random,) = uniform["cifar10/random"]
    assert (random.task.noise, random.seeds, random.fine_tune_steps) == ("uniform:0.4", 3, 500)
    for table in (table1, table2):
        methods = table._METHODS
        assert noise.rows_made(methods, table._ROWS) == table._ROWS  # every printed row is made


@pytest.mark.parametrize("table", [table1, table2])
def test_arms_at_the_papers_settings(table):
    arms = table.EXPERIMENT.arms("paper")
    (baseline,) = arms["cifar100/baseline" + ("" if table is table1 else "/4")]
    if table is table1:
        assert (baseline.model, baseline.num_steps) == ("wrn28_10", 60_000)
        assert baseline.schedule == "drops:40000,50000"
        assert baseline.task.noise == "uniform:0.4"
    else:
        assert (baseline.model, baseline.num_steps) == ("resnet32", 80_000)
        assert baseline.schedule == "drops:40000,60000"
        assert (baseline.task.noise, baseline.first_seed) == ("background:0.4:85", 4)
    assert baseline.task.num_clean == 1000
    (tuned,) = arms["cifar100/baseline_ft" + ("" if table is table1 else "/4")]
    assert tuned.fine_tune_steps == 5000
    assert tuned.fine_tune_learning_rate == pytest.approx(1e-3)


def test_all_that_the_paper_prints_is_listed():
    for table, rows, statements in ((table1, 10, 5), (table2, 16, 12)):
        printed = table.EXPERIMENT.printed
        numbers = [entry for entry in printed if entry.paper]
        assert len(numbers) == 2 * rows
        assert len(printed) - len(numbers) == statements
        assert len({(e.item, e.claim) for e in printed}) == len(printed)
        assert {e.item for e in printed} == set(table.ITEMS)
        assert all(e.verdict == NOT_RUN and "--preset paper" in e.cause for e in printed)
    ours = [e for e in table2.EXPERIMENT.printed if e.claim.startswith("OURS: CIFAR-100")]
    assert ours[0].paper == "59.3 ± 0.6"


def test_claims_are_asked_of_every_seed():
    best = claims.about("best", "Table 1", "Sec. 1", ("OURS", "A", "B"), claims.above_all, "why")
    assert (best.item, best.place, best.cause) == ("Table 1", "Sec. 1", "why")
    measures = {"A": np.array([1.0, 5, 5]), "B": np.array([2.0, 2, 4]), "OURS": np.array([3, 4, 5])}
    (answer,) = answers([best], measures)
    assert answer.holds.tolist() == [True, False, False]  # a tie is not above
    assert answers([best], {"A": measures["A"], "OURS": measures["OURS"]}) == ()
    (fewer,) = answers([best], measures | {"B": measures["B"][:2]})
    assert fewer.holds.tolist() == [True, False]  # the seeds that all have


def test_the_papers_own_numbers_fulfil_its_claims():
    """Means as single seeds; RANDOM and the early S-model are about CIFAR-10."""
    for table in (table1, table2):
        for label, column in table._COLUMNS.items():
            measures = {row: np.array([printed.value]) for row, printed in column.values.items()}
            for answer in answers(table._claims(label, table._ROWS), measures):
                assert answer.holds.tolist() == [True], answer.claim.text


def test_claims_of_the_figures_of_table_2():
    measures = {
        "zero weights of flipped, mixed batch": np.array([0.6, 0.4]),
        "AUC, one-class batch": np.array([0.95, 0.8]),
        "called background, BASELINE": np.array([0.4, 0.4]),
        "called background, OURS": np.array([0.2, 0.3]),
        "fall, BASELINE": np.array([5.0, 1.0]),
        "fall, S-MODEL": np.array([2.5, 2.0]),
        "fall, OURS": np.array([2.0, 3.0]),
    }
    asked = answers(table2._claims("CIFAR-10", table2._ROWS), measures)
    assert len(asked) == 6
    assert all(answer.holds.tolist() == [True, False] for answer in asked)


def test_claims_of_the_ablation_of_the_learning_rate():
    accuracy = ([50.0, 60], [60.0, 50], [70.0, 40])  # BASELINE, OURS, clipped; as long, too
    measures = {
        at(row, 0.1): np.array(values)
        for row, values in zip(
            (
                "BASELINE",
                "OURS",
                "OURS clipped",
                "BASELINE, 4 x steps",
                "OURS, 4 x steps",
                "OURS clipped, 4 x steps",
            ),
            accuracy * 2,
            strict=True,
        )
    }
    measures |= {"OURS: share of the batch used at 0.1": np.array([30.0, 40.0])}
    asked = answers(learning_rates._claims("digits", (0.01, 0.1)), measures)
    assert len(asked) == 7  # nothing is asked at the other rate
    assert all(answer.holds.tolist() == [True, False] for answer in asked)
    assert all(answer.claim.is_control for answer in asked)


def test_measures_of_figure_3():
    weights = np.array([[0.0, 2.0, 0.0, 2.0]])
    flipped = np.array([[True, True, False, False]])
    found = figure3.flip_measures(*[figure3.Weighed(weights, flipped)] * 2)
    assert found["zero weights of flipped, mixed batch"] == 0.5
    assert found["zero weights of right, mixed batch"] == 0.5
    assert found["AUC, one-class batch"] == 0.5
    detector = figure3.Weighed(np.array([[0.0, 0.1, 2.0, 1.9]]), flipped)
    assert figure3.flip_measures(detector, detector)["AUC, mixed batch"] == 1.0


def test_entries_compare_rows_with_the_baseline():
    values = {"BASELINE": Printed(60.0, 1.0), "RANDOM": Printed(70.0), "OURS": Printed(50.0, 0.5)}
    columns = {"CIFAR-10": claims.PrintedColumn(values, {"OURS": "perhaps: chance"})}
    table = table2._table("cpu")
    rows = {"BASELINE": np.array([30.0, 31.0]), "OURS": np.array([50.0, 51.0])}
    part = table_page._Part("cifar10", rows, table_page.TableExtras())
    found = {
        e.claim: (e.verdict, e.cause) for e in table_page._numbers(table, part, columns, "cpu")
    }
    quantity = "CIFAR-10, test accuracy %"
    assert found == {  # RANDOM is not finished
        f"BASELINE: {quantity}": (OTHER_SETTING, ""),
        f"OURS: {quantity}": ("not reproduced", "perhaps: chance"),
    }
    on_mnist = part._replace(dataset="mnist")  # of which the paper has no column
    assert table_page._numbers(table, on_mnist, columns, "cpu") == []
    del rows["BASELINE"]
    assert table_page._numbers(table, part, columns, "cpu") == []  # nothing to compare with yet


@pytest.mark.parametrize(
    ("table", "causes"),
    [
        (
            table1,
            {
                ("CIFAR-10", "OURS"): "perhaps, as in Table 2: lookahead's few",
                ("CIFAR-10", "BASELINE"): "perhaps: after so few steps",
                ("CIFAR-100", "CLEAN ONLY"): "perhaps: after so few steps",
            },
        ),
        (
            table2,
            {
                ("CIFAR-100", "WEIGHTED"): "the paper prints RANDOM's numbers once more",
                ("CIFAR-10", "WEIGHTED"): None,
                ("CIFAR-10", "BASELINE"): None,
                ("CIFAR-10", "REED SOFT +ES"): "the released code holds the target constant",
                ("CIFAR-10", "REED SOFT +ES, published"): None,
                ("CIFAR-10", "REED HARD +ES"): "perhaps: after so few steps",
                ("CIFAR-10", "S-MODEL +CONF +FT"): None,
                ("CIFAR-100", "OURS"): "lookahead's few positive weights",
            },
        ),
    ],
)
def test_rows_carry_their_own_causes(table, causes):
    for (label, row), text in causes.items():
        found = table._COLUMNS[label].causes.get(row)
        assert found is None if text is None else found.startswith(text)


@pytest.mark.slow
@pytest.mark.parametrize("table", [table1, table2])
def test_tables_run_and_show_what_is_finished(table, tmp_path):
    experiment, folder = table.EXPERIMENT, tmp_path / "run"
    options = Options("smoke", folder)
    assert "no method" in present(experiment, tmp_path / "empty", "smoke", {})
    part = run(experiment, options._replace(only=("*/baseline*",)))
    assert "BASELINE" in part
    assert "OURS" not in part.split("\n\n")[0]
    text = run(experiment, options._replace(resume=True))
    assert "OURS has the highest accuracy of all rows" in text
    ledger = read_ledger(folder / "ledger.json")
    assert ledger["entries"]
    assert {entry.verdict for entry in ledger["entries"]} <= set(VERDICTS)
    pictures = {path.name for path in folder.glob("*.png")}
    expected = {"figure6_digits.png", f"{experiment.name.split('.')[1]}_digits.png"}
    if table is table2:
        expected |= {"figure3_digits.png", "figure3_training_digits.png", "figure7_digits.png"}
    assert pictures == expected
    summary = json.loads((folder / "summary.json").read_text())
    measured = summary["measures"]["digits"]
    assert len(measured["OURS"]) == 2
    assert measured["BASELINE +FT"] != measured["BASELINE"]
    if table is table2:
        found = noise.finished_trials(table2._table("smoke"), folder, "digits")
        matrix = noise.trials_joined(table2._table("smoke"), folder, "digits")["baseline"]
        right = matrix.history["confusion"][0].diagonal(axis1=1, axis2=2).sum(1) / 4
        np.testing.assert_allclose(right, measured["BASELINE"], rtol=1e-5)  # 400 test images
        assert len(found["ours"]) == 2
        weighed = figure3.stored_weights(folder / "figure3_digits.npz")
        left, single = weighed[0]
        assert left.weights.shape == (4, 50)  # 200 validation images
        np.testing.assert_allclose(left.weights.mean(axis=1), 1, rtol=1e-5)
        assert single.weights.shape[0] == 9


def test_sweeps_have_the_papers_points():
    sizes = figure4.EXPERIMENT.arms("cpu")
    assert (len(sizes), len(figure4.EXPERIMENT.arms("paper"))) == (3 * 3, 5 * 3)
    (few,) = sizes["15/baseline_es"]
    assert (few.task.num_clean, few.task.noise, few.task.num_train) == (
        15,
        "background:0.4:3",
        4000,
    )
    assert (few.num_steps, few.fine_tune_steps) == (1125, 500)
    assert sizes["1000/ours"][0].fine_tune_steps == 0
    rates = figure5.EXPERIMENT.arms("paper")
    assert len(rates) == 6 * 4
    (none,) = rates["0/ours"]
    assert (none.task.noise, none.weighting) == ("background:0:3", "lookahead")
    assert none.num_steps == 80_000
    assert rates["0.5/random"][0].task.noise == "background:0.5:3"


def _asked(claims_, measures):
    measures = {name: np.array([value]) for name, value in measures.items()}
    return {a.claim.text: bool(a.holds[0]) for a in answers(claims_, measures)}


def test_claims_of_figure_4():
    names = {"OURS": (85, 87, 87.5), "BASELINE +FT": (70, 0, 86), "BASELINE +ES +FT": (75, 0, 87)}
    measures = {
        at(row, size): value
        for row, values in names.items()
        for size, value in zip((15, 100, 1000), values, strict=True)
    }
    assert list(_asked(figure4._claims("CIFAR-10"), measures).values()) == [True] * 6
    measures |= {"OURS at 15": 60.0, "OURS at 1000": 90.0, "BASELINE +ES +FT at 15": 86.0}
    found = list(_asked(figure4._claims("CIFAR-10"), measures).values())
    assert found == [False, False, True, False, False, False]


def test_claims_of_figure_5():
    measures = {"OURS at 0": 90.0, "OURS at 0.5": 84.0, "BASELINE at 0": 92.0}
    measures["BASELINE at 0.5"] = 50.0
    assert list(_asked(figure5._claims("CIFAR-10"), measures).values()) == [True] * 3
    measures |= {"OURS at 0": 93.0, "BASELINE at 0.5": 52.0}
    assert list(_asked(figure5._claims("CIFAR-10"), measures).values()) == [False] * 3


def test_claims_of_figure_2_about_what_is_there():
    errors = {"lookahead": (1.0, 3.5), "uniform (ERM)": (2.0, 30.0), "random": (2.5, 36.0)}
    errors |= {"proportion": (2.0, 20.0), "hard mining": (2.0, 8.0), "resample": (0.5, 10.5)}
    measures = {
        f"{method} at {ratio}": value
        for method, values in errors.items()
        for ratio, value in zip(("9:1", "199:1"), values, strict=True)
    }
    found = _asked(figure2._claims(), measures)
    assert len(found) == 2 * 2 + 6  # nothing is asked at the ratios that are missing
    wrong = {text for text, holds in found.items() if not holds}
    assert wrong == {
        "at 9:1 lookahead has the lowest error of all methods",
        "at 199:1 random is within five points of the baseline",
        "from 9:1 to 199:1 the error of hard mining rises by ten points or more",
    }


def test_statements_of_the_figures_are_listed():
    for figure, count in ((figure2, 16), (figure4, 6), (figure5, 3)):
        printed = figure.EXPERIMENT.printed
        assert len(printed) == len({entry.claim for entry in printed}) == count
        assert {entry.item for entry in printed} == set(figure.EXPERIMENT.items)


def test_figure2_as_the_paper_and_as_the_released_code_have_it():
    for preset, model in (("paper", "lenet5"), ("released", "ren2018_net")):
        arms = figure2.EXPERIMENT.arms(preset)
        assert len(arms) == 5 * 6
        for (config,) in arms.values():
            found = (config.model, config.num_steps, config.learning_rate, config.batch_size)
            assert found == (model, 8000, 1e-3, 100)
            assert (config.seeds, config.task.num_clean) == (10, 10)


@pytest.mark.parametrize(
    "figure",
    [
        figure5,
        *(pytest.param(f, marks=pytest.mark.slow) for f in (figure2, figure4, learning_rates)),
    ],
)
def test_figures_run_and_show_what_is_finished(figure, tmp_path):
    experiment, folder = figure.EXPERIMENT, tmp_path / "run"
    assert "no method" in present(experiment, tmp_path / "empty", "smoke", {})
    options = Options("smoke", folder)
    mine = "lookahead*" if figure is figure2 else "*/ours"
    part = run(experiment, options._replace(only=(mine,)))
    ours = "lookahead" if figure is figure2 else "OURS"
    assert ours in part
    assert "BASELINE" not in part.split("\n\n")[0]
    whole = run(experiment, options._replace(resume=True))
    assert len(whole) > len(part)
    entries = read_ledger(folder / "ledger.json")["entries"]
    assert bool(entries) == (figure is not learning_rates)  # what is not the paper's has no entry
    assert all(entry.seeds == 2 for entry in entries)
    if figure is learning_rates:
        uniform = next(li for li in whole.splitlines() if li.startswith("BASELINE: share of"))
        assert uniform.split()[-6:] == ["100.0", "±", "0.0"] * 2  # equal weights use all of it
    name = "figure2_ratios" if figure is figure2 else experiment.name.split(".")[-1]
    assert (folder / f"{name}.png").exists()
