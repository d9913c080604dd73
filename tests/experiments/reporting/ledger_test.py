"""The ledger: verdicts by rule, its file, and the page made of it."""

import functools
import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.catalogue import EXPERIMENTS, NAMES
from experiments.reporting import ledger
from experiments.reporting.experiment import Experiment, Options, run
from experiments.reporting.ledger import Entry, Printed
from experiments.reporting.results_page import PAPERS, page_text, seeds_of
from experiments.reporting.statements import Statement, statements_as_json

ITEMS = {"Figure 1": "one", "Figure 2": "two"}


def test_intervals_as_text():
    assert ledger.show([1.0]) == "1.00"
    assert ledger.show([1.0, 1.0]) == "1.00 ± 0.00"
    assert str(Printed(59.54, 2.16)) == "59.54 ± 2.16"
    assert str(Printed(4.8)) == "4.8"


def test_statements_of_the_paper_become_entries():
    statements = [
        Statement("a", np.array([True] * 9 + [False]), "p2021, Fig. 2a, Thm. 1"),
        Statement("b", np.array([True, True, False]), "p2021, Sec. 5"),
        Statement("c", np.array([True, False]), "p2021, Fig. 1"),
        Statement("d", np.array([], bool), "p2021, Fig. 1"),
        Statement("e", np.array([True]), "control"),
    ]
    entries = ledger.of_statements(statements_as_json(statements), "p2021", ITEMS)
    assert [(e.item, e.claim, e.ours, e.verdict) for e in entries] == [
        ("Figure 2", "a (Fig. 2a, Thm. 1)", "9 of 10", "reproduced"),
        ("Figure 1", "b (Sec. 5)", "2 of 3", "partly"),
        ("Figure 1", "c (Fig. 1)", "1 of 2", "not reproduced"),
        ("Figure 1", "d (Fig. 1)", "0 of 0", "not run"),
    ]


def test_a_table_is_compared_by_differences():
    printed = {
        "ERM": Printed(60, 2),
        "better": Printed(80, 1),
        "worse": Printed(50, 1),
        "tie": Printed(61, 1),
        "reversed": Printed(70, 1),
        "unclear": Printed(70, 1),
        "absent": Printed(75, 1),
    }
    base = np.array([90.0, 91.0, 92.0])
    ours = {
        "ERM": base,
        "better": base + np.array([3.0, 3.1, 2.9]),
        "worse": base - np.array([3.0, 3.1, 2.9]),
        "tie": base + np.array([0.1, -0.1, 0.05]),
        "reversed": base - np.array([3.0, 3.1, 2.9]),
        "unclear": base + np.array([5.0, -4.0, 1.0]),
    }
    compare = functools.partial(ledger.of_table, "Table 1", reference="ERM", quantity="accuracy %")
    entries = compare(printed, ours, same_setting=False)
    assert {e.claim.split(":")[0]: e.verdict for e in entries} == {
        "ERM": "other setting",
        "better": "reproduced",
        "worse": "reproduced",
        "tie": "reproduced",
        "reversed": "not reproduced",
        "unclear": "partly",
        "absent": "not run",
    }
    assert entries[0] == Entry(
        "Table 1", "ERM: accuracy %", "60 ± 2", "91.00 ± 2.48", 3, "other setting"
    )
    # In the paper's own setting, by value: half widths 2 and 2.48 reach over 4 points, not over 5.
    for value, verdict in ((87, "reproduced"), (86, "not reproduced")):
        found = compare({"ERM": Printed(value, 2)}, ours, same_setting=True)
        assert found[0].verdict == verdict


def test_causes_go_to_what_is_not_reproduced():
    entries = [
        Entry("Figure 1", "the angle is smaller", verdict=verdict)
        for verdict in ("reproduced", "partly", "not run")
    ]
    found = ledger.with_causes(entries, {"margin": "no", "angle": "few steps"})
    assert [entry.cause for entry in found] == ["", "few steps", ""]


def small_experiment(verdicts=("reproduced",)):
    entries = [Entry("Table 1", f"claim {i}", "1", "2", 3, v) for i, v in enumerate(verdicts)]
    missing = Entry("Table 1", "another | claim", "7 ± 1", cause="needs a GPU")
    return Experiment(
        "ren2018.table1",
        "summary",
        {"smoke": "seconds"},
        lambda folder, preset: "a table",
        items={"Table 1": "accuracies"},
        printed=(missing, entries[0]._replace(ours="", seeds=0, verdict="not run")),
        entries=lambda folder, preset: list(entries),
    )


