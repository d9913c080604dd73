"""The theory checks at reduced size, and that each fails when what it checks is wrong."""

import dataclasses
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from theory_checks import __main__ as command
from theory_checks import catalogue
from theory_checks.pages import Counts, count, write_pages
from theory_checks.records import Check, Measured, Plot
from theory_checks.ren2018 import metagradient
from theory_checks.santiago2021 import quadratic_program
from theory_checks.storage import RecordError, file_name, read_records, write_record
from weighting import low_weights

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results" / "theory_checks"
GOOD = Check("G-1", "good", "EXACT", (Measured("x", 0.0, 1.0),))
BAD = Check("B-1 part", "bad", "EXACT", (Measured("x", 2.0, 1.0),))

SMALL_NETWORKS = (metagradient.MLP(2, "relu", True), metagradient.BatchNormNet())


@pytest.mark.parametrize(
    "run_check",
    [
        lambda: quadratic_program.linear_program(count=12),
        lambda: quadratic_program.float32_residual(count=60, num_timed=1),
        lambda: quadratic_program.consequences(count=30, size=8),
        lambda: quadratic_program.gradient_scale(),
        lambda: metagradient.normalization(num_points=3),
    ],
    ids=["linear_program", "float32_residual", "consequences", "gradient_scale", "normalization"],
)
def test_claim_holds(run_check):
    check = run_check()
    assert check.passed, check.report()
    assert check.control
    assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_projection_agrees_and_a_perturbed_solver_does_not(monkeypatch):
    monkeypatch.setattr(quadratic_program, "SIZES", (5, 16))
    monkeypatch.setattr(quadratic_program, "SLOW_SIZES", (5,))
    right = quadratic_program.projection(per_size=12, num_slow=6)
    assert right.passed, right.report()
    assert right.control
    monkeypatch.setattr(quadratic_program, "SLOW_SIZES", ())
    wrong = quadratic_program.projection(
        solve=lambda norms, lam: low_weights(norms, lam) * (1 + 1e-8), per_size=12
    )
    assert wrong.failing == [wrong.rows[0].quantity]


def test_scores_agree_and_perturbed_ones_do_not():
    right = metagradient.meta_gradient(networks=SMALL_NETWORKS)
    assert right.passed, right.report()
    assert right.control
    assert len(right.rows) == 7
    wrong = metagradient.meta_gradient(
        networks=SMALL_NETWORKS[:1], scores=lambda problem: metagradient.fast(problem) * (1 + 1e-5)
    )
    assert wrong.failing == [row.quantity for row in wrong.rows]


def test_check_passes_only_within_every_bound():
    check = Check("X", "a claim", "EXACT", (Measured("near", 0.5, 1.0), Measured("count", 0, 0)))
    assert check.passed
    assert check.worst_margin == 0.5
    for value in (1.5, math.nan, math.inf):
        failed = dataclasses.replace(check, rows=(*check.rows, Measured("far", value, 1.0)))
        assert not failed.passed
        assert "FAILED" in failed.report()
    assert not dataclasses.replace(check, rows=(Measured("count", 1, 0),)).passed
    assert dataclasses.replace(check, rows=(Measured("reported", 9.0),)).passed
    with pytest.raises(ValueError, match="status is one of EXACT"):
        Check("X", "a claim", "TRUE", ())


def test_a_control_that_passes_fails_the_check():
    check = Check(
        "X", "a claim", "EXACT", (Measured("x", 0.5, 1.0),), control=(Measured("x", 2.0, 1.0),)
    )
    assert check.passed
    assert "control negative" in check.report()
    blind = dataclasses.replace(check, control=(Measured("x", 0.5, 1.0),))
    assert not blind.passed
    assert "CONTROL PASSED" in blind.report()


@pytest.fixture
def two_modules(monkeypatch):
    """A catalogue of three claims in two modules, of which the second fails."""
    made = {"p.good": [GOOD], "p.bad": [BAD, dataclasses.replace(GOOD, id="B-1 rest")]}
    claims = {module: tuple(check.id for check in own) for module, own in made.items()}
    monkeypatch.setattr(catalogue, "CLAIMS", claims)
    monkeypatch.setattr(command, "run_module", lambda module, preset: made[module])


