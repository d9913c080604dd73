import json

from benchmarks.report import describe_machine, write_results


def test_what_is_not_a_number_is_written_as_null(tmp_path, capsys):
    rows = [{"seconds": 1.5, "gap": float("nan")}, (2, "three")]
    write_results(tmp_path / "new" / "out.json", {"rounds": 2, "rows": rows})
    written = (tmp_path / "new" / "out.json").read_text()
    assert json.loads(written) == {
        "rounds": 2,
        "rows": [{"seconds": 1.5, "gap": None}, [2, "three"]],
    }
    assert "NaN" not in written
    assert capsys.readouterr().out == f"\nWritten to {tmp_path / 'new' / 'out.json'}\n"


def test_what_numbers_depend_on():
    machine = describe_machine()
    assert {"processor", "cpu_count", "system", "device", "python", "packages"} == machine.keys()
    assert {"jax", "jaxlib", "flax", "optax", "jaxopt", "numpy"} == machine["packages"].keys()
