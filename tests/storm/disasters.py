"""Two processes in one folder, a disk that is full, folders that are closed."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np

from tests.storm import victim
from tests.storm.victim import Outcome

Expected = dict[str, np.ndarray]


def two_processes(work: Path, cache: Path, expected: Expected) -> Outcome:
    """A second process joins one that trains (it is halted meanwhile); then two start at once."""
    held, words = 0, []
    for i, is_late in enumerate((True, False)):
        folder, logs = work / f"shared{i}", [work / "log1", work / "log2"]
        arguments = [*victim.LONG, "--out", folder, "--resume"]
        first = victim.start(arguments, cache, logs[0])
        if is_late:
            victim.wait_until(lambda folder=folder: victim.num_checkpoints(folder) > 2, first)
            first.send_signal(signal.SIGSTOP)
        second = victim.start(arguments, cache, logs[1])
        ended = [victim.finish(second, logs[1])]
        first.send_signal(signal.SIGCONT)
        ended.append(victim.finish(first, logs[0]))
        refused = [e for e in ended if e.status == 1 and "another process is training" in e.shown]
        good = [e for e in ended if e.status == 0]
        held += len(refused) + len(good) == 2 and victim.is_same(folder, expected) and bool(good)
        words.append(f"{'later' if is_late else 'at once'}: {len(refused)} refused")
    return Outcome("two processes, one folder", 2, held, "; ".join(words) + "; the other ends well")


def full_disk(work: Path, cache: Path, expected: Expected) -> Outcome:
    """The disk is full from the start, soon, or in the middle; space is freed and it goes on."""
    what, disk = "full disk, then freed", work / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        return Outcome(what, 0, 0, "skipped: this user may not mount a file system")
    held, words = 0, []
    try:
        for name, free in (("from the start", 0), ("at once", 30_000), ("later", None)):
            log, folder = work / "log", disk / "run"
            if free is not None:
                fill(disk / "filler", free)
            process = victim.start([*victim.LONG, "--out", folder, "--resume"], cache, log)
            if free is None:
                victim.wait_until(lambda f=folder: victim.num_checkpoints(f) > 5, process)
                fill(disk / "filler", 0)
            ended = victim.finish(process, log)
            refused = ended.status == 1 and ended.is_clear
            (disk / "filler").unlink()
            again = victim.command([*victim.LONG, "--out", folder, "--resume"], cache, log)
            same = again.status == 0 and victim.is_same(folder, expected)
            held += refused and same
            if not refused:
                words.append(f"{name}: {ended.shown[:300]}")
            elif not same:
                words.append(f"{name}, resumed: status {again.status}, {again.shown[:300]}")
            shutil.rmtree(folder)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
    return Outcome(what, 3, held, "; ".join(words) or "refused in words, then resumed bit for bit")


def fill(path: Path, free: int) -> None:
    """Writes a file that leaves `free` bytes on its disk."""
    with path.open("wb", buffering=0) as file:
        space = os.statvfs(path.parent)
        size = space.f_bavail * space.f_frsize - free
        try:
            while size > 0:
                size -= file.write(bytes(min(size, 4096)))
        except OSError:  # full: others write, too
            pass


def closed_folders(work: Path, cache: Path, finished: Path) -> Outcome:
    """Folders and files that this user may not write or read; root gives up its privilege first."""
    what, prefix = "folders that may not be written or read", []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return Outcome(what, 0, 0, "skipped: root may write anywhere, and there is no setpriv")
        prefix = [
            "setpriv",
            "--bounding-set",
            "-dac_override,-dac_read_search",
            "--inh-caps",
            "-all",
        ]
    closed, secret = (Path(shutil.copytree(finished, work / n)) for n in ("closed", "secret"))
    (secret / "config.json").chmod(0o000)
    closed.chmod(0o555)
    cases = {
        "new folder": ([*victim.SHORT, "--out", closed / "new"], "cannot be written"),
        "resumption": ([*victim.SHORT, "--out", closed, "--resume"], "cannot be written"),
        "report": (["report", closed], "this user may not read or write it"),
        "unreadable": (["report", secret], "this user may not read or write it"),
    }
    held, words = 0, []
    for name, (arguments, wanted) in cases.items():
        before = snapshot(closed)
        ended = victim.command(arguments, cache, work / "log", prefix=prefix)
        good = ended.status == 1 and ended.is_clear and wanted in ended.shown
        good &= snapshot(closed) == before
        held += good
        if not good:
            words.append(f"{name}: {ended.shown[-300:]}")
    closed.chmod(0o755)
    return Outcome(what, len(cases), held, "; ".join(words) or "refused in words, nothing touched")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
