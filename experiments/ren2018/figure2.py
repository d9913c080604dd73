"""Figure 2: test error on MNIST 4 against 9 under class imbalance, with ten clean images.

The paper (Sec. 4.1): 5,000 images in which 9 dominates, a balanced clean set of 10 taken out of
them, LeNet, SGD with learning rate 1e-3, batches of 100, 8,000 steps, 10 runs. Network, momentum
0.9 and initialization are the released code's (the paper does not give them); its 500 test images
are replaced by all test images of the two digits. Nothing is tuned: every method shares them all.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments import plotting
from experiments.config import RunConfig
from experiments.data import TaskConfig
from experiments.experiment import Arms, Experiment
from experiments.files import write_json
from experiments.result import is_finished, load_result
from experiments.results import Row, format_table, rows_as_json

METHODS = {
    "lookahead": {"weighting": "lookahead"},
    "uniform (ERM)": {"weighting": "uniform"},
    "proportion": {"weighting": "proportion"},
    "random": {"weighting": "random"},
    "hard mining": {"weighting": "hard_mining"},
    "resample": {"sampler": "class_balanced"},
}

_PAPER = RunConfig(
    task=TaskConfig(dataset="mnist", imbalance="4v9:0.995", num_clean=10, num_validation=300),
    model="ren2018_net",
    loss="logistic",
    learning_rate=1e-3,
    batch_size=100,
    clean_batch_size=10,
    num_steps=8000,
    num_evals=20,
    seeds=10,
)
_SHARES = {"9:1": 0.9, "19:1": 0.95, "49:1": 0.98, "99:1": 0.99, "199:1": 0.995}


def _arms(preset: str) -> Arms:
    if preset == "paper":
        base, ratios = _PAPER, list(_SHARES)
    elif preset == "cpu":
        base, ratios = replace(_PAPER, num_steps=2000, num_evals=10, seeds=3), list(_SHARES)
    else:
        task = TaskConfig("digits", imbalance="4v9:0.9", num_train=100, num_clean=10)
        task = replace(task, num_validation=20, num_test=600)
        base = replace(_PAPER, task=task, model="mlp", learning_rate=0.01, num_steps=200)
        base, ratios = replace(base, num_evals=4, batch_size=50, seeds=2), ["9:1"]
    return {
        _folder(ratio, method): [
            replace(base, task=replace(base.task, imbalance=f"4v9:{_SHARES[ratio]}"), **changes)
        ]
        for ratio in reversed(ratios)  # the hardest first
        for method, changes in METHODS.items()
    }


def _folder(ratio: str, method: str) -> str:
    return f"{method.split(' (')[0].replace(' ', '_')}_{ratio.replace(':', 'to')}"


def _present(folder: Path, preset: str) -> str:
    ratios = [r for r in _SHARES if is_finished(folder / _folder(r, "lookahead"))]
    tables, summary = [], {}
    for ratio in ratios:
        folders = {m: folder / _folder(ratio, m) for m in METHODS}
        runs = {m: (load_result(f), 0) for m, f in folders.items() if is_finished(f)}
        rows = []
        for method, (result, h) in runs.items():
            config = result.configs[h]
            errors = 100 * (1 - result.history["test_accuracy"][h, :, -1])
            balanced = 100 * (1 - result.history["test_balanced_accuracy"][h, :, -1])
            rows.append(
                Row(
                    method,
                    tuple(map(float, errors)),
                    f"{config.num_steps} steps, lr {config.learning_rate:g}",
                    None,
                    {"balanced error %": float(np.mean(balanced))},
                )
            )
        rows.sort(key=lambda row: row.mean)
        tables.append(format_table(f"Test error, majority to minority {ratio}", "error %", rows))
        summary[ratio] = rows_as_json(rows)
        title = f"4 against 9 at {ratio}, ten clean images"
        name = ratio.replace(":", "to")
        plotting.save(plotting.test_error_curves(runs, title=title), folder / f"curves_{name}.png")
        groups = {row.method: row.values for row in rows}
        plotting.save(
            plotting.error_bars(groups, title=title, label="test error (%)"),
            folder / f"errors_{name}.png",
        )
    write_json(folder / "summary.json", {"preset": preset, "rows": summary})
    return "\n\n".join(tables)


EXPERIMENT = Experiment(
    name="ren2018.figure2",
    summary="test error on MNIST 4 against 9 under class imbalance, with ten clean images",
    presets={
        "smoke": "scikit-learn digits, 9:1, a small network, 2 seeds; half a minute",
        "cpu": "MNIST at five ratios, 2,000 steps (a quarter of them), 3 seeds; three hours",
        "paper": "MNIST at five ratios, 8,000 steps, 10 seeds; a GPU",
    },
    arms=_arms,
    present=_present,
)
