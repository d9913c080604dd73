"""Table 1: 40 % of the labels flipped to any other class, on CIFAR; and Figure 6's upper half.

Wide ResNet-28-10 with dropout 0.3, 60K steps, 1,000 clean images. MENTORNET, whose numbers the
paper takes over from Jiang et al. (2018), is trained here as well: its curriculum keeps 60 %.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.ren2018.claims import (
    LARGE_STEPS,
    Column,
    about,
    entries_of_tables,
    is_best,
    not_run,
)
from experiments.ren2018.noise import Benchmark, Setting, arms_of, rows_of, with_drops
from experiments.ren2018.noise_plots import save_confusion
from experiments.ren2018.settings import cpu_base, cpu_setting, paper_base, smoke_setting
from experiments.ren2018.table_page import present_tables
from experiments.reporting.claims import Claim
from experiments.reporting.experiment import Arms, Experiment
from experiments.reporting.ledger import Printed
from experiments.training.result import Result

COLUMNS: dict[str, Column] = {
    "CIFAR-10": {
        "BASELINE": Printed(67.97, 0.62),
        "REED-HARD": Printed(69.66, 1.21),
        "S-MODEL": Printed(70.64, 3.09),
        "MENTORNET": Printed(76.6),
        "RANDOM": Printed(86.06, 0.32),
        "CLEAN ONLY": Printed(46.64, 3.90),
        "BASELINE +FT": Printed(78.66, 0.44),
        "MENTORNET +FT": Printed(78.0),
        "RANDOM +FT": Printed(86.55, 0.24),
        "OURS": Printed(86.92, 0.19),
    },
    "CIFAR-100": {
        "BASELINE": Printed(50.66, 0.24),
        "REED-HARD": Printed(51.34, 0.17),
        "S-MODEL": Printed(49.10, 0.58),
        "MENTORNET": Printed(56.9),
        "RANDOM": Printed(58.01, 0.37),
        "CLEAN ONLY": Printed(9.94, 0.82),
        "BASELINE +FT": Printed(54.52, 0.40),
        "MENTORNET +FT": Printed(59.0),
        "RANDOM +FT": Printed(58.54, 0.52),
        "OURS": Printed(61.34, 2.06),
    },
}
ROWS = tuple(COLUMNS["CIFAR-10"])
METHODS = (
    "baseline",
    "ours",
    "baseline_ft",
    "random",
    "reed_hard",
    "s_model",
    "clean_only",
    "mentornet",
)
_SMOKE = ("baseline", "ours", "baseline_ft", "clean_only")
_HISTORICAL = ("BASELINE", "REED-HARD", "S-MODEL", "MENTORNET")
ITEMS = {
    "Table 1": "CIFAR with 40 % of the labels flipped uniformly, 1,000 clean images",
    "Figure 6": "confusion matrices under uniform flips",
}


def benchmark(preset: str) -> Benchmark:
    """Table 1 as the preset makes it."""
    methods, drops = METHODS, (2 / 3, 5 / 6)
    if preset == "paper":
        bases = {d: paper_base(d, "wrn28_10", 1000) for d in ("cifar10", "cifar100")}
        settings = {
            dataset: Setting(with_drops(base, 60_000, *drops), 5000, 2000, 5)
            for dataset, base in bases.items()
        }
    elif preset == "cpu":
        bases = {"cifar10": cpu_base("cifar10", 200), "mnist": cpu_base("mnist", 100)}
        settings = {dataset: cpu_setting(base, *drops) for dataset, base in bases.items()}
    else:
        settings = {"digits": smoke_setting()}
        methods = _SMOKE
    rows = rows_of(methods, ROWS)
    return Benchmark("Table 1", "uniform:0.4", {}, methods, rows, settings)


def claims(label: str, rows: Sequence[str]) -> list[Claim]:
    """What the paper says of Table 1 and of Figure 6, of a data set and the rows at hand."""
    found = [is_best("OURS", rows, label, "Table 1, Sec. 4.3")]
    older = tuple(row for row in _HISTORICAL if row in rows)
    text = f"{label}: RANDOM above the historical methods (baseline, Reed, S-model, MentorNet)"
    best = is_best("RANDOM", ("RANDOM", *older), label, "Table 1, Sec. 4.3")
    found.append(best._replace(text=text))
    if label == "CIFAR-100":  # Figure 6 is about CIFAR-10
        return found
    text = f"{label}, uniform flips: OURS makes at most half of the baseline's errors"
    needs = ("BASELINE", "OURS")
    found.append(about(text, "Fig. 6", needs, lambda base, ours: 100 - ours <= (100 - base) / 2))
    return found


def _show(folder: Path, dataset: str, results: Mapping[str, Result]) -> dict[str, np.ndarray]:
    save_confusion(folder, dataset, results, "40 % uniform flips")
    return {}


def _present(folder: Path, preset: str) -> str:
    return present_tables(folder, preset, benchmark(preset), COLUMNS, claims, _show)


def _arms(preset: str) -> Arms:
    return arms_of(benchmark(preset))


_COMMAND = "a GPU: python -m experiments run ren2018.table1 --preset paper"
_CLAIMS = [claim for label in COLUMNS for claim in claims(label, ROWS)]

_CAUSES = {
    "OURS": f"perhaps, as in Table 2: {LARGE_STEPS}",
    "": "perhaps: after so few steps few wrong labels are fitted, which the paper's 60,000 do",
}

EXPERIMENT = Experiment(
    name="ren2018.table1",
    summary="Table 1, Figure 6: 40 % of the labels flipped uniformly",
    presets={
        "smoke": "digits, an MLP, four methods, 240 steps, 2 seeds; some seconds",
        "cpu": "CIFAR-10 (10,000 images, 200 clean, 1,800 steps) and MNIST (5,000, 100 clean, "
        "1,500 steps), LeNet-5, no augmentation, lr 0.03, 500 steps of fine-tuning, 3 seeds; "
        "about half an hour on 2 cores",
        "paper": "CIFAR-10 and -100, WRN-28-10, 60,000 steps, 5 seeds; a GPU, some days",
    },
    arms=_arms,
    present=_present,
    items=ITEMS,
    printed=not_run("Table 1", COLUMNS, _CLAIMS, ITEMS, _COMMAND),
    entries=entries_of_tables("Table 1", COLUMNS, ITEMS),
    causes=_CAUSES,
)