def test_a_run_writes_its_part_and_the_page_shows_it(tmp_path, monkeypatch):
    experiment = small_experiment(("reproduced", "partly"))
    folder = tmp_path / "results" / "ren2018.table1-smoke"
    run(experiment, Options("smoke", folder))
    record = ledger.read_ledger(folder / ledger.FILE)
    assert record["entries"][1].verdict == "partly"
    assert set(record["made"]["versions"]) >= {"jax", "numpy"}

    monkeypatch.setattr(
        "experiments.reporting.results_page.EXPERIMENTS", {"ren2018.table1": experiment}
    )
    (folder / "table1_errors.png").write_bytes(b"")
    page = page_text([{**record, "folder": folder}], tmp_path)
    assert "| ren2018 | 1 | 1 | 0 | 0 | 1 | 3 |" in page
    assert "| not known | 1 | [ren2018, Table 1](#ren2018-table1) |" in page
    assert "| another \\| claim | 7 ± 1 |  |  | not run | needs a GPU |" in page
    assert "![table1_errors](results/ren2018.table1-smoke/table1_errors.png)" in page
    nothing = page_text([], tmp_path)
    assert "| ren2018 | 0 | 0 | 0 | 0 | 2 | 2 |" in nothing


@pytest.mark.parametrize(
    ("seeds", "arms", "text"),
    [
        (None, {}, ""),
        (1, {"a": {}}, "Run with 1 seed; "),
        (10, {"a": {"seeds": 10}, "b": {}}, "Run with 1 to 10 seeds; "),
        (2, {"trial 0": {}, "trial 1": {"first_seed": 1}}, "Run with 2 seeds; "),
    ],
)
def test_the_page_says_how_many_seeds_were_run(seeds, arms, text):
    assert seeds_of({"seeds": seeds, "base": {"seeds": 1}, "arms": arms}) == text


def test_where_it_was_computed_survives_a_later_report(tmp_path):
    experiment = small_experiment()
    run(experiment, Options("smoke", tmp_path / "run"))
    path = tmp_path / "run" / ledger.FILE
    record = json.loads(path.read_text())
    record["made"]["device"] = "another machine"
    path.write_text(json.dumps(record))
    run(experiment, Options("smoke", tmp_path / "run", resume=True))
    assert ledger.read_ledger(path)["made"]["device"] == "another machine"
    path.write_text("{")
    with pytest.raises(RuntimeError, match="damaged"):
        ledger.read_ledger(path)


def test_the_commands_keep_and_write_the_page(tmp_path, capsys, monkeypatch):
    experiment = small_experiment()._replace(
        present=lambda folder, preset: f"a table\nand a note\nFigures (seed 0):\n  {folder}/a.png"
    )
    for module in ("commands", "results_page"):
        name = f"experiments.{module}.EXPERIMENTS"
        monkeypatch.setattr(name, {experiment.name: experiment})
    run_folder, results = tmp_path / "run", tmp_path / "results"
    assert main(["report", "--results", str(results)]) == 1
    assert "is no folder" in capsys.readouterr().err
    run(experiment, Options("smoke", run_folder))
    (run_folder / "table1.png").write_bytes(b"png")
    (run_folder / "arm").mkdir()
    assert main(["report", str(run_folder), "--keep", "--results", str(results)]) == 0
    kept = {path.name for path in (results / "ren2018.table1-smoke").iterdir()}
    assert kept == {"ledger.json", "table.txt", "table1.png"}
    assert (results / "ren2018.table1-smoke" / "table.txt").read_text() == "a table\nand a note\n"
    assert main(["report", "--results", str(results)]) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert "![table1](results/ren2018.table1-smoke/table1.png)" in page
    assert "### Table 1: accuracies" in page
    (run_folder / "ledger.json").unlink()
    monkeypatch.setattr("experiments.commands.report", lambda folder: "")
    assert main(["report", str(run_folder), "--keep", "--results", str(results)]) == 1
    assert "has no ledger.json" in capsys.readouterr().err


def test_every_figure_and_table_has_an_experiment():
    """The papers' own lists; ren2018's Figure 1 is a drawing of the algorithm."""
    wanted = {  # figures, tables
        "ren2018": (range(2, 8), (1, 2)),
        "santiago2021": (range(1, 14), (1, 2, 3, 4)),
        "xu2021": (range(1, 5), ()),
        "zhou2022": (range(1, 7), ()),
    }
    for paper, (figures, tables) in wanted.items():
        have = {i for e in EXPERIMENTS.values() if e.paper == paper for i in e.items}
        assert have == {f"Figure {i}" for i in figures} | {f"Table {i}" for i in tables}
    assert {e.paper for e in EXPERIMENTS.values() if e.items} <= set(PAPERS)
    assert all(NAMES[name] is e for name, e in EXPERIMENTS.items())
