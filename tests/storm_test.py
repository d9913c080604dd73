"""The helpers of the storm: damage is damage, judgements are just."""

import random

import pytest

from tests.storm import damage
from tests.storm.__main__ import BEGIN, END, table, write_table
from tests.storm.disasters import snapshot
from tests.storm.victim import Ended, Outcome


def test_every_damage_changes_the_file_in_its_way(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    nothing, half, *flipped = damage.damaged(path, random.Random(0))
    assert nothing == b""
    assert half == bytes(range(50))
    for content in flipped:
        changed = [a ^ b for a, b in zip(content, range(100), strict=True) if a != b]
        assert len(changed) == 1
        assert changed[0].bit_count() == 1


@pytest.mark.parametrize(
    ("ended", "is_same", "verdict"),
    [
        (Ended(0, "fine"), True, "same"),
        (Ended(0, "fine"), False, "other numbers, and no word"),
        (Ended(1, "error: damaged"), False, "refused"),
        (Ended(1, "no word"), False, "no word"),
        (Ended(1, "error: x\nTraceback"), True, "error: x\nTraceback"),
        (Ended(-11, "error: x"), True, "error: x"),
    ],
)
def test_judgement(ended, is_same, verdict):
    assert damage.judged(ended, is_same) == verdict


def test_silent_damage_breaks_the_promise(tmp_path):
    path, kept = tmp_path / "file", b"12345678"
    path.write_bytes(kept)
    judge = lambda: "same" if path.read_bytes() else "silent"  # noqa: E731
    outcome = damage.damage_each(
        "what", [path], judge, lambda: path.write_bytes(kept), random.Random(0)
    )
    assert (outcome.cases, outcome.held) == (2 + damage.FLIPS, 1 + damage.FLIPS)
    assert not outcome.passed
    assert "file: silent" in outcome.how
    assert snapshot(tmp_path) == {str(path): kept}


def test_the_page_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, table([Outcome("kills", 3, 3, "fine")]), 7)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| kills | 3 | 3 | fine |" in text
    assert "--seed 7 --page docs/page.md" in text
    assert "old" not in text
    write_table(page, table([Outcome("damage", 2, 1, "bad"), Outcome("kills", 4, 4, "fine")]), 8)
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert lines == [
        "| what | cases | as promised | how |",
        "|---|---|---|---|",
        "| kills | 4 | 4 | fine |",
        "| damage | 2 | 1 | bad |",
    ]
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no marks"):
        write_table(page, [], 0)
