import json

from benchmarks.convolutions import WAYS, XLA, TimedLayer, main, time_layer


def test_a_quick_run_times_every_way(tmp_path, capsys):
    main(quick=True, out=tmp_path / "out.json")
    records = json.loads((tmp_path / "out.json").read_text())["records"]
    assert [record["towards"] for record in records] == ["images", "kernel", "outputs"]
    for record in records:
        assert record["ms"].keys() == {XLA, "canonical", "blocks"}
        assert record["chosen_to_best"] >= 1
    assert "LeNet-5, first" in capsys.readouterr().out


def test_windows_of_a_pixel_have_a_way_more():
    records = time_layer(TimedLayer("tiny", 2, 4, (2, 3), 1, 2), rounds=1)
    assert all(record["ms"].keys() == {XLA, *WAYS} for record in records)
    assert all(record["chosen"] == "product" for record in records)
