"""The ledger: verdicts by rule, its file, and the page made of it."""

import functools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.__main__ import main
from experiments.catalogue import EXPERIMENTS, NAMES
from experiments.reporting import ledger
from experiments.reporting.claims import Answer, Claim, answers
from experiments.reporting.experiment import Experiment, Options, run
from experiments.reporting.ledger import Entry, Printed
from experiments.reporting.page import Page, Picture, Table, write_page
from experiments.reporting.paper_pages import PAPERS, keep, page_texts, seeds_of
from experiments.tools.files import read_sealed, write_sealed


def test_intervals_as_text():
    assert ledger.show([1.0]) == "1.00"
    assert ledger.show([1.0, 1.0]) == "1.00 ± 0.00"
    assert str(Printed(59.54, 2.16)) == "59.54 ± 2.16"
    assert str(Printed(4.8)) == "4.8"


def claim(text, item="Figure 1", place="Fig. 1", **more):
    return Claim(text, item, place, lambda found: found[text], **more)


def answer(text, holds, *place, **more):
    return Answer(claim(text, *place, **more), np.array(holds, bool))


def test_answers_become_entries_but_for_controls():
    found = [
        answer("a", [True] * 9 + [False], "Figure 2", "Fig. 2a, Thm. 1"),
        answer("b", [True, True, False], "Figure 1", "Sec. 5", cause="few seeds"),
        answer("c", [True, False], cause="a larger network"),
        answer("d", []),
        answer("e", [True], is_control=True),
    ]
    entries = ledger.entries_of(found)
    assert [(e.item, e.claim, e.ours, e.verdict, e.cause) for e in entries] == [
        ("Figure 2", "a (Fig. 2a, Thm. 1)", "9 of 10", "reproduced", ""),
        ("Figure 1", "b (Sec. 5)", "2 of 3", "partly", "few seeds"),
        ("Figure 1", "c (Fig. 1)", "1 of 2", "not reproduced", "a larger network"),
        ("Figure 1", "d (Fig. 1)", "0 of 0", "not run", "no seed to ask"),
    ]


def test_claims_are_asked_where_what_they_need_was_measured():
    asked = [claim("a"), claim("b", needs=("b",)), claim("c", needs=("a", "c"))]
    found = answers(asked, {"a": [True, False], "c": [1, 1]})
    assert [(own.claim.text, own.holds.tolist()) for own in found] == [
        ("a", [True, False]),
        ("c", [True, True]),
    ]
    unasked = ledger.not_run([claim("b"), claim("e", is_control=True)], "needs a GPU")
    assert unasked == (Entry("Figure 1", "b (Fig. 1)", cause="needs a GPU"),)


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


def test_a_cause_is_said_where_a_number_is_not_reproduced():
    printed = {"ERM": Printed(60, 2), "up": Printed(80, 1), "down": Printed(50, 1)}
    base, gain = np.array([90.0, 91.0, 92.0]), np.array([3.0, 3.1, 2.9])
    ours = {"ERM": base, "up": base + gain, "down": base + gain}
    causes = {name: f"why {name}" for name in printed}
    entries = ledger.of_table(
        "Table 1",
        printed,
        ours,
        reference="ERM",
        same_setting=False,
        quantity="accuracy %",
        causes=causes,
    )
    assert [entry.cause for entry in entries] == ["why ERM", "", "why down"]


def small_experiment(verdicts=("reproduced",), **page):
    entries = [Entry("Table 1", f"claim {i}", "1", "2", 3, v) for i, v in enumerate(verdicts)]
    missing = Entry("Table 1", "another | claim", "7 ± 1", cause="needs a GPU")
    return Experiment(
        "ren2018.table1",
        "summary",
        {"smoke": "seconds"},
        lambda folder, preset: Page(notes=["a note"], numbers=entries, **page),
        items={"Table 1": "accuracies"},
        printed=(missing, entries[0]._replace(ours="", seeds=0, verdict="not run")),
    )


