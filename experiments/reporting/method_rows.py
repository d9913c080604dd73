"""Rows of a table of methods: the configuration chosen on validation data, its test errors.

A trained arm gives a row; a baseline gives three: as trained, stopped early (each seed at the
evaluation that is best on its own validation data) and fine-tuned on the clean set.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.reporting.rows import Row, choose, describe_choice
from experiments.training.result import Result

EARLY_STOPPING, FINE_TUNING = "early stopping", "fine-tuning"


def method_rows(method: str, result: Result, measure: str, *, is_baseline: bool) -> list[Row]:
    """The rows of one arm; errors are 100 (1 - measure) of the test set, one per seed."""
    seeds = result.configs[0].seeds
    trained = last_evaluation(result)
    h = choose(result, measure, trained)
    rows = [_row(result, measure, method, "", h, [trained] * seeds)]
    if is_baseline:
        scores = result.history[f"validation_{measure}"][h, :, : trained + 1]
        best = np.argmax(np.nan_to_num(scores), axis=1)
        rows.append(_row(result, measure, method, EARLY_STOPPING, h, best))
        h = choose(result, measure)
        rows.append(_row(result, measure, method, FINE_TUNING, h, [-1] * seeds))
    return rows


def last_evaluation(result: Result) -> int:
    """The evaluation at the end of training, before any fine-tuning."""
    config = result.configs[0]
    return config.num_evals - 1 if config.num_steps else -1


def _row(
    result: Result,
    measure: str,
    method: str,
    then: str,
    h: int,
    evaluations: Sequence[int] | np.ndarray,
) -> Row:
    config, history = result.configs[h], result.history
    values = history[f"test_{measure}"][h]
    errors = [100 * (1 - float(values[s, e])) for s, e in enumerate(evaluations)]
    aucs = history["corruption_auc"][h]
    auc = float(np.nanmean(aucs)) if np.any(np.isfinite(aucs)) else None
    is_fine_tuned = then == FINE_TUNING or not config.num_steps  # that alone, without training
    steps = config.num_steps + (config.fine_tune_steps if is_fine_tuned else 0)
    if not is_fine_tuned:
        config = replace(config, fine_tune_steps=0)
    return Row(
        method,
        tuple(errors),
        describe_choice(config),
        result.seconds_per_step * steps / (len(result.configs) * config.seeds),
        {"noise AUC": auc},
        then,
    )
