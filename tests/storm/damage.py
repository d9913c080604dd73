"""Truncated and bit-flipped files of every kind that the program reads.

After damage a command must give what it gives without, or refuse in words: never another number.
"""

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from experiments.reporting.ledger import Entry, write_ledger
from experiments.tools.cache import cached
from experiments.tools.files import write_arrays
from tests.storm import victim
from tests.storm.disasters import snapshot
from tests.storm.victim import Outcome
from theory_checks.__main__ import main as theory_checks
from theory_checks.catalogue import all_claims
from theory_checks.records import Check, Measured
from theory_checks.storage import write_record

Judge = Callable[[], str]  # says "same", "refused", or what is wrong
FLIPS = 4


def damaged(path: Path, rng: random.Random, flips: int = FLIPS) -> Iterator[bytes]:
    """The contents of a file with damage: nothing left, half of it left, single bits flipped."""
    content = path.read_bytes()
    yield b""
    yield content[: len(content) // 2]
    for _ in range(flips):
        changed = bytearray(content)
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        yield bytes(changed)


def damage_each(
    what: str,
    files: list[Path],
    judge: Judge,
    mend: Callable[[], None],
    rng: random.Random,
    flips: int = FLIPS,
) -> Outcome:
    """Damages one file after another, each in every way; `mend` undoes it."""
    counts, wrong = {"same": 0, "refused": 0}, []
    for path in files:
        for content in damaged(path, rng, flips):
            path.write_bytes(content)
            verdict = judge()
            if verdict in counts:
                counts[verdict] += 1
            else:
                wrong.append(f"{path.name}: {verdict}")
            mend()
    how = f"{len(files)} files: {counts['refused']} times refused, {counts['same']} times no effect"
    good = sum(counts.values())
    return Outcome(what, good + len(wrong), good, "; ".join([how, *wrong[:5]]))


def damage_runs(work: Path, finished: Path, rng: random.Random) -> list[Outcome]:
    """Files of a run: of a finished one that is shown, explained or resumed, of one to resume."""
    folder, partial = work / "damaged", work / "partial"
    expected = victim.results(finished)
    shown = victim.here(["report", finished]).shown.replace(str(finished), "F")
    suspects = victim.here(["explain", finished, "--out", work / "explained"])
    assert suspects.status == 0, suspects.shown
    wanted = snapshot(work / "explained")

    def renew(source: Path, target: Path) -> Callable[[], None]:
        def again() -> None:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)

        again()
        return again

    mend = renew(finished, folder)
    result_files = [folder / name for name in ("config.json", "result.npz", "metrics.jsonl")]

    def reports() -> str:
        ended = victim.here(["report", folder])
        return judged(ended, ended.shown.replace(str(folder), "F") == shown)

    def explains() -> str:
        shutil.rmtree(work / "explained", ignore_errors=True)
        ended = victim.here(["explain", folder, "--out", work / "explained"])
        return judged(ended, snapshot(work / "explained") == wanted)

    def resumes() -> str:
        ended = victim.here([*victim.SHORT, "--out", folder, "--resume"])
        arrays = {n: v for n, v in expected.items() if n != "metrics"}  # nobody reads those lines
        if ended.status != 0:
            return judged(ended, False)
        found = victim.results(folder)
        return judged(ended, all(found[n].tobytes() == v.tobytes() for n, v in arrays.items()))

    outcomes = [
        damage_each("report of a damaged run", result_files, reports, mend, rng),
        damage_each("explanation of a damaged run", result_files, explains, mend, rng),
        damage_each("resumption of a damaged, finished run", result_files, resumes, mend, rng),
    ]
    (folder / "result.npz").unlink()
    shutil.copytree(folder, partial)
    mend = renew(partial, folder)
    last = folder / "checkpoints" / str(victim.num_checkpoints(folder))
    files = sorted(path for path in last.rglob("*") if path.is_file())
    what = "resumption from a damaged checkpoint"
    outcomes.append(damage_each(what, files, resumes, mend, rng, flips=1))
    return outcomes


def damage_caches(work: Path, cache: Path, rng: random.Random) -> list[Outcome]:
    """Decoded datasets, difficulty files, and compiled programs."""
    path, arrays = work / "set.npz", {"inputs": np.arange(5000, dtype=np.uint8)}

    def reads() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = cached(path, ["inputs"], lambda: arrays)
        return "same" if np.array_equal(found["inputs"], arrays["inputs"]) else "other arrays"

    reads()
    kept = path.read_bytes()
    mend = lambda: path.write_bytes(kept)  # noqa: E731
    outcome = damage_each("cached dataset", [path] * 5, reads, mend, rng)
    return [outcome, compiled_programs(work, cache, rng)]