def test_a_run_writes_its_part_and_the_page_shows_it(tmp_path):
    picture = Picture("table1_errors", Figure())
    experiment = small_experiment(("reproduced", "partly"), figures=[picture])
    folder = tmp_path / "results" / "ren2018.table1-smoke"
    run(experiment, Options("smoke", folder))
    record = ledger.read_ledger(folder / ledger.FILE)
    assert record["entries"][1].verdict == "partly"
    assert record["figures"] == {"table1_errors": "Table 1"}
    assert set(record["made"]["versions"]) >= {"jax", "numpy"}

    shown = {**record, "folder": folder.name, "files": ["table.txt", "table1.csv"]}
    pages = page_texts([shown], {"ren2018.table1": experiment})
    assert set(pages) == {"README.md", *(f"{paper}.md" for paper in PAPERS)}
    assert "| [ren2018](ren2018.md) | 1 | 1 | 0 | 0 | 1 | 3 |" in pages["README.md"]
    assert "| not known | 1 | [ren2018, Table 1](ren2018.md#table1) |" in pages["README.md"]
    paper = pages["ren2018.md"]
    assert '<a id="table1"></a>\n\n## Table 1: accuracies' in paper
    assert "[table1.csv](ren2018.table1-smoke/table1.csv)" in paper
    assert "| another \\| claim | 7 ± 1 |  |  | not run | needs a GPU |" in paper
    assert "![table1_errors](ren2018.table1-smoke/table1_errors.png)" in paper
    nothing = page_texts([], {"ren2018.table1": experiment})
    assert "| [ren2018](ren2018.md) | 0 | 0 | 0 | 0 | 2 | 2 |" in nothing["README.md"]


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
    record = read_sealed(path)
    record["made"]["device"] = "another machine"
    write_sealed(path, record)
    run(experiment, Options("smoke", tmp_path / "run", resume=True))
    assert ledger.read_ledger(path)["made"]["device"] == "another machine"
    path.write_text("{")
    with pytest.raises(RuntimeError, match="damaged"):
        ledger.read_ledger(path)


def test_the_commands_keep_and_write_the_pages(tmp_path, capsys, monkeypatch):
    experiment = small_experiment(figures=[Picture("table1", Figure())])
    monkeypatch.setattr("experiments.commands.EXPERIMENTS", {experiment.name: experiment})
    run_folder, results = tmp_path / "run", tmp_path / "results"
    assert main(["report", "--results", str(results)]) == 1
    assert "is no folder" in capsys.readouterr().err
    run(experiment, Options("smoke", run_folder))
    (run_folder / "arm").mkdir()
    assert main(["report", str(run_folder), "--keep", "--results", str(results)]) == 0
    kept = {path.name for path in (results / "ren2018.table1-smoke").iterdir()}
    assert kept == {"ledger.json", "table.txt", "table1.png"}
    assert main(["report", "--results", str(results)]) == 0
    page = (results / "ren2018.md").read_text()
    assert "![table1](ren2018.table1-smoke/table1.png)" in page
    assert "## Table 1: accuracies" in page
    (run_folder / "table.txt").unlink()
    monkeypatch.setattr("experiments.commands.report", lambda folder: "")
    assert main(["report", str(run_folder), "--keep", "--results", str(results)]) == 1
    assert "has no table.txt: the experiment is not finished" in capsys.readouterr().err


def test_an_experiment_of_no_paper_can_be_kept(tmp_path):
    experiment = Experiment(
        "study", "summary", {"smoke": "seconds"}, lambda folder, preset: Page(notes=["a note"])
    )
    run(experiment, Options("smoke", tmp_path / "run"))
    kept = keep(tmp_path / "run", tmp_path / "results")
    assert kept.name == "study-smoke"
    assert [path.name for path in kept.iterdir()] == ["table.txt"]


def test_no_line_of_the_text_is_lost_for_the_folders_name(tmp_path, monkeypatch):
    """Lines that contained the folder's name used to be dropped."""
    rows = [["out", "1"], ["without", "2"], ["e", "3"]]
    page = Page(
        tables=[Table(["method", "error"], rows)],
        notes=["Figure: see the method"],
        figures=[Picture("a", Figure())],
    )
    monkeypatch.chdir(tmp_path)
    for folder in (Path("out"), Path("e")):
        shown = write_page(page, folder, "")
        text = (folder / "table.txt").read_text()
        assert text == (
            "method   error\n-------  -----\nout      1\nwithout  2\ne        3\n\n"
            "Figure: see the method\n"
        )
        assert shown == f"{text}\nFigures:\n  {folder}/a.png"


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
