"""The methods of the paper's comparisons, with equal budgets: four settings each, but Normal.

Normal has the paper's one learning rate; `normal_tuned` is an ablation of ours, Normal with four
other rates, as many as LOW has lambdas.

The paper gives no settings of focal loss (FL), self-paced learning (SPL) and importance sampling
(IS). Here FL has four exponents; SPL starts from the median loss of the first epoch and has four
growths of its threshold; IS draws a batch from a presample three times as large, by logit
gradients, and has four thresholds from which on it does so (with the gate shut it learns from the
whole presample, which favours it). The paper's best LOW is one of lambda = 1, 0.5, 0.1, 0.01; the
settings here are those of its Figure 4.

The released code differentiates the batch mean, so that its lambda acts as lambda B^2 in the
paper's units: `low_batch_mean` has three values that act as about 0.01, 0.1 and 1 at B = 256, and
the code's default, 0.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from experiments.reporting.experiment import Arms
from experiments.training.config import RunConfig

LAMBDAS = (1.0, 0.1, 0.01, 0.001)  # of Figure 4
PAPER_LAMBDAS = (1.0, 0.5, 0.1, 0.01)  # of which the tables report the best
GAMMAS = (0.5, 1.0, 2.0, 5.0)
_BATCH_MEAN_LAMBDAS = (1e-5, 1e-6, 1e-7, 0.1)
_GROWTHS = (1.05, 1.1, 1.3, 2.0)
_THRESHOLDS = (-1.0, 1.2, 1.5, 2.0)
_QUANTILES = (0.6, 0.7, 0.8, 0.9)
_PRESAMPLE = 3  # batches
_RATE_FACTORS = (0.5, 2.0, 5.0, 10.0)


class ComparedMethod(NamedTuple):
    """A method of the comparisons."""

    label: str  # the paper's name of it
    settings: Callable[[RunConfig], list[RunConfig]]  # changes of a configuration


def _low(lambdas: Sequence[float]) -> ComparedMethod:
    return _weighted("LOW", "low", lambdas)


def _weighted(label: str, scheme: str, values: Sequence[float]) -> ComparedMethod:
    """A weighting scheme with each of the values."""
    return ComparedMethod(
        label, lambda base: [replace(base, weighting=f"{scheme}:{v:g}") for v in values]
    )


def _importance_sampling(base: RunConfig) -> list[RunConfig]:
    size = base.batch_size
    base = replace(base, batch_size=_PRESAMPLE * size)
    return [replace(base, weighting=f"importance_sampling:{size}:{v:g}") for v in _THRESHOLDS]


COMPARED_METHODS = {
    "normal": ComparedMethod("Normal", lambda base: [base]),
    "normal_tuned": ComparedMethod(
        "Normal, rate tuned",
        lambda base: [replace(base, learning_rate=base.learning_rate * f) for f in _RATE_FACTORS],
    ),
    "low": _low(LAMBDAS),
    "focal": ComparedMethod(
        "FL", lambda base: [replace(base, loss=f"focal:{gamma:g}") for gamma in GAMMAS]
    ),
    "self_paced": _weighted("SPL", "paced_self_paced", _GROWTHS),
    "importance_sampling": ComparedMethod("IS", _importance_sampling),
    "mentornet": _weighted("MentorNet", "mentornet", _QUANTILES),
    "low_batch_mean": ComparedMethod(
        "LOW, batch mean",
        lambda base: [
            replace(base, weighting=f"low:{v:g}:gradient_scale=batch_mean")
            for v in _BATCH_MEAN_LAMBDAS
        ],
    ),
}
ON_MNIST = (
    "normal",
    "low",
    "normal_tuned",
    "focal",
    "self_paced",
    "importance_sampling",
    "low_batch_mean",
)
RIVALS = ("focal", "self_paced", "importance_sampling")  # of LOW, besides Normal


def method_arms(base: RunConfig, names: Sequence[str], lambdas: Sequence[float] = LAMBDAS) -> Arms:
    """Every method's settings as changes of the base, by the method's name."""
    methods = COMPARED_METHODS | {"low": _low(lambdas)}
    return {name: methods[name].settings(base) for name in names}
