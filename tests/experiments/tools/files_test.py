"""Files that are whole or absent, and damage that is noticed."""

import errno
import json
import zipfile

import numpy as np
import pytest

from experiments.tools.files import (
    DamagedFileError,
    read_arrays,
    read_sealed,
    write_arrays,
    write_atomically,
    write_sealed,
)

ARRAYS = {"floats": np.linspace(0, 1, 7, dtype=np.float32), "none": np.zeros((0, 3), np.int8)}


def every_flipped_bit(path):
    """The file's content with each bit flipped, one after another."""
    content = path.read_bytes()
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def test_arrays_are_read_as_written(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    with np.load(tmp_path / "a.npz") as stored:
        np.testing.assert_array_equal(stored["floats"], ARRAYS["floats"])


def test_no_flipped_bit_of_an_archive_changes_its_arrays(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    damaged = tmp_path / "damaged.npz"
    num_noticed = 0
    for content in every_flipped_bit(path):
        damaged.write_bytes(content)
        try:
            found = read_arrays(damaged)
        except DamagedFileError:
            num_noticed += 1
            continue
        assert found.keys() == ARRAYS.keys()
        assert all(found[name].tobytes() == values.tobytes() for name, values in ARRAYS.items())
    assert num_noticed > path.stat().st_size  # most bits matter; dates and attributes do not


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense" * 9])
def test_what_is_no_archive_is_damaged(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.npz is damaged: .* delete it, and make"):
        read_arrays(tmp_path / "a.npz")


def test_objects_are_not_unpickled(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array(file, np.array([{}]), allow_pickle=True)
    with pytest.raises(DamagedFileError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")


def test_no_flipped_bit_of_a_sealed_record_changes_it(tmp_path):
    path, record = tmp_path / "a.json", {"rate": 0.1, "names": ["é", None], "nested": {"b": 1}}
    write_sealed(path, record)
    assert read_sealed(path) == record
    damaged = tmp_path / "damaged.json"
    num_noticed = 0
    for content in every_flipped_bit(path):
        damaged.write_bytes(content)
        try:
            found = read_sealed(damaged)
        except DamagedFileError:
            num_noticed += 1
            continue
        known = {name: found.get(name) for name in record}
        assert known == record  # in white space, or in the name of the seal
    assert num_noticed > 4 * path.stat().st_size


def test_a_record_without_a_seal_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"rate": 0.1}))
    assert read_sealed(tmp_path / "a.json") == {"rate": 0.1}


@pytest.mark.parametrize("content", ["", "[1]", "3", '{"a": ', "\0"])
def test_what_is_no_record_is_damaged(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"a\.json is damaged"):
        read_sealed(tmp_path / "a.json")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_cannot_be_written_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