def compiled_programs(work: Path, cache: Path, rng: random.Random) -> Outcome:
    """All compiled programs at once are truncated, or get a flipped bit."""
    log, expected, held, words = work / "log", victim.results(work / "finished"), 0, []
    files = [p for p in (cache / "compiled").rglob("*-cache") if p.is_file()]
    kept = {path: path.read_bytes() for path in files}
    for i in range(3):
        for path in files:
            path.write_bytes([*damaged(path, rng)][i + 1])
        folder = work / f"compiled{i}"
        ended = victim.command([*victim.SHORT, "--out", folder], cache, log)
        good = ended.status == 0 and victim.is_same(folder, expected)
        held += good
        if not good:
            words.append(f"status {ended.status}: {ended.shown[-300:]}")
        for path, content in kept.items():
            path.write_bytes(content)
    how = f"all {len(files)} programs at once, compiled again"
    return Outcome("compiled programs", 3, held, "; ".join(words) or how)


def damage_records(work: Path, finished: Path, rng: random.Random) -> list[Outcome]:
    """Records of theory checks and of papers' results, and a file of difficulty."""
    theory, results = work / "theory", make_results(work)
    rows = (Measured("a number", 0.25, 1.0), Measured("another", 3.5))
    write_record(theory, Check(all_claims()[0], "a statement", "EXACT", rows), "smoke")
    assert victim.here(["--pages", theory], theory_checks).status == 0
    pages = snapshot(theory)
    written = victim.here(["report", "--results", results])
    assert written.status == 0, written.shown
    wanted = {name: text for name, text in snapshot(results).items() if name.endswith(".md")}

    def checks() -> str:
        ended = victim.here(["--pages", theory], theory_checks)
        found = snapshot(theory)
        same = all(found[n] == text for n, text in pages.items() if n.endswith(".md"))
        return judged(ended, same)

    def reports() -> str:
        ended = victim.here(["report", "--results", results])
        found = snapshot(results)
        return judged(ended, all(found[name] == text for name, text in wanted.items()))

    def restore(kept: dict[str, bytes]) -> Callable[[], None]:
        def again() -> None:
            for name, content in kept.items():
                Path(name).write_bytes(content)

        return again

    ledgers = sorted(results.glob("*/ledger.json"))
    outcomes = [
        damage_each(
            "records of theory checks", sorted(theory.glob("*.json")), checks, restore(pages), rng
        ),
        damage_each("records of papers", ledgers, reports, restore(snapshot(results)), rng),
    ]
    return [*outcomes, damage_difficulty(work, finished, rng)]


def damage_difficulty(work: Path, finished: Path, rng: random.Random) -> Outcome:
    """The file of `explain --difficulty`."""
    path, out = work / "difficulty.npz", work / "compared"
    arrays = victim.results(finished)
    index, label = arrays["train_indices"][0], arrays["train_labels"][0]
    noise = np.random.default_rng(0).random(len(index)).astype(np.float32)
    write_arrays(path, {"index": index, "label": label, "K-fold error": noise})
    kept = path.read_bytes()
    arguments = ["explain", finished, "--out", out, "--difficulty", path]
    shown = victim.here(arguments)
    assert shown.status == 0, shown.shown
    wanted = snapshot(out)

    def explains() -> str:
        shutil.rmtree(out, ignore_errors=True)
        ended = victim.here(arguments)
        return judged(ended, ended.status == 0 and snapshot(out) == wanted)

    return damage_each("file of difficulty", [path], explains, lambda: path.write_bytes(kept), rng)


def make_results(work: Path) -> Path:
    """A small folder of results with the ledger of a paper's experiment."""
    results = work / "results"
    folder = results / "ren2018.figure4-smoke"
    folder.mkdir(parents=True)
    entry = Entry("Figure 4", "a number", "1.5", "1.4 ± 0.2", 5, "reproduced")
    (folder / "table.txt").write_text("a table\n")
    write_ledger(
        folder, [entry], {}, experiment="ren2018.figure4", preset="smoke", what="small", arms={}
    )
    return results


def judged(ended: victim.Ended, is_same: bool) -> str:
    """What a command did with a damaged file."""
    if not ended.is_clear:
        return ended.shown[-300:]
    if ended.status != 0:
        return "refused"
    return "same" if is_same else "other numbers, and no word"
