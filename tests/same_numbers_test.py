"""The comparison of two folders of results finds what differs, and nothing else."""

import json

import numpy as np

from tests.same_numbers import compare_folders, main


def write(folder, *, error=0.25, seconds=1.0, name="old", array=(1.0, np.nan)):
    place = folder / name
    place.mkdir(parents=True)
    rows = [{"method": name, "error": error, "seconds": seconds, "auc": float("nan")}]
    (place / "summary.json").write_text(json.dumps(rows))
    (place / "errors.csv").write_text(f"method,error,s/run\n{name},{error},{seconds}\n")
    np.savez(place / "result.npz", weights=np.array(array), seconds_per_step=seconds)


def test_seconds_and_renames_do_not_count(tmp_path):
    write(tmp_path / "before", seconds=1.0)
    write(tmp_path / "after", seconds=2.0, name="new")
    count, lines = compare_folders(tmp_path / "before", tmp_path / "after", {"old": "new"})
    assert (count, lines) == (3, [])


def test_a_number_that_differs_in_the_last_bit_is_named(tmp_path, capsys):
    write(tmp_path / "before")
    write(tmp_path / "after", error=np.nextafter(0.25, 1), array=(1.0, 2.0))
    assert main([str(tmp_path / "before"), str(tmp_path / "after")]) == 1
    shown = capsys.readouterr().out
    assert "old/summary.json[0] > error: 0.25 before, 0.25000000000000006 after" in shown
    assert "old/errors.csv[0] > error: '0.25' before" in shown
    assert "old/result.npz > weights: arrays differ" in shown
    assert "3 files compared, 3 differences" in shown


def test_what_is_missing_counts_and_nothing_compared_is_no_success(tmp_path):
    write(tmp_path / "before")
    (tmp_path / "after").mkdir()
    assert len(compare_folders(tmp_path / "before", tmp_path / "after")[1]) == 3
    assert main([str(tmp_path / "after"), str(tmp_path / "before")]) == 1