def test_command_line(two_modules, capsys):
    assert command.main(["G-1"]) == 0
    assert command.main(["--only", "p.good", "--preset", "smoke"]) == 0
    capsys.readouterr()
    assert command.main([]) == 1
    assert capsys.readouterr().out.endswith("\nfailed: B-1 part\n")
    assert command.main(["B-1 rest"]) == 1
    assert "\nasked: B-1 rest; p.bad checks also B-1 part\n" in capsys.readouterr().out
    assert command.main(["--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["G-1", "p.good"], ["B-1", "part", "p.bad"], ["B-1", "rest", "p.bad"]]
    with pytest.raises(SystemExit):
        command.main(["G-2"])
    assert "unknown name 'G-2'; did you mean G-1? (--list shows" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--pages", "results", "G-1"])
    assert "--pages runs no check" in capsys.readouterr().err


def test_one_check_more_costs_one_check(two_modules, tmp_path, capsys):
    assert command.main(["p.bad", "--out", str(tmp_path)]) == 1
    assert "2 of 3 claims: 1 fails, 1 holds" in (tmp_path / "RESULTS.md").read_text()
    assert command.main(["G-1", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert "\n3 claims: 2 holds, 1 fails (of those that hold, 0 false as printed" in page
    assert "--preset full --out DIR`. By `--preset smoke` instead: G-1. Of a claim" in page
    # in the catalogue's order, not in that of the runs or of the files
    assert re.findall("^## (.*)$", page, re.MULTILINE) == ["G-1", "B-1 part", "B-1 rest"]
    (tmp_path / "RESULTS.md").unlink()
    assert command.main(["--pages", str(tmp_path)]) == 0
    assert (tmp_path / "RESULTS.md").read_text() == page


def test_a_record_of_no_claim_is_an_error(two_modules, tmp_path, capsys):
    write_record(tmp_path, dataclasses.replace(GOOD, id="A-1 old"), "full")
    assert command.main(["G-1", "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"any more; delete {tmp_path}/A-1_old.json {tmp_path}/A-1_old.png\n" in message
    assert (tmp_path / "G-1.json").exists()  # what was run is kept
    assert not (tmp_path / "RESULTS.md").exists()


def test_records_and_pages(tmp_path):
    plot = Plot("t", "error", {"measured": ([1, 10], [0.1, 0.01])}, "xy")
    check = Check(
        "A-1",
        "a claim on |x|",
        "EXACT",
        (Measured("x", math.inf, 1.0), Measured("y", 0.1)),
        "smooth",
        control=(Measured("z", -math.inf, 1.0), Measured("n", 3, 0)),
        erratum="No.",
        plot=plot,
    )
    write_record(tmp_path, check, "smoke")
    record = json.loads((tmp_path / "A-1.json").read_text())
    assert record["rows"] == [
        {"quantity": "x", "value": "inf", "bound": 1.0},
        {"quantity": "y", "value": 0.1, "bound": None},
    ]
    assert record["passed"] is False
    assert (tmp_path / "A-1.png").read_bytes().startswith(b"\x89PNG")
    ((kept, preset),) = read_records(tmp_path, ["B", "A-1"])
    assert preset == "smoke"
    assert kept == dataclasses.replace(check, plot=None)
    write_record(tmp_path, dataclasses.replace(check, rows=(Measured("x", math.nan),)), "smoke")
    ((kept, _),) = read_records(tmp_path, ["A-1"])
    assert math.isnan(kept.rows[0].value)
    write_record(tmp_path, check, "smoke")
    write_pages(tmp_path, ["A-1"])
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| A-1 | EXACT | **fails** | negative | a claim on \\|x\\| |" in page
    assert "| x | inf | 1 |\n| y | 0.1 |  |\n| control: z | -inf | 1 |\n" in page
    assert "- **A-1**: No." in (tmp_path / "ERRATA.md").read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda record: record.pop("rows"), "'rows' is missing"),
        (lambda record: record["rows"][0].update(value=None), "None is not a number"),
        (lambda record: record.update(status="TRUE"), "status is one of EXACT"),
        (lambda record: record.update(id="G-2"), "it is the record of 'G-2'"),
        (lambda record: record.update(erratum=3), "'erratum' is not a text but 3"),
    ],
)
def test_a_damaged_record_says_what_to_do(tmp_path, damage, message):
    write_record(tmp_path, GOOD, "full")
    path = tmp_path / "G-1.json"
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match=r"is damaged: its digest is of another .* again by"):
        read_records(tmp_path, ["G-1"])
    del record["sha256"]  # as earlier versions wrote it
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError) as error:
        read_records(tmp_path, ["G-1"])
    assert str(error.value).startswith(f"{path} is damaged: {message}")
    assert str(error.value).endswith(f"`python -m theory_checks G-1 --out {tmp_path}`")
    path.write_text("{")
    with pytest.raises(RecordError, match="is damaged: Expecting property name"):
        read_records(tmp_path, ["G-1"])


def test_names_of_claims():
    bound = "X-T1 bound"
    assert catalogue.select([bound]) == {"xu2021.theorem1": (bound,)}
    # an ID that is also the first word of others is that claim alone
    assert catalogue.select(["R-L1"]) == {"ren2018.lemma1": ("R-L1",)}
    assert catalogue.select(["X-S5a"]) == {
        "xu2021.joint": (
            "X-S5a direction",
            "X-S5a concentration",
            "X-S5a correlation",
            "X-S5a first step",
        )
    }
    module = {"xu2021.tails": ("X-C", "X-C multi-class")}
    assert catalogue.select(["xu2021.tails", "X-C"]) == module
    assert list(catalogue.select(["R-T2", "ren2018"])) == [
        "ren2018.metagradient",
        "ren2018.lemma1",
        "ren2018.theorem2",
        "ren2018.timing",
    ]
    with pytest.raises(ValueError, match=r"'bound'; did you mean 'X-T1 bound' or 'Z-TA1 bound'\?"):
        catalogue.select(["bound"])
    with pytest.raises(ValueError, match=r"'xu2021.theorem'; did you mean xu2021.theorem1"):
        catalogue.select(["xu2021.theorem"])


def test_a_module_makes_what_the_catalogue_lists(monkeypatch):
    monkeypatch.setattr(catalogue, "CLAIMS", {"santiago2021.proxy": ("S-E7",)})
    monkeypatch.setattr("theory_checks.santiago2021.proxy.checks", lambda preset: [GOOD])
    with pytest.raises(RuntimeError, match=r"proxy makes the claims \('G-1',\); .* correct CLAIMS"):
        catalogue.run_module("santiago2021.proxy", "smoke")


@pytest.mark.slow
@pytest.mark.parametrize("module", catalogue.CLAIMS)
def test_every_module_makes_its_claims(module):
    assert all(check.passed for check in catalogue.run_module(module, "smoke"))


def test_kept_records_are_those_of_the_catalogue():
    claims = catalogue.all_claims()
    assert len({file_name(claim) for claim in claims}) == len(claims)
    kept = read_records(KEPT, claims)
    assert [record.check.id for record in kept] == claims
    assert {path.stem for path in KEPT.glob("*.png")} == {file_name(claim) for claim in claims}


def test_kept_pages_are_made_of_the_kept_records(tmp_path):
    for path in KEPT.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_pages(tmp_path, catalogue.all_claims())
    for page in ("RESULTS.md", "ERRATA.md"):
        assert (tmp_path / page).read_text() == (KEPT / page).read_text()


def test_counts_by_hand():
    corrected = dataclasses.replace(GOOD, status="FALSE-AS-PRINTED", erratum="No.")
    tendency = Check("T-1", "more", "TREND", (Measured("x", 1.0),))
    refuted = dataclasses.replace(tendency, erratum="Less.")
    checks = [GOOD, BAD, corrected, tendency, refuted, GOOD]
    verdicts = Counter({"holds": 3, "fails": 1, "reported": 1, "not as printed": 1})
    assert count(checks) == Counts(claims=6, passed=5, verdicts=verdicts, corrected=1, errata=2)


def test_the_readme_counts_as_the_records_do():
    readme = " ".join((ROOT / "README.md").read_text().split())
    start = readme.index("`python -m theory_checks` checks their theory")
    paragraph = readme[start : readme.index("## Where things are", start)]
    counts = count([record.check for record in read_records(KEPT, catalogue.all_claims())])
    written = {
        r"(\d+) claims, each by a program": counts.claims,
        r"(\d+) hold": counts.verdicts["holds"],
        r"(\d+) of those false as printed": counts.corrected,
        r"(\d+) are tendencies that do not": counts.verdicts["not as printed"],
        r"(\d+) are reported without a verdict": counts.verdicts["reported"],
        r"\[(\d+) errata\]": counts.errata,
    }
    for words, number in written.items():
        assert re.findall(words, paragraph) == [str(number)], words
    # and there is no other number of claims
    assert len(re.findall(r"\b\d+\b", paragraph)) == len(written)
    assert counts.verdicts["fails"] == 0
    assert counts.passed == counts.claims
