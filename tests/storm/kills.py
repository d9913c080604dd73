"""Kills at random moments, and in the middle of writes."""

import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.storm import victim
from tests.storm.victim import Outcome

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PNG_END = b"IEND\xaeB`\x82"


def kill_trainings(
    work: Path, cache: Path, expected: dict[str, np.ndarray], count: int, rng: random.Random
) -> Outcome:
    """Kills trainings `count` times, resumes each every time, and compares what they gave.

    A training that has come far goes to its end undisturbed, and another begins.
    """
    log, hit, lives = work / "log", Counter(), []
    moments = (during_work, at_a_checkpoint, at_a_file)
    own = 0
    for i in range(3 * count):
        folder = work / f"killed{len(lives)}"
        moment = moments[i % 3]
        process = victim.start([*victim.LONG, "--out", folder, "--resume"], cache, log)
        moment(folder, process, rng)
        process.send_signal(SIGNALS[i // 3 % 3])
        own += process.wait() != 0  # else it was at its end before
        hit[(moment.__doc__ or "").split(";")[0]] += process.returncode != 0
        if victim.num_checkpoints(folder) > 40 or hit.total() == count:
            ended = victim.command([*victim.LONG, "--out", folder, "--resume"], cache, log)
            same = ended.status == 0 and victim.is_same(folder, expected)
            same &= not any(folder.glob("*.tmp"))
            lives.append(own * same)
            own = 0
        if hit.total() == count:
            break
    kills = ", ".join(f"{number} {name}" for name, number in hit.items())
    how = f"{kills}; {len(lives)} trainings, resumed after each kill, equal the undisturbed one"
    return Outcome("kills of trainings", hit.total(), sum(lives), how)


def during_work(folder, process, rng):
    """at any moment; most likely between two writes, or while it starts."""
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 4))
        return
    before = victim.num_checkpoints(folder)
    victim.wait_until(lambda: victim.num_checkpoints(folder) > before + 1, process)
    time.sleep(rng.uniform(0, 0.2))


def at_a_checkpoint(folder, process, rng):
    """in a checkpoint; orbax writes into a folder with a temporary name."""

    def is_written() -> bool:
        return any("tmp" in path.name for path in (folder / "checkpoints").glob("*"))

    victim.wait_until(is_written, process)
    time.sleep(rng.uniform(0, 0.02))


def at_a_file(folder, process, rng):
    """in a file; that is written under a temporary name."""
    before = victim.num_checkpoints(folder)
    victim.wait_until(lambda: victim.num_checkpoints(folder) > before, process)
    victim.wait_until(lambda: any(folder.glob("*.tmp")), process, 5)


def kill_reports(
    work: Path, cache: Path, finished: Path, count: int, rng: random.Random
) -> Outcome:
    """Kills `report FOLDER` while it writes text and figures."""
    folder = Path(shutil.copytree(finished, work / "reported"))
    table = (folder / "table.txt").read_bytes()
    whole = 0
    for i in range(count):
        kill_writer(["report", folder], folder, cache, work / "log", SIGNALS[i % 3], rng)
        pictures = [path.read_bytes() for path in folder.glob("*.png")]
        is_whole = all(content.endswith(PNG_END) for content in pictures)
        whole += is_whole and (folder / "table.txt").read_bytes() == table
    return Outcome("kills of a report", count, whole, "no half-written text or figure")


def kill_pages(work: Path, cache: Path, results: Path, count: int, rng: random.Random) -> Outcome:
    """Kills `report`, that makes the pages of the folder of results, while it writes them."""
    names = sorted(path.name for path in results.glob("*.md"))
    wanted = {name: (results / name).read_bytes() for name in names}
    whole = 0
    for i in range(count):
        for name in names:
            (results / name).write_bytes(b"old\n")
        arguments = ["report", "--results", results]
        kill_writer(arguments, results, cache, work / "log", SIGNALS[i % 3], rng)
        whole += all((results / name).read_bytes() in (b"old\n", wanted[name]) for name in names)
    for path in results.glob("*.tmp"):
        path.unlink()
    return Outcome("kills of the pages' writing", count, whole, "every page is the old or the new")


def kill_writer(arguments, folder: Path, cache: Path, log: Path, sign, rng: random.Random) -> None:
    """Kills a command a moment after its first, second, ... temporary file appears."""
    process = victim.start(arguments, cache, log)
    seen: set[str] = {path.name for path in folder.glob("*.tmp")}
    wanted = len(seen) + rng.randint(1, 4)

    def has_seen() -> bool:
        seen.update(path.name for path in folder.glob("*.tmp"))
        return len(seen) >= wanted

    victim.wait_until(has_seen, process)
    time.sleep(rng.uniform(0, 0.01))
    process.send_signal(sign)
    process.wait()
