"""Parts of an experiment: computed once, found again in order."""

import numpy as np

from experiments.tools.files import read_arrays
from experiments.tools.parts import compute_parts, read_numbered_parts, read_parts


def test_parts_are_computed_once(tmp_path):
    computed = []

    def part(number):
        def compute():
            computed.append(number)
            return {"number": np.array(number), "names": np.array(["a", "b"])}

        return compute

    compute_parts(tmp_path, {"first": part(1)}, "label")
    compute_parts(tmp_path, {"first": part(1), "second": part(2)}, "label")
    assert computed == [1, 2]
    found = read_parts(tmp_path, ["second", "first"])
    assert [(name, int(arrays["number"])) for name, arrays in found.items()] == [
        ("second", 2),
        ("first", 1),
    ]
    assert read_arrays(tmp_path / "first.npz")["names"].tolist() == ["a", "b"]


def test_numbered_parts_are_read_in_order_without_unfinished_ones(tmp_path):
    for number in (10, 2, 0):
        np.savez(tmp_path / f"noise_seed{number}.npz", number=number)
    np.savez(tmp_path / "noise_seed1_repeat0.part.npz", number=1)
    np.savez(tmp_path / "heavy_noise_seed3.npz", number=3)
    found = read_numbered_parts(tmp_path, "noise_seed")
    assert [int(arrays["number"]) for arrays in found] == [0, 2, 10]
    assert read_numbered_parts(tmp_path, "clean_seed") == []
